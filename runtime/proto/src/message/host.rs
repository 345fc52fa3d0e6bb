//! Between the job manager and a task host, through the host's task manager.
//!
//! A host is a process of one job. It is told what it needs to become the program that was submitted
//! ([`HostStart`]), and then, attempt by attempt, which tasks to run. Attempts only grow, but a task stays in the one that
//! it was deployed with until its region fails; so a host may run tasks of several. Words for an attempt that it does not run
//! are passed over.

use super::status::MetricSample;
use super::{JobId, SnapshotEvent, TaskEvent};
use millstream_model::job_graph::JobGraph;
use millstream_model::{CheckpointId, Command, Error};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a host needs to become the program that was submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostStart {
    /// The job.
    pub job: JobId,
    /// Arguments of the program, without its name.
    pub arguments: Vec<String>,
    /// Variables of the program's environment, and nothing else than these.
    pub environment: Vec<(String, String)>,
    /// The folder it was submitted from: what relative paths mean, if it is there.
    pub folder: PathBuf,
    /// Which call of `execute` the job is, from 0.
    pub nth_execute: u32,
    /// The job as the client compiled it.
    pub graph: JobGraph,
    /// The engine's settings, in the client's own encoding.
    pub config: Vec<u8>,
    /// Values that were computed once, on the client: name and bytes.
    pub once: Vec<(String, Vec<u8>)>,
}

/// Where an attempt begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Begin {
    /// At the beginning, for the first time.
    Fresh,
    /// At the beginning, although the job ran before: no checkpoint was completed.
    Anew,
    /// At a checkpoint.
    At {
        /// Where it is.
        target: TargetFolder,
        /// Whether it is the job's own, so that its files may be named again.
        is_own: bool,
        /// Whether state that no operator asks for is passed over.
        allow_non_restored: bool,
    },
}

/// A folder for a checkpoint, in a storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFolder {
    /// The storage's folder.
    pub dir: PathBuf,
    /// The folder in it.
    pub folder: String,
}

/// Where [`Deployment::placement`] says that a task is not of the attempt.
pub const NOWHERE: u32 = u32::MAX;

/// The tasks of an attempt, over all hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The attempt.
    pub attempt: u32,
    /// Where it begins.
    pub begin: Begin,
    /// Where each host listens for records.
    pub hosts: Vec<SocketAddr>,
    /// Which of them is told.
    pub me: u32,
    /// For each task of the job, by its number, the host that runs it; [`NOWHERE`] if it is not of this attempt.
    pub placement: Vec<u32>,
    /// What hosts of this attempt show each other.
    pub token: [u8; 16],
    /// The splits of each source, by operator number, as one host found them for all tasks.
    pub splits: Vec<(usize, Vec<u8>)>,
}

/// From the job manager to a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToHost {
    /// What must happen once before any task of an attempt runs: sinks are prepared, splits are found. Told to
    /// one host; the answer is `Prepared` or `DeployFailed`.
    Prepare {
        /// The attempt.
        attempt: u32,
        /// Where it begins.
        begin: Begin,
        /// Its tasks, if it is not of all: the others go on, and splits were found before.
        part: Option<Vec<usize>>,
    },
    /// Run the tasks that are placed here; the answer is `Deployed` or `DeployFailed`.
    Deploy(Deployment),
    /// End tasks; each answers with its event.
    Cancel {
        /// Their attempt.
        attempt: u32,
        /// Their numbers, those of tasks elsewhere included.
        tasks: Vec<usize>,
    },
    /// Tasks have answered, or are given up: forget them; with the last of them, the attempt.
    Close {
        /// Their attempt.
        attempt: u32,
        /// Their numbers, those of tasks elsewhere included.
        tasks: Vec<usize>,
        /// Whether they are to run again, here or elsewhere: what they have accumulated does not count.
        again: bool,
    },
    /// Where the files of a checkpoint go; before its barrier.
    Aim {
        /// The attempt.
        attempt: u32,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The folder.
        target: TargetFolder,
    },
    /// For every task here.
    Command {
        /// The attempt.
        attempt: u32,
        /// What they are told.
        command: Command,
    },
    /// Every task of the attempt, here and elsewhere, has restored its state: they go on.
    Go {
        /// The attempt.
        attempt: u32,
    },
    /// Say how things are.
    Report,
    /// Give the values that accumulated, and end the process.
    Finish,
}

/// How things are with a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TaskState {
    /// It restores its state.
    Restoring,
    /// It has, and waits until the others have.
    Restored,
    /// It runs.
    Running,
    /// It has come to the end of its input and waits for its last checkpoint.
    Ended,
    /// It is over.
    Over(TaskEvent),
}

/// How things are with a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostReport {
    /// Where it listens for records.
    pub data_address: SocketAddr,
    /// The attempts of which tasks are here.
    pub attempts: Vec<AttemptReport>,
}

/// How things are with an attempt on a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptReport {
    /// Its number.
    pub attempt: u32,
    /// Those of its tasks that are here, by number.
    pub tasks: Vec<(usize, TaskState)>,
    /// The newest checkpoint whose barrier they were told.
    pub newest_checkpoint: Option<CheckpointId>,
}

/// From a host to the job manager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromHost {
    /// It has become the program and its graph is the one that was submitted.
    Ready {
        /// Where it listens for records.
        data_address: SocketAddr,
    },
    /// It cannot become the program: its graph is another, or its `main` ended before `execute`. No further
    /// attempt would heal that.
    Unfit {
        /// Why.
        error: Error,
    },
    /// An attempt is prepared.
    Prepared {
        /// The attempt.
        attempt: u32,
        /// The splits of each source, by operator number.
        splits: Vec<(usize, Vec<u8>)>,
    },
    /// The tasks that are placed here run.
    Deployed {
        /// The attempt.
        attempt: u32,
    },
    /// An attempt could not be prepared, or its tasks could not be run.
    DeployFailed {
        /// The attempt.
        attempt: u32,
        /// Why.
        error: Error,
    },
    /// A task has restored its state and waits for [`ToHost::Go`].
    Restored {
        /// The attempt.
        attempt: u32,
        /// The task.
        task: usize,
    },
    /// What became of a task.
    Task {
        /// The attempt.
        attempt: u32,
        /// What.
        event: TaskEvent,
    },
    /// What became of a snapshot.
    Snapshot {
        /// The attempt.
        attempt: u32,
        /// What.
        event: SnapshotEvent,
    },
    /// The connection to another host is gone.
    PeerLost {
        /// The attempt.
        attempt: u32,
        /// The other host's number in the deployment.
        host: u32,
        /// How.
        error: Error,
    },
    /// How things are.
    Report(HostReport),
    /// How its metrics stand.
    Metrics(Vec<MetricSample>),
    /// What accumulated: name, and the value of each task as bytes; or why that cannot be told. The last word of a host.
    Results(Result<Vec<(String, Vec<Vec<u8>>)>, Error>),
}
