//! `DataStream<T>`: a stream without keys.

use super::settings::{OperatorSettings, configure};
use super::{ConnectedStreams, KeyedStream, Partitioning};
use crate::environment::Environment;
use crate::graph::{
    AnyGate, AnyPush, Input, InputOf, Make, Node, NodeId, OpContext, Outs, PortOf, Tag, erase_push,
    typed,
};
use millstream_model::{Data, Key, Result};
use millstream_runtime::chain::{OneInput, Operator, Push};
use millstream_runtime::exchange::Gate;
use millstream_runtime::function::{Collector, MapFunction, ProcessFunction};
use millstream_runtime::keyed::{BorrowedKey, OwnedKey};
use millstream_runtime::operator::{
    Filter, FilterMap, FlatMap, FlatMapInto, Map, MapWith, Process, TryFilter, TryFlatMap, TryMap,
};
use millstream_runtime::task::{Head, OneGateHead};
use millstream_runtime::watermark::{StampOperator, Watermarks};
use serde::Serialize;
use std::borrow::Borrow;
use std::panic::Location;
use std::sync::Arc;

/// A stream of records of type `T`.
///
/// Every transformation takes the stream; to read it twice, `.clone()` it (which asks for `T: Clone`).
#[must_use = "a stream does nothing by itself: end it in a sink"]
pub struct DataStream<T> {
    pub(crate) env: Environment,
    /// Where its records come from: one output, or several for a union.
    pub(crate) origins: Vec<(NodeId, Tag)>,
    pub(crate) partitioning: Partitioning<T>,
}

impl<T: Data + Clone> Clone for DataStream<T> {
    /// Lets a second consumer read the same stream; records are cloned where the stream fans out.
    fn clone(&self) -> Self {
        let mut graph = self.env.graph_mut();
        for &(node, tag) in &self.origins {
            graph.nodes[node].outputs.insert(tag, Box::new(PortOf::<T>::cloning()));
        }
        drop(graph);
        DataStream {
            env: self.env.clone(),
            origins: self.origins.clone(),
            partitioning: self.partitioning.clone(),
        }
    }
}

impl<T: Data> OperatorSettings for DataStream<T> {
    #[track_caller]
    fn configure(self, setting: &'static str, set: impl Fn(super::settings::Operator<'_>)) -> Self {
        configure(&self.env, &self.origins, setting, set);
        self
    }
}

/// The head of a chain whose first operator has one input.
pub(crate) fn one_gate_head<T: Send + 'static>(
    gate: AnyGate,
    link: AnyPush,
) -> Result<Box<dyn Head>> {
    Ok(Box::new(OneGateHead::<T>::new(typed::<Gate<T>>(gate)?, typed::<Box<dyn Push<T>>>(link)?)))
}

impl<T: Data> DataStream<T> {
    pub(crate) fn at(env: &Environment, node: NodeId, tag: Tag) -> Self {
        DataStream {
            env: env.clone(),
            origins: vec![(node, tag)],
            partitioning: Partitioning::auto(),
        }
    }

    /// This stream as the input of a node.
    pub(crate) fn as_input(&self) -> Input {
        let edges =
            self.origins.iter().map(|&(node, tag)| self.partitioning.edge(node, tag)).collect();
        Input { edges, port: Box::new(InputOf::<T>::new()) }
    }

    /// Adds a one-input node; `make` builds its link for each subtask.
    pub(crate) fn add<O: Data>(
        self,
        name: &str,
        kind: &'static str,
        location: &'static Location<'static>,
        make: impl Fn(&OpContext, Outs<O>) -> Result<Box<dyn Push<T>>> + Send + Sync + 'static,
        adjust: impl FnOnce(&mut Node),
    ) -> DataStream<O> {
        let link = move |context: &OpContext, outs: crate::graph::RawOuts| {
            Ok(erase_push(make(context, outs.typed::<O>(&context.site)?)?))
        };
        let make = Make::One { link: Box::new(link), head: one_gate_head::<T> };
        let mut node = Node::new(name, kind, make, location);
        node.inputs.push(self.as_input());
        node.outputs.insert(None, Box::new(PortOf::<O>::single()));
        adjust(&mut node);
        let id = self.env.graph_mut().add(node);
        DataStream::at(&self.env, id, None)
    }

    /// Adds a node that runs an [`Operator`].
    pub(crate) fn add_operator<O: Data, Op: Operator<T, O> + 'static>(
        self,
        kind: &'static str,
        location: &'static Location<'static>,
        make: impl Fn(&OpContext) -> Result<Op> + Send + Sync + 'static,
        adjust: impl FnOnce(&mut Node),
    ) -> DataStream<O> {
        self.add(
            kind,
            kind,
            location,
            move |c, outs| Ok(Box::new(OneInput::new(make(c)?, outs.output()))),
            adjust,
        )
    }

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
    #[track_caller]
    pub fn map_with<F>(self, function: F) -> DataStream<F::Out>
    where
        F: MapFunction<T> + Sync,
        F::Out: Data,
    {
        let make = move |c: &OpContext| Ok(MapWith::new(function.clone(), c.operator.clone()));
        self.add_operator("map_with", Location::caller(), make, |_| {})
    }

    /// Runs a process function: any number of outputs, side outputs, a life cycle.
    #[track_caller]
    pub fn process<F>(self, function: F) -> DataStream<F::Out>
    where
        F: ProcessFunction<T> + Sync,
        F::Out: Data,
    {
        let make = move |c: &OpContext| Ok(Process::new(function.clone(), c.operator.clone()));
        self.add_operator("process", Location::caller(), make, |_| {})
    }

    /// Gives records (new) event times and watermarks; what the source said of time is forgotten.
    #[track_caller]
    pub fn watermarks(self, watermarks: Watermarks<T>) -> DataStream<T> {
        let describe = watermarks.assigns_times().then(|| watermarks.describe().to_string());
        let make = move |c: &OpContext, outs: Outs<T>| {
            let stamp = StampOperator::new(&watermarks, outs.next, c.task.clone(), c.site.clone());
            let link: Box<dyn Push<T>> = Box::new(stamp);
            Ok(link)
        };
        self.add("watermarks", "watermarks", Location::caller(), make, |n| n.watermarks = describe)
    }

    /// This stream and others as one. Order is kept only within each of them.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let (a, b) = (env.from_collection(vec![1, 2]), env.from_collection(vec![3]));
    /// assert_eq!(a.union([b]).execute_and_collect("all")?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn union(mut self, others: impl IntoIterator<Item = DataStream<T>>) -> DataStream<T> {
        for other in others {
            self.origins.extend(other.origins);
        }
        self
    }

    /// Two streams of different types into one operator.
    pub fn connect<R: Data>(self, other: DataStream<R>) -> ConnectedStreams<T, R> {
        ConnectedStreams::new(self, other)
    }

    /// Partitions the stream by a key computed from each record.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let sales = env.from_collection(vec![("north", 2i64), ("south", 3), ("north", 5)]
    ///     .into_iter().map(|(r, n)| (Text::from(r), n)).collect());
    /// let mut totals = sales.key_by(|s| s.0.clone()).sum(|s| s.1).execute_and_collect("totals")?;
    /// totals.sort();
    /// assert_eq!(totals.last().unwrap(), &(Text::from("south"), 3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_by<K: Key>(
        self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> KeyedStream<K, T> {
        KeyedStream::new(self, Arc::new(OwnedKey(key)))
    }

    /// Partitions the stream by a key borrowed from each record: it is copied only when a table sees it for
    /// the first time.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let words = env.from_collection(vec!["a".to_string(), "b".to_string(), "a".to_string()]);
    /// let mut counts = words.key_by_ref(|w| w.as_str()).count().execute_and_collect("counts")?;
    /// counts.sort();
    /// assert_eq!(counts, [("a".to_string(), 1), ("a".to_string(), 2), ("b".to_string(), 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_by_ref<Q, F>(self, key: F) -> KeyedStream<Q::Owned, T>
    where
        Q: Serialize + Eq + ToOwned + ?Sized + 'static,
        Q::Owned: Key + Borrow<Q>,
        F: Fn(&T) -> &Q + Send + Sync + 'static,
    {
        KeyedStream::new(self, Arc::new(BorrowedKey::new(key)))
    }
}
