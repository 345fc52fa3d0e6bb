//! What a benchmark job is given and what it hands back, whoever runs it.
//!
//! The hand-written loops ([`crate::loops`]) and the engine's jobs ([`crate::jobs`]) have the same
//! signature, so the harness times, checks and reports them in the same way.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::checkpoints::{CheckpointFolder, Holds};
use crate::prng::mix64;
use crate::text::Text;

/// A measured job: runs to the end of its input.
///
/// What happens inside is on the clock, so inputs that take time to load come in the [`Setup`].
pub type Job = fn(&Setup) -> Result<Outcome, BenchError>;

/// What a job is given.
#[derive(Debug, Default)]
pub struct Setup {
    /// Events that the source emits in all; lines for W3. Source subtask s of P emits events s,
    /// s+P, s+2P, … below `n`.
    pub n: u64,
    /// Subtasks of every operator.
    pub parallelism: usize,
    /// The lines of W3; `None` for the other rows.
    pub text: Option<Text>,
    /// Whether state lies in RocksDB, and the option `state-memory` for it.
    pub rocksdb: Option<&'static str>,
    /// Where the job's checkpoints go, if it takes any.
    pub checkpoints: Option<CheckpointFolder>,
    /// The job manager of the cluster that runs the job, if this process does not.
    pub cluster: Option<String>,
}

impl Setup {
    /// The lines of W3.
    ///
    /// # Errors
    /// The row did not ask for a text.
    pub fn text(&self) -> Result<&Text, BenchError> {
        self.text.as_ref().ok_or(BenchError::NoText)
    }
}

/// What a job hands back.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What the sink saw.
    pub sink: Sink,
    /// Latencies in nanoseconds, for the rows that measure them (see [`crate::pace`]).
    pub latency_ns: Option<Histogram<u64>>,
    /// For how long checkpoints held its tasks up, if it took any.
    pub holds: Option<Holds>,
    /// How long its tasks ran, in seconds, if that was elsewhere: without what it takes to get them there.
    pub span_s: Option<f64>,
}

impl From<Sink> for Outcome {
    fn from(sink: Sink) -> Self {
        Self { sink, ..Self::default() }
    }
}

/// The sink of every workload: counts the records and adds up a 64-bit value of each, wrapping, so
/// that the sum over the subtasks does not depend on their number or on the order of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    /// Records seen.
    pub records: u64,
    /// Wrapping sum of their values.
    pub checksum: u64,
}

impl Sink {
    /// Takes a record, given the value of it that the workload defines.
    #[inline(always)]
    pub fn add(&mut self, value: u64) {
        self.records += 1;
        self.checksum = self.checksum.wrapping_add(value);
    }

    /// Takes a running count of a key: the sink of W2 and W5.
    #[inline(always)]
    pub fn add_count(&mut self, key: u64, count: u64) {
        self.add(mix64(key ^ (count << 32)));
    }
}

impl std::iter::Sum for Sink {
    fn sum<I: Iterator<Item = Self>>(sinks: I) -> Self {
        sinks.fold(Self::default(), |total, sink| Self {
            records: total.records + sink.records,
            checksum: total.checksum.wrapping_add(sink.checksum),
        })
    }
}

/// Why a benchmark could not be run, or does not count.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No row has this id.
    #[error("there is no row {0:?}; rows: {1}")]
    UnknownRow(String, String),
    /// The row has no job for this engine.
    #[error("row {row} has no {engine} job")]
    NoJob {
        /// The row.
        row: &'static str,
        /// Who should run it.
        engine: &'static str,
    },
    /// The hand-written loops are written for two threads.
    #[error("the hand-written loops run on 2 threads, not {0}")]
    LoopParallelism(usize),
    /// W3's lines were not loaded.
    #[error("this row needs the text of W3")]
    NoText,
    /// W3's lines could not be read.
    #[error("cannot read the text of W3: {path}: {reason} (MILLSTREAM_DATA names the data folder)")]
    Text {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A result is wrong.
    #[error("{row} by {engine} at n = {n}: {actual:?}, expected {expected:?}")]
    WrongResult {
        /// The row.
        row: String,
        /// Who ran it.
        engine: String,
        /// Events.
        n: u64,
        /// What came out.
        actual: Sink,
        /// What should have.
        expected: Sink,
    },
    /// The process that ran a row failed.
    #[error("{command}: {reason}")]
    Child {
        /// What was run.
        command: String,
        /// What went wrong.
        reason: String,
    },
    /// The command that starts clusters is missing.
    #[error(
        "{0} is missing: build the package millstream-cli with the same profile (`make bench-cluster` does)"
    )]
    NoCommand(std::path::PathBuf),
    /// The job itself failed.
    #[error("{0}")]
    Job(String),
    /// A report could not be written or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A report could not be written or read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}
