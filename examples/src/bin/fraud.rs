//! Fraud: a small payment that tries whether a stolen card works, and within a minute a large one.
//!
//! What it shows: a keyed process function. State of a card remembers a small payment, a timer forgets it when
//! its minute is over, and the operator is tested without a job (at the end of the file). The payments are
//! generated, with a few thieves among them.
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin fraud
//! cargo run --release -p millstream-examples --bin fraud -- --payments 10000000 --parallelism 4
//! cargo run --release -p millstream-examples --bin fraud -- --explain
//! ```

use clap::Parser;
use millstream::prelude::*;
use millstream_examples::program::{arguments, finish};
use millstream_examples::random::Random;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payment {
    card: u32,
    ts: EventTime,
    cents: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Alert {
    card: u32,
    small_ts: EventTime,
    large_ts: EventTime,
    cents: u64,
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Alert { card, small_ts, large_ts, cents } = self;
        let (units, after_s) = (cents / 100, (large_ts - small_ts) as f64 / 1000.0);
        write!(f, "card {card}: {units}.{:02} paid {after_s:.1} s after a trial", cents % 100)
    }
}

const SMALL_CENTS: u64 = 100;
const LARGE_CENTS: u64 = 50_000;
const WITHIN_MS: EventTime = 60_000;

/// When a small payment was made, until something else is paid or a minute has passed.
const TRIAL: ValueState<EventTime> = ValueState::new("trial");

#[derive(Clone)]
struct Detector;

impl KeyedProcessFunction<u32, Payment> for Detector {
    type Out = Alert;
    const STATES: StateSet<u32> = states![TRIAL];

    fn process(
        &mut self,
        payment: Payment,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Alert>,
    ) -> Result<()> {
        let Payment { card, ts, cents } = payment;
        let mut trial = ctx.state(&TRIAL);
        if let Some(small_ts) = trial.take() {
            ctx.timers().delete(small_ts + WITHIN_MS);
            // The watermark follows the records, so the timer may be due and not have fired yet.
            if cents >= LARGE_CENTS && ts - small_ts <= WITHIN_MS {
                out.emit(Alert { card, small_ts, large_ts: ts, cents });
            }
        }
        if cents < SMALL_CENTS {
            trial.set(ts);
            ctx.timers().at(ts + WITHIN_MS);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timer,
        ctx: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, Alert>,
    ) -> Result<()> {
        ctx.state(&TRIAL).clear();
        Ok(())
    }
}

/// Payment `i`: every 5 ms one, of one of ten thousand cards; small and large ones are rare.
fn payment(i: u64) -> Payment {
    let mut random = Random::new(i);
    let cents = match random.below(1000) {
        0..20 => 1 + random.below(SMALL_CENTS - 1),
        20..30 => LARGE_CENTS + random.below(LARGE_CENTS),
        _ => SMALL_CENTS + random.below(20_000),
    };
    Payment { card: random.below(10_000) as u32, ts: i as EventTime * 5, cents }
}

fn alerts(payments: DataStream<Payment>) -> DataStream<Alert> {
    payments.key_by(|payment| payment.card).process(Detector).name("detector").uid("detector")
}

/// Finds fraud among generated payments
#[derive(Parser)]
struct Arguments {
    /// How many payments are made
    #[arg(long, default_value_t = 200_000)]
    payments: u64,
}

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let Arguments { payments } = arguments(&env);
    let times = Watermarks::monotonous().on(|payment: &Payment| payment.ts);
    // One subtask, so that a card's payments stay in order.
    let source =
        env.source(Generator::new(payments, payment), times).name("payments").parallelism(1);
    alerts(source).print();
    let result = env.execute("fraud")?;
    eprintln!("{} payments in {:.1?}", result.records(), result.elapsed());
    Ok(())
}

#[test]
fn a_trial_counts_for_a_minute() -> Result<()> {
    let mut harness = millstream::testing::Harness::new(alerts)?;
    for (card, ts, cents) in [(1, 0, 99), (2, 0, 99), (1, 59_999, 50_000), (2, 60_001, 50_000)] {
        harness.watermark(ts - 1)?;
        harness.element(Payment { card, ts, cents }, ts)?;
    }
    let alert = Alert { card: 1, small_ts: 0, large_ts: 59_999, cents: 50_000 };
    assert_eq!(harness.take(), [alert]);
    Ok(())
}
