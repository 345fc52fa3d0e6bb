//! The checkpoints of one job: the [`Coordinator`], and the words in which it is spoken to.
//!
//! A coordinator exists for a job that takes checkpoints; a job without them has none.

mod coordinator;
mod pending;

pub use coordinator::Coordinator;
pub use millstream_model::settings::CheckpointConfig;

use millstream_model::{Barrier, CheckpointId, Error, SnapshotKind};

/// What happens to a job's checkpoints. `A` is what a task's acknowledgement says of its snapshot.
#[derive(Debug)]
pub enum Input<A> {
    /// A checkpoint from before is the job's and counts among the retained.
    Restored {
        /// Its number.
        checkpoint: CheckpointId,
    },
    /// Tasks run. Checkpoints begin when all do.
    Started {
        /// No checkpoint with this number or a higher one was ever begun.
        first_id: u64,
        /// Which attempt of the job they belong to.
        attempt: u32,
        /// Which, by number.
        tasks: Vec<usize>,
    },
    /// They failed or ended, and answer no more.
    Stopped {
        /// Which, by number.
        tasks: Vec<usize>,
    },
    /// Time has passed.
    Tick,
    /// Somebody wants a savepoint.
    TriggerSavepoint {
        /// What the answer refers to.
        request: u64,
        /// What it is for. `Checkpoint` means a checkpoint of the job's, now.
        kind: SnapshotKind,
    },
    /// A task's part of a checkpoint is durable.
    Acked {
        /// The task.
        task: usize,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The attempt the task belongs to.
        attempt: u32,
        /// What it stored.
        snapshot: A,
        /// Whether it had come to the end of its input.
        ended: bool,
    },
    /// A task cannot take part in a checkpoint.
    Declined {
        /// The task.
        task: usize,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The attempt the task belongs to.
        attempt: u32,
        /// Why.
        error: Error,
    },
    /// A task has come to the end of its input and waits for its last checkpoint.
    TaskEnded {
        /// The task.
        task: usize,
        /// The attempt it belongs to.
        attempt: u32,
    },
    /// The manifest is durable.
    Stored {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// The manifest could not be stored, or nobody knows whether it was.
    StoreFailed {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        error: Error,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect<A> {
    /// Tell all tasks: sources inject the barrier, others take it only if their inputs have
    /// ended.
    Trigger {
        /// The barrier.
        barrier: Barrier,
    },
    /// Store the manifest. The answer is `Stored` or `StoreFailed`; it may not be left out.
    Store {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What it is for.
        kind: SnapshotKind,
        /// Who asked for it; `None` if it is periodic.
        request: Option<u64>,
        /// What the tasks stored, by task number.
        snapshots: Vec<A>,
    },
    /// Tell all tasks that this checkpoint is complete: they commit what they staged up to it.
    NotifyComplete(CheckpointId),
    /// Tell all tasks that this checkpoint will not be: what they staged for it goes into the next.
    NotifyAborted(CheckpointId),
    /// Delete what there is of a checkpoint that will not be: its mark, then the manifest, then the rest. May come
    /// again when a task was late.
    Discard {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Delete what only this checkpoint needs: it was complete, newer ones are enough.
    Subsume {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Answer a request; one that stops the job, when that has ended or runs again.
    SavepointDone {
        /// Which.
        request: u64,
        /// The number under which it was taken.
        checkpoint: CheckpointId,
    },
    /// Answer a request.
    SavepointFailed {
        /// Which.
        request: u64,
        /// Why.
        error: Error,
    },
    /// Show why a periodic checkpoint failed; the job runs on.
    Failed {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        error: Error,
    },
    /// More checkpoints failed in a row than the job tolerates.
    FailJob {
        /// What to fail it with.
        error: Error,
    },
    /// Let the tasks go: all have ended, and this checkpoint is complete and covers all the ends.
    Release(CheckpointId),
    /// End the job: the savepoint it was to stop with is complete, and the tasks were told.
    StopJob(CheckpointId),
    /// Send a `Tick` at this time, instead of at any named before.
    WakeAt(u64),
}

#[cfg(test)]
mod tests;
