//! `DataStream<T>`: a stream without keys.
//!
//! What it is, how an operator is put behind it, and how it is joined with others; the operators are in the
//! files beside this one.

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
use millstream_runtime::keyed::{BorrowedKey, OwnedKey};
use millstream_runtime::task::{Head, OneGateHead};
use millstream_runtime::watermark::{StampOperator, Watermarks};
use serde::Serialize;
use std::borrow::Borrow;
use std::panic::Location;
use std::sync::Arc;

/// A stream of records of type `T`.
///
/// Every transformation takes the stream; to read it twice, `.clone()` it (which asks for `T: Clone`).
///
/// ```
/// # use millstream::prelude::*;
/// # fn main() -> Result<()> {
/// let env = Environment::local();
/// let numbers = env.from_collection(vec![1, 2, 3]);
/// let doubled = numbers.clone().map(|n| n * 2).collect();
/// let odd = numbers.filter(|n| n % 2 == 1).collect();
/// env.execute("twice")?;
/// assert_eq!((doubled.take().len(), odd.take().len()), (3, 2));
/// # Ok(())
/// # }
/// ```
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
pub(crate) fn one_gate_head<T: Data>(
    gate: AnyGate,
    link: AnyPush,
    context: &OpContext,
) -> Result<Box<dyn Head>> {
    let (gate, link) = (typed::<Gate<T>>(gate)?, typed::<Box<dyn Push<T>>>(link)?);
    Ok(Box::new(OneGateHead::<T>::new(gate, link, context.site.clone())))
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

    /// Gives records (new) event times and watermarks; what the source said of time is forgotten.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.from_collection(vec![(1u32, 1_000), (2, 900)])
    ///     .filter(|reading| reading.0 > 0)
    ///     .watermarks(Watermarks::bounded(secs(5)).on(|reading: &(u32, EventTime)| reading.1))
    ///     .discard();
    /// let plan = env.explain("readings", ExplainFormat::Text)?;
    /// assert!(plan.contains("watermarks: bounded 5000 ms"));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn watermarks(self, watermarks: Watermarks<T>) -> DataStream<T> {
        let describe = watermarks.assigns_times().then(|| watermarks.describe().to_string());
        let make = move |c: &OpContext, outs: Outs<T>| {
            let stamp = StampOperator::new(&watermarks, outs.next, c.task.clone(), c.site.clone());
            let link: Box<dyn Push<T>> = Box::new(stamp);
            Ok(link)
        };
        self.add("watermarks", "watermarks", Location::caller(), make, |n| {
            n.watermarks = describe;
            n.follows_input = true;
        })
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
    #[track_caller]
    pub fn union(mut self, others: impl IntoIterator<Item = DataStream<T>>) -> DataStream<T> {
        for other in others {
            self.env.expect_same(&other.env, "union", Location::caller());
            self.origins.extend(other.origins);
        }
        self
    }

    /// Two streams of different types into one operator.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let (celsius, fahrenheit) = (env.from_collection(vec![20.0]), env.from_collection(vec![212]));
    /// let both = celsius.connect(fahrenheit).co_map(|c: f64| c, |f: i32| f64::from(f - 32) / 1.8);
    /// assert_eq!(both.execute_and_collect("temperatures")?.iter().sum::<f64>(), 120.0);
    /// # Ok(())
    /// # }
    /// ```
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
