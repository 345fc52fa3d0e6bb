//! How long it takes from starting a program to the first output of its job, when the cluster has the program.

use super::beginnings::{Beginnings, beginnings};
use super::{Cluster, Submitted};
use crate::measure::now_us;
use crate::workload::BenchError;
use millstream::prelude::*;
use std::path::Path;

/// The longest that is aimed at, in ms.
pub const TARGET_MS: f64 = 1000.0;

/// Submits a small job so many times, after a first time that is not counted; for each the time, in ms.
///
/// # Errors
/// The job or the cluster fails.
pub fn measure(n: usize) -> Result<Vec<f64>, BenchError> {
    let cluster = Cluster::start(2, 1)?;
    let mut times_ms = Vec::new();
    for turn in 0..=n {
        let dir = cluster.folder(&format!("submission-{turn}"))?;
        let began_us = now_us();
        Submitted::start(&["submission-job"], cluster.address(), &dir)?.wait()?;
        let first = beginnings(&dir)?.first().map(|beginning| beginning.at_us);
        let first_us = first.ok_or_else(|| BenchError::Job("it had no output".into()))?;
        let time_ms = first_us.saturating_sub(began_us) as f64 / 1e3;
        if turn > 0 {
            eprintln!("{:20} {:10} {time_ms:10.0} ms", "submission", super::throughput::NAME);
            times_ms.push(time_ms);
        }
    }
    Ok(times_ms)
}

/// The job: two subtasks, a key, a count.
///
/// # Errors
/// It fails.
pub fn job(cluster: &str, dir: &Path) -> Result<(), BenchError> {
    let env = Environment::builder()
        .parallelism(2)
        .set("cluster", cluster)
        .set("progress", "never")
        .build()?;
    env.generate(1000, |i| i)
        .key_by(|i| i % 10)
        .count()
        .uid("count")
        .sink(Beginnings(dir.to_owned()));
    env.execute("submission")?;
    Ok(())
}
