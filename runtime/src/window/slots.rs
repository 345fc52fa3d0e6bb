//! The open windows or slices of an operator, in order of time.
//!
//! Found by where they begin, held in numbered slots: the number stays valid while others come and go, so a
//! hot path may remember it. A freed slot keeps its buffers for the next window of about the same size.
//!
//! Over a store, entries of any of them leave when there is no room for all ([`spilled`]). Whoever works on the entry of a
//! key [fetches](Slots::fetch) it first; what is fired as a whole is read from there and stays there.

#[cfg(test)]
mod over_a_store;
mod spilled;

pub(crate) use spilled::Reader;

use millstream_model::{Data, EventTime, Key, Result, SnapshotKind, hash_key};
use millstream_state::part::{Entries, Written};
use millstream_state::schema::Shape;
use millstream_state::snapshot::PartKind;
use millstream_state::store::Space;
use millstream_state::{DenseTable, Part};
use spilled::Spilled;
use std::collections::BTreeMap;
use std::ops::{Bound, Index, IndexMut};

/// More freed tables than this are given back to the allocator.
const MAX_SPARE: usize = 4;
/// So many entries are restored before it is looked whether there is room for more.
const RESTORED_BEFORE_ROOM: usize = 256;
/// A freed table with more room than this is kept only if it was a quarter full.
const SMALL_TABLE: usize = 1024;

/// Tables by the beginning of their window or slice.
pub(crate) struct Slots<K, V> {
    tables: Vec<DenseTable<K, V>>,
    by_start: BTreeMap<EventTime, usize>,
    spare: Vec<usize>,
    /// What was dropped before the running snapshot had written it.
    unwritten: Vec<DenseTable<K, V>>,
    spilled: Option<Box<Spilled<K, V>>>,
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Slots {
            tables: Vec::new(),
            by_start: BTreeMap::new(),
            spare: Vec::new(),
            unwritten: Vec::new(),
            spilled: None,
        }
    }
}

impl<K, V> Slots<K, V> {
    /// The slot of what begins at `start`, opened if need be.
    pub(crate) fn open(&mut self, start: EventTime) -> usize {
        if let Some(slot) = self.get(start) {
            return slot;
        }
        let slot = self.spare.pop().unwrap_or_else(|| {
            self.tables.push(DenseTable::default());
            self.tables.len() - 1
        });
        self.by_start.insert(start, slot);
        slot
    }

    /// The slot of what begins at `start`, if it is open.
    pub(crate) fn get(&self, start: EventTime) -> Option<usize> {
        self.by_start.get(&start).copied()
    }

    /// Warms the table in a slot for keys with these hashes, if there is one.
    pub(crate) fn warm(&self, slot: usize, hashes: &[u64]) {
        if let Some(table) = self.tables.get(slot) {
            table.warm(hashes.iter().copied());
        }
    }

    /// Drops what begins at `start`.
    pub(crate) fn close(&mut self, start: EventTime) {
        let Some(slot) = self.by_start.remove(&start) else { return };
        if let Some(spilled) = &mut self.spilled {
            spilled.close(start);
        }
        let table = &mut self.tables[slot];
        let oversized = table.capacity() > SMALL_TABLE && table.len() < table.capacity() / 4;
        if table.is_frozen() {
            self.unwritten.push(std::mem::take(table));
        } else if oversized || self.spare.len() >= MAX_SPARE {
            *table = DenseTable::default();
        } else {
            table.clear();
        }
        self.spare.push(slot);
    }

    /// Drops everything.
    pub(crate) fn close_all(&mut self) {
        while let Some(start) = self.first() {
            self.close(start);
        }
    }

    /// As a part of the operator's state, of which `content` is kept of a value and `whole` makes it up again.
    pub(crate) fn as_part<A: Data>(
        &mut self,
        content: fn(&V) -> &A,
        whole: fn(A) -> V,
    ) -> SlotsPart<'_, K, V, A> {
        SlotsPart { slots: self, content, whole }
    }

    /// Where the earliest begins.
    pub(crate) fn first(&self) -> Option<EventTime> {
        self.by_start.first_key_value().map(|(&start, _)| start)
    }

    /// The earliest that begins in this range: its beginning and its slot.
    pub(crate) fn first_in(
        &self,
        from: Bound<EventTime>,
        to: Bound<EventTime>,
    ) -> Option<(EventTime, usize)> {
        self.range(from, to).next()
    }

    /// Those that begin in this range, earliest first: beginning and slot. An empty or reversed range
    /// holds nothing.
    pub(crate) fn range(
        &self,
        from: Bound<EventTime>,
        to: Bound<EventTime>,
    ) -> impl DoubleEndedIterator<Item = (EventTime, usize)> + '_ {
        let empty = match (from, to) {
            (Bound::Included(a), Bound::Included(b)) => a > b,
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => {
                a >= b
            }
            _ => false,
        };
        let range = (!empty).then(|| self.by_start.range((from, to)));
        range.into_iter().flatten().map(|(&start, &slot)| (start, slot))
    }
}

impl<K, V> Index<usize> for Slots<K, V> {
    type Output = DenseTable<K, V>;
    #[inline]
    fn index(&self, slot: usize) -> &DenseTable<K, V> {
        &self.tables[slot]
    }
}

impl<K, V> IndexMut<usize> for Slots<K, V> {
    #[inline]
    fn index_mut(&mut self, slot: usize) -> &mut DenseTable<K, V> {
        &mut self.tables[slot]
    }
}

/// The content of all windows or slices, as entries of beginning, key and content.
pub(crate) struct SlotsPart<'a, K, V, A> {
    slots: &'a mut Slots<K, V>,
    content: fn(&V) -> &A,
    whole: fn(A) -> V,
}

impl<K: Key, V: 'static, A: Data> Part for SlotsPart<'_, K, V, A> {
    fn kind(&self) -> PartKind {
        PartKind::Keyed
    }

    fn shape(&self) -> Result<Shape> {
        Shape::of::<(EventTime, K, A)>()
    }

    fn freeze(&mut self, _: SnapshotKind) {
        let content = self.content;
        if let Some(spilled) = &mut self.slots.spilled {
            spilled.freeze();
        }
        self.slots.unwritten.clear();
        for (&start, &slot) in &self.slots.by_start {
            self.slots.tables[slot].freeze_with(
                Box::new(Shape::of::<(EventTime, K, A)>),
                Box::new(move |key, value, log| log.push(&(start, key, content(value)))),
            );
        }
    }

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        if let Some(spilled) = &mut self.slots.spilled {
            spilled.write()?;
        }
        while let Some(table) = self.slots.unwritten.last_mut() {
            if !table.write_slice(out, budget)? {
                return Ok(false);
            }
            self.slots.unwritten.pop();
        }
        for table in &mut self.slots.tables {
            if table.is_frozen() && !table.write_slice(out, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn thaw(&mut self) {
        if let Some(spilled) = &mut self.slots.spilled {
            spilled.thaw();
        }
        self.slots.unwritten.clear();
        self.slots.tables.iter_mut().for_each(DenseTable::unfreeze);
    }

    fn can_attach(&self) -> bool {
        true
    }

    fn attach(&mut self, space: Space, is_empty: bool) -> Result<()> {
        let spilled = Spilled::new(space, is_empty, self.content, self.whole)?;
        spilled.starts().for_each(|start| {
            self.slots.open(start);
        });
        self.slots.spilled = Some(Box::new(spilled));
        Ok(())
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        entries.check_key::<K>(1)?;
        let mut n_restored = 0;
        entries.each(|_, (start, key, content): (EventTime, K, A)| {
            let hash = hash_key(&key)?;
            if entries.assignment.owns(hash) {
                let slot = self.slots.open(start);
                self.slots[slot].append(hash, (key, (self.whole)(content)));
                n_restored += 1;
                if n_restored % RESTORED_BEFORE_ROOM == 0 {
                    self.slots.make_room(0);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound::{Excluded, Included, Unbounded};

    #[test]
    fn slots_stay_valid_and_freed_ones_come_back_empty() {
        let mut slots = Slots::<u8, u8>::default();
        let (ten, zero) = (slots.open(10), slots.open(0));
        slots[ten].entry(1, |_| false, || (1, 5));
        assert_eq!((slots.open(10), slots.first()), (ten, Some(0)));
        slots.close(10);
        assert_eq!((slots.get(10), slots.get(0)), (None, Some(zero)));
        let twenty = slots.open(20);
        assert_eq!(twenty, ten);
        assert!(slots[twenty].is_empty());
    }

    #[test]
    fn ranges_are_in_order_and_may_be_empty() {
        let mut slots = Slots::<u8, u8>::default();
        for start in [30, -10, 20] {
            slots.open(start);
        }
        let starts = |from, to| slots.range(from, to).map(|(s, _)| s).collect::<Vec<_>>();
        assert_eq!(starts(Unbounded, Unbounded), [-10, 20, 30]);
        assert_eq!(starts(Excluded(-10), Excluded(30)), [20]);
        assert_eq!(starts(Included(30), Included(30)), [30]);
        assert_eq!(starts(Included(30), Excluded(10)), [0i64; 0]);
        assert_eq!(starts(Excluded(20), Excluded(20)), [0i64; 0]);
    }
}
