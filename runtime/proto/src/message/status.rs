//! How things are, for people and for scripts: what the command line, the REST interface and clients show.

use super::{JobId, TaskManagerId};
use millstream_model::job_graph::JobGraph;
use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobPhase {
    /// It was accepted; it waits for slots, or its tasks are being started.
    Created,
    /// Its tasks run.
    Running,
    /// A leader has taken it over and waits for its tasks to be reported.
    Reconciling,
    /// A task failed; the others are ending.
    Failing,
    /// It failed and will run again.
    Restarting,
    /// It was asked to stop; its tasks are ending.
    Cancelling,
    /// Every task finished.
    Finished,
    /// Ended on request.
    Canceled,
    /// Ended by a failure.
    Failed,
    /// Its tasks restore their state; none goes on before all have. The last, because stored records number the states.
    Initializing,
}

impl JobPhase {
    /// Whether nothing will happen any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobPhase::Finished | JobPhase::Canceled | JobPhase::Failed)
    }
}

/// A job at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobOverview {
    /// Its id.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: JobPhase,
    /// When it was submitted, in ms since the epoch.
    pub start_time_ms: i64,
    /// When it ended, in ms since the epoch.
    pub end_time_ms: Option<i64>,
    /// Its tasks.
    pub n_tasks: usize,
    /// Those that run.
    pub n_running: usize,
    /// Slots it needs.
    pub n_slots: usize,
    /// Slots it lacks to run.
    pub n_missing_slots: usize,
    /// How often it was restarted.
    pub n_restarts: u32,
    /// The newest completed checkpoint.
    pub last_checkpoint: Option<u64>,
    /// Checkpoints and savepoints that cannot be used and were passed over, as `allow-older` allows, to begin at an older one.
    pub passed_over: Vec<String>,
    /// Records its sources have read, as far as is known.
    pub records: u64,
    /// Why it failed, or was restarted last.
    pub error: Option<String>,
}

/// One vertex of a job as it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VertexRow {
    /// Its index in the graph.
    pub index: usize,
    /// Its operators' names.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: usize,
    /// For each subtask: its state, and the task manager it runs on.
    pub subtasks: Vec<(JobPhase, Option<TaskManagerId>)>,
}

/// Where a checkpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CheckpointState {
    /// It is being taken.
    InProgress,
    /// It can be restored.
    Completed,
    /// It was given up.
    Failed,
}

/// A checkpoint or savepoint of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRow {
    /// Its number.
    pub id: u64,
    /// Whether it belongs to the user.
    pub is_savepoint: bool,
    /// Where it stands.
    pub state: CheckpointState,
    /// When it was begun, in ms since the epoch.
    pub trigger_time_ms: i64,
    /// From there to its completion or failure, in ms.
    pub duration_ms: Option<u64>,
    /// Bytes it stored.
    pub size_bytes: Option<u64>,
    /// Tasks that acknowledged, of how many.
    pub acknowledged: (usize, usize),
    /// Where it lies.
    pub path: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A failure of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExceptionRow {
    /// When, in ms since the epoch.
    pub time_ms: i64,
    /// What.
    pub message: String,
    /// Whose: `user`, `external` or `internal`.
    pub domain: String,
    /// In which operator, if in one.
    pub operator: Option<String>,
    /// In which subtask of it, from 0.
    pub subtask: Option<usize>,
    /// In which attempt of the job.
    pub attempt: u32,
    /// On which task manager, if that is known.
    pub task_manager: Option<TaskManagerId>,
}

/// A task manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskManagerRow {
    /// Its id.
    pub id: TaskManagerId,
    /// Where it runs.
    pub hostname: String,
    /// Its process.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// Slots it offers.
    pub n_slots: usize,
    /// Slots that no job has.
    pub n_free: usize,
    /// Jobs that have slots here.
    pub jobs: Vec<JobId>,
    /// When it was last heard, in ms since the epoch.
    pub last_heartbeat_ms: i64,
    /// Where its metrics can be read: `ADDRESS:PORT`.
    pub metrics_address: Option<String>,
}

/// The cluster at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The leader's release.
    pub version: String,
    /// The leader's epoch.
    pub epoch: u64,
    /// Where its REST interface listens, if it does.
    pub rest_address: Option<String>,
    /// The task managers.
    pub task_managers: Vec<TaskManagerRow>,
    /// The jobs.
    pub jobs: Vec<JobOverview>,
}

/// The value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum MetricValue {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(i64),
    /// Of a histogram.
    Distribution {
        /// Number of values.
        n: u64,
        /// Median.
        p50: u64,
        /// 99th percentile.
        p99: u64,
        /// Maximum.
        max: u64,
    },
}

/// A metric of one subtask at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricSample {
    /// The operator's name; of a whole task, its first operator's.
    pub operator: String,
    /// The metric.
    pub name: String,
    /// The subtask, from 0.
    pub subtask: usize,
    /// Its value.
    pub value: MetricValue,
}

/// A job's details.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobDetail {
    /// The job at a glance.
    pub overview: JobOverview,
    /// What it was compiled to.
    pub graph: JobGraph,
    /// Its vertices as they run.
    pub vertices: Vec<VertexRow>,
    /// Its checkpoints, newest first, as far as they are remembered.
    pub checkpoints: Vec<CheckpointRow>,
    /// Its failures, newest first, as far as they are remembered.
    pub exceptions: Vec<ExceptionRow>,
    /// Its metrics.
    pub metrics: Vec<MetricSample>,
}
