//! Totals of an aggregate that has an inverse: what leaves the window is subtracted.
//!
//! A key is in the window as long as one of its slices is; counting those also tells a key whose total
//! happens to be zero from one that is gone.

use super::super::slots::Slots;
use super::{Amendment, Merge, Totals};
use millstream_model::{Error, EventTime, Key, Result};
use millstream_state::DenseTable;

/// See the module's text.
pub(in super::super) struct Running<K, Acc> {
    table: DenseTable<K, Total<Acc>>,
}

struct Total<Acc> {
    acc: Acc,
    n_slices: u32,
}

impl<K, Acc> Default for Running<K, Acc> {
    fn default() -> Self {
        Running { table: DenseTable::default() }
    }
}

impl<K: Key, Acc: Clone> Running<K, Acc> {
    /// Merges what so many more slices hold of a key.
    #[inline]
    fn add(&mut self, merge: &impl Merge<Acc>, hash: u64, key: &K, acc: &Acc, n_slices: u32) {
        self.table.upsert(
            hash,
            |k| k == key,
            || (key.clone(), Total { acc: acc.clone(), n_slices }),
            |total| {
                merge.merge(&mut total.acc, acc);
                total.n_slices += n_slices;
            },
        );
    }

    /// Takes out what a slice holds of a key.
    #[inline]
    fn subtract(&mut self, merge: &impl Merge<Acc>, hash: u64, key: &K, acc: &Acc) -> Result<()> {
        let Some(at) = self.table.find(hash, |k| k == key) else { return Ok(()) };
        let total = self.table.value_mut(at);
        total.n_slices -= 1;
        if total.n_slices == 0 {
            self.table.remove_at(at);
        } else if !merge.retract(&mut total.acc, acc) {
            return Err(Error::user(
                "an aggregate says that it is invertible but refuses to retract: make `retract` \
                 answer true, or `is_invertible` false",
            ));
        }
        Ok(())
    }
}

impl<K: Key, Acc: Clone + Send + 'static> Totals<K, Acc> for Running<K, Acc> {
    type Part = Acc;

    fn part(acc: Acc) -> Acc {
        acc
    }
    fn acc(part: &Acc) -> &Acc {
        part
    }
    #[inline]
    fn acc_mut(part: &mut Acc) -> &mut Acc {
        part
    }

    fn enter(&mut self, merge: &impl Merge<Acc>, slice: &DenseTable<K, Acc>) {
        for entries in slice.chunks() {
            self.table.warm(entries.iter().map(|entry| entry.hash));
            for entry in entries {
                self.add(merge, entry.hash, &entry.key, &entry.value, 1);
            }
        }
    }

    fn leave(
        &mut self,
        merge: &impl Merge<Acc>,
        slices: &mut Slots<K, Acc>,
        start: EventTime,
        _: EventTime,
    ) -> Result<()> {
        let Some(slot) = slices.get(start) else { return Ok(()) };
        for entries in slices[slot].chunks() {
            self.table.warm(entries.iter().map(|entry| entry.hash));
            for entry in entries {
                self.subtract(merge, entry.hash, &entry.key, &entry.value)?;
            }
        }
        Ok(())
    }

    fn amend(
        &mut self,
        merge: &impl Merge<Acc>,
        slices: &mut Slots<K, Acc>,
        late: Amendment<'_, K, Acc>,
    ) {
        let Amendment { key, hash, acc, start, .. } = late;
        let slot = slices.open(start);
        let new = slices[slot].upsert(
            hash,
            |k| k == key,
            || (key.clone(), acc.clone()),
            |part| merge.merge(part, acc),
        );
        self.add(merge, hash, key, acc, u32::from(new));
    }

    fn n_keys(&self) -> usize {
        self.table.len()
    }

    #[inline]
    fn total(&mut self, _: &impl Merge<Acc>, at: usize) -> Option<(u64, &K, &Acc)> {
        self.table.at(at).map(|e| (e.hash, &e.key, &e.value.acc))
    }

    fn clear(&mut self) {
        self.table.clear();
    }
}
