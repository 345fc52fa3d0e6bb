//! The task manager's process, with real processes on both sides: a job manager that does what a test says, a task
//! manager that can be killed, and a program that does what nobody wants.

mod job_manager;

use job_manager::{JobManager, PATIENCE, Peer, soon, until};
use millstream_model::Error;
use millstream_model::job_graph::{Guarantee, JobGraph};
use millstream_proto::message::{
    Begin, FromHost, FromTaskManager, HostRun, HostSpec, HostStart, JobId, LogStream, ProgramId,
    ToHost, ToTaskManager,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;
use tempfile::TempDir;

const JOB: JobId = JobId(0xabc);

/// A job manager, and a task manager that looks for it. The task manager is killed in the end.
struct World {
    job_manager: JobManager,
    task_manager: Option<Child>,
    dir: TempDir,
    program: ProgramId,
    n_bytes: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.task_manager.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl World {
    async fn new() -> World {
        World::with(&[]).await
    }

    /// With further arguments for the task manager.
    async fn with(arguments: &[&str]) -> World {
        let job_manager = JobManager::begin().await;
        let dir = TempDir::new().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_millstream-test-taskmanager"))
            .arg(job_manager.address.to_string())
            .arg(dir.path())
            .args(arguments)
            .env("SECRET", "of the task manager")
            .env("MILLSTREAM_LOG", "debug")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let bytes = std::fs::read(env!("CARGO_BIN_EXE_millstream-test-host")).unwrap();
        let program = ProgramId(Sha256::digest(&bytes).into());
        let n_bytes = bytes.len() as u64;
        job_manager.serve(program, bytes);
        World { job_manager, task_manager: Some(child), dir, program, n_bytes }
    }

    async fn welcome(&mut self) -> Peer {
        let mut peer = self.job_manager.session().await;
        peer.welcome().await;
        peer
    }

    fn spec(&self, arguments: &[&str]) -> ToTaskManager {
        ToTaskManager::StartHost(Box::new(HostSpec {
            run: HostRun(1),
            program: self.program,
            program_bytes: self.n_bytes,
            name: "a job".to_owned(),
            start: HostStart {
                job: JOB,
                arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
                environment: vec![("GIVEN".to_owned(), "by the job".to_owned())],
                folder: "data".into(),
                nth_execute: 0,
                graph: JobGraph {
                    name: "a job".to_owned(),
                    vertices: Vec::new(),
                    edges: Vec::new(),
                    bounded: true,
                    guarantee: Guarantee::OncePerRun,
                },
                config: Vec::new(),
                once: Vec::new(),
            },
        }))
    }

    /// Starts a host and waits until it is ready.
    async fn host(&self, peer: &mut Peer) {
        peer.say(self.spec(&[])).await;
        match from_host(peer).await {
            (_, FromHost::Ready { data_address }) => {
                assert_eq!(data_address.to_string(), "127.0.0.1:4242");
            }
            other => panic!("{other:?}"),
        }
    }

    async fn end(&mut self) -> Output {
        let child = self.task_manager.take().unwrap();
        let waits = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
        soon("the task manager ends", waits).await.unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.task_manager.as_ref().unwrap().id();
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }
}

async fn from_host(peer: &mut Peer) -> (u64, FromHost) {
    match peer.hear().await {
        FromTaskManager::FromHost { number, job: JOB, message, .. } => (number, message),
        other => panic!("{other:?}"),
    }
}

async fn host_ended(peer: &mut Peer) -> Error {
    match peer.hear().await {
        FromTaskManager::HostEnded { job: JOB, error, .. } => error,
        other => panic!("{other:?}"),
    }
}

async fn tell(peer: &Peer, message: ToHost) {
    peer.say(ToTaskManager::ToHost { job: JOB, message }).await;
}

async fn close(peer: &Peer, attempt: u32) {
    tell(peer, ToHost::Close { attempt, tasks: Vec::new(), again: true }).await;
}

/// What the host has printed, when it holds a certain word.
async fn printed(peer: &mut Peer, word: &str) -> String {
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(5));
    soon(word, async {
        loop {
            looks.tick().await;
            let (stream, from, limit) = (LogStream::Out, Some(0), 1 << 20);
            peer.say(ToTaskManager::ReadLog { request: 5, job: JOB, stream, from, limit }).await;
            match peer.hear().await {
                FromTaskManager::Log { request: 5, bytes: Ok(bytes), total, from: 0 } => {
                    assert_eq!(total, bytes.len() as u64);
                    let text = String::from_utf8(bytes).unwrap();
                    if text.contains(word) {
                        return text;
                    }
                }
                FromTaskManager::Log { bytes: Err(_), .. } => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await
}

fn after<'a>(text: &'a str, word: &str) -> &'a str {
    let line = text.lines().rev().find_map(|line| line.strip_prefix(word));
    line.unwrap_or_else(|| panic!("`{word}` in {text}"))
}

/// Gone, or dead and not yet buried.
fn is_gone(pid: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => true,
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z')),
    }
}

#[tokio::test]
async fn a_host_is_started_spoken_to_and_stopped() {
    let mut world = World::new().await;
    let mut peer = world.job_manager.session().await;
    let hello = peer.welcome().await;
    assert_eq!((hello.n_slots, hello.hosts), (3, vec![]));
    world.host(&mut peer).await;
    tell(&peer, ToHost::Cancel { attempt: 7, tasks: Vec::new() }).await;
    let said = from_host(&mut peer).await;
    assert!(matches!(said, (2, FromHost::Deployed { attempt: 7 })), "{said:?}");
    let text = printed(&mut peer, "name a job").await;
    let pid = after(&text, "pid ");
    assert!(!is_gone(pid));
    peer.say(ToTaskManager::StopHost { job: JOB }).await;
    assert_eq!(host_ended(&mut peer).await.message(), "the host was stopped on request");
    assert!(is_gone(pid));
    until("its folder is gone", || {
        std::fs::read_dir(world.dir.path().join("hosts")).unwrap().count() == 0
    })
    .await;
}

#[tokio::test]
async fn how_a_host_ends_is_told_and_its_program_is_fetched_once() {
    let mut world = World::new().await;
    let mut peer = world.welcome().await;
    for (misfortune, told) in [
        (1, "was ended by signal 6 (SIGABRT); the last it printed:\nabout to abort"),
        (2, "ended with exit code 3; the last it printed:\nabout to exit"),
        (3, "was ended by signal 9 (SIGKILL)"),
    ] {
        world.host(&mut peer).await;
        close(&peer, misfortune).await;
        let error = host_ended(&mut peer).await;
        assert_eq!(error.message(), format!("the host's process {told}"));
    }
    world.host(&mut peer).await;
    tell(&peer, ToHost::Finish).await;
    let (_, results) = from_host(&mut peer).await;
    assert!(matches!(results, FromHost::Results(_)), "{results:?}");
    let error = host_ended(&mut peer).await.to_string();
    assert!(error.contains("ended by itself (exit code 0)"), "{error}");
    assert_eq!(world.job_manager.n_fetches(), 1);
}

#[tokio::test]
async fn an_endless_loop_is_stopped_and_what_it_started_too() {
    let mut world = World::new().await;
    let mut peer = world.welcome().await;
    world.host(&mut peer).await;
    close(&peer, 6).await;
    close(&peer, 4).await;
    let text = printed(&mut peer, "child ").await;
    peer.say(ToTaskManager::StopHost { job: JOB }).await;
    host_ended(&mut peer).await;
    assert!(is_gone(after(&text, "pid ")));
    until("its child is gone", || is_gone(after(&text, "child "))).await;
}

#[tokio::test]
async fn a_program_that_is_no_host_is_stopped_too() {
    let mut world = World::new().await;
    let mut peer = world.welcome().await;
    peer.say(world.spec(&["deaf"])).await;
    let text = printed(&mut peer, "child ").await;
    peer.say(ToTaskManager::StopHost { job: JOB }).await;
    host_ended(&mut peer).await;
    assert!(is_gone(after(&text, "pid ")));
    until("its child is gone", || is_gone(after(&text, "child "))).await;
}

#[tokio::test]
async fn a_task_manager_that_is_killed_takes_its_hosts_along() {
    let mut world = World::new().await;
    let mut peer = world.welcome().await;
    world.host(&mut peer).await;
    close(&peer, 6).await;
    close(&peer, 4).await;
    let text = printed(&mut peer, "child ").await;
    world.signal(Signal::SIGKILL);
    world.end().await;
    for what in ["pid ", "child "] {
        until("all of it is gone", || is_gone(after(&text, what))).await;
    }
}

#[tokio::test]
async fn a_task_manager_that_is_killed_takes_a_deaf_program_along() {
    let mut world = World::new().await;
    let mut peer = world.welcome().await;
    peer.say(world.spec(&["deaf"])).await;
    let text = printed(&mut peer, "child ").await;
    world.signal(Signal::SIGKILL);
    world.end().await;
    until("it is gone", || is_gone(after(&text, "pid "))).await;
    // Its child is nobody's then: only a host that knows it is one ends its group.
    let child = after(&text, "child ").parse().unwrap();
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn programs_that_are_none_are_refused() {
    let mut world = World::new().await;
    let mut peer = world.welcome().await;
    let garbage = b"echo this is a shell script".to_vec();
    let ids = [ProgramId(Sha256::digest(&garbage).into()), ProgramId([1; 32]), ProgramId([2; 32])];
    world.job_manager.serve(ids[0], garbage.clone());
    world.job_manager.serve(ids[1], garbage.clone());
    world.n_bytes = garbage.len() as u64;
    let texts =
        ["is it built for this kind of machine?", "damaged or exchanged", "no such program"];
    for (id, text) in ids.into_iter().zip(texts) {
        world.program = id;
        peer.say(world.spec(&[])).await;
        let error = host_ended(&mut peer).await;
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.is_final(), id == ids[0], "{error}");
    }
    let left: Vec<_> = std::fs::read_dir(world.dir.path().join("programs")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn a_host_sees_its_own_surroundings_only() {
    let mut world = World::new().await;
    let mut peer = world.welcome().await;
    peer.say(world.spec(&["--input", "a b"])).await;
    from_host(&mut peer).await;
    tell(&peer, ToHost::Prepare { attempt: 0, begin: Begin::Fresh, part: None }).await;
    let text = printed(&mut peer, "end").await;
    let mut names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("variable ")?.split('=').next()).collect();
    // What says how panics print may be set here or not.
    names.retain(|name| *name != "RUST_BACKTRACE");
    names.sort_unstable();
    let expected = [
        "GIVEN",
        "MILLSTREAM_DATA_BIND",
        "MILLSTREAM_HOST_CHANNEL",
        "MILLSTREAM_LOG",
        "PATH",
        "TMPDIR",
    ];
    assert_eq!(names, expected);
    assert!(text.contains("argument --input\nargument a b\n"), "{text}");
    let folder = Path::new(after(&text, "folder "));
    assert!(folder.starts_with(world.dir.path().canonicalize().unwrap()), "{folder:?}");
    assert_eq!(after(&text, "descriptors "), "6");
    assert!(after(&text, "as a child: ").contains("a task manager started this"), "{text}");
}

#[tokio::test]
async fn a_memory_hog_ends_itself() {
    let mut world = World::with(&["400000000"]).await;
    let mut peer = world.welcome().await;
    world.host(&mut peer).await;
    close(&peer, 5).await;
    let error = host_ended(&mut peer).await.to_string();
    assert!(error.contains("SIGABRT") && error.contains("memory allocation"), "{error}");
}

#[tokio::test]
async fn hosts_run_on_without_a_job_manager_and_nothing_they_said_is_lost() {
    let mut world = World::new().await;
    let mut peer = world.job_manager.session().await;
    let id = peer.welcome().await.id;
    world.host(&mut peer).await;
    let text = printed(&mut peer, "name a job").await;
    tell(&peer, ToHost::Cancel { attempt: 1, tasks: Vec::new() }).await;
    from_host(&mut peer).await;
    peer.say(ToTaskManager::Confirm { number: 1 }).await;
    tell(&peer, ToHost::Cancel { attempt: 2, tasks: Vec::new() }).await;
    // Handed to the host before the job manager is gone, answered before or after.
    from_host(&mut peer).await;

    world.job_manager.restart().await;
    let begin = Instant::now();
    let mut peer = world.job_manager.session().await;
    let waited = begin.elapsed();
    peer.epoch = 2;
    let hello = peer.welcome().await;
    assert_eq!((hello.id, &hello.hosts[..], hello.epoch.0), (id, &[(JOB, HostRun(1))][..], 1));
    for (number, attempt) in [(2, 1), (3, 2)] {
        let said = from_host(&mut peer).await;
        assert!(
            matches!(&said, (n, FromHost::Deployed { attempt: a }) if (*n, *a) == (number, attempt)),
            "{said:?}"
        );
    }
    tell(&peer, ToHost::Cancel { attempt: 3, tasks: Vec::new() }).await;
    assert!(matches!(from_host(&mut peer).await, (4, FromHost::Deployed { attempt: 3 })));
    let still = printed(&mut peer, "name a job").await;
    assert_eq!(after(&still, "pid "), after(&text, "pid "));
    assert!(waited < PATIENCE / 20, "back after {waited:?}");

    // An old leader is left at once, and nothing it says is done.
    drop(peer);
    let mut old = world.job_manager.session().await;
    old.epoch = 1;
    old.welcome().await;
    // Nobody may listen any more.
    while let Some(message) = old.try_hear().await {
        assert!(matches!(message, FromTaskManager::Heartbeat), "{message:?}");
    }
    let mut peer = world.job_manager.session().await;
    peer.epoch = 2;
    assert_eq!(peer.welcome().await.hosts, [(JOB, HostRun(1))]);
}

#[tokio::test]
async fn hosts_without_a_job_manager_end_after_a_while() {
    let mut world = World::new().await;
    let mut peer = world.job_manager.session().await;
    peer.hello().await;
    let (heartbeat_ms, timeout_ms, orphan_timeout_ms) = (50, 60_000, 1);
    peer.say(ToTaskManager::Welcome { heartbeat_ms, timeout_ms, orphan_timeout_ms }).await;
    world.host(&mut peer).await;
    peer.say(ToTaskManager::Confirm { number: 1 }).await;
    drop(peer);
    let mut peer = world.job_manager.session().await;
    peer.welcome().await;
    let error = host_ended(&mut peer).await.to_string();
    assert!(error.contains("no job manager was heard for 1 ms"), "{error}");
}

#[tokio::test]
async fn a_job_manager_that_falls_silent_is_left() {
    let mut world = World::new().await;
    let mut peer = world.job_manager.session().await;
    peer.hello().await;
    let (heartbeat_ms, timeout_ms, orphan_timeout_ms) = (20, 100, 60_000);
    peer.say(ToTaskManager::Welcome { heartbeat_ms, timeout_ms, orphan_timeout_ms }).await;
    let mut n_heartbeats = 0;
    while let Some(message) = peer.try_hear().await {
        assert!(matches!(message, FromTaskManager::Heartbeat), "{message:?}");
        n_heartbeats += 1;
    }
    assert!(n_heartbeats > 0);
    world.welcome().await;
}

#[tokio::test]
async fn a_task_manager_that_is_told_to_end_says_so() {
    let mut world = World::new().await;
    let mut peer = world.welcome().await;
    world.host(&mut peer).await;
    peer.say(ToTaskManager::Confirm { number: 1 }).await;
    let text = printed(&mut peer, "name a job").await;
    world.signal(Signal::SIGTERM);
    let error = host_ended(&mut peer).await;
    assert_eq!(error.message(), "the task manager was asked to end");
    peer.say(ToTaskManager::Confirm { number: 2 }).await;
    let output = world.end().await;
    assert!(output.status.success(), "{output:?}");
    assert!(is_gone(after(&text, "pid ")));
}

#[tokio::test]
async fn a_task_manager_that_is_refused_ends_and_says_why() {
    let mut world = World::new().await;
    let mut peer = world.job_manager.session().await;
    peer.hello().await;
    peer.say(ToTaskManager::Refused { error: Error::user("another release, please") }).await;
    let output = world.end().await;
    assert!(!output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: another release, please\n");
}

#[tokio::test]
async fn metrics_of_hosts_can_be_read() {
    let mut world = World::new().await;
    let mut peer = world.job_manager.session().await;
    let address = peer.welcome().await.metrics_address.unwrap();
    world.host(&mut peer).await;
    tell(&peer, ToHost::Report).await;
    let (_, metrics) = from_host(&mut peer).await;
    assert!(matches!(metrics, FromHost::Metrics(_)), "{metrics:?}");
    let read = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = soon("an answer", read).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let line = format!(
        "millstream_task_records_in_total{{job=\"{JOB}\",job_name=\"a job\",operator=\"map\",subtask=\"2\"}} 11\n"
    );
    assert!(answer.contains(&line), "{answer}");
    assert!(answer.contains("\nmillstream_taskmanager_hosts 1\n"), "{answer}");
}
