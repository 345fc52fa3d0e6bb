//! Records computed from their number: for benchmarks, demos and tests.
//!
//! A record depends on nothing but its number, so the whole is the same at every parallelism: of `P`
//! subtasks, subtask `s` makes the records `s`, `s + P`, `s + 2P`, … The unpaced path is a loop the
//! compiler sees through, with nothing per record but the closure.

pub(crate) mod pace;
mod scheduled;

pub use scheduled::Scheduled;

use millstream_model::{Batch, Data, Result};
use millstream_runtime::source::{ReadStatus, Source, SplitContext, SplitReader};
use pace::Pace;
use scheduled::ScheduledReader;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// Makes record `i` by calling a closure with `i`.
///
/// ```
/// # use millstream_connectors::Generator;
/// let squares = Generator::new(1_000, |i| i * i);
/// let ticks = Generator::unbounded(|i| i).rate(10_000);
/// ```
pub struct Generator<F> {
    n: Option<u64>,
    make: Arc<F>,
    pace: Option<Pace>,
}

/// A subtask's share of the numbers: `first`, `first + step`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stride {
    /// The first number.
    pub first: u64,
    /// The distance between two numbers.
    pub step: u64,
}

impl Stride {
    fn of(parallelism: usize) -> Vec<Stride> {
        let step = parallelism as u64;
        (0..step).map(|first| Stride { first, step }).collect()
    }

    /// How many numbers of all strides were passed before this one begins.
    fn n_passed(self) -> u64 {
        self.first - self.first % self.step
    }

    /// How many of its numbers lie below `end`.
    fn n_below(self, end: u64) -> u64 {
        end.saturating_sub(self.first).div_ceil(self.step)
    }

    /// Skips `n` numbers.
    fn advance(&mut self, n: u64) {
        self.first = self.first.saturating_add(n.saturating_mul(self.step));
    }
}

impl<T, F: Fn(u64) -> T + Send + Sync + 'static> Generator<F> {
    /// `n` records: `make(0)` to `make(n - 1)`.
    pub fn new(n: u64, make: F) -> Self {
        Generator { n: Some(n), make: Arc::new(make), pace: None }
    }

    /// Records without end.
    pub fn unbounded(make: F) -> Self {
        Generator { n: None, make: Arc::new(make), pace: None }
    }

    /// Paces the generator: so many records a second over all subtasks, in ticks of a millisecond. What a
    /// busy job could not take in time follows as soon as it can, so the rate holds on average.
    #[must_use]
    pub fn rate(mut self, per_second: u64) -> Self {
        self.pace = Some(Pace::new(per_second));
        self
    }
}

impl Generator<()> {
    /// As [`Generator::new`] with a [`rate`](Generator::rate); `make` is also told when the record was
    /// due, so that latency can be counted from there and a stall cannot hide itself.
    pub fn scheduled<T, F>(n: u64, per_second: u64, make: F) -> Scheduled<F>
    where
        F: Fn(u64, Instant) -> T + Send + Sync + 'static,
    {
        Scheduled::new(n, per_second, make)
    }
}

impl<T: Data, F: Fn(u64) -> T + Send + Sync + 'static> Source for Generator<F> {
    type Out = T;
    type Split = Stride;

    fn is_bounded(&self) -> bool {
        self.n.is_some()
    }

    fn discover(&self, parallelism: usize) -> Result<Vec<Stride>> {
        self.pace.as_ref().map_or(Ok(()), Pace::reset)?;
        Ok(Stride::of(parallelism))
    }

    fn open(
        &self,
        stride: Stride,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<T, Stride>>> {
        let make = Arc::clone(&self.make);
        let end = self.n.unwrap_or(u64::MAX);
        Ok(match &self.pace {
            None => Box::new(StrideReader { stride, end, make, batch_size: context.batch_size }),
            Some(pace) => {
                Box::new(ScheduledReader::new(stride, end, pace, move |i, _| make(i), context))
            }
        })
    }

    fn size_hint(&self) -> Option<u64> {
        self.n
    }
}

struct StrideReader<F> {
    stride: Stride,
    end: u64,
    make: Arc<F>,
    batch_size: usize,
}

impl<T, F: Fn(u64) -> T + Send + Sync> SplitReader<T, Stride> for StrideReader<F> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<ReadStatus> {
        let n_left = self.stride.n_below(self.end);
        let n = n_left.min(self.batch_size as u64);
        let (Stride { first, step }, make) = (self.stride, &*self.make);
        out.values.extend((0..n).map(|k| make(first + k * step)));
        self.stride.advance(n);
        Ok(if n == n_left { ReadStatus::End } else { ReadStatus::More })
    }

    fn split(&self) -> Stride {
        self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Surroundings;

    #[test]
    fn subtasks_share_the_numbers() {
        for (n, parallelism) in [(10_000, 1), (10_000, 3), (2, 4), (0, 2)] {
            let source = Generator::new(n, |i| i);
            let at = Surroundings::new(0, parallelism);
            let mut all = Vec::new();
            for (s, mut reader) in at.open(&source).unwrap().into_iter().enumerate() {
                let mut share = Vec::new();
                at.drain(&mut *reader, &mut share).unwrap();
                let expected: Vec<u64> = (s as u64..n).step_by(parallelism).collect();
                assert_eq!(share, expected);
                all.append(&mut share);
            }
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn unbounded_goes_on() {
        let source = Generator::unbounded(|i| i);
        assert!(!source.is_bounded() && source.size_hint().is_none());
        let mut reader = Surroundings::new(0, 1).batch_size(4).open(&source).unwrap().remove(0);
        let mut batch = Batch::default();
        for _ in 0..3 {
            assert_eq!(reader.read(&mut batch).unwrap(), ReadStatus::More);
        }
        assert_eq!(batch.values, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_rate_counts_over_all_subtasks() {
        let source = Generator::new(30, |i| i).rate(10_000);
        let at = Surroundings::new(0, 2);
        let mut readers = at.open(&source).unwrap();
        let mut seen = Vec::new();
        // At once nothing is due; after each millisecond ten records are, half of them of each subtask.
        for ms in 0..=3 {
            at.clock.0.store(ms * 1000, std::sync::atomic::Ordering::SeqCst);
            let mut due = Batch::default();
            for reader in &mut readers {
                let status = reader.read(&mut due).unwrap();
                let next = ReadStatus::Paused { until_us: (ms + 1) * 1000 };
                assert_eq!(status, if ms == 3 { ReadStatus::End } else { next });
            }
            due.values.sort_unstable();
            seen.push(due.values);
        }
        assert_eq!(seen[0], [0u64; 0]);
        for (tick, seen) in (0..).zip(&seen[1..]) {
            assert_eq!(*seen, (tick * 10..(tick + 1) * 10).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn what_was_missed_follows_at_once() {
        let source = Generator::new(5000, |i| i).rate(1_000_000);
        let at = Surroundings::new(0, 1);
        let mut reader = at.open(&source).unwrap().remove(0);
        let mut batch = Batch::default();
        // It begins when it is first asked.
        assert_eq!(reader.read(&mut batch).unwrap(), ReadStatus::Paused { until_us: 1000 });
        at.clock.0.store(3_500, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(reader.read(&mut batch).unwrap(), ReadStatus::More);
        assert_eq!(reader.read(&mut batch).unwrap(), ReadStatus::More);
        assert_eq!(reader.read(&mut batch).unwrap(), ReadStatus::Paused { until_us: 4000 });
        assert_eq!(batch.values, (0..3000).collect::<Vec<_>>());
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        let error = Surroundings::new(0, 1).open(&Generator::new(5, |i| i).rate(0)).err().unwrap();
        assert_eq!(
            error.to_string(),
            "a rate of 0 records a second never sends one: give at least 1"
        );
    }
}
