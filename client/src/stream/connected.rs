//! Two streams into one operator.

use super::{DataStream, KeyedStream};
use crate::graph::{AnyGate, Make, Node, OpContext, PortOf, RawOuts, typed};
use millstream_model::{Data, Key, Result};
use millstream_runtime::chain::{TwoInput, TwoInputOperator};
use millstream_runtime::exchange::Gate;
use millstream_runtime::function::{Collector, KeyedCoProcessFunction};
use millstream_runtime::operator::{CoProcess, KeyedCoProcess};
use millstream_runtime::task::{Head, TwoGateHead};
use std::panic::Location;
use std::sync::Arc;

/// Two streams of different types, about to enter one operator.
#[must_use = "connected streams do nothing by themselves: apply an operator"]
pub struct ConnectedStreams<L, R> {
    left: DataStream<L>,
    right: DataStream<R>,
}

/// Adds a two-input node.
pub(crate) fn add_two<L: Data, R: Data, O: Data, Op: TwoInputOperator<L, R, O> + 'static>(
    left: DataStream<L>,
    right: DataStream<R>,
    kind: &'static str,
    location: &'static Location<'static>,
    make: impl Fn(&OpContext) -> Result<Op> + Send + Sync + 'static,
    adjust: impl FnOnce(&mut Node),
) -> DataStream<O> {
    let head = move |context: &OpContext, outs: RawOuts, left: AnyGate, right: AnyGate| {
        let link = TwoInput::new(make(context)?, outs.typed::<O>(&context.site)?.output());
        let (left, right) = (typed::<Gate<L>>(left)?, typed::<Gate<R>>(right)?);
        Ok(Box::new(TwoGateHead::new(
            left,
            right,
            Box::new(link),
            context.site.clone(),
            context.mode,
        )) as Box<dyn Head>)
    };
    left.env.expect_same(&right.env, kind, location);
    let mut node = Node::new(kind, kind, Make::Two(Box::new(head)), location);
    node.inputs.push(left.as_input());
    node.inputs.push(right.as_input());
    node.outputs.insert(None, Box::new(PortOf::<O>::single()));
    adjust(&mut node);
    let id = left.env.graph_mut().add(node);
    DataStream::at(&left.env, id, None)
}

impl<L: Data, R: Data> ConnectedStreams<L, R> {
    pub(crate) fn new(left: DataStream<L>, right: DataStream<R>) -> Self {
        ConnectedStreams { left, right }
    }

    /// One function for each side, one record for each.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let (numbers, words) = (env.from_collection(vec![1]), env.from_collection(vec!["b".to_string()]));
    /// let mut out = numbers.connect(words).co_map(|n| n.to_string(), |w| w).execute_and_collect("both")?;
    /// out.sort();
    /// assert_eq!(out, ["1", "b"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn co_map<O: Data>(
        self,
        left: impl Fn(L) -> O + Send + Sync + 'static,
        right: impl Fn(R) -> O + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.co_process_named(
            "co_map",
            Location::caller(),
            move |v, out| {
                out.emit(left(v));
                Ok(())
            },
            move |v, out| {
                out.emit(right(v));
                Ok(())
            },
        )
    }

    /// One function for each side, any number of records for each.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let (counts, words) = (env.from_collection(vec![2u32]), env.from_collection(vec!["b c".to_string()]));
    /// let letters = counts
    ///     .connect(words)
    ///     .co_flat_map(|n| vec!["a".to_string(); n as usize], |w| w.split(' ').map(String::from).collect::<Vec<_>>());
    /// let mut letters = letters.execute_and_collect("letters")?;
    /// letters.sort();
    /// assert_eq!(letters, ["a", "a", "b", "c"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn co_flat_map<O: Data, CL, CR>(
        self,
        left: impl Fn(L) -> CL + Send + Sync + 'static,
        right: impl Fn(R) -> CR + Send + Sync + 'static,
    ) -> DataStream<O>
    where
        CL: IntoIterator<Item = O>,
        CR: IntoIterator<Item = O>,
    {
        self.co_process_named(
            "co_flat_map",
            Location::caller(),
            move |v, out| {
                left(v).into_iter().for_each(|o| out.emit(o));
                Ok(())
            },
            move |v, out| {
                right(v).into_iter().for_each(|o| out.emit(o));
                Ok(())
            },
        )
    }

    /// One function for each side, with a collector: any number of records, side outputs, errors.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// const ODD: OutputTag<i32> = OutputTag::new("odd");
    ///
    /// let env = Environment::local();
    /// let (numbers, words) = (env.from_collection(vec![1, 2]), env.from_collection(vec!["3".to_string()]));
    /// let sort = |n: i32, out: &mut Collector<'_, i32>| if n % 2 == 0 { out.emit(n) } else { out.side(&ODD, n) };
    /// let even = numbers.connect(words).co_process(
    ///     move |n, out| Ok(sort(n, out)),
    ///     move |word, out| {
    ///         sort(word.parse().map_err(|e| Error::user(format!("`{word}`: {e}")))?, out);
    ///         Ok(())
    ///     },
    /// );
    /// let odd = even.side_output(&ODD).collect();
    /// assert_eq!(even.execute_and_collect("even")?, [2]);
    /// assert_eq!(odd.take().iter().sum::<i32>(), 4);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn co_process<O: Data>(
        self,
        left: impl Fn(L, &mut Collector<'_, O>) -> Result<()> + Send + Sync + 'static,
        right: impl Fn(R, &mut Collector<'_, O>) -> Result<()> + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.co_process_named("co_process", Location::caller(), left, right)
    }

    fn co_process_named<O: Data>(
        self,
        kind: &'static str,
        location: &'static Location<'static>,
        left: impl Fn(L, &mut Collector<'_, O>) -> Result<()> + Send + Sync + 'static,
        right: impl Fn(R, &mut Collector<'_, O>) -> Result<()> + Send + Sync + 'static,
    ) -> DataStream<O> {
        let (left, right) = (Arc::new(left), Arc::new(right));
        let make = move |_: &OpContext| {
            let (left, right) = (Arc::clone(&left), Arc::clone(&right));
            Ok(CoProcess::new(
                move |v: L, out: &mut Collector<'_, O>| left(v, out),
                move |v: R, out: &mut Collector<'_, O>| right(v, out),
            ))
        };
        add_two(self.left, self.right, kind, location, make, |_| {})
    }
}

/// Two keyed streams with a common key, about to enter one operator.
#[must_use = "connected streams do nothing by themselves: apply an operator"]
pub struct KeyedConnectedStreams<K, L, R> {
    pub(crate) left: KeyedStream<K, L>,
    pub(crate) right: KeyedStream<K, R>,
}

impl<K: Key, L: Data, R: Data> KeyedConnectedStreams<K, L, R> {
    pub(crate) fn new(left: KeyedStream<K, L>, right: KeyedStream<K, R>) -> Self {
        KeyedConnectedStreams { left, right }
    }

    /// Runs a function on both streams, with common state and timers per key.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// const PRICE: ValueState<u64> = ValueState::new("price");
    ///
    /// /// Prices orders by the newest price of their article.
    /// #[derive(Clone)]
    /// struct Pricing;
    ///
    /// impl KeyedCoProcessFunction<u32, (u32, u64), (u32, u64)> for Pricing {
    ///     type Out = u64;
    ///     const STATES: StateSet<u32> = states![PRICE];
    ///     /// An order: article and number of pieces.
    ///     fn left(
    ///         &mut self,
    ///         (_, pieces): (u32, u64),
    ///         ctx: &mut KeyedContext<'_, u32>,
    ///         out: &mut Collector<'_, u64>,
    ///     ) -> Result<()> {
    ///         if let Some(price) = ctx.state(&PRICE).get() {
    ///             out.emit(pieces * price);
    ///         }
    ///         Ok(())
    ///     }
    ///     /// An article and its price.
    ///     fn right(
    ///         &mut self,
    ///         (_, price): (u32, u64),
    ///         ctx: &mut KeyedContext<'_, u32>,
    ///         _: &mut Collector<'_, u64>,
    ///     ) -> Result<()> {
    ///         ctx.state(&PRICE).set(price);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// // With the harness, so that the order of the two streams is ours.
    /// use millstream::testing::Harness;
    /// let (mut harness, prices) = Harness::with_second_input(|orders: DataStream<(u32, u64)>, prices| {
    ///     let prices: DataStream<(u32, u64)> = prices;
    ///     orders.key_by(|o| o.0).connect(prices.key_by(|p| p.0)).process(Pricing).uid("pricing")
    /// })?;
    /// prices.element((7, 20), 1);
    /// harness.settle()?;
    /// harness.element((7, 3), 2)?;
    /// assert_eq!(harness.take(), [60]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn process<F>(self, function: F) -> DataStream<F::Out>
    where
        F: KeyedCoProcessFunction<K, L, R> + Sync,
        F::Out: Data,
    {
        let (left, right) = (self.left.selector, self.right.selector);
        let names: Vec<_> = F::STATES.declarations().iter().map(|d| d.name()).collect();
        let make = move |c: &OpContext| {
            KeyedCoProcess::new(
                function.clone(),
                Arc::clone(&left),
                Arc::clone(&right),
                c.operator.clone(),
            )
        };
        add_two(
            self.left.stream,
            self.right.stream,
            "co_process",
            Location::caller(),
            make,
            super::keyed::stateful(&names),
        )
    }
}
