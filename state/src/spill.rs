//! What of a part lies in its task's store because there is no room for it in memory.
//!
//! A table that is asked for one key after the other is the cache of its store (see `cache`). What is taken in order of
//! time is not: timers, and windows that fire as a whole. Of those an entry lies *either* in memory or here. What is in
//! memory goes into the state file of a checkpoint, what is here is in the files of the tree anyway, and the two together
//! are the part; so nothing that stays where it is is ever written twice.
//!
//! Between a freeze and the cut that follows nothing may come into the store and nothing may leave it. Nothing comes: memory
//! holds more than its share for so long. What leaves is noted, is passed over by everyone who looks, and leaves when it may.

use crate::store::{Change, Space};
use millstream_model::{Error, Result};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// So many entries are added before it is looked whether there is room for them, at most.
const MOST_BEFORE_ROOM: usize = 64;

/// See the module's text.
pub struct Spill {
    space: Space,
    /// What has left and is still in the store.
    gone: Gone,
    /// What of it had left before the freeze, until it is out of the store.
    due: Gone,
    is_freezing: bool,
    accounted_bytes: usize,
}

#[derive(Default)]
struct Gone {
    keys: BTreeSet<Vec<u8>>,
    /// From the first, before the second. Nobody looks for what lies in them any more.
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Gone {
    fn append(&mut self, mut other: Gone) {
        self.keys.append(&mut other.keys);
        self.ranges.append(&mut other.ranges);
    }

    /// Lets all of it leave the store; what could not is still here.
    fn leave(&mut self, space: &Space) -> Result<()> {
        if !self.keys.is_empty() {
            let changes = self.keys.iter().map(|key| Change { key: key.clone(), value: None });
            space.write(&mut changes.collect::<Vec<_>>())?;
            self.keys.clear();
        }
        for (from, to) in &self.ranges {
            space.store().delete_range(from, to)?;
        }
        self.ranges.clear();
        Ok(())
    }
}

/// Whoever asks for an entry cannot go on without it, and has no way to say so: the error ends the step, as a panic would,
/// and the task with it.
fn needed<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|e: Error| std::panic::resume_unwind(Box::new(e)))
}

impl Spill {
    /// Over a space.
    pub fn new(space: Space) -> Self {
        let (gone, due) = Default::default();
        Spill { space, gone, due, is_freezing: false, accounted_bytes: 0 }
    }

    /// The space it lies in.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Whether nothing may be put for now.
    pub fn is_held(&self) -> bool {
        self.space.store().is_held()
    }

    /// How often, in entries that are added, it should be looked whether there is room: where a few are all that there is
    /// room for, each of them counts. `bytes` is what an entry takes.
    pub fn room_every(&self, bytes: usize) -> usize {
        let n_entries = self.space.store().limit_bytes() / bytes.max(1);
        (n_entries / 64).clamp(1, MOST_BEFORE_ROOM)
    }

    /// Counts what the part takes in memory now; how much of it should go. While it is [held](Self::is_held) nothing can.
    pub fn excess(&mut self, now_bytes: usize) -> usize {
        let excess = self.space.account(self.accounted_bytes, now_bytes);
        self.accounted_bytes = now_bytes;
        if self.is_held() { 0 } else { excess }
    }

    /// Puts entries, which are not in it. Not while it is held.
    pub fn put(&mut self, changes: &mut [Change]) {
        self.settle();
        needed(self.space.write(changes));
    }

    fn has_left(&self, key: &[u8]) -> bool {
        self.gone.keys.contains(key) || self.due.keys.contains(key)
    }

    /// Whether there is an entry.
    pub fn contains(&self, key: &[u8]) -> bool {
        !self.has_left(key) && needed(self.space.get(key, &mut Vec::new()))
    }

    /// Takes an entry out: its value.
    pub fn take(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        if self.has_left(key) || !needed(self.space.get(key, &mut value)) {
            return None;
        }
        self.remove([key.to_vec()]);
        Some(value)
    }

    /// Takes out entries that are in it.
    pub fn remove(&mut self, keys: impl IntoIterator<Item = Vec<u8>>) {
        self.gone.keys.extend(keys);
        self.settle();
    }

    /// Takes out all entries from the first of each pair on, before the second. Nobody will look for them or put any there
    /// again.
    pub fn remove_ranges(&mut self, ranges: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) {
        self.gone.ranges.extend(ranges);
        self.settle();
    }

    /// Lets what has left leave the store, if it may.
    fn settle(&mut self) {
        if !self.is_held() {
            needed(self.gone.leave(&self.space));
        }
    }

    /// Shows the entries from a key on, before another, in order, until `see` breaks. Keys begin with their header.
    pub fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        mut see: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) {
        needed(self.space.scan_range(from, to, &mut |key, value| {
            if self.has_left(key) { Ok(ControlFlow::Continue(())) } else { see(key, value) }
        }));
    }

    /// As [`Part::freeze`](crate::Part::freeze).
    pub fn freeze(&mut self) {
        self.due.append(std::mem::take(&mut self.gone));
        self.is_freezing = true;
        self.space.hold();
    }

    /// Sees to it that what had left before the freeze is not in the cut.
    ///
    /// # Errors
    /// If the store fails.
    pub fn write(&mut self) -> Result<()> {
        if self.is_freezing {
            self.due.leave(&self.space)?;
            self.is_freezing = false;
        }
        Ok(())
    }

    /// As [`Part::thaw`](crate::Part::thaw).
    pub fn thaw(&mut self) {
        self.is_freezing = false;
        self.gone.append(std::mem::take(&mut self.due));
        self.space.store().release();
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.space.account(self.accounted_bytes, 0);
    }
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").field("bytes", &self.accounted_bytes).finish_non_exhaustive()
    }
}
