//! Between the job manager and a task manager.
//!
//! A session is a stream in each direction. It begins with [`FromTaskManager::Hello`] and its answer; when it
//! breaks, hosts run on, and the next session begins with what there is then. What hosts said and nobody has
//! confirmed is said again, with the same number.

use super::{FromHost, HostStart, JobId, LeaderEpoch, ProgramId, TaskManagerId, ToHost};
use millstream_model::Error;
use serde::{Deserialize, Serialize};

/// Tells one host of a job on a task manager from the next. Of what an earlier one said or how it ended, which may be heard
/// late, whoever asked for another must not take it for the present one's. Leaders count them, from their epoch on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct HostRun(pub u64);

impl HostRun {
    /// Smaller than all that a leader of this epoch gives.
    pub fn before_all_of(epoch: LeaderEpoch) -> Self {
        HostRun(epoch.0 << 32)
    }

    /// The next.
    #[must_use]
    pub fn next(self) -> Self {
        HostRun(self.0 + 1)
    }
}

/// A host that should run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Which of the job's.
    pub run: HostRun,
    /// The program.
    pub program: ProgramId,
    /// Length of its executable, in bytes.
    pub program_bytes: u64,
    /// The name of the job, for people.
    pub name: String,
    /// What the host is told first.
    pub start: HostStart,
}

/// How a task manager introduces itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Its name, new for every process.
    pub id: TaskManagerId,
    /// Its release.
    pub version: String,
    /// Where it runs, for people.
    pub hostname: String,
    /// Its process, for people.
    pub pid: u32,
    /// How many slots it offers.
    pub n_slots: usize,
    /// The newest leader it has heard.
    pub epoch: LeaderEpoch,
    /// The jobs whose hosts run here, and which these are.
    pub hosts: Vec<(JobId, HostRun)>,
    /// Where its metrics can be read, if they can: `ADDRESS:PORT`.
    pub metrics_address: Option<String>,
}

/// What a program has printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogStream {
    /// Standard output.
    Out,
    /// Standard error, where also the engine's own log goes.
    Err,
}

/// From the job manager to a task manager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToTaskManager {
    /// The session has begun.
    Welcome {
        /// How often each side says something, at least, in ms.
        heartbeat_ms: u64,
        /// A side that has said nothing for so long, in ms, is taken for gone.
        timeout_ms: u64,
        /// How long hosts run on without a leader, in ms.
        orphan_timeout_ms: u64,
    },
    /// The task manager cannot take part; it should end.
    Refused {
        /// Why.
        error: Error,
    },
    /// Still there.
    Heartbeat,
    /// Everything the task manager said up to this number has been heard.
    Confirm {
        /// The number.
        number: u64,
    },
    /// A host should run; nothing happens if it does. An earlier one of the job is ended.
    StartHost(Box<HostSpec>),
    /// The host of this job should not run (any more).
    StopHost {
        /// The job.
        job: JobId,
    },
    /// For the host of this job.
    ToHost {
        /// The job.
        job: JobId,
        /// What.
        message: ToHost,
    },
    /// Somebody wants to read what the program of a job has printed here.
    ReadLog {
        /// What the answer refers to.
        request: u64,
        /// The job.
        job: JobId,
        /// Which.
        stream: LogStream,
        /// From which byte on; `None`: the last `limit` bytes.
        from: Option<u64>,
        /// At most so many bytes.
        limit: u64,
    },
}

/// From a task manager to the job manager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromTaskManager {
    /// The first word of a session.
    Hello(Hello),
    /// Still there.
    Heartbeat,
    /// A host said something.
    FromHost {
        /// Counts what this task manager said, over all sessions, together with `HostEnded`.
        number: u64,
        /// The job.
        job: JobId,
        /// Which of its hosts.
        run: HostRun,
        /// What.
        message: FromHost,
    },
    /// The process of a host is gone, or could not be started.
    HostEnded {
        /// See `FromHost`.
        number: u64,
        /// The job.
        job: JobId,
        /// Which of its hosts.
        run: HostRun,
        /// How.
        error: Error,
    },
    /// What a program has printed.
    Log {
        /// Which request.
        request: u64,
        /// From which byte on.
        from: u64,
        /// Of how many there are.
        total: u64,
        /// The bytes, or why they cannot be read.
        bytes: Result<Vec<u8>, Error>,
    },
}
