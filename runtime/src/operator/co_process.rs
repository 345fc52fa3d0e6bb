//! Two connected streams: keyed with common state, or plain with one function for each.

use super::keyed_process::Store;
use crate::chain::{Output, Records, Step, TwoInputOperator};
use crate::context::OperatorContext;
use crate::function::{Collector, KeyedCoProcessFunction, TimeDomain};
use crate::keyed::KeySelector;
use crate::watermark::Ahead;
use millstream_model::{EventTime, Key, Result};
use millstream_state::Visitor;
use std::sync::Arc;

/// Runs a [`KeyedCoProcessFunction`].
pub struct KeyedCoProcess<K, L, R, F> {
    function: F,
    left: Arc<dyn KeySelector<L, K>>,
    right: Arc<dyn KeySelector<R, K>>,
    store: Store<K>,
}

impl<K: Key, L, R, F: KeyedCoProcessFunction<K, L, R>> KeyedCoProcess<K, L, R, F> {
    /// The operator that runs `function` for the keys the selectors find.
    ///
    /// # Errors
    /// If the function's states are declared wrongly.
    pub fn new(
        function: F,
        left: Arc<dyn KeySelector<L, K>>,
        right: Arc<dyn KeySelector<R, K>>,
        context: OperatorContext,
    ) -> Result<Self> {
        let states = context.states(F::STATES)?;
        Ok(KeyedCoProcess { function, left, right, store: Store::new(states, context) })
    }
}

impl<K: Key, L: Send, R: Send, F: KeyedCoProcessFunction<K, L, R>> TwoInputOperator<L, R, F::Out>
    for KeyedCoProcess<K, L, R, F>
where
    F::Out: 'static,
{
    fn open(&mut self) -> Result<()> {
        self.function.open(&self.store.context)
    }

    fn left(&mut self, records: &mut Records<'_, L>, out: &mut Output<F::Out>) -> Result<Step> {
        let selector = &*self.left;
        self.store.states.warm(records.hashes());
        while let Some((value, time, hash)) = records.next_record() {
            let key = selector.key(&value);
            out.set_time(time);
            self.function.left(
                value,
                &mut self.store.of(&key, hash, time),
                &mut Collector::new(out),
            )?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn right(&mut self, records: &mut Records<'_, R>, out: &mut Output<F::Out>) -> Result<Step> {
        let selector = &*self.right;
        self.store.states.warm(records.hashes());
        while let Some((value, time, hash)) = records.next_record() {
            let key = selector.key(&value);
            out.set_time(time);
            self.function.right(
                value,
                &mut self.store.of(&key, hash, time),
                &mut Collector::new(out),
            )?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn advance(&mut self, watermark: EventTime, out: &mut Output<F::Out>) -> Result<Step> {
        self.store.advance(watermark);
        let function = &mut self.function;
        self.store.fire(TimeDomain::EventTime, watermark, out, |t, ctx, out| {
            function.on_timer(t, ctx, out)
        })
    }

    fn tick(&mut self, now: EventTime, out: &mut Output<F::Out>) -> Result<Step> {
        let function = &mut self.function;
        self.store.fire(TimeDomain::ProcessingTime, now, out, |t, ctx, out| {
            function.on_timer(t, ctx, out)
        })
    }

    fn close(&mut self) -> Result<()> {
        self.function.close()
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.store.parts(visitor)
    }

    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.store.restored(watermark, ahead);
        Ok(())
    }
}

/// `co_map` and `co_flat_map`: one function for each side, no state.
pub struct CoProcess<FL, FR> {
    left: FL,
    right: FR,
}

impl<FL, FR> CoProcess<FL, FR> {
    /// The operator that runs `left` and `right` on their sides.
    pub fn new(left: FL, right: FR) -> Self {
        CoProcess { left, right }
    }
}

impl<L, R, O: 'static, FL, FR> TwoInputOperator<L, R, O> for CoProcess<FL, FR>
where
    FL: Fn(L, &mut Collector<'_, O>) -> Result<()> + Send,
    FR: Fn(R, &mut Collector<'_, O>) -> Result<()> + Send,
{
    fn left(&mut self, records: &mut Records<'_, L>, out: &mut Output<O>) -> Result<Step> {
        while let Some((value, time, _)) = records.next_record() {
            out.set_time(time);
            (self.left)(value, &mut Collector::new(out))?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn right(&mut self, records: &mut Records<'_, R>, out: &mut Output<O>) -> Result<Step> {
        while let Some((value, time, _)) = records.next_record() {
            out.set_time(time);
            (self.right)(value, &mut Collector::new(out))?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }
}
