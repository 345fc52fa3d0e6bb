//! Where a reader's splits come from if not all of them are known at the start: the gate to its enumerator.
//!
//! To the valve of the reader the gate is one more input. It has nothing to say of time; but as long as it is open, and
//! no split is, there is nobody else to hold event time or, after a while, to be idle. So the cases need no rules
//! of their own: with a split open the gate is idle, without one it is active until it has been quiet for
//! long enough, and when the enumerator has ended the gate has, too.

use super::Assignment;
use crate::exchange::{Arrival, Gate};
use millstream_model::{Barrier, CheckpointId, Data, EventTime, MAX_TIME, Result, Signal};

/// The valve's input that stands for the gate, if there is one: the first.
pub(super) const GATE: usize = 0;

/// Since when something has had nothing, and whether it counts as idle by now.
#[derive(Default)]
pub(super) struct Quiet {
    since_us: Option<EventTime>,
    is_idle: bool,
}

impl Quiet {
    /// There is something. Whether it had been idle.
    pub(super) fn end(&mut self) -> bool {
        std::mem::take(self).is_idle
    }

    /// There is nothing now. When it will have been quiet for `idle_after_us`; `None` if it has become idle.
    pub(super) fn go_on(
        &mut self,
        now_us: EventTime,
        idle_after_us: EventTime,
    ) -> Option<EventTime> {
        if self.is_idle {
            return Some(MAX_TIME);
        }
        let idle_at = self.since_us.get_or_insert(now_us).saturating_add(idle_after_us);
        if idle_at > now_us {
            return Some(idle_at);
        }
        self.is_idle = true;
        None
    }

    /// Whether it counts as idle.
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle
    }
}

/// See the module's text.
pub(super) struct Intake<S> {
    gate: Gate<Assignment<S>>,
    has_ended: bool,
    /// While no split is open.
    pub(super) quiet: Quiet,
}

/// What came from the enumerator.
pub(super) enum Taken<S> {
    /// These splits.
    Splits(Vec<S>),
    /// Everything that was assigned before it has come.
    Barrier(Barrier),
    /// There will be no other split.
    End,
    /// Something that means nothing here.
    Other,
}

impl<S: Data> Intake<S> {
    pub(super) fn new(gate: Gate<Assignment<S>>) -> Self {
        Intake { gate, has_ended: false, quiet: Quiet::default() }
    }

    /// Whether the enumerator has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes the next thing, if there is one.
    pub(super) fn take(&mut self) -> Result<Option<Taken<S>>> {
        if self.has_ended {
            return Ok(None);
        }
        Ok(Some(match self.gate.poll()? {
            Arrival::Batch(mut batch) => {
                let splits = batch.values.drain(..).map(|assignment| assignment.split).collect();
                self.gate.recycle(batch);
                Taken::Splits(splits)
            }
            Arrival::Barrier(barrier) => Taken::Barrier(barrier),
            Arrival::Signal(Signal::End) => {
                self.has_ended = true;
                Taken::End
            }
            Arrival::Signal(_) | Arrival::Taken => Taken::Other,
            Arrival::Nothing => return Ok(None),
        }))
    }

    /// A checkpoint was given up.
    pub(super) fn cancel(&mut self, checkpoint: CheckpointId) {
        self.gate.cancel(checkpoint);
    }
}
