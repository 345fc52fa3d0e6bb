//! Programs that are run: what they are told, and what becomes of their exit code. Shell scripts stand for them.

use crate::world::{JobManager, Ran, cluster, graph, jobs, millstream};
use millstream::cluster::Security;
use millstream::cluster::message::{
    ClientReply, ClientRequest, HostStart, JobPhase, ProgramId, RequestId, Submission,
};
use millstream::model::settings::{CheckpointConfig, JobSettings, RestartStrategy};
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Prints its arguments and what it was told.
const SAYS_ALL: &str = "#!/bin/sh\necho \"args: $*\"\nenv | grep ^MILLSTREAM_ | sort\n";

fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("program");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    path
}

#[test]
fn a_program_is_told_its_cluster_in_variables() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), SAYS_ALL);
    std::fs::create_dir(dir.path().join("saved")).unwrap();
    let line = format!(
        "run -d -p 3 --env HOME --env CITY=Rome --restore saved --cluster localhost:7 {} -p 9 --in x",
        program.display()
    );
    let out = Ran::of(millstream(&line).current_dir(dir.path())).expect(0).out;
    let saved = std::path::absolute(dir.path().join("saved")).unwrap();
    let expected = format!(
        "args: -p 9 --in x\nMILLSTREAM_CLUSTER=localhost:7\nMILLSTREAM_DETACHED=true\nMILLSTREAM_PARALLELISM=3\n\
         MILLSTREAM_PASS_ENVIRONMENT=HOME,CITY\nMILLSTREAM_RESTORE={}\n",
        saved.display()
    );
    assert_eq!(out, expected);
    let plain = Ran::of(millstream("run ./program").current_dir(dir.path())).expect(0).out;
    assert_eq!(plain, "args: \nMILLSTREAM_CLUSTER=127.0.0.1:7455\nMILLSTREAM_DETACHED=false\n");
    let plan = Ran::of(millstream("explain --format dot ./program x").current_dir(dir.path()));
    assert_eq!(plan.expect(0).out, "args: --explain=dot x\n");
}

#[test]
fn how_a_program_ends_is_how_the_command_ends() {
    let dir = tempfile::tempdir().unwrap();
    let run = |text: &str, line: &str| {
        script(dir.path(), text);
        Ran::of(millstream(line).current_dir(dir.path()))
    };
    run("#!/bin/sh\nexit 7\n", "run ./program").expect(7);
    let killed = run("#!/bin/sh\nkill -9 $$\n", "run ./program").expect(137).err;
    assert!(killed.contains("ended by signal 9"), "{killed}");
    let absent = run("", "run ./absent").expect(4).err;
    assert_eq!(absent, "error: there is no program ./absent\n");
    run("", "run --restore absent ./program").expect(4);
    let unset = run("", "run --env MILL_UNSET ./program").expect(2).err;
    assert!(unset.contains("--env MILL_UNSET=VALUE"), "{unset}");
}

fn submission(dir: &Path, program: &[u8]) -> Submission {
    let settings = JobSettings {
        checkpoints: CheckpointConfig::default(),
        checkpoint_dir: Some("state".into()),
        restore: None,
        claims: false,
        allow_non_restored: false,
        allow_older: false,
        restart: RestartStrategy::None,
        cancel_timeout_ms: 1000,
    };
    let start = HostStart {
        job: jobs([JobPhase::Running; 2])[1].id,
        arguments: vec!["--in".into(), "x".into(), "-p".into(), "2".into()],
        environment: vec![("CITY".into(), "Rome".into())],
        folder: dir.to_path_buf(),
        nth_execute: 0,
        graph: graph(),
        config: vec![0, 255],
        once: Vec::new(),
    };
    Submission {
        request: RequestId(1),
        program: ProgramId(Sha256::digest(program).into()),
        program_bytes: program.len() as u64,
        settings,
        start,
    }
}

fn rescaling(submission: Submission, program: &[u8]) -> JobManager {
    JobManager::with(&Security::default(), program.to_vec(), move |request| match request {
        ClientRequest::Cluster => cluster(jobs([JobPhase::Running; 2])),
        ClientRequest::Submission(_) => ClientReply::Submission(Box::new(submission.clone())),
        ClientRequest::Savepoint { dir, .. } => ClientReply::Savepoint(dir.join("savepoint-8")),
        _ => ClientReply::No,
    })
}

#[test]
fn a_job_is_rescaled_by_running_its_program_from_a_savepoint() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().canonicalize().unwrap();
    let program = format!("{SAYS_ALL}echo $CITY\npwd\n");
    let manager = rescaling(submission(&here, program.as_bytes()), program.as_bytes());
    let ran = manager.run("rescale abc -p 8").expect(0);
    let savepoint = here.join("state-savepoints/savepoint-8");
    let expected = format!(
        "args: --in x -p 8\nMILLSTREAM_CLUSTER={}\nMILLSTREAM_DETACHED=true\nMILLSTREAM_PARALLELISM=8\n\
         MILLSTREAM_PASS_ENVIRONMENT=CITY\nMILLSTREAM_RESTORE={}\nMILLSTREAM_SETTINGS=00ff\nRome\n{}\n",
        manager.address,
        savepoint.display(),
        here.display()
    );
    assert_eq!(ran.out, expected);
    assert!(ran.err.contains(&savepoint.display().to_string()), "{}", ran.err);
}

#[test]
fn what_cannot_be_rescaled_is_not_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let refusing = |change: fn(&mut Submission), program: &[u8]| {
        let mut submission = submission(dir.path(), b"program");
        change(&mut submission);
        let ran = rescaling(submission, program).run("rescale abc -p 8");
        assert!(!ran.err.contains("stopped"), "{}", ran.err);
        ran
    };
    refusing(|s| s.start.nth_execute = 1, b"program").expect(5);
    refusing(|s| s.start.folder = "absent/folder".into(), b"program").expect(5);
    refusing(|s| s.settings.checkpoint_dir = None, b"program").expect(2);
    let other = refusing(|_| {}, b"another").expect(5).err;
    assert!(other.contains("not the one asked for"), "{other}");
}

#[test]
fn a_program_that_does_not_start_again_leaves_a_savepoint_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let program = b"#!/bin/sh\nexit 1\n";
    let manager = rescaling(submission(dir.path(), program), program);
    let err = manager.run("rescale abc -p 8").expect(1).err;
    assert!(err.contains("millstream run -p 8 --restore "), "{err}");
}
