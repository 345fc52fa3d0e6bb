//! Records and rules: the operators behind the two broadcast functions.
//!
//! The first input is the records', the second the rules'. Broadcast states are a second set of tables
//! whose only key is `()`, so they need no machinery of their own.

use super::keyed_process::Store;
use crate::chain::{Output, Records, Step, TwoInputOperator};
use crate::context::OperatorContext;
use crate::function::{Collector, ProcessContext, TimeDomain};
use crate::function_broadcast::{
    BroadcastContext, BroadcastProcessFunction, BroadcastUpdateContext, KeyedBroadcastContext,
    KeyedBroadcastProcessFunction, KeyedBroadcastUpdateContext,
};
use crate::keyed::KeySelector;
use crate::watermark::Ahead;
use millstream_model::{EventTime, Key, MIN_TIME, Result};
use millstream_state::{KeyedStates, Visitor};
use std::sync::Arc;

/// Runs a [`BroadcastProcessFunction`].
pub struct BroadcastProcess<F> {
    function: F,
    broadcast: KeyedStates,
    watermark: EventTime,
    context: OperatorContext,
}

impl<F> BroadcastProcess<F> {
    /// The operator that runs `function`.
    ///
    /// # Errors
    /// If the function's states are declared wrongly.
    pub fn new<I, B>(function: F, context: OperatorContext) -> Result<Self>
    where
        F: BroadcastProcessFunction<I, B>,
    {
        let broadcast = context.states(F::BROADCAST)?;
        Ok(BroadcastProcess { function, broadcast, watermark: MIN_TIME, context })
    }
}

impl<I, B, F: BroadcastProcessFunction<I, B>> TwoInputOperator<I, B, F::Out> for BroadcastProcess<F>
where
    F::Out: 'static,
{
    fn open(&mut self) -> Result<()> {
        self.function.open(&self.context)
    }

    fn left(&mut self, records: &mut Records<'_, I>, out: &mut Output<F::Out>) -> Result<Step> {
        let (watermark, operator, broadcast) = (self.watermark, &self.context, &self.broadcast);
        while let Some((value, time, _)) = records.next_record() {
            out.set_time(time);
            let process = ProcessContext { time, watermark, operator, states: None };
            let mut context = BroadcastContext { process, broadcast };
            self.function.process(value, &mut context, &mut Collector::new(out))?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn right(&mut self, records: &mut Records<'_, B>, out: &mut Output<F::Out>) -> Result<Step> {
        let (watermark, operator, broadcast) = (self.watermark, &self.context, &self.broadcast);
        while let Some((value, time, _)) = records.next_record() {
            out.set_time(time);
            let process = ProcessContext { time, watermark, operator, states: None };
            let mut context = BroadcastUpdateContext { process, broadcast };
            self.function.process_broadcast(value, &mut context, &mut Collector::new(out))?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn advance(&mut self, watermark: EventTime, _: &mut Output<F::Out>) -> Result<Step> {
        self.watermark = watermark;
        Ok(Step::Done)
    }

    fn end(&mut self, out: &mut Output<F::Out>) -> Result<Step> {
        self.function.end(&mut Collector::new(out))?;
        Ok(Step::Done)
    }

    fn close(&mut self) -> Result<()> {
        self.function.close()
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.broadcast.broadcast_parts(visitor)
    }

    fn restored(&mut self, watermark: EventTime, _: &Ahead) -> Result<()> {
        self.watermark = watermark;
        Ok(())
    }
}

/// Runs a [`KeyedBroadcastProcessFunction`].
pub struct KeyedBroadcastProcess<K, I, F> {
    function: F,
    selector: Arc<dyn KeySelector<I, K>>,
    store: Store<K>,
    broadcast: KeyedStates,
}

impl<K: Key, I, F> KeyedBroadcastProcess<K, I, F> {
    /// The operator that runs `function` for the keys `selector` finds.
    ///
    /// # Errors
    /// If the function's states are declared wrongly.
    pub fn new<B>(
        function: F,
        selector: Arc<dyn KeySelector<I, K>>,
        context: OperatorContext,
    ) -> Result<Self>
    where
        F: KeyedBroadcastProcessFunction<K, I, B>,
    {
        let states = context.states(F::STATES)?;
        let broadcast = context.states(F::BROADCAST)?;
        Ok(KeyedBroadcastProcess {
            function,
            selector,
            store: Store::new(states, context),
            broadcast,
        })
    }

    fn fire<B>(
        &mut self,
        domain: TimeDomain,
        now: EventTime,
        out: &mut Output<F::Out>,
    ) -> Result<Step>
    where
        F: KeyedBroadcastProcessFunction<K, I, B>,
        F::Out: 'static,
    {
        let (function, broadcast) = (&mut self.function, &self.broadcast);
        self.store.fire(domain, now, out, |timer, keyed, out| {
            let keyed = self.store.of(keyed.key, keyed.hash, keyed.time);
            function.on_timer(timer, &mut KeyedBroadcastContext { keyed, broadcast }, out)
        })
    }
}

impl<K: Key, I: Send, B, F: KeyedBroadcastProcessFunction<K, I, B>> TwoInputOperator<I, B, F::Out>
    for KeyedBroadcastProcess<K, I, F>
where
    F::Out: 'static,
{
    fn open(&mut self) -> Result<()> {
        self.function.open(&self.store.context)
    }

    fn left(&mut self, records: &mut Records<'_, I>, out: &mut Output<F::Out>) -> Result<Step> {
        let broadcast = &self.broadcast;
        while let Some((value, time, hash)) = records.next_record() {
            let key = self.selector.key(&value);
            out.set_time(time);
            let keyed = self.store.of(&key, hash, time);
            let mut context = KeyedBroadcastContext { keyed, broadcast };
            self.function.process(value, &mut context, &mut Collector::new(out))?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn right(&mut self, records: &mut Records<'_, B>, out: &mut Output<F::Out>) -> Result<Step> {
        let Store { states, timers, watermark, context: operator, .. } = &self.store;
        while let Some((value, time, _)) = records.next_record() {
            out.set_time(time);
            let mut context = KeyedBroadcastUpdateContext {
                process: ProcessContext { time, watermark: *watermark, operator, states: None },
                broadcast: &self.broadcast,
                states,
                timers,
            };
            self.function.process_broadcast(value, &mut context, &mut Collector::new(out))?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn advance(&mut self, watermark: EventTime, out: &mut Output<F::Out>) -> Result<Step> {
        self.store.advance(watermark);
        self.fire(TimeDomain::EventTime, watermark, out)
    }

    fn tick(&mut self, now: EventTime, out: &mut Output<F::Out>) -> Result<Step> {
        self.fire(TimeDomain::ProcessingTime, now, out)
    }

    fn close(&mut self) -> Result<()> {
        self.function.close()
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.store.parts(visitor)?;
        self.broadcast.broadcast_parts(visitor)
    }

    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.store.restored(watermark, ahead);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
