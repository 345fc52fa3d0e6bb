//! Windows of one hour over q5's bids, tumbling and sliding by a second.
//!
//! A sliding window of 3600 slices must not cost 3600 times a tumbling one: with slices and a
//! running total per key it costs the same per record, plus one row per key and second.

use super::exchange::{self, Operator, Output, spread};
use super::windows::{Slices, watermark_ms};
use crate::nexmark::{Event, Generator};
use crate::prng::mix64;
use crate::workload::{BenchError, Outcome, Setup, Sink};

const WINDOW_MS: i64 = 3_600_000;
const SLIDE_MS: i64 = 1_000;
const KEYS: usize = 64;

/// A count per key.
struct Counts([u64; KEYS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; KEYS])
    }
}

/// What the sink takes: a row for every key that has bids in the window.
fn emit(counts: &Counts, end_ms: i64, sink: &mut Sink) {
    for (key, &count) in counts.0.iter().enumerate().filter(|(_, count)| **count > 0) {
        sink.add(mix64(end_ms as u64 ^ mix64(key as u64) ^ count));
    }
}

type Records = Vec<(usize, i64)>;

fn source(generator: Generator) -> impl Fn(u64, &mut Output<Records>) {
    move |i, output| {
        if let Event::Bid(bid) = super::emitted(&generator, i) {
            let key = bid.auction % KEYS as u64;
            output.to(spread(key)).push((key as usize, bid.ts));
        }
    }
}

struct Tumbling {
    windows: Slices<Counts>,
    sink: Sink,
}

impl Operator<Records> for Tumbling {
    fn process(&mut self, batch: &mut Records) {
        for (key, ts) in batch.drain(..) {
            self.windows.at(ts).0[key % KEYS] += 1;
        }
    }

    fn advance(&mut self, watermark: i64) {
        while let Some((end, window)) = self.windows.pop_closed(watermark) {
            emit(&window, end, &mut self.sink);
        }
    }
}

pub(super) fn tumbling(setup: &Setup) -> Result<Outcome, BenchError> {
    let operator = || Tumbling { windows: Slices::new(WINDOW_MS), sink: Sink::default() };
    let halves = exchange::run(setup.n, source(Generator::new()), watermark_ms, operator);
    Ok(halves.into_iter().map(|half| half.sink).sum::<Sink>().into())
}

struct Sliding {
    slices: Slices<Counts>,
    /// The end of the next window to fire, once there is a slice.
    next_end_ms: Option<i64>,
    /// The counts of the window that fired last, without the slice that left since.
    total: Counts,
    sink: Sink,
}

impl Operator<Records> for Sliding {
    fn process(&mut self, batch: &mut Records) {
        for (key, ts) in batch.drain(..) {
            self.slices.at(ts).0[key % KEYS] += 1;
        }
    }

    fn advance(&mut self, watermark: i64) {
        while let Some(oldest) = self.slices.oldest_ms() {
            let end = *self.next_end_ms.get_or_insert(oldest + SLIDE_MS);
            if end - 1 > watermark {
                break;
            }
            if let Some(newest) = self.slices.get(end - SLIDE_MS) {
                self.total.0.iter_mut().zip(newest.0).for_each(|(total, count)| *total += count);
            }
            emit(&self.total, end, &mut self.sink);
            if oldest == end - WINDOW_MS
                && let Some((_, left)) = self.slices.pop_closed(watermark)
            {
                self.total.0.iter_mut().zip(left.0).for_each(|(total, count)| *total -= count);
            }
            self.next_end_ms = Some(end + SLIDE_MS);
        }
    }
}

pub(super) fn sliding(setup: &Setup) -> Result<Outcome, BenchError> {
    let operator = || Sliding {
        slices: Slices::new(SLIDE_MS),
        next_end_ms: None,
        total: Counts::default(),
        sink: Sink::default(),
    };
    let halves = exchange::run(setup.n, source(Generator::new()), watermark_ms, operator);
    Ok(halves.into_iter().map(|half| half.sink).sum::<Sink>().into())
}
