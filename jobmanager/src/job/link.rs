//! Between the master of a job and the rest of the job manager.
//!
//! A master runs on a thread of its own, because it writes manifests; everything it hears comes through one inbox,
//! and everything it says goes through a [`Link`]. Neither side ever waits for the other, but for records that
//! must be durable.

use crossbeam_channel::Sender;
use millstream_model::Error;
use millstream_model::{LeaderEpoch, Result, SnapshotKind};
use millstream_proto::message::{
    FromHost, HostRun, JobDetail, JobId, Outcome, Submission, TaskManagerId, ToTaskManager,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A job as its master is given it.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Its id.
    pub id: JobId,
    /// What was submitted.
    pub submission: Submission,
    /// When, in ms since the epoch.
    pub submitted_at_ms: i64,
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// The newest attempt that was recorded: the job is taken over from another leader.
    pub attempt: Option<AttemptRecord>,
}

/// The attempts of a job that run, as they are recorded before the tasks of the newest are deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The number of the newest.
    pub attempt: u32,
    /// The job's slots.
    pub slots: Vec<TaskManagerId>,
    /// Those of which tasks run, oldest first.
    pub running: Vec<RunningAttempt>,
}

/// Where the tasks of an attempt run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningAttempt {
    /// Its number.
    pub attempt: u32,
    /// The task managers whose hosts run it, by the host's number.
    pub hosts: Vec<TaskManagerId>,
    /// For each task of the job, by its number, the host;
    /// [`NOWHERE`](millstream_proto::message::NOWHERE) if it runs in another attempt.
    pub placement: Vec<u32>,
}

/// What a master hears.
#[derive(Debug)]
pub enum JobInput {
    /// It has as many slots as it asked for: one entry a slot, the task manager it is on.
    Granted(Vec<TaskManagerId>),
    /// It does not; so many are missing. It is told again when that changes.
    Missing(usize),
    /// A task manager has begun a session: also when it had one before.
    TaskManagerJoined {
        /// Which.
        id: TaskManagerId,
        /// The host of this job that runs there, if one does.
        host: Option<HostRun>,
    },
    /// A task manager is gone: its session broke and it did not come back in time, or its process ended.
    TaskManagerLost {
        /// Which.
        id: TaskManagerId,
        /// How.
        error: Error,
    },
    /// A host of this job said something.
    FromHost {
        /// On which task manager.
        id: TaskManagerId,
        /// Which of those that ran there.
        run: HostRun,
        /// What.
        message: FromHost,
    },
    /// The process of a host of this job is gone.
    HostEnded {
        /// On which task manager.
        id: TaskManagerId,
        /// Which of those that ran there.
        run: HostRun,
        /// How.
        error: Error,
    },
    /// Somebody wants it to end.
    Cancel,
    /// Somebody wants a savepoint.
    Savepoint {
        /// What for.
        kind: SnapshotKind,
        /// The folder to put it into.
        dir: PathBuf,
        /// Where the answer goes: its folder, when it is complete and, if it stops the job, the job has ended.
        reply: Reply<Result<PathBuf>>,
    },
    /// Somebody wants to know how it is.
    Detail(Reply<JobDetail>),
    /// The job manager ends, or is no longer the leader: the master ends and leaves its tasks alone.
    Abandon,
}

/// Where an answer goes: called once.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// Calls this.
    pub fn new(answer: impl FnOnce(T) + Send + 'static) -> Self {
        Reply(Box::new(answer))
    }

    /// Answers.
    pub fn answer(self, value: T) {
        (self.0)(value);
    }
}

impl<T: Send + 'static> From<Sender<T>> for Reply<T> {
    fn from(sender: Sender<T>) -> Self {
        // Whoever asked may have gone.
        Reply::new(move |value| drop(sender.send(value)))
    }
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

/// What a master says. Never blocks, but for `record`.
pub trait Link: Send + Sync {
    /// Says something to a task manager. What cannot be delivered is dropped: then the master will hear that the
    /// task manager is lost.
    fn send(&self, to: TaskManagerId, message: ToTaskManager);
    /// Asks for slots: as many in all, those it has included. The answer is `Granted` or `Missing`. Slots on task
    /// managers that are lost are given up by that, and others while it waits, but for those that tasks run in (`in_use`).
    fn request_slots(&self, n_slots: usize, in_use: Vec<TaskManagerId>);
    /// Makes an attempt durable, under the leader's fence. When it returns, another leader will find it.
    ///
    /// # Errors
    /// If it cannot be written, or this is no longer the leader.
    fn record(&self, attempt: &AttemptRecord) -> Result<()>;
    /// How the job is at its end; before `ended`. What people may still want to see of it: its failures, its checkpoints.
    fn leave(&self, detail: JobDetail);
    /// The job is over: its end is to be made durable, its slots are free. The master's last word.
    fn ended(&self, outcome: Outcome);
}
