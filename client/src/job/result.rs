//! What the program gets when its job has ended.

use super::{Job, RECORDS};
use millstream_jobmanager::scheduler::JobState;
use millstream_runtime::metrics::{Accumulator, MetricValue, merge_encoded};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a job that ended left behind.
pub struct JobResult {
    pub(super) job: Arc<dyn Job>,
    pub(super) state: JobState,
    pub(super) elapsed: Duration,
}

impl std::fmt::Debug for JobResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobResult")
            .field("name", &self.job.name())
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
        self.job.name()
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
        self.job.counter(name)
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
        match self.job.registry() {
            Some(registry) => registry.take_accumulator(name),
            None => merge_encoded(&self.job.take_cells(name)),
        }
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
        self.job.metrics()
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
        self.job.peak_network_memory()
    }
}
