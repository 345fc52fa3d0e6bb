//! `KeyedStream<K, T>`: a stream partitioned by a key.

use super::{DataStream, KeyedConnectedStreams, Partitioning};
use crate::graph::{Node, OpContext};
use millstream_model::{Data, Key, Result};
use millstream_runtime::function::KeyedProcessFunction;
use millstream_runtime::keyed::KeySelector;
use millstream_runtime::operator::{Fold, KeyedFold, KeyedProcess};
use millstream_state::Aggregate;
use std::marker::PhantomData;
use std::ops::AddAssign;
use std::panic::Location;
use std::sync::Arc;

/// A stream whose records with equal keys meet in one subtask, in order, with state of their own.
#[must_use = "a stream does nothing by itself: end it in a sink"]
pub struct KeyedStream<K, T> {
    pub(crate) stream: DataStream<T>,
    pub(crate) selector: Arc<dyn KeySelector<T, K>>,
}

/// Marks a node as one with keyed state of these names.
pub(crate) fn stateful(states: &[&str]) -> impl FnOnce(&mut Node) + use<> {
    let states = states.iter().map(|s| (*s).to_string()).collect();
    move |node: &mut Node| {
        node.is_stateful = true;
        node.states = states;
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    pub(crate) fn new(mut stream: DataStream<T>, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        stream.partitioning = Partitioning::hash(Arc::clone(&selector));
        KeyedStream { stream, selector }
    }

    /// Runs a process function with state and timers per key.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// /// Emits each value with how often its key was seen before.
    /// #[derive(Clone)]
    /// struct Seen;
    /// const COUNT: ValueState<u32> = ValueState::new("count");
    ///
    /// impl KeyedProcessFunction<u64, u64> for Seen {
    ///     type Out = (u64, u32);
    ///     const STATES: StateSet<u64> = states![COUNT];
    ///     fn process(&mut self, value: u64, ctx: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, Self::Out>) -> Result<()> {
    ///         let mut count = ctx.state(&COUNT);
    ///         let before = count.or_default();
    ///         out.emit((value, *before));
    ///         *before += 1;
    ///         Ok(())
    ///     }
    /// }
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let mut out = env.from_collection(vec![7, 8, 7]).key_by(|n| *n).process(Seen).uid("seen").execute_and_collect("seen")?;
    /// out.sort();
    /// assert_eq!(out, [(7, 0), (7, 1), (8, 0)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn process<F>(self, function: F) -> DataStream<F::Out>
    where
        F: KeyedProcessFunction<K, T> + Sync,
        F::Out: Data,
    {
        let selector = self.selector;
        let names: Vec<_> = F::STATES.declarations().iter().map(|d| d.name()).collect();
        let make = move |c: &OpContext| {
            KeyedProcess::new(function.clone(), Arc::clone(&selector), c.operator.clone())
        };
        self.stream.add_operator("process", Location::caller(), make, stateful(&names))
    }

    fn fold<F: Fold<K, T> + Clone + Sync>(
        self,
        kind: &'static str,
        location: &'static Location<'static>,
        fold: F,
    ) -> DataStream<F::Out>
    where
        F::Out: Data,
    {
        let selector = self.selector;
        let make = move |_: &OpContext| Ok(KeyedFold::new(fold.clone(), Arc::clone(&selector)));
        self.stream.add_operator(kind, location, make, stateful(&[kind]))
    }

    fn fold_with<S, O>(
        self,
        kind: &'static str,
        location: &'static Location<'static>,
        create: impl Fn() -> S + Clone + Send + Sync + 'static,
        step: impl Fn(&K, &mut S, T) -> O + Send + Sync + 'static,
    ) -> DataStream<O>
    where
        S: Data,
        O: Data,
    {
        self.fold(kind, location, FoldWith { create, step: Arc::new(step), types: PhantomData })
    }

    /// Combines the records of a key into one of the same type; emits the result after every record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let out = env.from_collection(vec![3, 1, 2]).key_by(|_| ()).reduce(|a, b| a + b).execute_and_collect("sums")?;
    /// assert_eq!(out, [3, 4, 6]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn reduce(self, function: impl Fn(T, T) -> T + Send + Sync + 'static) -> DataStream<T>
    where
        T: Clone,
    {
        let step = move |_: &K, state: &mut Option<T>, value: T| {
            let reduced = match state.take() {
                Some(before) => function(before, value),
                None => value,
            };
            state.insert(reduced).clone()
        };
        self.fold_with("reduce", Location::caller(), || None, step)
    }

    /// Counts the records of each key; emits the key and its count after every record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let out = env.from_collection(vec![7, 8, 7]).key_by(|n| *n).count().uid("counts");
    /// let mut counts = out.execute_and_collect("counts")?;
    /// counts.sort();
    /// assert_eq!(counts, [(7, 1), (7, 2), (8, 1)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn count(self) -> DataStream<(K, u64)> {
        let step = |key: &K, count: &mut u64, _: T| {
            *count += 1;
            (key.clone(), *count)
        };
        self.fold_with("count", Location::caller(), || 0, step)
    }

    /// Adds up a field of the records of each key; emits the key and its sum after every record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let sales = env.from_collection(vec![('n', 2), ('n', 5)]);
    /// let sums = sales.key_by(|s| s.0).sum(|s| s.1).execute_and_collect("sums")?;
    /// assert_eq!(sums, [('n', 2), ('n', 7)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn sum<N>(self, field: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<(K, N)>
    where
        N: Data + Clone + Default + AddAssign,
    {
        let step = move |key: &K, sum: &mut N, value: T| {
            *sum += field(&value);
            (key.clone(), sum.clone())
        };
        self.fold_with("sum", Location::caller(), N::default, step)
    }

    /// The smallest value of a field per key so far; emits it with the key after every record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let bids = env.from_collection(vec![('a', 5), ('a', 9), ('a', 3)]);
    /// let least = bids.key_by(|b| b.0).min(|b| b.1).execute_and_collect("least")?;
    /// assert_eq!(least, [('a', 5), ('a', 5), ('a', 3)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn min<N: Data + Clone + Ord>(
        self,
        field: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, N)> {
        let step = move |key: &K, least: &mut Option<N>, value: T| {
            let n = field(&value);
            let least = match least.take() {
                Some(before) => least.insert(before.min(n)),
                None => least.insert(n),
            };
            (key.clone(), least.clone())
        };
        self.fold_with("min", Location::caller(), || None, step)
    }

    /// The largest value of a field per key so far; emits it with the key after every record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let bids = env.from_collection(vec![('a', 5), ('a', 9), ('a', 3)]);
    /// let most = bids.key_by(|b| b.0).max(|b| b.1).execute_and_collect("most")?;
    /// assert_eq!(most, [('a', 5), ('a', 9), ('a', 9)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn max<N: Data + Clone + Ord>(
        self,
        field: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, N)> {
        let step = move |key: &K, most: &mut Option<N>, value: T| {
            let n = field(&value);
            let most = match most.take() {
                Some(before) => most.insert(before.max(n)),
                None => most.insert(n),
            };
            (key.clone(), most.clone())
        };
        self.fold_with("max", Location::caller(), || None, step)
    }

    /// The record with the smallest value of a field per key so far, the first of equals; emitted after
    /// every record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let bids = env.from_collection(vec![("Ada", 5), ("Bob", 3)].into_iter().map(|(who, n)| (Text::from(who), n)).collect());
    /// let least = bids.key_by(|_| ()).min_by(|b| b.1).map(|b| b.0).parallelism(1);
    /// assert_eq!(least.execute_and_collect("least")?, ["Ada", "Bob"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn min_by<N: Ord>(self, field: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<T>
    where
        T: Clone,
    {
        let step = move |_: &K, best: &mut Option<T>, value: T| {
            let better = best.as_ref().is_none_or(|b| field(&value) < field(b));
            if better { best.insert(value).clone() } else { best.clone().unwrap_or(value) }
        };
        self.fold_with("min_by", Location::caller(), || None, step)
    }

    /// The record with the largest value of a field per key so far, the first of equals; emitted after
    /// every record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let bids = env.from_collection(vec![("Ada", 5), ("Bob", 3)].into_iter().map(|(who, n)| (Text::from(who), n)).collect());
    /// let most = bids.key_by(|_| ()).max_by(|b| b.1).map(|b| b.0).parallelism(1);
    /// assert_eq!(most.execute_and_collect("most")?, ["Ada", "Ada"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn max_by<N: Ord>(self, field: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<T>
    where
        T: Clone,
    {
        let step = move |_: &K, best: &mut Option<T>, value: T| {
            let better = best.as_ref().is_none_or(|b| field(&value) > field(b));
            if better { best.insert(value).clone() } else { best.clone().unwrap_or(value) }
        };
        self.fold_with("max_by", Location::caller(), || None, step)
    }

    /// Folds the records of each key with an aggregate; emits the key and the result after every record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// /// The mean of numbers.
    /// #[derive(Clone)]
    /// struct Mean;
    ///
    /// impl Aggregate<f64> for Mean {
    ///     type Acc = (f64, u64);
    ///     type Out = f64;
    ///     fn create(&self) -> Self::Acc {
    ///         (0.0, 0)
    ///     }
    ///     fn add(&self, acc: &mut Self::Acc, value: f64) {
    ///         self.merge(acc, &(value, 1));
    ///     }
    ///     fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
    ///         acc.0 += other.0;
    ///         acc.1 += other.1;
    ///     }
    ///     fn result(&self, acc: &Self::Acc) -> f64 {
    ///         acc.0 / acc.1 as f64
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let means = env.from_collection(vec![1.0, 2.0]).key_by(|_| "all".to_string()).aggregate(Mean);
    /// assert_eq!(means.execute_and_collect("means")?.last(), Some(&("all".to_string(), 1.5)));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(self, aggregate: A) -> DataStream<(K, A::Out)> {
        let (create, step) = (aggregate.clone(), aggregate);
        self.fold_with(
            "aggregate",
            Location::caller(),
            move || create.create(),
            move |key: &K, acc: &mut A::Acc, value: T| {
                step.add(acc, value);
                (key.clone(), step.result(acc))
            },
        )
    }

    /// Maps each record with a state of its key, which starts at its default. The shortest way to state: one
    /// probe per record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let changes = env.from_collection(vec![(1u32, 10i64), (1, 14), (1, 9)])
    ///     .key_by(|r| r.0)
    ///     .map_with_state(|last: &mut i64, (sensor, value)| {
    ///         let change = value - *last;
    ///         *last = value;
    ///         (sensor, change)
    ///     })
    ///     .execute_and_collect("changes")?;
    /// assert_eq!(changes, [(1, 10), (1, 4), (1, -5)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn map_with_state<S, O>(
        self,
        function: impl Fn(&mut S, T) -> O + Send + Sync + 'static,
    ) -> DataStream<O>
    where
        S: Data + Default,
        O: Data,
    {
        self.fold_with("map_with_state", Location::caller(), S::default, move |_, state, value| {
            function(state, value)
        })
    }

    /// Two keyed streams with a common key into one operator.
    pub fn connect<R: Data>(self, other: KeyedStream<K, R>) -> KeyedConnectedStreams<K, T, R> {
        KeyedConnectedStreams::new(self, other)
    }
}

/// A fold made of two closures.
struct FoldWith<C, F, S, O> {
    create: C,
    step: Arc<F>,
    types: PhantomData<fn() -> (S, O)>,
}

impl<C: Clone, F, S, O> Clone for FoldWith<C, F, S, O> {
    fn clone(&self) -> Self {
        FoldWith { create: self.create.clone(), step: Arc::clone(&self.step), types: PhantomData }
    }
}

impl<K, I, C, F, S, O> Fold<K, I> for FoldWith<C, F, S, O>
where
    C: Fn() -> S + Send + 'static,
    F: Fn(&K, &mut S, I) -> O + Send + Sync + 'static,
    S: Data,
    O: 'static,
{
    type State = S;
    type Out = O;
    fn create(&self) -> S {
        (self.create)()
    }
    #[inline(always)]
    fn fold(&self, key: &K, state: &mut S, value: I) -> Result<O> {
        Ok((self.step)(key, state, value))
    }
}
