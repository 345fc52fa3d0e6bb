//! The loops give the right results, and the right results are right.
//!
//! Most expected results were measured with the Flink harness. Those at other event counts, and of
//! rows that Flink does not run, are confirmed here by models: each a few lines that follow the
//! definition of the row, on one thread, with nothing of the loops in them. A debug build checks
//! the smallest event count of each row, an optimised one (`--profile bench`) all of them.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write;

use millstream_benches::loops;
use millstream_benches::nexmark::{Bid, Event, Generator};
use millstream_benches::prng::{mix64, rnd};
use millstream_benches::rows::{self, Measure, ROWS, Row};
use millstream_benches::text::{self, Text};
use millstream_benches::workload::{Setup, Sink};

/// The row's loop over `n` events; `None` if it needs a text that is not there.
fn run_loop(row: &Row, n: u64) -> Option<Sink> {
    let text = match row.reads_text {
        true => Some(load_text()?),
        false => None,
    };
    let job = loops::job(row.id).expect("every row has a loop");
    let outcome = job(&Setup { n, parallelism: loops::THREADS, text, ..Setup::default() })
        .expect("the loop runs");
    Some(outcome.sink)
}

/// W3's text. Who names or requires the data must have them; others are told what was left out.
fn load_text() -> Option<Text> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let required = is_set("MILLSTREAM_DATA") || is_set("MILLSTREAM_REQUIRE_DATA");
    if required || text::path().exists() {
        return Some(Text::load().expect("the text of W3 is complete"));
    }
    None
}

/// Reports a row that was left out, to the reader and to the summary of `make test`.
fn skip(row: &Row) {
    let line = format!("benches {}\t{} is missing", row.id, text::path().display());
    eprintln!("skipped {line}");
    if let Some(list) = std::env::var_os("MILLSTREAM_SKIPPED") {
        let list = OpenOptions::new().append(true).create(true).open(list);
        writeln!(list.expect("the list of skipped cases opens"), "{line}").expect("and takes it");
    }
}

/// The event counts to check: in a debug build only the smallest.
fn counts(row: &Row) -> impl Iterator<Item = u64> {
    row.known_counts().take(if cfg!(debug_assertions) { 1 } else { usize::MAX })
}

#[test]
fn loops_give_the_expected_results() {
    for row in ROWS.iter().filter(|row| row.about_what == Measure::Throughput) {
        for n in counts(row) {
            match run_loop(row, n) {
                Some(sink) => assert!(row.check("loop", n, sink).expect("the result is right")),
                None => skip(row),
            }
        }
    }
}

fn bids(n: u64) -> impl Iterator<Item = Bid> {
    let generator = Generator::new();
    (0..n).filter_map(move |i| match generator.event(i) {
        Event::Bid(bid) => Some(bid),
        _ => None,
    })
}

fn sink(values: impl IntoIterator<Item = u64>) -> Sink {
    let mut sink = Sink::default();
    values.into_iter().for_each(|value| sink.add(value));
    sink
}

fn increments(n: u64) -> Sink {
    sink((0..n).map(|i| rnd(1, i).wrapping_add(1)))
}

fn running_counts(n: u64, keys: u64) -> Sink {
    let mut counts = vec![0u64; keys as usize];
    sink((0..n).map(|i| {
        let key = rnd(1, i) % keys;
        counts[key as usize] += 1;
        mix64(key ^ (counts[key as usize] << 32))
    }))
}

/// The keys of W6: all of them in order, then any.
fn filled_keys(n: u64, keys: u64) -> Sink {
    sink((0..n).map(|i| if i < keys { i } else { rnd(1, i) % keys }))
}

/// Every window end at which a window of `window_ms` that slides by `slide_ms` holds `ts`.
fn window_ends(ts: i64, window_ms: i64, slide_ms: i64) -> impl Iterator<Item = i64> {
    let first = ts - ts.rem_euclid(slide_ms) + slide_ms;
    (0..window_ms / slide_ms).map(move |i| first + i * slide_ms)
}

fn hot_items(n: u64) -> Sink {
    let mut counts = HashMap::<(i64, u64), u64>::new();
    for bid in bids(n) {
        for end in window_ends(bid.ts, 10_000, 2_000) {
            *counts.entry((end, bid.auction)).or_default() += 1;
        }
    }
    let mut winners = BTreeMap::<i64, (u64, u64)>::new();
    for ((end, auction), count) in counts {
        let winner = winners.entry(end).or_insert((count, auction));
        if count > winner.0 || count == winner.0 && auction < winner.1 {
            *winner = (count, auction);
        }
    }
    sink(
        winners
            .into_iter()
            .map(|(end, (count, auction))| mix64(end as u64 ^ mix64(auction) ^ count)),
    )
}

/// Bids per key (auction mod 64) in every window of an hour that slides by `slide_ms`.
fn bids_per_hour(n: u64, slide_ms: i64) -> Sink {
    let mut seconds = BTreeMap::<(u64, i64), u64>::new();
    for bid in bids(n) {
        *seconds.entry((bid.auction % 64, bid.ts / 1000)).or_default() += 1;
    }
    let mut counts = HashMap::<(u64, i64), u64>::new();
    for ((key, second), count) in seconds {
        for end in window_ends(second * 1000, 3_600_000, slide_ms) {
            *counts.entry((key, end)).or_default() += count;
        }
    }
    sink(counts.into_iter().map(|((key, end), count)| mix64(end as u64 ^ mix64(key) ^ count)))
}

fn model(row: &Row) -> Option<fn(u64) -> Sink> {
    Some(match row.id {
        "w1-chain" | "w1-rebalance" => increments,
        "w6-100m" => |n| filled_keys(n, 200_000),
        "w6-1g" => |n| filled_keys(n, 2_000_000),
        "w6-4g" => |n| filled_keys(n, 8_000_000),
        id if id.starts_with("w2-100k") || id.starts_with("w5") => |n| running_counts(n, 100_000),
        id if id.starts_with("w2-10m") => |n| running_counts(n, 10_000_000),
        "q5" => hot_items,
        "hour-tumbling" => |n| bids_per_hour(n, 3_600_000),
        "hour-sliding" => |n| bids_per_hour(n, 1_000),
        _ => return None,
    })
}

#[test]
fn expected_results_are_those_of_the_models() {
    for row in ROWS {
        let Some(model) = model(row) else { continue };
        for n in counts(row) {
            assert_eq!(row.expected(n), Some(model(n)), "{} at {n}", row.id);
        }
    }
}

/// Inputs shorter than a batch, an odd number of events, fewer events than threads.
#[test]
fn loops_agree_with_the_models_on_short_inputs() {
    for row in ROWS {
        let Some(model) = model(row) else { continue };
        for n in [0, 1, 2, 777, 20_001] {
            if row.about_what == Measure::Checkpoints
                || row.about_what == Measure::Latency && n > 1000
            {
                continue;
            }
            assert_eq!(run_loop(row, n), Some(model(n)), "{} at {n}", row.id);
        }
    }
}

#[test]
fn paced_loops_measure_every_event_after_the_warm_up() {
    let row = rows::find("w5-100k").unwrap();
    let job = loops::job(row.id).unwrap();
    let setup = Setup { n: 4_000, parallelism: loops::THREADS, ..Setup::default() };
    let outcome = job(&setup).unwrap();
    assert_eq!(outcome.latency_ns.map(|latencies| latencies.len()), Some(3_000));
}
