//! What people see of a job: put together when somebody asks, from its machines and what is remembered here.

use super::ClusterTasks;
use crate::clock::Clock;
use crate::job::link::JobSpec;
use crate::job::{Checkpoints, Master};
use crate::scheduler::{ExecutionState, JobState};
use millstream_model::{Domain, Error, EventTime};
use millstream_proto::message::{
    ExceptionRow, JobDetail, JobOverview, JobPhase, MetricSample, MetricValue, Outcome,
    TaskManagerId, VertexRow,
};
use std::collections::{BTreeMap, VecDeque};

/// How many failures are remembered.
const MAX_FAILURES: usize = 50;
/// The counter that every source keeps.
const RECORDS: &str = "records";

/// See the module's text.
pub(super) struct Watch {
    spec: JobSpec,
    clock: Clock,
    failures: VecDeque<ExceptionRow>,
    /// Where the tasks ran last, by the task's number, and in which attempt the last of them began.
    placed: (Option<u32>, Vec<Option<TaskManagerId>>),
    metrics: BTreeMap<TaskManagerId, Vec<MetricSample>>,
}

impl Watch {
    pub(super) fn new(spec: &JobSpec, clock: Clock) -> Self {
        Watch {
            spec: spec.clone(),
            clock,
            failures: VecDeque::new(),
            placed: (None, Vec::new()),
            metrics: BTreeMap::new(),
        }
    }

    /// The job failed, or an attempt of it.
    pub(super) fn failed(&mut self, error: &Error, attempt: u32, time_ms: EventTime) {
        let domain = match error.domain() {
            Domain::User => "user",
            Domain::External => "external",
            Domain::Internal => "internal",
        };
        self.failures.push_front(ExceptionRow {
            time_ms,
            message: error.to_string(),
            domain: domain.to_owned(),
            operator: error.place().map(|place| place.operator.clone()),
            subtask: error.place().map(|place| place.subtask),
            attempt,
            task_manager: None,
        });
        self.failures.truncate(MAX_FAILURES);
    }

    /// Keeps in mind where the tasks run, which is not known any more when they have ended.
    pub(super) fn placed(&mut self, master: &Master<ClusterTasks>) {
        let attempt = Some(master.scheduler().attempt());
        if master.is_deployed() && self.placed.0 != attempt {
            let tasks = 0..master.scheduler().executions().len();
            let hosts = tasks.map(|task| master.tasks.rollout.host_of(task));
            self.placed = (attempt, hosts.collect());
        }
    }

    /// A host told its metrics.
    pub(super) fn measured(&mut self, id: TaskManagerId, samples: Vec<MetricSample>) {
        self.metrics.insert(id, samples);
    }

    fn samples(&self) -> Vec<MetricSample> {
        self.metrics.values().flatten().cloned().collect()
    }

    fn records(&self) -> u64 {
        let count = |sample: &MetricSample| match sample.value {
            MetricValue::Count(n) if sample.name == RECORDS => n,
            _ => 0,
        };
        self.metrics.values().flatten().map(count).sum()
    }

    fn overview(&self, state: JobPhase) -> JobOverview {
        let graph = &self.spec.submission.start.graph;
        JobOverview {
            id: self.spec.id,
            name: graph.name.clone(),
            state,
            start_time_ms: self.spec.submitted_at_ms,
            end_time_ms: None,
            n_tasks: graph.n_tasks(),
            n_running: 0,
            n_slots: 0,
            n_missing_slots: 0,
            n_restarts: 0,
            last_checkpoint: None,
            records: self.records(),
            error: self.failures.front().map(|failure| failure.message.clone()),
        }
    }

    /// How the job is now.
    pub(super) fn detail(&self, master: &Master<ClusterTasks>) -> JobDetail {
        let rollout = &master.tasks.rollout;
        let is_deployed = master.is_deployed();
        let tasks_run = (0..master.scheduler().executions().len()).any(|task| master.runs(task));
        let phase = match master.state() {
            JobState::Created => JobPhase::Created,
            JobState::Running if rollout.is_adopting() => JobPhase::Reconciling,
            JobState::Running if is_deployed => JobPhase::Running,
            JobState::Running if tasks_run => JobPhase::Restarting,
            JobState::Running => JobPhase::Created,
            JobState::Cancelling => JobPhase::Cancelling,
            JobState::Failing => JobPhase::Failing,
            JobState::Restarting => JobPhase::Restarting,
            JobState::Finished => JobPhase::Finished,
            JobState::Cancelled => JobPhase::Canceled,
            JobState::Failed => JobPhase::Failed,
        };
        let state_of = |task: usize, state: ExecutionState| match state {
            ExecutionState::Finished => JobPhase::Finished,
            ExecutionState::Failed => JobPhase::Failed,
            ExecutionState::Cancelled => JobPhase::Canceled,
            _ if master.runs(task) => JobPhase::Running,
            _ => JobPhase::Created,
        };
        let graph = &self.spec.submission.start.graph;
        let mut tasks = master.scheduler().executions().iter().enumerate();
        let vertices: Vec<VertexRow> = graph
            .vertices
            .iter()
            .enumerate()
            .map(|(index, vertex)| VertexRow {
                index,
                name: vertex.name(),
                parallelism: vertex.parallelism,
                subtasks: tasks
                    .by_ref()
                    .take(vertex.parallelism)
                    .map(|(task, e)| {
                        let placed = || self.placed.1.get(task).copied().flatten();
                        (state_of(task, e.state()), rollout.host_of(task).or_else(placed))
                    })
                    .collect(),
            })
            .collect();
        let states = vertices.iter().flat_map(|v| &v.subtasks);
        let n_running = states.filter(|(state, _)| *state == JobPhase::Running).count();
        let (n_slots, n_missing_slots) = rollout.slots();
        let checkpoints = master.checkpoints();
        JobDetail {
            overview: JobOverview {
                n_running,
                n_slots,
                n_missing_slots,
                n_restarts: master.scheduler().attempt(),
                last_checkpoint: checkpoints.and_then(Checkpoints::last),
                ..self.overview(phase)
            },
            graph: graph.clone(),
            vertices,
            checkpoints: checkpoints.map(Checkpoints::history).unwrap_or_default(),
            exceptions: self.failures.iter().cloned().collect(),
            metrics: self.samples(),
        }
    }

    /// How the job ended.
    pub(super) fn outcome(
        &self,
        master: &Master<ClusterTasks>,
        error: Option<Error>,
        results: Vec<(String, Vec<Vec<u8>>)>,
    ) -> Outcome {
        let mut overview = self.detail(master).overview;
        overview.end_time_ms = Some(self.clock.wall_ms());
        Outcome { overview, error, results, metrics: self.samples() }
    }

    /// The job cannot even begin.
    pub(super) fn failed_at_start(mut self, error: Error) -> Outcome {
        let now_ms = self.clock.wall_ms();
        self.failed(&error, 0, now_ms);
        let mut overview = self.overview(JobPhase::Failed);
        overview.end_time_ms = Some(now_ms);
        Outcome { overview, error: Some(error), results: Vec::new(), metrics: Vec::new() }
    }
}
