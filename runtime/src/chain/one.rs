//! One-input operators and the link that runs them.
//!
//! An operator is synchronous and knows nothing of links: it is given records up to the next watermark,
//! then the watermark, and so on. The link does the rest, and so no operator can forget it: it splits
//! batches at their marks, forwards watermarks and signals behind what the operator emitted for them, and
//! keeps what an operator that had to yield has not yet consumed.

use super::visit::{EventClock, Freeze};
use super::{ChainVisitor, Flow, Notice, Output, Push, Site, Stateful};
use crate::watermark::Ahead;
use millstream_model::{Barrier, Batch, EventTime, Mark, NO_TIME, Result, Signal};
use millstream_state::Visitor;

/// Whether an operator is through with what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Through.
    Done,
    /// The output is blocked: call the same method again, with what is left, when it is not.
    Yield,
}

/// Records between two watermarks, to be consumed in order.
pub struct Records<'a, I> {
    values: std::vec::Drain<'a, I>,
    times: &'a [EventTime],
    hashes: &'a [u64],
    at: usize,
    end: usize,
}

impl<'a, I> Records<'a, I> {
    /// All records of a batch (marks are left to the caller).
    pub(super) fn of(batch: &'a mut Batch<I>) -> (Self, &'a mut Vec<Mark>) {
        let end = batch.values.len();
        let records = Records {
            values: batch.values.drain(..),
            times: &batch.times,
            hashes: &batch.hashes,
            at: 0,
            end,
        };
        (records, &mut batch.marks)
    }

    /// Lets records be consumed up to this index of the batch.
    pub(super) fn limit(&mut self, end: usize) {
        self.end = end;
    }

    pub(super) fn is_consumed(&self) -> bool {
        self.at >= self.end
    }

    /// What was not consumed, with the marks from `next_mark` on.
    pub(super) fn rest(self, marks: &[Mark]) -> Batch<I> {
        let from = |column: usize| self.at.min(column);
        Batch {
            times: self.times[from(self.times.len())..].to_vec(),
            hashes: self.hashes[from(self.hashes.len())..].to_vec(),
            marks: marks
                .iter()
                .map(|m| Mark { at: m.at.saturating_sub(self.at as u32), watermark: m.watermark })
                .collect(),
            values: self.values.collect(),
        }
    }

    /// Number of records left before the next watermark.
    pub fn len(&self) -> usize {
        self.end - self.at
    }

    /// Whether no record is left before the next watermark.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key hashes of the records left before the next watermark; empty if the stream is not keyed.
    pub fn hashes(&self) -> &'a [u64] {
        self.hashes.get(self.at..self.end).unwrap_or_default()
    }

    /// Consumes the records in a loop: `visit` is given each with its time and its key's hash, as by
    /// [`next_record`](Records::next_record), and may yield after one. The fastest way to consume.
    ///
    /// # Errors
    /// The first error of `visit`.
    #[inline(always)]
    pub fn each(
        &mut self,
        mut visit: impl FnMut(I, EventTime, u64) -> Result<Step>,
    ) -> Result<Step> {
        let (first, n) = (self.at, self.end - self.at);
        let times = self.times.get(first..self.end).unwrap_or_default();
        let hashes = self.hashes.get(first..self.end).unwrap_or_default();
        for i in 0..n {
            let Some(value) = self.values.next() else { break };
            let time = times.get(i).copied().unwrap_or(NO_TIME);
            let hash = hashes.get(i).copied().unwrap_or(0);
            match visit(value, time, hash) {
                Ok(Step::Done) => {}
                stopped => {
                    self.at = first + i + 1;
                    return stopped;
                }
            }
        }
        self.at = self.end;
        Ok(Step::Done)
    }

    /// The next record with its time ([`NO_TIME`] if the stream has none) and its key's hash (0 if the
    /// stream is not keyed).
    #[inline]
    pub fn next_record(&mut self) -> Option<(I, EventTime, u64)> {
        if self.at >= self.end {
            return None;
        }
        let value = self.values.next()?;
        let time = self.times.get(self.at).copied().unwrap_or(NO_TIME);
        let hash = self.hashes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        Some((value, time, hash))
    }
}

/// A one-input operator. See the module's text.
///
/// Every method may answer [`Step::Yield`] when the output is blocked, keeping a cursor of its own; it is
/// then called again with the same arguments (and what is left of the records).
pub trait Operator<I, O>: Send {
    /// Called once before the first record.
    ///
    /// # Errors
    /// Whatever prevents the operator from starting.
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    /// Processes records up to the next watermark. After a yield it is called again even if no record is left.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<O>) -> Result<Step>;
    /// Event time has advanced: fires what is due.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn advance(&mut self, watermark: EventTime, out: &mut Output<O>) -> Result<Step> {
        let _ = (watermark, out);
        Ok(Step::Done)
    }
    /// Processing time has advanced: fires what is due.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn tick(&mut self, now: EventTime, out: &mut Output<O>) -> Result<Step> {
        let _ = (now, out);
        Ok(Step::Done)
    }
    /// Takes results that came from elsewhere (asynchronous calls). Called once per step of the task.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn poll(&mut self, out: &mut Output<O>) -> Result<Step> {
        let _ = out;
        Ok(Step::Done)
    }
    /// No record will follow, because the input has ended or event time was brought to its end: emits what is left.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn end(&mut self, out: &mut Output<O>) -> Result<Step> {
        let _ = out;
        Ok(Step::Done)
    }
    /// A barrier has come: emits what is held outside of its state and must not be lost.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn before_barrier(&mut self, barrier: Barrier, out: &mut Output<O>) -> Result<Step> {
        let _ = (barrier, out);
        Ok(Step::Done)
    }
    /// Called once after the end.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
    /// Shows every part of its state.
    ///
    /// # Errors
    /// The visitor's.
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        let _ = visitor;
        Ok(())
    }
    /// Its parts have been restored, and event time stands at `watermark`, or where `ahead` says: makes up the
    /// rest. What was due by then has fired. Called once, before it is opened.
    ///
    /// # Errors
    /// If what was restored cannot be gone on from.
    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        let _ = (watermark, ahead);
        Ok(())
    }
    /// A checkpoint was completed or given up.
    ///
    /// # Errors
    /// If what was staged cannot be made visible.
    fn notify(&mut self, notice: Notice) -> Result<()> {
        let _ = notice;
        Ok(())
    }
}

/// The link of a one-input operator.
pub struct OneInput<I, O, Op> {
    operator: Op,
    out: Output<O>,
    /// What the operator has not consumed yet.
    rest: Batch<I>,
    /// Whether the operator yielded in the middle of records or a watermark.
    yielded: bool,
    /// A signal being dealt with, and whether the operator is through with it.
    pending: Option<(Signal, bool)>,
    clock: EventClock,
    /// Whether what is done at the end has been done.
    has_ended: bool,
    /// Whether that was before a restore, and nothing has come since.
    ended_before: bool,
    site: Site,
}

impl<I, O: 'static, Op: Operator<I, O>> OneInput<I, O, Op> {
    /// The link that runs `operator` into `out`.
    pub fn new(operator: Op, out: Output<O>) -> Self {
        let site = out.site().clone();
        OneInput {
            operator,
            out,
            rest: Batch::default(),
            yielded: false,
            pending: None,
            clock: EventClock::default(),
            has_ended: false,
            ended_before: false,
            site,
        }
    }

    fn consume(&mut self, batch: &mut Batch<I>) -> Result<Flow> {
        self.site.enter();
        let n = batch.len();
        self.ended_before &= n == 0;
        let (mut records, marks) = Records::of(batch);
        let mut next_mark = 0;
        let yielded = loop {
            records.limit(marks.get(next_mark).map_or(n, |m| m.at as usize));
            // After a yield it is asked again even without records: it may hold a cursor.
            let asked = std::mem::take(&mut self.yielded) || !records.is_consumed();
            if asked && self.operator.process(&mut records, &mut self.out)? == Step::Yield {
                break true;
            }
            let Some(mark) = marks.get(next_mark) else { break false };
            // After a restore the input may take a while to get to where it was. Asked again after a yield,
            // the clock shows this mark already.
            if mark.watermark >= self.clock.watermark {
                self.clock.watermark = mark.watermark;
                if self.operator.advance(mark.watermark, &mut self.out)? == Step::Yield {
                    break true;
                }
            }
            self.out.mark(mark.watermark);
            next_mark += 1;
        };
        self.yielded = yielded;
        if yielded {
            self.rest = records.rest(&marks[next_mark..]);
        } else {
            drop(records);
        }
        batch.clear();
        let flow = self.out.flush()?;
        // A yield while the output has just become free again: go on in the next `resume`.
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
            let step = match signal {
                Signal::Tick(now) => self.operator.tick(now, &mut self.out)?,
                Signal::End => self.end()?,
                // Nothing comes after it.
                Signal::Barrier(barrier) if barrier.kind.drains() && self.end()? == Step::Yield => {
                    Step::Yield
                }
                Signal::Barrier(barrier) => self.operator.before_barrier(barrier, &mut self.out)?,
                Signal::Flush | Signal::Idle | Signal::Active => Step::Done,
            };
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
}

impl<I, O: 'static, Op: Operator<I, O>> Stateful for OneInput<I, O, Op> {
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

impl<I: Send, O: Send + 'static, Op: Operator<I, O>> Push<I> for OneInput<I, O, Op> {
    fn open(&mut self) -> Result<()> {
        self.out.open()?;
        self.site.enter();
        let opened = self.operator.open();
        self.site.locate(opened)
    }

    fn push(&mut self, batch: &mut Batch<I>) -> Result<Flow> {
        let flow = self.consume(batch);
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
        self.site.enter();
        let polled = self.operator.poll(&mut self.out);
        let mut flow = self.out.flush()?;
        if self.site.locate(polled)? == Step::Yield {
            return Ok(Flow::Blocked);
        }
        if flow == Flow::Ready && self.yielded {
            let mut rest = std::mem::take(&mut self.rest);
            let consumed = self.consume(&mut rest);
            flow = self.site.locate(consumed)?;
        }
        if flow == Flow::Ready && self.pending.is_some() {
            let delivered = self.deliver();
            flow = self.site.locate(delivered)?;
        }
        Ok(flow)
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
