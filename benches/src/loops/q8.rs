//! q8: persons who opened an auction within the 10 seconds in which they registered.

use hashbrown::HashMap;

use super::exchange::{self, Operator, Output, spread};
use super::windows::{Slices, watermark_ms};
use crate::nexmark::tables::Name;
use crate::nexmark::{Event, Generator};
use crate::prng::mix64;
use crate::workload::{BenchError, Outcome, Setup, Sink};

const WINDOW_MS: i64 = 10_000;

enum Side {
    Person { id: u64, name: Name },
    Auction { seller: u64 },
}

#[derive(Default)]
struct Window {
    persons: HashMap<u64, Name>,
    /// Auctions per seller.
    auctions: HashMap<u64, u64>,
}

struct Join {
    windows: Slices<Window>,
    sink: Sink,
}

type Records = Vec<(i64, Side)>;

impl Operator<Records> for Join {
    fn process(&mut self, batch: &mut Records) {
        for (ts, side) in batch.drain(..) {
            let window = self.windows.at(ts);
            match side {
                Side::Person { id, name } => drop(window.persons.insert(id, name)),
                Side::Auction { seller } => *window.auctions.entry(seller).or_insert(0) += 1,
            }
        }
    }

    fn advance(&mut self, watermark: i64) {
        while let Some((_, window)) = self.windows.pop_closed(watermark) {
            for (id, name) in window.persons {
                let row = mix64(id).wrapping_add(name.as_str().len() as u64);
                for _ in 0..window.auctions.get(&id).copied().unwrap_or(0) {
                    self.sink.add(row);
                }
            }
        }
    }
}

pub(super) fn run(setup: &Setup) -> Result<Outcome, BenchError> {
    let generator = Generator::new();
    let source = |i: u64, output: &mut Output<Records>| match super::emitted(&generator, i) {
        Event::Person(p) => {
            output.to(spread(p.id)).push((p.ts, Side::Person { id: p.id, name: p.name }));
        }
        Event::Auction(a) => {
            output.to(spread(a.seller)).push((a.ts, Side::Auction { seller: a.seller }));
        }
        Event::Bid(_) => {}
    };
    let operator = || Join { windows: Slices::new(WINDOW_MS), sink: Sink::default() };
    let halves = exchange::run(setup.n, source, watermark_ms, operator);
    Ok(halves.into_iter().map(|half| half.sink).sum::<Sink>().into())
}
