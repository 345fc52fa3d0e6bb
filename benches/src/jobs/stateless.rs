//! Jobs without keys: W1, q0, q1 and q2.

use super::environment;
use super::sink::Total;
use crate::nexmark::{Bid, Event, Generator as Nexmark};
use crate::prng::rnd;
use crate::workload::{BenchError, Outcome, Setup};
use millstream::connectors::Generator;
use millstream::prelude::*;

pub(super) fn w1_chain(setup: &Setup) -> Result<Outcome, BenchError> {
    let (env, total) = (environment(setup)?, Total::default());
    env.source(Generator::new(setup.n, |i| rnd(1, i)), Watermarks::none())
        .map(|x| x.wrapping_add(1))
        .sink(total.sink(|x: &u64| *x));
    env.execute("w1 chain")?;
    Ok(total.get().into())
}

pub(super) fn w1_rebalance(setup: &Setup) -> Result<Outcome, BenchError> {
    let (env, total) = (environment(setup)?, Total::default());
    env.source(Generator::new(setup.n, |i| rnd(1, i)), Watermarks::none())
        .rebalance()
        .map(|x| x.wrapping_add(1))
        .sink(total.sink(|x: &u64| *x));
    env.execute("w1 rebalance")?;
    Ok(total.get().into())
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
    let (env, total) = (environment(setup)?, Total::default());
    bids(&env, setup.n).sink(total.sink(|b: &Bid| b.auction ^ b.bidder ^ b.price));
    env.execute("q0")?;
    Ok(total.get().into())
}

pub(super) fn q1(setup: &Setup) -> Result<Outcome, BenchError> {
    let (env, total) = (environment(setup)?, Total::default());
    bids(&env, setup.n)
        .map(|bid| Bid { price: (bid.price as f64 * 0.908) as u64, ..bid })
        .sink(total.sink(|b: &Bid| b.auction ^ b.bidder ^ b.price));
    env.execute("q1")?;
    Ok(total.get().into())
}

pub(super) fn q2(setup: &Setup) -> Result<Outcome, BenchError> {
    let (env, total) = (environment(setup)?, Total::default());
    events(&env, setup.n)
        .filter_map(|e| match e {
            Event::Bid(bid) if bid.auction % 123 == 0 => Some((bid.auction, bid.price)),
            _ => None,
        })
        .sink(total.sink(|(auction, price): &(u64, u64)| auction ^ price));
    env.execute("q2")?;
    Ok(total.get().into())
}
