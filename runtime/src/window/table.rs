//! The table of a window or slice: key → value, dense and in order of arrival.
//!
//! Values stand in a vector, a hash table only holds their positions. So a window fires by counting upwards
//! (a cursor is a number, and the order is that in which keys arrived), slices are merged by running through
//! memory, and neither growing nor merging hashes a key again: its hash is kept beside it.

use hashbrown::HashTable;
use std::hint::black_box;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct KeyTable<K, V> {
    positions: HashTable<u32>,
    entries: Vec<Entry<K, V>>,
}

/// A key, its hash and its value.
#[derive(Debug)]
pub(crate) struct Entry<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
}

impl<K, V> Default for KeyTable<K, V> {
    fn default() -> Self {
        KeyTable { positions: HashTable::new(), entries: Vec::new() }
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

impl<K, V> KeyTable<K, V> {
    /// Brings the entries of keys with these hashes close, if the table is too large to be close anyway.
    ///
    /// Keys are independent, so their cache misses overlap here, where a few instructions lie between two of
    /// them; in the loop that works on the entries they would come one after the other.
    pub(crate) fn warm(&self, hashes: impl Iterator<Item = u64>) {
        if self.len() < WARM_FROM {
            return;
        }
        for hash in hashes {
            self.positions.find(probe(hash), |&at| {
                // Looked at for no other reason than to have its cache line fetched.
                black_box(self.entries[at as usize].hash);
                false
            });
        }
    }

    /// Number of keys.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Room for so many keys without growing.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// The position of the key with this hash for which `is` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<usize> {
        let entries = &self.entries;
        let found = self.positions.find(probe(hash), |&at| {
            let entry = &entries[at as usize];
            entry.hash == hash && is(&entry.key)
        });
        found.map(|&at| at as usize)
    }

    /// The value of the key with this hash for which `is` holds.
    #[inline]
    pub(crate) fn get(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&V> {
        self.find(hash, is).map(|at| &self.entries[at].value)
    }

    /// The same, to be changed in place.
    #[inline]
    pub(crate) fn get_mut(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&mut V> {
        self.find(hash, is).map(|at| &mut self.entries[at].value)
    }

    /// The entry of the key with this hash for which `is` holds, value to be changed in place.
    #[inline]
    pub(crate) fn find_entry(
        &mut self,
        hash: u64,
        is: impl Fn(&K) -> bool,
    ) -> Option<&mut Entry<K, V>> {
        self.find(hash, is).map(|at| &mut self.entries[at])
    }

    /// The entry of the key with this hash for which `is` holds; `make` creates an absent one.
    #[inline]
    pub(crate) fn entry(
        &mut self,
        hash: u64,
        is: impl Fn(&K) -> bool,
        make: impl FnOnce() -> (K, V),
    ) -> &mut Entry<K, V> {
        match self.find(hash, is) {
            Some(at) => &mut self.entries[at],
            None => self.append(hash, make()),
        }
    }

    /// Changes the value of the key with this hash for which `is` holds, or adds what `make` creates; whether
    /// the key is new.
    #[inline]
    pub(crate) fn upsert(
        &mut self,
        hash: u64,
        is: impl Fn(&K) -> bool,
        make: impl FnOnce() -> (K, V),
        update: impl FnOnce(&mut V),
    ) -> bool {
        match self.find(hash, is) {
            Some(at) => {
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
    pub(crate) fn append(&mut self, hash: u64, (key, value): (K, V)) -> &mut Entry<K, V> {
        let at = self.entries.len();
        let position = u32::try_from(at).expect("a table of 2^32 keys would not fit into memory");
        let entries = &self.entries;
        self.positions.insert_unique(probe(hash), position, |&i| probe(entries[i as usize].hash));
        self.entries.push(Entry { hash, key, value });
        &mut self.entries[at]
    }

    /// Removes a key; the last one takes its place in the order.
    pub(crate) fn remove(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<V> {
        let at = self.find(hash, is)?;
        Some(self.remove_at(at).value)
    }

    /// Removes the key at a position; the last one takes its place.
    pub(crate) fn remove_at(&mut self, at: usize) -> Entry<K, V> {
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

    /// The entry at a position, if there are so many.
    #[inline]
    pub(crate) fn at(&self, position: usize) -> Option<&Entry<K, V>> {
        self.entries.get(position)
    }

    /// The value at a position that `find` gave.
    #[inline]
    pub(crate) fn value_mut(&mut self, position: usize) -> &mut V {
        &mut self.entries[position].value
    }

    /// All entries in order, some at a time: few enough to be warmed in another table before they are used.
    pub(crate) fn chunks(&self) -> std::slice::Chunks<'_, Entry<K, V>> {
        self.entries.chunks(CHUNK)
    }

    /// The same, values to be changed in place.
    pub(crate) fn chunks_mut(&mut self) -> std::slice::ChunksMut<'_, Entry<K, V>> {
        self.entries.chunks_mut(CHUNK)
    }

    /// All entries in order.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Entry<K, V>> {
        self.entries.iter()
    }

    /// All entries in order, values to be changed in place.
    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Entry<K, V>> {
        self.entries.iter_mut()
    }

    /// Forgets all entries, keeps the buffers.
    pub(crate) fn clear(&mut self) {
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
        let mut table = KeyTable::<u32, u32>::default();
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
        let mut table = KeyTable::<u32, u32>::default();
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
