//! Runs a pipeline on the calling thread.

use super::input::{InputHandle, scripted};
use super::pipeline::Pipeline;
use super::script::{Mode, Setup};
use super::snapshot::Snapshot;
use super::surroundings::{Probe, Records, Side};
use crate::environment::Environment;
use crate::stream::{DataStream, OperatorSettings};
use millstream_model::{Data, EventTime, Result};
use millstream_runtime::function::OutputTag;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A pipeline under test. See the module's text.
pub struct Harness<I, O> {
    input: InputHandle<I>,
    output: Records<O>,
    pipeline: Pipeline,
    setup: Setup,
    n_steps: usize,
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
    pub fn in_mode(
        setup: impl Into<Setup>,
        build: impl FnOnce(DataStream<I>) -> DataStream<O>,
    ) -> Result<Self> {
        let setup = setup.into();
        let env = setup.environment()?;
        let (input, stream) = scripted(&env);
        let output = Records::default();
        build(stream).sink(Probe(output.clone())).name("output").parallelism(1);
        Harness::start(setup, &env, input, output)
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
        setup: impl Into<Setup>,
        tag: &OutputTag<S>,
        build: impl FnOnce(DataStream<I>) -> DataStream<O>,
    ) -> Result<(Self, Side<S>)> {
        let setup = setup.into();
        let env = setup.environment()?;
        let (input, stream) = scripted(&env);
        let (output, side) = (Records::default(), Records::default());
        let built = build(stream);
        built.side_output(tag).sink(Probe(side.clone())).name("side").parallelism(1);
        built.sink(Probe(output.clone())).name("output").parallelism(1);
        Ok((Harness::start(setup, &env, input, output)?, Side(side)))
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
        setup: impl Into<Setup>,
        build: impl FnOnce(DataStream<I>, DataStream<R>) -> DataStream<O>,
    ) -> Result<(Self, InputHandle<R>)> {
        let setup = setup.into();
        let env = setup.environment()?;
        let (input, left) = scripted(&env);
        let (second, right) = scripted(&env);
        let output = Records::default();
        build(left, right).sink(Probe(output.clone())).name("output").parallelism(1);
        Ok((Harness::start(setup, &env, input, output)?, second))
    }

    fn start(
        setup: Setup,
        env: &Environment,
        input: InputHandle<I>,
        output: Records<O>,
    ) -> Result<Self> {
        let pipeline = Pipeline::new(env, setup.is_in_trees())?;
        Ok(Harness { input, output, pipeline, setup, n_steps: 0 })
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
        self.step(|pipeline| {
            pipeline.clock.0.fetch_add(by.as_micros() as EventTime, Ordering::SeqCst);
        })
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
        self.pipeline.is_finished()
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
        self.output.take()
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
        self.step(|_| ())
    }

    /// Lets the pipeline run after a change. In the modes that restore it runs twice: the first time while a
    /// snapshot from before the change is being written, the second time from that snapshot.
    fn step(&mut self, change: impl FnOnce(&mut Pipeline)) -> Result<()> {
        let pipeline = &mut self.pipeline;
        let step = self.n_steps + 1;
        if pipeline.is_pending() || pipeline.is_finished() {
            change(pipeline);
            return pipeline.run();
        }
        self.n_steps = step;
        if !self.setup.restores_before(step) {
            change(pipeline);
            return pipeline.run();
        }
        pipeline.begin_snapshot()?;
        change(pipeline);
        pipeline.run()?;
        let snapshot = pipeline.complete_snapshot()?;
        pipeline.restore(&snapshot, self.setup.parallelism_at(step))?;
        pipeline.run()
    }

    /// Lets the pipeline run until it has nothing to do, and takes a snapshot of it, as a job does for a
    /// checkpoint: through the same tasks, and in the same form. The pipeline goes on. At its end it has taken a
    /// last one, which is what is given from then on.
    ///
    /// # Errors
    /// The failure of an operator; or state that cannot be written.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<char>| input.key_by(|c| *c).count())?;
    /// harness.element('a', 0)?;
    /// let snapshot = harness.snapshot()?;
    /// harness.element('a', 0)?;
    /// assert_eq!(harness.take(), [('a', 1), ('a', 2)]);
    ///
    /// // What was given since is read again.
    /// harness.restore(&snapshot)?;
    /// assert_eq!(harness.take(), [('a', 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        self.snapshot_while(|_| Ok(()))
    }

    /// As `snapshot`, but nothing is written before `then` was done: what it does comes after the snapshot, and
    /// must not show in it.
    ///
    /// # Errors
    /// As for `snapshot`; and what `then` fails with, after which there is no snapshot.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<char>| input.key_by(|c| *c).count())?;
    /// harness.element('a', 0)?;
    /// let snapshot = harness.snapshot_while(|harness| harness.element('a', 0))?;
    /// assert_eq!(harness.take(), [('a', 1), ('a', 2)]);
    ///
    /// harness.restore(&snapshot)?;
    /// assert_eq!(harness.take(), [('a', 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn snapshot_while(
        &mut self,
        then: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Snapshot> {
        self.settle()?;
        if let Some(last) = self.pipeline.last_snapshot().cloned() {
            then(self)?;
            return Ok(last);
        }
        self.pipeline.begin_snapshot()?;
        if let Err(error) = then(self) {
            self.pipeline.abort_snapshot();
            return Err(error);
        }
        let snapshot = self.pipeline.complete_snapshot()?;
        self.pipeline.run()?;
        Ok(snapshot)
    }

    /// Throws the pipeline away and begins one anew from a snapshot, as a job does after a failure: what was
    /// given after the snapshot is read again, and results that came after it are taken back, unless the test
    /// has taken them. Processing time goes on.
    ///
    /// The snapshot may be that of another harness, of an earlier version of the program, say; then everything
    /// that this one is given comes after it.
    ///
    /// # Errors
    /// If the snapshot does not fit the pipeline; or the failure of an operator.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut before = Harness::new(|words: DataStream<String>| words.key_by(|w| w.clone()).count().uid("n"))?;
    /// before.element("tick".to_string(), 0)?;
    ///
    /// let mut after = Harness::new(|words: DataStream<String>| {
    ///     words.map(|w| w.to_lowercase()).key_by(|w| w.clone()).count().uid("n")
    /// })?;
    /// after.restore(&before.snapshot()?)?;
    /// after.element("TICK".to_string(), 0)?;
    /// assert_eq!(after.take(), [("tick".to_string(), 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.restore_as(snapshot, None)
    }

    /// As `restore`, but with another default parallelism.
    ///
    /// # Errors
    /// As for `restore`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.key_by(|n| n % 10).count())?;
    /// (0..10).for_each(|n| harness.input().element(n, 0));
    /// let snapshot = harness.snapshot()?;
    /// assert!(harness.take().iter().all(|(_, count)| *count == 1));
    ///
    /// harness.restore_with_parallelism(&snapshot, 3)?;
    /// (0..10).for_each(|n| harness.input().element(n, 0));
    /// harness.settle()?;
    /// assert!(harness.take().iter().all(|(_, count)| *count == 2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn restore_with_parallelism(
        &mut self,
        snapshot: &Snapshot,
        parallelism: usize,
    ) -> Result<()> {
        self.restore_as(snapshot, Some(parallelism))
    }

    fn restore_as(&mut self, snapshot: &Snapshot, parallelism: Option<usize>) -> Result<()> {
        self.pipeline.restore(snapshot, parallelism)?;
        self.pipeline.run()
    }
}
