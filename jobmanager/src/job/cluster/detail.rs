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
use std::collections::btree_map::Entry;
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

    /// One of each metric: a subtask that was restarted elsewhere has counted in both places, and its level is where it is.
    fn samples(&self) -> Vec<MetricSample> {
        let mut merged: BTreeMap<(&str, &str, usize), MetricSample> = BTreeMap::new();
        for (&id, sample) in
            self.metrics.iter().flat_map(|(id, of)| of.iter().map(move |s| (id, s)))
        {
            match merged.entry((&sample.operator, &sample.name, sample.subtask)) {
                Entry::Vacant(entry) => drop(entry.insert(sample.clone())),
                Entry::Occupied(mut entry) => match (&mut entry.get_mut().value, &sample.value) {
                    (MetricValue::Count(n), MetricValue::Count(more)) => *n += more,
                    (known, value) if self.is_placed_on(id, sample) => *known = *value,
                    _ => {}
                },
            }
        }
        merged.into_values().collect()
    }

    /// Whether the subtask that a metric is of ran there last.
    fn is_placed_on(&self, id: TaskManagerId, sample: &MetricSample) -> bool {
        let graph = &self.spec.submission.start.graph;
        let is_of = |(vertex, subtask): (usize, usize)| {
            let mut operators = graph.vertices[vertex].operators.iter();
            subtask == sample.subtask && operators.any(|o| o.name == sample.operator)
        };
        let placed = graph.tasks().zip(&self.placed.1).find(|(task, _)| is_of(*task));
        placed.is_some_and(|(_, host)| *host == Some(id))
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
            passed_over: Vec::new(),
            records: self.records(),
            error: self.failures.front().map(|failure| failure.message.clone()),
        }
    }

    /// How the job is now.
    pub(super) fn detail(&self, master: &Master<ClusterTasks>) -> JobDetail {
        let rollout = &master.tasks.rollout;
        let is_deployed = master.is_deployed();
        let n_tasks = master.scheduler().executions().len();
        let tasks_run = (0..n_tasks).any(|task| master.runs(task));
        let tasks_restore = (0..n_tasks).any(|task| master.restores(task));
        let phase = match master.state() {
            JobState::Created => JobPhase::Created,
            JobState::Running if rollout.is_adopting() => JobPhase::Reconciling,
            JobState::Running if is_deployed => JobPhase::Running,
            JobState::Running if tasks_run => JobPhase::Restarting,
            JobState::Running if tasks_restore => JobPhase::Initializing,
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
            _ if master.restores(task) => JobPhase::Initializing,
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
                passed_over: checkpoints.map(|c| c.passed_over().to_vec()).unwrap_or_default(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use millstream_model::LeaderEpoch;
    use millstream_proto::message::{JobId, ProgramId};

    #[test]
    fn a_subtask_that_moved_has_one_of_each_metric() {
        let spec = JobSpec {
            id: JobId(1),
            submission: samples::submission(1, ProgramId([1; 32]), 10),
            submitted_at_ms: 5,
            epoch: LeaderEpoch(1),
            attempt: None,
        };
        let mut watch = Watch::new(&spec, Clock::start());
        let (a, b) = (TaskManagerId(1), TaskManagerId(2));
        let sample = |name: &str, subtask, value| MetricSample {
            operator: "numbers".into(),
            name: name.into(),
            subtask,
            value,
        };
        let of = |subtask, n, level| {
            let records = sample(RECORDS, subtask, MetricValue::Count(n));
            [records, sample("watermark", subtask, MetricValue::Level(level))]
        };
        watch.measured(a, [of(0, 7, 70), of(1, 5, 50)].concat());
        watch.measured(b, of(1, 3, 90).into());
        for (placed, level) in [(b, 90), (a, 50)] {
            watch.placed = (Some(1), vec![Some(a), Some(placed)]);
            let expected = [
                sample(RECORDS, 0, MetricValue::Count(7)),
                sample(RECORDS, 1, MetricValue::Count(8)),
                sample("watermark", 0, MetricValue::Level(70)),
                sample("watermark", 1, MetricValue::Level(level)),
            ];
            assert_eq!(watch.samples(), expected);
            assert_eq!(watch.records(), 15);
        }
    }
}
