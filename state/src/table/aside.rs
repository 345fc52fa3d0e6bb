//! What stands beside a table: what the running snapshot has of it, and what makes it the cache of a store.
//!
//! Both speak of buckets. So a change finds the bucket of its entry first and notes there what is about to happen; an entry
//! that is added gets its bucket first and is noted then; and when the table grows, what is known of its buckets moves along.

use super::{Hashing, KeyedTable, probe, rehash};
use crate::cache::Cache;
use crate::codec;
use crate::pages::Pages;
use crate::undo::Undo;
use hashbrown::HashTable;
use millstream_model::{Data, Key, Result};

/// What stands beside a table, by bucket.
#[derive(Debug)]
pub(super) struct Aside<K, V> {
    pub(super) undo: Option<Undo<K, V>>,
    pub(super) cache: Option<Cache<K, V>>,
}

/// Buckets the clock hand passes in one go, at most.
const MAX_PASSED: usize = 1 << 14;
/// Buckets that are looked at for an entry to be measured, at most.
const MAX_LOOKED_AT: usize = 256;
/// How often in a row it is looked whether that was enough.
const MAX_ROUNDS: usize = 4;

impl<K: Key, V, H: Hashing<K>> KeyedTable<K, V, H> {
    /// The bucket of a key, noted as about to be changed.
    #[cold]
    #[inline(never)]
    pub(super) fn touch_bucket(&mut self, hash: u64, is: &dyn Fn(&K) -> bool) -> Option<usize> {
        let bucket = self.table.find_bucket_index(probe(hash), |e| is(&e.0))?;
        self.note_change(hash, bucket);
        if let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut() {
            cache.used.set(bucket);
        }
        Some(bucket)
    }

    /// Notes that the entry in a bucket is about to be changed.
    pub(super) fn note_change(&mut self, hash: u64, bucket: usize) {
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

    /// Removes the entry in a bucket, which was noted as about to be changed.
    pub(super) fn remove_bucket(&mut self, hash: u64, bucket: usize) -> Option<(K, V)> {
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
    pub(super) fn add_aside(&mut self, hash: u64, entry: (K, V), is_dirty: bool) -> usize {
        if self.table.len() == self.table.capacity() {
            self.grow_aside();
        }
        let n_entries = self.table.len();
        let added = self.table.insert_unique(probe(hash), entry, rehash::<K, V, H>);
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
            let added = grown
                .insert_unique(rehash::<K, V, H>(&entry), entry, rehash::<K, V, H>)
                .bucket_index();
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
        let n_buckets = self.table.num_buckets();
        let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut() else { return };
        // Any will do but the newest, which may have yet to become as large as others are.
        let place = self.table.len().wrapping_mul(0x9E37_79B9) % n_buckets;
        // A table that was much larger may have hardly any.
        let mut from_there = (place..n_buckets).chain(0..place).take(MAX_LOOKED_AT);
        let any = from_there.find_map(|bucket| self.table.get_bucket(bucket));
        if let Some((_, value)) = any.or_else(|| self.table.get_bucket(kept)) {
            cache.sample(value);
        }
        let mut excess = cache.account(self.table.len());
        // Those that go tell what entries take, so there may be more to do than it seemed.
        for _ in 0..MAX_ROUNDS {
            if excess == 0 {
                break;
            }
            let n_before = self.table.len();
            excess = self.let_go(kept, excess);
            if self.table.len() == n_before {
                break;
            }
        }
    }

    /// Lets about so many bytes of entries go; how many there are too many then.
    fn let_go(&mut self, kept: usize, excess: usize) -> usize {
        let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut() else { return 0 };
        let is_held = cache.is_held();
        let most = self.table.len().saturating_sub(cache.n_kept());
        let n_wanted = (excess / cache.entry_bytes()).clamp(64, 1024).min(most);
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
                let hash = H::hash(key).unwrap_or_default();
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
        cache.account(self.table.len())
    }

    #[cold]
    #[inline(never)]
    pub(super) fn fetch_aside(&mut self, hash: u64, key: &K) {
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

    /// Goes on with [`seek`](Self::seek).
    #[cold]
    #[inline(never)]
    pub(super) fn seek_aside(
        &mut self,
        hash: u64,
        found: Option<usize>,
        make: impl FnOnce() -> K,
    ) -> Option<usize> {
        let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut() else {
            return found;
        };
        if let Some(bucket) = found {
            cache.used.set(bucket);
            return found;
        }
        if cache.is_complete {
            return None;
        }
        let key = make();
        let value = cache.load(hash, &key)?;
        Some(self.add_aside(hash, (key, value), false))
    }

    /// Whether an entry that is not in memory may be in a store.
    pub(crate) fn may_be_stored(&self) -> bool {
        matches!(self.aside.as_deref(), Some(Aside { cache: Some(cache), .. }) if !cache.is_complete)
    }

    /// Reads what the store has of a key that is not in memory, without bringing it there. With how many bytes were counted
    /// for it, which are to be [`uncount`](Self::uncount)ed when it goes.
    pub(crate) fn peek(&self, hash: u64, key: &K) -> Option<(V, usize)> {
        let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref() else { return None };
        let (value, bytes) = cache.peek(hash, key)?;
        cache.space().account(0, bytes);
        Some((value, bytes))
    }

    /// Counts bytes no more.
    pub(crate) fn uncount(&self, bytes: usize) {
        if let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref() {
            cache.space().account(bytes, 0);
        }
    }

    /// Brings what was read of a key into the table, unless it is there.
    pub(crate) fn bring(&mut self, hash: u64, key: K, value: V) {
        if self.find(hash, |k| *k == key).is_none() {
            self.add_aside(hash, (key, value), false);
        }
    }

    /// Removes a key, wherever it lies. What a running snapshot has yet to write of it is kept until it does, so that
    /// removing much costs no more than removing little at any one time.
    pub(crate) fn discard(&mut self, hash: u64, key: &K) {
        let Some(bucket) = self.find(hash, |k| k == key) else {
            return self.delete_stored(hash, key);
        };
        match self.aside.as_deref_mut() {
            Some(Aside { undo: Some(undo), .. }) if !undo.is_done(bucket) => {
                undo.mark(bucket);
                if let Ok(entry) = self.table.get_bucket_entry(bucket) {
                    undo.keep(entry.remove().0);
                }
            }
            _ => drop(self.take(hash, bucket)),
        }
    }

    /// Writes down every entry for the running snapshot: all of them are about to change.
    pub(super) fn touch_all(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        for bucket in 0..self.table.num_buckets() {
            let Some((key, value)) = self.table.get_bucket(bucket) else { continue };
            if let Some(undo) = &mut aside.undo {
                undo.preserve(bucket, key, value);
            }
            if let Some(cache) = &mut aside.cache {
                cache.preserve(bucket, H::hash(key).unwrap_or_default(), key, value);
                cache.dirty.set(bucket);
            }
        }
    }

    /// The bucket of an entry that is not in the table: as it is in the store, or new.
    pub(super) fn load_or_add(&mut self, hash: u64, (key, fresh): (K, V)) -> usize {
        let cache = self.aside.as_mut().and_then(|aside| aside.cache.as_mut());
        let loaded = cache.and_then(|cache| cache.load(hash, &key));
        self.add_aside(hash, (key, loaded.unwrap_or(fresh)), true)
    }

    /// Deletes what a store beneath may hold of a key that is not in memory.
    pub(crate) fn delete_stored(&mut self, hash: u64, key: &K) {
        if let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut()
            && !cache.is_complete
        {
            cache.delete(hash, key);
        }
    }
}

impl<K: Key, V: Data, H: Hashing<K>> KeyedTable<K, V, H> {
    /// Copies of all keys, wherever they lie, in no particular but a repeatable order.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn keys(&self) -> Result<Vec<K>> {
        self.keys_that(|_| true)
    }

    /// Copies of the keys that are wanted; otherwise as [`keys`](Self::keys).
    ///
    /// # Errors
    /// As there.
    pub(crate) fn keys_that(&self, are_wanted: impl Fn(&K) -> bool) -> Result<Vec<K>> {
        let here = self.table.iter().map(|e| &e.0).filter(|key| are_wanted(key));
        let mut keys: Vec<K> = here.cloned().collect();
        let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref() else { return Ok(keys) };
        if cache.is_complete {
            return Ok(keys);
        }
        cache.space().scan(&mut |bytes, _| {
            let key: K = codec::decode_all(bytes)?;
            if !are_wanted(&key) {
                return Ok(());
            }
            let hash = H::hash(&key)?;
            if self.get(hash, |k| *k == key).is_none() && !cache.is_deleted(hash, &key)? {
                keys.push(key);
            }
            Ok(())
        })?;
        Ok(keys)
    }
}
