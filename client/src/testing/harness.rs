//! Runs a pipeline on the calling thread.

use super::input::{InputHandle, scripted};
use super::script::Mode;
use super::surroundings::{Bell, ManualClock, PATIENCE, Probe, Records, Side, take};
use crate::compile;
use crate::config::Config;
use crate::environment::Environment;
use crate::local::{Attempt, Begin, Program, assemble};
use crate::stream::{DataStream, OperatorSettings};
use millstream_model::{Data, Error, EventTime, Result};
use millstream_runtime::context::{Clock, JobContext};
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::function::OutputTag;
use millstream_runtime::task::{Progress, Task, Waker};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A pipeline under test. See the module's text.
pub struct Harness<I, O> {
    input: InputHandle<I>,
    output: Records<O>,
    tasks: Vec<Option<Task>>,
    clock: Arc<ManualClock>,
    bell: Arc<Bell>,
}

impl<I: Data, O: Data> Harness<I, O> {
    /// The harness of what `build` makes of its input.
    ///
    /// # Errors
    /// If the pipeline cannot run as it is.
    ///
    /// ```
    /// use millstream::prelude::*;
    /// use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.map(|n| n + 1))?;
    /// harness.element(4, 100)?;
    /// assert_eq!(harness.take_timed(), [(5, 100)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn new(build: impl FnOnce(DataStream<I>) -> DataStream<O>) -> Result<Self> {
        Harness::in_mode(Mode::Plain, build)
    }

    /// As `new`, but in the given mode.
    ///
    /// # Errors
    /// If the pipeline cannot run as it is.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// use millstream::testing::Mode;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::in_mode(Mode::Unchained, |input: DataStream<u32>| input.map(|n| n + 1))?;
    /// harness.element(4, 100)?;
    /// assert_eq!(harness.take(), [5]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn in_mode(mode: Mode, build: impl FnOnce(DataStream<I>) -> DataStream<O>) -> Result<Self> {
        let env = mode.environment()?;
        let (input, stream) = scripted(&env);
        let output = Records::default();
        build(stream).sink(Probe(Arc::clone(&output))).name("output").parallelism(1);
        Harness::start(&env, input, output)
    }

    /// As `new`, for a pipeline that also writes to a side output of its last operator.
    ///
    /// # Errors
    /// If the pipeline cannot run as it is.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// const ERRORS: OutputTag<String> = OutputTag::new(millstream::stream::ERRORS);
    /// let (mut harness, errors) = Harness::with_side(&ERRORS, |input: DataStream<Result<u32, String>>| {
    ///     input.split_errors().0
    /// })?;
    /// harness.element(Err("no number".to_string()), 0)?;
    /// harness.element(Ok(4), 0)?;
    /// assert_eq!((harness.take(), errors.take()), (vec![4], vec!["no number".to_string()]));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn with_side<S: Data>(
        tag: &OutputTag<S>,
        build: impl FnOnce(DataStream<I>) -> DataStream<O>,
    ) -> Result<(Self, Side<S>)> {
        Harness::with_side_in_mode(Mode::Plain, tag, build)
    }

    /// As `with_side`, but in the given mode.
    ///
    /// # Errors
    /// If the pipeline cannot run as it is.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// use millstream::testing::Mode;
    /// # fn main() -> Result<()> {
    /// const ERRORS: OutputTag<String> = OutputTag::new(millstream::stream::ERRORS);
    /// for mode in Mode::ALL {
    ///     let build = |input: DataStream<Result<u32, String>>| input.split_errors().0;
    ///     let (mut harness, errors) = Harness::with_side_in_mode(mode, &ERRORS, build)?;
    ///     harness.element(Err("no number".to_string()), 0)?;
    ///     assert_eq!(errors.take(), ["no number"]);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn with_side_in_mode<S: Data>(
        mode: Mode,
        tag: &OutputTag<S>,
        build: impl FnOnce(DataStream<I>) -> DataStream<O>,
    ) -> Result<(Self, Side<S>)> {
        let env = mode.environment()?;
        let (input, stream) = scripted(&env);
        let (output, side) = (Records::default(), Records::default());
        let built = build(stream);
        built.side_output(tag).sink(Probe(Arc::clone(&side))).name("side").parallelism(1);
        built.sink(Probe(Arc::clone(&output))).name("output").parallelism(1);
        Ok((Harness::start(&env, input, output)?, Side(side)))
    }

    /// As `new`, for a pipeline with a second input.
    ///
    /// # Errors
    /// If the pipeline cannot run as it is.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let (mut harness, words) = Harness::with_second_input(|numbers: DataStream<u32>, words| {
    ///     numbers.connect(words).co_map(|n| n.to_string(), |word: String| word)
    /// })?;
    /// harness.element(1, 0)?;
    /// words.element("two".to_string(), 0);
    /// harness.settle()?;
    /// assert_eq!(harness.take(), ["1", "two"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn with_second_input<R: Data>(
        build: impl FnOnce(DataStream<I>, DataStream<R>) -> DataStream<O>,
    ) -> Result<(Self, InputHandle<R>)> {
        Harness::with_second_input_in_mode(Mode::Plain, build)
    }

    /// As `with_second_input`, but in the given mode.
    ///
    /// # Errors
    /// If the pipeline cannot run as it is.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// use millstream::testing::Mode;
    /// # fn main() -> Result<()> {
    /// for mode in Mode::ALL {
    ///     let union = |a: DataStream<u32>, b| a.union([b]);
    ///     let (mut harness, others) = Harness::with_second_input_in_mode(mode, union)?;
    ///     others.element(2, 0);
    ///     harness.element(1, 0)?;
    ///     assert_eq!(harness.take().iter().sum::<u32>(), 3);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn with_second_input_in_mode<R: Data>(
        mode: Mode,
        build: impl FnOnce(DataStream<I>, DataStream<R>) -> DataStream<O>,
    ) -> Result<(Self, InputHandle<R>)> {
        let env = mode.environment()?;
        let (input, left) = scripted(&env);
        let (second, right) = scripted(&env);
        let output = Records::default();
        build(left, right).sink(Probe(Arc::clone(&output))).name("output").parallelism(1);
        Ok((Harness::start(&env, input, output)?, second))
    }

    fn start(env: &Environment, input: InputHandle<I>, output: Records<O>) -> Result<Self> {
        let (graph, config) = env.take_program()?;
        let compiled = compile::compile(&graph, &config, "harness")?;
        let clock = Arc::new(ManualClock::default());
        let bell = Arc::new(Bell::default());
        let job = Arc::new(JobContext {
            name: "harness".into(),
            parameters: config.parameters.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            registry: Default::default(),
            alignment: Default::default(),
            batch_size: config.batch_size,
            checkpoints: None,
        });
        let memory = Arc::new(MemoryPool::new(Config::default().network_memory));
        let waker = Arc::clone(&bell) as Waker;
        let program = Program { graph, compiled, config };
        let attempt = Attempt { number: 0, begin: Begin::Fresh, snapshots: None, backend: None };
        let tasks = assemble(&program, &job, &attempt, &|_| waker.clone(), &memory)?;
        Ok(Harness { input, output, tasks: tasks.into_iter().map(Some).collect(), clock, bell })
    }

    /// The input, to be filled before `settle`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.map(|n| n + 1))?;
    /// for n in 0..3 {
    ///     harness.input().element(n, 0);
    /// }
    /// harness.settle()?;
    /// assert_eq!(harness.take(), [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn input(&self) -> &InputHandle<I> {
        &self.input
    }

    /// Gives the pipeline a record and lets it run until it has nothing to do.
    ///
    /// # Errors
    /// The failure of an operator.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.map(|n| n + 1))?;
    /// harness.element(4, 100)?;
    /// assert_eq!(harness.take(), [5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn element(&mut self, value: I, time: EventTime) -> Result<()> {
        self.input.element(value, time);
        self.settle()
    }

    /// Advances event time and lets the pipeline run until it has nothing to do.
    ///
    /// # Errors
    /// The failure of an operator.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| {
    ///     input.key_by(|n| n % 2).window(Tumbling::of(millis(10))).reduce(|a, b| a + b)
    /// })?;
    /// harness.element(7, 100)?;
    /// harness.element(9, 105)?;
    /// harness.watermark(108)?;
    /// assert!(harness.take().is_empty());
    /// harness.watermark(109)?;
    /// assert_eq!(harness.take_timed(), [(16, 109)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn watermark(&mut self, watermark: EventTime) -> Result<()> {
        self.input.watermark(watermark);
        self.settle()
    }

    /// Advances processing time (it starts at 0) and lets the pipeline run until it has nothing to do.
    ///
    /// # Errors
    /// The failure of an operator.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| {
    ///     let windows = Tumbling::of(millis(10)).processing_time();
    ///     input.key_by(|n| n % 2).window(windows).reduce(|a, b| a + b)
    /// })?;
    /// harness.element(7, 0)?;
    /// harness.advance_clock(millis(9))?;
    /// assert!(harness.take().is_empty());
    /// harness.advance_clock(millis(1))?;
    /// assert_eq!(harness.take(), [7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn advance_clock(&mut self, by: Duration) -> Result<()> {
        self.clock.0.fetch_add(by.as_micros() as EventTime, Ordering::SeqCst);
        self.settle()
    }

    /// Ends the input and lets the pipeline run to its end.
    ///
    /// # Errors
    /// The failure of an operator.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.map(|n| n + 1))?;
    /// harness.input().element(4, 100);
    /// harness.finish()?;
    /// assert_eq!(harness.take(), [5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish(&mut self) -> Result<()> {
        self.input.end();
        self.settle()
    }

    /// Whether every task has ended.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.map(|n| n + 1))?;
    /// assert!(!harness.is_finished());
    /// harness.finish()?;
    /// assert!(harness.is_finished());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_finished(&self) -> bool {
        self.tasks.iter().all(Option::is_none)
    }

    /// The results since the last call.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.map(|n| n + 1))?;
    /// harness.element(4, 100)?;
    /// assert_eq!(harness.take(), [5]);
    /// assert!(harness.take().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take(&mut self) -> Vec<O> {
        self.take_timed().into_iter().map(|(v, _)| v).collect()
    }

    /// The results since the last call, with their event times.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.map(|n| n + 1))?;
    /// harness.element(4, 100)?;
    /// assert_eq!(harness.take_timed(), [(5, 100)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_timed(&mut self) -> Vec<(O, EventTime)> {
        take(&self.output)
    }

    /// Lets the pipeline run until it has nothing to do; waits for asynchronous calls under way.
    ///
    /// # Errors
    /// The failure of an operator, or of a call that does not come back.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| {
    ///     input.async_map(AsyncCall::new(|n| async move { Ok(n + 1) }))
    /// })?;
    /// harness.input().element(4, 100);
    /// harness.settle()?;
    /// assert_eq!(harness.take(), [5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn settle(&mut self) -> Result<()> {
        loop {
            let (mut busy, mut waiting) = (false, false);
            for slot in &mut self.tasks {
                let Some(task) = slot else { continue };
                let progress = task.step()?;
                waiting |= task.context().n_calls() > 0;
                match progress {
                    Progress::Busy => busy = true,
                    // Its time may have come while it was busy with something else.
                    Progress::Idle(until_us) => busy |= until_us <= self.clock.now_us(),
                    Progress::Blocked(_) => waiting = true,
                    Progress::Done => {
                        *slot = None;
                        busy = true;
                    }
                }
            }
            if busy {
                continue;
            }
            if !waiting {
                return Ok(());
            }
            if !self.bell.wait() {
                return Err(Error::user(format!(
                    "nothing came back within {PATIENCE:?} of a call under way"
                )));
            }
        }
    }
}
