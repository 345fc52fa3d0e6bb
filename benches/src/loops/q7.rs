//! q7: the highest bid of every 10 seconds, by way of the highest per key.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::exchange::{self, Operator, Output, spread};
use super::windows::{Slices, watermark_ms};
use crate::nexmark::{Event, Generator};
use crate::prng::mix64;
use crate::workload::{BenchError, Outcome, Setup, Sink};

const WINDOW_MS: i64 = 10_000;
const KEYS: usize = 64;

#[derive(Clone, Copy)]
struct Bid {
    price: u64,
    ts: i64,
    auction: u64,
    bidder: u64,
}

impl Bid {
    /// Higher price, then earlier, then smaller auction, then smaller bidder.
    #[inline(always)]
    fn beats(&self, other: &Self) -> bool {
        let rank = |bid: &Self| (bid.price, Reverse((bid.ts, bid.auction, bid.bidder)));
        rank(self) > rank(other)
    }
}

/// The highest bid per key; a price of 0 stands for none, the smallest one is 100.
struct Highest([Bid; KEYS]);

impl Default for Highest {
    fn default() -> Self {
        Self([Bid { price: 0, ts: 0, auction: 0, bidder: 0 }; KEYS])
    }
}

struct HighestBid {
    windows: Slices<Highest>,
    /// The highest bid among this thread's keys by window end.
    winners: Vec<(i64, Bid)>,
}

impl Operator<Vec<Bid>> for HighestBid {
    fn process(&mut self, batch: &mut Vec<Bid>) {
        for bid in batch.drain(..) {
            let best = &mut self.windows.at(bid.ts).0[bid.auction as usize % KEYS];
            if bid.beats(best) {
                *best = bid;
            }
        }
    }

    fn advance(&mut self, watermark: i64) {
        while let Some((end, window)) = self.windows.pop_closed(watermark) {
            let highest = window.0.into_iter().reduce(|a, b| if b.beats(&a) { b } else { a });
            self.winners.extend(highest.map(|bid| (end, bid)));
        }
    }
}

pub(super) fn run(setup: &Setup) -> Result<Outcome, BenchError> {
    let generator = Generator::new();
    let source = |i: u64, output: &mut Output<Vec<Bid>>| {
        if let Event::Bid(b) = super::emitted(&generator, i) {
            let bid = Bid { price: b.price, ts: b.ts, auction: b.auction, bidder: b.bidder };
            output.to(spread(b.auction % KEYS as u64)).push(bid);
        }
    };
    let operator = || HighestBid { windows: Slices::new(WINDOW_MS), winners: Vec::new() };
    let halves = exchange::run(setup.n, source, watermark_ms, operator);
    let mut winners = BTreeMap::<i64, Bid>::new();
    for (end, bid) in halves.into_iter().flat_map(|half| half.winners) {
        let best = winners.entry(end).or_insert(bid);
        if bid.beats(best) {
            *best = bid;
        }
    }
    let mut sink = Sink::default();
    for bid in winners.into_values() {
        sink.add(mix64(bid.auction ^ mix64(bid.bidder) ^ bid.price ^ bid.ts as u64));
    }
    Ok(sink.into())
}
