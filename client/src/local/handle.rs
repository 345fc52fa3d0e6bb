//! What the program holds of a job that runs, and what it gets when the job has ended.

use super::checkpoints::Request;
use super::shell::Order;
use crossbeam_channel::{Sender, unbounded};
pub use millstream_jobmanager::scheduler::JobState;
use millstream_model::job_graph::JobGraph;
use millstream_model::{Error, Result, SnapshotKind};
use millstream_runtime::context::JobContext;
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::metrics::{Accumulator, MetricValue};
use std::collections::BTreeMap;
use std::path::PathBuf;
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
    n_restarts: u32,
    last_checkpoint: Option<u64>,
}

impl Shared {
    pub(super) fn new(graph: JobGraph, job: Arc<JobContext>, memory: Arc<MemoryPool>) -> Self {
        let status = Mutex::new(Status {
            state: JobState::Created,
            error: None,
            elapsed: None,
            n_restarts: 0,
            last_checkpoint: None,
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
}

/// A job that runs. Dropping the handle lets it run on.
pub struct JobHandle {
    shared: Arc<Shared>,
    inbox: Sender<Order>,
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
    /// How often it was restarted.
    pub n_restarts: u32,
    /// The newest completed checkpoint: its number.
    pub last_checkpoint: Option<u64>,
}

impl JobHandle {
    pub(super) fn new(shared: Arc<Shared>, inbox: Sender<Order>) -> Self {
        JobHandle { shared, inbox }
    }

    /// Where the job stands.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.source(Generator::unbounded(|i| i), Watermarks::none()).discard();
    /// let job = env.execute_async("endless")?;
    /// while job.status().records == 0 {
    ///     std::thread::yield_now();
    /// }
    /// assert_eq!(job.status().state, JobState::Running);
    /// job.cancel();
    /// # job.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn status(&self) -> JobStatus {
        let status = self.shared.status();
        JobStatus {
            state: status.state,
            records: self.shared.job.registry.count(RECORDS),
            n_tasks: self.shared.graph.n_tasks(),
            n_restarts: status.n_restarts,
            last_checkpoint: status.last_checkpoint,
        }
    }

    /// A counter's sum over all subtasks so far.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// /// Passes on, and counts.
    /// #[derive(Clone, Default)]
    /// struct Count(Counter);
    ///
    /// impl MapFunction<u64> for Count {
    ///     type Out = u64;
    ///     fn open(&mut self, context: &OperatorContext) -> Result<()> {
    ///         self.0 = context.counter("passed");
    ///         Ok(())
    ///     }
    ///     fn map(&mut self, n: u64) -> Result<u64> {
    ///         self.0.inc();
    ///         Ok(n)
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.source(Generator::unbounded(|i| i), Watermarks::none()).map_with(Count::default()).discard();
    /// let job = env.execute_async("endless")?;
    /// while job.counter("passed") < 10 {
    ///     std::thread::yield_now();
    /// }
    /// job.cancel();
    /// # job.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn counter(&self, name: &str) -> u64 {
        self.shared.job.registry.count(name)
    }

    /// Takes a savepoint into a folder of its own in `dir` and waits until it is complete; the job runs on.
    /// Gives the folder, which `restore` takes.
    ///
    /// # Errors
    /// If the job takes no checkpoints or has ended, or the savepoint fails.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// let env = Environment::builder().set("checkpoint-dir", &dir.path().join("checkpoints").display().to_string()).build()?;
    /// env.source(Generator::unbounded(|i| i % 10), Watermarks::none()).key_by(|i| *i).count().uid("counts").discard();
    /// let job = env.execute_async("endless")?;
    /// let savepoint = job.savepoint(dir.path().join("savepoints"))?;
    /// assert!(savepoint.join("manifest").is_file());
    /// job.cancel();
    /// # job.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn savepoint(&self, dir: impl Into<PathBuf>) -> Result<PathBuf> {
        self.snapshot(SnapshotKind::Savepoint, dir.into())
    }

    /// Takes a savepoint and stops the job with it: what was emitted before is committed, nothing is emitted
    /// after. With `drain`, event time is brought to its end first, so that windows and timers fire; that is
    /// for jobs that will not go on.
    ///
    /// # Errors
    /// As [`savepoint`](Self::savepoint); if it fails the job runs on, or, with `drain`, goes back to its newest
    /// checkpoint, because what event time has led to must not be seen.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// let env = Environment::builder().set("checkpoint-dir", &dir.path().join("checkpoints").display().to_string()).build()?;
    /// env.source(Generator::unbounded(|i| i % 10), Watermarks::none()).key_by(|i| *i).count().uid("counts").discard();
    /// let job = env.execute_async("endless")?;
    /// let savepoint = job.stop_with_savepoint(dir.path().join("savepoints"), false)?;
    /// job.wait()?;
    /// assert!(savepoint.join("manifest").is_file());
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop_with_savepoint(&self, dir: impl Into<PathBuf>, drain: bool) -> Result<PathBuf> {
        self.snapshot(SnapshotKind::Stop { drain }, dir.into())
    }

    fn snapshot(&self, kind: SnapshotKind, dir: PathBuf) -> Result<PathBuf> {
        // It is written down where it lies, for runs that begin elsewhere.
        let dir = std::path::absolute(&dir).map_err(|e| {
            Error::user(format!("`{}` is no folder for a savepoint", dir.display())).caused_by(e)
        })?;
        let (reply, answer) = unbounded();
        let gone = || Error::user("the job has ended, so it cannot take a savepoint");
        self.inbox.send(Order::Snapshot(Request { kind, dir, reply })).map_err(|_| gone())?;
        answer.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Asks the job to stop: tasks end at their next step, output that is not final stays behind.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.source(Generator::unbounded(|i| i), Watermarks::none()).discard();
    /// let job = env.execute_async("endless")?;
    /// job.cancel();
    /// assert_eq!(job.wait()?.state(), JobState::Cancelled);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let squares = env.generate(100, |i| i * i).collect();
    /// let job = env.execute_async("squares")?;
    /// assert_eq!(job.wait()?.state(), JobState::Finished);
    /// assert_eq!(squares.take().len(), 100);
    /// # Ok(())
    /// # }
    /// ```
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
pub(crate) struct Canceller(Sender<Order>);

impl Canceller {
    pub(crate) fn cancel(&self) {
        // A job that has ended needs no cancelling.
        let _ = self.0.send(Order::Cancel);
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(100, |i| i).discard();
    /// assert_eq!(env.execute("hundred")?.name(), "hundred");
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(&self) -> &str {
        &self.shared.graph.name
    }

    /// `Finished`, or `Cancelled`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(100, |i| i).discard();
    /// assert_eq!(env.execute("hundred")?.state(), JobState::Finished);
    /// # Ok(())
    /// # }
    /// ```
    pub fn state(&self) -> JobState {
        self.state
    }

    /// Time from start to end.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(100, |i| i).discard();
    /// let result = env.execute("hundred")?;
    /// let per_second = result.records() as f64 / result.elapsed().as_secs_f64();
    /// assert!(per_second > 0.0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Records the sources have read.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(100, |i| i).filter(|_| false).discard();
    /// assert_eq!(env.execute("hundred")?.records(), 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn records(&self) -> u64 {
        self.counter(RECORDS)
    }

    /// A counter's sum over all subtasks.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// /// Passes on, and counts.
    /// #[derive(Clone, Default)]
    /// struct Count(Counter);
    ///
    /// impl MapFunction<u64> for Count {
    ///     type Out = u64;
    ///     fn open(&mut self, context: &OperatorContext) -> Result<()> {
    ///         self.0 = context.counter("passed");
    ///         Ok(())
    ///     }
    ///     fn map(&mut self, n: u64) -> Result<u64> {
    ///         self.0.inc();
    ///         Ok(n)
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(100, |i| i).map_with(Count::default()).discard();
    /// assert_eq!(env.execute("hundred")?.counter("passed"), 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn counter(&self, name: &str) -> u64 {
        self.shared.job.registry.count(name)
    }

    /// An accumulator merged over all subtasks; `None` if no function used it with this type. Takes the
    /// value: a second call gives `None`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use std::collections::BTreeMap;
    /// type Lengths = BTreeMap<usize, u64>;
    ///
    /// /// Passes words on, and keeps how many there are of each length.
    /// #[derive(Clone, Default)]
    /// struct Measure(Option<AccumulatorHandle<Lengths>>);
    ///
    /// impl MapFunction<String> for Measure {
    ///     type Out = String;
    ///     fn open(&mut self, context: &OperatorContext) -> Result<()> {
    ///         self.0 = Some(context.accumulator("lengths"));
    ///         Ok(())
    ///     }
    ///     fn map(&mut self, word: String) -> Result<String> {
    ///         if let Some(lengths) = &self.0 {
    ///             *lengths.get().entry(word.len()).or_default() += 1;
    ///         }
    ///         Ok(word)
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let words = ["to", "be", "or", "not"].map(String::from).to_vec();
    /// env.from_collection(words).map_with(Measure::default()).discard();
    /// let result = env.execute("lengths")?;
    /// assert_eq!(result.accumulator::<Lengths>("lengths"), Some(BTreeMap::from([(2, 3), (3, 1)])));
    /// # Ok(())
    /// # }
    /// ```
    pub fn accumulator<A: Accumulator>(&self, name: &str) -> Option<A> {
        self.shared.job.registry.take_accumulator(name)
    }

    /// All metrics by (operator, name, subtask).
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// use millstream::runtime::metrics::MetricValue;
    /// let env = Environment::local();
    /// env.from_collection(vec![1, 2]).name("two").discard();
    /// let metrics = env.execute("job")?.metrics();
    /// assert_eq!(metrics[&("two".to_string(), "records".to_string(), 0)], MetricValue::Count(2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn metrics(&self) -> BTreeMap<(String, String, usize), MetricValue> {
        self.shared.job.registry.snapshot()
    }

    /// The most memory that records under way between tasks took, in bytes (estimated by sampling).
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().set("network-memory", "1 MiB").build()?;
    /// env.generate(10_000, |i| i).rebalance().discard();
    /// assert!(env.execute("spread")?.peak_network_memory() <= 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn peak_network_memory(&self) -> usize {
        self.shared.memory.peak()
    }
}
