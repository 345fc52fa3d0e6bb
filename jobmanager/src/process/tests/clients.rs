//! Clients: what they submit, ask and wait for.

use super::*;
use crate::job::link::Reply;
use millstream_model::SnapshotKind;
use millstream_proto::message::{Drain, JobDetail, JobPhase, Outcome};
use std::path::PathBuf;

fn refused(reply: ClientReply) -> String {
    match reply {
        ClientReply::Refused(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn await_end(job: u128, timeout_ms: u64) -> ClientRequest {
    ClientRequest::Await { job: JobId(job), timeout_ms }
}

fn ended(reply: ClientReply) -> Outcome {
    match reply {
        ClientReply::Ended(outcome) => *outcome,
        other => panic!("{other:?}"),
    }
}

/// How a master would describe its job.
pub(crate) fn detail(job: JobId, state: JobPhase) -> JobDetail {
    let overview = samples::overview(job, state);
    JobDetail {
        overview,
        graph: samples::graph(),
        vertices: Vec::new(),
        checkpoints: Vec::new(),
        exceptions: Vec::new(),
        metrics: Vec::new(),
    }
}

/// Answers whoever asks how the job is, until the cluster is gone.
pub(crate) fn describe_always(master: Master, detail: JobDetail) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let Master { inbox, link, .. } = master;
        for input in inbox {
            match input {
                JobInput::Detail(reply) => reply.answer(detail.clone()),
                JobInput::Abandon => break,
                _ => {}
            }
        }
        drop(link);
    })
}

#[test]
fn a_job_that_is_submitted_twice_is_one_job() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    assert_eq!(master.spec.id, JobId(1));
    assert_eq!(master.spec.submission.start.job, JobId(1));
    assert_eq!(master.spec.epoch, LeaderEpoch(1));
    assert!(master.spec.attempt.is_none());
    let again = cluster.submit(1);
    assert!(matches!(again, ClientReply::Submitted(JobId(1))), "{again:?}");
    let other = samples::submission(1, cluster.upload(b"another"), 7);
    let error = refused(cluster.call(&ClientRequest::Submit(Box::new(other))));
    assert!(error.contains("used for another job"), "{error}");
    assert!(!cluster.has_more_masters());

    let submission = cluster.call(&ClientRequest::Submission(JobId(1)));
    assert!(
        matches!(&submission, ClientReply::Submission(s) if **s == master.spec.submission),
        "{submission:?}"
    );
}

#[test]
fn a_program_has_to_be_there_and_be_itself() {
    let cluster = Cluster::start();
    let id = ProgramId(Sha256::digest(PROGRAM).into());
    let has = || cluster.call(&ClientRequest::HasProgram(id));
    assert!(matches!(has(), ClientReply::No));
    let submit = |n_bytes| {
        let submission = samples::submission(1, id, n_bytes);
        refused(cluster.call(&ClientRequest::Submit(Box::new(submission))))
    };
    assert!(submit(PROGRAM.len() as u64).contains("upload it first"));
    let error = refused(cluster.upload_as(id, b"something else"));
    assert!(error.contains("upload it again"), "{error}");
    assert!(matches!(has(), ClientReply::No));
    cluster.upload(PROGRAM);
    assert!(matches!(has(), ClientReply::Yes));
    assert!(submit(5).contains("the submission says 5"));
    assert!(!cluster.has_more_masters());
}

#[test]
fn who_waits_for_a_job_hears_of_its_end() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ended(cluster.call(&await_end(1, 60_000))));
        let mut outcome = samples::outcome(JobId(1));
        outcome.results = vec![("count".into(), vec![vec![7]])];
        master.link.ended(outcome);
        let outcome = waiting.join().unwrap();
        assert_eq!(outcome.results, [("count".to_owned(), vec![vec![7]])]);
    });
    assert_eq!(ended(cluster.call(&await_end(1, 0))).overview.state, JobPhase::Finished);
    assert!(refused(cluster.call(&await_end(2, 0))).contains("there is no job"));
    let error = refused(cluster.call(&ClientRequest::Cancel(JobId(1))));
    assert!(error.contains("is over: it is FINISHED"), "{error}");
}

#[test]
fn who_has_waited_for_long_enough_hears_how_the_job_is() {
    let cluster = Cluster::start();
    let playing = describe_always(cluster.run(1), detail(JobId(1), JobPhase::Running));
    match cluster.call(&await_end(1, 20)) {
        ClientReply::Job(job) => assert_eq!(job.overview.state, JobPhase::Running),
        other => panic!("{other:?}"),
    }
    let session = cluster.attach(5, 3, &[]);
    match cluster.call(&ClientRequest::Cluster) {
        ClientReply::Cluster(cluster) => {
            assert_eq!(cluster.jobs, [samples::overview(JobId(1), JobPhase::Running)]);
            assert_eq!(cluster.epoch, 1);
            let row = &cluster.task_managers[0];
            assert_eq!((row.id, row.n_slots, row.n_free, row.pid), (session.id, 3, 3, 7));
        }
        other => panic!("{other:?}"),
    }
    drop(cluster);
    playing.join().unwrap();
}

#[test]
fn wishes_reach_the_master() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    assert!(matches!(cluster.call(&ClientRequest::Cancel(JobId(1))), ClientReply::Yes));
    master.hears(|input| matches!(input, JobInput::Cancel).then_some(()));
    let savepoint =
        |stop| ClientRequest::Savepoint { job: JobId(1), dir: "/savepoints".into(), stop };
    let asked = |stop, expected: SnapshotKind, answer: fn(Reply<_>)| {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| cluster.call(&savepoint(stop)));
            master.hears(|input| match input {
                JobInput::Savepoint { kind, dir, reply } => {
                    assert_eq!((kind, dir), (expected, PathBuf::from("/savepoints")));
                    answer(reply);
                    Some(())
                }
                _ => None,
            });
            asked.join().unwrap()
        })
    };
    let reply = asked(None, SnapshotKind::Savepoint, |reply| {
        reply.answer(Ok(PathBuf::from("/savepoints/1")));
    });
    assert!(matches!(&reply, ClientReply::Savepoint(path) if path.ends_with("1")), "{reply:?}");
    let reply = asked(Some(Drain(true)), SnapshotKind::Stop { drain: true }, |reply| {
        reply.answer(Err(Error::external("the disk is full")));
    });
    assert!(refused(reply).contains("disk is full"));
    // A master that ends without an answer leaves nobody waiting.
    let reply = asked(Some(Drain(false)), SnapshotKind::Stop { drain: false }, drop);
    assert!(refused(reply).contains("before the job had stopped"));
    let mut outcome = samples::outcome(JobId(1));
    outcome.overview.state = JobPhase::Canceled;
    master.link.ended(outcome);
    assert_eq!(ended(cluster.call(&await_end(1, 60_000))).overview.state, JobPhase::Canceled);
    let again = cluster.call(&ClientRequest::Cancel(JobId(1)));
    assert!(matches!(again, ClientReply::Yes), "who asks again has what he wanted");
}

#[test]
fn an_end_that_is_not_stored_is_told_nobody() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    let records = cluster.config.dir.join("metadata/records");
    let away = cluster.config.dir.join("away");
    std::fs::rename(&records, &away).unwrap();
    let stop = ClientRequest::Savepoint {
        job: JobId(1),
        dir: "/savepoints".into(),
        stop: Some(Drain(false)),
    };
    let (meanwhile, again, is_told, stopped) = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| cluster.call(&stop));
        let reply = master.hears(|input| match input {
            JobInput::Savepoint { reply, .. } => Some(reply),
            _ => None,
        });
        reply.answer(Ok("/savepoints/1".into()));
        master.link.leave(detail(JobId(1), JobPhase::Finished));
        master.link.ended(samples::outcome(JobId(1)));
        let meanwhile = cluster.call(&await_end(1, 20));
        let again = cluster.call(&stop);
        let is_told = stopping.is_finished();
        // Whatever was answered: else nobody would come to an end here.
        std::fs::rename(&away, &records).unwrap();
        (meanwhile, again, is_told, stopping.join().unwrap())
    });
    match meanwhile {
        ClientReply::Job(job) => assert_eq!(job.overview.state, JobPhase::Running),
        other => panic!("{other:?}"),
    }
    assert!(refused(again).contains("just ending"));
    assert!(!is_told, "{stopped:?}");
    assert!(matches!(&stopped, ClientReply::Savepoint(at) if at.ends_with("1")), "{stopped:?}");
    match cluster.call(&ClientRequest::Job(JobId(1))) {
        ClientReply::Job(job) => assert_eq!(job.overview.state, JobPhase::Finished),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_stops_a_job_hears_how_it_has_ended() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    let (dir, stop) = (PathBuf::from("/savepoints"), Some(Drain(false)));
    let stop = ClientRequest::Savepoint { job: JobId(1), dir, stop };
    let stopped = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| cluster.call(&stop));
        let reply = master.hears(|input| match input {
            JobInput::Savepoint { reply, .. } => Some(reply),
            _ => None,
        });
        reply.answer(Ok("/savepoints/1".into()));
        let mut outcome = samples::outcome(JobId(1));
        outcome.overview.state = JobPhase::Failed;
        outcome.error = Some(Error::external("the disk is full"));
        master.link.ended(outcome);
        stopping.join().unwrap()
    });
    let error = refused(stopped);
    assert!(
        error.contains("`/savepoints/1` is complete") && error.contains("disk is full"),
        "{error}"
    );
}

#[test]
fn a_master_that_is_gone_without_a_word_is_a_failed_job() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    let session = cluster.attach(5, 1, &[]);
    master.link.request_slots(1, Vec::new());
    master.granted();
    master.start_host(session.id);
    session.hears(|_, message| matches!(message, ToTaskManager::StartHost(_)).then_some(()));
    drop(master);
    let outcome = ended(cluster.call(&await_end(1, 60_000)));
    assert_eq!(outcome.overview.state, JobPhase::Failed);
    let error = outcome.error.unwrap().to_string();
    assert!(error.contains("without a word") && error.contains("please report it"), "{error}");
    session.hears(|_, message| matches!(message, ToTaskManager::StopHost { .. }).then_some(()));
    // Its slot is free again.
    let next = cluster.run(2);
    next.link.request_slots(1, Vec::new());
    assert_eq!(next.granted(), [session.id]);
}

#[test]
fn a_job_whose_master_cannot_start_has_failed() {
    let (_, masters) = unbounded();
    let start: StartJob = Arc::new(|_, _| Err(Error::user("its graph is empty")));
    let cluster = Cluster::with_masters(|_| (), masters, start);
    cluster.submit(1);
    let outcome = ended(cluster.call(&await_end(1, 60_000)));
    assert_eq!(outcome.error.unwrap().to_string(), "its graph is empty");
}

#[test]
fn with_a_token_nobody_is_served_without_it() {
    let mut cluster = Cluster::with(|config| config.security.token = Some("hush".into()));
    let status = cluster.try_call(LeaderEpoch(0), &ClientRequest::Cluster).unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let status = cluster.knock(LeaderEpoch(0), 5, 1, &[]).ends();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);

    let bearer = cluster.config.security.bearer().unwrap();
    let mut client = JobsClient::with_interceptor(cluster.channel(), bearer);
    let envelope = Envelope::seal(LeaderEpoch(0), &ClientRequest::Cluster).unwrap();
    let reply = cluster.runtime.block_on(client.call(envelope)).unwrap().into_inner();
    assert!(matches!(reply.open::<ClientReply>().unwrap().1, ClientReply::Cluster(_)));
    cluster.stop();
}
