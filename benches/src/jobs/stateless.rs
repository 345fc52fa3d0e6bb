//! Jobs without keys: W1, q0, q1 and q2.

use super::environment;
use super::sink::checksum;
use crate::nexmark::{Bid, Event, Generator as Nexmark};
use crate::prng::rnd;
use crate::workload::{BenchError, Outcome, Setup};
use millstream::connectors::Generator;
use millstream::prelude::*;

pub(super) fn w1_chain(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    env.source(Generator::new(setup.n, |i| rnd(1, i)), Watermarks::none())
        .map(|x| x.wrapping_add(1))
        .sink(checksum(|x: &u64| *x));
    super::run(setup, &env, "w1 chain")
}

pub(super) fn w1_rebalance(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    env.source(Generator::new(setup.n, |i| rnd(1, i)), Watermarks::none())
        .rebalance()
        .map(|x| x.wrapping_add(1))
        .sink(checksum(|x: &u64| *x));
    super::run(setup, &env, "w1 rebalance")
}

/// The event stream of every Nexmark job.
pub(super) fn events(env: &Environment, n: u64) -> DataStream<Event> {
    let nexmark = Nexmark::new();
    let source = Generator::new(n, move |i| nexmark.event(i));
    env.source(source, Watermarks::monotonous().on(|e: &Event| e.ts()))
}

/// The bids among the events.
pub(super) fn bids(env: &Environment, n: u64) -> DataStream<Bid> {
    events(env, n).filter_map(|e| match e {
        Event::Bid(bid) => Some(bid),
        _ => None,
    })
}

pub(super) fn q0(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    bids(&env, setup.n).sink(checksum(|b: &Bid| b.auction ^ b.bidder ^ b.price));
    super::run(setup, &env, "q0")
}

pub(super) fn q1(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    bids(&env, setup.n)
        .map(|bid| Bid { price: (bid.price as f64 * 0.908) as u64, ..bid })
        .sink(checksum(|b: &Bid| b.auction ^ b.bidder ^ b.price));
    super::run(setup, &env, "q1")
}

pub(super) fn q2(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    events(&env, setup.n)
        .filter_map(|e| match e {
            Event::Bid(bid) if bid.auction % 123 == 0 => Some((bid.auction, bid.price)),
            _ => None,
        })
        .sink(checksum(|(auction, price): &(u64, u64)| auction ^ price));
    super::run(setup, &env, "q2")
}
