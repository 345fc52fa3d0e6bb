//! The shell around every window operator: what is the same whatever the windows are.
//!
//! [`Windows`] only knows one clock, which it is told. The shell decides which that is: the watermark, or
//! the machine's clock (then a record's time is the moment at which it is processed, and a tick takes the
//! place of a watermark). It also gives late records away, and sees to it that what a late record makes fire
//! is emitted before the next record is looked at.

use super::content::OneOf;
use super::firing::Late;
use crate::chain::{Operator, Output, Records, Step, TwoInputOperator};
use crate::context::OperatorContext;
use crate::function::TimeDomain;
use crate::watermark::Ahead;
use millstream_model::{EventTime, MAX_TIME, MIN_TIME, Result};
use millstream_state::{Items, Visitor};

/// Windows that fire by one clock.
pub(super) trait Windows<T, O>: Send {
    /// Called once before the first record.
    ///
    /// # Errors
    /// What the window function's opening reports.
    fn open(&mut self) -> Result<()>;
    /// Records of keys with these hashes are about to be taken.
    fn warm(&self, hashes: &[u64]);
    /// Takes a record, or gives it back if it is late: too late for every window it belongs to.
    ///
    /// # Errors
    /// If the record has no time, or user code fails.
    fn insert(&mut self, value: T, time: EventTime, hash: u64) -> Result<Option<T>>;
    /// All records of a batch have been taken: makes room, if the state takes more than there is.
    fn settle(&mut self) {}
    /// Whether the last record makes windows fire at once.
    fn has_refirings(&self) -> bool;
    /// Fires the windows that a record made fire at once; a cursor.
    ///
    /// # Errors
    /// What the window function reports.
    fn refire(&mut self, out: &mut Output<O>) -> Result<Step>;
    /// Event time has advanced; only for the window function's eyes.
    fn observe(&mut self, watermark: EventTime);
    /// The windows' clock has advanced: fires what is due; a cursor. A clock that has not is no matter.
    ///
    /// # Errors
    /// What the window function reports.
    fn advance(&mut self, now: EventTime, out: &mut Output<O>) -> Result<Step>;
    /// When the next window fires, or some earlier moment.
    fn next_due(&self) -> Option<EventTime>;
    /// Called once after the end.
    ///
    /// # Errors
    /// What the window function's closing reports.
    fn close(&mut self) -> Result<()>;
    /// Shows every part of the state.
    ///
    /// # Errors
    /// The visitor's.
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()>;
    /// The parts have been restored, and the windows' clock shows `now`, or what `ahead` says: what was due by then
    /// has fired.
    ///
    /// # Errors
    /// If what lies in a store cannot be read.
    fn restored(&mut self, now: EventTime, ahead: &Ahead) -> Result<()>;
}

/// The clock of a window operator.
pub(super) struct WindowClock {
    domain: TimeDomain,
    /// The latest moment of the machine's clock that was told or read: it must not run backwards.
    now: EventTime,
    /// Up to when the machine's clock has been dealt with, and in which of how many subtasks.
    dealt: Items<(usize, usize, EventTime)>,
    context: OperatorContext,
}

impl WindowClock {
    pub(super) fn new(domain: TimeDomain, context: OperatorContext) -> Self {
        WindowClock { domain, now: MIN_TIME, dealt: Items::union(), context }
    }

    /// Notes that all windows that were due then have fired.
    fn deal(&mut self, time: EventTime) {
        self.dealt.values.clear();
        let (subtask, parallelism) = (self.context.subtask(), self.context.parallelism());
        self.dealt.values.push((subtask, parallelism, time));
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        match self.domain {
            TimeDomain::EventTime => Ok(()),
            TimeDomain::ProcessingTime => visitor.part("processing time", &mut self.dealt),
        }
    }

    /// The time of the records about to be taken; `None` if each has its own.
    #[inline]
    fn read(&mut self) -> Option<EventTime> {
        (self.domain == TimeDomain::ProcessingTime).then(|| {
            self.now = self.now.max(self.context.now_ms());
            self.now
        })
    }

    /// Asks to be told when what is due at `next_due` is over.
    fn request(&self, next_due: Option<EventTime>) {
        if let (TimeDomain::ProcessingTime, Some(due)) = (self.domain, next_due) {
            self.context.task().request_tick(due.saturating_add(1));
        }
    }

    fn advance<T, O, W: Windows<T, O>>(
        &self,
        windows: &mut W,
        watermark: EventTime,
        out: &mut Output<O>,
    ) -> Result<Step> {
        windows.observe(watermark);
        match self.domain {
            TimeDomain::EventTime => windows.advance(watermark, out),
            TimeDomain::ProcessingTime => Ok(Step::Done),
        }
    }

    /// By the machine's clock a window is over when its last millisecond is: what is processed within that
    /// millisecond still belongs to it.
    fn tick<T, O, W: Windows<T, O>>(
        &mut self,
        windows: &mut W,
        now: EventTime,
        out: &mut Output<O>,
    ) -> Result<Step> {
        if self.domain == TimeDomain::EventTime {
            return Ok(Step::Done);
        }
        self.now = self.now.max(now);
        let over = self.now.saturating_sub(1);
        let step = windows.advance(over, out)?;
        if step == Step::Done {
            self.deal(over);
            self.request(windows.next_due());
        }
        Ok(step)
    }

    /// Goes on after a restore. By the machine's clock, what became due meanwhile is due now; with another
    /// parallelism, what some subtask had dealt with and another had not is dealt with again.
    fn restored<T, O, W: Windows<T, O>>(
        &mut self,
        windows: &mut W,
        watermark: EventTime,
        ahead: &Ahead,
    ) -> Result<()> {
        windows.observe(watermark);
        match self.domain {
            TimeDomain::EventTime => windows.restored(watermark, ahead)?,
            TimeDomain::ProcessingTime => {
                let here = (self.context.subtask(), self.context.parallelism());
                let dealt = std::mem::take(&mut self.dealt.values);
                let own = dealt.iter().find(|(subtask, n, _)| (*subtask, *n) == here);
                let earliest = own.or_else(|| dealt.iter().min_by_key(|(.., time)| *time));
                if let Some((.., time)) = earliest {
                    self.deal(*time);
                }
                let now = earliest.map_or(MIN_TIME, |(.., time)| *time);
                windows.restored(now, &Ahead::default())?;
            }
        }
        self.request(windows.next_due());
        Ok(())
    }

    /// A clock that nobody waits for any more: what is left fires.
    fn end<T, O, W: Windows<T, O>>(&self, windows: &mut W, out: &mut Output<O>) -> Result<Step> {
        windows.advance(MAX_TIME, out)
    }
}

/// Takes records one by one, fires what they make fire, gives late ones to `late`.
#[inline]
fn take_all<R, T, O, W: Windows<T, O>>(
    windows: &mut W,
    clock: &mut WindowClock,
    records: &mut Records<'_, R>,
    out: &mut Output<O>,
    wrap: impl Fn(R) -> T,
    late: impl Fn(T, EventTime, &mut Output<O>),
) -> Result<Step> {
    if windows.refire(out)? == Step::Yield {
        return Ok(Step::Yield);
    }
    let now = clock.read();
    windows.warm(records.hashes());
    while let Some((value, time, hash)) = records.next_record() {
        let time = now.unwrap_or(time);
        if let Some(value) = windows.insert(wrap(value), time, hash)? {
            late(value, time, out);
        }
        if windows.has_refirings() && windows.refire(out)? == Step::Yield {
            return Ok(Step::Yield);
        }
    }
    windows.settle();
    if now.is_some() {
        clock.request(windows.next_due());
    }
    Ok(Step::Done)
}

/// Windows on one stream, as an operator.
pub(super) struct Windowed<W> {
    pub(super) windows: W,
    pub(super) clock: WindowClock,
    pub(super) late: Late,
}

impl<T: Send + 'static, O: 'static, W: Windows<T, O>> Operator<T, O> for Windowed<W> {
    fn open(&mut self) -> Result<()> {
        self.windows.open()
    }
    fn process(&mut self, records: &mut Records<'_, T>, out: &mut Output<O>) -> Result<Step> {
        let late = &self.late;
        take_all(
            &mut self.windows,
            &mut self.clock,
            records,
            out,
            |v| v,
            |v, t, out| {
                late.take(v, t, out);
            },
        )
    }
    fn advance(&mut self, watermark: EventTime, out: &mut Output<O>) -> Result<Step> {
        self.clock.advance(&mut self.windows, watermark, out)
    }
    fn tick(&mut self, now: EventTime, out: &mut Output<O>) -> Result<Step> {
        self.clock.tick(&mut self.windows, now, out)
    }
    fn end(&mut self, out: &mut Output<O>) -> Result<Step> {
        self.clock.end(&mut self.windows, out)
    }
    fn close(&mut self) -> Result<()> {
        self.windows.close()
    }
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.clock.parts(visitor)?;
        self.windows.parts(visitor)
    }
    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.clock.restored(&mut self.windows, watermark, ahead)
    }
}

/// Windows on two streams with the same key, as an operator.
pub(super) struct JoinWindowed<W> {
    pub(super) windows: W,
    pub(super) clock: WindowClock,
    pub(super) late_left: Late,
    pub(super) late_right: Late,
}

impl<W> JoinWindowed<W> {
    fn late<L: 'static, R: 'static, O: 'static>(
        left: &Late,
        right: &Late,
    ) -> impl Fn(OneOf<L, R>, EventTime, &mut Output<O>) {
        |value, time, out| match value {
            OneOf::Left(value) => left.take(value, time, out),
            OneOf::Right(value) => right.take(value, time, out),
        }
    }
}

impl<L, R, O, W> TwoInputOperator<L, R, O> for JoinWindowed<W>
where
    L: Send + 'static,
    R: Send + 'static,
    O: 'static,
    W: Windows<OneOf<L, R>, O>,
{
    fn open(&mut self) -> Result<()> {
        self.windows.open()
    }
    fn left(&mut self, records: &mut Records<'_, L>, out: &mut Output<O>) -> Result<Step> {
        let late = Self::late(&self.late_left, &self.late_right);
        take_all(&mut self.windows, &mut self.clock, records, out, OneOf::Left, late)
    }
    fn right(&mut self, records: &mut Records<'_, R>, out: &mut Output<O>) -> Result<Step> {
        let late = Self::late(&self.late_left, &self.late_right);
        take_all(&mut self.windows, &mut self.clock, records, out, OneOf::Right, late)
    }
    fn advance(&mut self, watermark: EventTime, out: &mut Output<O>) -> Result<Step> {
        self.clock.advance(&mut self.windows, watermark, out)
    }
    fn tick(&mut self, now: EventTime, out: &mut Output<O>) -> Result<Step> {
        self.clock.tick(&mut self.windows, now, out)
    }
    fn end(&mut self, out: &mut Output<O>) -> Result<Step> {
        self.clock.end(&mut self.windows, out)
    }
    fn close(&mut self) -> Result<()> {
        self.windows.close()
    }
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.clock.parts(visitor)?;
        self.windows.parts(visitor)
    }
    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.clock.restored(&mut self.windows, watermark, ahead)
    }
}
