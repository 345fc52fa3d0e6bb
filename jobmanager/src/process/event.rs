//! What the shell hears: from sessions, from masters, from the store, from clients.
//!
//! The inbox itself has no bound, because masters must never wait for the shell. What comes from outside is bounded
//! where it comes in: a session has so many messages under way, a connection so many requests.

use super::outbox::Outbox;
use crate::job::link::JobInput;
use crate::store::{JobRecord, SubmittedJob};
use crossbeam_channel::Sender;
use millstream_model::{Error, LeaderEpoch, Result};
use millstream_proto::message::{
    FromTaskManager, Hello, JobId, LogStream, Outcome, ProgramId, Submission, TaskManagerId,
    TaskManagerRow,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// See the module's text.
#[derive(Debug)]
pub(super) enum Event {
    /// A task manager has begun a session.
    Attached { session: u64, hello: Hello, outbox: Outbox },
    /// It said something.
    Said {
        from: TaskManagerId,
        session: u64,
        message: FromTaskManager,
        permit: OwnedSemaphorePermit,
    },
    /// Its session is over.
    Detached { id: TaskManagerId, session: u64, error: Error },
    /// A former leader had this job.
    Found(Box<JobRecord>),
    /// A master asks for slots.
    Requested { job: JobId, n_slots: usize, in_use: Vec<TaskManagerId> },
    /// A master has told a task manager to start a host.
    HostStarted { job: JobId, id: TaskManagerId },
    /// A master's last word.
    Ended(Box<Outcome>),
    /// A master is gone.
    MasterGone { job: JobId },
    /// What became of a write.
    SubmissionStored(JobId, Result<()>),
    /// What became of a write.
    CancelStored(JobId, Result<()>),
    /// What became of a write.
    OutcomeStored(JobId, Result<()>),
    /// Another leader has written to the store.
    Fenced(LeaderEpoch),
    /// A client wants something.
    Asked(Question),
}

/// Where an answer goes. Whoever asked may have gone; then nobody hears it.
pub(super) type Answer<T> = oneshot::Sender<T>;

/// What clients want, of the shell.
#[derive(Debug)]
pub(super) enum Question {
    /// Run a job.
    Submit { submission: Box<Submission>, answer: Answer<Result<JobId>> },
    /// End a job.
    Cancel { job: JobId, answer: Answer<Result<()>> },
    /// Wait for the end of a job.
    Await { job: JobId, answer: Answer<Result<End>> },
    /// Where a job stands.
    Find { job: JobId, answer: Answer<Result<Standing>> },
    /// Say something to a job's master.
    Tell { job: JobId, input: JobInput, answer: Answer<Result<()>> },
    /// How everything is.
    Everything { answer: Answer<Everything> },
    /// The programs of all jobs that are remembered.
    ProgramsInUse { answer: Answer<BTreeSet<ProgramId>> },
    /// What a job's program has printed.
    ReadLog { log: LogRange, answer: Answer<Result<LogPiece>> },
}

/// The end of a job.
#[derive(Debug)]
pub(super) enum End {
    /// It is there.
    Now(Arc<Outcome>),
    /// It will come through this.
    Later(oneshot::Receiver<Arc<Outcome>>),
}

/// Where a job stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) job: Arc<SubmittedJob>,
    pub(crate) stage: Stage,
}

/// Whom to ask for more.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// It is being stored; nobody knows more.
    Submitting,
    /// Its master.
    Running(Sender<JobInput>),
    /// Its master has said its last word, which is being stored; nobody hears it before that is done.
    Ending,
    /// How it ended.
    Over(Arc<Outcome>),
}

/// How everything is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Everything {
    pub(crate) task_managers: Vec<TaskManagerRow>,
    pub(crate) jobs: Vec<Standing>,
}

/// A piece of what a program has printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogRange {
    pub(super) job: JobId,
    pub(super) task_manager: Option<TaskManagerId>,
    pub(super) stream: LogStream,
    pub(super) from: Option<u64>,
    pub(super) limit: u64,
}

/// The answer.
#[derive(Debug)]
pub(super) struct LogPiece {
    pub(super) task_manager: TaskManagerId,
    pub(super) from: u64,
    pub(super) total: u64,
    pub(super) bytes: Vec<u8>,
}
