//! What becomes of tasks and of their snapshots: the same words in one process and between processes.

use millstream_model::{CheckpointId, Error};
use millstream_state::snapshot::TaskSnapshot;
use serde::{Deserialize, Serialize};

/// What became of a task. Each task of an attempt is told of exactly once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum TaskEvent {
    /// It has finished.
    Finished {
        /// Which.
        task: usize,
    },
    /// It failed.
    Failed {
        /// Which.
        task: usize,
        /// Why.
        error: Error,
    },
    /// It was ended because the host was told to.
    Cancelled {
        /// Which.
        task: usize,
    },
}

impl TaskEvent {
    /// Which task it is about.
    pub fn task(&self) -> usize {
        match self {
            TaskEvent::Finished { task }
            | TaskEvent::Failed { task, .. }
            | TaskEvent::Cancelled { task } => *task,
        }
    }
}

/// What the threads that step tasks tell of them.
#[derive(Debug)]
pub enum HostEvent {
    /// A task has restored its state, and is held.
    Restored {
        /// Which.
        task: usize,
    },
    /// A task is over.
    Over(TaskEvent),
}

/// What became of a task's part in a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum SnapshotEvent {
    /// It is durable.
    Taken {
        /// The task.
        task: usize,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What was stored.
        snapshot: TaskSnapshot,
    },
    /// It could not be taken.
    Declined {
        /// The task.
        task: usize,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        error: Error,
    },
    /// The task has come to the end of its input and waits for its last checkpoint.
    Ended {
        /// The task.
        task: usize,
    },
}
