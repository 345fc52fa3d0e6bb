//! Timers: for each key the moments at which it wants to be called.
//!
//! Ordered by time, one timer per (key, note, time) however often it is set; a *note* says what the call is about, such as a
//! window of the key. First set is first fired within a moment, as far as all of them are in memory. A moment that is due is
//! taken out whole and then handed out one by one, so that a burst of timers can be interrupted between two of them and go
//! on later.
//!
//! Every timer carries the number of its setting. It gives the order within a moment, and while a snapshot
//! runs it tells those that were there at the freeze from those that came later; a timer that goes before the
//! cursor has reached it is written down first.
//!
//! Over a store, the timers that are due last leave when there is no room for all ([`later`]). They come back when they are
//! due, some at a time.

mod later;
mod moment;
mod snapshot;
#[cfg(test)]
mod tests;

use later::Later;
use millstream_model::{Data, EventTime, Key};
use moment::{Moment, Timer};
use snapshot::Frozen;
use std::collections::{BTreeMap, VecDeque};

/// The timers of one operator subtask. See the module's text.
#[derive(Debug)]
pub struct TimerQueue<K, N = ()> {
    by_time: BTreeMap<EventTime, Moment<K, N>>,
    /// The moment being fired, and who is still to be called.
    firing: Option<(EventTime, VecDeque<Timer<K, N>>)>,
    /// Timers in memory.
    n_timers: usize,
    n_set: u64,
    frozen: Option<Frozen>,
    later: Option<Box<Later>>,
    /// Timers in memory when they were last counted for the memory they take.
    n_counted: usize,
}

/// A timer that went off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due<K, N = ()> {
    /// The moment it was set for.
    pub time: EventTime,
    /// The hash of its key.
    pub hash: u64,
    /// Its key.
    pub key: K,
    /// What it is about.
    pub note: N,
}

/// What a moment takes of memory beside its timers.
const MOMENT_BYTES: usize = 64;
/// What a timer takes beside itself: its place in the index, and what growing vectors leave free.
const PLACE_BYTES: usize = 16;
/// Timers that leave at a time.
const LEAVING: std::ops::RangeInclusive<usize> = 64..=1024;

impl<K, N> Default for TimerQueue<K, N> {
    fn default() -> Self {
        let (by_time, n_timers, n_set) = Default::default();
        let (firing, frozen, later, n_counted) = Default::default();
        TimerQueue { by_time, firing, n_timers, n_set, frozen, later, n_counted }
    }
}

impl<K: Key, N: Data + Clone + Eq> TimerQueue<K, N> {
    /// Sets a timer; `false` if it was set already.
    pub fn set(&mut self, time: EventTime, hash: u64, key: &K, note: &N) -> bool {
        if self.later.as_ref().is_some_and(|later| later.holds(time, hash, (key, note))) {
            return false;
        }
        let number = self.n_set;
        let timer = Timer { hash, key: key.clone(), note: note.clone(), number };
        let new = self.insert(time, timer);
        self.n_set += u64::from(new);
        new
    }

    fn insert(&mut self, time: EventTime, timer: Timer<K, N>) -> bool {
        let new = self.by_time.entry(time).or_default().insert(timer);
        self.n_timers += usize::from(new);
        if new {
            self.make_room();
        }
        new
    }

    /// What a timer takes, and how many bytes of all of them should go; counted now and then, as they become more or fewer.
    #[inline]
    fn count(&mut self) -> Option<(usize, usize)> {
        if self.later.is_some() { self.count_aside() } else { None }
    }

    #[inline(never)]
    fn count_aside(&mut self) -> Option<(usize, usize)> {
        let later = self.later.as_mut()?;
        let timer_bytes = size_of::<Timer<K, N>>() + PLACE_BYTES + later.key_bytes();
        if self.n_timers.abs_diff(self.n_counted) < later.spill.room_every(timer_bytes) {
            return None;
        }
        self.n_counted = self.n_timers;
        if let Some((&time, moment)) = self.by_time.last_key_value()
            && let Some(timer) = moment.iter().next()
        {
            later.sample(time, timer);
        }
        let n_bytes = self.n_timers * timer_bytes + self.by_time.len() * MOMENT_BYTES;
        Some((timer_bytes, later.spill.excess(n_bytes)))
    }

    /// Lets the timers that are due last go to the store, if there is no room for all.
    fn make_room(&mut self) {
        let Some((timer_bytes, excess @ 1..)) = self.count() else { return };
        let Some(later) = &mut self.later else { return };
        let n = (excess / timer_bytes).clamp(*LEAVING.start(), *LEAVING.end());
        let mut leaving = Vec::new();
        while leaving.len() < n
            && let Some(mut moment) = self.by_time.last_entry()
        {
            let (time, timers) = (*moment.key(), moment.get_mut());
            let Some(last) = timers.len().checked_sub(1) else {
                moment.remove();
                continue;
            };
            // What cannot be written stays, and the next checkpoint says why.
            let Ok(change) = later.change(time, &timers[last]) else { break };
            leaving.push(change);
            if let Some(frozen) = &mut self.frozen {
                frozen.log_removal(time, timers, last);
            }
            timers.remove(last);
            if timers.is_empty() {
                moment.remove();
            }
        }
        self.n_timers -= leaving.len();
        later.put(leaving);
    }

    /// Deletes a timer; `false` if there was none.
    pub fn delete(&mut self, time: EventTime, hash: u64, key: &K, note: &N) -> bool {
        let mut found = false;
        if let Some(moment) = self.by_time.get_mut(&time)
            && let Some(position) = moment.position(hash, key, note)
        {
            if let Some(frozen) = &mut self.frozen {
                frozen.log_removal(time, moment, position);
            }
            moment.remove(position);
            found = true;
            if moment.is_empty() {
                self.by_time.remove(&time);
            }
        }
        if let Some((at, keys)) = &mut self.firing
            && *at == time
            && let Some(i) = keys.iter().position(|timer| timer.is(hash, key, note))
        {
            keys.remove(i);
            found = true;
        }
        self.n_timers -= usize::from(found);
        self.count();
        found || self.later.as_mut().is_some_and(|later| later.delete(time, hash, (key, note)))
    }

    /// The earliest moment a timer is set for, or an earlier one.
    pub fn next_time(&self) -> Option<EventTime> {
        let waiting = self.by_time.first_key_value().map(|(&time, _)| time);
        let firing = self.firing.as_ref().filter(|(_, keys)| !keys.is_empty()).map(|f| f.0);
        let later = self.later.as_ref().and_then(|later| later.first());
        waiting.into_iter().chain(firing).chain(later).min()
    }

    /// Takes out the next timer that is due at `now` (its time is at or before it).
    pub fn pop_due(&mut self, now: EventTime) -> Option<Due<K, N>> {
        loop {
            if let Some((time, keys)) = &mut self.firing {
                if let Some(Timer { hash, key, note, .. }) = keys.pop_front() {
                    let due = Due { time: *time, hash, key, note };
                    self.n_timers -= 1;
                    self.count();
                    return Some(due);
                }
                self.firing = None;
            }
            if self.later.is_some() {
                self.fetch_due(now);
            }
            let moment = self.by_time.first_entry().filter(|m| *m.key() <= now)?;
            let (time, moment) = moment.remove_entry();
            if let Some(frozen) = &mut self.frozen {
                frozen.log_all(time, &moment);
            }
            let mut timers = moment.into_timers();
            timers.sort_by_key(|timer| timer.number);
            self.firing = Some((time, timers.into_iter().collect()));
        }
    }

    /// Brings timers that are due at `now` into memory, until none that is not there is due before those that are.
    fn fetch_due(&mut self, now: EventTime) {
        let Some(later) = &mut self.later else { return };
        while let Some(first) = later.first().filter(|first| *first <= now)
            && self.by_time.first_key_value().is_none_or(|(&time, _)| first < time)
        {
            let mut timers = later.take_due(now);
            timers.sort_by_key(|(time, timer)| (*time, timer.number));
            for (time, timer) in timers {
                // A new number: a running snapshot has it from the store.
                let timer = Timer { number: self.n_set, ..timer };
                self.n_set += 1;
                self.n_timers += usize::from(self.by_time.entry(time).or_default().insert(timer));
            }
        }
    }
}
