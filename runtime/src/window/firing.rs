//! Firing: calling the window function, and remembering what it has yet to be called for.
//!
//! A window that fires by the clock is read where it stands. One that fires because a record came late, or
//! because a trigger said so, is put aside first: whatever happens to its content afterwards, what fires is
//! what was there at that moment, and an output that is blocked in between loses nothing.

use super::emit::{Emit, WindowContext};
use super::time_window::TimeWindow;
use crate::chain::{Output, Step};
use crate::context::OperatorContext;
use crate::metrics::Counter;
use millstream_model::{Error, EventTime, MIN_TIME, NO_TIME, Result};
use std::collections::VecDeque;

/// The error of a record without a time in event-time windows.
#[cold]
pub(super) fn no_time() -> Error {
    Error::user(
        "records without event time cannot be put into event-time windows: give the source a watermark \
         strategy, or use windows in `.processing_time()`",
    )
}

/// Refuses a record that has no time.
#[inline]
pub(crate) fn timed(time: EventTime) -> Result<()> {
    if time == NO_TIME { Err(no_time()) } else { Ok(()) }
}

/// A firing that is to be emitted before anything else happens.
pub(super) struct Pending<K, A> {
    pub(super) key: K,
    pub(super) content: A,
    pub(super) window: TimeWindow,
    /// What its results are stamped with.
    pub(super) time: EventTime,
    pub(super) refiring: bool,
}

/// The window function with the firings it has yet to be called for.
pub(super) struct Firings<K, A, E> {
    emit: E,
    pending: VecDeque<Pending<K, A>>,
    watermark: EventTime,
    pub(super) context: OperatorContext,
}

impl<K, A, E: Emit<K, A>> Firings<K, A, E> {
    pub(super) fn new(emit: E, context: OperatorContext) -> Self {
        Firings { emit, pending: VecDeque::new(), watermark: MIN_TIME, context }
    }

    pub(super) fn open(&mut self) -> Result<()> {
        self.emit.open(&self.context)
    }

    pub(super) fn close(&mut self) -> Result<()> {
        self.emit.close()
    }

    pub(super) fn observe(&mut self, watermark: EventTime) {
        self.watermark = watermark;
    }

    /// The watermark as window functions and triggers see it.
    pub(super) fn watermark(&self) -> EventTime {
        self.watermark
    }

    #[inline]
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn push(&mut self, firing: Pending<K, A>) {
        self.pending.push_back(firing);
    }

    /// Calls the window function for what is kept elsewhere, unless the output is blocked.
    #[inline]
    pub(super) fn fire(
        &mut self,
        key: &K,
        content: &A,
        window: TimeWindow,
        out: &mut Output<E::Out>,
    ) -> Result<Step> {
        if out.is_blocked() {
            return Ok(Step::Yield);
        }
        out.set_time(window.max_timestamp());
        let (watermark, operator) = (self.watermark, &self.context);
        let ctx = WindowContext { window, watermark, refiring: false, operator };
        self.emit.emit(key, content, &ctx, out)
    }

    /// Calls the window function for all pending firings, in order.
    pub(super) fn drain(&mut self, out: &mut Output<E::Out>) -> Result<Step> {
        while let Some(firing) = self.pending.front() {
            if out.is_blocked() {
                return Ok(Step::Yield);
            }
            out.set_time(firing.time);
            let Pending { window, refiring, .. } = *firing;
            let (watermark, operator) = (self.watermark, &self.context);
            let ctx = WindowContext { window, watermark, refiring, operator };
            if self.emit.emit(&firing.key, &firing.content, &ctx, out)? == Step::Yield {
                return Ok(Step::Yield);
            }
            self.pending.pop_front();
        }
        Ok(Step::Done)
    }
}

/// Where late records go: to a side output if the program asked for it, else into a count.
pub(crate) struct Late {
    tag: Option<&'static str>,
    dropped: Counter,
}

impl Late {
    pub(crate) fn new(tag: Option<&'static str>, context: &OperatorContext) -> Self {
        Late { tag, dropped: context.counter("late_records_dropped") }
    }

    #[cold]
    pub(crate) fn take<T: 'static, O: 'static>(
        &self,
        value: T,
        time: EventTime,
        out: &mut Output<O>,
    ) {
        match self.tag {
            Some(tag) => out.emit_side_at(tag, value, time),
            None => self.dropped.inc(),
        }
    }
}
