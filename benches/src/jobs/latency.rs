//! W5: W2 from a source that is paced, for its latency.

use super::environment;
use crate::checkpoints::Holds;
use crate::prng::{mix64, uniform_key};
use crate::workload::{BenchError, Outcome, Setup, Sink as Totals};
use hdrhistogram::Histogram;
use millstream::connectors::Generator;
use millstream::model::{Batch, Result as JobResult};
use millstream::prelude::*;
use millstream::runtime::operator::{Sink, SinkWriter};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

const KEYS: u64 = 100_000;
/// The due time of records that are only warm-up.
const WARM_UP: u64 = u64::MAX;

type Shared = Arc<Mutex<(Totals, Option<Histogram<u64>>)>>;

pub(super) fn run<const RATE: u64>(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    let (origin, warm_up, shared) = (Instant::now(), setup.n / 4, Shared::default());
    let source = Generator::scheduled(setup.n, RATE, move |i, due| {
        let due_ns = due.saturating_duration_since(origin).as_nanos() as u64;
        (uniform_key::<KEYS>(i), if i < warm_up { WARM_UP } else { due_ns })
    });
    env.source(source, Watermarks::none())
        .key_by(|e| e.0)
        .map_with_state(|count: &mut u64, (key, due_ns)| {
            *count += 1;
            (key, *count, due_ns)
        })
        .uid("count")
        .sink(LatencySink { origin, shared: Arc::clone(&shared) });
    let holds = Holds::of(&env.execute("w5")?.metrics());
    let (sink, latency_ns) = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Outcome { sink, latency_ns, holds, span_s: None })
}

/// Measures how long after its due time a record arrives.
struct LatencySink {
    origin: Instant,
    shared: Shared,
}

struct Writer {
    origin: Instant,
    sink: Totals,
    latency_ns: Histogram<u64>,
    shared: Shared,
}

impl Sink<(u64, u64, u64)> for LatencySink {
    fn writer(&self, _: &OperatorContext) -> JobResult<Box<dyn SinkWriter<(u64, u64, u64)>>> {
        let latency_ns = crate::pace::histogram();
        let (origin, shared) = (self.origin, Arc::clone(&self.shared));
        Ok(Box::new(Writer { origin, sink: Totals::default(), latency_ns, shared }))
    }
}

impl SinkWriter<(u64, u64, u64)> for Writer {
    fn write(&mut self, batch: &mut Batch<(u64, u64, u64)>) -> JobResult<()> {
        for &(key, count, due_ns) in &batch.values {
            self.sink.add(mix64(key ^ (count << 32)));
            if due_ns != WARM_UP {
                let now_ns = self.origin.elapsed().as_nanos() as u64;
                self.latency_ns.saturating_record(now_ns.saturating_sub(due_ns));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> JobResult<()> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.0 = [shared.0, self.sink].into_iter().sum();
        *shared.1.get_or_insert_with(crate::pace::histogram) += &self.latency_ns;
        Ok(())
    }
}
