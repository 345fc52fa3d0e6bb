//! Records that wait for event time, in order of time and then of arrival.
//!
//! A part of the state like a table, but without keys to look anything up by: records come, and go when their
//! time has come. While a snapshot runs, one that goes before the cursor has reached it is written down
//! first, and those that came later are known by their numbers.

use millstream_model::{Data, EventTime, MIN_TIME, Result, SnapshotKind};
use millstream_state::part::{Entries, Written};
use millstream_state::schema::Shape;
use millstream_state::snapshot::PartKind;
use millstream_state::{Part, log::Log};
use std::collections::BTreeMap;

/// See the module's text.
pub(super) struct Waiting<T> {
    /// By time and number; with the hash of the key.
    records: BTreeMap<(EventTime, u64), (u64, T)>,
    n_arrived: u64,
    frozen: Option<Frozen>,
}

struct Frozen {
    /// Records with a higher number came after the freeze.
    last_number: u64,
    /// The first record that is not written.
    cursor: (EventTime, u64),
    log: Log,
}

impl Frozen {
    fn write<T: Data>(&mut self, (time, number): (EventTime, u64), (hash, record): &(u64, T)) {
        if number > self.last_number || (time, number) < self.cursor {
            return;
        }
        self.log.push(&(*hash, time, record));
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting { records: BTreeMap::new(), n_arrived: 0, frozen: None }
    }
}

impl<T: Data> Waiting<T> {
    /// Lets a record wait for its time.
    pub(super) fn insert(&mut self, time: EventTime, hash: u64, record: T) {
        self.n_arrived += 1;
        self.records.insert((time, self.n_arrived), (hash, record));
    }

    /// The time of the record that goes first.
    pub(super) fn next_time(&self) -> Option<EventTime> {
        self.records.first_key_value().map(|(&(time, _), _)| time)
    }

    /// Takes out the record that goes first: its time, the hash of its key, and itself.
    pub(super) fn pop(&mut self) -> Option<(EventTime, u64, T)> {
        let (at, waiting) = self.records.pop_first()?;
        if let Some(frozen) = &mut self.frozen {
            frozen.write(at, &waiting);
        }
        Some((at.0, waiting.0, waiting.1))
    }
}

impl<T: Data> Part for Waiting<T> {
    fn kind(&self) -> PartKind {
        PartKind::Keyed
    }

    fn shape(&self) -> Result<Shape> {
        Shape::of::<(u64, EventTime, T)>()
    }

    fn freeze(&mut self, _: SnapshotKind) {
        self.frozen = Some(Frozen {
            last_number: self.n_arrived,
            cursor: (MIN_TIME, 0),
            log: Log::new(Box::new(Shape::of::<(u64, EventTime, T)>)),
        });
    }

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        let Some(frozen) = &mut self.frozen else { return Ok(true) };
        frozen.log.hand_over(out)?;
        let mut all = true;
        for (&at, waiting) in self.records.range(frozen.cursor..) {
            if out.bytes.len() + frozen.log.len() >= budget {
                frozen.cursor = at;
                all = false;
                break;
            }
            frozen.write(at, waiting);
        }
        frozen.log.hand_over(out)?;
        if all {
            self.frozen = None;
        }
        Ok(all)
    }

    fn thaw(&mut self) {
        self.frozen = None;
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        entries.each(|_, (hash, time, record): (u64, EventTime, T)| {
            if entries.assignment.owns(hash) {
                self.insert(time, hash, record);
            }
            Ok(())
        })
    }
}
