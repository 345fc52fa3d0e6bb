//! When record `i` of a paced source is due.
//!
//! Time is cut into ticks of a millisecond, and a record is due at the end of its tick, for all subtasks
//! counted from one start. The start is taken when the first reader is asked for records, so that nothing is due
//! before anybody could have sent it: when readers are opened, other tasks may still have to restore their state.

use millstream_model::{Error, EventTime, Result};
use millstream_runtime::context::Clock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const TICK_US: EventTime = 1000;
const TICKS_PER_SECOND: u64 = 1000;

/// A rate, and since when it counts.
#[derive(Clone)]
pub(crate) struct Pace {
    per_second: u64,
    /// With the attempt that it is of.
    start: Arc<Mutex<Option<(u32, Start)>>>,
}

/// What a reader goes by: a [`Pace`], whose schedule the first who asks for it starts.
pub(crate) struct Pacer {
    pace: Pace,
    attempt: u32,
    n_before: u64,
    schedule: Option<Schedule>,
}

impl Pacer {
    /// The schedule.
    #[inline]
    pub(crate) fn schedule(&mut self, clock: &dyn Clock) -> Schedule {
        let start = || self.pace.start(self.attempt, clock).going_on_from(self.n_before);
        *self.schedule.get_or_insert_with(start)
    }
}

#[derive(Clone, Copy)]
struct Start {
    us: EventTime,
    instant: Instant,
}

/// A running [`Pace`].
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    per_second: u64,
    start: Start,
    /// Records that were sent before the start, by an earlier attempt.
    n_before: u64,
}

impl Pace {
    pub(crate) fn new(per_second: u64) -> Self {
        // More than this overflows, and is no limit any more.
        Pace { per_second: per_second.min(u64::MAX / TICKS_PER_SECOND), start: Arc::default() }
    }

    /// Makes sure that something is due some day.
    pub(crate) fn check(&self) -> Result<()> {
        match self.per_second {
            0 => Err(Error::user("a rate of 0 records a second never sends one: give at least 1")),
            _ => Ok(()),
        }
    }

    /// Forgets the start: a new run begins.
    pub(crate) fn reset(&self) -> Result<()> {
        self.check()?;
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// For a reader of an attempt that goes on from record `n`: those before it have been sent.
    pub(crate) fn from(&self, attempt: u32, n: u64) -> Pacer {
        Pacer { pace: self.clone(), attempt, n_before: n, schedule: None }
    }

    /// The schedule; the first call of an attempt starts it. What was due while the job was down is not due at once.
    fn start(&self, attempt: u32, clock: &dyn Clock) -> Schedule {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        let of_attempt = start.filter(|(of, _)| *of == attempt);
        let now = || (attempt, Start { us: clock.now_us(), instant: Instant::now() });
        let (_, start) = *start.insert(of_attempt.unwrap_or_else(now));
        Schedule { per_second: self.per_second, start, n_before: 0 }
    }
}

impl Schedule {
    /// The same pace from record `n` on: those before it have been sent.
    fn going_on_from(self, n: u64) -> Self {
        Schedule { n_before: n, ..self }
    }

    /// At the end of which tick record `i` is due, counted from 1.
    #[inline]
    fn tick(self, i: u64) -> u64 {
        let i = i.saturating_sub(self.n_before);
        let (seconds, rest) = (i / self.per_second, i % self.per_second);
        seconds * TICKS_PER_SECOND + rest * TICKS_PER_SECOND / self.per_second + 1
    }

    /// How many records are due at `now_us`: those numbered below this.
    pub(crate) fn n_due(self, now_us: EventTime) -> u64 {
        let ticks = (now_us - self.start.us).max(0) / TICK_US;
        let n = u128::from(ticks as u64) * u128::from(self.per_second);
        let n = n.div_ceil(u128::from(TICKS_PER_SECOND)) + u128::from(self.n_before);
        n.try_into().unwrap_or(u64::MAX)
    }

    /// When record `i` is due, on the job's clock.
    pub(crate) fn due_us(self, i: u64) -> EventTime {
        self.start.us.saturating_add((self.tick(i) as EventTime).saturating_mul(TICK_US))
    }

    /// When record `i` is due, for measuring against.
    #[inline]
    pub(crate) fn due(self, i: u64) -> Instant {
        self.start.instant + Duration::from_millis(self.tick(i))
    }

    /// Records a second.
    pub(crate) fn per_second(self) -> u64 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::HandClock;

    #[test]
    fn due_times_and_due_counts_agree() {
        let clock = HandClock::default();
        clock.0.store(77_000_123, std::sync::atomic::Ordering::SeqCst);
        for per_second in [1, 7, 999, 1000, 1001, 1500, 100_000, 3_333_333] {
            let schedule = Pace::new(per_second).start(0, &clock);
            for i in [0, 1, 2, 99, 1000, 1001, 12_345, 9_999_999] {
                let due_us = schedule.due_us(i);
                assert!(schedule.n_due(due_us) > i, "{i} at {per_second}/s is due when it is due");
                assert!(schedule.n_due(due_us - 1) <= i, "{i} at {per_second}/s is not due before");
            }
            let second = schedule.n_due(77_000_123 + 1_000_000);
            assert_eq!(second, per_second);
        }
    }

    #[test]
    fn absurd_rates_do_not_overflow() {
        let schedule = Pace::new(u64::MAX).start(0, &HandClock::default());
        assert_eq!(schedule.n_due(EventTime::MAX), u64::MAX);
        assert_eq!(schedule.due_us(u64::MAX), 1_000 * TICK_US * 1_000 + TICK_US);
    }
    #[test]
    fn readers_of_an_attempt_have_one_start_and_those_of_the_next_another() {
        let (clock, pace) = (HandClock::default(), Pace::new(1000));
        let (mut first, mut second) = (pace.from(0, 0), pace.from(0, 0));
        assert_eq!(first.schedule(&clock).n_due(2_000), 2);
        clock.0.store(1_000_000, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(second.schedule(&clock).n_due(2_000), 2);
        // It had sent a hundred, and was down for a second.
        let mut restored = pace.from(1, 100);
        assert_eq!(restored.schedule(&clock).n_due(1_002_000), 102);
        assert_eq!(first.schedule(&clock).n_due(2_000), 2);
    }
}
