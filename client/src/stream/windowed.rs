//! Windows on a stream: which, fired when, kept how long. What is made of them is in [`results`].
//!
//! What cannot be is noted and told when the program is run, with the place where it was written: a method
//! chain stays a chain.

mod results;

use super::keyed::stateful;
use super::{DataStream, KeyedStream, Partitioning};
use crate::graph::OpContext;
use millstream_model::job_graph::Ship;
use millstream_model::{Data, Error, Key, Result};
use millstream_runtime::function::OutputTag;
use millstream_runtime::window::build::{self, WindowSpec};
use millstream_runtime::window::count::count_window;
use millstream_runtime::window::{
    Aggregated, Assigner, BoxedOperator, BoxedTrigger, Content, CountEvictor, CountTrigger, Emit,
    Eviction, Evictor, Global, OneKey, Trigger,
};
use millstream_state::Aggregate;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// A stream cut into windows per key, about to be aggregated.
#[must_use = "windows do nothing by themselves: aggregate or process them"]
pub struct WindowedStream<K, T> {
    keyed: KeyedStream<K, T>,
    windows: Windows<T>,
    /// What was asked for and cannot be.
    mistake: Option<Error>,
    /// Whether all keys are one.
    is_all: bool,
}

enum Windows<T> {
    Spec(WindowSpec<T>),
    Count(u64),
    /// Nothing valid: the mistake says why.
    None,
}

impl<T> Clone for Windows<T> {
    fn clone(&self) -> Self {
        match self {
            Windows::Spec(spec) => Windows::Spec(spec.clone()),
            Windows::Count(n) => Windows::Count(*n),
            Windows::None => Windows::None,
        }
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Cuts the stream into windows per key: [`Tumbling`], [`Sliding`], [`Session`] or [`Global`].
    ///
    /// [`Tumbling`]: millstream_runtime::window::Tumbling
    /// [`Sliding`]: millstream_runtime::window::Sliding
    /// [`Session`]: millstream_runtime::window::Session
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let clicks = env.from_collection(vec![("a".to_string(), 1_000i64), ("a".to_string(), 1_500), ("a".to_string(), 61_000)]);
    /// let counts = clicks
    ///     .watermarks(Watermarks::monotonous().on(|c: &(String, i64)| c.1))
    ///     .key_by(|c| c.0.clone())
    ///     .window(Tumbling::of(mins(1)))
    ///     .count()
    ///     .uid("clicks")
    ///     .execute_and_collect("clicks per minute")?;
    /// let counts: Vec<_> = counts.into_iter().map(|(key, window, n)| (key, window.start, n)).collect();
    /// assert_eq!(counts, [("a".to_string(), 0, 2), ("a".to_string(), 60_000, 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn window(self, assigner: impl Assigner<T>) -> WindowedStream<K, T> {
        let (windows, mistake) = match WindowSpec::new(assigner) {
            Ok(spec) => (Windows::Spec(spec), None),
            Err(e) => (Windows::None, Some(e)),
        };
        WindowedStream { keyed: self, windows, mistake, is_all: false }
    }

    /// Windows of `n` records of a key each; what is left at the end of the input is not emitted.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let sums = env.from_collection(vec![1, 2, 3, 4, 5]).key_by(|_| ()).count_window(2).reduce(|a, b| a + b);
    /// assert_eq!(sums.execute_and_collect("pairs")?, [3, 7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn count_window(self, n: u64) -> WindowedStream<K, T> {
        let mistake = (n == 0).then(|| Error::user("a count window must hold at least one record"));
        WindowedStream { keyed: self, windows: Windows::Count(n), mistake, is_all: false }
    }

    /// Windows of the last `n` records of a key, one after every `slide` records.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let sums = env.from_collection(vec![1, 2, 3, 4, 5, 6]).key_by(|_| ()).count_window_sliding(3, 2).reduce(|a, b| a + b);
    /// // Of 1 and 2; of 2, 3 and 4; of 4, 5 and 6.
    /// assert_eq!(sums.execute_and_collect("moving sums")?, [3, 9, 15]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn count_window_sliding(self, n: u64, slide: u64) -> WindowedStream<K, T>
    where
        T: Clone,
    {
        let windows = self.window(Global).trigger(CountTrigger::of(slide));
        windows.evictor(CountEvictor::of(usize::try_from(n).unwrap_or(usize::MAX)))
    }
}

impl<T: Data> DataStream<T> {
    /// Cuts the whole stream into windows, in one subtask.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let readings = env.from_collection(vec![(1i64, 5), (2, 9), (11, 4)]);
    /// let highest = readings
    ///     .watermarks(Watermarks::monotonous().on(|r: &(i64, i32)| r.0))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .reduce(|a, b| if a.1 >= b.1 { a } else { b });
    /// assert_eq!(highest.execute_and_collect("highest")?, [(2, 9), (11, 4)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn window_all(mut self, assigner: impl Assigner<T>) -> WindowedStream<(), T> {
        self.partitioning = Partitioning::of(Ship::Global);
        let windows = KeyedStream { stream: self, selector: Arc::new(OneKey) }.window(assigner);
        WindowedStream { is_all: true, ..windows }
    }
}

impl<K: Key, T: Data> WindowedStream<K, T> {
    fn adjust(mut self, what: &str, change: impl FnOnce(WindowSpec<T>) -> WindowSpec<T>) -> Self {
        self.windows = match self.windows {
            Windows::Spec(spec) => Windows::Spec(change(spec)),
            other => {
                let problem = format!(
                    "`.{what}(…)` does not apply to count windows: use `.window(Global)` with a trigger"
                );
                self.mistake.get_or_insert_with(|| Error::user(problem));
                other
            }
        };
        self
    }

    /// Fires windows when a trigger says so instead of at their end.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let seen = env
    ///     .from_collection(vec![3, 1, 4, 1])
    ///     .window_all(Global)
    ///     .trigger(PurgingTrigger::of(CountTrigger::of(2)))
    ///     .reduce(|a, b| a + b);
    /// assert_eq!(seen.execute_and_collect("in twos")?, [4, 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn trigger(self, trigger: impl Trigger<T>) -> Self {
        self.adjust("trigger", |spec| spec.trigger(BoxedTrigger::new(trigger)))
    }

    /// Removes elements from a window when it fires.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let last = env
    ///     .from_collection(vec![1i64, 2, 3, 14])
    ///     .watermarks(Watermarks::monotonous().on(|t: &i64| *t))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .evictor(CountEvictor::of(2))
    ///     .process(|_, times, _, out| {
    ///         out.emit(times.to_vec());
    ///         Ok(())
    ///     });
    /// assert_eq!(last.execute_and_collect("the last two")?, [vec![2, 3], vec![14]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn evictor(self, evictor: impl Evictor<T>) -> Self
    where
        T: Clone,
    {
        self.adjust("evictor", |spec| spec.evictor(Eviction::new(evictor)))
    }

    /// Keeps windows for so much longer; a record that comes in that time makes its window fire again, with
    /// all it holds.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let counts = env
    ///     .from_collection(vec![5i64, 11, 7])
    ///     .watermarks(Watermarks::monotonous().on(|t: &i64| *t))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .allowed_lateness(millis(5))
    ///     .count()
    ///     .map(|(_, window, n)| (window.start, n)).parallelism(1);
    /// // The record of time 7 is behind the watermark: its window fires once more.
    /// assert_eq!(counts.execute_and_collect("with corrections")?, [(0, 1), (0, 2), (10, 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        self.adjust("allowed_lateness", |spec| spec.allowed_lateness(lateness))
    }

    /// Sends records that are too late for all their windows to a side output. Without it they are counted
    /// in the metric `late_records_dropped`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// const LATE: OutputTag<i64> = OutputTag::new("late");
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let counts = env
    ///     .from_collection(vec![5, 25, 7])
    ///     .watermarks(Watermarks::monotonous().on(|t: &i64| *t))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .late_to(&LATE)
    ///     .count();
    /// let late = counts.side_output(&LATE).collect();
    /// assert_eq!(counts.execute_and_collect("with late records")?.len(), 2);
    /// assert_eq!(late.take(), [7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn late_to(self, tag: &OutputTag<T>) -> Self {
        let tag = tag.name();
        self.adjust("late_to", |spec| spec.late_to(tag))
    }

    /// Adds the operator; `make` builds it for each subtask from the windows.
    fn finish<O: Data>(
        self,
        kind: &'static str,
        location: &'static Location<'static>,
        make: impl Fn(&Windows<T>, &Selector<K, T>, &OpContext) -> Result<BoxedOperator<T, O>>
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        let WindowedStream { keyed, windows, mut mistake, is_all } = self;
        if let (Windows::Spec(spec), None) = (&windows, &mistake) {
            mistake = spec.check().err();
        }
        if let Some(mistake) = mistake {
            let text =
                format!("operator `window` ({}:{}): {mistake}", location.file(), location.line());
            keyed.stream.env.graph_mut().mistakes.push(text);
        }
        let needs_time = matches!(&windows, Windows::Spec(spec) if spec.needs_event_time());
        let selector = Selector(Arc::clone(&keyed.selector));
        let make = move |c: &OpContext| make(&windows, &selector, c);
        keyed.stream.add_operator("window", location, make, |node| {
            stateful(&[kind])(node);
            node.needs_time = needs_time;
            node.parallelism_limit = is_all.then_some(1);
        })
    }

    pub(super) fn fold<C, E, O>(
        self,
        kind: &'static str,
        location: &'static Location<'static>,
        content: C,
        emit: impl Fn() -> E + Send + Sync + 'static,
    ) -> DataStream<O>
    where
        C: Content<T> + Sync,
        E: Emit<K, C::Acc, Out = O>,
        O: Data,
    {
        self.finish(kind, location, move |windows, selector, c| {
            let (content, selector, context) =
                (content.clone(), Arc::clone(&selector.0), c.operator.clone());
            match windows {
                Windows::Spec(spec) => build::content(spec, content, emit(), selector, context),
                Windows::Count(n) => count_window(*n, content, emit(), selector, context),
                Windows::None => Err(Error::internal("a window without windows was run")),
            }
        })
    }

    pub(super) fn aggregated<A, E, O>(
        self,
        kind: &'static str,
        location: &'static Location<'static>,
        aggregate: A,
        emit: impl Fn() -> E + Send + Sync + 'static,
    ) -> DataStream<O>
    where
        A: Aggregate<T>,
        E: Emit<K, A::Acc, Out = O>,
        O: Data,
    {
        self.finish(kind, location, move |windows, selector, c| {
            let (aggregate, selector, context) =
                (aggregate.clone(), Arc::clone(&selector.0), c.operator.clone());
            match windows {
                Windows::Spec(spec) => build::aggregate(spec, aggregate, emit(), selector, context),
                Windows::Count(n) => {
                    let content = Aggregated(aggregate);
                    count_window(*n, content, emit(), selector, context)
                }
                Windows::None => Err(Error::internal("a window without windows was run")),
            }
        })
    }
}

/// The selector, shared by all subtasks.
struct Selector<K, T>(Arc<dyn millstream_runtime::keyed::KeySelector<T, K>>);
