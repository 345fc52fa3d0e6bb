//! The table under every keyed state: key → value, probed with a hash that is already known.
//!
//! The hash of a key is computed once, where the record is sent to its subtask, and travels with it; so
//! the table takes it as an argument and keys may be compared in borrowed form (`&str` against `String`).
//! One flat table per state: sharding it by key group would cost a dependent cache miss per access at ten
//! million keys, and grouping is only needed when a snapshot walks it.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use millstream_model::{Key, hash_key};

/// A map from keys to values whose hashes the caller brings along. See the module's text.
#[derive(Debug, Clone)]
pub struct KeyedTable<K, V> {
    table: HashTable<(K, V)>,
}

impl<K, V> Default for KeyedTable<K, V> {
    fn default() -> Self {
        KeyedTable { table: HashTable::new() }
    }
}

/// Folds the high half into the tag bits: the high bits alone are nearly the same for all keys of a
/// subtask, because they choose the key group.
#[inline(always)]
fn probe(hash: u64) -> u64 {
    hash ^ (hash << 32)
}

/// Entries from which on a table is larger than the caches of one core.
const WARM_FROM: usize = 1 << 16;

/// Reads a byte of an entry, for no other reason than to have its cache line fetched.
#[inline(always)]
#[allow(unsafe_code)]
fn touch<T>(entry: &T) {
    if size_of::<T>() > 0 {
        // SAFETY: the reference is valid for reading at least one byte, and as `MaybeUninit` the byte may
        // be anything, padding included. Its value is not used.
        let _ = unsafe {
            std::ptr::from_ref(entry).cast::<std::mem::MaybeUninit<u8>>().read_volatile()
        };
    }
}

fn rehash<K: Key, V>(entry: &(K, V)) -> u64 {
    // A key in the table has been hashed before, so it is not of a refused kind.
    probe(hash_key(&entry.0).unwrap_or_default())
}

impl<K: Key, V> KeyedTable<K, V> {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Brings the entries of keys with these hashes close, if the table is too large to be close anyway.
    ///
    /// A batch's keys are independent, so their cache misses overlap here, where a few instructions lie
    /// between two of them; in the loop that works on the entries they would come one after the other.
    pub fn warm(&self, hashes: &[u64]) {
        if self.table.len() < WARM_FROM {
            return;
        }
        for &hash in hashes {
            self.table.find(probe(hash), |entry| {
                touch(entry);
                false
            });
        }
    }

    /// The value of the key with this hash for which `is` holds.
    #[inline]
    pub fn get(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&V> {
        self.table.find(probe(hash), |e| is(&e.0)).map(|e| &e.1)
    }

    /// The value of the key with this hash for which `is` holds, to be changed in place.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&mut V> {
        self.table.find_mut(probe(hash), |e| is(&e.0)).map(|e| &mut e.1)
    }

    /// The entry of the key with this hash for which `is` holds; `make` creates an absent one.
    #[inline]
    pub fn entry(
        &mut self,
        hash: u64,
        is: impl Fn(&K) -> bool,
        make: impl FnOnce() -> (K, V),
    ) -> &mut (K, V) {
        match self.table.entry(probe(hash), |e| is(&e.0), rehash) {
            Slot::Occupied(o) => o.into_mut(),
            Slot::Vacant(v) => v.insert(make()).into_mut(),
        }
    }

    /// Sets the value of a key and gives back the one it replaces.
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        match self.table.entry(probe(hash), |e| e.0 == key, rehash) {
            Slot::Occupied(mut o) => Some(std::mem::replace(&mut o.get_mut().1, value)),
            Slot::Vacant(v) => {
                v.insert((key, value));
                None
            }
        }
    }

    /// Removes a key and gives back its entry.
    pub fn remove(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<(K, V)> {
        match self.table.find_entry(probe(hash), |e| is(&e.0)) {
            Ok(found) => Some(found.remove().0),
            Err(_) => None,
        }
    }

    /// All entries, in no particular but a repeatable order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.table.iter().map(|e| (&e.0, &e.1))
    }

    /// All entries, values to be changed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.table.iter_mut().map(|e| (&e.0, &mut e.1))
    }

    /// Takes all entries out, by value and without keeping the buffer.
    pub fn into_entries(self) -> impl Iterator<Item = (K, V)> + use<K, V> {
        self.table.into_iter()
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.table.retain(|e| keep(&e.0, &mut e.1));
    }

    /// Forgets all entries, keeps the buffer.
    pub fn clear(&mut self) {
        self.table.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_map_through_growth() {
        let mut t = KeyedTable::<String, u32>::default();
        for i in 0..2000u32 {
            let key = (i % 700).to_string();
            let hash = hash_key(&key).unwrap();
            t.entry(hash, |k| *k == key, || (key.clone(), 0)).1 += 1;
        }
        assert_eq!(t.len(), 700);
        assert_eq!(t.iter().map(|(_, v)| v).sum::<u32>(), 2000);
        let hash = hash_key("5").unwrap();
        assert_eq!(t.get(hash, |k| k == "5"), Some(&3));
        assert_eq!(t.remove(hash, |k| k == "5"), Some(("5".into(), 3)));
        assert_eq!(t.get(hash, |k| k == "5"), None);
        assert_eq!(t.insert(hash, "5".into(), 9), None);
        assert_eq!(t.insert(hash, "5".into(), 10), Some(9));
    }
}
