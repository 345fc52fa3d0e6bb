//! The table under every keyed state: key → value, probed with a hash that is already known.
//!
//! The hash of a key is computed once, where the record is sent to its subtask, and travels with it; so
//! the table takes it as an argument and keys may be compared in borrowed form (`&str` against `String`).
//! One flat table per state: sharding it by key group would cost a dependent cache miss per access at ten
//! million keys, and grouping is only needed when a snapshot walks it.

use crate::codec;
use crate::part::{Entries, Part, Written};
use crate::schema::Shape;
use crate::snapshot::PartKind;
use crate::undo::Undo;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use millstream_model::{Data, Key, Result, hash_key};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A map from keys to values whose hashes the caller brings along. See the module's text.
#[derive(Debug)]
pub struct KeyedTable<K, V> {
    table: HashTable<(K, V)>,
    /// What the running snapshot has of it, by bucket.
    frozen: Option<Box<Undo<K, V>>>,
}

impl<K, V> Default for KeyedTable<K, V> {
    fn default() -> Self {
        KeyedTable { table: HashTable::new(), frozen: None }
    }
}

impl<K: Clone, V: Clone> Clone for KeyedTable<K, V> {
    /// A copy that no snapshot knows of.
    fn clone(&self) -> Self {
        KeyedTable { table: self.table.clone(), frozen: None }
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

    /// Writes down an entry for the running snapshot before it is changed.
    #[cold]
    #[inline(never)]
    fn preserve(&mut self, hash: u64, is: &dyn Fn(&K) -> bool) {
        let Some(undo) = &mut self.frozen else { return };
        if let Some(bucket) = self.table.find_bucket_index(probe(hash), |e| is(&e.0))
            && let Some((key, value)) = self.table.get_bucket(bucket)
        {
            undo.preserve(bucket, key, value);
        }
    }

    /// Adds an entry that the running snapshot does not have.
    #[cold]
    #[inline(never)]
    fn add_unfrozen(&mut self, hash: u64, entry: (K, V)) -> &mut (K, V) {
        if self.table.len() == self.table.capacity() {
            self.grow_frozen();
        }
        let added = self.table.insert_unique(probe(hash), entry, rehash);
        if let Some(undo) = &mut self.frozen {
            undo.mark(added.bucket_index());
        }
        added.into_mut()
    }

    /// Grows the table as it would grow by itself, and takes along what the snapshot has of it.
    fn grow_frozen(&mut self) {
        let Some(undo) = &mut self.frozen else { return };
        let mut grown = HashTable::with_capacity(self.table.len() * 2 + 1);
        let n_buckets = self.table.num_buckets();
        let mut done = Vec::new();
        for bucket in 0..n_buckets {
            let Ok(entry) = self.table.get_bucket_entry(bucket) else { continue };
            let entry = entry.remove().0;
            let added = grown.insert_unique(rehash(&entry), entry, rehash);
            if undo.is_done(bucket) {
                done.push(added.bucket_index());
            }
        }
        undo.relocate(grown.num_buckets());
        done.into_iter().for_each(|bucket| undo.mark(bucket));
        self.table = grown;
    }

    /// Writes down every entry for the running snapshot: all of them are about to change.
    fn preserve_all(&mut self) {
        let Some(undo) = &mut self.frozen else { return };
        for bucket in 0..self.table.num_buckets() {
            if let Some((key, value)) = self.table.get_bucket(bucket) {
                undo.preserve(bucket, key, value);
            }
        }
    }

    /// The value of the key with this hash for which `is` holds, to be changed in place.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&mut V> {
        if self.frozen.is_some() {
            self.preserve(hash, &is);
        }
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
        if self.frozen.is_some() {
            self.preserve(hash, &is);
            return match self.table.find_bucket_index(probe(hash), |e| is(&e.0)) {
                Some(bucket) => {
                    self.table.get_bucket_mut(bucket).expect("the bucket was found just now")
                }
                None => self.add_unfrozen(hash, make()),
            };
        }
        match self.table.entry(probe(hash), |e| is(&e.0), rehash) {
            Slot::Occupied(o) => o.into_mut(),
            Slot::Vacant(v) => v.insert(make()).into_mut(),
        }
    }

    /// Sets the value of a key and gives back the one it replaces.
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        if self.frozen.is_some() {
            if let Some(old) = self.get_mut(hash, |k| *k == key) {
                return Some(std::mem::replace(old, value));
            }
            self.add_unfrozen(hash, (key, value));
            return None;
        }
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
        if self.frozen.is_some() {
            self.preserve(hash, &is);
        }
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
        self.preserve_all();
        self.table.iter_mut().map(|e| (&e.0, &mut e.1))
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.preserve_all();
        self.table.retain(|e| keep(&e.0, &mut e.1));
    }

    /// Forgets all entries, keeps the buffer.
    pub fn clear(&mut self) {
        self.preserve_all();
        self.table.clear();
    }
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// Takes all stored entries of keys for which `owns` holds.
    pub(crate) fn restore_if(
        &mut self,
        entries: &Entries<'_>,
        owns: impl Fn(u64) -> bool,
    ) -> Result<()> {
        entries.each(|_, (key, value): (K, V)| {
            let hash = hash_key(&key)?;
            if owns(hash) {
                self.insert(hash, key, value);
            }
            Ok(())
        })
    }
}

impl<K: Key, V: Data> Part for KeyedTable<K, V> {
    fn kind(&self) -> PartKind {
        PartKind::Keyed
    }

    fn shape(&self) -> Result<Shape> {
        Shape::of::<(K, V)>()
    }

    fn freeze(&mut self) {
        let encode = |key: &K, value: &V, out: &mut Vec<u8>| codec::encode(&(key, value), out);
        self.frozen = Some(Box::new(Undo::new(self.table.num_buckets(), Box::new(encode))));
    }

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        let Some(undo) = &mut self.frozen else { return Ok(true) };
        let table = &self.table;
        let done = undo.write(out, budget, table.num_buckets(), |bucket| {
            table.get_bucket(bucket).map(|e| (&e.0, &e.1))
        })?;
        if done {
            self.frozen = None;
        }
        Ok(done)
    }

    fn thaw(&mut self) {
        self.frozen = None;
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        self.restore_if(entries, |hash| entries.assignment.owns(hash))
    }
}

/// As a value, the map of one key: a list of pairs.
impl<K: Key, V: Data> Serialize for KeyedTable<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.table.iter())
    }
}

impl<'de, K: Key, V: Data> Deserialize<'de> for KeyedTable<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut table = KeyedTable::default();
        for (key, value) in Vec::<(K, V)>::deserialize(deserializer)? {
            let hash = hash_key(&key).map_err(serde::de::Error::custom)?;
            table.insert(hash, key, value);
        }
        Ok(table)
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
