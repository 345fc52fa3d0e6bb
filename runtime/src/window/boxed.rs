//! Operators of a kind that is only known when they are built.
//!
//! Which operator serves a window depends on the window, so what the builders return hides it. That costs
//! one virtual call per batch.

use crate::chain::{Notice, Operator, Output, Records, Step, TwoInputOperator};
use crate::watermark::Ahead;
use millstream_model::{Barrier, EventTime, Result};
use millstream_state::Visitor;

/// An operator of a kind that was chosen when it was built; one virtual call per batch.
pub struct BoxedOperator<I, O>(Box<dyn Operator<I, O>>);

impl<I, O> BoxedOperator<I, O> {
    pub(super) fn new(operator: impl Operator<I, O> + 'static) -> Self {
        BoxedOperator(Box::new(operator))
    }
}

impl<I, O> Operator<I, O> for BoxedOperator<I, O> {
    fn open(&mut self) -> Result<()> {
        self.0.open()
    }
    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<O>) -> Result<Step> {
        self.0.process(records, out)
    }
    fn advance(&mut self, watermark: EventTime, out: &mut Output<O>) -> Result<Step> {
        self.0.advance(watermark, out)
    }
    fn tick(&mut self, now: EventTime, out: &mut Output<O>) -> Result<Step> {
        self.0.tick(now, out)
    }
    fn end(&mut self, out: &mut Output<O>) -> Result<Step> {
        self.0.end(out)
    }
    fn before_barrier(&mut self, barrier: Barrier, out: &mut Output<O>) -> Result<Step> {
        self.0.before_barrier(barrier, out)
    }
    fn close(&mut self) -> Result<()> {
        self.0.close()
    }
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.0.parts(visitor)
    }
    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.0.restored(watermark, ahead)
    }
    fn notify(&mut self, notice: Notice) -> Result<()> {
        self.0.notify(notice)
    }
}

/// A two-input operator of a kind that was chosen when it was built.
pub struct BoxedTwoInput<L, R, O>(Box<dyn TwoInputOperator<L, R, O>>);

impl<L, R, O> BoxedTwoInput<L, R, O> {
    pub(super) fn new(operator: impl TwoInputOperator<L, R, O> + 'static) -> Self {
        BoxedTwoInput(Box::new(operator))
    }
}

impl<L, R, O> TwoInputOperator<L, R, O> for BoxedTwoInput<L, R, O> {
    fn open(&mut self) -> Result<()> {
        self.0.open()
    }
    fn left(&mut self, records: &mut Records<'_, L>, out: &mut Output<O>) -> Result<Step> {
        self.0.left(records, out)
    }
    fn right(&mut self, records: &mut Records<'_, R>, out: &mut Output<O>) -> Result<Step> {
        self.0.right(records, out)
    }
    fn advance(&mut self, watermark: EventTime, out: &mut Output<O>) -> Result<Step> {
        self.0.advance(watermark, out)
    }
    fn tick(&mut self, now: EventTime, out: &mut Output<O>) -> Result<Step> {
        self.0.tick(now, out)
    }
    fn end(&mut self, out: &mut Output<O>) -> Result<Step> {
        self.0.end(out)
    }
    fn close(&mut self) -> Result<()> {
        self.0.close()
    }
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.0.parts(visitor)
    }
    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.0.restored(watermark, ahead)
    }
    fn notify(&mut self, notice: Notice) -> Result<()> {
        self.0.notify(notice)
    }
}
