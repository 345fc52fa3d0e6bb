//! What is made of the windows of a stream: an aggregate, a reduced record, whatever a function emits.
//!
//! All of them are a content (what a window keeps) and a function of it; closures are shared by the subtasks,
//! functions with a life cycle are cloned for each.

use super::WindowedStream;
use crate::aggregates::{Count, Max, Min, Number, Sum};
use crate::stream::DataStream;
use millstream_model::{Data, Key, Result};
use millstream_runtime::function::Collector;
use millstream_runtime::window::emit::{
    ElementsTo, Folded, FoldedTo, Results, ResultsTo, WindowClosure,
};
use millstream_runtime::window::{Elements, Reduced, TimeWindow, WindowContext, WindowFunction};
use millstream_state::Aggregate;
use std::panic::Location;
use std::sync::Arc;

impl<K: Key, T: Data> WindowedStream<K, T> {
    /// Emits the result of an aggregate per key and window. Sliding windows share partial results.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let longest = env
    ///     .from_collection(vec![(1i64, 5u32), (2, 9), (11, 4)])
    ///     .watermarks(Watermarks::monotonous().on(|r: &(i64, u32)| r.0))
    ///     .window_all(Sliding::of(millis(10), millis(5)))
    ///     .aggregate(Max::of(|r: &(i64, u32)| r.1));
    /// assert_eq!(longest.execute_and_collect("longest")?, [9, 9, 4, 4]);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let joined = env
    ///     .from_collection(vec![(1i64, "a".to_string()), (2, "b".to_string()), (11, "c".to_string())])
    ///     .watermarks(Watermarks::monotonous().on(|r: &(i64, String)| r.0))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .reduce(|a, b| (a.0, a.1 + &b.1))
    ///     .map(|(_, text)| text).parallelism(1);
    /// assert_eq!(joined.execute_and_collect("joined")?, ["ab", "c"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn reduce(self, function: impl Fn(T, T) -> T + Send + Sync + 'static) -> DataStream<T>
    where
        T: Clone,
    {
        self.fold("reduce", Location::caller(), reduced(function), || Folded)
    }

    /// Combines the records of a key and window into one and gives it, with key and window, to a function
    /// that emits.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let sums = env
    ///     .from_collection(vec![1i64, 2, 13])
    ///     .watermarks(Watermarks::monotonous().on(|t: &i64| *t))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .reduce_with(|a, b| a + b, |_, sum, ctx, out| {
    ///         out.emit((ctx.window().end, *sum));
    ///         Ok(())
    ///     });
    /// assert_eq!(sums.execute_and_collect("sums")?, [(10, 3), (20, 13)]);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// /// Counts windows of more than one record.
    /// #[derive(Clone)]
    /// struct Crowded(Option<Counter>);
    ///
    /// impl WindowFunction<(), [i64]> for Crowded {
    ///     type Out = usize;
    ///     fn open(&mut self, context: &OperatorContext) -> Result<()> {
    ///         self.0 = Some(context.counter("crowded"));
    ///         Ok(())
    ///     }
    ///     fn process(&mut self, _: &(), times: &[i64], _: &WindowContext<'_>, out: &mut Collector<'_, usize>) -> Result<()> {
    ///         if let Some(counter) = self.0.as_ref().filter(|_| times.len() > 1) {
    ///             counter.inc();
    ///         }
    ///         out.emit(times.len());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let sizes = env
    ///     .from_collection(vec![1i64, 2, 13])
    ///     .watermarks(Watermarks::monotonous().on(|t: &i64| *t))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .process_with(Crowded(None));
    /// assert_eq!(sizes.execute_and_collect("sizes")?, [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let results = env
    ///     .from_collection(vec![(1i64, 5), (2, 9), (3, 5), (11, 4)])
    ///     .watermarks(Watermarks::monotonous().on(|r: &(i64, i32)| r.0))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .count()
    ///     .map(|((), window, value)| (window.start, value)).parallelism(1);
    /// assert_eq!(results.execute_and_collect("counts")?, [(0, 3), (10, 1)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn count(self) -> DataStream<(K, TimeWindow, u64)> {
        self.keyed_result("count", Location::caller(), Count)
    }

    /// Adds up a field: emits key, window and sum.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let results = env
    ///     .from_collection(vec![(1i64, 5), (2, 9), (3, 5), (11, 4)])
    ///     .watermarks(Watermarks::monotonous().on(|r: &(i64, i32)| r.0))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .sum(|r| r.1)
    ///     .map(|((), window, value)| (window.start, value)).parallelism(1);
    /// assert_eq!(results.execute_and_collect("sums")?, [(0, 19), (10, 4)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn sum<N: Number>(
        self,
        field: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, TimeWindow, N)> {
        self.keyed_result("sum", Location::caller(), Sum::of(field))
    }

    /// The smallest value of a field: emits key, window and value.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let results = env
    ///     .from_collection(vec![(1i64, 5), (2, 9), (3, 5), (11, 4)])
    ///     .watermarks(Watermarks::monotonous().on(|r: &(i64, i32)| r.0))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .min(|r| r.1)
    ///     .map(|((), window, value)| (window.start, value)).parallelism(1);
    /// assert_eq!(results.execute_and_collect("least")?, [(0, 5), (10, 4)]);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let results = env
    ///     .from_collection(vec![(1i64, 5), (2, 9), (3, 5), (11, 4)])
    ///     .watermarks(Watermarks::monotonous().on(|r: &(i64, i32)| r.0))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .max(|r| r.1)
    ///     .map(|((), window, value)| (window.start, value)).parallelism(1);
    /// assert_eq!(results.execute_and_collect("most")?, [(0, 9), (10, 4)]);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let results = env
    ///     .from_collection(vec![(1i64, 5), (2, 9), (3, 5), (11, 4)])
    ///     .watermarks(Watermarks::monotonous().on(|r: &(i64, i32)| r.0))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .min_by(|r| r.1);
    /// assert_eq!(results.execute_and_collect("least")?, [(1, 5), (11, 4)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn min_by<N: Ord>(self, field: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<T>
    where
        T: Clone,
    {
        let best = move |a: T, b: T| if field(&b) < field(&a) { b } else { a };
        self.fold("min_by", Location::caller(), reduced(best), || Folded)
    }

    /// The record with the largest value of a field, the first of equals.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let results = env
    ///     .from_collection(vec![(1i64, 5), (2, 9), (3, 5), (11, 4)])
    ///     .watermarks(Watermarks::monotonous().on(|r: &(i64, i32)| r.0))
    ///     .window_all(Tumbling::of(millis(10)))
    ///     .max_by(|r| r.1);
    /// assert_eq!(results.execute_and_collect("most")?, [(2, 9), (11, 4)]);
    /// # Ok(())
    /// # }
    /// ```
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

/// A reduce of two records into one, shared by all subtasks.
fn reduced<T: Data>(
    function: impl Fn(T, T) -> T + Send + Sync + 'static,
) -> Reduced<impl Fn(T, T) -> T + Clone + Send + Sync + 'static> {
    let function = Arc::new(function);
    Reduced(move |folded, value| function(folded, value))
}
