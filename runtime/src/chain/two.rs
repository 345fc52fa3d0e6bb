//! Two-input operators and the link that runs them.
//!
//! The operator's watermark is the minimum of its inputs'; the link keeps it, so the operator only ever
//! sees one clock. An input that is idle or has ended is left out of the minimum.

use super::one::{Records, Step};
use super::visit::{EventClock, Freeze};
use super::{ChainVisitor, Flow, Notice, Output, Site, Stateful};
use crate::watermark::{Ahead, Valve};
use millstream_model::{Batch, EventTime, Result, Signal};
use millstream_state::Visitor;

/// An operator with two inputs of different types. The rules are those of [`super::Operator`].
pub trait TwoInputOperator<L, R, O>: Send {
    /// Called once before the first record.
    ///
    /// # Errors
    /// Whatever prevents the operator from starting.
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    /// Processes records of the first input up to the next watermark.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn left(&mut self, records: &mut Records<'_, L>, out: &mut Output<O>) -> Result<Step>;
    /// Processes records of the second input up to the next watermark.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn right(&mut self, records: &mut Records<'_, R>, out: &mut Output<O>) -> Result<Step>;
    /// Event time, the minimum of both inputs, has advanced.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn advance(&mut self, watermark: EventTime, out: &mut Output<O>) -> Result<Step> {
        let _ = (watermark, out);
        Ok(Step::Done)
    }
    /// Processing time has advanced.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn tick(&mut self, now: EventTime, out: &mut Output<O>) -> Result<Step> {
        let _ = (now, out);
        Ok(Step::Done)
    }
    /// Both inputs have ended, or event time was brought to its end.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn end(&mut self, out: &mut Output<O>) -> Result<Step> {
        let _ = out;
        Ok(Step::Done)
    }
    /// Called once after the end.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
    /// See [`super::Operator::parts`].
    ///
    /// # Errors
    /// As there.
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        let _ = visitor;
        Ok(())
    }
    /// See [`super::Operator::restored`].
    ///
    /// # Errors
    /// As there.
    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        let _ = (watermark, ahead);
        Ok(())
    }
    /// See [`super::Operator::notify`].
    ///
    /// # Errors
    /// As there.
    fn notify(&mut self, notice: Notice) -> Result<()> {
        let _ = notice;
        Ok(())
    }
}

/// What a two-input head is given: batches and signals for either side.
pub trait TwoInputLink<L, R>: Send {
    /// See [`super::Push::open`].
    ///
    /// # Errors
    /// As there.
    fn open(&mut self) -> Result<()>;
    /// Takes a batch of the first input.
    ///
    /// # Errors
    /// The failure of an operator.
    fn push_left(&mut self, batch: &mut Batch<L>) -> Result<Flow>;
    /// Takes a batch of the second input.
    ///
    /// # Errors
    /// The failure of an operator.
    fn push_right(&mut self, batch: &mut Batch<R>) -> Result<Flow>;
    /// The watermark of both inputs.
    fn watermark(&self) -> EventTime;
    /// Takes a signal that concerns one input (0 or 1) only: idle, active, end.
    ///
    /// # Errors
    /// The failure of an operator.
    fn signal_input(&mut self, input: usize, signal: Signal) -> Result<Flow>;
    /// Takes a signal that concerns the whole task: flush, tick, a barrier that both inputs have brought.
    ///
    /// # Errors
    /// The failure of an operator.
    fn signal(&mut self, signal: Signal) -> Result<Flow>;
    /// See [`super::Push::resume`].
    ///
    /// # Errors
    /// As there.
    fn resume(&mut self) -> Result<Flow>;
    /// See [`super::Push::close`].
    ///
    /// # Errors
    /// As there.
    fn close(&mut self) -> Result<()>;
    /// See [`super::Push::visit`].
    ///
    /// # Errors
    /// As there.
    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()>;
}

/// The link of a two-input operator.
pub struct TwoInput<L, R, O, Op> {
    operator: Op,
    out: Output<O>,
    valve: Valve,
    rest_left: Batch<L>,
    rest_right: Batch<R>,
    /// Which input's records the operator yielded in the middle of.
    yielded: Option<usize>,
    /// A watermark being dealt with.
    watermark: Option<EventTime>,
    pending: Option<(Signal, bool)>,
    clock: EventClock,
    /// Whether what is done at the end has been done.
    has_ended: bool,
    /// Whether that was before a restore, and nothing has come since.
    ended_before: bool,
    site: Site,
}

/// One side of a two-input operator, picked at compile time so that both share one loop.
trait Side<L, R, O> {
    type In;
    const INPUT: usize;
    fn process(
        op: &mut impl TwoInputOperator<L, R, O>,
        records: &mut Records<'_, Self::In>,
        out: &mut Output<O>,
    ) -> Result<Step>;
    fn rest<Op>(link: &mut TwoInput<L, R, O, Op>) -> &mut Batch<Self::In>;
}

/// The first input.
pub struct LeftPort;
/// The second input.
pub struct RightPort;

impl<L, R, O> Side<L, R, O> for LeftPort {
    type In = L;
    const INPUT: usize = 0;
    fn process(
        op: &mut impl TwoInputOperator<L, R, O>,
        records: &mut Records<'_, L>,
        out: &mut Output<O>,
    ) -> Result<Step> {
        op.left(records, out)
    }
    fn rest<Op>(link: &mut TwoInput<L, R, O, Op>) -> &mut Batch<L> {
        &mut link.rest_left
    }
}

impl<L, R, O> Side<L, R, O> for RightPort {
    type In = R;
    const INPUT: usize = 1;
    fn process(
        op: &mut impl TwoInputOperator<L, R, O>,
        records: &mut Records<'_, R>,
        out: &mut Output<O>,
    ) -> Result<Step> {
        op.right(records, out)
    }
    fn rest<Op>(link: &mut TwoInput<L, R, O, Op>) -> &mut Batch<R> {
        &mut link.rest_right
    }
}

impl<L, R, O: 'static, Op: TwoInputOperator<L, R, O>> TwoInput<L, R, O, Op> {
    /// The link that runs `operator` into `out`.
    pub fn new(operator: Op, out: Output<O>) -> Self {
        let site = out.site().clone();
        TwoInput {
            operator,
            out,
            valve: Valve::new(2),
            rest_left: Batch::default(),
            rest_right: Batch::default(),
            yielded: None,
            watermark: None,
            pending: None,
            clock: EventClock::default(),
            has_ended: false,
            ended_before: false,
            site,
        }
    }

    /// Finishes the watermark being dealt with; `Yield` if the operator must wait.
    fn advance(&mut self) -> Result<Step> {
        if let Some(w) = self.watermark {
            // After a restore the inputs may take a while to get to where they were.
            if w >= self.clock.watermark {
                self.clock.watermark = w;
                if self.operator.advance(w, &mut self.out)? == Step::Yield {
                    return Ok(Step::Yield);
                }
            }
            self.out.mark(w);
            self.watermark = None;
        }
        Ok(Step::Done)
    }

    fn consume<S: Side<L, R, O>>(&mut self, batch: &mut Batch<S::In>) -> Result<Flow> {
        self.site.enter();
        let n = batch.len();
        self.ended_before &= n == 0;
        let (mut records, marks) = Records::of(batch);
        let mut next_mark = 0;
        let yielded = loop {
            if self.advance()? == Step::Yield {
                break true;
            }
            records.limit(marks.get(next_mark).map_or(n, |m| m.at as usize));
            let asked = self.yielded.take().is_some() || !records.is_consumed();
            if asked && S::process(&mut self.operator, &mut records, &mut self.out)? == Step::Yield
            {
                break true;
            }
            let Some(mark) = marks.get(next_mark) else { break false };
            self.watermark = self.valve.advance(S::INPUT, mark.watermark);
            next_mark += 1;
        };
        if yielded {
            self.yielded = Some(S::INPUT);
            let rest = records.rest(&marks[next_mark..]);
            *S::rest(self) = rest;
        } else {
            drop(records);
        }
        batch.clear();
        let flow = self.out.flush()?;
        Ok(if yielded { Flow::Blocked } else { flow })
    }

    fn end(&mut self) -> Result<Step> {
        let is_done = self.has_ended || self.ended_before;
        let step = if is_done { Step::Done } else { self.operator.end(&mut self.out)? };
        self.has_ended |= step == Step::Done;
        Ok(step)
    }

    fn deliver(&mut self) -> Result<Flow> {
        let Some((signal, done)) = self.pending else { return Ok(Flow::Ready) };
        if !done {
            self.site.enter();
            let mut step = self.advance()?;
            if step == Step::Done {
                step = match signal {
                    Signal::Tick(now) => self.operator.tick(now, &mut self.out)?,
                    Signal::End => self.end()?,
                    // Nothing comes after it.
                    Signal::Barrier(barrier) if barrier.kind.drains() => self.end()?,
                    Signal::Flush | Signal::Idle | Signal::Active | Signal::Barrier(_) => {
                        Step::Done
                    }
                };
            }
            if step == Step::Yield {
                let _ = self.out.flush()?;
                return Ok(Flow::Blocked);
            }
            if let Signal::Barrier(barrier) = signal {
                self.clock.save();
                self.parts(&mut Freeze(barrier.kind))?;
            }
            self.pending = Some((signal, true));
        }
        if self.out.flush()? == Flow::Blocked {
            return Ok(Flow::Blocked);
        }
        self.pending = None;
        self.out.signal(signal)
    }

    fn resume_inner(&mut self) -> Result<Flow> {
        let mut flow = Flow::Ready;
        self.site.enter();
        if self.advance()? == Step::Yield {
            let _ = self.out.flush()?;
            return Ok(Flow::Blocked);
        }
        match self.yielded {
            Some(0) => {
                let mut rest = std::mem::take(&mut self.rest_left);
                flow = self.consume::<LeftPort>(&mut rest)?;
            }
            Some(_) => {
                let mut rest = std::mem::take(&mut self.rest_right);
                flow = self.consume::<RightPort>(&mut rest)?;
            }
            None => {}
        }
        if flow == Flow::Ready && self.pending.is_some() {
            flow = self.deliver()?;
        }
        // `advance` above may have left results behind.
        Ok(flow.and(self.out.flush()?))
    }
}

impl<L, R, O: 'static, Op: TwoInputOperator<L, R, O>> Stateful for TwoInput<L, R, O, Op> {
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.clock.with_parts(visitor, |visitor| self.operator.parts(visitor))
    }
    fn ended(&mut self) {
        self.ended_before = true;
    }
    fn has_ended(&self) -> bool {
        self.has_ended || self.ended_before
    }
    fn restored(&mut self) -> Result<()> {
        let (watermark, ahead) = self.clock.restored();
        self.operator.restored(watermark, ahead)
    }
    fn notify(&mut self, notice: Notice) -> Result<()> {
        self.operator.notify(notice)
    }
}

impl<L: Send, R: Send, O: Send + 'static, Op: TwoInputOperator<L, R, O>> TwoInputLink<L, R>
    for TwoInput<L, R, O, Op>
{
    fn open(&mut self) -> Result<()> {
        self.out.open()?;
        self.site.enter();
        let opened = self.operator.open();
        self.site.locate(opened)
    }

    fn push_left(&mut self, batch: &mut Batch<L>) -> Result<Flow> {
        let flow = self.consume::<LeftPort>(batch);
        self.site.locate(flow)
    }

    fn push_right(&mut self, batch: &mut Batch<R>) -> Result<Flow> {
        let flow = self.consume::<RightPort>(batch);
        self.site.locate(flow)
    }

    fn watermark(&self) -> EventTime {
        self.valve.watermark().max(self.clock.watermark)
    }

    fn signal_input(&mut self, input: usize, signal: Signal) -> Result<Flow> {
        let change = match signal {
            Signal::Idle => self.valve.idle(input),
            Signal::Active => self.valve.active(input),
            Signal::End => self.valve.end(input),
            Signal::Flush | Signal::Tick(_) | Signal::Barrier(_) => return self.signal(signal),
        };
        self.watermark = change.watermark;
        // A status that does not reach the outside still has to bring the watermark it freed.
        self.pending = Some((change.signal.unwrap_or(Signal::Flush), false));
        let flow = self.deliver();
        self.site.locate(flow)
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.pending = Some((signal, false));
        let flow = self.deliver();
        self.site.locate(flow)
    }

    fn resume(&mut self) -> Result<Flow> {
        if self.out.resume()? == Flow::Blocked {
            return Ok(Flow::Blocked);
        }
        let flow = self.resume_inner();
        self.site.locate(flow)
    }

    fn close(&mut self) -> Result<()> {
        self.site.enter();
        let closed = self.operator.close();
        self.site.locate(closed)?;
        self.out.close()
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        let site = self.site.clone();
        visitor.operator(&site, self)?;
        self.out.visit(visitor)
    }
}
