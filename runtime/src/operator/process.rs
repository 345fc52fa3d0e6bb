//! `process` on a stream without keys.

use crate::chain::{Operator, Output, Records, Step};
use crate::context::OperatorContext;
use crate::function::{Collector, ProcessContext, ProcessFunction};
use crate::watermark::Ahead;
use millstream_model::{Barrier, EventTime, MIN_TIME, NO_TIME, Result};
use millstream_state::{OperatorStates, Visitor};

/// Runs a [`ProcessFunction`].
pub struct Process<F> {
    function: F,
    store: Store,
}

/// What the function may ask.
struct Store {
    states: OperatorStates,
    context: OperatorContext,
    watermark: EventTime,
}

impl Store {
    fn at(&self, time: EventTime) -> ProcessContext<'_> {
        let Store { states, context, watermark } = self;
        ProcessContext { time, watermark: *watermark, operator: context, states: Some(states) }
    }
}

impl<F> Process<F> {
    /// The operator that runs `function`.
    ///
    /// # Errors
    /// If the function's states are declared wrongly.
    pub fn new<I>(function: F, context: OperatorContext) -> Result<Self>
    where
        F: ProcessFunction<I>,
    {
        let states = OperatorStates::new(F::STATES)?;
        Ok(Process { function, store: Store { states, context, watermark: MIN_TIME } })
    }
}

impl<I, F: ProcessFunction<I>> Operator<I, F::Out> for Process<F>
where
    F::Out: 'static,
{
    fn open(&mut self) -> Result<()> {
        self.function.open(&mut self.store.at(NO_TIME))
    }

    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<F::Out>) -> Result<Step> {
        while let Some((value, time, _)) = records.next_record() {
            out.set_time(time);
            self.function.process(value, &mut self.store.at(time), &mut Collector::new(out))?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn advance(&mut self, watermark: EventTime, _: &mut Output<F::Out>) -> Result<Step> {
        self.store.watermark = watermark;
        Ok(Step::Done)
    }

    fn before_barrier(&mut self, _: Barrier, out: &mut Output<F::Out>) -> Result<Step> {
        self.function.before_snapshot(&mut self.store.at(NO_TIME), &mut Collector::new(out))?;
        Ok(Step::Done)
    }

    fn end(&mut self, out: &mut Output<F::Out>) -> Result<Step> {
        self.function.end(&mut self.store.at(NO_TIME), &mut Collector::new(out))?;
        Ok(Step::Done)
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.store.states.parts(visitor)
    }

    fn restored(&mut self, watermark: EventTime, _: &Ahead) -> Result<()> {
        self.store.watermark = watermark;
        Ok(())
    }
}
