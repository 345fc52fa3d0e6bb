//! Windows on a stream: what to keep of the records of a window, and what to make of it.

use super::keyed::stateful;
use super::{DataStream, KeyedStream, Partitioning};
use crate::aggregates::{Count, Max, Min, Number, Sum};
use crate::graph::OpContext;
use millstream_model::job_graph::Ship;
use millstream_model::{Data, Error, Key, Result};
use millstream_runtime::function::{Collector, OutputTag};
use millstream_runtime::window::build::{self, WindowSpec};
use millstream_runtime::window::count::count_window;
use millstream_runtime::window::emit::{
    ElementsTo, Folded, FoldedTo, Results, ResultsTo, WindowClosure,
};
use millstream_runtime::window::{
    Assigner, BoxedOperator, BoxedTrigger, Content, CountEvictor, CountTrigger, Elements, Emit,
    Eviction, Evictor, Global, OneKey, Reduced, TimeWindow, Trigger, WindowContext, WindowFunction,
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
    pub fn trigger(self, trigger: impl Trigger<T>) -> Self {
        self.adjust("trigger", |spec| spec.trigger(BoxedTrigger::new(trigger)))
    }

    /// Removes elements from a window when it fires.
    pub fn evictor(self, evictor: impl Evictor<T>) -> Self
    where
        T: Clone,
    {
        self.adjust("evictor", |spec| spec.evictor(Eviction::new(evictor)))
    }

    /// Keeps windows for so much longer; a record that comes in that time makes its window fire again, with
    /// all it holds.
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

    fn fold<C, E, O>(
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

    fn aggregated<A, E, O>(
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
                    let content = millstream_runtime::window::Aggregated(aggregate);
                    count_window(*n, content, emit(), selector, context)
                }
                Windows::None => Err(Error::internal("a window without windows was run")),
            }
        })
    }

    /// Emits the result of an aggregate per key and window. Sliding windows share partial results.
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(self, aggregate: A) -> DataStream<A::Out> {
        let results = aggregate.clone();
        self.aggregated("aggregate", Location::caller(), aggregate, move || {
            Results::new(results.clone())
        })
    }

    /// Gives the result of an aggregate, with key and window, to a function that emits.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let out = env
    ///     .from_collection(vec![1i64, 2, 13])
    ///     .watermarks(Watermarks::monotonous().on(|t: &i64| *t))
    ///     .key_by(|t| t % 2)
    ///     .window(Tumbling::of(millis(10)))
    ///     .aggregate_with(Count, |key, count, ctx, out| {
    ///         out.emit((*key, ctx.window().start, *count));
    ///         Ok(())
    ///     })
    ///     .execute_and_collect("odd and even")?;
    /// assert_eq!(out.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn aggregate_with<A, O>(
        self,
        aggregate: A,
        function: impl Fn(&K, &A::Out, &WindowContext<'_>, &mut Collector<'_, O>) -> Result<()>
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O>
    where
        A: Aggregate<T>,
        O: Data,
    {
        let (results, f) = (aggregate.clone(), Arc::new(function));
        self.aggregated("aggregate", Location::caller(), aggregate, move || {
            let f = Arc::clone(&f);
            let function =
                move |key: &K,
                      result: &A::Out,
                      ctx: &WindowContext<'_>,
                      out: &mut Collector<'_, O>| { f(key, result, ctx, out) };
            ResultsTo::new(results.clone(), WindowClosure::new(function))
        })
    }

    /// Combines the records of a key and window into one of the same type, in order of arrival.
    #[track_caller]
    pub fn reduce(self, function: impl Fn(T, T) -> T + Send + Sync + 'static) -> DataStream<T>
    where
        T: Clone,
    {
        self.fold("reduce", Location::caller(), reduced(function), || Folded)
    }

    /// Combines the records of a key and window into one and gives it, with key and window, to a function
    /// that emits.
    #[track_caller]
    pub fn reduce_with<O: Data>(
        self,
        reduce: impl Fn(T, T) -> T + Send + Sync + 'static,
        function: impl Fn(&K, &T, &WindowContext<'_>, &mut Collector<'_, O>) -> Result<()>
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O>
    where
        T: Clone,
    {
        let f = Arc::new(function);
        self.fold("reduce", Location::caller(), reduced(reduce), move || {
            let f = Arc::clone(&f);
            FoldedTo(WindowClosure::new(
                move |key: &K, value: &T, ctx: &WindowContext<'_>, out: &mut Collector<'_, O>| {
                    f(key, value, ctx, out)
                },
            ))
        })
    }

    /// Gives all records of a key and window, in order of arrival, to a function that emits.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let spans = env
    ///     .from_collection(vec![3i64, 5, 40])
    ///     .watermarks(Watermarks::monotonous().on(|t: &i64| *t))
    ///     .key_by(|_| ())
    ///     .window(Session::gap(millis(10)))
    ///     .process(|_, times, ctx, out| {
    ///         out.emit((ctx.window().start, ctx.window().end, times.len()));
    ///         Ok(())
    ///     });
    /// assert_eq!(spans.execute_and_collect("sessions")?, [(3, 15, 2), (40, 50, 1)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn process<O: Data>(
        self,
        function: impl Fn(&K, &[T], &WindowContext<'_>, &mut Collector<'_, O>) -> Result<()>
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O>
    where
        T: Clone,
    {
        let f = Arc::new(function);
        self.fold("process", Location::caller(), Elements, move || {
            let f = Arc::clone(&f);
            ElementsTo(WindowClosure::new(
                move |key: &K,
                      values: &[T],
                      ctx: &WindowContext<'_>,
                      out: &mut Collector<'_, O>| f(key, values, ctx, out),
            ))
        })
    }

    /// As `process`, with a function that has a life cycle.
    #[track_caller]
    pub fn process_with<F>(self, function: F) -> DataStream<F::Out>
    where
        T: Clone,
        F: WindowFunction<K, [T]> + Sync,
        F::Out: Data,
    {
        self.fold("process", Location::caller(), Elements, move || ElementsTo(function.clone()))
    }

    /// Counts the records: emits key, window and count.
    #[track_caller]
    pub fn count(self) -> DataStream<(K, TimeWindow, u64)> {
        self.keyed_result("count", Location::caller(), Count)
    }

    /// Adds up a field: emits key, window and sum.
    #[track_caller]
    pub fn sum<N: Number>(
        self,
        field: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, TimeWindow, N)> {
        self.keyed_result("sum", Location::caller(), Sum::of(field))
    }

    /// The smallest value of a field: emits key, window and value.
    #[track_caller]
    pub fn min<N>(
        self,
        field: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, TimeWindow, N)>
    where
        N: Data + Ord + Clone + Sync,
    {
        self.keyed_result("min", Location::caller(), Min::of(field))
    }

    /// The largest value of a field: emits key, window and value.
    #[track_caller]
    pub fn max<N>(
        self,
        field: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, TimeWindow, N)>
    where
        N: Data + Ord + Clone + Sync,
    {
        self.keyed_result("max", Location::caller(), Max::of(field))
    }

    /// The record with the smallest value of a field, the first of equals.
    #[track_caller]
    pub fn min_by<N: Ord>(self, field: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<T>
    where
        T: Clone,
    {
        let best = move |a: T, b: T| if field(&b) < field(&a) { b } else { a };
        self.fold("min_by", Location::caller(), reduced(best), || Folded)
    }

    /// The record with the largest value of a field, the first of equals.
    #[track_caller]
    pub fn max_by<N: Ord>(self, field: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<T>
    where
        T: Clone,
    {
        let best = move |a: T, b: T| if field(&b) > field(&a) { b } else { a };
        self.fold("max_by", Location::caller(), reduced(best), || Folded)
    }

    fn keyed_result<A>(
        self,
        kind: &'static str,
        location: &'static Location<'static>,
        aggregate: A,
    ) -> DataStream<(K, TimeWindow, A::Out)>
    where
        A: Aggregate<T>,
        A::Out: Clone,
    {
        let results = aggregate.clone();
        self.aggregated(kind, location, aggregate, move || {
            let function =
                |key: &K,
                 value: &A::Out,
                 ctx: &WindowContext<'_>,
                 out: &mut Collector<'_, (K, TimeWindow, A::Out)>| {
                    out.emit((key.clone(), ctx.window(), value.clone()));
                    Ok(())
                };
            ResultsTo::new(results.clone(), WindowClosure::new(function))
        })
    }
}

/// The selector, shared by all subtasks.
struct Selector<K, T>(Arc<dyn millstream_runtime::keyed::KeySelector<T, K>>);

/// A reduce of two records into one, as the content of a window keeps it.
fn reduced<T: Data + Clone>(
    function: impl Fn(T, T) -> T + Send + Sync + 'static,
) -> Reduced<impl Fn(&mut T, T) + Clone + Send + Sync + 'static> {
    let function = Arc::new(function);
    Reduced(move |folded: &mut T, value: T| *folded = function(folded.clone(), value))
}
