//! Flights: how late each airline leaves New York, hour by hour of the timetable. `make demo` runs it.
//!
//! What it shows: event time. A flight belongs to the hour for which it was scheduled, but is heard of only
//! when it has left, so the stream is in disorder. An hour is closed when flights scheduled a quarter of an
//! hour after it have left; whoever leaves later is *late* and goes to a side output, where nothing is lost.
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin flights
//! cargo run --release -p millstream-examples --bin flights -- --data ../shared/data --parallelism 2
//! cargo run --release -p millstream-examples --bin flights -- --explain
//! ```
//!
//! With `--out DIR` the hours and the late flights go to files instead of a table: those are whole also when the job
//! is restarted or its machines die (`make cluster-demo` shows it), while what a program collects is not kept by
//! checkpoints.

use clap::Parser;
use millstream::prelude::*;
use millstream_examples::clock::format_minute;
use millstream_examples::input::read;
use millstream_examples::program::{arguments, finish, sample_dir};
use millstream_examples::records::{Airline, Departure};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LATE: OutputTag<Departure> = OutputTag::new("late flights");

/// How many flights, and their minutes of delay in all.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Delays {
    n_flights: u64,
    minutes: i64,
}

impl Delays {
    fn add(&mut self, other: &Delays) {
        self.n_flights += other.n_flights;
        self.minutes += other.minutes;
    }

    fn mean(&self) -> f64 {
        self.minutes as f64 / self.n_flights.max(1) as f64
    }
}

#[derive(Clone)]
struct SumDelays;

impl Aggregate<Departure> for SumDelays {
    type Acc = Delays;
    type Out = Delays;

    fn create(&self) -> Delays {
        Delays::default()
    }
    fn add(&self, delays: &mut Delays, departure: Departure) {
        delays.add(&Delays { n_flights: 1, minutes: departure.delay_min });
    }
    fn merge(&self, delays: &mut Delays, other: &Delays) {
        delays.add(other);
    }
    fn result(&self, delays: &Delays) -> Delays {
        *delays
    }
}

/// An airline's hour: its code, the start of the hour, its flights.
type Hour = (Text, EventTime, Delays);

/// How late each airline leaves, hour by hour
#[derive(Parser)]
struct Arguments {
    /// The folder of the data; without it the sample of the repository
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Reads at most so many flights a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Writes files into this folder, new or empty, instead of showing a table
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let Arguments { data, rate, out } = arguments(&env);
    let data = data.unwrap_or_else(sample_dir);
    let times = Watermarks::bounded(mins(15)).on(|departure: &Departure| departure.sched_ts);
    let hours = read(&env, &data, rate, times)
        .key_by_ref(|departure| &departure.carrier)
        .window(Tumbling::of(hours(1)))
        .late_to(&LATE)
        .aggregate_with(SumDelays, |carrier, delays, ctx, out| {
            out.emit((carrier.clone(), ctx.window().start, *delays));
            Ok(())
        })
        .name("hourly delays")
        .uid("hourly-delays");
    let late = hours.side_output(&LATE);
    if let Some(out) = out {
        write(hours, late, &out);
        let result = env.execute("flights")?;
        println!("written to {} in {:.1?}", out.display(), result.elapsed());
        return Ok(());
    }
    let late = late.collect();
    let hours = hours.collect();
    let airlines = read::<Airline>(&env, &data, None, Watermarks::none()).collect();

    eprintln!("Reading {} …", data.display());
    let result = env.execute("flights")?;
    let (hours, late) = (hours.take(), late.take());
    show(&airlines.take(), &hours, &late);
    println!(
        "{} hours of airlines in {:.1?}; {} flights left when their hour was closed.\n\n{TRY_NEXT}",
        hours.len(),
        result.elapsed(),
        late.len()
    );
    Ok(())
}

/// A line for each hour of an airline, and for each flight that was late.
fn write(hours: DataStream<Hour>, late: DataStream<Departure>, out: &Path) {
    let hour = |(carrier, start, delays): &Hour, line: &mut String| {
        let (start, Delays { n_flights, minutes }) = (format_minute(*start), delays);
        write!(line, "{carrier},{start},{n_flights},{minutes}")
    };
    let flight = |departure: &Departure, line: &mut String| {
        let Departure { carrier, sched_ts, delay_min, .. } = departure;
        write!(line, "{carrier},{},{delay_min}", format_minute(*sched_ts))
    };
    hours.sink(FileSink::formatted(out.join("hours"), hour)).name("hours").uid("hours");
    late.sink(FileSink::formatted(out.join("late"), flight)).name("late").uid("late");
}

/// A line for each airline, the least punctual first.
fn show(airlines: &[Airline], hours: &[Hour], late: &[Departure]) {
    let mut rows = Vec::new();
    for Airline { carrier, name } in airlines {
        let (mut total, mut n_late, mut worst) = (Delays::default(), 0, None::<&Hour>);
        for hour in hours.iter().filter(|hour| hour.0 == *carrier) {
            total.add(&hour.2);
            if hour.2.n_flights >= 5 && worst.is_none_or(|w| hour.2.mean() > w.2.mean()) {
                worst = Some(hour);
            }
        }
        for departure in late.iter().filter(|departure| departure.carrier == *carrier) {
            total.add(&Delays { n_flights: 1, minutes: departure.delay_min });
            n_late += 1;
        }
        if total.n_flights > 0 {
            rows.push((name.as_str(), total, n_late, worst));
        }
    }
    rows.sort_by(|a, b| b.1.mean().total_cmp(&a.1.mean()));
    println!("\nairline                      flights  mean delay    late   worst hour (UTC), mean");
    for (name, total, n_late, worst) in rows {
        let worst = worst.map_or(String::new(), |(_, start, delays)| {
            format!("{}  {:>4.0} min", format_minute(*start), delays.mean())
        });
        let (n, mean) = (total.n_flights, total.mean());
        println!("{name:27} {n:>8} {mean:>7.1} min  {n_late:>6}   {worst}");
    }
    println!();
}

const TRY_NEXT: &str = "\
Try next:
  cargo run --release -p millstream-examples --bin flights -- --explain     the plan of this job
  cargo run --release -p millstream-examples --bin fraud                    state and timers
  cargo run --release -p millstream-examples --bin weblog                   sessions, sliding windows
  cargo run --release -p millstream-examples --bin wordcount -- README.md   a text of your own
The program you have just run is examples/src/bin/flights.rs.";
