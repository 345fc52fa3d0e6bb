//! What whoever runs a job must know of its configuration: checkpoints, restarts, where it begins.
//!
//! It travels with the job. All other settings concern only the processes that run its tasks, and stay with the
//! program that made them.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a job goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreFrom {
    /// The newest completed checkpoint in its checkpoint folder.
    Latest,
    /// The checkpoint or savepoint in this folder.
    Path(PathBuf),
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSettings {
    /// When checkpoints are taken.
    pub checkpoints: CheckpointConfig,
    /// Where they go; without a folder there are none.
    pub checkpoint_dir: Option<PathBuf>,
    /// What the job goes on from, if not from the beginning.
    pub restore: Option<RestoreFrom>,
    /// Whether what it is restored from is its own to delete.
    pub claims: bool,
    /// Whether state that no operator asks for is left behind.
    pub allow_non_restored: bool,
    /// Whether a damaged newest checkpoint is passed over.
    pub allow_older: bool,
    /// When it is run again after a failure.
    pub restart: RestartStrategy,
    /// Time that tasks have to end when they are told to, in ms; then their process is ended.
    pub cancel_timeout_ms: u64,
}

/// When checkpoints are taken and how many are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointConfig {
    /// Time from the start of one to the start of the next, in ms. `None`: only savepoints, and the last one
    /// when all tasks have ended.
    pub interval_ms: Option<u64>,
    /// Least time from the end of one, of whatever kind, to the start of the next periodic one, in ms.
    pub min_pause_ms: u64,
    /// Time within which all tasks must have acknowledged, in ms.
    pub timeout_ms: u64,
    /// How many periodic ones may fail in a row without failing the job; `None`: any number.
    pub tolerable_failures: Option<u32>,
    /// How many completed ones are kept; the newest always is.
    pub retained: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        CheckpointConfig {
            interval_ms: None,
            min_pause_ms: 0,
            timeout_ms: 10 * 60 * 1000,
            tolerable_failures: None,
            retained: 1,
        }
    }
}

/// How often and how soon a job is run again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum RestartStrategy {
    /// Never.
    #[default]
    None,
    /// So often in all.
    FixedDelay {
        /// How often.
        attempts: u32,
        /// Time before each, in ms.
        delay_ms: u64,
    },
    /// Without end: at once, then less and less soon.
    ExponentialDelay {
        /// Time before the second in a row, in ms; there is none before the first.
        initial_ms: u64,
        /// The longest time, in ms.
        max_ms: u64,
        /// How much longer each is than the one before; less than 1 counts as 1.
        multiplier: f64,
        /// When the job has run for so long, in ms, the next failure is the first again.
        reset_after_ms: u64,
        /// By how many percent each is longer. Drawn by whoever starts the job, so that jobs that fail
        /// together do not all come back together.
        jitter_percent: u32,
    },
    /// Unless failures come too often.
    FailureRate {
        /// How many are tolerated within an interval.
        max_failures: u32,
        /// The interval, in ms.
        interval_ms: u64,
        /// Time before each, in ms.
        delay_ms: u64,
    },
}

impl RestartStrategy {
    /// What a job has that takes checkpoints and says nothing else: at once, then after 100 ms, doubling up
    /// to a minute, and anew when it has run for a minute.
    pub fn exponential() -> Self {
        RestartStrategy::ExponentialDelay {
            initial_ms: 100,
            max_ms: 60_000,
            multiplier: 2.0,
            reset_after_ms: 60_000,
            jitter_percent: 0,
        }
    }
}
