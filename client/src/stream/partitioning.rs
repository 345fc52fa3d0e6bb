//! How a stream's records are spread over the subtasks of the next operator.

use crate::graph::{AnySender, Edge, WriterContext, erase_push, typed};
use crate::stream::DataStream;
use millstream_model::job_graph::Ship;
use millstream_model::{Data, Key};
use millstream_runtime::exchange::{
    Broadcast, Custom, Hash, Partition, RoundRobin, Sender, Shuffle, Single, Writer,
};
use millstream_runtime::keyed::KeySelector;
use std::sync::Arc;

type MakePartition<T> = Arc<dyn Fn(&WriterContext) -> Box<dyn Partition<T>> + Send + Sync>;

/// A chosen partitioning; without one, an edge is forward or rebalance by parallelism.
pub(crate) struct Partitioning<T> {
    ship: Option<Ship>,
    make: MakePartition<T>,
}

impl<T> Clone for Partitioning<T> {
    fn clone(&self) -> Self {
        Partitioning { ship: self.ship, make: Arc::clone(&self.make) }
    }
}

impl<T: Data> Partitioning<T> {
    pub(crate) fn auto() -> Self {
        Partitioning { ship: None, make: Arc::new(|context| simple(context)) }
    }

    pub(crate) fn of(ship: Ship) -> Self {
        Partitioning { ship: Some(ship), make: Arc::new(|context| simple(context)) }
    }

    pub(crate) fn hash<K: Key>(selector: Arc<dyn KeySelector<T, K>>) -> Self {
        Partitioning {
            ship: Some(Ship::Hash),
            make: Arc::new(move |c| {
                let selector = Arc::clone(&selector);
                Box::new(Hash::new(selector, c.down_parallelism as u32, c.max_parallelism))
            }),
        }
    }

    pub(crate) fn broadcast() -> Self
    where
        T: Clone,
    {
        Partitioning { ship: Some(Ship::Broadcast), make: Arc::new(|_| Box::new(Broadcast)) }
    }

    pub(crate) fn custom(choose: impl Fn(&T, usize) -> usize + Send + Sync + 'static) -> Self {
        let choose = Arc::new(choose);
        Partitioning {
            ship: Some(Ship::Custom),
            make: Arc::new(move |_| {
                let choose = Arc::clone(&choose);
                Box::new(Custom(move |value: &T, n: usize| choose(value, n)))
            }),
        }
    }

    /// The edge from an output with this partitioning.
    pub(crate) fn edge(&self, from: usize, tag: Option<&'static str>) -> Edge {
        let make = Arc::clone(&self.make);
        let writer = move |senders: Vec<AnySender>, context: &WriterContext| {
            let senders =
                senders.into_iter().map(typed::<Sender<T>>).collect::<Result<Vec<_>, _>>()?;
            Ok(erase_push::<T>(Box::new(Writer::new(
                make(context),
                senders,
                context.limits,
                (context.site.clone(), context.output.clone()),
                context.mode,
            ))))
        };
        Edge { from, tag, ship: self.ship, writer: Arc::new(writer) }
    }
}

fn simple<T: Data>(context: &WriterContext) -> Box<dyn Partition<T>> {
    match context.ship {
        Ship::Rebalance | Ship::Rescale => Box::new(RoundRobin::new(context.subtask)),
        Ship::Shuffle => Box::new(Shuffle::new(context.subtask)),
        _ => Box::new(Single(0)),
    }
}

impl<T: Data> DataStream<T> {
    fn partitioned(mut self, partitioning: Partitioning<T>) -> Self {
        self.partitioning = partitioning;
        self
    }

    /// Spreads records evenly over all subtasks of the next operator, in turn.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().parallelism(2).build()?;
    /// let spread = env.from_iter(|| 0..100u64).rebalance().map(|n| n + 1);
    /// assert_eq!(spread.execute_and_collect("spread")?.iter().sum::<u64>(), 5050);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rebalance(self) -> Self {
        self.partitioned(Partitioning::of(Ship::Rebalance))
    }

    /// Spreads each subtask's records over a share of the next operator's subtasks: fewer channels than
    /// `rebalance`, even only within the share.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let shared = env.generate(100, |i| i).parallelism(2).rescale().map(|n| n + 1).parallelism(4);
    /// assert_eq!(shared.execute_and_collect("shared")?.iter().sum::<u64>(), 5050);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rescale(self) -> Self {
        self.partitioned(Partitioning::of(Ship::Rescale))
    }

    /// Sends each record to a random subtask.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let mixed = env.generate(100, |i| i).shuffle().map(|n| n + 1).parallelism(4);
    /// assert_eq!(mixed.execute_and_collect("mixed")?.iter().sum::<u64>(), 5050);
    /// # Ok(())
    /// # }
    /// ```
    pub fn shuffle(self) -> Self {
        self.partitioned(Partitioning::of(Ship::Shuffle))
    }

    /// Keeps each record in its subtask; the next operator must have the same parallelism.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(100, |i| i).parallelism(2).forward().map(|n| n + 1).parallelism(3).discard();
    /// let error = env.execute("forward").unwrap_err().to_string();
    /// assert!(error.contains("forward needs equal parallelism"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward(self) -> Self {
        self.partitioned(Partitioning::of(Ship::Forward))
    }

    /// Sends every record to the first subtask.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let in_one_place = env.generate(100, |i| i).global().map(|n| n + 1);
    /// assert_eq!(in_one_place.execute_and_collect("one")?.len(), 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn global(self) -> Self {
        self.partitioned(Partitioning::of(Ship::Global))
    }

    /// Sends every record to every subtask.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let everywhere = env.from_collection(vec!['a', 'b']).broadcast().map(|c| c).parallelism(3);
    /// assert_eq!(everywhere.execute_and_collect("copies")?.len(), 6);
    /// # Ok(())
    /// # }
    /// ```
    pub fn broadcast(self) -> Self
    where
        T: Clone,
    {
        self.partitioned(Partitioning::broadcast())
    }

    /// Sends each record where `choose` says, given the record and the number of subtasks.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().parallelism(2).build()?;
    /// let mut out = env
    ///     .from_collection(vec![1u64, 2, 3, 4])
    ///     .partition_custom(|n, subtasks| (*n as usize) % subtasks)
    ///     .map(|n| n * 10)
    ///     .execute_and_collect("by parity")?;
    /// out.sort();
    /// assert_eq!(out, [10, 20, 30, 40]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn partition_custom(
        self,
        choose: impl Fn(&T, usize) -> usize + Send + Sync + 'static,
    ) -> Self {
        self.partitioned(Partitioning::custom(choose))
    }
}
