//! Totals of an aggregate without an inverse: two stacks per key.
//!
//! The slices of a window are a front and a back. Of the back only the sum is kept. In the front every part
//! remembers the sum of what comes *after* it, up to the back; when its slice leaves, that becomes the sum
//! of the front. When the front is used up the back becomes the front: one pass from the newest slice to the
//! oldest. So a part is merged a fixed number of times, however many windows it is in, and there is one sum
//! per part, not one per key and slice.

use super::super::slots::Slots;
use super::sums::add;
use super::{Amendment, Merge, Totals};
use millstream_model::{EventTime, Key, MIN_TIME, Result};
use millstream_state::DenseTable;
use std::ops::Bound::{Excluded, Included};

/// See the module's text.
pub(in super::super) struct Stacks<K, Acc> {
    table: DenseTable<K, Sum<Acc>>,
    /// Slices that begin before this are the front.
    back_from: EventTime,
    /// The last total that was asked for.
    total: Option<Acc>,
}

/// What a slice keeps of a key.
pub(in super::super) struct Part<Acc> {
    acc: Acc,
    /// The sum of the key's later parts in the front; of no meaning in the back.
    later: Option<Acc>,
}

/// The sums of a key; one of the two is there.
struct Sum<Acc> {
    front: Option<Acc>,
    back: Option<Acc>,
}

impl<K, Acc> Default for Stacks<K, Acc> {
    fn default() -> Self {
        Stacks { table: DenseTable::default(), back_from: MIN_TIME, total: None }
    }
}

impl<K: Key, Acc: Clone> Stacks<K, Acc> {
    #[inline]
    fn add_to_back(&mut self, merge: &impl Merge<Acc>, hash: u64, key: &K, acc: &Acc) {
        self.table.upsert(
            hash,
            |k| k == key,
            || (key.clone(), Sum { front: None, back: Some(acc.clone()) }),
            |sum| add(merge, &mut sum.back, acc),
        );
    }

    /// Turns the back, which begins at `start`, into the front.
    fn flip(
        &mut self,
        merge: &impl Merge<Acc>,
        slices: &mut Slots<K, Part<Acc>>,
        start: EventTime,
        entered_to: EventTime,
    ) {
        for entry in self.table.iter_mut() {
            entry.value = Sum { front: None, back: None };
        }
        let back: Vec<_> = slices.range(Included(start), Excluded(entered_to)).collect();
        for (_, slot) in back.into_iter().rev() {
            for parts in slices[slot].chunks_mut() {
                self.table.warm(parts.iter().map(|part| part.hash));
                for part in parts {
                    let sum = self.table.get_mut(part.hash, |k| *k == part.key);
                    let Some(sum) = sum else { continue };
                    part.value.later = sum.front.clone();
                    add(merge, &mut sum.front, &part.value.acc);
                }
            }
        }
        self.back_from = entered_to;
    }

    /// Adds a record to a slice of the front: to its part, to what earlier parts know of it, and to the sum.
    fn amend_front(
        &mut self,
        merge: &impl Merge<Acc>,
        slices: &mut Slots<K, Part<Acc>>,
        late: &Amendment<'_, K, Acc>,
    ) {
        let Amendment { key, hash, acc, start, from } = *late;
        let is = |k: &K| k == key;
        // What follows is needed only if the key is new in its slice.
        let following = slices
            .range(Excluded(start), Excluded(self.back_from))
            .find_map(|(_, slot)| slices[slot].get(hash, is))
            .map(|part| {
                let mut sum = Some(part.acc.clone());
                if let Some(later) = &part.later {
                    add(merge, &mut sum, later);
                }
                sum
            });
        let slot = slices.open(start);
        slices[slot].upsert(
            hash,
            is,
            || (key.clone(), Part { acc: acc.clone(), later: following.flatten() }),
            |part| merge.merge(&mut part.acc, acc),
        );
        let earlier: Vec<_> = slices.range(Included(from), Excluded(start)).collect();
        for (_, slot) in earlier {
            if let Some(part) = slices[slot].get_mut(hash, is) {
                add(merge, &mut part.later, acc);
            }
        }
        self.table.upsert(
            hash,
            is,
            || (key.clone(), Sum { front: Some(acc.clone()), back: None }),
            |sum| add(merge, &mut sum.front, acc),
        );
    }
}

impl<K: Key, Acc: Clone + Send + 'static> Totals<K, Acc> for Stacks<K, Acc> {
    type Part = Part<Acc>;

    fn part(acc: Acc) -> Part<Acc> {
        Part { acc, later: None }
    }
    fn acc(part: &Part<Acc>) -> &Acc {
        &part.acc
    }
    #[inline]
    fn acc_mut(part: &mut Part<Acc>) -> &mut Acc {
        &mut part.acc
    }

    fn enter(&mut self, merge: &impl Merge<Acc>, slice: &DenseTable<K, Part<Acc>>) {
        for parts in slice.chunks() {
            self.table.warm(parts.iter().map(|part| part.hash));
            for part in parts {
                self.add_to_back(merge, part.hash, &part.key, &part.value.acc);
            }
        }
    }

    fn leave(
        &mut self,
        merge: &impl Merge<Acc>,
        slices: &mut Slots<K, Part<Acc>>,
        start: EventTime,
        entered_to: EventTime,
    ) -> Result<()> {
        if start >= self.back_from {
            self.flip(merge, slices, start, entered_to);
        }
        let Some(slot) = slices.get(start) else { return Ok(()) };
        for parts in slices[slot].chunks_mut() {
            self.table.warm(parts.iter().map(|part| part.hash));
            for part in parts {
                let Some(at) = self.table.find(part.hash, |k| *k == part.key) else { continue };
                let sum = self.table.value_mut(at);
                sum.front = part.value.later.take();
                if sum.front.is_none() && sum.back.is_none() {
                    self.table.remove_at(at);
                }
            }
        }
        Ok(())
    }

    fn amend(
        &mut self,
        merge: &impl Merge<Acc>,
        slices: &mut Slots<K, Part<Acc>>,
        late: Amendment<'_, K, Acc>,
    ) {
        if late.start < self.back_from {
            self.amend_front(merge, slices, &late);
            return;
        }
        let Amendment { key, hash, acc, start, .. } = late;
        let slot = slices.open(start);
        slices[slot].upsert(
            hash,
            |k| k == key,
            || (key.clone(), Part { acc: acc.clone(), later: None }),
            |part| merge.merge(&mut part.acc, acc),
        );
        self.add_to_back(merge, hash, key, acc);
    }

    fn n_keys(&self) -> usize {
        self.table.len()
    }

    #[inline]
    fn total(&mut self, merge: &impl Merge<Acc>, at: usize) -> Option<(u64, &K, &Acc)> {
        let entry = self.table.at(at)?;
        let Sum { front, back } = &entry.value;
        match (front, back) {
            (Some(front), Some(back)) => {
                let mut sum = front.clone();
                merge.merge(&mut sum, back);
                Some((entry.hash, &entry.key, self.total.insert(sum)))
            }
            (Some(sum), None) | (None, Some(sum)) => Some((entry.hash, &entry.key, sum)),
            (None, None) => None,
        }
    }

    fn clear(&mut self) {
        self.table.clear();
        // Whatever enters from now on is the back, also if it was in the front before.
        self.back_from = MIN_TIME;
    }
}
