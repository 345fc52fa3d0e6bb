//! The words of checkpoints: which one, what for, and the barrier that travels for it.
//!
//! A barrier is in band: it divides what is in the snapshot from what is not (Carbone et al., *Lightweight
//! Asynchronous Snapshots for Distributed Dataflows*, section 4). It names the checkpoint and nothing that
//! could become wrong on the way; whoever controls the job is checked where control enters.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Number of a checkpoint. Grows strictly over the whole life of a job, also over restarts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a snapshot is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotKind {
    /// For recovery: belongs to the job, which deletes it when newer ones are there.
    Checkpoint,
    /// For the user: belongs to them, stands on its own, always aligned.
    Savepoint,
    /// A savepoint after which the job stops; with `drain`, event time is brought to its end first, so that
    /// windows and timers fire, and operators do what they do at the end. That is the end of the job: whatever is restored from it
    /// ends when it has committed what belongs before it.
    Stop {
        /// Whether event time ends.
        drain: bool,
    },
}

impl SnapshotKind {
    /// Whether the user owns it.
    pub fn is_savepoint(self) -> bool {
        !matches!(self, SnapshotKind::Checkpoint)
    }

    /// Whether event time is brought to its end before it, so that nothing comes after it.
    pub fn drains(self) -> bool {
        matches!(self, SnapshotKind::Stop { drain: true })
    }
}

/// What separates the records before a checkpoint from those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// What it is for.
    pub kind: SnapshotKind,
}

/// How much of a job's results survives a failure unharmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointMode {
    /// Each record counts once: channels wait for each other at a barrier.
    #[default]
    ExactlyOnce,
    /// Barriers wait for nobody; records may count twice after a recovery.
    AtLeastOnce,
    /// Each record counts once: a barrier overtakes what is queued, which becomes part of the snapshot.
    Unaligned,
    /// Each record counts once: channels wait for each other, and when that takes too long the barrier overtakes.
    Timed,
}

impl CheckpointMode {
    /// Whether barriers may overtake.
    pub fn may_overtake(self) -> bool {
        matches!(self, CheckpointMode::Unaligned | CheckpointMode::Timed)
    }
}

/// What an operator is told about checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// This checkpoint and all before it are complete: what was staged for them may become visible.
    Complete(CheckpointId),
    /// This checkpoint will never be complete: what was staged for it belongs to the next one.
    Aborted(CheckpointId),
}

/// What whoever runs the checkpoints tells a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Take this checkpoint: a source lets the barrier into its stream; any other task waits for it to come
    /// through its inputs, unless they have ended.
    Barrier(Barrier),
    /// A checkpoint was completed or given up.
    Notice(Notice),
    /// This checkpoint is complete, and it holds everything that matters: commit what belongs before it, unless that was
    /// done when its completion was told, and end, whatever is left of the input.
    Release(CheckpointId),
}
