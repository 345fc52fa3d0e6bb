//! Timers: for each key the moments at which it wants to be called.
//!
//! Ordered by time, one timer per (key, time) however often it is set, first set first fired within a
//! moment. A moment that is due is taken out whole and then handed out one by one, so that a burst of
//! timers can be interrupted between two of them and go on later.

use indexmap::IndexSet;
use millstream_model::{EventTime, Key};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// The timers of one operator subtask. See the module's text.
#[derive(Debug)]
pub struct TimerQueue<K> {
    by_time: BTreeMap<EventTime, IndexSet<Hashed<K>, BuildHasherDefault<Known>>>,
    /// The moment being fired, and who is still to be called.
    firing: Option<(EventTime, VecDeque<Hashed<K>>)>,
    n_timers: usize,
}

/// A key with the hash that came along with its record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hashed<K> {
    hash: u64,
    key: K,
}

impl<K> Hash for Hashed<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Passes a known hash through.
#[derive(Debug, Default)]
struct Known(u64);

impl Hasher for Known {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(b);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        TimerQueue { by_time: BTreeMap::new(), firing: None, n_timers: 0 }
    }
}

impl<K: Key> TimerQueue<K> {
    /// Number of timers set and not yet fired.
    pub fn len(&self) -> usize {
        self.n_timers
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.n_timers == 0
    }

    /// Sets a timer; `false` if it was set already.
    pub fn set(&mut self, time: EventTime, hash: u64, key: &K) -> bool {
        let moment = self.by_time.entry(time).or_default();
        let new = moment.insert(Hashed { hash, key: key.clone() });
        self.n_timers += usize::from(new);
        new
    }

    /// Deletes a timer; `false` if there was none.
    pub fn delete(&mut self, time: EventTime, hash: u64, key: &K) -> bool {
        let timer = Hashed { hash, key: key.clone() };
        let mut found = false;
        if let Some(moment) = self.by_time.get_mut(&time) {
            found = moment.shift_remove(&timer);
            if moment.is_empty() {
                self.by_time.remove(&time);
            }
        }
        if let Some((at, keys)) = &mut self.firing
            && *at == time
            && let Some(i) = keys.iter().position(|k| *k == timer)
        {
            keys.remove(i);
            found = true;
        }
        self.n_timers -= usize::from(found);
        found
    }

    /// The earliest moment a timer is set for.
    pub fn next_time(&self) -> Option<EventTime> {
        let waiting = self.by_time.first_key_value().map(|(&t, _)| t);
        match &self.firing {
            Some((t, keys)) if !keys.is_empty() => Some(waiting.map_or(*t, |w| w.min(*t))),
            _ => waiting,
        }
    }

    /// Takes out the next timer that is due at `now` (its time is at or before it).
    pub fn pop_due(&mut self, now: EventTime) -> Option<(EventTime, u64, K)> {
        loop {
            if let Some((time, keys)) = &mut self.firing {
                if let Some(timer) = keys.pop_front() {
                    self.n_timers -= 1;
                    return Some((*time, timer.hash, timer.key));
                }
                self.firing = None;
            }
            let moment = self.by_time.first_entry().filter(|m| *m.key() <= now)?;
            let (time, keys) = moment.remove_entry();
            self.firing = Some((time, keys.into_iter().collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(q: &mut TimerQueue<u32>, now: EventTime) -> Vec<(EventTime, u32)> {
        std::iter::from_fn(|| q.pop_due(now)).map(|(t, _, k)| (t, k)).collect()
    }

    #[test]
    fn fires_in_order_once_per_key_and_time() {
        let mut q = TimerQueue::default();
        for (t, k) in [(20, 1), (10, 2), (10, 1), (10, 2), (30, 1)] {
            q.set(t, u64::from(k), &k);
        }
        assert_eq!(q.len(), 4);
        assert_eq!(drain(&mut q, 20), [(10, 2), (10, 1), (20, 1)]);
        assert_eq!((q.next_time(), q.len()), (Some(30), 1));
    }

    #[test]
    fn a_timer_of_the_moment_being_fired_can_be_deleted() {
        let mut q = TimerQueue::default();
        q.set(5, 1, &1);
        q.set(5, 2, &2);
        assert_eq!(q.pop_due(9), Some((5, 1, 1)));
        assert!(q.delete(5, 2, &2));
        assert!(!q.delete(5, 2, &2));
        assert_eq!((q.pop_due(9), q.len()), (None, 0));
    }
}
