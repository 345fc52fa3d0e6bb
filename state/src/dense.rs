//! The table of a window or slice: key → value, dense and in order of arrival.
//!
//! Values stand in a vector, a hash table only holds their positions. So a window fires by counting upwards
//! (a cursor is a number, and the order is that in which keys arrived), slices are merged by running through
//! memory, and neither growing nor merging hashes a key again: its hash is kept beside it.
//!
//! While a snapshot runs, what leaves a position is written down first. Positions from which entries were on
//! that came after the freeze need no mark of their own; a removal moves the last entry, and whatever is moved
//! is written down too, so a cursor that runs over the positions misses nothing.

use crate::log::{EntryShape, Log};
use crate::pages::Pages;
use crate::part::Written;
use crate::prefetch::{Tags, prefetch};
use crate::undo::{Encode, Undo};
use hashbrown::HashTable;
use millstream_model::Result;

/// See the module's text.
#[derive(Debug)]
pub struct DenseTable<K, V> {
    positions: HashTable<u32, Pages>,
    entries: Vec<Entry<K, V>>,
    frozen: Option<Box<Frozen<K, V>>>,
}

/// What the running snapshot has of a table, by position.
#[derive(Debug)]
struct Frozen<K, V> {
    undo: Undo<K, V>,
    /// Entries from this position on came after the freeze.
    n_entries: usize,
}

/// A key, its hash and its value.
#[derive(Debug)]
pub struct Entry<K, V> {
    /// The stable hash of the key.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
}

impl<K, V> Default for DenseTable<K, V> {
    fn default() -> Self {
        DenseTable { positions: HashTable::new_in(Pages), entries: Vec::new(), frozen: None }
    }
}

/// Folds the high half into the low one: the high bits alone are nearly the same for all keys of a subtask,
/// because they choose the key group.
#[inline(always)]
fn probe(hash: u64) -> u64 {
    hash ^ (hash << 32)
}

/// Keys from which on a table is larger than the caches of one core.
const WARM_FROM: usize = 1 << 15;
/// Entries whose keys are warmed at a time.
const CHUNK: usize = 64;

impl<K, V> DenseTable<K, V> {
    /// Brings the entries of keys with these hashes close, if the table is too large to be close anyway.
    ///
    /// Keys are independent, so their cache misses overlap here; in the loop that works on the entries they would come
    /// one after the other.
    pub fn warm(&self, hashes: impl Iterator<Item = u64> + Clone) {
        if self.len() < WARM_FROM {
            return;
        }
        let Some(tags) = Tags::of(&self.positions) else { return };
        hashes.clone().for_each(|hash| tags.prefetch(probe(hash)));
        for hash in hashes {
            self.positions.find(probe(hash), |&at| {
                prefetch(&self.entries[at as usize]);
                false
            });
        }
    }

    /// Writes down an entry for the running snapshot before it is changed.
    #[inline]
    fn preserve(&mut self, at: usize) {
        if self.frozen.is_some() {
            self.preserve_frozen(at);
        }
    }

    #[cold]
    #[inline(never)]
    fn preserve_frozen(&mut self, at: usize) {
        let Some(Frozen { undo, n_entries }) = self.frozen.as_deref_mut() else { return };
        if at < *n_entries
            && let Some(entry) = self.entries.get(at)
        {
            undo.preserve(at, &entry.key, &entry.value);
        }
    }

    /// Fixes what the next snapshot holds; `encode` writes an entry, of this shape.
    pub fn freeze_with(&mut self, shape: EntryShape, encode: Encode<K, V>) {
        let n_entries = self.entries.len();
        let undo = Undo::new(n_entries, Log::new(shape), encode);
        self.frozen = Some(Box::new(Frozen { undo, n_entries }));
    }

    /// As [`Part::write`](crate::Part::write).
    ///
    /// # Errors
    /// As there.
    pub fn write_slice(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        let Some(Frozen { undo, n_entries }) = self.frozen.as_deref_mut() else { return Ok(true) };
        let entries = &self.entries;
        let n_places = (*n_entries).min(entries.len());
        let done = undo.write(out, budget, n_places, |at| {
            entries.get(at).map(|entry| (&entry.key, &entry.value))
        })?;
        if done {
            self.frozen = None;
        }
        Ok(done)
    }

    /// Writes down every entry for the running snapshot: all of them are about to change.
    fn preserve_all(&mut self) {
        if self.frozen.is_some() {
            (0..self.entries.len()).for_each(|at| self.preserve_frozen(at));
        }
    }

    /// Whether a snapshot still has to write some of it.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// As [`Part::thaw`](crate::Part::thaw).
    pub fn unfreeze(&mut self) {
        self.frozen = None;
    }

    /// Number of keys.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Room for so many keys without growing.
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// The position of the key with this hash for which `is` holds.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<usize> {
        let entries = &self.entries;
        let found = self.positions.find(probe(hash), |&at| {
            let entry = &entries[at as usize];
            entry.hash == hash && is(&entry.key)
        });
        found.map(|&at| at as usize)
    }

    /// The value of the key with this hash for which `is` holds.
    #[inline]
    pub fn get(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&V> {
        self.find(hash, is).map(|at| &self.entries[at].value)
    }

    /// The same, to be changed in place.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&mut V> {
        let at = self.find(hash, is)?;
        self.preserve(at);
        Some(&mut self.entries[at].value)
    }

    /// The entry of the key with this hash for which `is` holds; `make` creates an absent one.
    #[inline]
    pub fn entry(
        &mut self,
        hash: u64,
        is: impl Fn(&K) -> bool,
        make: impl FnOnce() -> (K, V),
    ) -> &mut Entry<K, V> {
        match self.find(hash, is) {
            Some(at) => {
                self.preserve(at);
                &mut self.entries[at]
            }
            None => self.append(hash, make()),
        }
    }

    /// Changes the value of the key with this hash for which `is` holds, or adds what `make` creates; whether
    /// the key is new.
    #[inline]
    pub fn upsert(
        &mut self,
        hash: u64,
        is: impl Fn(&K) -> bool,
        make: impl FnOnce() -> (K, V),
        update: impl FnOnce(&mut V),
    ) -> bool {
        match self.find(hash, is) {
            Some(at) => {
                self.preserve(at);
                update(&mut self.entries[at].value);
                false
            }
            None => {
                self.append(hash, make());
                true
            }
        }
    }

    /// Adds a key that is not there.
    pub fn append(&mut self, hash: u64, (key, value): (K, V)) -> &mut Entry<K, V> {
        let at = self.entries.len();
        let position = u32::try_from(at).expect("a table of 2^32 keys would not fit into memory");
        let entries = &self.entries;
        self.positions.insert_unique(probe(hash), position, |&i| probe(entries[i as usize].hash));
        self.entries.push(Entry { hash, key, value });
        &mut self.entries[at]
    }

    /// Removes a key; the last one takes its place in the order.
    #[cfg(test)]
    pub(crate) fn remove(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<V> {
        let at = self.find(hash, is)?;
        Some(self.remove_at(at).value)
    }

    /// Removes the key at a position; the last one takes its place.
    pub fn remove_at(&mut self, at: usize) -> Entry<K, V> {
        if self.frozen.is_some() {
            self.preserve_frozen(at);
            self.preserve_frozen(self.entries.len() - 1);
            if let Some(frozen) = &mut self.frozen {
                frozen.undo.mark(at);
            }
        }
        let removed = self.entries.swap_remove(at);
        if let Ok(position) = self.positions.find_entry(probe(removed.hash), |&i| i as usize == at)
        {
            position.remove();
        }
        if let Some(moved) = self.entries.get(at) {
            let last = self.entries.len();
            if let Some(position) =
                self.positions.find_mut(probe(moved.hash), |&i| i as usize == last)
            {
                *position = at as u32;
            }
        }
        removed
    }

    /// Removes some entries from a position on, in whose places others come from the end: what a hand takes that goes round.
    /// Where to go on.
    pub fn take_some(&mut self, from: usize, n: usize, mut take: impl FnMut(Entry<K, V>)) -> usize {
        let mut at = from;
        for _ in 0..n.min(self.len()) {
            if at >= self.len() {
                at = 0;
            }
            take(self.remove_at(at));
            at += 1;
        }
        if self.entries.len() < self.entries.capacity() / 4 {
            let entries = &mut self.entries;
            entries.shrink_to(entries.len() * 2);
            self.positions.shrink_to(entries.len() * 2, |&i| probe(entries[i as usize].hash));
        }
        at
    }

    /// The entry at a position, if there are so many.
    #[inline]
    pub fn at(&self, position: usize) -> Option<&Entry<K, V>> {
        self.entries.get(position)
    }

    /// The value at a position that `find` gave.
    #[inline]
    pub fn value_mut(&mut self, position: usize) -> &mut V {
        self.preserve(position);
        &mut self.entries[position].value
    }

    /// All entries in order, some at a time: few enough to be warmed in another table before they are used.
    pub fn chunks(&self) -> std::slice::Chunks<'_, Entry<K, V>> {
        self.entries.chunks(CHUNK)
    }

    /// The same, values to be changed in place.
    pub fn chunks_mut(&mut self) -> std::slice::ChunksMut<'_, Entry<K, V>> {
        self.preserve_all();
        self.entries.chunks_mut(CHUNK)
    }

    /// All entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry<K, V>> {
        self.entries.iter()
    }

    /// All entries in order, values to be changed in place.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Entry<K, V>> {
        self.preserve_all();
        self.entries.iter_mut()
    }

    /// Forgets all entries, keeps the buffers.
    pub fn clear(&mut self) {
        self.preserve_all();
        self.positions.clear();
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Few distinct hashes, so that keys collide.
    fn hash(key: u32) -> u64 {
        u64::from(key % 37) << 40 | u64::from(key % 5)
    }

    #[test]
    fn behaves_like_a_map_in_order_of_arrival() {
        let mut table = DenseTable::<u32, u32>::default();
        for i in 0..2000u32 {
            let key = i * 7919 % 300;
            table.entry(hash(key), |k| *k == key, || (key, 0)).value += 1;
        }
        assert_eq!(table.len(), 300);
        assert_eq!(table.iter().map(|e| e.value).sum::<u32>(), 2000);
        let order: Vec<u32> = table.iter().take(4).map(|e| e.key).collect();
        assert_eq!(order, [0, 7919 % 300, 2 * 7919 % 300, 3 * 7919 % 300]);
        table.clear();
        assert!(table.is_empty() && table.get(hash(0), |k| *k == 0).is_none());
    }

    #[test]
    fn removing_keeps_every_other_key_in_reach() {
        let mut table = DenseTable::<u32, u32>::default();
        let mut model = BTreeMap::new();
        for i in 0..5000u32 {
            let key = i * 7919 % 101;
            if i % 3 == 0 {
                assert_eq!(table.remove(hash(key), |k| *k == key), model.remove(&key));
            } else {
                table.entry(hash(key), |k| *k == key, || (key, 0)).value = i;
                model.insert(key, i);
            }
            assert_eq!(table.len(), model.len());
        }
        for (key, value) in &model {
            assert_eq!(table.get(hash(*key), |k| k == key), Some(value));
        }
    }
}
