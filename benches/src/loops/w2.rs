//! W2: a running count per key, one row per event.

use super::exchange::{self, Operator, Output, spread};
use super::table::CountTable;
use crate::prng::uniform_key;
use crate::workload::{BenchError, Outcome, Setup, Sink};

#[derive(Default)]
struct Count {
    counts: CountTable,
    sink: Sink,
}

impl Operator<Vec<u64>> for Count {
    fn process(&mut self, batch: &mut Vec<u64>) {
        self.counts.count_all(batch, |key, count| self.sink.add_count(key, count));
        batch.clear();
    }
}

pub(super) fn run<const KEYS: u64>(setup: &Setup) -> Result<Outcome, BenchError> {
    let source = |i: u64, output: &mut Output<Vec<u64>>| {
        let key = uniform_key::<KEYS>(i);
        output.to(spread(key)).push(key);
    };
    let halves = exchange::run(setup.n, source, |_| i64::MIN, Count::default);
    Ok(halves.into_iter().map(|half| half.sink).sum::<Sink>().into())
}
