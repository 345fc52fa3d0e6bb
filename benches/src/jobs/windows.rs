//! Jobs with windows: q5, q7, q8, and the hour that slides by a second.

use super::environment;
use super::sink::checksum;
use super::stateless::{bids, events};
use crate::nexmark::Event;
use crate::nexmark::tables::Name;
use crate::prng::mix64;
use crate::workload::{BenchError, Outcome, Setup};
use millstream::prelude::*;
use millstream::runtime::window::Assigner;

/// Window end, auction, bids.
type Hot = (i64, u64, u64);

pub(super) fn q5(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    bids(&env, setup.n)
        .map(|bid| bid.auction)
        .key_by(|auction| *auction)
        .window(Sliding::of(secs(10), secs(2)))
        .aggregate_with(Count, |auction, count, ctx, out| {
            out.emit((ctx.window().end, *auction, *count));
            Ok(())
        })
        .uid("bids per auction")
        .window_all(Tumbling::of(secs(2)))
        .reduce(|x: Hot, y: Hot| if x.2 > y.2 || (x.2 == y.2 && x.1 < y.1) { x } else { y })
        .uid("hottest")
        .sink(checksum(|(end, auction, count): &Hot| mix64(*end as u64 ^ mix64(*auction) ^ count)));
    super::run(setup, &env, "q5")
}

/// Auction, bidder, price, time.
type Offer = (u64, u64, u64, i64);

/// The higher price; of equals the earlier, then the smaller auction, then the smaller bidder.
fn best(x: Offer, y: Offer) -> Offer {
    let rank = |o: &Offer| (o.2, std::cmp::Reverse((o.3, o.0, o.1)));
    if rank(&x) >= rank(&y) { x } else { y }
}

pub(super) fn q7(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    bids(&env, setup.n)
        .map(|b| (b.auction, b.bidder, b.price, b.ts))
        .key_by(|o: &Offer| o.0 & 63)
        .window(Tumbling::of(secs(10)))
        .reduce(best)
        .uid("best per key")
        .window_all(Tumbling::of(secs(10)))
        .reduce(best)
        .uid("best")
        .sink(checksum(|o: &Offer| mix64(o.0 ^ mix64(o.1) ^ o.2 ^ o.3 as u64)));
    super::run(setup, &env, "q7")
}

pub(super) fn q8(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    let events = events(&env, setup.n);
    let persons = events.clone().filter_map(|e| match e {
        Event::Person(p) => Some((p.id, p.name)),
        _ => None,
    });
    let sellers = events.filter_map(|e| match e {
        Event::Auction(a) => Some(a.seller),
        _ => None,
    });
    persons
        .key_by(|p| p.0)
        .join(sellers.key_by(|seller| *seller))
        .window(Tumbling::of(secs(10)))
        .apply(|person, _| *person)
        .uid("join")
        .sink(checksum(|(id, name): &(u64, Name)| {
            mix64(*id).wrapping_add(name.as_str().len() as u64)
        }));
    super::run(setup, &env, "q8")
}

fn bids_per_hour(setup: &Setup, windows: impl Assigner<u64>) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    bids(&env, setup.n)
        .map(|bid| bid.auction & 63)
        .key_by(|key| *key)
        .window(windows)
        .count()
        .uid("bids per hour")
        .sink(checksum(|(key, window, count): &(u64, TimeWindow, u64)| {
            mix64(window.end as u64 ^ mix64(*key) ^ count)
        }));
    super::run(setup, &env, "bids per hour")
}

pub(super) fn hour_tumbling(setup: &Setup) -> Result<Outcome, BenchError> {
    bids_per_hour(setup, Tumbling::of(hours(1)))
}

pub(super) fn hour_sliding(setup: &Setup) -> Result<Outcome, BenchError> {
    bids_per_hour(setup, Sliding::of(hours(1), secs(1)))
}
