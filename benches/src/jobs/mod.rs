//! The workloads as Millstream jobs.
//!
//! A job builds its graph, executes it at [`Setup::parallelism`](crate::workload::Setup) and hands
//! back what its sinks saw. It reads the same generators as the loops: [`crate::prng`],
//! [`crate::nexmark`], [`crate::text`] and, for W5, [`crate::pace`].

mod keyed;
mod large;
mod latency;
mod sink;
mod stateless;
mod windows;
mod words;

use crate::checkpoints::Holds;
use crate::workload::{BenchError, Job, Outcome, Setup};
use millstream::Environment;
use sink::{SEEN, Seen};

pub(crate) use large::rewritten;

/// Every job, by the id of its row.
const JOBS: &[(&str, Job)] = &[
    ("w1-chain", stateless::w1_chain),
    ("w1-rebalance", stateless::w1_rebalance),
    ("w2-100k", keyed::w2::<100_000>),
    ("w2-10m", keyed::w2::<10_000_000>),
    ("w2-100k-ckpt", keyed::w2::<100_000>),
    ("w2-10m-ckpt", keyed::w2::<10_000_000>),
    ("w2-100k-rocksdb", keyed::w2::<100_000>),
    ("w2-100k-rocksdb-ckpt", keyed::w2::<100_000>),
    ("w2-10m-rocksdb", keyed::w2::<10_000_000>),
    ("w2-10m-rocksdb-128m", keyed::w2::<10_000_000>),
    ("w2-10m-rocksdb-ckpt", keyed::w2::<10_000_000>),
    ("w3-string", words::string),
    ("w3-text", words::text),
    ("q0", stateless::q0),
    ("q1", stateless::q1),
    ("q2", stateless::q2),
    ("q3", keyed::q3),
    ("q5", windows::q5),
    #[cfg(feature = "rocksdb")]
    ("q5-rocksdb-1m", windows::q5),
    ("q7", windows::q7),
    ("q8", windows::q8),
    #[cfg(feature = "rocksdb")]
    ("q8-rocksdb-8m", windows::q8),
    ("hour-tumbling", windows::hour_tumbling),
    ("hour-sliding", windows::hour_sliding),
    ("w5-10k", latency::run::<10_000>),
    ("w5-100k", latency::run::<100_000>),
    ("w5-100k-ckpt", latency::run::<100_000>),
    ("w6-100m", large::run::<200_000, 100_000>),
    ("w6-1g", large::run::<2_000_000, 100_000>),
    ("w6-4g", large::run::<8_000_000, 400_000>),
    #[cfg(feature = "rocksdb")]
    ("w6-100m-rocksdb", large::run::<200_000, 100_000>),
    #[cfg(feature = "rocksdb")]
    ("w6-1g-rocksdb", large::run::<2_000_000, 100_000>),
];

/// The job of a row.
pub fn job(row: &str) -> Option<Job> {
    JOBS.iter().find(|entry| entry.0 == row).map(|entry| entry.1)
}

/// The environment of a job: the engine's defaults, but for the parallelism, the state's place and checkpoints, and
/// without a progress bar.
fn environment(setup: &Setup) -> Result<Environment, BenchError> {
    let mut builder =
        Environment::builder().parallelism(setup.parallelism).set("progress", "never");
    if let Ok(driver) = std::env::var("BENCH_DRIVER") {
        builder = builder.set("driver", &driver);
    }
    if let Some(memory) = setup.rocksdb {
        builder = builder.set("state-backend", "rocksdb").set("state-memory", memory);
    }
    if let Some(cluster) = &setup.cluster {
        builder = builder.set("cluster", cluster);
        if std::env::var_os("MILLSTREAM_DATA").is_some() {
            builder = builder.set("pass-environment", "MILLSTREAM_DATA");
        }
    }
    if let Some(folder) = &setup.checkpoints {
        builder = folder.options().iter().fold(builder, |b, (key, value)| b.set(key, value));
    }
    Ok(builder.build()?)
}

/// Runs what was built: what the sinks saw, and for how long checkpoints held tasks up.
fn run(setup: &Setup, env: &Environment, name: &str) -> Result<Outcome, BenchError> {
    let result = env.execute(name)?;
    let seen = result.accumulator::<Seen>(SEEN);
    let seen = seen.ok_or_else(|| BenchError::Job("no sink told what it saw".into()))?;
    Ok(Outcome {
        sink: seen.totals,
        latency_ns: None,
        holds: Holds::of(&result.metrics()),
        span_s: setup.cluster.is_some().then(|| seen.span_s()),
    })
}

impl From<millstream::model::Error> for BenchError {
    fn from(error: millstream::model::Error) -> Self {
        BenchError::Job(error.to_string())
    }
}
