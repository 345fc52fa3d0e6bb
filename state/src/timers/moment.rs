//! The timers of one moment.
//!
//! Most moments have one timer, and few have many: so one lies in the moment itself, a few are looked through, and only many
//! have an index.

use hashbrown::HashTable;
use smallvec::SmallVec;
use std::ops::Index;

/// Timers up to which there is no index.
const FEW: usize = 8;

/// Timers of the same time, in the order in which they were set as long as none is deleted.
#[derive(Debug)]
pub(super) struct Moment<K, N> {
    timers: SmallVec<[Timer<K, N>; 1]>,
    positions: Option<Box<HashTable<u32>>>,
}

/// A key with the hash that came along with its record, and what it wants to be told.
#[derive(Debug, Clone)]
pub(super) struct Timer<K, N> {
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) note: N,
    /// How many timers were set before.
    pub(super) number: u64,
}

impl<K: PartialEq, N: PartialEq> Timer<K, N> {
    pub(super) fn is(&self, hash: u64, key: &K, note: &N) -> bool {
        self.hash == hash && self.key == *key && self.note == *note
    }
}

/// Folds the high half into the low one, because the high bits alone are nearly the same for all keys of a subtask.
fn probe(hash: u64) -> u64 {
    hash ^ (hash << 32)
}

impl<K, N> Default for Moment<K, N> {
    fn default() -> Self {
        Moment { timers: SmallVec::new(), positions: None }
    }
}

impl<K, N> Moment<K, N> {
    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Timer<K, N>> {
        self.timers.iter()
    }

    pub(super) fn into_timers(self) -> SmallVec<[Timer<K, N>; 1]> {
        self.timers
    }
}

impl<K: PartialEq, N: PartialEq> Moment<K, N> {
    /// Where a timer stands.
    pub(super) fn position(&self, hash: u64, key: &K, note: &N) -> Option<usize> {
        match &self.positions {
            None => self.timers.iter().position(|timer| timer.is(hash, key, note)),
            Some(positions) => positions
                .find(probe(hash), |at| self.timers[*at as usize].is(hash, key, note))
                .map(|at| *at as usize),
        }
    }

    /// Adds a timer; `false` if it was there already.
    pub(super) fn insert(&mut self, timer: Timer<K, N>) -> bool {
        if self.position(timer.hash, &timer.key, &timer.note).is_some() {
            return false;
        }
        self.timers.push(timer);
        let timers = &self.timers;
        let from = match &self.positions {
            Some(_) => timers.len() - 1,
            None if timers.len() > FEW => 0,
            None => return true,
        };
        let positions = self.positions.get_or_insert_default();
        for at in from..timers.len() {
            let position = u32::try_from(at).expect("2^32 timers would not fit into memory");
            positions.insert_unique(probe(timers[at].hash), position, |i| {
                probe(timers[*i as usize].hash)
            });
        }
        true
    }

    /// Removes the timer at a position; the last one takes its place.
    pub(super) fn remove(&mut self, at: usize) -> Timer<K, N> {
        let removed = self.timers.swap_remove(at);
        if let Some(positions) = &mut self.positions {
            if let Ok(position) = positions.find_entry(probe(removed.hash), |i| *i as usize == at) {
                position.remove();
            }
            let last = self.timers.len();
            if let Some(moved) = self.timers.get(at)
                && let Some(position) =
                    positions.find_mut(probe(moved.hash), |i| *i as usize == last)
            {
                *position = at as u32;
            }
        }
        removed
    }
}

impl<K, N> Index<usize> for Moment<K, N> {
    type Output = Timer<K, N>;
    fn index(&self, at: usize) -> &Timer<K, N> {
        &self.timers[at]
    }
}
