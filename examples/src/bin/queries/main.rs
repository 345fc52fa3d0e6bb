//! The queries O1 to O9 and B1 to B4 over the data sets of `examples/data` and of the full set: one job each.
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin queries -- O1 --data examples/data --out out --parallelism 2
//! ```
//!
//! Each query is a function in a file of its own and says what it computes. Results go to
//! `OUT/<name>/part-*`, a row a line. They are the same at every parallelism, and also when the process is killed
//! and started again with what it was started with, as often as it takes (at any parallelism each time):
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin queries -- O1 --data examples/data --out out --rate 5000 \
//!     --checkpoint-dir checkpoints --checkpoint-interval 200ms --restore latest
//! ```

mod alerts;
mod carriers;
mod destinations;
mod edits;
mod hosts;
mod origins;
mod run;
mod statuses;
mod totals;
mod turnaround;
mod urls;
mod weather;
mod words;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use millstream::prelude::*;
use millstream_examples::program::{arguments, finish, is_explaining};
use run::{Run, clear};
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Query {
    id: &'static str,
    /// The folders its results go to.
    results: &'static [&'static str],
    build: fn(&Run),
}

const QUERIES: [Query; 13] = [
    Query { id: "O1", results: &[carriers::RESULT], build: carriers::build },
    Query { id: "O2", results: &[origins::HOURS, origins::LATE_ROWS], build: origins::build },
    Query { id: "O3", results: &[turnaround::RESULT], build: turnaround::build },
    Query { id: "O4", results: &[hosts::RESULT], build: hosts::build },
    Query { id: "O5", results: &[urls::RESULT], build: urls::build },
    Query { id: "O6", results: &[words::COUNTS], build: words::build_counts },
    Query { id: "O7", results: &[edits::RESULT], build: edits::build },
    Query { id: "O8", results: &[destinations::RESULT], build: destinations::build },
    Query { id: "O9", results: &[statuses::HOURS, statuses::LATE_ROWS], build: statuses::build },
    Query {
        id: "B1",
        results: &[origins::FIRINGS, origins::DROPPED],
        build: origins::build_firings,
    },
    Query { id: "B2", results: &[weather::RESULT], build: weather::build },
    Query { id: "B3", results: &[alerts::RESULT], build: alerts::build },
    Query { id: "B4", results: &[words::WINDOWS], build: words::build_windows },
];

/// Runs a query over the data sets
#[derive(Parser)]
struct Arguments {
    /// Which query
    #[arg(value_parser = PossibleValuesParser::new(QUERIES.map(|query| query.id)))]
    query: String,
    /// The folder of the data sets
    #[arg(long)]
    data: PathBuf,
    /// The folder for the results: new, or empty
    #[arg(long)]
    out: PathBuf,
    /// Reads at most so many events a second from each stream
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Removes the results of earlier runs from the folder first
    #[arg(long)]
    overwrite: bool,
}

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let Arguments { query, data, out, rate, overwrite } = arguments(&env);
    let query = QUERIES.into_iter().find(|q| q.id == query).expect("clap knows the queries");
    // What a run that is gone on with has written is its output too; the sinks know what of it counts.
    // On a cluster every host comes by here, also one that replaces another in mid-job.
    if !is_explaining() && !env.is_restoring() {
        let results = QUERIES.iter().flat_map(|query| query.results);
        env.once("the output folder is empty", || clear(&out, results.copied(), overwrite))?;
    }
    (query.build)(&Run { env: env.clone(), data, out, rate });
    env.execute(query.id)?;
    Ok(())
}
