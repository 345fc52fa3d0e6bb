//! What people do to jobs: let them wait for room, take savepoints, stop and rescale them, with the command.

use std::path::PathBuf;
use std::time::Duration;

use millstream::cluster::message::{ClientReply, ClientRequest, JobDetail, JobPhase};
use millstream_tests::cluster::{Cluster, Plan, until};
use millstream_tests::program::{Finished, run};
use millstream_tests::unruly::{N, Unruly, check};

#[track_caller]
fn millstream(cluster: &Cluster, arguments: &[&str]) -> Finished {
    let ended = run(&mut cluster.millstream(arguments), Duration::from_secs(120));
    assert!(ended.status.success(), "{arguments:?}: {}\n{}", ended.status, ended.stderr);
    ended
}

#[test]
fn a_job_waits_for_slots_and_says_how_many() {
    let mut cluster = Cluster::start(1, 1);
    let job = Unruly::new(&cluster.dir().join("counts"), 2_000).args(&["-p", "3"]).submit(&cluster);
    let id = job.id.to_string();
    let waits =
        cluster.wait_until(job.id, "it waits", |detail| detail.overview.n_missing_slots > 0);
    assert_eq!((waits.overview.n_slots, waits.overview.n_missing_slots), (3, 2));
    assert_eq!(waits.overview.state, JobPhase::Created);
    let status = millstream(&cluster, &["status", &id]).stdout;
    assert!(status.contains("2 of 3 are missing: start another task manager"), "{status}");

    cluster.add_task_manager();
    cluster.wait_until(job.id, "one is missing", |detail| detail.overview.n_missing_slots == 1);
    cluster.add_task_manager();
    job.finishes(&cluster, 0);
}

#[test]
fn a_job_is_stopped_with_a_savepoint_and_rescaled() {
    let cluster = Cluster::start(2, 2);
    let job = Unruly::new(&cluster.dir().join("counts"), N);
    let job = job.variable("MILLSTREAM_CANCEL_TIMEOUT", "7s").submit(&cluster);
    let savepoints = cluster.dir().join("savepoints").display().to_string();
    cluster.checkpoint_after(job.id, None);
    let id = job.id.to_string();
    let savepoint = millstream(&cluster, &["savepoint", &id, &savepoints]).stdout;
    let savepoint = PathBuf::from(savepoint.trim_end());
    assert!(savepoint.join("manifest").is_file(), "{}", savepoint.display());
    let verified = millstream(&cluster, &["verify", &savepoint.display().to_string()]);
    assert!(verified.status.success());

    // Three subtasks instead of two, from where it stands.
    let rescaled = millstream(&cluster, &["rescale", &id, "-p", "3", "--savepoint", &savepoints]);
    let next = rescaled.stdout.lines().last().unwrap_or_default().to_owned();
    assert_ne!(next, id);
    let next_id = next.parse().unwrap_or_else(|error| panic!("{error}: {rescaled:?}"));
    let detail = cluster.detail(next_id);
    assert_eq!(detail.graph.vertices[0].parallelism, 3);
    match cluster.ask(ClientRequest::Submission(next_id)) {
        ClientReply::Submission(next) => {
            assert_eq!(next.settings.cancel_timeout_ms, 7000, "also what a variable said at first");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.detail(job.id).overview.state, JobPhase::Finished);

    // Then stopped in its middle, and run again from there.
    let is_running = |detail: &JobDetail| detail.overview.state == JobPhase::Running;
    let running = cluster.wait_until(next_id, "it runs", is_running);
    // One of its own: it begins with the one that it was restored from.
    cluster.checkpoint_after(next_id, running.overview.last_checkpoint);
    let stopped = millstream(&cluster, &["stop", &next, "--savepoint", &savepoints]).stdout;
    assert!(check(&job.out, job.n).is_err(), "it was stopped before its end");
    until("its hosts are gone", || job.hosts(&cluster).is_empty().then_some(()));
    let last =
        Unruly::new(&cluster.dir().join("counts"), N).args(&["--restore", stopped.trim_end()]);
    last.submit(&cluster).finishes(&cluster, 0);
}

#[test]
fn jobs_start_on_task_managers_whose_executable_was_replaced() {
    let mut plan = Plan::new(1, 2);
    plan.is_upgraded = true;
    let cluster = Cluster::with(plan);
    Unruly::new(&cluster.dir().join("counts"), 2_000).submit(&cluster).finishes(&cluster, 0);
}
