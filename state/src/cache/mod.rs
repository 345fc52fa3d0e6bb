//! What makes a table the write-back cache of a store.
//!
//! The table holds live values as always; this remembers of each bucket whether its entry was changed since the last
//! barrier (*dirty*), or before it and the store does not have that (*stale*), whether the barrier of the running checkpoint
//! found it so (*due*: it is written as it was then before anything else happens to it), and whether it was used since
//! the clock hand last came by. Values are encoded when they leave, and only then. While every entry that was
//! ever in the table still is, a key that is not there is not looked for in the store either.
//!
//! What is due of a checkpoint goes where it costs least. A few changes go into the store: they are sorted, and written once
//! more by each compaction, but the next checkpoint need not hold them again. When most of what the store does not have has
//! changed since the last checkpoint, it will have changed again by the next: then it goes into the state file, in the order
//! in which it lies, and stays *stale*. Measured with ten million counts of which nearly all change from one checkpoint to
//! the next: 6.7 s into the store, 0.3 s into the file.

use crate::codec;
use crate::log::{EntryShape, Log};
use crate::part::Written;
use crate::store::{Change, Space};
use millstream_model::{Data, Error, Key, Result, SnapshotKind};
use std::collections::HashSet;

/// So many entries are added before it is looked whether there is room for them.
const MOST_BEFORE_ROOM: usize = 64;

/// See the module's text.
pub(crate) struct Cache<K, V> {
    space: Space,
    encode_key: fn(&Space, u64, &K, &mut Vec<u8>) -> Result<()>,
    encode_value: fn(&V, &mut Vec<u8>) -> Result<()>,
    decode_value: fn(&[u8]) -> Result<V>,
    pub(crate) dirty: Bits,
    pub(crate) stale: Bits,
    pub(crate) due: Bits,
    /// Where what is due goes, if not into the store.
    pub(crate) file: Option<Log>,
    log_entry: fn(&K, &V, &mut Log),
    pub(crate) used: Bits,
    /// Where the clock hand stands, and where the writing of what is due does.
    pub(crate) hand: usize,
    pub(crate) cursor: usize,
    /// Whether nothing of the part is in the store alone.
    pub(crate) is_complete: bool,
    /// Changes that are due, taken down before their entries were changed again.
    pub(crate) preserved: Vec<Change>,
    /// Encoded keys that are in the store and no longer in the state.
    deleted: HashSet<Vec<u8>>,
    /// Those of them that were deleted before the freeze.
    due_deletes: Vec<Vec<u8>>,
    /// Whether the running checkpoint has yet to write something.
    pub(crate) is_freezing: bool,
    failure: Option<Error>,
    /// Once in so many entries that are added, room is made if there is too little; a power of two.
    room_every: usize,
    /// What an entry takes beside its place in the table, on average.
    value_bytes: usize,
    accounted_bytes: usize,
    scratch: Vec<u8>,
}

/// So many entries must have changed for a state file to be worth while.
#[cfg(not(test))]
const FILE_FROM: usize = 1 << 14;
/// Few enough for both ways to be gone.
#[cfg(test)]
const FILE_FROM: usize = 8;
/// A state file holds at most so many entries for each that has changed since the last.
const FILE_AMPLIFIES: usize = 8;

/// What is known of an entry.
pub(crate) struct Mark {
    dirty: bool,
    stale: bool,
    due: bool,
}

/// A bit per bucket.
#[derive(Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn of(n: usize) -> Self {
        Bits(vec![0; n.div_ceil(64)])
    }
    pub(crate) fn get(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 == 1)
    }
    pub(crate) fn set(&mut self, i: usize) {
        if i / 64 >= self.0.len() {
            self.0.resize(i / 64 + 1, 0);
        }
        self.0[i / 64] |= 1 << (i % 64);
    }
    pub(crate) fn clear(&mut self, i: usize) {
        if let Some(w) = self.0.get_mut(i / 64) {
            *w &= !(1 << (i % 64));
        }
    }
    /// How many are set.
    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
    /// Sets all that are set in `other`.
    fn add(&mut self, other: &Bits) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }
    /// The first that is set from `i` on.
    pub(crate) fn next(&self, i: usize) -> Option<usize> {
        let mut at = i / 64;
        let mut word = self.0.get(at)? & (u64::MAX << (i % 64));
        while word == 0 {
            at += 1;
            word = *self.0.get(at)?;
        }
        Some(at * 64 + word.trailing_zeros() as usize)
    }
}

impl<K: Key, V: Data> Cache<K, V> {
    /// The cache of a table with so many buckets, over a space that holds nothing yet, or (if it is not
    /// complete) the state of a checkpoint.
    pub(crate) fn new(space: Space, n_buckets: usize, is_complete: bool) -> Self {
        let mut cache = Cache {
            room_every: 1,
            space,
            encode_key: |space, hash, key, out| space.key(hash, key, out),
            encode_value: |value, out| codec::encode(value, out),
            decode_value: |bytes| codec::decode_all(bytes),
            dirty: Bits::of(n_buckets),
            stale: Bits::of(n_buckets),
            due: Bits::of(0),
            file: None,
            log_entry: |key, value, log| log.push(&(key, value)),
            used: Bits::of(n_buckets),
            hand: 0,
            cursor: 0,
            is_complete,
            preserved: Vec::new(),
            deleted: HashSet::new(),
            due_deletes: Vec::new(),
            is_freezing: false,
            failure: None,
            value_bytes: 0,
            accounted_bytes: 0,
            scratch: Vec::new(),
        };
        cache.set_room_every();
        cache
    }
}

impl<K, V> Cache<K, V> {
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// Whether what became dirty since the freeze may not be written.
    pub(crate) fn is_held(&self) -> bool {
        self.space.store().is_held()
    }

    /// The entry as the store is to have it.
    pub(crate) fn change(&mut self, hash: u64, key: &K, value: &V) -> Result<Change> {
        let (mut k, mut v) = (Vec::new(), Vec::new());
        (self.encode_key)(&self.space, hash, key, &mut k)?;
        (self.encode_value)(value, &mut v)?;
        self.learn(v.len());
        Ok(Change { key: k, value: Some(v) })
    }

    /// Takes down an entry that is due, before it is changed.
    pub(crate) fn preserve(&mut self, bucket: usize, hash: u64, key: &K, value: &V) {
        if self.due.get(bucket) {
            self.due.clear(bucket);
            if let Some(file) = &mut self.file {
                (self.log_entry)(key, value, file);
                return;
            }
            match self.change(hash, key, value) {
                Ok(change) => self.preserved.push(change),
                Err(e) => {
                    self.failure.get_or_insert(e);
                }
            }
        }
    }

    /// Notes that a key was removed; the store is told when it may be written.
    pub(crate) fn delete(&mut self, hash: u64, key: &K) {
        let mut encoded = Vec::new();
        match (self.encode_key)(&self.space, hash, key, &mut encoded) {
            Ok(()) => {
                self.deleted.insert(encoded);
            }
            Err(e) => {
                self.failure.get_or_insert(e);
            }
        }
    }

    /// Whether the store does not have an entry as it is.
    pub(crate) fn is_unstored(&self, bucket: usize) -> bool {
        self.dirty.get(bucket) || self.stale.get(bucket)
    }

    /// Forgets that the store does not have an entry.
    pub(crate) fn is_stored_or_gone(&mut self, bucket: usize) {
        self.dirty.clear(bucket);
        self.stale.clear(bucket);
    }

    /// What is known of a bucket's entry that is about to move, if anything is.
    pub(crate) fn mark(&self, bucket: usize) -> Option<Mark> {
        let (dirty, stale) = (self.dirty.get(bucket), self.stale.get(bucket));
        let mark = Mark { dirty, stale, due: self.due.get(bucket) };
        (dirty || stale || mark.due).then_some(mark)
    }

    /// The table has grown: what is known of the entries that are now in these buckets.
    pub(crate) fn relocate(&mut self, n_buckets: usize, marks: Vec<(usize, Mark)>) {
        self.dirty = Bits::of(n_buckets);
        self.stale = Bits::of(n_buckets);
        self.due = Bits::of(n_buckets);
        for (bucket, Mark { dirty, stale, due }) in marks {
            let bits = [(dirty, &mut self.dirty), (stale, &mut self.stale), (due, &mut self.due)];
            bits.into_iter().filter(|(is, _)| *is).for_each(|(_, bits)| bits.set(bucket));
        }
        self.used = Bits::of(n_buckets);
        (self.hand, self.cursor) = (0, 0);
    }

    /// Whether a key is deleted, whatever the store says.
    pub(crate) fn is_deleted(&self, hash: u64, key: &K) -> Result<bool> {
        if self.deleted.is_empty() {
            return Ok(false);
        }
        let mut encoded = Vec::new();
        (self.encode_key)(&self.space, hash, key, &mut encoded)?;
        Ok(self.deleted.contains(&encoded))
    }

    /// Notes that a key is in the table (again).
    pub(crate) fn revive(&mut self, hash: u64, key: &K) {
        if self.deleted.is_empty() {
            return;
        }
        let mut encoded = std::mem::take(&mut self.scratch);
        if (self.encode_key)(&self.space, hash, key, &mut encoded).is_ok() {
            self.deleted.remove(&encoded);
        }
        self.scratch = encoded;
    }

    /// Reads the value of a key that is not in the table.
    pub(crate) fn load(&mut self, hash: u64, key: &K) -> Option<V> {
        if self.is_complete {
            return None;
        }
        let mut encoded = std::mem::take(&mut self.scratch);
        let read = self.read(hash, key, &mut encoded);
        self.scratch = encoded;
        let (value, n_bytes) = read?;
        self.learn(n_bytes);
        Some(value)
    }

    /// The same for one that stays out of the table; with what it takes, in bytes.
    pub(crate) fn peek(&self, hash: u64, key: &K) -> Option<(V, usize)> {
        let (value, n_bytes) = self.read(hash, key, &mut Vec::new())?;
        Some((value, size_of::<(K, V)>() + n_bytes))
    }

    /// What the store has of a key, and how many bytes that were there.
    fn read(&self, hash: u64, key: &K, encoded: &mut Vec<u8>) -> Option<(V, usize)> {
        let mut bytes = Vec::new();
        let read = (self.encode_key)(&self.space, hash, key, encoded).and_then(|()| {
            if self.deleted.contains(encoded.as_slice()) || !self.space.get(encoded, &mut bytes)? {
                return Ok(None);
            }
            Ok(Some(((self.decode_value)(&bytes)?, bytes.len())))
        });
        // Whoever asks for a value cannot go on without it, and has no way to say so: the error ends the
        // step, as a panic would, and the task with it.
        read.unwrap_or_else(|e| std::panic::resume_unwind(Box::new(e)))
    }

    /// Every write of what is due begins with what was deleted before the freeze.
    pub(crate) fn freeze(&mut self, n_buckets: usize, kind: SnapshotKind, shape: EntryShape) {
        let n_dirty = self.dirty.count();
        // What an earlier checkpoint that was given up left behind is due of this one.
        let left = std::mem::replace(&mut self.due, std::mem::take(&mut self.dirty));
        self.dirty = Bits::of(n_buckets);
        self.due.add(&left);
        self.due.add(&std::mem::replace(&mut self.stale, Bits::of(n_buckets)));
        // A savepoint holds all of the store, too, and must not hold anything twice.
        let is_worth = n_dirty >= FILE_FROM && n_dirty * FILE_AMPLIFIES >= self.due.count();
        self.file = (is_worth && !kind.is_savepoint()).then(|| Log::new(shape));
        self.due_deletes = self.deleted.iter().cloned().collect();
        self.preserved.clear();
        self.cursor = 0;
        self.is_freezing = true;
        self.space.hold();
    }

    /// The checkpoint is given up: what was due is merely dirty.
    pub(crate) fn thaw(&mut self) {
        let mut from = 0;
        while let Some(bucket) = self.due.next(from) {
            self.dirty.set(bucket);
            from = bucket + 1;
        }
        self.due = Bits::of(0);
        // Written or not: the store never holds what is newer than the table.
        self.file = None;
        self.failure = None;
        self.preserved.clear();
        self.due_deletes.clear();
        self.is_freezing = false;
        self.space.store().release();
    }

    /// Takes what was taken down and deleted before the freeze; what was taken down for the state file goes to `out`.
    pub(crate) fn take_due(&mut self, out: &mut Written) -> Result<Vec<Change>> {
        if let Some(e) = self.failure.take() {
            return Err(e);
        }
        if let Some(file) = &mut self.file {
            file.hand_over(out)?;
        }
        let mut changes = std::mem::take(&mut self.preserved);
        // Also what was revived meanwhile: the store must not have it at the cut all the same.
        let deleted = self.due_deletes.iter().map(|key| Change { key: key.clone(), value: None });
        changes.extend(deleted);
        Ok(changes)
    }

    /// What was deleted before the freeze is out of the store.
    pub(crate) fn has_deleted_due(&mut self) {
        for key in self.due_deletes.drain(..) {
            self.deleted.remove(&key);
        }
    }

    /// Nothing was written of what was due from a bucket up to the cursor.
    pub(crate) fn rewind(&mut self, first: usize) {
        // More than was due, perhaps; and to write an entry once more than needed does no harm.
        (first..self.cursor).for_each(|bucket| self.stale.set(bucket));
    }

    /// Takes keys that were deleted and may be told the store now.
    pub(crate) fn take_deleted(&mut self) -> Vec<Change> {
        self.deleted.drain().map(|key| Change { key, value: None }).collect()
    }

    /// Learns from an entry how much entries take.
    pub(crate) fn sample(&mut self, value: &V) {
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        if (self.encode_value)(value, &mut encoded).is_ok() {
            self.learn(encoded.len());
        }
        self.scratch = encoded;
    }

    fn learn(&mut self, bytes: usize) {
        // Moves an eighth of the way, rounded so that it gets there.
        let (old, new) = (self.value_bytes, bytes);
        self.value_bytes =
            if new > old { old + (new - old).div_ceil(8) } else { old - (old - new) / 8 };
    }

    /// Counts what the table takes now; how much of it should go.
    pub(crate) fn account(&mut self, n_entries: usize) -> usize {
        let now = n_entries * self.entry_bytes();
        self.set_room_every();
        let excess = self.space.account(self.accounted_bytes, now);
        self.accounted_bytes = now;
        if n_entries <= self.n_kept() { 0 } else { excess }
    }

    /// How many entries may stay, however large they are.
    pub(crate) fn n_kept(&self) -> usize {
        self.space.store().n_kept()
    }

    /// Where a few entries are all that there is room for, each of them counts.
    fn set_room_every(&mut self) {
        let entry_bytes = size_of::<(K, V)>().max(self.value_bytes).max(1);
        let n_entries = self.space.store().limit_bytes() / entry_bytes;
        self.room_every = 1 << (n_entries / 64).clamp(1, MOST_BEFORE_ROOM).ilog2();
    }

    /// Whether it is time to look whether there is room, if one is added to so many entries.
    pub(crate) fn looks_for_room(&self, n_entries: usize) -> bool {
        n_entries & (self.room_every - 1) == 0
    }

    /// What an entry takes.
    pub(crate) fn entry_bytes(&self) -> usize {
        size_of::<(K, V)>() + 2 + self.value_bytes
    }
}

impl<K, V> Drop for Cache<K, V> {
    fn drop(&mut self) {
        self.space.account(self.accounted_bytes, 0);
    }
}

impl<K, V> std::fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("is_complete", &self.is_complete).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
