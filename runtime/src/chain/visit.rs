//! Walking through a task: the one way to its operators that is not the way of the records.
//!
//! Snapshots, restores and notices have nothing to do with batches, and must get through while a chain is
//! blocked. So a visitor is handed from link to link and shown every operator with its site.

use super::Site;
use crate::task::Measures;
use crate::watermark::{Ahead, Stand};
pub use millstream_model::Notice;
use millstream_model::key_group::range_of;
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Barrier, EventTime, MIN_TIME, Result, SnapshotKind};
use millstream_state::part::{Entries, Written};
use millstream_state::schema::Shape;
use millstream_state::snapshot::{Assignment, PartKind};
use millstream_state::{Items, Part, Visitor};
use std::ops::Range;

/// An operator, as far as snapshots are concerned.
pub trait Stateful {
    /// Shows every part of its state.
    ///
    /// # Errors
    /// The visitor's.
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()>;
    /// Its parts are about to be restored: what it has by itself is not wanted.
    fn restoring(&mut self) {}
    /// It had come to the end of its input, or of event time: what it does then it has done.
    fn ended(&mut self) {}
    /// Whether it has done what it does at the end, and nothing has come since (another source may stand in front of it now).
    fn has_ended(&self) -> bool {
        true
    }
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
    /// Takes the cells it counts in: what stands at an end of the chain. Called once, before anything else.
    fn measured(&mut self, measures: &Measures) {
        let _ = measures;
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
pub(crate) struct Freeze(pub(crate) SnapshotKind);

impl Visitor for Freeze {
    fn part(&mut self, _: &str, part: &mut dyn Part) -> Result<()> {
        part.freeze(self.0);
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
    /// Key groups that stood further when they were restored.
    ahead: Ahead,
    saved: Items<EventTime>,
    saved_ahead: Items<Stand>,
    /// Where key groups stood, while a snapshot is read.
    found: Vec<Stand>,
    /// The key groups of this subtask, of so many.
    own: (Range<u32>, u32),
}

impl Default for EventClock {
    fn default() -> Self {
        EventClock {
            watermark: MIN_TIME,
            ahead: Ahead::default(),
            saved: Items::own_or_union(),
            saved_ahead: Items::own_or_union(),
            found: Vec::new(),
            own: (0..0, 1),
        }
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
            let found = (&mut self.found, &mut self.own);
            counted.visitor.part("event time", &mut Found { saved: &mut self.saved, found })?;
            counted.visitor.part("event time ahead", &mut self.saved_ahead)?;
        }
        Ok(())
    }

    /// To be called before a freeze.
    pub(super) fn save(&mut self) {
        self.saved.values = vec![self.watermark];
        self.ahead.pass(self.watermark);
        self.saved_ahead.values = self.ahead.stands().to_vec();
    }

    /// To be called after a restore: goes on from its own time, or from the earliest of all subtasks' if the
    /// parallelism has changed. A barrier that overtakes finds every subtask at another time; so it also tells which
    /// key groups were further.
    pub(super) fn restored(&mut self) -> (EventTime, &Ahead) {
        if is_planted(Bug::ForgetWatermark) {
            self.saved.values.clear();
            self.found.clear();
            self.saved_ahead.values.clear();
        }
        self.watermark = self.saved.values.drain(..).min().unwrap_or(MIN_TIME);
        let stands = self.found.drain(..).chain(self.saved_ahead.values.drain(..));
        self.ahead = Ahead::of_range(stands, (&self.own.0, self.own.1), self.watermark);
        (self.watermark, &self.ahead)
    }
}

/// The saved time, which when it is restored is noted with the key groups of whoever saved it.
struct Found<'a> {
    saved: &'a mut Items<EventTime>,
    found: (&'a mut Vec<Stand>, &'a mut (Range<u32>, u32)),
}

impl Part for Found<'_> {
    fn kind(&self) -> PartKind {
        self.saved.kind()
    }
    fn shape(&self) -> Result<Shape> {
        self.saved.shape()
    }
    fn freeze(&mut self, kind: SnapshotKind) {
        self.saved.freeze(kind);
    }
    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        self.saved.write(out, budget)
    }
    fn thaw(&mut self) {
        self.saved.thaw();
    }
    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        let Assignment { subtask, parallelism, max_parallelism, writer, n_writers } =
            *entries.assignment;
        let of = |subtask: usize, n: usize| range_of(subtask as u32, n as u32, max_parallelism);
        let (found, own) = &mut self.found;
        **own = (of(subtask, parallelism), max_parallelism);
        let n_before = self.saved.values.len();
        self.saved.restore(entries)?;
        let times = self.saved.values.iter().skip(n_before);
        found.extend(times.map(|time| Stand::new(&of(writer, n_writers), *time)));
        Ok(())
    }
}
