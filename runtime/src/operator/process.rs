//! `process` on a stream without keys.

use crate::chain::{Operator, Output, Records, Step};
use crate::context::OperatorContext;
use crate::function::{Collector, ProcessContext, ProcessFunction};
use millstream_model::{EventTime, MIN_TIME, Result};

/// Runs a [`ProcessFunction`].
pub struct Process<F> {
    function: F,
    context: OperatorContext,
    watermark: EventTime,
}

impl<F> Process<F> {
    /// The operator that runs `function`.
    pub fn new(function: F, context: OperatorContext) -> Self {
        Process { function, context, watermark: MIN_TIME }
    }
}

impl<I, F: ProcessFunction<I>> Operator<I, F::Out> for Process<F>
where
    F::Out: 'static,
{
    fn open(&mut self) -> Result<()> {
        self.function.open(&self.context)
    }

    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<F::Out>) -> Result<Step> {
        while let Some((value, time, _)) = records.next_record() {
            out.set_time(time);
            let mut ctx =
                ProcessContext { time, watermark: self.watermark, operator: &self.context };
            self.function.process(value, &mut ctx, &mut Collector::new(out))?;
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
}
