//! Web log: how long people stay on a site, and which page is asked for most at the moment.
//!
//! What it shows: one stream read twice, by different windows. A visit is a *session* of a host: requests
//! with less than half an hour between two. The most requested pages come from *sliding* windows in two
//! steps, which count in parallel by page and then compare by window. Without `--data` the log is generated.
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin weblog
//! cargo run --release -p millstream-examples --bin weblog -- --data ../shared/data --parallelism 2
//! cargo run --release -p millstream-examples --bin weblog -- --explain
//! ```

use clap::Parser;
use millstream::prelude::*;
use millstream_examples::clock::format_minute;
use millstream_examples::input::read;
use millstream_examples::program::{arguments, finish};
use millstream_examples::random::Random;
use millstream_examples::records::Hit;
use std::cmp::Reverse;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A visitor who asks for nothing for so long has left.
const GAP_MINUTES: u64 = 30;

/// Shows visits and most requested pages of a web site
#[derive(Parser)]
struct Arguments {
    /// The folder of the data, with nasa-http in it; without it the log is generated
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Request `i`: about three a second; a host comes for up to an hour, and pages have their fashions.
fn request(i: u64) -> Hit {
    const PAGES: [&str; 7] = ["/", "/news", "/search", "/shop", "/cart", "/help", "/about"];
    let mut random = Random::new(i);
    let hour = i / 10_800;
    let (a, b) = (random.below(PAGES.len() as u64), random.below(PAGES.len() as u64));
    let page = (a.min(b) + hour) % PAGES.len() as u64;
    Hit {
        host: format!("10.0.{hour}.{}", random.below(250)).into(),
        ts: 1_700_000_000_000 + i as EventTime * 333,
        url: PAGES[page as usize].into(),
        status: if random.below(50) == 0 { 404 } else { 200 },
        bytes: 1_000 + random.below(50_000),
    }
}

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let times = Watermarks::monotonous().on(|hit: &Hit| hit.ts);
    let hits = match arguments::<Arguments>(&env).data {
        Some(data) => read(&env, &data, None, times),
        None => env.source(Generator::new(100_000, request), times).name("requests").parallelism(1),
    };

    let visits = hits
        .clone()
        .key_by_ref(|hit| &hit.host)
        .window(Session::gap(mins(GAP_MINUTES)))
        .count()
        .name("visits")
        .uid("visits")
        .collect();
    let pages = hits
        .key_by_ref(|hit| &hit.url)
        .window(Sliding::of(hours(1), mins(10)))
        .count()
        .name("requests of a page")
        .uid("page-counts")
        .key_by(|(_, window, _)| *window)
        .window(Tumbling::of(mins(10)))
        .max_by(|(page, _, n)| (*n, Reverse(page.clone())))
        .name("most requested page")
        .uid("most-requested")
        .collect();

    let result = env.execute("web log")?;
    let (mut visits, mut pages) = (visits.take(), pages.take());
    println!("The longest visits:");
    visits.sort_by_key(|(host, window, _)| (window.start - window.end, host.clone()));
    for (host, window, n) in visits.iter().take(8) {
        let minutes = (window.end - window.start) / 60_000 - GAP_MINUTES as i64;
        println!("  {minutes:>4} min from {}, {n} requests by {host}", format_minute(window.start));
    }
    println!("The most requested page of the hour before, whenever it changed:");
    pages.sort_by_key(|(_, window, _)| *window);
    pages.dedup_by(|later, earlier| later.0 == earlier.0);
    for (page, window, n) in pages.iter().take(12) {
        println!("  {}  {page} with {n} requests", format_minute(window.end));
    }
    println!("{} requests, {} visits in {:.1?}", result.records(), visits.len(), result.elapsed());
    Ok(())
}
