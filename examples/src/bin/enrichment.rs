//! Enrichment: each departure of a day with the airline's name and what a registry knows of the aircraft.
//!
//! What it shows: the two ways to look something up. A small table that changes now and then is *broadcast*:
//! every subtask has a copy, and departures that come before their airline wait in keyed state. A large
//! table behind a service is *asked*: many calls at a time, each with a time limit and further attempts.
//! The service is simulated; it is slow, fails now and then, and at times does not answer at all.
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin enrichment
//! cargo run --release -p millstream-examples --bin enrichment -- --data ../shared/data --parallelism 4
//! ```

use millstream::prelude::*;
use millstream_examples::input::read;
use millstream_examples::program::{data_dir, finish};
use millstream_examples::random::Random;
use millstream_examples::records::{Airline, Departure};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The end of 1 January 2013 in New York.
const END_OF_DAY: EventTime = 1_357_102_800_000;

/// A departure, and what was found out about it so far.
#[derive(Clone, Serialize, Deserialize)]
struct Flight {
    departure: Departure,
    airline: Text,
    /// When the aircraft was built, if the registry has answered.
    built: Option<u64>,
}

/// Names by code, in every subtask.
const NAMES: BroadcastState<Text, Text> = BroadcastState::new("names");
/// Departures of an airline whose name has not come.
const WAITING: ListState<Departure> = ListState::new("waiting");

fn named(departure: Departure, airline: &Text) -> Flight {
    Flight { departure, airline: airline.clone(), built: None }
}

#[derive(Clone)]
struct NameAirlines;

impl KeyedBroadcastProcessFunction<Text, Departure, Airline> for NameAirlines {
    type Out = Flight;
    const STATES: StateSet<Text> = states![WAITING];
    const BROADCAST: BroadcastSet = states![NAMES];

    fn process(
        &mut self,
        departure: Departure,
        ctx: &mut KeyedBroadcastContext<'_, Text>,
        out: &mut Collector<'_, Flight>,
    ) -> Result<()> {
        match ctx.broadcast(&NAMES).get(&departure.carrier) {
            Some(name) => out.emit(named(departure, name)),
            None => {
                ctx.state(&WAITING).push(departure);
                ctx.timers().at(MAX_TIME);
            }
        }
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        Airline { carrier, name }: Airline,
        ctx: &mut KeyedBroadcastUpdateContext<'_, Text>,
        out: &mut Collector<'_, Flight>,
    ) -> Result<()> {
        ctx.for_each_key(&WAITING, |airline| {
            if *airline.key() == carrier {
                let waiting = airline.state(&WAITING).take();
                waiting.into_iter().for_each(|departure| out.emit(named(departure, &name)));
            }
            Ok(())
        })?;
        ctx.broadcast(&NAMES).insert(carrier, name);
        Ok(())
    }

    /// Both inputs have ended: the airline is not in the table, and its code must do.
    fn on_timer(
        &mut self,
        _: Timer,
        ctx: &mut KeyedBroadcastContext<'_, Text>,
        out: &mut Collector<'_, Flight>,
    ) -> Result<()> {
        let waiting = ctx.state(&WAITING).take();
        waiting.into_iter().for_each(|departure| out.emit(named(departure, ctx.key())));
        Ok(())
    }
}

/// The registry: answers within milliseconds, fails every tenth call, and keeps silent at every hundredth.
async fn ask_registry(flight: Flight) -> Result<Flight> {
    static N_CALLS: AtomicU64 = AtomicU64::new(0);
    let mut random = Random::new(N_CALLS.fetch_add(1, Ordering::Relaxed));
    match random.below(100) {
        0 => std::future::pending().await,
        1..=10 => Err(Error::external("the registry is busy")),
        _ => {
            tokio::time::sleep(millis(1 + random.below(5))).await;
            let of_aircraft = flight.departure.tailnum.bytes().map(u64::from).sum();
            Ok(Flight { built: Some(1980 + Random::new(of_aircraft).below(33)), ..flight })
        }
    }
}

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let airlines = read::<Airline>(&env, &data_dir(&env), None, Watermarks::none());
    let named = read::<Departure>(&env, &data_dir(&env), None, Watermarks::none())
        .filter(|departure| departure.actual_ts < END_OF_DAY)
        .parallelism(1)
        .key_by_ref(|departure| &departure.carrier)
        .connect_broadcast(airlines)
        .process(NameAirlines)
        .name("name airlines")
        .uid("airlines");

    let registry = AsyncCall::new(ask_registry)
        .retry(Retry::exponential(5, millis(2), millis(50)))
        .timeout_or(millis(200), Ok)
        .unordered();
    let enriched = named.async_map(registry).name("ask registry").collect();

    let result = env.execute("enrichment")?;
    let mut flights = enriched.take();
    flights.sort_by_key(|flight| -flight.departure.delay_min);
    println!("The latest departures from New York on 1 January 2013:");
    for Flight { departure, airline, built } in flights.iter().take(10) {
        let Departure { delay_min, origin, dest, tailnum, .. } = departure;
        let built = built.map_or("?".to_string(), |year| year.to_string());
        println!("  {delay_min:>4} min  {origin} → {dest}  {airline} ({tailnum}, built {built})");
    }
    let n_unknown = flights.iter().filter(|flight| flight.built.is_none()).count();
    println!("{} departures in {:.1?}, {n_unknown} unanswered", flights.len(), result.elapsed());
    Ok(())
}
