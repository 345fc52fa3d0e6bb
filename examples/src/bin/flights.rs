//! Flights: how late each carrier left New York, hour by hour; flights that left too late for their hour are kept
//! apart.
//!
//! What it shows: event time with real disorder (the stream comes in order of *actual* departure, its event time is
//! the *scheduled* one), windows, late records on a side output, accumulating results after the job.
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin flights
//! cargo run --release -p millstream-examples --bin flights -- --data ../shared/data
//! cargo run --release -p millstream-examples --bin flights -- --explain
//! ```

use millstream::prelude::*;
use millstream_examples::clock::format_minute;
use millstream_examples::input::read;
use millstream_examples::program::{data_dir, finish};
use millstream_examples::records::{Airline, Departure, Record};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Flights more than this behind the latest one seen are late.
const BOUND_MINUTES: u64 = 15;

const LATE: OutputTag<Departure> = OutputTag::new("late-flights");

/// Flights and minutes of delay.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Delays {
    n_flights: u64,
    minutes: i64,
}

#[derive(Clone)]
struct SumDelays;

impl Aggregate<Departure> for SumDelays {
    type Acc = Delays;
    type Out = Delays;
    fn create(&self) -> Delays {
        Delays::default()
    }
    fn add(&self, acc: &mut Delays, flight: Departure) {
        acc.n_flights += 1;
        acc.minutes += flight.delay_min;
    }
    fn merge(&self, acc: &mut Delays, other: &Delays) {
        acc.n_flights += other.n_flights;
        acc.minutes += other.minutes;
    }
    fn result(&self, acc: &Delays) -> Delays {
        *acc
    }
}

/// A carrier in an hour.
type Hour = (Text, EventTime, Delays);

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let data = data_dir(&env);
    let rule = Watermarks::bounded(mins(BOUND_MINUTES));
    let flights = read::<Departure>(&env, &data, None, rule.on(|d: &Departure| d.sched_ts));
    let hours = flights
        .key_by_ref(|flight| &flight.carrier)
        .window(Tumbling::of(hours(1)))
        .late_to(&LATE)
        .aggregate_with(SumDelays, |carrier, delays, ctx, out| {
            out.emit((carrier.clone(), ctx.window().start, *delays));
            Ok(())
        })
        .name("hours")
        .uid("hours");
    let late = hours.side_output(&LATE).collect();
    let hours = hours.collect();
    let job = env.execute("flights")?;
    let (hours, late) = (hours.take(), late.take());
    report(&names(&data)?, &hours, &late);
    println!(
        "\n{} flights in {:.2} s on {} cores, from {}.",
        job.records(),
        job.elapsed().as_secs_f64(),
        env.parallelism(),
        data.display()
    );
    println!(
        "\nTry next:\n  \
         cargo run --release -p millstream-examples --bin flights -- --explain      # the plan of this job\n  \
         cargo run --release -p millstream-examples --bin wordcount                 # text instead of flights\n  \
         cargo run --release -p millstream-examples --bin fraud                     # state and timers per key\n  \
         cargo run --release -p millstream-examples --bin queries -- O3 --data examples/data --out /tmp/o3\n  \
         less examples/src/bin/flights.rs                                           # the program itself"
    );
    Ok(())
}

/// The carriers' names: a table of sixteen lines, read directly.
fn names(data: &Path) -> Result<BTreeMap<Text, Text>> {
    let path = data.join(Airline::FILE);
    let unreadable = |e| Error::external(format!("{} cannot be read", path.display())).caused_by(e);
    let table = std::fs::read_to_string(&path).map_err(unreadable)?;
    let lines = table.lines().enumerate().skip(Airline::N_HEADER_LINES as usize);
    lines
        .map(|(i, line)| {
            let broken =
                |cause| Error::user(format!("{}, line {}: {cause}", path.display(), i + 1));
            let airline = Airline::parse(&Text::from(line)).map_err(broken)?;
            Ok((airline.carrier, airline.name))
        })
        .collect()
}

fn report(names: &BTreeMap<Text, Text>, hours: &[Hour], late: &[Departure]) {
    let mut carriers: BTreeMap<&Text, (Delays, Option<&Hour>)> = BTreeMap::new();
    for hour in hours {
        let (total, worst) = carriers.entry(&hour.0).or_default();
        total.n_flights += hour.2.n_flights;
        total.minutes += hour.2.minutes;
        if worst.is_none_or(|w| w.2.minutes < hour.2.minutes) {
            *worst = Some(hour);
        }
    }
    let mut rows: Vec<_> = carriers.into_iter().collect();
    let mean = |d: &Delays| d.minutes as f64 / d.n_flights as f64;
    rows.sort_by(|a, b| mean(&b.1.0).total_cmp(&mean(&a.1.0)));
    println!("{:<28} {:>8} {:>11}   worst hour (UTC)", "carrier", "flights", "mean delay");
    for (carrier, (total, worst)) in rows {
        let name = names.get(carrier).unwrap_or(carrier);
        print!("{:<28} {:>8} {:>7.1} min", name.as_str(), total.n_flights, mean(&total));
        match worst {
            Some((_, start, d)) => {
                println!(
                    "   {} ({} flights, {} min in all)",
                    format_minute(*start),
                    d.n_flights,
                    d.minutes
                );
            }
            None => println!(),
        }
    }
    println!(
        "\n{} hours of carriers; {} flights were late: they left more than {BOUND_MINUTES} minutes behind the stream,\n\
         after their hour had been counted (they went to the side output `{}`).",
        hours.len(),
        late.len(),
        LATE.name()
    );
}

fn main() -> ExitCode {
    finish(run())
}
