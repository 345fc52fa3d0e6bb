//! Jobs of a cluster: what is shown and asked, and what the exit codes say.

use crate::world::{JobManager, Ran, cluster, detail, ended, jobs, millstream};
use millstream::cluster::message::{
    ClientReply, ClientRequest, Drain, JobId, JobOverview, JobPhase, LogStream, TaskManagerId,
};
use millstream::model::Error;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const FLIGHTS: JobId = JobId(0xab << 120);
const WORDS: JobId = JobId(0xabc << 116);

/// Knows two jobs and does what is asked; writes down what that was.
fn obliging() -> (JobManager, Arc<Mutex<Vec<ClientRequest>>>) {
    let asked: Arc<Mutex<Vec<ClientRequest>>> = Arc::default();
    let log = asked.clone();
    let running = jobs([JobPhase::Running, JobPhase::Running]);
    let manager = JobManager::start(move |request| {
        log.lock().unwrap().push(request.clone());
        match request {
            ClientRequest::Cluster => cluster(running.clone()),
            ClientRequest::Job(_) => detail(&running[1]),
            ClientRequest::Cancel(_) => ClientReply::Yes,
            ClientRequest::Await { job, .. } => {
                let canceled = jobs([JobPhase::Canceled, JobPhase::Canceled]);
                ended(&canceled[usize::from(job == WORDS)], None)
            }
            ClientRequest::Savepoint { dir, .. } => ClientReply::Savepoint(dir.join("savepoint-8")),
            _ => ClientReply::Refused(Error::user("the script has nothing for this")),
        }
    });
    (manager, asked)
}

fn last(asked: &Mutex<Vec<ClientRequest>>, what: fn(&ClientRequest) -> bool) -> ClientRequest {
    asked.lock().unwrap().iter().rfind(|request| what(request)).cloned().expect("it was asked")
}

#[test]
fn jobs_are_listed_for_people_and_for_scripts() {
    let (manager, _) = obliging();
    let text = manager.run("list").expect(0).out;
    assert!(text.starts_with("JOB ") && text.contains(&format!("{WORDS}  words")), "{text}");
    let json = manager.run("list --json").expect(0).out;
    let read: Vec<JobOverview> = serde_json::from_str(&json).unwrap();
    assert_eq!(read, jobs([JobPhase::Running, JobPhase::Running]));
    let status = manager.run("status abc --json").expect(0).out;
    let value: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(value["overview"]["state"], "RUNNING");
    let whole = manager.run("status").expect(0).out;
    assert!(whole.starts_with("job manager 0.1.0, epoch 1\n0 task managers"), "{whole}");
    assert_eq!(manager.run("checkpoints abc").expect(0).out, "no checkpoints\n");
}

#[test]
fn a_job_is_named_by_the_beginning_of_its_id() {
    let (manager, asked) = obliging();
    manager.run("cancel abc").expect(0);
    let cancel = last(&asked, |request| matches!(request, ClientRequest::Cancel(_)));
    assert!(matches!(cancel, ClientRequest::Cancel(WORDS)));
    let ambiguous = manager.run("cancel ab").expect(2).err;
    assert!(ambiguous.contains(&FLIGHTS.to_string()), "{ambiguous}");
    let unknown = manager.run("cancel d").expect(4).err;
    assert_eq!(unknown, "error: there is no job `d`\n");
    manager.run("cancel words").expect(2);
}

#[test]
fn savepoints_are_asked_for_with_whole_paths() {
    let (manager, asked) = obliging();
    let dir = tempfile::tempdir().unwrap();
    let there = std::path::absolute(dir.path()).unwrap();
    let out = manager.run_in(dir.path(), "savepoint abc saved").expect(0).out;
    assert_eq!(out, format!("{}\n", there.join("saved/savepoint-8").display()));
    let is_savepoint = |request: &ClientRequest| matches!(request, ClientRequest::Savepoint { .. });
    let ClientRequest::Savepoint { job, dir: asked_for, stop } = last(&asked, is_savepoint) else {
        unreachable!()
    };
    assert_eq!((job, asked_for, stop), (WORDS, there.join("saved"), None));
    for (flag, drain) in [("", false), ("--drain", true)] {
        let line = format!("stop abc --savepoint saved {flag}");
        manager.run_in(dir.path(), &line).expect(0);
        let ClientRequest::Savepoint { stop, .. } = last(&asked, is_savepoint) else {
            unreachable!()
        };
        assert_eq!(stop, Some(Drain(drain)));
    }
}

#[test]
fn whether_the_job_has_failed_or_only_the_stop_is_told_apart() {
    let running = JobPhase::Running;
    for (before, after, code) in [
        (running, JobPhase::Failed, 1),
        (running, JobPhase::Canceled, 1),
        (running, running, 5),
        (JobPhase::Failed, JobPhase::Failed, 5),
    ] {
        let mut states = [before, after].into_iter();
        let manager = JobManager::start(move |request| match request {
            ClientRequest::Cluster => cluster(jobs([running, running])),
            ClientRequest::Savepoint { .. } => {
                ClientReply::Refused(Error::external("a disk is full"))
            }
            ClientRequest::Job(_) => detail(&jobs([states.next().unwrap_or(after); 2])[1]),
            _ => ClientReply::No,
        });
        let said = manager.run("stop abc --savepoint /saved").expect(code).err;
        assert!(said.contains("a disk is full"), "{said}");
    }
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    millstream("").status().map(|status| assert_eq!(status.code(), Some(2))).unwrap();
    Ran::of(&mut millstream("lst")).expect(2);
    Ran::of(&mut millstream("list --cluster here")).expect(2);
    let elsewhere = Ran::of(&mut millstream("list --cluster example.org:7455")).expect(2).err;
    assert!(elsewhere.contains("--insecure"), "{elsewhere}");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Ran::of(&mut millstream(&format!("list --cluster {nobody}"))).expect(3).err;
    assert!(away.contains("cannot be reached"), "{away}");

    let manager = JobManager::start(|request| match request {
        ClientRequest::Cluster => cluster(jobs([JobPhase::Running, JobPhase::Running])),
        ClientRequest::Cancel(_) => ClientReply::Yes,
        ClientRequest::Await { .. } => {
            let failed = jobs([JobPhase::Failed, JobPhase::Failed]);
            ended(&failed[1], Some(Error::user("line 7 is no number")))
        }
        _ => ClientReply::Refused(Error::external("the disk is full")),
    });
    let refused = manager.run("savepoint abc there").expect(5).err;
    assert_eq!(refused, "error: the disk is full\n");
    let failed = manager.run("cancel abc").expect(1).err;
    assert!(failed.ends_with("failed: line 7 is no number\n"), "{failed}");
}

#[test]
fn logs_are_shown_whole_and_followed_to_the_end_of_the_job() {
    const TEXT: &[u8] = b"one\ntwo\nthree\n";
    let mut n_looks = 0;
    let manager = JobManager::start(move |request| match request {
        ClientRequest::Cluster => {
            n_looks += 1;
            let state = if n_looks > 2 { JobPhase::Finished } else { JobPhase::Running };
            cluster(jobs([state, state]))
        }
        ClientRequest::Log { stream: LogStream::Err, .. } => {
            ClientReply::Refused(Error::user("nothing was printed there"))
        }
        ClientRequest::Log { from, limit, .. } => {
            // Half of it is there at first; six bytes are given at a time.
            let total = if n_looks > 1 { TEXT.len() } else { 8 };
            let from = from.unwrap_or((total as u64).saturating_sub(limit)) as usize;
            let end = total.min(from + 6);
            ClientReply::Log {
                task_manager: TaskManagerId(1),
                from: from as u64,
                total: total as u64,
                bytes: TEXT[from..end].to_vec(),
            }
        }
        _ => ClientReply::No,
    });
    assert_eq!(manager.run("logs abc --tail 0 --follow").expect(0).out.as_bytes(), TEXT);
    assert_eq!(manager.run("logs abc --tail 6").expect(0).out, "three\n");
    manager.run("logs abc --err").expect(5);
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Ran::of(&mut millstream(&format!("completions {shell}"))).expect(0).out;
        assert!(script.contains("savepoint"), "{shell}");
    }
}

#[test]
fn the_configuration_file_names_the_cluster() {
    let (manager, _) = obliging();
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("millstream.toml");
    std::fs::write(&file, format!("cluster = \"{}\"\n", manager.address)).unwrap();
    Ran::of(millstream("list").current_dir(dir.path())).expect(0);
    std::fs::write(&file, "cluster = 7\n").unwrap();
    let wrong = Ran::of(millstream("list").current_dir(dir.path())).expect(2).err;
    assert!(wrong.contains("millstream.toml is not valid"), "{wrong}");
}
