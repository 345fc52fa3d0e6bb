//! What the program holds of a job that runs.

use super::{Job, JobResult};
use millstream_jobmanager::scheduler::JobState;
use millstream_model::{Error, Result, SnapshotKind};
use std::path::PathBuf;
use std::sync::Arc;

/// A job that runs. Dropping the handle lets it run on.
pub struct JobHandle {
    job: Arc<dyn Job>,
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
    /// Checkpoints and savepoints that cannot be used (damaged, most of all) and were passed over, as `allow-older` allows, to
    /// begin at an older one: output that was committed since may be there twice.
    pub passed_over: Vec<String>,
}

impl JobHandle {
    pub(crate) fn new(job: impl Job + 'static) -> Self {
        JobHandle { job: Arc::new(job) }
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
        self.job.status()
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
        self.job.counter(name)
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
    /// after. When this returns the job has ended, and another may begin there. With `drain`, event time is brought to its
    /// end first, so that windows and timers fire, and functions do what they do at the end. That is for jobs that will not go
    /// on: one that is restored from there ends when it has committed what belongs before, and reads nothing.
    ///
    /// It waits for the job's end, so nothing that the job waits for may call it.
    ///
    /// # Errors
    /// As [`savepoint`](Self::savepoint); if it fails the job runs on, or, with `drain`, goes back to its newest
    /// checkpoint, because what event time has led to must not be seen. If the job fails or is cancelled when the savepoint is
    /// complete, and before it has ended: the error names the savepoint, and says whether the job runs again from there. (With
    /// `drain` it does if its restart strategy lets it, to end as if it had not failed; that is waited for.)
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
        self.job.snapshot(kind, dir)
    }

    /// What the cluster calls the job: 32 hexadecimal digits. `None` for a job in this process.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(100, |i| i).discard();
    /// assert_eq!(env.execute_async("hundred")?.id(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(&self) -> Option<String> {
        self.job.id()
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
        self.job.cancel();
    }

    pub(crate) fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.job))
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
        let (state, elapsed) = self.job.wait()?;
        Ok(JobResult { job: self.job, state, elapsed })
    }
}

/// Cancels a job from elsewhere.
pub(crate) struct Canceller(Arc<dyn Job>);

impl Canceller {
    pub(crate) fn cancel(&self) {
        self.0.cancel();
    }
}
