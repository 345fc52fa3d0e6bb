//! Runs a pipeline on the calling thread.

use super::input::{InputHandle, scripted};
use super::script::Mode;
use crate::compile;
use crate::config::Config;
use crate::environment::Environment;
use crate::local::{Program, assemble};
use crate::stream::{DataStream, OperatorSettings};
use millstream_model::{Batch, Data, Error, EventTime, Result};
use millstream_runtime::context::{Clock, JobContext, OperatorContext};
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::function::OutputTag;
use millstream_runtime::operator::{Sink, SinkWriter};
use millstream_runtime::task::{Progress, Task, Wake, Waker};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long a pipeline may wait for results of asynchronous calls before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time that moves when told to.
#[derive(Debug, Default)]
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now_us(&self) -> EventTime {
        self.0.load(Ordering::SeqCst)
    }
}

/// Tells the harness that something arrived from another thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Bell {
    fn wait(&self) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, PATIENCE, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rung)
    }
}

type Records<T> = Arc<Mutex<Vec<(T, EventTime)>>>;

/// Keeps records with their times.
struct Probe<T>(Records<T>);

impl<T: Data> Sink<T> for Probe<T> {
    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Probe(Arc::clone(&self.0))))
    }
}

impl<T: Data> SinkWriter<T> for Probe<T> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let times: Vec<_> = (0..batch.len()).map(|i| batch.time(i)).collect();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(batch.values.drain(..).zip(times));
        Ok(())
    }
}

fn take<T>(records: &Records<T>) -> Vec<(T, EventTime)> {
    std::mem::take(&mut *records.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What a side output received.
pub struct Side<T>(Records<T>);

impl<T> Side<T> {
    /// The records since the last call.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// const ERRORS: OutputTag<String> = OutputTag::new(millstream::stream::ERRORS);
    /// let build = |input: DataStream<Result<u32, String>>| input.split_errors().0;
    /// let (mut harness, errors) = Harness::with_side(&ERRORS, build)?;
    /// harness.element(Err("no number".to_string()), 0)?;
    /// assert_eq!(errors.take(), ["no number"]);
    /// assert!(errors.take().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take(&self) -> Vec<T> {
        take(&self.0).into_iter().map(|(v, _)| v).collect()
    }
}

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
        });
        let memory = Arc::new(MemoryPool::new(Config::default().network_memory));
        let waker = Arc::clone(&bell) as Waker;
        let program = Program { graph, compiled, config };
        let tasks = assemble(&program, &job, &|_| waker.clone(), &memory)?;
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
    /// /// Emits a value 10 ms after it came.
    /// #[derive(Clone)]
    /// struct After;
    ///
    /// impl KeyedProcessFunction<u32, u32> for After {
    ///     type Out = u32;
    ///     fn process(&mut self, _: u32, ctx: &mut KeyedContext<'_, u32>, _: &mut Collector<'_, u32>) -> Result<()> {
    ///         ctx.timers().at(ctx.timestamp() + 10);
    ///         Ok(())
    ///     }
    ///     fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, u32>, out: &mut Collector<'_, u32>) -> Result<()> {
    ///         out.emit(*ctx.key());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.key_by(|n| *n).process(After))?;
    /// harness.element(7, 100)?;
    /// harness.watermark(109)?;
    /// assert!(harness.take().is_empty());
    /// harness.watermark(110)?;
    /// assert_eq!(harness.take_timed(), [(7, 110)]);
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
    /// /// Emits a value 10 ms after it came.
    /// #[derive(Clone)]
    /// struct After;
    ///
    /// impl KeyedProcessFunction<u32, u32> for After {
    ///     type Out = u32;
    ///     fn process(&mut self, _: u32, ctx: &mut KeyedContext<'_, u32>, _: &mut Collector<'_, u32>) -> Result<()> {
    ///         ctx.timers().at_processing_time(ctx.now_ms() + 10);
    ///         Ok(())
    ///     }
    ///     fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, u32>, out: &mut Collector<'_, u32>) -> Result<()> {
    ///         out.emit(*ctx.key());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.key_by(|n| *n).process(After))?;
    /// harness.element(7, 100)?;
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
