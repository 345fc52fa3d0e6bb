//! Between a client (a program that submits itself, or the command line) and the job manager.

use super::status::{Cluster, JobDetail, JobOverview};
use super::{HostStart, JobId, LogStream, ProgramId, RequestId, TaskManagerId};
use millstream_model::Error;
use millstream_model::settings::JobSettings;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A job that is to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// The request: a job that was submitted under it before is not submitted again.
    pub request: RequestId,
    /// The program, which was uploaded before.
    pub program: ProgramId,
    /// Length of its executable, in bytes.
    pub program_bytes: u64,
    /// What the job manager must know of the configuration.
    pub settings: JobSettings,
    /// What its hosts are told; the job's id is filled in by the job manager.
    pub start: HostStart,
}

/// What a client wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ClientRequest {
    /// Whether a program is there: `Yes` or `No`.
    HasProgram(ProgramId),
    /// Run a job: `Submitted`.
    Submit(Box<Submission>),
    /// How the cluster is: `Cluster`.
    Cluster,
    /// How a job is: `Job`.
    Job(JobId),
    /// Wait until a job has ended, for so many ms at most: `Ended`, or `Job` if it has not.
    Await {
        /// The job.
        job: JobId,
        /// At most so long, in ms.
        timeout_ms: u64,
    },
    /// End a job, its output so far kept: `Yes`.
    Cancel(JobId),
    /// Take a savepoint: `Savepoint`, when it is complete and, if it stops the job, when it is stored that the job has ended.
    Savepoint {
        /// The job.
        job: JobId,
        /// The folder to put it into.
        dir: PathBuf,
        /// Whether the job is to end with it, and event time with the job.
        stop: Option<Drain>,
    },
    /// What was submitted as a job: `Submission`.
    Submission(JobId),
    /// What a job's program has printed: `Log`.
    Log {
        /// The job.
        job: JobId,
        /// Where; `None` where any host of it ran, if that is one place.
        task_manager: Option<TaskManagerId>,
        /// Which.
        stream: LogStream,
        /// From which byte on; `None`: the last `limit` bytes.
        from: Option<u64>,
        /// At most so many bytes.
        limit: u64,
    },
}

/// Whether event time ends with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain(pub bool);

/// How a job ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The job at its end.
    pub overview: JobOverview,
    /// Its failure.
    pub error: Option<Error>,
    /// What accumulated: name, and the value of each task as bytes.
    pub results: Vec<(String, Vec<Vec<u8>>)>,
    /// Its metrics.
    pub metrics: Vec<super::MetricSample>,
}

/// What the job manager answers. Any request may be answered with `Refused`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ClientReply {
    /// It is so; it was done.
    Yes,
    /// It is not so.
    No,
    /// The request cannot be granted.
    Refused(Error),
    /// The job's id.
    Submitted(JobId),
    /// The cluster.
    Cluster(Box<Cluster>),
    /// A job.
    Job(Box<JobDetail>),
    /// A job has ended.
    Ended(Box<Outcome>),
    /// Where the savepoint is.
    Savepoint(PathBuf),
    /// What was submitted.
    Submission(Box<Submission>),
    /// A piece of what was printed.
    Log {
        /// Where it was printed.
        task_manager: TaskManagerId,
        /// From which byte on.
        from: u64,
        /// Of how many there are.
        total: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
}
