//! What the program holds of a job that runs, and what it gets when the job has ended.

use crossbeam_channel::Sender;
use millstream_jobmanager::scheduler::Input;
pub use millstream_jobmanager::scheduler::JobState;
use millstream_model::job_graph::JobGraph;
use millstream_model::{Error, Result};
use millstream_runtime::context::JobContext;
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::metrics::{Accumulator, MetricValue};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The counter every source keeps.
pub(super) const RECORDS: &str = "records";

pub(crate) struct Shared {
    graph: JobGraph,
    job: Arc<JobContext>,
    memory: Arc<MemoryPool>,
    status: Mutex<Status>,
    ended: Condvar,
}

struct Status {
    state: JobState,
    error: Option<Error>,
    elapsed: Option<Duration>,
}

impl Shared {
    pub(super) fn new(graph: JobGraph, job: Arc<JobContext>, memory: Arc<MemoryPool>) -> Self {
        let status = Mutex::new(Status { state: JobState::Created, error: None, elapsed: None });
        Shared { graph, job, memory, status, ended: Condvar::new() }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_state(&self, state: JobState) {
        // The terminal state is told by `end`, when the threads are gone.
        if !state.is_terminal() {
            self.status().state = state;
        }
    }

    pub(super) fn end(&self, state: JobState, error: Option<Error>, elapsed: Duration) {
        *self.status() = Status { state, error, elapsed: Some(elapsed) };
        self.ended.notify_all();
    }
}

/// A job that runs. Dropping the handle lets it run on.
pub struct JobHandle {
    shared: Arc<Shared>,
    inbox: Sender<Input>,
}

/// Where a job stands.
#[derive(Clone, Debug)]
pub struct JobStatus {
    /// Its state.
    pub state: JobState,
    /// Records its sources have read.
    pub records: u64,
    /// Number of tasks.
    pub n_tasks: usize,
}

impl JobHandle {
    pub(super) fn new(shared: Arc<Shared>, inbox: Sender<Input>) -> Self {
        JobHandle { shared, inbox }
    }

    /// Where the job stands.
    pub fn status(&self) -> JobStatus {
        JobStatus {
            state: self.shared.status().state,
            records: self.shared.job.registry.count(RECORDS),
            n_tasks: self.shared.graph.n_tasks(),
        }
    }

    /// A counter's sum over all subtasks so far.
    pub fn counter(&self, name: &str) -> u64 {
        self.shared.job.registry.count(name)
    }

    /// Asks the job to stop: tasks end at their next step, output that is not final stays behind.
    pub fn cancel(&self) {
        self.canceller().cancel();
    }

    pub(crate) fn canceller(&self) -> Canceller {
        Canceller(self.inbox.clone())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The first failure of the job.
    pub fn wait(self) -> Result<JobResult> {
        let mut status = self.shared.status();
        while status.elapsed.is_none() {
            status = self.shared.ended.wait(status).unwrap_or_else(PoisonError::into_inner);
        }
        let (state, elapsed) = (status.state, status.elapsed.unwrap_or_default());
        let error = status.error.take();
        drop(status);
        match error {
            Some(error) => Err(error),
            None => Ok(JobResult { shared: Arc::clone(&self.shared), state, elapsed }),
        }
    }
}

/// Cancels a job from elsewhere.
pub(crate) struct Canceller(Sender<Input>);

impl Canceller {
    pub(crate) fn cancel(&self) {
        // A job that has ended needs no cancelling.
        let _ = self.0.send(Input::Cancel);
    }
}

/// What a job that ended left behind.
pub struct JobResult {
    shared: Arc<Shared>,
    state: JobState,
    elapsed: Duration,
}

impl std::fmt::Debug for JobResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobResult")
            .field("name", &self.shared.graph.name)
            .field("state", &self.state)
            .field("elapsed", &self.elapsed)
            .finish_non_exhaustive()
    }
}

impl JobResult {
    /// The job's name.
    pub fn name(&self) -> &str {
        &self.shared.graph.name
    }

    /// `Finished`, or `Cancelled`.
    pub fn state(&self) -> JobState {
        self.state
    }

    /// Time from start to end.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Records the sources have read.
    pub fn records(&self) -> u64 {
        self.counter(RECORDS)
    }

    /// A counter's sum over all subtasks.
    pub fn counter(&self, name: &str) -> u64 {
        self.shared.job.registry.count(name)
    }

    /// An accumulator merged over all subtasks; `None` if no function used it with this type. Takes the
    /// value: a second call gives `None`.
    pub fn accumulator<A: Accumulator>(&self, name: &str) -> Option<A> {
        self.shared.job.registry.take_accumulator(name)
    }

    /// All metrics by (operator, name, subtask).
    pub fn metrics(&self) -> BTreeMap<(String, String, usize), MetricValue> {
        self.shared.job.registry.snapshot()
    }

    /// The most memory that records under way between tasks took, in bytes (estimated by sampling).
    pub fn peak_network_memory(&self) -> usize {
        self.shared.memory.peak()
    }
}
