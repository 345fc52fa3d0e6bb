//! Web log: how long visitors stay, and which pages are asked for most right now.
//!
//! What it shows: one stream read twice (`clone`), session windows per host, a sliding window per page, and a second
//! window over the results of the first that ranks them.
//!
//! The repository's sample has no web log: give the folder of one (`nasa-http/nasa_19950801.tsv.gz` in it).
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin weblog -- --data ../shared/data
//! cargo run --release -p millstream-examples --bin weblog -- --data ../shared/data --explain
//! ```

use millstream::prelude::*;
use millstream_examples::clock::format_minute;
use millstream_examples::input::read;
use millstream_examples::program::{data_dir, finish};
use millstream_examples::records::Hit;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A visitor who asks for nothing for so long has left.
const GAP_MINUTES: u64 = 30;

/// Host, begin, end, requests.
type Visit = (Text, EventTime, EventTime, u64);

/// End of the window, page, requests.
type Ranked = (EventTime, Text, u64);

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let data = data_dir(&env);
    let hits = read::<Hit>(&env, &data, None, Watermarks::monotonous().on(|h: &Hit| h.ts));

    let visits = hits
        .clone()
        .key_by_ref(|hit| &hit.host)
        .window(Session::gap(mins(GAP_MINUTES)))
        .aggregate_with(Count, |host, n, ctx, out| {
            out.emit((host.clone(), ctx.window().start, ctx.window().end, *n));
            Ok(())
        })
        .name("visits")
        .uid("visits")
        .collect();

    let busiest = hits
        .key_by_ref(|hit| &hit.url)
        .window(Sliding::of(mins(60), mins(10)))
        .aggregate_with(Count, |url, n, ctx, out| {
            out.emit((ctx.window().end, url.clone(), *n));
            Ok(())
        })
        .name("requests per page")
        .uid("requests per page")
        .window_all(Tumbling::of(mins(10)))
        .max_by(|(_, url, n): &Ranked| (*n, std::cmp::Reverse(url.clone())))
        .name("busiest page")
        .uid("busiest page")
        .collect();

    let job = env.execute("web log")?;
    report(&visits.take(), busiest.take());
    println!("\n{} requests in {:.2} s.", job.records(), job.elapsed().as_secs_f64());
    Ok(())
}

fn report(visits: &[Visit], mut busiest: Vec<Ranked>) {
    busiest.sort();
    println!("{:<18} {:>8}  busiest page of the hour before", "until (UTC)", "requests");
    for (end, url, n) in busiest.iter().rev().step_by(6).take(12) {
        println!("{:<18} {n:>8}  {url}", format_minute(*end));
    }
    let mut longest: Vec<_> = visits.iter().collect();
    longest.sort_by_key(|(host, start, end, _)| (std::cmp::Reverse(end - start), host.clone()));
    println!("\n{} visits; the longest:", visits.len());
    for (host, start, end, n) in longest.iter().take(5) {
        let minutes = (end - start) / 60_000 - GAP_MINUTES as i64;
        println!("{minutes:>5} min {n:>6} requests  {host}");
    }
}

fn main() -> ExitCode {
    finish(run())
}
