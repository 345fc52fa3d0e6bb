//! A stream of records meets a stream of rules.
//!
//! Connecting broadcasts the rules whatever was said of their partitioning before: a copy that misses one
//! would be a silent mistake, so it cannot be written.

use super::connected::add_two;
use super::keyed::stateful;
use super::{DataStream, KeyedStream};
use crate::graph::OpContext;
use millstream_model::{Data, Key};
use millstream_runtime::function_broadcast::{
    BroadcastProcessFunction, KeyedBroadcastProcessFunction,
};
use millstream_runtime::operator::{BroadcastProcess, KeyedBroadcastProcess};
use millstream_state::StateSet;
use std::panic::Location;
use std::sync::Arc;

/// Records, and rules that every subtask is told, about to enter one operator.
#[must_use = "connected streams do nothing by themselves: apply an operator"]
pub struct BroadcastConnectedStreams<T, B> {
    records: DataStream<T>,
    rules: DataStream<B>,
}

/// Records with a key, and rules that every subtask is told, about to enter one operator.
#[must_use = "connected streams do nothing by themselves: apply an operator"]
pub struct KeyedBroadcastConnectedStreams<K, T, B> {
    records: KeyedStream<K, T>,
    rules: DataStream<B>,
}

impl<T: Data> DataStream<T> {
    /// This stream and `rules`, of which every subtask is told all: enrichment, filters that change. A
    /// record meets the rules that have arrived before it, in no order that can be relied on.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use std::collections::BTreeSet;
    /// const BANNED: BroadcastState<String, ()> = BroadcastState::new("banned");
    ///
    /// /// Says of each word whether it is allowed.
    /// #[derive(Clone)]
    /// struct Censor;
    ///
    /// impl BroadcastProcessFunction<String, String> for Censor {
    ///     type Out = (String, bool);
    ///     const BROADCAST: BroadcastSet = states![BANNED];
    ///     fn process(
    ///         &mut self,
    ///         word: String,
    ///         ctx: &mut BroadcastContext<'_>,
    ///         out: &mut Collector<'_, Self::Out>,
    ///     ) -> Result<()> {
    ///         let allowed = !ctx.broadcast(&BANNED).contains(&word);
    ///         out.emit((word, allowed));
    ///         Ok(())
    ///     }
    ///     fn process_broadcast(
    ///         &mut self,
    ///         banned: String,
    ///         ctx: &mut BroadcastUpdateContext<'_>,
    ///         _: &mut Collector<'_, Self::Out>,
    ///     ) -> Result<()> {
    ///         ctx.broadcast(&BANNED).insert(banned, ());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// // With the harness, so that the order of records and rules is ours.
    /// use millstream::testing::Harness;
    /// let (mut harness, rules) = Harness::with_second_input(|words, rules| {
    ///     words.connect_broadcast(rules).process(Censor).uid("censor")
    /// })?;
    /// harness.element("damn".to_string(), 1)?;
    /// rules.element("damn".to_string(), 2);
    /// harness.settle()?;
    /// harness.element("damn".to_string(), 3)?;
    /// assert_eq!(harness.take(), [("damn".to_string(), true), ("damn".to_string(), false)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_broadcast<B: Data + Clone>(
        self,
        rules: DataStream<B>,
    ) -> BroadcastConnectedStreams<T, B> {
        BroadcastConnectedStreams { records: self, rules: rules.broadcast() }
    }
}

impl<T: Data, B: Data> BroadcastConnectedStreams<T, B> {
    /// Runs a function on records and rules. For an example see [`DataStream::connect_broadcast`].
    #[track_caller]
    pub fn process<F>(self, function: F) -> DataStream<F::Out>
    where
        F: BroadcastProcessFunction<T, B> + Sync,
        F::Out: Data,
    {
        let make = move |c: &OpContext| {
            BroadcastProcess::new::<T, B>(function.clone(), c.operator.clone())
        };
        let states = stateful(&names(F::BROADCAST));
        add_two(self.records, self.rules, "broadcast_process", Location::caller(), make, states)
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// This stream and `rules`, of which every subtask is told all. As
    /// [`DataStream::connect_broadcast`], with state and timers per key; a rule may look at every key.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// const TOTAL: ValueState<u64> = ValueState::new("total");
    /// const LIMIT: BroadcastState<(), u64> = BroadcastState::new("limit");
    ///
    /// /// Reports accounts whose total is above the limit: when they spend, and when the limit changes.
    /// #[derive(Clone)]
    /// struct Limit;
    ///
    /// impl KeyedBroadcastProcessFunction<u32, (u32, u64), u64> for Limit {
    ///     type Out = (u32, u64);
    ///     const STATES: StateSet<u32> = states![TOTAL];
    ///     const BROADCAST: BroadcastSet = states![LIMIT];
    ///     fn process(
    ///         &mut self,
    ///         (account, spent): (u32, u64),
    ///         ctx: &mut KeyedBroadcastContext<'_, u32>,
    ///         out: &mut Collector<'_, Self::Out>,
    ///     ) -> Result<()> {
    ///         let mut total = ctx.state(&TOTAL);
    ///         *total.or_default() += spent;
    ///         let limit = ctx.broadcast(&LIMIT).get(&()).copied().unwrap_or(u64::MAX);
    ///         if *total.or_default() > limit {
    ///             out.emit((account, *total.or_default()));
    ///         }
    ///         Ok(())
    ///     }
    ///     fn process_broadcast(
    ///         &mut self,
    ///         limit: u64,
    ///         ctx: &mut KeyedBroadcastUpdateContext<'_, u32>,
    ///         out: &mut Collector<'_, Self::Out>,
    ///     ) -> Result<()> {
    ///         ctx.broadcast(&LIMIT).insert((), limit);
    ///         ctx.for_each_key(&TOTAL, |account| {
    ///             let total = *account.state(&TOTAL).or_default();
    ///             if total > limit {
    ///                 out.emit((*account.key(), total));
    ///             }
    ///             Ok(())
    ///         })
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// use millstream::testing::Harness;
    /// let (mut harness, limits) = Harness::with_second_input(|spent: DataStream<(u32, u64)>, limits| {
    ///     spent.key_by(|s| s.0).connect_broadcast(limits).process(Limit).uid("limit")
    /// })?;
    /// harness.element((1, 50), 1)?;
    /// harness.element((2, 90), 2)?;
    /// limits.element(80, 3);
    /// harness.settle()?;
    /// harness.element((1, 40), 4)?;
    /// assert_eq!(harness.take(), [(2, 90), (1, 90)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_broadcast<B: Data + Clone>(
        self,
        rules: DataStream<B>,
    ) -> KeyedBroadcastConnectedStreams<K, T, B> {
        KeyedBroadcastConnectedStreams { records: self, rules: rules.broadcast() }
    }
}

impl<K: Key, T: Data, B: Data> KeyedBroadcastConnectedStreams<K, T, B> {
    /// Runs a function on records and rules. For an example see [`KeyedStream::connect_broadcast`].
    #[track_caller]
    pub fn process<F>(self, function: F) -> DataStream<F::Out>
    where
        F: KeyedBroadcastProcessFunction<K, T, B> + Sync,
        F::Out: Data,
    {
        let KeyedStream { stream, selector } = self.records;
        let make = move |c: &OpContext| {
            let selector = Arc::clone(&selector);
            KeyedBroadcastProcess::new::<B>(function.clone(), selector, c.operator.clone())
        };
        let states = stateful(&[names(F::STATES), names(F::BROADCAST)].concat());
        add_two(stream, self.rules, "broadcast_process", Location::caller(), make, states)
    }
}

fn names<K>(states: StateSet<K>) -> Vec<&'static str> {
    states.declarations().iter().map(|d| d.name()).collect()
}
