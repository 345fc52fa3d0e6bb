//! Walking through a task: the one way to its operators that is not the way of the records.
//!
//! Snapshots, restores and notices have nothing to do with batches, and must get through while a chain is
//! blocked. So a visitor is handed from link to link and shown every operator with its site.

use super::Site;
pub use millstream_model::Notice;
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Barrier, EventTime, MIN_TIME, Result};
use millstream_state::{Items, Part, Visitor};

/// An operator, as far as snapshots are concerned.
pub trait Stateful {
    /// Shows every part of its state.
    ///
    /// # Errors
    /// The visitor's.
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()>;
    /// Its parts are about to be restored: what it has by itself is not wanted.
    fn restoring(&mut self) {}
    /// It had come to the end of its input: what it does then it has done.
    fn ended(&mut self) {}
    /// Its parts have been restored: makes up the rest. Called once, before it is opened.
    ///
    /// # Errors
    /// If what was restored cannot be gone on from.
    fn restored(&mut self) -> Result<()> {
        Ok(())
    }
    /// A barrier that waits here has waited for too long: it overtakes, if it may.
    fn turn(&mut self, barrier: Barrier) {
        let _ = barrier;
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

/// Sees the operators of a task.
pub trait ChainVisitor {
    /// Sees an operator.
    ///
    /// # Errors
    /// Whatever the visitor came for may fail.
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()>;
}

/// Freezes every part it sees.
pub(crate) struct Freeze;

impl Visitor for Freeze {
    fn part(&mut self, _: &str, part: &mut dyn Part) -> Result<()> {
        part.freeze();
        Ok(())
    }
}

/// Passes parts on and counts them.
struct Counted<'v> {
    visitor: &'v mut dyn Visitor,
    n_parts: usize,
}

impl Visitor for Counted<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        self.n_parts += 1;
        self.visitor.part(name, part)
    }
}

/// The event time of a link, as far as its operator was told: part of the snapshot, because what is late
/// after a restore must be what was late before.
pub(super) struct EventClock {
    pub(super) watermark: EventTime,
    saved: Items<EventTime>,
}

impl Default for EventClock {
    fn default() -> Self {
        EventClock { watermark: MIN_TIME, saved: Items::own_or_union() }
    }
}

impl EventClock {
    /// The parts of an operator, and this clock if there are any.
    pub(super) fn with_parts(
        &mut self,
        visitor: &mut dyn Visitor,
        parts: impl FnOnce(&mut dyn Visitor) -> Result<()>,
    ) -> Result<()> {
        let mut counted = Counted { visitor, n_parts: 0 };
        parts(&mut counted)?;
        if counted.n_parts > 0 {
            counted.visitor.part("event time", &mut self.saved)?;
        }
        Ok(())
    }

    /// To be called before a freeze.
    pub(super) fn save(&mut self) {
        self.saved.values = vec![self.watermark];
    }

    /// To be called after a restore: goes on from its own time, or from the earliest of all subtasks' if the
    /// parallelism has changed. A barrier that overtakes finds every subtask at another time.
    pub(super) fn restored(&mut self) -> EventTime {
        if is_planted(Bug::ForgetWatermark) {
            self.saved.values.clear();
        }
        self.watermark = self.saved.values.drain(..).min().unwrap_or(MIN_TIME);
        self.watermark
    }
}
