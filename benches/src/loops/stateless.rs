//! Loops without keys: W1, q0, q1 and q2.

use super::exchange::{self, Operator, Output};
use crate::nexmark::{Event, Generator};
use crate::prng::rnd;
use crate::workload::{BenchError, Outcome, Setup, Sink};

/// Two threads that share nothing, each passing every other event to `body` with its own sink.
fn run(n: u64, body: impl Fn(u64, &mut Sink) + Sync) -> Outcome {
    let half = |first: u64| {
        let mut sink = Sink::default();
        (first..n).step_by(2).for_each(|i| body(i, &mut sink));
        sink
    };
    let sinks = std::thread::scope(|scope| {
        let second = scope.spawn(|| half(1));
        [half(0), second.join().expect("a benchmark loop panicked")]
    });
    sinks.into_iter().sum::<Sink>().into()
}

pub(super) fn w1_chain(setup: &Setup) -> Result<Outcome, BenchError> {
    Ok(run(setup.n, |i, sink| sink.add(rnd(1, i).wrapping_add(1))))
}

struct Increment(Sink);

impl Operator<Vec<u64>> for Increment {
    fn process(&mut self, batch: &mut Vec<u64>) {
        batch.drain(..).for_each(|x| self.0.add(x.wrapping_add(1)));
    }
}

/// Round-robin between source and map: every other event of a source half changes threads.
pub(super) fn w1_rebalance(setup: &Setup) -> Result<Outcome, BenchError> {
    let source = |i: u64, output: &mut Output<Vec<u64>>| output.to((i / 2) << 16).push(rnd(1, i));
    let halves = exchange::run(setup.n, source, |_| i64::MIN, || Increment(Sink::default()));
    Ok(halves.into_iter().map(|half| half.0).sum::<Sink>().into())
}

pub(super) fn q0(setup: &Setup) -> Result<Outcome, BenchError> {
    let generator = Generator::new();
    Ok(run(setup.n, |i, sink| {
        if let Event::Bid(bid) = super::emitted(&generator, i) {
            sink.add(bid.auction ^ bid.bidder ^ bid.price);
        }
    }))
}

pub(super) fn q1(setup: &Setup) -> Result<Outcome, BenchError> {
    let generator = Generator::new();
    Ok(run(setup.n, |i, sink| {
        if let Event::Bid(bid) = super::emitted(&generator, i) {
            let price = (bid.price as f64 * 0.908) as u64;
            sink.add(bid.auction ^ bid.bidder ^ price);
        }
    }))
}

pub(super) fn q2(setup: &Setup) -> Result<Outcome, BenchError> {
    let generator = Generator::new();
    Ok(run(setup.n, |i, sink| {
        if let Event::Bid(bid) = super::emitted(&generator, i)
            && bid.auction % 123 == 0
        {
            sink.add(bid.auction ^ bid.price);
        }
    }))
}
