//! Timers: for each key the moments at which it wants to be called.
//!
//! Ordered by time, one timer per (key, time) however often it is set, first set first fired within a
//! moment. A moment that is due is taken out whole and then handed out one by one, so that a burst of
//! timers can be interrupted between two of them and go on later.
//!
//! Every timer carries the number of its setting. It gives the order within a moment, and while a snapshot
//! runs it tells those that were there at the freeze from those that came later; a timer that goes before the
//! cursor has reached it is written down first.

use crate::log::Log;
use crate::part::{Entries, Part, Written};
use crate::schema::Shape;
use crate::snapshot::PartKind;
use indexmap::IndexSet;
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{EventTime, Key, MIN_TIME, Result, hash_key};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// The timers of one operator subtask. See the module's text.
#[derive(Debug)]
pub struct TimerQueue<K> {
    by_time: BTreeMap<EventTime, Moment<K>>,
    /// The moment being fired, and who is still to be called.
    firing: Option<(EventTime, VecDeque<Timer<K>>)>,
    n_timers: usize,
    n_set: u64,
    frozen: Option<Frozen>,
}

type Moment<K> = IndexSet<Timer<K>, BuildHasherDefault<Known>>;

/// A key with the hash that came along with its record.
#[derive(Debug, Clone)]
struct Timer<K> {
    hash: u64,
    key: K,
    /// How many timers were set before.
    number: u64,
}

impl<K: PartialEq> PartialEq for Timer<K> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl<K: Eq> Eq for Timer<K> {}

impl<K> Hash for Timer<K> {
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

/// What the running snapshot has of the timers.
#[derive(Debug)]
struct Frozen {
    /// Timers with this number or a higher one came after the freeze.
    first_new: u64,
    /// Written are the moments before this one, and of it so many timers from the front.
    cursor: (EventTime, usize),
    log: Log,
}

impl Frozen {
    fn is_due(&self, time: EventTime, position: usize, number: u64) -> bool {
        number < self.first_new && (time, position) >= self.cursor
    }

    /// A timer goes, and the last of its moment takes its place.
    fn log_removal<K: Key>(&mut self, time: EventTime, moment: &Moment<K>, position: usize) {
        let last = moment.len() - 1;
        if self.is_due(time, position, moment[position].number) {
            self.write(time, &moment[position]);
        }
        // From behind the cursor to before it.
        let number = moment[last].number;
        if self.is_due(time, last, number) && !self.is_due(time, position, number) {
            self.write(time, &moment[last]);
        }
    }

    fn write<K: Key>(&mut self, time: EventTime, timer: &Timer<K>) {
        self.log.push(&(time, timer.number, &timer.key));
    }
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        TimerQueue { by_time: BTreeMap::new(), firing: None, n_timers: 0, n_set: 0, frozen: None }
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
        let number = self.n_set;
        let new = self.insert(time, Timer { hash, key: key.clone(), number });
        self.n_set += u64::from(new);
        new
    }

    fn insert(&mut self, time: EventTime, timer: Timer<K>) -> bool {
        let new = self.by_time.entry(time).or_default().insert(timer);
        self.n_timers += usize::from(new);
        new
    }

    /// Deletes a timer; `false` if there was none.
    pub fn delete(&mut self, time: EventTime, hash: u64, key: &K) -> bool {
        let timer = Timer { hash, key: key.clone(), number: 0 };
        let mut found = false;
        if let Some(moment) = self.by_time.get_mut(&time)
            && let Some(position) = moment.get_index_of(&timer)
        {
            if let Some(frozen) = &mut self.frozen {
                frozen.log_removal(time, moment, position);
            }
            found = moment.swap_remove_index(position).is_some();
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
            let (time, moment) = moment.remove_entry();
            if let Some(frozen) = &mut self.frozen {
                for (at, timer) in moment.iter().enumerate() {
                    if frozen.is_due(time, at, timer.number) {
                        frozen.write(time, timer);
                    }
                }
            }
            let mut timers: Vec<_> = moment.into_iter().collect();
            timers.sort_by_key(|timer| timer.number);
            self.firing = Some((time, timers.into()));
        }
    }

    /// Writes timers from the cursor on; whether all are written.
    fn write_on(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        let Some(frozen) = &mut self.frozen else { return Ok(true) };
        frozen.log.hand_over(out)?;
        let (from, _) = frozen.cursor;
        let mut all = true;
        'moments: for (&time, moment) in self.by_time.range(from..) {
            let first = if time == from { frozen.cursor.1 } else { 0 };
            for (at, timer) in moment.iter().enumerate().skip(first) {
                if out.bytes.len() + frozen.log.len() >= budget {
                    frozen.cursor = (time, at);
                    all = false;
                    break 'moments;
                }
                if timer.number < frozen.first_new {
                    frozen.write(time, timer);
                }
            }
        }
        frozen.log.hand_over(out)?;
        Ok(all)
    }
}

impl<K: Key> Part for TimerQueue<K> {
    fn kind(&self) -> PartKind {
        PartKind::Keyed
    }

    fn shape(&self) -> Result<Shape> {
        Shape::of::<(EventTime, u64, K)>()
    }

    fn freeze(&mut self) {
        self.frozen = Some(Frozen {
            first_new: self.n_set,
            cursor: (MIN_TIME, 0),
            log: Log::new(Box::new(Shape::of::<(EventTime, u64, K)>)),
        });
    }

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        let done = self.write_on(out, budget)?;
        if done {
            self.frozen = None;
        }
        Ok(done)
    }

    fn thaw(&mut self) {
        self.frozen = None;
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        entries.check_key::<K>(2)?;
        entries.each(|_, (time, number, key): (EventTime, u64, K)| {
            let hash = hash_key(&key)?;
            if entries.assignment.owns(hash) && !is_planted(Bug::ForgetTimers) {
                self.insert(time, Timer { hash, key, number });
                self.n_set = self.n_set.max(number + 1);
            }
            Ok(())
        })
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
