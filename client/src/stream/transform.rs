//! Operators that look at one record at a time.
//!
//! A closure is `Fn` and shared by the subtasks; what has a life cycle or scratch fields is a struct, cloned
//! for each.

use super::DataStream;
use crate::graph::{OpContext, Outs};
use millstream_model::{Data, Result};
use millstream_runtime::chain::Push;
use millstream_runtime::function::{Collector, MapFunction, ProcessFunction};
use millstream_runtime::operator::{
    Filter, FilterMap, FlatMap, FlatMapInto, Map, MapWith, Process, TryFilter, TryFlatMap, TryMap,
};
use std::panic::Location;
use std::sync::Arc;

impl<T: Data> DataStream<T> {
    /// Makes one record of each.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let out = env.from_collection(vec![1, 2, 3]).map(|n| n * 2).execute_and_collect("double")?;
    /// assert_eq!(out.iter().sum::<i32>(), 12);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn map<O: Data>(self, function: impl Fn(T) -> O + Send + Sync + 'static) -> DataStream<O> {
        let f = Arc::new(function);
        let make = move |c: &OpContext, outs: Outs<O>| {
            let f = Arc::clone(&f);
            let link: Box<dyn Push<T>> =
                Box::new(Map::new(move |v| f(v), outs.next, c.site.clone()));
            Ok(link)
        };
        self.add("map", "map", Location::caller(), make, |_| {})
    }

    /// Makes one record of each, or fails: the first error ends the job.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let parsed = env
    ///     .from_collection(vec!["1".to_string(), "x".to_string()])
    ///     .try_map(|s| s.parse::<i32>().map_err(|e| Error::user(format!("`{s}` is no number: {e}"))));
    /// let error = parsed.execute_and_collect("parse").unwrap_err();
    /// assert!(error.to_string().contains("operator `try_map`"));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn try_map<O: Data>(
        self,
        function: impl Fn(T) -> Result<O> + Send + Sync + 'static,
    ) -> DataStream<O> {
        let f = Arc::new(function);
        let make = move |_: &OpContext| {
            let f = Arc::clone(&f);
            Ok(TryMap(move |v| f(v)))
        };
        self.add_operator("try_map", Location::caller(), make, |_| {})
    }

    /// Keeps the records for which `keep` says so.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let out = env.from_collection(vec![1, 2, 3]).filter(|n| n % 2 == 1).execute_and_collect("odd")?;
    /// assert_eq!(out.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn filter(self, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> DataStream<T> {
        let f = Arc::new(keep);
        let make = move |c: &OpContext, outs: Outs<T>| {
            let f = Arc::clone(&f);
            let link: Box<dyn Push<T>> =
                Box::new(Filter::new(move |v: &T| f(v), outs.next, c.site.clone()));
            Ok(link)
        };
        self.add("filter", "filter", Location::caller(), make, |_| {})
    }

    /// Keeps the records for which `keep` says so, or fails: the first error ends the job.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let even = env.from_collection(vec![4, -1]).try_filter(|n| match *n {
    ///     0.. => Ok(n % 2 == 0),
    ///     _ => Err(Error::user(format!("{n} is negative"))),
    /// });
    /// let error = even.execute_and_collect("even").unwrap_err();
    /// assert_eq!(error.message(), "-1 is negative");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn try_filter(
        self,
        keep: impl Fn(&T) -> Result<bool> + Send + Sync + 'static,
    ) -> DataStream<T> {
        let f = Arc::new(keep);
        let make = move |_: &OpContext| {
            let f = Arc::clone(&f);
            Ok(TryFilter(move |v: &T| f(v)))
        };
        self.add_operator("try_filter", Location::caller(), make, |_| {})
    }

    /// Makes a record of some, drops the others.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let words = env.from_collection(vec!["1".to_string(), "x".to_string()]);
    /// let out = words.filter_map(|w| w.parse::<i32>().ok()).execute_and_collect("numbers")?;
    /// assert_eq!(out, [1]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn filter_map<O: Data>(
        self,
        function: impl Fn(T) -> Option<O> + Send + Sync + 'static,
    ) -> DataStream<O> {
        let f = Arc::new(function);
        let make = move |c: &OpContext, outs: Outs<O>| {
            let f = Arc::clone(&f);
            let link: Box<dyn Push<T>> =
                Box::new(FilterMap::new(move |v| f(v), outs.next, c.site.clone()));
            Ok(link)
        };
        self.add("filter_map", "filter_map", Location::caller(), make, |_| {})
    }

    /// Makes any number of records of each.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let out = env.from_collection(vec![1u64, 3]).flat_map(|n| 0..n).execute_and_collect("count up")?;
    /// assert_eq!(out.len(), 4);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn flat_map<C>(
        self,
        function: impl Fn(T) -> C + Send + Sync + 'static,
    ) -> DataStream<C::Item>
    where
        C: IntoIterator + 'static,
        C::Item: Data,
        C::IntoIter: Send + 'static,
    {
        let f = Arc::new(function);
        let make = move |_: &OpContext| {
            let f = Arc::clone(&f);
            Ok(FlatMap::new(move |v| f(v)))
        };
        self.add_operator("flat_map", Location::caller(), make, |_| {})
    }

    /// Makes any number of records of each, or fails: the first error ends the job.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let sums = env.from_collection(vec!["1+2".to_string(), "3".to_string()]);
    /// let numbers = sums.try_flat_map(|sum| {
    ///     let number = |n: &str| n.parse::<u32>().map_err(|e| Error::user(format!("`{n}`: {e}")));
    ///     sum.split('+').map(number).collect::<Result<Vec<_>>>()
    /// });
    /// assert_eq!(numbers.execute_and_collect("numbers")?.iter().sum::<u32>(), 6);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn try_flat_map<C>(
        self,
        function: impl Fn(T) -> Result<C> + Send + Sync + 'static,
    ) -> DataStream<C::Item>
    where
        C: IntoIterator + 'static,
        C::Item: Data,
        C::IntoIter: Send + 'static,
    {
        let f = Arc::new(function);
        let make = move |_: &OpContext| {
            let f = Arc::clone(&f);
            Ok(TryFlatMap::new(move |v| f(v)))
        };
        self.add_operator("try_flat_map", Location::caller(), make, |_| {})
    }

    /// Makes any number of records of each by emitting them: the function may borrow from its record, so
    /// cutting a line into words allocates nothing.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let lines = env.from_collection(vec![Text::from("to be or"), Text::from("not to be")]);
    /// let words = lines.flat_map_into(|line, out| line.split(' ').for_each(|w| out.emit(Text::from(w))));
    /// assert_eq!(words.execute_and_collect("words")?.len(), 6);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn flat_map_into<O: Data>(
        self,
        function: impl Fn(&T, &mut Collector<'_, O>) + Send + Sync + 'static,
    ) -> DataStream<O> {
        let f = Arc::new(function);
        let make = move |_: &OpContext| {
            let f = Arc::clone(&f);
            Ok(FlatMapInto(move |v: T, out: &mut Collector<'_, O>| {
                f(&v, out);
                Ok(())
            }))
        };
        self.add_operator("flat_map_into", Location::caller(), make, |_| {})
    }

    /// Looks at each record and passes it on.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicI32, Ordering};
    /// let largest = Arc::new(AtomicI32::new(0));
    /// let seen = Arc::clone(&largest);
    /// let env = Environment::local();
    /// env.from_collection(vec![3, 8, 5])
    ///     .inspect(move |n| {
    ///         seen.fetch_max(*n, Ordering::Relaxed);
    ///     })
    ///     .discard();
    /// env.execute("look")?;
    /// assert_eq!(largest.load(Ordering::Relaxed), 8);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn inspect(self, look: impl Fn(&T) + Send + Sync + 'static) -> DataStream<T> {
        let f = Arc::new(look);
        let make = move |c: &OpContext, outs: Outs<T>| {
            let f = Arc::clone(&f);
            let keep = move |v: &T| {
                f(v);
                true
            };
            let link: Box<dyn Push<T>> = Box::new(Filter::new(keep, outs.next, c.site.clone()));
            Ok(link)
        };
        self.add("inspect", "inspect", Location::caller(), make, |_| {})
    }

    /// Maps with a function that has a life cycle: it opens, counts, closes.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// /// Squares, and counts how many.
    /// #[derive(Clone, Default)]
    /// struct Square {
    ///     n_squared: Counter,
    /// }
    ///
    /// impl MapFunction<i64> for Square {
    ///     type Out = i64;
    ///     fn open(&mut self, context: &OperatorContext) -> Result<()> {
    ///         self.n_squared = context.counter("squared");
    ///         Ok(())
    ///     }
    ///     fn map(&mut self, n: i64) -> Result<i64> {
    ///         self.n_squared.inc();
    ///         Ok(n * n)
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.from_collection(vec![2, 3]).map_with(Square::default()).print();
    /// assert_eq!(env.execute("squares")?.counter("squared"), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn map_with<F>(self, function: F) -> DataStream<F::Out>
    where
        F: MapFunction<T> + Sync,
        F::Out: Data,
    {
        let make = move |c: &OpContext| Ok(MapWith::new(function.clone(), c.operator.clone()));
        self.add_operator("map_with", Location::caller(), make, |_| {})
    }

    /// Runs a process function: any number of outputs, side outputs, a life cycle, operator state.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// /// Passes on what is larger than everything before.
    /// #[derive(Clone)]
    /// struct Records;
    ///
    /// const BEST: OperatorListState<u64> = OperatorListState::split("best");
    ///
    /// impl ProcessFunction<u64> for Records {
    ///     type Out = (u64, EventTime);
    ///     const STATES: OperatorStateSet = operator_states![BEST];
    ///     fn process(
    ///         &mut self,
    ///         n: u64,
    ///         ctx: &mut ProcessContext<'_>,
    ///         out: &mut Collector<'_, Self::Out>,
    ///     ) -> Result<()> {
    ///         let mut best = ctx.operator_state(&BEST);
    ///         if best.iter().all(|best| n > *best) {
    ///             *best = vec![n];
    ///             out.emit((n, ctx.timestamp()));
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let jumps = env.from_collection(vec![3, 1, 7]).watermarks(Watermarks::monotonous().on(|n| *n as EventTime));
    /// let best = jumps.parallelism(1).process(Records).parallelism(1);
    /// assert_eq!(best.execute_and_collect("jumps")?, [(3, 3), (7, 7)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn process<F>(self, function: F) -> DataStream<F::Out>
    where
        F: ProcessFunction<T> + Sync,
        F::Out: Data,
    {
        let make = move |c: &OpContext| Process::new(function.clone(), c.operator.clone());
        self.add_operator("process", Location::caller(), make, |_| {})
    }
}
