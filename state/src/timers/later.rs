//! Timers that lie in the store because there is no room for them in memory.
//!
//! The keys of a key group are in order of time, so what is due next of a group is where its keys begin; that is kept here
//! for every group. It may be too early, never too late: what was deleted may have been the first. Nothing is looked up
//! before that key, which is also what keeps reading away from what was deleted there and is not compacted yet.

use super::moment::Timer;
use crate::codec;
use crate::spill::Spill;
use crate::store::{Change, KEY_HEADER_BYTES, Space, group_of};
use millstream_model::{Data, EventTime, Key, Result, hash_key};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Timers that are brought into memory at a time.
const CHUNK: usize = 256;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Later {
    pub(super) spill: Spill,
    heads: BTreeMap<u16, Head>,
    /// The earliest time of all heads.
    first: Option<EventTime>,
    /// What a key and its note take, on average, beside their places.
    key_bytes: usize,
}

/// Where the timers of a group begin.
#[derive(Debug)]
struct Head {
    time: EventTime,
    key: Vec<u8>,
}

/// A time as bytes that are in its order.
pub(super) type Ordered = [u8; 8];

const SIGN: u64 = 1 << 63;

pub(super) fn ordered(time: EventTime) -> Ordered {
    (time as u64 ^ SIGN).to_be_bytes()
}

pub(super) fn time_of(ordered: Ordered) -> EventTime {
    (u64::from_be_bytes(ordered) ^ SIGN) as EventTime
}

/// The time of a timer's key.
fn time_in(key: &[u8]) -> EventTime {
    key[KEY_HEADER_BYTES..].first_chunk().map_or(EventTime::MIN, |bytes| time_of(*bytes))
}

impl Later {
    /// Over a space that may hold timers already.
    pub(super) fn new(space: Space, is_empty: bool) -> Result<Self> {
        let mut later = Later {
            spill: Spill::new(space.clone()),
            heads: BTreeMap::new(),
            first: None,
            key_bytes: 0,
        };
        let mut from = (!is_empty).then(|| space.begin().to_vec());
        while let Some(at) = from.take()
            && let Some(key) = space.first(&at)?
        {
            let group = group_of(&key);
            from = group.checked_add(1).map(|next| space.header(next).to_vec());
            later.heads.insert(group, Head { time: time_in(&key), key });
        }
        later.note_first();
        Ok(later)
    }

    /// The earliest moment there may be a timer for.
    pub(super) fn first(&self) -> Option<EventTime> {
        self.first
    }

    fn note_first(&mut self) {
        self.first = self.heads.values().map(|head| head.time).min();
    }

    /// What a timer in memory takes beside its place.
    pub(super) fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// The key of a timer that may lie here; `None` if it cannot.
    fn key_if_later<K: Key, N: Data>(
        &self,
        time: EventTime,
        hash: u64,
        (key, note): (&K, &N),
    ) -> Option<Vec<u8>> {
        let head = self.heads.get(&self.spill.space().group(hash))?;
        if time < head.time {
            return None;
        }
        let mut bytes = Vec::new();
        // What cannot be encoded has never been put here.
        self.spill.space().key(hash, &(ordered(time), key, note), &mut bytes).ok()?;
        (head.key <= bytes).then_some(bytes)
    }

    /// Whether a timer lies here.
    pub(super) fn holds<K: Key, N: Data>(&self, time: EventTime, hash: u64, of: (&K, &N)) -> bool {
        self.key_if_later(time, hash, of).is_some_and(|key| self.spill.contains(&key))
    }

    /// Deletes a timer; `false` if it does not lie here.
    pub(super) fn delete<K: Key, N: Data>(
        &mut self,
        time: EventTime,
        hash: u64,
        of: (&K, &N),
    ) -> bool {
        let key = self.key_if_later(time, hash, of);
        key.is_some_and(|key| self.spill.take(&key).is_some())
    }

    /// A timer as it lies here.
    pub(super) fn change<K: Key, N: Data>(
        &mut self,
        time: EventTime,
        timer: &Timer<K, N>,
    ) -> Result<Change> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let entry = (ordered(time), &timer.key, &timer.note);
        self.spill.space().key(timer.hash, &entry, &mut key)?;
        codec::encode(&timer.number, &mut value)?;
        self.key_bytes = (self.key_bytes * 7 + key.len()).div_ceil(8);
        Ok(Change { key, value: Some(value) })
    }

    /// Learns from a timer how much timers take.
    pub(super) fn sample<K: Key, N: Data>(&mut self, time: EventTime, timer: &Timer<K, N>) {
        // What cannot be written stays, however large it is.
        let _ = self.change(time, timer);
    }

    /// Puts timers, which are not here.
    pub(super) fn put(&mut self, mut timers: Vec<Change>) {
        self.spill.put(&mut timers);
        for Change { key, .. } in timers {
            let time = time_in(&key);
            let head = self.heads.entry(group_of(&key));
            let head = head.or_insert_with(|| Head { time, key: key.clone() });
            if key < head.key {
                *head = Head { time, key };
            }
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
        }
    }

    /// Takes out some of the timers that are due at `now`: of the group whose come first. None if what seemed to be due has
    /// been deleted.
    pub(super) fn take_due<K: Key, N: Data>(
        &mut self,
        now: EventTime,
    ) -> Vec<(EventTime, Timer<K, N>)> {
        let first = self.heads.iter().min_by_key(|(_, head)| head.time);
        let Some((&group, head)) = first.filter(|(_, head)| head.time <= now) else {
            return Vec::new();
        };
        let space = self.spill.space();
        let end = space.end_of(&space.header(group));
        let (mut timers, mut keys, mut next) = (Vec::new(), Vec::new(), None);
        self.spill.scan(&head.key, &end, |key, value| {
            let time = time_in(key);
            if time > now || timers.len() == CHUNK {
                next = Some(Head { time, key: key.to_vec() });
                return Ok(ControlFlow::Break(()));
            }
            let (_, of, note): (Ordered, K, N) = codec::decode_all(&key[KEY_HEADER_BYTES..])?;
            let (hash, number) = (hash_key(&of)?, codec::decode_all(value)?);
            timers.push((time, Timer { hash, key: of, note, number }));
            keys.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        });
        match next {
            Some(next) => self.heads.insert(group, next),
            None => self.heads.remove(&group),
        };
        self.note_first();
        self.spill.remove(keys);
        timers
    }
}
