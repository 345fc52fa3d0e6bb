//! A job manager that ends and comes back in the same folder.

use super::*;
use crate::job::link::{AttemptRecord, RunningAttempt};
use millstream_proto::message::{ExceptionRow, HostRun, JobDetail, JobPhase, VertexRow};

fn attempt(on: TaskManagerId) -> AttemptRecord {
    let running = RunningAttempt { attempt: 4, hosts: vec![on], placement: vec![0, 0] };
    AttemptRecord { attempt: 4, slots: vec![on, on], running: vec![running] }
}

fn is_told_to_abandon(master: Master) {
    master.hears(|input| matches!(input, JobInput::Abandon).then_some(()));
}

#[test]
fn jobs_are_left_alone_and_taken_over_with_their_slots() {
    let mut cluster = Cluster::start();
    let master = cluster.run(1);
    let session = cluster.attach(5, 2, &[]);
    let id = session.id;
    master.link.request_slots(2, Vec::new());
    assert_eq!(master.granted(), [id, id]);
    master.link.record(&attempt(id)).unwrap();
    master.start_host(id);
    session.hears(|_, message| matches!(message, ToTaskManager::StartHost(_)).then_some(()));
    let leaving = std::thread::spawn(move || is_told_to_abandon(master));
    cluster.stop();
    leaving.join().unwrap();
    // Nobody is told to stop anything.
    let mut heard = Vec::new();
    while let Ok(Ok((_, message))) = session.heard.recv_timeout(DEADLINE) {
        heard.push(message);
    }
    assert!(!heard.iter().any(|m| matches!(m, ToTaskManager::StopHost { .. })), "{heard:?}");

    cluster.start_again();
    let master = cluster.next_master();
    assert_eq!((master.spec.id, master.spec.epoch), (JobId(1), LeaderEpoch(2)));
    assert_eq!(master.spec.attempt, Some(attempt(id)));
    // A job that comes later is not given what the other has.
    let later = cluster.run(2);
    later.link.request_slots(1, Vec::new());
    let session = cluster.attach(5, 2, &[JobId(1)]);
    assert_eq!(session.epoch, LeaderEpoch(2));
    master.hears(|input| match input {
        JobInput::TaskManagerJoined { id: joined, host } => {
            assert_eq!((joined, host), (id, Some(HostRun(1))));
            Some(())
        }
        _ => None,
    });
    master.link.request_slots(2, Vec::new());
    assert_eq!(master.granted(), [id, id]);
    later.hears(|input| matches!(input, JobInput::Missing(1)).then_some(()));
    // What was not confirmed before has its old number.
    session.says_from_host(9, JobId(1), report(4));
    assert_eq!(master.hears(|input| reported(&input)), 4);
    session.hears_confirm(9);
}

#[test]
fn a_task_manager_that_does_not_come_back_is_lost() {
    let mut cluster = Cluster::with(|config| config.reattach_timeout_ms = 100);
    let master = cluster.run(1);
    let gone = TaskManagerId(5);
    master.link.record(&attempt(gone)).unwrap();
    drop(master.inbox.clone());
    let leaving = std::thread::spawn(move || is_told_to_abandon(master));
    cluster.stop();
    leaving.join().unwrap();
    cluster.start_again();
    let error = cluster.next_master().hears(|input| match input {
        JobInput::TaskManagerLost { id, error } if id == gone => Some(error.to_string()),
        _ => None,
    });
    assert!(error.contains("has not come back within 100 ms"), "{error}");
}

#[test]
fn a_job_that_is_to_end_is_told_so_by_the_next_leader_too() {
    let mut cluster = Cluster::start();
    let (master, other) = (cluster.run(1), cluster.run(2));
    assert!(matches!(cluster.call(&ClientRequest::Cancel(JobId(1))), ClientReply::Yes));
    let leaving = std::thread::spawn(move || {
        is_told_to_abandon(master);
        is_told_to_abandon(other);
    });
    cluster.stop();
    leaving.join().unwrap();
    cluster.start_again();
    let masters = [cluster.next_master(), cluster.next_master()];
    let [cancelled, other] =
        [1, 2].map(|id| masters.iter().find(|m| m.spec.id == JobId(id)).unwrap());
    cancelled.hears(|input| matches!(input, JobInput::Cancel).then_some(()));
    cluster.attach(5, 2, &[]);
    other.hears(|input| match input {
        JobInput::Cancel => panic!("nobody wants it to end"),
        input => matches!(input, JobInput::TaskManagerJoined { .. }).then_some(()),
    });
}

#[test]
fn what_has_ended_stays_so() {
    let mut cluster = Cluster::start();
    let master = cluster.run(1);
    let failure = ExceptionRow {
        time_ms: 7,
        message: "it was hurt".into(),
        domain: "user".into(),
        operator: None,
        subtask: None,
        attempt: 0,
        task_manager: None,
    };
    let exceptions = vec![failure];
    let subtasks = vec![(JobPhase::Running, None); 2];
    let vertices = vec![VertexRow { index: 0, name: "all".into(), parallelism: 2, subtasks }];
    let before =
        JobDetail { exceptions, vertices, ..super::clients::detail(JobId(1), JobPhase::Running) };
    master.link.leave(before.clone());
    master.link.ended(samples::outcome(JobId(1)));
    let end = ClientRequest::Await { job: JobId(1), timeout_ms: 60_000 };
    assert!(matches!(cluster.call(&end), ClientReply::Ended(_)));
    drop(master);
    cluster.stop();
    cluster.start_again();
    match cluster.call(&end) {
        ClientReply::Ended(outcome) => assert_eq!(outcome.overview.state, JobPhase::Finished),
        other => panic!("{other:?}"),
    }
    match cluster.call(&ClientRequest::Job(JobId(1))) {
        ClientReply::Job(job) => {
            assert_eq!(job.overview.state, JobPhase::Finished);
            assert_eq!(job.vertices[0].subtasks, [(JobPhase::Finished, None); 2]);
            assert_eq!((job.exceptions, job.checkpoints), (before.exceptions, before.checkpoints));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(cluster.submit(1), ClientReply::Submitted(JobId(1))));
    assert!(!cluster.has_more_masters());
}

#[test]
fn an_end_that_comes_while_the_job_manager_leaves_is_kept() {
    let mut cluster = Cluster::start();
    let master = cluster.run(1);
    let leaving = std::thread::spawn(move || {
        master.hears(|input| matches!(input, JobInput::Abandon).then_some(()));
        master.link.ended(samples::outcome(JobId(1)));
    });
    cluster.stop();
    leaving.join().unwrap();
    cluster.start_again();
    let end = ClientRequest::Await { job: JobId(1), timeout_ms: 0 };
    assert!(matches!(cluster.call(&end), ClientReply::Ended(_)));
    assert!(!cluster.has_more_masters());
}

#[test]
fn a_signal_ends_the_process_and_leaves_its_jobs_alone() {
    let mut cluster = Cluster::start();
    let master = cluster.run(1);
    let leaving = std::thread::spawn(move || is_told_to_abandon(master));
    cluster.stop();
    leaving.join().unwrap();
    // Where it is started again by its command, it finds the job, and can be signalled from then on.
    let (config, start) = (cluster.config.clone(), cluster.start.clone());
    let running = std::thread::spawn(move || super::super::run(config, start));
    let master = cluster.next_master();
    assert_eq!(master.spec.epoch, LeaderEpoch(2));
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    is_told_to_abandon(master);
    running.join().unwrap().unwrap();
}
