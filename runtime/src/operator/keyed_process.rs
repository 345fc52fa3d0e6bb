//! `process` on a keyed stream: state and timers per key.

use crate::chain::{Operator, Output, Records, Step};
use crate::context::OperatorContext;
use crate::function::{Collector, KeyedContext, KeyedProcessFunction, TimeDomain, Timer, Timers};
use crate::keyed::KeySelector;
use crate::watermark::Ahead;
use millstream_model::{EventTime, Key, MIN_TIME, Result};
use millstream_state::timers::Due;
use millstream_state::{KeyedStates, Visitor};
use std::cell::RefCell;
use std::sync::Arc;

/// Runs a [`KeyedProcessFunction`].
pub struct KeyedProcess<K, I, F> {
    function: F,
    selector: Arc<dyn KeySelector<I, K>>,
    store: Store<K>,
}

/// What keyed functions share: states, timers, the clock.
pub(super) struct Store<K> {
    pub(super) states: KeyedStates,
    pub(super) timers: RefCell<Timers<K>>,
    pub(super) watermark: EventTime,
    ahead: Ahead,
    pub(super) context: OperatorContext,
}

impl<K: Key> Store<K> {
    pub(super) fn new(states: KeyedStates, context: OperatorContext) -> Self {
        let (timers, ahead) = (RefCell::default(), Ahead::default());
        Store { states, timers, watermark: MIN_TIME, ahead, context }
    }

    pub(super) fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.states.parts(visitor)?;
        let timers = self.timers.get_mut();
        visitor.part("timers/event", &mut timers.event)?;
        visitor.part("timers/processing", &mut timers.processing)
    }

    /// Event time has advanced.
    pub(super) fn advance(&mut self, watermark: EventTime) {
        self.watermark = watermark;
        self.ahead.pass(watermark);
    }

    /// Goes on after a restore.
    pub(super) fn restored(&mut self, watermark: EventTime, ahead: &Ahead) {
        self.watermark = watermark;
        self.ahead = ahead.clone();
        if let Some(next) = self.timers.get_mut().processing.next_time() {
            self.context.task().request_tick(next);
        }
    }

    pub(super) fn of<'a>(&'a self, key: &'a K, hash: u64, time: EventTime) -> KeyedContext<'a, K> {
        KeyedContext {
            key,
            hash,
            time,
            watermark: self.ahead.of(hash, self.watermark),
            states: &self.states,
            timers: &self.timers,
            operator: &self.context,
        }
    }

    /// Fires the due timers of one clock, one by one, as long as the output takes their results.
    pub(super) fn fire<O: 'static>(
        &self,
        domain: TimeDomain,
        now: EventTime,
        out: &mut Output<O>,
        mut on_timer: impl FnMut(Timer, &mut KeyedContext<'_, K>, &mut Collector<'_, O>) -> Result<()>,
    ) -> Result<Step> {
        loop {
            if out.is_blocked() {
                return Ok(Step::Yield);
            }
            let due = {
                let mut timers = self.timers.borrow_mut();
                match domain {
                    TimeDomain::EventTime => timers.event.pop_due(now),
                    TimeDomain::ProcessingTime => timers.processing.pop_due(now),
                }
            };
            let Some(Due { time, hash, key, .. }) = due else { break };
            if domain == TimeDomain::EventTime {
                out.set_time(time);
            }
            on_timer(
                Timer { time, domain },
                &mut self.of(&key, hash, time),
                &mut Collector::new(out),
            )?;
        }
        if domain == TimeDomain::ProcessingTime
            && let Some(next) = self.timers.borrow().processing.next_time()
        {
            self.context.task().request_tick(next);
        }
        Ok(Step::Done)
    }
}

impl<K: Key, I, F: KeyedProcessFunction<K, I>> KeyedProcess<K, I, F> {
    /// The operator that runs `function` for the keys `selector` finds.
    ///
    /// # Errors
    /// If the function's states are declared wrongly.
    pub fn new(
        function: F,
        selector: Arc<dyn KeySelector<I, K>>,
        context: OperatorContext,
    ) -> Result<Self> {
        let states = context.states(F::STATES)?;
        Ok(KeyedProcess { function, selector, store: Store::new(states, context) })
    }
}

impl<K: Key, I: Send, F: KeyedProcessFunction<K, I>> Operator<I, F::Out> for KeyedProcess<K, I, F>
where
    F::Out: 'static,
{
    fn open(&mut self) -> Result<()> {
        self.function.open(&self.store.context)
    }

    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<F::Out>) -> Result<Step> {
        let selector = &*self.selector;
        self.store.states.warm(records.hashes());
        let (function, store) = (&mut self.function, &self.store);
        records.each(|value, time, hash| {
            let key = selector.key(&value);
            out.set_time(time);
            function.process(value, &mut store.of(&key, hash, time), &mut Collector::new(out))?;
            Ok(if out.is_blocked() { Step::Yield } else { Step::Done })
        })
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
