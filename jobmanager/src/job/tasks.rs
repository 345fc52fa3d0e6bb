//! What a master asks of whoever runs the tasks of its job, and what it hears of them.

use super::checkpoints::{Adopted, Participants};
use super::{Begin, Restored};
use millstream_model::{CheckpointId, Error};
use millstream_proto::message::{HostEvent, SnapshotEvent, TaskEvent, TaskState};

/// What becomes of a job's tasks. Of an attempt that they do not run in any more nothing is heard.
pub enum Event {
    /// All tasks of the attempt run.
    Deployed {
        /// How to reach them.
        participants: Box<dyn Participants>,
    },
    /// A task has restored its state, and waits.
    Restored {
        /// Its number.
        task: usize,
    },
    /// They cannot be run: see [`Input::DeployFailed`](crate::scheduler::Input).
    DeployFailed(Error),
    /// These tasks have failed together, by no fault of one of them; they have yet to answer.
    Failed {
        /// Their numbers.
        tasks: Vec<usize>,
        /// Why.
        error: Error,
    },
    /// Some of them can be reached again, and may have missed what they were told.
    Reachable,
    /// What became of a task.
    Task(TaskEvent),
    /// What became of a task's part in a checkpoint.
    Snapshot(SnapshotEvent),
    /// The tasks that another leader has deployed were found.
    Adopted {
        /// By attempt.
        attempts: Vec<Adopted>,
        /// How things are with each.
        tasks: Vec<(usize, TaskState)>,
        /// The newest checkpoint that one has heard of.
        newest_checkpoint: Option<CheckpointId>,
    },
}

impl From<HostEvent> for Event {
    fn from(event: HostEvent) -> Self {
        match event {
            HostEvent::Restored { task } => Event::Restored { task },
            HostEvent::Over(event) => Event::Task(event),
        }
    }
}

/// What became of an attempt's tasks, with its number.
pub type Events = Vec<(u32, Event)>;

/// What is to be run: an attempt, of all tasks of a job or of those that failed.
pub struct Attempt {
    /// Its number.
    pub number: u32,
    /// The numbers of its tasks, in order.
    pub tasks: Vec<usize>,
    /// Where it begins.
    pub begin: Begin,
    /// The same, if that is the job's own, so that its files may be named again.
    pub own: Option<Restored>,
}

/// Where the tasks of a job run.
pub trait Tasks {
    /// Runs the tasks of an attempt. Each answers with one event, also when it could not be run. None of them runs. If they
    /// begin at a checkpoint they restore their state and wait.
    fn deploy(&mut self, now_ms: u64, attempt: Attempt) -> Events;
    /// All tasks of an attempt have restored their state: they go on.
    fn go(&mut self, now_ms: u64, attempt: u32) -> Events;
    /// Ends tasks; each answers with its event.
    fn cancel(&mut self, now_ms: u64, tasks: &[usize]) -> Events;
    /// Tasks have answered: ends what is left of them. What comes of that is the last that is heard of them. If they are to
    /// run `again`, what they have accumulated is forgotten.
    fn close(&mut self, now_ms: u64, tasks: &[usize], again: bool) -> Events;
}
