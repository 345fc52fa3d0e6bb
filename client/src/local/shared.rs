//! What the shell of a job in this process shares with whoever holds the job.

use super::shell::Order;
use crate::job::{Job, JobStatus, RECORDS};
use crossbeam_channel::{Sender, unbounded};
use millstream_jobmanager::job::{Request, stopped};
use millstream_jobmanager::scheduler::JobState;
use millstream_model::job_graph::JobGraph;
use millstream_model::{Error, Result, SnapshotKind};
use millstream_runtime::context::JobContext;
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::metrics::{MetricValue, Registry};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    n_restarts: u32,
    last_checkpoint: Option<u64>,
    passed_over: Vec<String>,
}

impl Shared {
    pub(super) fn new(graph: JobGraph, job: Arc<JobContext>, memory: Arc<MemoryPool>) -> Self {
        let status = Mutex::new(Status {
            state: JobState::Created,
            error: None,
            elapsed: None,
            n_restarts: 0,
            last_checkpoint: None,
            passed_over: Vec::new(),
        });
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

    pub(super) fn set_passed_over(&self, passed_over: &[String]) {
        self.status().passed_over = passed_over.to_vec();
    }

    pub(super) fn set_progress(&self, n_restarts: u32, last_checkpoint: Option<u64>) {
        let mut status = self.status();
        status.n_restarts = n_restarts;
        status.last_checkpoint = last_checkpoint;
    }

    pub(super) fn end(&self, state: JobState, error: Option<Error>, elapsed: Duration) {
        let mut status = self.status();
        (status.state, status.error, status.elapsed) = (state, error, Some(elapsed));
        self.ended.notify_all();
    }

    /// Waits for the end.
    fn at_end(&self) -> MutexGuard<'_, Status> {
        let runs = |status: &mut Status| status.elapsed.is_none();
        let status = self.ended.wait_while(self.status(), runs);
        status.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job in this process.
pub(super) struct LocalJob {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Sender<Order>,
}

impl Job for LocalJob {
    fn name(&self) -> &str {
        &self.shared.graph.name
    }

    fn status(&self) -> JobStatus {
        let status = self.shared.status();
        JobStatus {
            state: status.state,
            records: self.counter(RECORDS),
            n_tasks: self.shared.graph.n_tasks(),
            n_restarts: status.n_restarts,
            last_checkpoint: status.last_checkpoint,
            passed_over: status.passed_over.clone(),
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.shared.job.registry.count(name)
    }

    fn snapshot(&self, kind: SnapshotKind, dir: PathBuf) -> Result<PathBuf> {
        let (reply, answer) = unbounded();
        let gone = || Error::user("the job has ended, so it cannot take a savepoint");
        let request = Request { kind, dir, reply: reply.into() };
        self.inbox.send(Order::Snapshot(request)).map_err(|_| gone())?;
        let path = answer.recv().unwrap_or_else(|_| Err(gone()))?;
        match kind {
            SnapshotKind::Stop { .. } => stopped(path, self.shared.at_end().state),
            SnapshotKind::Savepoint | SnapshotKind::Checkpoint => Ok(path),
        }
    }

    fn cancel(&self) {
        // A job that has ended needs no cancelling.
        let _ = self.inbox.send(Order::Cancel);
    }

    fn wait(&self) -> Result<(JobState, Duration)> {
        let mut status = self.shared.at_end();
        let elapsed = status.elapsed.unwrap_or_default();
        status.error.take().map_or(Ok((status.state, elapsed)), Err)
    }

    fn metrics(&self) -> BTreeMap<(String, String, usize), MetricValue> {
        self.shared.job.registry.snapshot()
    }

    fn registry(&self) -> Option<&Registry> {
        Some(&self.shared.job.registry)
    }

    fn take_cells(&self, _: &str) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn peak_network_memory(&self) -> usize {
        self.shared.memory.peak()
    }
}
