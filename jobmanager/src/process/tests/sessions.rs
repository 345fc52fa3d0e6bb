//! Task managers: how they come, what they are told, how they are lost.

use super::*;
use millstream_proto::message::{HostRun, LogStream};

#[test]
fn a_task_manager_that_comes_gives_its_slots_to_who_waits() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    let job = JobId(1);
    master.link.request_slots(2, Vec::new());
    let n_missing = master.hears(|input| match input {
        JobInput::Missing(n) => Some(n),
        _ => None,
    });
    assert_eq!(n_missing, 2);

    let session = cluster.attach(5, 2, &[]);
    let id = session.id;
    assert_eq!(session.epoch, LeaderEpoch(1));
    let heard = master.hears_until(|input| matches!(input, JobInput::Granted(_)));
    assert!(
        matches!(&heard[0], JobInput::TaskManagerJoined { id: joined, host: None } if *joined == id),
        "{heard:?}"
    );
    assert!(matches!(&heard[1], JobInput::Granted(slots) if *slots == [id, id]), "{heard:?}");

    master.start_host(id);
    session.hears(|epoch, message| match message {
        ToTaskManager::StartHost(host) => {
            assert_eq!(host.start.job, job);
            assert_eq!(epoch, LeaderEpoch(1));
            Some(())
        }
        _ => None,
    });
    session.says_from_host(1, job, report(0));
    assert_eq!(master.hears(|input| reported(&input)), 0);
    session.hears_confirm(1);
    let (run, error) = (HostRun(1), Error::external("killed"));
    session.say(&FromTaskManager::HostEnded { number: 2, job, run, error });
    let error = master.hears(|input| match input {
        JobInput::HostEnded { id: of, error, .. } if of == id => Some(error.to_string()),
        _ => None,
    });
    assert_eq!(error, "killed");
    session.hears_confirm(2);
}

#[test]
fn a_session_that_breaks_is_a_task_manager_lost_at_once() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    let session = cluster.attach(5, 2, &[]);
    let id = session.id;
    session.cut();
    let error = master.hears(|input| match input {
        JobInput::TaskManagerLost { id: lost, error } if lost == id => Some(error.to_string()),
        _ => None,
    });
    assert!(error.contains("connection"), "{error}");
    // Its slots went with it.
    master.link.request_slots(1, Vec::new());
    master.hears(|input| matches!(input, JobInput::Missing(1)).then_some(()));
}

#[test]
fn who_says_nothing_is_lost_and_told_so() {
    let cluster = Cluster::with(|config| {
        (config.heartbeat_ms, config.timeout_ms) = (20, 400);
    });
    let master = cluster.run(1);
    let silent = cluster.attach(5, 1, &[]);
    silent.hears(|_, message| matches!(message, ToTaskManager::Heartbeat).then_some(()));
    let error = master.hears(|input| match input {
        JobInput::TaskManagerLost { id, error } if id == silent.id => Some(error.to_string()),
        _ => None,
    });
    assert!(error.contains("said nothing for 400 ms"), "{error}");
    assert!(silent.ends().message().contains("said nothing"));
}

#[test]
fn with_a_grace_a_task_manager_may_come_back_and_nothing_is_heard_twice() {
    let cluster = Cluster::with(|config| config.reconnect_grace_ms = 60_000);
    let master = cluster.run(1);
    let job = JobId(1);
    let first = cluster.attach(5, 1, &[]);
    for number in 1..=3 {
        first.says_from_host(number, job, report(number as u32));
    }
    master.hears_until(|input| reported(input) == Some(3));
    first.cut();

    let second = cluster.attach(5, 1, &[job]);
    // The confirmation did not come through: said again, with the same numbers.
    for number in 2..=4 {
        second.says_from_host(number, job, report(number as u32));
    }
    let heard = master.hears_until(|input| reported(input) == Some(4));
    let numbers: Vec<u32> = heard.iter().filter_map(reported).collect();
    assert_eq!(numbers, [4], "{heard:?}");
    let lost = heard.iter().any(|input| matches!(input, JobInput::TaskManagerLost { .. }));
    let joined = heard.iter().any(
        |input| matches!(input, JobInput::TaskManagerJoined { host: Some(_), id } if *id == second.id),
    );
    assert!(joined && !lost, "{heard:?}");
    second.hears_confirm(4);
}

#[test]
fn a_newer_session_replaces_the_older() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    let first = cluster.attach(5, 1, &[]);
    let second = cluster.attach(5, 1, &[]);
    let status = first.ends();
    assert!(status.message().contains("another session"), "{status:?}");
    second.says_from_host(1, JobId(1), report(1));
    let heard = master.hears_until(|input| reported(input) == Some(1));
    assert!(
        !heard.iter().any(|input| matches!(input, JobInput::TaskManagerLost { .. })),
        "{heard:?}"
    );
}

#[test]
fn what_is_meant_for_another_leader_is_refused() {
    let cluster = Cluster::start();
    let session = cluster.attach(5, 1, &[]);
    session.say_in(LeaderEpoch(0), &FromTaskManager::Heartbeat);
    let status = session.ends();
    assert!(status.message().contains("leader of epoch 0 is refused"), "{status:?}");

    let session = cluster.attach(6, 1, &[]);
    session.say_in(LeaderEpoch(9), &FromTaskManager::Heartbeat);
    let status = session.ends();
    assert!(status.message().contains("epoch 9, newer than this one"), "{status:?}");

    let status = cluster.knock(LeaderEpoch(9), 7, 1, &[]).ends();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("has heard a leader of epoch 9"), "{status:?}");

    let request = ClientRequest::Cluster;
    let status = cluster.try_call(LeaderEpoch(9), &request).unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
}

#[test]
fn hosts_of_jobs_that_do_not_run_are_stopped() {
    let cluster = Cluster::start();
    let stray = |expected: u128| {
        move |_, message| match message {
            ToTaskManager::StopHost { job } => {
                assert_eq!(job, JobId(expected));
                Some(())
            }
            _ => None,
        }
    };
    let session = cluster.attach(5, 1, &[JobId(77)]);
    session.hears(stray(77));
    session.says_from_host(1, JobId(78), report(0));
    session.hears(stray(78));
    session.hears_confirm(1);
}

#[test]
fn results_are_confirmed_when_the_end_of_the_job_is_stored() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    let session = cluster.attach(5, 1, &[]);
    session.says_from_host(1, JobId(1), report(1));
    session.says_from_host(2, JobId(1), FromHost::Results(Ok(Vec::new())));
    master.hears(|input| {
        matches!(input, JobInput::FromHost { message: FromHost::Results(_), .. }).then_some(())
    });
    session.hears_confirm(1);
    // So many heartbeats later nothing else was confirmed.
    for _ in 0..3 {
        session.hears(|_, message| match message {
            ToTaskManager::Confirm { number } => panic!("{number} was confirmed too early"),
            other => matches!(other, ToTaskManager::Heartbeat).then_some(()),
        });
    }
    master.link.ended(samples::outcome(JobId(1)));
    session.hears_confirm(2);
}

#[test]
fn what_a_program_has_printed_is_fetched_from_where_it_ran() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    let job = JobId(1);
    let request = |task_manager| ClientRequest::Log {
        job,
        task_manager,
        stream: LogStream::Err,
        from: Some(3),
        limit: 10,
    };
    let refuses = |request: &ClientRequest| match cluster.call(request) {
        ClientReply::Refused(error) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let refused = &refuses;
    assert!(refused(&request(None)).contains("no host of it ran yet"));

    let session = cluster.attach(5, 1, &[]);
    master.link.request_slots(1, Vec::new());
    master.granted();
    master.start_host(session.id);
    session.hears(|_, message| matches!(message, ToTaskManager::StartHost(_)).then_some(()));
    let piece = std::thread::scope(|scope| {
        let asked = scope.spawn(|| cluster.call(&request(None)));
        let number = session.hears(|_, message| match message {
            ToTaskManager::ReadLog { request, job: JobId(1), from: Some(3), limit: 10, .. } => {
                Some(request)
            }
            _ => None,
        });
        let bytes = Ok(b"hello".to_vec());
        session.say(&FromTaskManager::Log { request: number, from: 3, total: 8, bytes });
        asked.join().unwrap()
    });
    match piece {
        ClientReply::Log { task_manager, from: 3, total: 8, bytes } => {
            assert_eq!((task_manager, &bytes[..]), (session.id, &b"hello"[..]));
        }
        other => panic!("{other:?}"),
    }

    assert!(refused(&request(Some(TaskManagerId(9)))).contains("no host of the job"));
    let other = cluster.attach(6, 1, &[job]);
    master.hears(|input| {
        matches!(input, JobInput::TaskManagerJoined { id, .. } if id == other.id).then_some(())
    });
    let error = refused(&request(None));
    assert!(error.contains(&other.id.to_string()), "{error}");

    // A task manager that is lost in between is an answer, too.
    let error = std::thread::scope(|scope| {
        let wanted = request(Some(other.id));
        let asked = scope.spawn(move || refused(&wanted));
        other.hears(|_, message| matches!(message, ToTaskManager::ReadLog { .. }).then_some(()));
        other.cut();
        asked.join().unwrap()
    });
    assert!(error.contains("connection"), "{error}");
}

#[test]
fn a_program_is_fetched_as_it_was_uploaded() {
    use millstream_proto::wire::ProgramRef;
    let cluster = Cluster::start();
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let id = cluster.upload(&content);
    let mut client = TaskManagersClient::new(cluster.channel());
    let fetched = cluster.runtime.block_on(async {
        let program = ProgramRef { id: id.0.to_vec() };
        let mut pieces = client.fetch_program(program).await.unwrap().into_inner();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            assert_eq!(piece.total_bytes, 3_000_000);
            bytes.extend(piece.data);
        }
        bytes
    });
    assert!(fetched == content);
    let fetch = |id: Vec<u8>| {
        let mut client = client.clone();
        cluster.runtime.block_on(async move { client.fetch_program(ProgramRef { id }).await })
    };
    let status = fetch(vec![1; 32]).unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    let status = fetch(b"../../../../etc/passwd".to_vec()).unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}
