//! Timers as a part of an operator's state.

use super::TimerQueue;
use super::later::{Later, Ordered, ordered, time_of};
use super::moment::{Moment, Timer};
use crate::log::Log;
use crate::part::{Entries, Part, Written};
use crate::schema::Shape;
use crate::snapshot::PartKind;
use crate::store::Space;
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Data, EventTime, Key, MIN_TIME, Result, SnapshotKind, hash_key};

/// What the running snapshot has of the timers in memory.
#[derive(Debug)]
pub(super) struct Frozen {
    /// Timers with this number or a higher one came after the freeze.
    first_new: u64,
    /// Written are the moments before this one, and of it so many timers from the front.
    cursor: (EventTime, usize),
    log: Log,
}

impl Frozen {
    fn is_due(&self, time: EventTime, position: usize, number: u64) -> bool {
        number < self.first_new && (time, position) >= self.cursor
    }

    /// A timer goes, and the last of its moment takes its place.
    pub(super) fn log_removal<K: Key, N: Data>(
        &mut self,
        time: EventTime,
        moment: &Moment<K, N>,
        position: usize,
    ) {
        let last = moment.len() - 1;
        if self.is_due(time, position, moment[position].number) {
            self.write(time, &moment[position]);
        }
        // From behind the cursor to before it.
        let number = moment[last].number;
        if self.is_due(time, last, number) && !self.is_due(time, position, number) {
            self.write(time, &moment[last]);
        }
    }

    /// All timers of a moment go.
    pub(super) fn log_all<K: Key, N: Data>(&mut self, time: EventTime, moment: &Moment<K, N>) {
        for (at, timer) in moment.iter().enumerate() {
            if self.is_due(time, at, timer.number) {
                self.write(time, timer);
            }
        }
    }

    fn write<K: Key, N: Data>(&mut self, time: EventTime, timer: &Timer<K, N>) {
        self.log.push(&(ordered(time), &timer.key, &timer.note, timer.number));
    }
}

impl<K: Key, N: Data + Clone + Eq> TimerQueue<K, N> {
    /// Writes timers from the cursor on; whether all are written.
    fn write_on(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        let Some(frozen) = &mut self.frozen else { return Ok(true) };
        frozen.log.hand_over(out)?;
        let (from, _) = frozen.cursor;
        let mut all = true;
        'moments: for (&time, moment) in self.by_time.range(from..) {
            let first = if time == from { frozen.cursor.1 } else { 0 };
            for (at, timer) in moment.iter().enumerate().skip(first) {
                if out.bytes.len() + frozen.log.len() >= budget {
                    frozen.cursor = (time, at);
                    all = false;
                    break 'moments;
                }
                if timer.number < frozen.first_new {
                    frozen.write(time, timer);
                }
            }
        }
        frozen.log.hand_over(out)?;
        Ok(all)
    }
}

/// Entries are time, key, note and number; the time as bytes in its order, so that they are the same bytes in a tree.
type Entry<K, N> = (Ordered, K, N, u64);

impl<K: Key, N: Data + Clone + Eq> Part for TimerQueue<K, N> {
    fn kind(&self) -> PartKind {
        PartKind::Keyed
    }

    fn shape(&self) -> Result<Shape> {
        Shape::of::<Entry<K, N>>()
    }

    fn freeze(&mut self, _: SnapshotKind) {
        if let Some(later) = &mut self.later {
            later.spill.freeze();
        }
        self.frozen = Some(Frozen {
            first_new: self.n_set,
            cursor: (MIN_TIME, 0),
            log: Log::new(Box::new(Shape::of::<Entry<K, N>>)),
        });
    }

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        if let Some(later) = &mut self.later {
            later.spill.write()?;
        }
        let done = self.write_on(out, budget)?;
        if done {
            self.frozen = None;
        }
        Ok(done)
    }

    fn thaw(&mut self) {
        if let Some(later) = &mut self.later {
            later.spill.thaw();
        }
        self.frozen = None;
    }

    fn can_attach(&self) -> bool {
        true
    }

    fn attach(&mut self, space: Space, is_empty: bool) -> Result<()> {
        self.later = Some(Box::new(Later::new(space, is_empty)?));
        Ok(())
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        entries.check_key::<K>(1)?;
        entries.each(|_, (time, key, note, number): Entry<K, N>| {
            let hash = hash_key(&key)?;
            if entries.assignment.owns(hash) && !is_planted(Bug::ForgetTimers) {
                self.n_set = self.n_set.max(number + 1);
                self.insert(time_of(time), Timer { hash, key, note, number });
            }
            Ok(())
        })
    }
}
