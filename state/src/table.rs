//! The table under every keyed state: key → value, probed with a hash that is already known.
//!
//! The hash of a key is computed once, where the record is sent to its subtask, and travels with it; so
//! the table takes it as an argument and keys may be compared in borrowed form (`&str` against `String`).
//! One flat table per state: sharding it by key group would cost a dependent cache miss per access at ten
//! million keys, and grouping is only needed when a snapshot walks it.
//!
//! Two things may stand beside it: what the running snapshot has of it (`Undo`), and what makes it the cache
//! of a store (`Cache`). A table with neither pays for one test of a pointer; with either, an access finds
//! the bucket of its entry first and notes there what happens to it. A table over a store holds what
//! [`fetch`](KeyedTable::fetch) brought: call it before anything else is done with a key.

mod aside;
mod snapshot;

use crate::pages::Pages;
use crate::prefetch::{GROUP, Tags, prefetch};
use aside::Aside;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use millstream_model::{Key, Result, hash_key};
use std::marker::PhantomData;

/// A map from keys to values whose hashes the caller brings along. See the module's text.
#[derive(Debug)]
pub struct KeyedTable<K, V, H = ByKey> {
    table: HashTable<(K, V), Pages>,
    aside: Option<Box<Aside<K, V>>>,
    hashing: PhantomData<fn() -> H>,
}

/// How the keys of a table hash, when it has to find out by itself.
pub trait Hashing<K>: 'static {
    /// The hash by which the key is probed, and by which it is placed among the subtasks.
    ///
    /// # Errors
    /// If it is no key.
    fn hash(key: &K) -> Result<u64>;
}

/// As [`hash_key`] does it.
#[derive(Debug)]
pub struct ByKey;

impl<K: Key> Hashing<K> for ByKey {
    #[inline]
    fn hash(key: &K) -> Result<u64> {
        Ok(hash_key(key)?)
    }
}

/// What is left of an entry that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Something: it stays.
    Something,
    /// Nothing: it goes.
    Nothing,
}

impl<K, V, H> Default for KeyedTable<K, V, H> {
    fn default() -> Self {
        Self::of(HashTable::new_in(Pages))
    }
}

impl<K: Clone, V: Clone, H> Clone for KeyedTable<K, V, H> {
    /// A copy that no snapshot and no store knows of.
    fn clone(&self) -> Self {
        Self::of(self.table.clone())
    }
}

impl<K, V, H> KeyedTable<K, V, H> {
    fn of(table: HashTable<(K, V), Pages>) -> Self {
        KeyedTable { table, aside: None, hashing: PhantomData }
    }
}

/// Buckets a sweep passes for each entry it is to look at, at most.
const BUCKETS_PER_ENTRY: usize = 16;

/// Folds the high half into the tag bits: the high bits alone are nearly the same for all keys of a
/// subtask, because they choose the key group.
#[inline(always)]
fn probe(hash: u64) -> u64 {
    hash ^ (hash << 32)
}

/// Entries from which on a table is larger than the caches of one core.
const WARM_FROM: usize = 1 << 16;

fn rehash<K, V, H: Hashing<K>>(entry: &(K, V)) -> u64 {
    // A key in the table has been hashed before, so it is not of a refused kind.
    probe(H::hash(&entry.0).unwrap_or_default())
}

impl<K: Key, V, H: Hashing<K>> KeyedTable<K, V, H> {
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
    /// A batch's keys are independent, so their cache misses overlap here; in the loop that works on the entries they
    /// would come one after the other.
    pub fn warm(&self, hashes: &[u64]) {
        if self.table.len() < WARM_FROM {
            return;
        }
        let Some(tags) = Tags::of(&self.table) else { return };
        for group in hashes.chunks(GROUP) {
            group.iter().for_each(|hash| tags.prefetch(probe(*hash)));
            for hash in group {
                self.table.find(probe(*hash), |entry| {
                    prefetch(entry);
                    false
                });
            }
        }
    }

    /// The value of the key with this hash for which `is` holds.
    #[inline]
    pub fn get(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&V> {
        self.table.find(probe(hash), |e| is(&e.0)).map(|e| &e.1)
    }

    /// Looks at some entries that are in memory, from a bucket on and round: those that are due are changed, and
    /// removed if `change` leaves nothing of them. Where to go on.
    ///
    /// It passes `n` entries, or fewer where the table is nearly empty, and never more than all of them; `usize::MAX` is
    /// all of them.
    pub fn sweep(
        &mut self,
        from: usize,
        n: usize,
        is_due: impl Fn(&V) -> bool,
        mut change: impl FnMut(&mut V) -> Left,
    ) -> usize {
        let n_buckets = self.table.num_buckets();
        let (mut bucket, mut n_seen) = (from, 0);
        // A table that has become nearly empty is still as wide as it was when it was full.
        for _ in 0..n_buckets.min(n.saturating_mul(BUCKETS_PER_ENTRY)) {
            if n_seen >= n {
                break;
            }
            bucket = if bucket + 1 < n_buckets { bucket + 1 } else { 0 };
            let Some((key, value)) = self.table.get_bucket(bucket) else { continue };
            n_seen += 1;
            if !is_due(value) {
                continue;
            }
            let hash = H::hash(key).unwrap_or_default();
            self.note_change(hash, bucket);
            let value = self.table.get_bucket_mut(bucket).map(|entry| &mut entry.1);
            if value.is_some_and(|value| change(value) == Left::Nothing) {
                self.remove_bucket(hash, bucket);
            }
        }
        bucket
    }

    /// Brings the entry of a key into the table, if there is one. To be called before anything is done with
    /// a key of a table that may lie over a store.
    #[inline]
    pub fn fetch(&mut self, hash: u64, key: &K)
    where
        K: Clone,
    {
        if self.aside.is_some() {
            self.fetch_aside(hash, key);
        }
    }

    /// As [`fetch`](Self::fetch), where the key has yet to be made; it is made only if the table may lie over a store.
    #[inline]
    pub fn fetch_with(&mut self, hash: u64, key: impl FnOnce() -> K)
    where
        K: Clone,
    {
        if self.aside.is_some() {
            self.fetch_aside(hash, &key());
        }
    }

    /// As [`fetch`](Self::fetch), where a key can be told before it is made; it is made only if the store is asked for it.
    #[inline]
    pub fn fetch_by(&mut self, hash: u64, is: impl Fn(&K) -> bool, key: impl FnOnce() -> K) {
        if self.aside.is_some() {
            let found = self.find(hash, is);
            self.seek_aside(hash, found, key);
        }
    }

    /// The value of the key with this hash for which `is` holds, to be changed in place.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&mut V> {
        self.find_entry(hash, is).map(|e| &mut e.1)
    }

    /// The entry of the key with this hash for which `is` holds, value to be changed in place.
    #[inline]
    pub fn find_entry(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&mut (K, V)> {
        if self.aside.is_some() {
            let bucket = self.touch_bucket(hash, &is)?;
            return self.table.get_bucket_mut(bucket);
        }
        self.table.find_mut(probe(hash), |e| is(&e.0))
    }

    /// The entry of the key with this hash for which `is` holds; `make` creates an absent one.
    #[inline]
    pub fn entry(
        &mut self,
        hash: u64,
        is: impl Fn(&K) -> bool,
        make: impl FnOnce() -> (K, V),
    ) -> &mut (K, V) {
        if self.aside.is_some() {
            let bucket = match self.touch_bucket(hash, &is) {
                Some(bucket) => bucket,
                None => self.load_or_add(hash, make()),
            };
            return self.table.get_bucket_mut(bucket).expect("the bucket was found just now");
        }
        match self.table.entry(probe(hash), |e| is(&e.0), rehash::<K, V, H>) {
            Slot::Occupied(o) => o.into_mut(),
            Slot::Vacant(v) => v.insert(make()).into_mut(),
        }
    }

    /// Sets the value of a key and gives back the one it replaces.
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        if self.aside.is_some() {
            if let Some(old) = self.get_mut(hash, |k| *k == key) {
                return Some(std::mem::replace(old, value));
            }
            self.add_aside(hash, (key, value), true);
            return None;
        }
        match self.table.entry(probe(hash), |e| e.0 == key, rehash::<K, V, H>) {
            Slot::Occupied(mut o) => Some(std::mem::replace(&mut o.get_mut().1, value)),
            Slot::Vacant(v) => {
                v.insert((key, value));
                None
            }
        }
    }

    /// Removes a key and gives back its entry.
    pub fn remove(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<(K, V)> {
        if self.aside.is_some() {
            let bucket = self.touch_bucket(hash, &is)?;
            return self.remove_bucket(hash, bucket);
        }
        match self.table.find_entry(probe(hash), |e| is(&e.0)) {
            Ok(found) => Some(found.remove().0),
            Err(_) => None,
        }
    }

    /// Moves the entries whose hashes are such into a table of their own; both without snapshot and store.
    pub(crate) fn split_off(&mut self, moves: impl Fn(u64) -> bool) -> Self {
        let mut moved = HashTable::with_capacity_in(self.table.len() / 2, Pages);
        for entry in self.table.extract_if(|e| moves(H::hash(&e.0).unwrap_or_default())) {
            moved.insert_unique(rehash::<K, V, H>(&entry), entry, rehash::<K, V, H>);
        }
        Self::of(moved)
    }

    /// The entries themselves, of a table without snapshot and store.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (K, V)> {
        self.table.into_iter()
    }

    /// The bucket of the key with this hash for which `is` holds, if it is in memory.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<usize> {
        self.table.find_bucket_index(probe(hash), |e| is(&e.0))
    }

    /// The same wherever it lies; from a store, its entry (of the key that `make` makes) is brought into the table, where
    /// others may have to go.
    #[inline]
    pub(crate) fn seek(
        &mut self,
        hash: u64,
        is: impl Fn(&K) -> bool,
        make: impl FnOnce() -> K,
    ) -> Option<usize> {
        let found = self.find(hash, is);
        if self.aside.is_some() { self.seek_aside(hash, found, make) } else { found }
    }

    /// The value in a bucket that was found, to be changed in place.
    #[inline]
    pub(crate) fn change(&mut self, hash: u64, bucket: usize) -> Option<&mut V> {
        if self.aside.is_some() {
            self.note_change(hash, bucket);
        }
        self.table.get_bucket_mut(bucket).map(|e| &mut e.1)
    }

    /// Sets the value of a key that is not there, or whatever it is; its bucket.
    pub(crate) fn add(&mut self, hash: u64, key: K, value: V) -> usize {
        match self.find(hash, |k| *k == key) {
            Some(bucket) => {
                if let Some(old) = self.change(hash, bucket) {
                    *old = value;
                }
                bucket
            }
            None if self.aside.is_some() => self.add_aside(hash, (key, value), true),
            None => {
                let added = self.table.insert_unique(probe(hash), (key, value), rehash::<K, V, H>);
                added.bucket_index()
            }
        }
    }

    /// Takes the entry out of a bucket that was found.
    pub(crate) fn take(&mut self, hash: u64, bucket: usize) -> Option<(K, V)> {
        if self.aside.is_some() {
            self.note_change(hash, bucket);
        }
        self.remove_bucket(hash, bucket)
    }

    /// Number of buckets: places in which entries stand or may stand.
    pub(crate) fn n_buckets(&self) -> usize {
        self.table.num_buckets()
    }

    /// The entry in a bucket.
    pub(crate) fn at_bucket(&self, bucket: usize) -> Option<(&K, &V)> {
        if bucket >= self.table.num_buckets() {
            return None;
        }
        self.table.get_bucket(bucket).map(|e| (&e.0, &e.1))
    }

    /// The entries in some buckets.
    pub(crate) fn in_buckets(
        &self,
        buckets: std::ops::Range<usize>,
    ) -> impl Iterator<Item = (&K, &V)> {
        let end = buckets.end.min(self.table.num_buckets());
        (buckets.start..end).filter_map(|bucket| self.at_bucket(bucket))
    }

    /// All entries, in no particular but a repeatable order; of a table over a store, those that are in
    /// memory.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.table.iter().map(|e| (&e.0, &e.1))
    }

    /// All entries, values to be changed in place; of a table over a store, those that are in memory.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.touch_all();
        self.table.iter_mut().map(|e| (&e.0, &mut e.1))
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

    #[test]
    fn a_sweep_goes_round_and_takes_what_is_over() {
        let mut t = KeyedTable::<u64, u64>::default();
        for key in 0..100 {
            t.insert(hash_key(&key).unwrap(), key, key);
        }
        let (mut from, mut n_changed) = (0, 0);
        for _ in 0..10 {
            from = t.sweep(
                from,
                10,
                |value| *value < 50,
                |value| {
                    n_changed += 1;
                    if *value % 2 == 0 { Left::Nothing } else { Left::Something }
                },
            );
        }
        assert!(n_changed >= 50, "{n_changed} of 50 were due");
        assert_eq!(t.len(), 75);
        assert!(t.iter().all(|(key, _)| *key >= 50 || key % 2 == 1));
        t.sweep(0, usize::MAX, |_| true, |_| Left::Nothing);
        assert!(t.is_empty());
        KeyedTable::<u64, u64>::default().sweep(3, 5, |_| true, |_| Left::Nothing);
    }
}
