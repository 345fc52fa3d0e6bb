//! The sink of every job: counts and adds up, a subtask for itself.
//!
//! What the subtasks saw is an accumulator of the job, so it comes back wherever they ran.

use crate::measure::now_us;
use crate::workload::Sink as Totals;
use millstream::model::{Batch, Result};
use millstream::prelude::*;
use millstream::runtime::metrics::{Accumulator, AccumulatorHandle};
use millstream::runtime::operator::{Sink, SinkWriter};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The accumulator's name.
pub(super) const SEEN: &str = "seen by the sink";

/// A sink that adds up `value` of each record.
pub(super) fn checksum<T, F: Fn(&T) -> u64>(value: F) -> Checksum<F> {
    Checksum(Arc::new(value))
}

/// See [`checksum`].
pub(super) struct Checksum<F>(Arc<F>);

/// What subtasks of a job's sink saw, and when they were there.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) totals: Totals,
    /// When the first was opened and the last had finished, in µs since the epoch.
    span_us: Option<(u64, u64)>,
}

impl Seen {
    /// How long there was a sink, in seconds.
    pub(super) fn span_s(&self) -> f64 {
        self.span_us.map_or(0.0, |(begin, end)| end.saturating_sub(begin) as f64 / 1e6)
    }
}

impl Accumulator for Seen {
    fn merge(&mut self, other: Self) {
        self.totals = [self.totals, other.totals].into_iter().sum();
        self.span_us = match (self.span_us, other.span_us) {
            (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
            (one, other) => one.or(other),
        };
    }
}

struct Writer<F> {
    value: Arc<F>,
    sink: Totals,
    began_us: u64,
    seen: AccumulatorHandle<Seen>,
}

impl<T: Data, F: Fn(&T) -> u64 + Send + Sync + 'static> Sink<T> for Checksum<F> {
    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        let (value, seen) = (Arc::clone(&self.0), context.accumulator(SEEN));
        Ok(Box::new(Writer { value, sink: Totals::default(), began_us: now_us(), seen }))
    }
}

impl<T: Data, F: Fn(&T) -> u64 + Send + Sync> SinkWriter<T> for Writer<F> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let (value, sink) = (&*self.value, &mut self.sink);
        batch.values.iter().for_each(|v| sink.add(value(v)));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let span_us = Some((self.began_us, now_us()));
        self.seen.get().merge(Seen { totals: self.sink, span_us });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtasks_are_added_up_and_their_times_united() {
        let seen = |checksum, span_us| Seen { totals: Totals { records: 1, checksum }, span_us };
        let mut all = Seen::default();
        all.merge(seen(u64::MAX, Some((2_000_000, 3_000_000))));
        all.merge(seen(2, Some((1_000_000, 2_500_000))));
        assert_eq!(all.totals, Totals { records: 2, checksum: 1 });
        assert_eq!(all.span_s(), 2.0);
    }
}
