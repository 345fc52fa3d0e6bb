//! `make cluster-demo`: a cluster of real processes, a job, and a task manager that is killed in the middle of it.
//!
//! The flights job runs twice over the repository's sample: at full speed and left alone, and slowly with a SIGKILL.
//! What readers of its output see must be the same, line for line. Everything is on ports and in a folder of its own,
//! and ends with the program.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use millstream::cluster::message::JobId;
use millstream_tests::cluster::Cluster;
use millstream_tests::compare::{compare_folders, lines, read};
use millstream_tests::data::sample_dir;
use millstream_tests::program::example;

/// How long the job takes that is killed, if nothing holds it up, in seconds.
const SECONDS: u64 = 12;
const RESULTS: [&str; 2] = ["hours", "late"];

fn main() -> ExitCode {
    println!("Building programs …");
    let mut cluster = Cluster::start(2, 4);
    println!(
        "A cluster runs at {}: a job manager and 2 task managers with 4 slots each.",
        cluster.address()
    );
    println!("  dashboard data: http://{}/overview\n", cluster.rest_address());

    let calm = cluster.dir().join("calm");
    println!("1. The flights job at parallelism 4, left alone:");
    let ended = cluster.run(flights(&calm, &[]));
    if !ended.status.success() {
        eprintln!("it ended with {}:\n{}", ended.status, ended.stderr);
        return ExitCode::FAILURE;
    }
    println!("   {}", ended.stdout.trim_end());

    println!("2. The same with a checkpoint every 500 ms, slowly, and a task manager that dies:");
    let hurt = cluster.dir().join("hurt");
    let job = start(&cluster, &hurt);
    let begin = Instant::now();
    tell(&cluster, job, begin, "it runs");
    cluster.checkpoint_after(job, Some(3));
    tell(&cluster, job, begin, "4 checkpoints are complete");
    let victim = cluster.hosts()[0].task_manager;
    let pid = cluster.task_manager(victim);
    cluster.kill_task_manager(victim);
    println!(
        "   {:>5.1?}  kill -9 {pid}: a task manager and half of the job's tasks are gone",
        begin.elapsed()
    );
    cluster.wait_until(job, "it runs again", |detail| {
        let now = &detail.overview;
        now.n_restarts > 0 && now.n_running == now.n_tasks
    });
    tell(&cluster, job, begin, "it runs again, on the task manager that is left");
    let outcome = cluster.ended(job);
    tell(&cluster, job, begin, "it has ended");

    println!("3. What readers of the output see:");
    let mut is_same = outcome.overview.n_restarts == 1;
    for result in RESULTS {
        match compare_folders(&calm.join(result), &hurt.join(result)) {
            Ok(n) => println!("   {result}: {n} lines, the same"),
            Err(mismatch) => {
                println!("   {result}: {mismatch}");
                is_same = false;
            }
        }
    }
    if is_same {
        println!("\nOne restart, nothing lost, nothing twice.");
        ExitCode::SUCCESS
    } else {
        println!(
            "\nThis is not what should have happened: see the logs in {}",
            cluster.keep().display()
        );
        ExitCode::FAILURE
    }
}

fn flights(out: &Path, arguments: &[&str]) -> Command {
    let mut command = example("flights");
    command.arg("--data").arg(sample_dir()).arg("--out").arg(out).args(["-p", "4"]);
    command.args(arguments);
    command
}

fn start(cluster: &Cluster, out: &Path) -> JobId {
    let departures = read(&sample_dir().join("streams/departures.csv.gz"));
    let n = lines(&departures.expect("the sample is there")).len() as u64;
    let checkpoints = cluster.dir().join("checkpoints").display().to_string();
    let rate = (n / SECONDS).max(1).to_string();
    let slowly =
        ["--rate", &rate, "--checkpoint-interval", "500ms", "--checkpoint-dir", &checkpoints];
    let job = cluster.submit(flights(out, &slowly));
    cluster.wait_until(job, "it runs", |detail| {
        detail.overview.n_running == detail.overview.n_tasks && detail.overview.records > 0
    });
    job
}

fn tell(cluster: &Cluster, job: JobId, begin: Instant, what: &str) {
    let now = cluster.detail(job).overview;
    let elapsed = Duration::from_millis(begin.elapsed().as_millis() as u64);
    println!(
        "   {elapsed:>5.1?}  {what}: {} flights read, checkpoint {}, {} restarts",
        now.records,
        now.last_checkpoint.map_or("-".into(), |id| id.to_string()),
        now.n_restarts
    );
}
