//! q5: the auction with most bids in the last 10 seconds, every 2 seconds.

use std::collections::BTreeMap;

use super::exchange::{self, Operator, Output, spread};
use super::table::CountTable;
use super::windows::{Slices, watermark_ms};
use crate::nexmark::{Event, Generator};
use crate::prng::mix64;
use crate::workload::{BenchError, Outcome, Setup, Sink};

const WINDOW_MS: i64 = 10_000;
const SLIDE_MS: i64 = 2_000;

struct HotItems {
    slices: Slices<CountTable>,
    /// The end of the next window to fire, once there is a slice.
    next_end_ms: Option<i64>,
    merged: CountTable,
    /// The winner among this thread's auctions by window end: (count, auction).
    winners: Vec<(i64, (u64, u64))>,
}

impl HotItems {
    fn new() -> Self {
        Self {
            slices: Slices::new(SLIDE_MS),
            next_end_ms: None,
            merged: CountTable::default(),
            winners: Vec::new(),
        }
    }
}

/// The better of two (count, auction): more bids, then the smaller auction.
fn better(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    if (a.0, b.1) >= (b.0, a.1) { a } else { b }
}

impl Operator<Vec<(u64, i64)>> for HotItems {
    fn process(&mut self, batch: &mut Vec<(u64, i64)>) {
        for (auction, ts) in batch.drain(..) {
            self.slices.at(ts).add(auction, 1);
        }
    }

    fn advance(&mut self, watermark: i64) {
        while let Some(oldest) = self.slices.oldest_ms() {
            let end = *self.next_end_ms.get_or_insert(oldest + SLIDE_MS);
            if end - 1 > watermark {
                break;
            }
            self.merged.clear();
            for slice in self.slices.range(end - WINDOW_MS, end) {
                for (auction, count) in slice.iter() {
                    self.merged.add(auction, count);
                }
            }
            let counts = self.merged.iter().map(|(auction, count)| (count, auction));
            if let Some(winner) = counts.reduce(better) {
                self.winners.push((end, winner));
            }
            // The slice that no later window holds.
            if oldest == end - WINDOW_MS {
                self.slices.pop_closed(watermark);
            }
            self.next_end_ms = Some(end + SLIDE_MS);
        }
    }
}

pub(super) fn run(setup: &Setup) -> Result<Outcome, BenchError> {
    let generator = Generator::new();
    let source = |i: u64, output: &mut Output<Vec<(u64, i64)>>| {
        if let Event::Bid(bid) = super::emitted(&generator, i) {
            output.to(spread(bid.auction)).push((bid.auction, bid.ts));
        }
    };
    let halves = exchange::run(setup.n, source, watermark_ms, HotItems::new);
    let mut winners = BTreeMap::new();
    for (end, winner) in halves.into_iter().flat_map(|half| half.winners) {
        winners.entry(end).and_modify(|best| *best = better(*best, winner)).or_insert(winner);
    }
    let mut sink = Sink::default();
    for (end, (count, auction)) in winners {
        sink.add(mix64(end as u64 ^ mix64(auction) ^ count));
    }
    Ok(sink.into())
}
