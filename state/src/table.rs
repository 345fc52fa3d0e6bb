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

mod snapshot;

use crate::cache::Cache;
use crate::codec;
use crate::pages::Pages;
use crate::prefetch::{GROUP, Tags, prefetch};
use crate::undo::Undo;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use millstream_model::{Data, Key, Result, hash_key};

/// A map from keys to values whose hashes the caller brings along. See the module's text.
#[derive(Debug)]
pub struct KeyedTable<K, V> {
    table: HashTable<(K, V), Pages>,
    aside: Option<Box<Aside<K, V>>>,
}

/// What is left of an entry that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Something: it stays.
    Something,
    /// Nothing: it goes.
    Nothing,
}

/// What stands beside a table, by bucket.
#[derive(Debug)]
struct Aside<K, V> {
    undo: Option<Undo<K, V>>,
    cache: Option<Cache<K, V>>,
}

impl<K, V> Default for KeyedTable<K, V> {
    fn default() -> Self {
        KeyedTable { table: HashTable::new_in(Pages), aside: None }
    }
}

impl<K: Clone, V: Clone> Clone for KeyedTable<K, V> {
    /// A copy that no snapshot and no store knows of.
    fn clone(&self) -> Self {
        KeyedTable { table: self.table.clone(), aside: None }
    }
}

/// Buckets a sweep passes for each entry it is to look at, at most.
const BUCKETS_PER_ENTRY: usize = 16;
/// Buckets the clock hand passes in one go, at most.
const MAX_PASSED: usize = 1 << 14;

/// Folds the high half into the tag bits: the high bits alone are nearly the same for all keys of a
/// subtask, because they choose the key group.
#[inline(always)]
fn probe(hash: u64) -> u64 {
    hash ^ (hash << 32)
}

/// Entries from which on a table is larger than the caches of one core.
const WARM_FROM: usize = 1 << 16;

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

    /// The bucket of a key, noted as about to be changed.
    #[cold]
    #[inline(never)]
    fn touch_bucket(&mut self, hash: u64, is: &dyn Fn(&K) -> bool) -> Option<usize> {
        let bucket = self.table.find_bucket_index(probe(hash), |e| is(&e.0))?;
        self.note_change(hash, bucket);
        if let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut() {
            cache.used.set(bucket);
        }
        Some(bucket)
    }

    /// Notes that the entry in a bucket is about to be changed.
    fn note_change(&mut self, hash: u64, bucket: usize) {
        let Some(aside) = &mut self.aside else { return };
        let Some((key, value)) = self.table.get_bucket(bucket) else { return };
        if let Some(undo) = &mut aside.undo {
            undo.preserve(bucket, key, value);
        }
        if let Some(cache) = &mut aside.cache {
            cache.preserve(bucket, hash, key, value);
            cache.dirty.set(bucket);
        }
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
            let hash = hash_key(key).unwrap_or_default();
            self.note_change(hash, bucket);
            let value = self.table.get_bucket_mut(bucket).map(|entry| &mut entry.1);
            if value.is_some_and(|value| change(value) == Left::Nothing) {
                self.remove_bucket(hash, bucket);
            }
        }
        bucket
    }

    /// Removes the entry in a bucket, which was noted as about to be changed.
    fn remove_bucket(&mut self, hash: u64, bucket: usize) -> Option<(K, V)> {
        let removed = self.table.get_bucket_entry(bucket).ok()?.remove().0;
        if let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut() {
            cache.is_stored_or_gone(bucket);
            cache.delete(hash, &removed.0);
        }
        Some(removed)
    }

    /// Adds an entry that the running snapshot does not have, and that the store has or has not.
    #[cold]
    #[inline(never)]
    fn add_aside(&mut self, hash: u64, entry: (K, V), is_dirty: bool) -> usize {
        if self.table.len() == self.table.capacity() {
            self.grow_aside();
        }
        let n_entries = self.table.len();
        let added = self.table.insert_unique(probe(hash), entry, rehash);
        let bucket = added.bucket_index();
        if let Some(aside) = &mut self.aside {
            if let Some(undo) = &mut aside.undo {
                undo.mark(bucket);
            }
            if let Some(cache) = &mut aside.cache {
                // Whatever was known of the bucket was known of another entry.
                cache.is_stored_or_gone(bucket);
                cache.due.clear(bucket);
                cache.revive(hash, &added.get().0);
                cache.used.set(bucket);
                if is_dirty {
                    cache.dirty.set(bucket);
                }
                if cache.looks_for_room(n_entries) {
                    self.make_room(bucket);
                }
            }
        }
        bucket
    }

    /// Grows the table as it would grow by itself, and takes along what is known of its buckets.
    fn grow_aside(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        let mut grown = HashTable::with_capacity_in(self.table.len() * 2 + 1, Pages);
        let n_buckets = self.table.num_buckets();
        let (mut done, mut marks) = (Vec::new(), Vec::new());
        for bucket in 0..n_buckets {
            let Ok(entry) = self.table.get_bucket_entry(bucket) else { continue };
            let entry = entry.remove().0;
            let added = grown.insert_unique(rehash(&entry), entry, rehash).bucket_index();
            if aside.undo.as_ref().is_some_and(|undo| undo.is_done(bucket)) {
                done.push(added);
            }
            let mark = aside.cache.as_ref().and_then(|cache| cache.mark(bucket));
            marks.extend(mark.map(|mark| (added, mark)));
        }
        if let Some(undo) = &mut aside.undo {
            undo.relocate(grown.num_buckets());
            done.into_iter().for_each(|bucket| undo.mark(bucket));
        }
        if let Some(cache) = &mut aside.cache {
            cache.relocate(grown.num_buckets(), marks);
        }
        self.table = grown;
    }

    /// Lets entries go that were not used for a while, if the table takes more than its share; not that in
    /// `kept`.
    fn make_room(&mut self, kept: usize) {
        let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut() else { return };
        if let Some((_, value)) = self.table.get_bucket(kept) {
            cache.sample(value);
        }
        let excess = cache.account(self.table.len());
        if excess == 0 {
            return;
        }
        let is_held = cache.is_held();
        let n_wanted = (excess / cache.entry_bytes()).clamp(64, 1024);
        let n_buckets = self.table.num_buckets();
        let (mut victims, mut changes) = (Vec::new(), Vec::new());
        for _ in 0..MAX_PASSED.min(2 * n_buckets) {
            if victims.len() >= n_wanted {
                break;
            }
            cache.hand = if cache.hand + 1 < n_buckets { cache.hand + 1 } else { 0 };
            let bucket = cache.hand;
            let Some((key, value)) = self.table.get_bucket(bucket) else { continue };
            if bucket == kept || cache.due.get(bucket) {
                continue;
            }
            if cache.used.get(bucket) {
                cache.used.clear(bucket);
                continue;
            }
            if cache.is_unstored(bucket) {
                if is_held {
                    continue;
                }
                let hash = hash_key(key).unwrap_or_default();
                match cache.change(hash, key, value) {
                    Ok(change) => changes.push(change),
                    // It stays, and the next checkpoint says why it cannot be written.
                    Err(_) => continue,
                }
            }
            victims.push(bucket);
        }
        if !is_held {
            changes.extend(cache.take_deleted());
        }
        if !changes.is_empty()
            && let Err(e) = cache.space().clone().write(&mut changes)
        {
            // Nothing may be forgotten that was not written.
            std::panic::resume_unwind(Box::new(e));
        }
        for &bucket in &victims {
            cache.is_stored_or_gone(bucket);
            if let Ok(entry) = self.table.get_bucket_entry(bucket) {
                entry.remove();
            }
        }
        cache.is_complete &= victims.is_empty();
        cache.account(self.table.len());
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

    #[cold]
    #[inline(never)]
    fn fetch_aside(&mut self, hash: u64, key: &K) {
        let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut() else { return };
        match self.table.find_bucket_index(probe(hash), |e| e.0 == *key) {
            Some(bucket) => cache.used.set(bucket),
            None => {
                if let Some(value) = cache.load(hash, key) {
                    self.add_aside(hash, (key.clone(), value), false);
                }
            }
        }
    }

    /// Writes down every entry for the running snapshot: all of them are about to change.
    fn touch_all(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        for bucket in 0..self.table.num_buckets() {
            let Some((key, value)) = self.table.get_bucket(bucket) else { continue };
            if let Some(undo) = &mut aside.undo {
                undo.preserve(bucket, key, value);
            }
            if let Some(cache) = &mut aside.cache {
                cache.preserve(bucket, hash_key(key).unwrap_or_default(), key, value);
                cache.dirty.set(bucket);
            }
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
        match self.table.entry(probe(hash), |e| is(&e.0), rehash) {
            Slot::Occupied(o) => o.into_mut(),
            Slot::Vacant(v) => v.insert(make()).into_mut(),
        }
    }

    /// The bucket of an entry that is not in the table: as it is in the store, or new.
    fn load_or_add(&mut self, hash: u64, (key, fresh): (K, V)) -> usize {
        let cache = self.aside.as_mut().and_then(|aside| aside.cache.as_mut());
        let loaded = cache.and_then(|cache| cache.load(hash, &key));
        self.add_aside(hash, (key, loaded.unwrap_or(fresh)), true)
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
        if self.aside.is_some() {
            let bucket = self.touch_bucket(hash, &is)?;
            return self.remove_bucket(hash, bucket);
        }
        match self.table.find_entry(probe(hash), |e| is(&e.0)) {
            Ok(found) => Some(found.remove().0),
            Err(_) => None,
        }
    }

    /// Deletes what a store beneath may hold of a key that is not in memory.
    pub(crate) fn delete_stored(&mut self, hash: u64, key: &K) {
        if let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut()
            && !cache.is_complete
        {
            cache.delete(hash, key);
        }
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

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// Copies of all keys, wherever they lie, in no particular but a repeatable order.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn keys(&self) -> Result<Vec<K>> {
        let mut keys: Vec<K> = self.table.iter().map(|e| e.0.clone()).collect();
        let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref() else { return Ok(keys) };
        if cache.is_complete {
            return Ok(keys);
        }
        cache.space().scan(&mut |bytes, _| {
            let key: K = codec::decode_all(bytes)?;
            let hash = hash_key(&key)?;
            if self.get(hash, |k| *k == key).is_none() && !cache.is_deleted(hash, &key)? {
                keys.push(key);
            }
            Ok(())
        })?;
        Ok(keys)
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
