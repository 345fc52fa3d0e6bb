//! Processes that die in the middle of a job, and what that costs.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use millstream::cluster::message::JobPhase;
use millstream_tests::cluster::{Cluster, signal, until};
use millstream_tests::program::run;
use millstream_tests::unruly::{N, Unruly, check};
use nix::sys::signal::Signal;

#[test]
fn a_task_manager_that_is_killed_costs_one_restart_and_no_record() {
    let mut cluster = Cluster::start(3, 1);
    let job = Unruly::new(&cluster.dir().join("counts"), N).submit(&cluster);
    cluster.checkpoint_after(job.id, Some(1));
    let hosts = cluster.hosts_with(&job.out.display().to_string());
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    let survivors: Vec<u32> = hosts[1..].iter().map(|host| host.pid).collect();
    cluster.kill_task_manager(hosts[0].task_manager);
    until("the host of a task manager that was killed is gone", || {
        (!std::path::Path::new(&format!("/proc/{}", hosts[0].pid)).exists()).then_some(())
    });
    let restarted = |detail: &millstream::cluster::message::JobDetail| {
        detail.overview.n_restarts == 1 && detail.overview.n_running == detail.overview.n_tasks
    };
    cluster.wait_until(job.id, "it runs again", restarted);
    let now = job.hosts(&cluster);
    assert!(survivors.iter().all(|pid| now.contains(pid)), "{survivors:?}, {now:?}");
    job.finishes(&cluster, 1);
}

/// What runs on the others never notices; nor does any of it when the job manager dies then, although it is of two attempts.
#[test]
fn a_task_manager_that_is_killed_takes_along_what_it_ran_and_nothing_else() {
    let mut cluster = Cluster::start(3, 1);
    let job = Unruly::new(&cluster.dir().join("apart"), 3 * N).apart().submit(&cluster);
    cluster.checkpoint_after(job.id, Some(1));
    let hosts = cluster.hosts_with(&job.out.display().to_string());
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    cluster.kill_task_manager(hosts[0].task_manager);
    let restarted = |detail: &millstream::cluster::message::JobDetail| {
        detail.overview.n_restarts == 1 && detail.overview.n_running == detail.overview.n_tasks
    };
    let detail = cluster.wait_until(job.id, "it runs again", restarted);
    let before = cluster.checkpoint_after(job.id, detail.overview.last_checkpoint);
    let mut attempts = [0, 1].map(|subtask| job.attempts_of(subtask));
    attempts.sort();
    assert_eq!(attempts, [vec![0], vec![0, 1]]);
    let hosts = job.hosts(&cluster);
    assert_eq!(hosts.len(), 2);

    cluster.kill_job_manager();
    cluster.restart_job_manager();
    cluster.checkpoint_after(job.id, Some(before));
    assert_eq!(job.hosts(&cluster), hosts, "the tasks run where they ran");
    job.finishes(&cluster, 1);
    let mut attempts = [0, 1].map(|subtask| job.attempts_of(subtask));
    attempts.sort();
    assert_eq!(attempts, [vec![0], vec![0, 1]]);
}

#[test]
fn a_job_manager_that_is_killed_and_comes_back_finds_the_tasks_running() {
    let mut cluster = Cluster::start(2, 1);
    let job = Unruly::new(&cluster.dir().join("counts"), N).submit(&cluster);
    let before = cluster.checkpoint_after(job.id, Some(1));
    let hosts = job.hosts(&cluster);
    assert_eq!(hosts.len(), 2);
    cluster.kill_job_manager();
    cluster.restart_job_manager();
    cluster.checkpoint_after(job.id, Some(before + 1));
    assert_eq!(job.hosts(&cluster), hosts, "the tasks run where they ran");
    assert_eq!(cluster.view().epoch, 2);
    job.finishes(&cluster, 0);
}

#[test]
fn a_job_that_ends_while_there_is_no_job_manager_has_ended_when_there_is_one() {
    let mut cluster = Cluster::start(2, 1);
    let job = Unruly::new(&cluster.dir().join("counts"), 4_000).submit(&cluster);
    cluster.checkpoint_after(job.id, None);
    cluster.kill_job_manager();
    cluster.restart_job_manager();
    job.finishes(&cluster, 0);
}

#[test]
fn a_host_that_is_killed_takes_its_job_back_and_no_other() {
    let cluster = Cluster::start(2, 2);
    let job = Unruly::new(&cluster.dir().join("hurt"), N).submit(&cluster);
    let other = Unruly::new(&cluster.dir().join("beside"), N).submit(&cluster);
    cluster.checkpoint_after(job.id, Some(1));
    cluster.checkpoint_after(other.id, Some(1));
    let others = other.hosts(&cluster);
    signal(job.hosts(&cluster)[0], Signal::SIGKILL);
    cluster.wait_until(job.id, "it was restarted", |detail| detail.overview.n_restarts == 1);
    assert_eq!(other.hosts(&cluster), others);
    job.finishes(&cluster, 1);
    other.finishes(&cluster, 0);
}

/// Moves a file with these numbers into a folder.
fn add(dir: &Path, numbers: Range<u64>) {
    std::fs::create_dir_all(dir).expect("a folder for files");
    let (hidden, path) = (dir.join(".new"), dir.join(format!("{:05}", numbers.start)));
    let lines: String = numbers.map(|n| format!("{n}\n")).collect();
    std::fs::write(&hidden, lines).expect("a writable folder");
    std::fs::rename(hidden, path).expect("the same folder");
}

/// The task that finds files dies with others, is restored elsewhere, and is found again by another job manager.
#[test]
fn a_watched_folder_is_read_once_whoever_dies() {
    let mut cluster = Cluster::start(3, 1);
    let incoming = cluster.dir().join("in");
    let part = N / 12;
    let files = |parts: Range<u64>| parts.for_each(|i| add(&incoming, i * part..(i + 1) * part));
    files(0..4);
    let job = Unruly::new(&cluster.dir().join("counts"), N)
        .args(&["--watch", &incoming.display().to_string()])
        .submit(&cluster);
    let newest = cluster.checkpoint_after(job.id, Some(1));
    let vertices = cluster.detail(job.id).graph.vertices;
    let names: Vec<_> = vertices.iter().map(|v| (v.name(), v.parallelism)).take(2).collect();
    assert_eq!(names, [("numbers: splits".into(), 1), ("numbers → map_with → map".into(), 2)]);

    // One of two hosts has the enumerator, and both die.
    let hosts = cluster.hosts_with(&job.out.display().to_string());
    cluster.kill_task_manager(hosts[0].task_manager);
    files(4..6);
    let newest = cluster.checkpoint_after(job.id, Some(newest + 1));
    signal(hosts[1].pid, Signal::SIGKILL);
    files(6..8);
    let newest = cluster.checkpoint_after(job.id, Some(newest + 1));
    cluster.wait_until(job.id, "it was restarted", |detail| detail.overview.n_restarts == 2);

    cluster.kill_job_manager();
    files(8..10);
    cluster.restart_job_manager();
    cluster.checkpoint_after(job.id, Some(newest + 1));
    files(10..12);
    until("everything is in the output", || check(&job.out, job.n).is_ok().then_some(()));
    let cancel =
        run(&mut cluster.millstream(&["cancel", &job.id.to_string()]), Duration::from_secs(60));
    assert!(cancel.status.success(), "{}", cancel.stderr);
    assert_eq!(cluster.ended(job.id).overview.state, JobPhase::Canceled);
    check(&job.out, job.n).unwrap();
}
