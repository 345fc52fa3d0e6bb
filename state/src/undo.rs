//! What a frozen table knows: which of its entries are in the snapshot already.
//!
//! A bit per place (bucket or position) and a cursor. An entry is *done* when it has been written, or when it
//! came after the freeze and does not belong to the snapshot at all. The first change of one that is not done
//! writes it down first: that is the undo log, and at the same time a part of the snapshot itself, so nothing
//! is ever copied back or written twice.
//!
//! The bits are allocated as zeroes, which the system hands out lazily: freezing costs nothing that grows
//! with the table.

use crate::log::Log;
use crate::part::Written;
use millstream_model::Result;

/// Writes an entry.
pub type Encode<K, V> = Box<dyn Fn(&K, &V, &mut Log) + Send + Sync>;

/// See the module's text.
pub struct Undo<K, V> {
    /// Every place below has been looked at.
    cursor: usize,
    done: Vec<u64>,
    log: Log,
    encode: Encode<K, V>,
    /// What was removed before it was written.
    kept: Vec<(K, V)>,
}

/// What looking at an empty place costs, in bytes of the budget: so that an empty table is not walked in one go.
const EMPTY_PLACE_BYTES: usize = 2;

impl<K, V> Undo<K, V> {
    /// Nothing of a table with so many places has been written; `encode` writes into `log`.
    pub fn new(n_places: usize, log: Log, encode: Encode<K, V>) -> Self {
        let done = vec![0; n_places.div_ceil(64)];
        Undo { cursor: 0, done, log, encode, kept: Vec::new() }
    }

    /// Whether what is at this place need not be written any more.
    #[inline]
    pub fn is_done(&self, place: usize) -> bool {
        place < self.cursor || self.done.get(place / 64).is_some_and(|w| w >> (place % 64) & 1 == 1)
    }

    /// Notes that what is at this place need not be written.
    #[inline]
    pub fn mark(&mut self, place: usize) {
        if place / 64 >= self.done.len() {
            self.done.resize(place / 64 + 1, 0);
        }
        self.done[place / 64] |= 1 << (place % 64);
    }

    /// Writes down what is at this place unless that is done.
    pub fn preserve(&mut self, place: usize, key: &K, value: &V) {
        if !self.is_done(place) {
            self.mark(place);
            self.log(key, value);
        }
    }

    /// Takes an entry that is not done and is in the table no more: it is written when there is a budget for it. Its place
    /// must be marked.
    pub fn keep(&mut self, entry: (K, V)) {
        self.kept.push(entry);
    }

    /// Writes an entry.
    pub fn log(&mut self, key: &K, value: &V) {
        (self.encode)(key, value, &mut self.log);
    }

    /// Starts over with a table whose entries have other places; what is done must be marked anew.
    pub fn relocate(&mut self, n_places: usize) {
        self.cursor = 0;
        self.done = vec![0; n_places.div_ceil(64)];
    }

    /// Hands over what was logged, and writes entries that are not done until there are about `budget` bytes
    /// in `out`; true when the last place has been looked at.
    ///
    /// # Errors
    /// If an entry could not be encoded.
    pub fn write<'t>(
        &mut self,
        out: &mut Written,
        budget: usize,
        n_places: usize,
        at: impl Fn(usize) -> Option<(&'t K, &'t V)>,
    ) -> Result<bool>
    where
        K: 't,
        V: 't,
    {
        self.log.hand_over(out)?;
        let mut spent = out.bytes.len();
        while spent < budget
            && !self.log.has_failed()
            && let Some((key, value)) = self.kept.pop()
        {
            self.log(&key, &value);
            spent = out.bytes.len() + self.log.len();
        }
        while self.cursor < n_places && spent < budget && !self.log.has_failed() {
            let place = self.cursor;
            if place.is_multiple_of(64) && self.done.get(place / 64) == Some(&u64::MAX) {
                self.cursor += 64;
                continue;
            }
            match at(place) {
                Some((key, value)) if !self.is_done(place) => {
                    self.log(key, value);
                    spent = out.bytes.len() + self.log.len();
                }
                _ => spent += EMPTY_PLACE_BYTES,
            }
            self.cursor += 1;
        }
        self.log.hand_over(out)?;
        Ok(self.cursor >= n_places && self.kept.is_empty())
    }
}

impl<K, V> std::fmt::Debug for Undo<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Undo").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}
