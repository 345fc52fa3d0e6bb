//! What makes a table the write-back cache of a store.
//!
//! The table holds live values as always; this remembers of each bucket whether its entry was changed since
//! it was last written to the store (*dirty*), whether the barrier of the running checkpoint found it dirty
//! (*due*: it is written as it was then before anything else happens to it), and whether it was used since
//! the clock hand last came by. Values are encoded when they leave, and only then. While every entry that was
//! ever in the table still is, a key that is not there is not looked for in the store either.

use crate::codec;
use crate::store::{Change, Space};
use millstream_model::{Data, Error, Key, Result};
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
    pub(crate) due: Bits,
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
        // Where a few entries are all that there is room for, each of them counts.
        let n_entries = space.store().limit_bytes() / size_of::<(K, V)>().max(1);
        let room_every = (n_entries / 64).clamp(1, MOST_BEFORE_ROOM);
        Cache {
            room_every: 1 << room_every.ilog2(),
            space,
            encode_key: |space, hash, key, out| space.key(hash, key, out),
            encode_value: |value, out| codec::encode(value, out),
            decode_value: |bytes| codec::decode_all(bytes),
            dirty: Bits::of(n_buckets),
            due: Bits::of(0),
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
        }
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

    /// The table has grown: these buckets are dirty, and these are due.
    pub(crate) fn relocate(&mut self, n_buckets: usize, dirty: Vec<usize>, due: Vec<usize>) {
        self.dirty = Bits::of(n_buckets);
        dirty.into_iter().for_each(|bucket| self.dirty.set(bucket));
        self.due = Bits::of(n_buckets);
        due.into_iter().for_each(|bucket| self.due.set(bucket));
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
        let (mut k, mut v) = (std::mem::take(&mut self.scratch), Vec::new());
        let loaded = (self.encode_key)(&self.space, hash, key, &mut k).and_then(|()| {
            if self.deleted.contains(&k) || !self.space.get(&k, &mut v)? {
                return Ok(None);
            }
            (self.decode_value)(&v).map(Some)
        });
        self.scratch = k;
        match loaded {
            Ok(value) => {
                if value.is_some() {
                    self.learn(v.len());
                }
                value
            }
            // Whoever asks for a value cannot go on without it, and has no way to say so: the error ends the
            // step, as a panic would, and the task with it.
            Err(e) => std::panic::resume_unwind(Box::new(e)),
        }
    }

    /// Every write of what is due begins with what was deleted before the freeze.
    pub(crate) fn freeze(&mut self, n_buckets: usize) {
        self.due = std::mem::replace(&mut self.dirty, Bits::of(n_buckets));
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
        self.preserved.clear();
        self.due_deletes.clear();
        self.is_freezing = false;
        self.space.store().release();
    }

    /// Takes what was taken down and deleted before the freeze.
    pub(crate) fn take_due(&mut self) -> Result<Vec<Change>> {
        if let Some(e) = self.failure.take() {
            return Err(e);
        }
        let mut changes = std::mem::take(&mut self.preserved);
        for key in std::mem::take(&mut self.due_deletes) {
            // Revived meanwhile: the store must not have it at the cut all the same.
            self.deleted.remove(&key);
            changes.push(Change { key, value: None });
        }
        Ok(changes)
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
        let now = n_entries * (size_of::<(K, V)>() + 2 + self.value_bytes);
        let excess = self.space.account(self.accounted_bytes, now);
        self.accounted_bytes = now;
        excess
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
