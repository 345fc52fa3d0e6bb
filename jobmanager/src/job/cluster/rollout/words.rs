//! What a rollout hears and what it wants done.

use crate::job::link::AttemptRecord;
use millstream_model::{CheckpointId, Error, Result};
use millstream_proto::message::{
    Begin, FromHost, HostRun, SnapshotEvent, TaskEvent, TaskManagerId, TaskState, ToHost,
};

/// How long hosts have to tell what accumulated, in ms.
pub(super) const FINISH_MS: u64 = 5_000;
/// How long after a host has lost another it may take until it is known what became of that one, in ms. Those around
/// it notice a death first, but can only say that a connection broke.
pub(super) const CAUSE_MS: u64 = 1_500;

/// What happens.
#[derive(Debug)]
pub(in crate::job::cluster) enum Input {
    /// Tasks are to run. The token is drawn by whoever asks.
    Deploy { attempt: u32, tasks: Vec<usize>, begin: Begin, token: [u8; 16] },
    /// They run already: another leader has deployed them. Hosts report until the deadline.
    Adopt { record: AttemptRecord },
    /// All tasks of an attempt have restored their state.
    Go { attempt: u32 },
    /// They are to end.
    Cancel { tasks: Vec<usize> },
    /// All of them have answered. Whether they are to run again.
    Close { tasks: Vec<usize>, again: bool },
    /// The job is over. Whether it matters what accumulated.
    Finish { wants_results: bool },
    /// Slots are there.
    Granted(Vec<TaskManagerId>),
    /// Slots are missing.
    Missing(usize),
    /// The record of the attempt is durable, or cannot be.
    Recorded(Result<()>),
    /// A task manager has begun a session.
    Joined { id: TaskManagerId, host: Option<HostRun> },
    /// A task manager is gone.
    Lost { id: TaskManagerId, error: Error },
    /// The process of a host is gone.
    HostEnded { id: TaskManagerId, run: HostRun, error: Error },
    /// A host said something.
    FromHost { id: TaskManagerId, run: HostRun, message: FromHost },
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub(in crate::job::cluster) enum Effect {
    /// Ask for so many slots in all; tasks run in these.
    RequestSlots(usize, Vec<TaskManagerId>),
    /// Make this durable, and say `Recorded`.
    Record(AttemptRecord),
    /// A host should run on this task manager.
    StartHost(TaskManagerId, HostRun),
    /// The host on this task manager should not run.
    StopHost(TaskManagerId),
    /// Tell a host.
    Tell(TaskManagerId, ToHost),
    /// All tasks of the attempt run, on these hosts.
    Deployed(u32, Vec<TaskManagerId>),
    /// A task of the attempt has restored its state, and waits.
    Restored(u32, usize),
    /// These tasks of the attempt have failed together.
    Failed(u32, Vec<usize>, Error),
    /// A host of the attempt can be reached again.
    Reachable(u32),
    /// What became of a task of the attempt.
    Task(u32, TaskEvent),
    /// What became of a snapshot, of whatever attempt.
    Snapshot(u32, SnapshotEvent),
    /// The tasks of the former leader were found.
    Adopted {
        attempts: Vec<AdoptedAttempt>,
        tasks: Vec<(usize, TaskState)>,
        newest_checkpoint: Option<CheckpointId>,
    },
    /// The hosts are gone; what accumulated on all of them, and why some of that is not known.
    Finished(Vec<(String, Vec<Vec<u8>>)>, Option<Error>),
}

/// An attempt that was found running.
#[derive(Debug)]
pub(in crate::job::cluster) struct AdoptedAttempt {
    pub(in crate::job::cluster) attempt: u32,
    pub(in crate::job::cluster) hosts: Vec<TaskManagerId>,
    pub(in crate::job::cluster) tasks: Vec<usize>,
}

/// How long things may take, in ms.
#[derive(Clone, Copy, Debug)]
pub(in crate::job::cluster) struct Timeouts {
    /// Tasks that were told to end.
    pub(in crate::job::cluster) cancel_ms: u64,
    /// Task managers that have to find the new leader.
    pub(in crate::job::cluster) reattach_ms: u64,
}
