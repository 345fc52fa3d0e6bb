//! The workloads as Millstream jobs.
//!
//! A job builds its graph, executes it at [`Setup::parallelism`](crate::workload::Setup) and hands
//! back what its sinks saw. It reads the same generators as the loops: [`crate::prng`],
//! [`crate::nexmark`], [`crate::text`] and, for W5, [`crate::pace`].

mod keyed;
mod latency;
mod sink;
mod stateless;
mod windows;
mod words;

use crate::workload::{BenchError, Job, Setup};
use millstream::Environment;

/// Every job, by the id of its row.
const JOBS: &[(&str, Job)] = &[
    ("w1-chain", stateless::w1_chain),
    ("w1-rebalance", stateless::w1_rebalance),
    ("w2-100k", keyed::w2::<100_000>),
    ("w2-10m", keyed::w2::<10_000_000>),
    ("w3-string", words::string),
    ("w3-text", words::text),
    ("q0", stateless::q0),
    ("q1", stateless::q1),
    ("q2", stateless::q2),
    ("q3", keyed::q3),
    ("q5", windows::q5),
    ("q7", windows::q7),
    ("q8", windows::q8),
    ("hour-tumbling", windows::hour_tumbling),
    ("hour-sliding", windows::hour_sliding),
    ("w5-10k", latency::run::<10_000>),
    ("w5-100k", latency::run::<100_000>),
];

/// The job of a row.
pub fn job(row: &str) -> Option<Job> {
    JOBS.iter().find(|entry| entry.0 == row).map(|entry| entry.1)
}

/// The environment of a job: the engine's defaults, but for the parallelism and without a progress bar.
fn environment(setup: &Setup) -> Result<Environment, BenchError> {
    let mut builder =
        Environment::builder().parallelism(setup.parallelism).set("progress", "never");
    if let Ok(driver) = std::env::var("BENCH_DRIVER") {
        builder = builder.set("driver", &driver);
    }
    Ok(builder.build()?)
}

impl From<millstream::model::Error> for BenchError {
    fn from(error: millstream::model::Error) -> Self {
        BenchError::Job(error.to_string())
    }
}
