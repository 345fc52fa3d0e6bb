//! Paced records that know when they were due.

use super::Stride;
use super::pace::{Pace, Pacer, Schedule};
use millstream_model::{Batch, Data, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::source::{ReadStatus, Source, SplitContext, SplitReader};
use std::sync::Arc;
use std::time::Instant;

/// Makes record `i` by calling a closure with `i` and the moment it is due. See
/// [`Generator::scheduled`](super::Generator::scheduled).
pub struct Scheduled<F> {
    n: u64,
    make: Arc<F>,
    pace: Pace,
}

impl<F> Scheduled<F> {
    pub(super) fn new(n: u64, per_second: u64, make: F) -> Self {
        Scheduled { n, make: Arc::new(make), pace: Pace::new(per_second) }
    }
}

impl<T: Data, F: Fn(u64, Instant) -> T + Send + Sync + 'static> Source for Scheduled<F> {
    type Out = T;
    type Split = Stride;

    fn is_bounded(&self) -> bool {
        true
    }

    fn discover(&self, parallelism: usize) -> Result<Vec<Stride>> {
        self.pace.reset()?;
        Ok(Stride::of(parallelism))
    }

    fn open(
        &self,
        stride: Stride,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<T, Stride>>> {
        let make = Arc::clone(&self.make);
        let make = move |i, schedule: Schedule| make(i, schedule.due(i));
        Ok(Box::new(ScheduledReader::new(stride, self.n, &self.pace, make, context)))
    }

    fn size_hint(&self) -> Option<u64> {
        Some(self.n)
    }
}

pub(super) struct ScheduledReader<M> {
    stride: Stride,
    end: u64,
    make: M,
    pacer: Pacer,
    operator: OperatorContext,
    batch_size: usize,
}

impl<M> ScheduledReader<M> {
    pub(super) fn new(
        stride: Stride,
        end: u64,
        pace: &Pace,
        make: M,
        context: &SplitContext,
    ) -> Self {
        let attempt = context.operator.task().attempt();
        let pacer = pace.from(attempt, stride.n_passed());
        let (operator, batch_size) = (context.operator.clone(), context.batch_size);
        ScheduledReader { stride, end, make, pacer, operator, batch_size }
    }
}

impl<T, M: Fn(u64, Schedule) -> T + Send> SplitReader<T, Stride> for ScheduledReader<M> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<ReadStatus> {
        let clock = &*self.operator.task().job().clock;
        let (schedule, now_us) = (self.pacer.schedule(clock), clock.now_us());
        let n_due = self.stride.n_below(schedule.n_due(now_us).min(self.end));
        let n = n_due.min(self.batch_size as u64);
        let (Stride { first, step }, make) = (self.stride, &self.make);
        out.values.extend((0..n).map(|k| make(first + k * step, schedule)));
        self.stride.advance(n);
        Ok(if self.stride.first >= self.end {
            ReadStatus::End
        } else if n < n_due {
            ReadStatus::More
        } else {
            ReadStatus::Paused { until_us: schedule.due_us(self.stride.first) }
        })
    }

    fn split(&self) -> Stride {
        self.stride
    }
}

#[cfg(test)]
mod tests {
    use crate::generator::Generator;
    use crate::testing::Surroundings;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[test]
    fn records_of_a_tick_are_due_at_its_end() {
        let due = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&due);
        let source = Generator::scheduled(6, 2000, move |i, at| {
            noted.lock().unwrap().push(at);
            i
        });
        let at = Surroundings::new(0, 1);
        assert_eq!(at.read_all(&source).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(at.clock.0.load(std::sync::atomic::Ordering::SeqCst), 3000);
        let due = due.lock().unwrap();
        let since_first: Vec<Duration> = due.iter().map(|d| *d - due[0]).collect();
        assert_eq!(since_first, [0, 0, 1, 1, 2, 2].map(Duration::from_millis));
    }
}
