//! For how long a job is without output when a task manager is killed.
//!
//! Two subtasks on two task managers, a third one beside them that has nothing to do; 100 MB of state, rewritten all the
//! time, and a checkpoint every second. The task manager of the first sink is killed; what is measured ends with the
//! first record that this sink's subtask is given somewhere else. All settings are the defaults.

use super::beginnings::{Beginning, Beginnings, beginnings};
use super::processes::children;
use super::{Cluster, Submitted, wait_for};
use crate::checkpoints;
use crate::jobs::rewritten;
use crate::measure::now_us;
use crate::workload::BenchError;
use millstream::prelude::*;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::path::Path;

const N_KEYS: u64 = 200_000;
const RATE: u64 = 100_000;
/// Least bytes of a checkpoint that has all keys.
const FULL_BYTES: u64 = N_KEYS * 512;

/// The longest that is aimed at, in ms.
pub const TARGET_MS: f64 = 1000.0;

/// Kills so many task managers, each of a job and a cluster of its own; for each the time without output, in ms. A job
/// that fails again and again waits longer each time, as its restart strategy has it, so kills of one job would
/// measure that.
///
/// # Errors
/// A job or a cluster fails.
pub fn measure(n_kills: usize) -> Result<Vec<f64>, BenchError> {
    (0..n_kills)
        .map(|_| {
            let gap_ms = kill()?;
            eprintln!("{:20} {:10} {gap_ms:10.0} ms", "recovery", super::throughput::NAME);
            Ok(gap_ms)
        })
        .collect()
}

fn kill() -> Result<f64, BenchError> {
    let cluster = Cluster::start(3, 1)?;
    let dir = cluster.folder("recovery")?;
    let (seen, kept) = (cluster.folder("recovery/seen")?, dir.join("checkpoints"));
    let mut job = Submitted::start(&["recovery-job"], cluster.address(), &dir)?;
    let before = first(&seen, 0, &mut job)?;
    wait_for("a checkpoint of the whole state", || {
        job.check()?;
        Ok(checkpoints::newest_complete(&kept).filter(|c| c.bytes >= FULL_BYTES))
    })?;
    let mut managers = cluster.task_managers().into_iter();
    let victim = managers.find(|pid| children(*pid).contains(&before.pid)).ok_or_else(|| {
        BenchError::Job(format!("no task manager has the process {}", before.pid))
    })?;
    let killed_us = now_us();
    signal::kill(Pid::from_raw(victim.cast_signed()), Signal::SIGKILL)
        .map_err(|e| BenchError::Job(format!("process {victim} could not be killed: {e}")))?;
    let after = first(&seen, killed_us, &mut job)?;
    Ok(after.at_us.saturating_sub(killed_us) as f64 / 1e3)
}

/// The first output of the first subtask after a moment.
fn first(seen: &Path, after_us: u64, job: &mut Submitted) -> Result<Beginning, BenchError> {
    wait_for("output", || {
        job.check()?;
        Ok(beginnings(seen)?.into_iter().rfind(|b| b.subtask == 0 && b.at_us > after_us))
    })
}

/// The job; it runs until it is cancelled.
///
/// # Errors
/// It fails.
pub fn job(cluster: &str, dir: &Path) -> Result<(), BenchError> {
    let env = Environment::builder()
        .parallelism(2)
        .set("cluster", cluster)
        .set("checkpoint-dir", &dir.join("checkpoints").display().to_string())
        .set("checkpoint-interval", "1s")
        .set("progress", "never")
        .build()?;
    rewritten::<N_KEYS>(&env, None, RATE).sink(Beginnings(dir.join("seen")));
    env.execute("recovery")?;
    Ok(())
}
