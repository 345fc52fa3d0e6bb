//! `make crash N=20`: kills the queries, N runs in all; cuts their power, N more, and that of a job manager, N / 4; and then lets
//! them die at every failpoint.
//!
//! Every run is told by a number, its seed; `make crash N=1 SEED=…` does one again. Over the full data set where there is
//! one (see `data`), else over the repository's sample. A failpoint that nothing ever reaches would be one that is
//! not tested, so those are named. What came of it all is a row in `SOAK.md`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream::state::failpoint;
use millstream_tests::crash::{BACKENDS, Case, Outcome};
use millstream_tests::data::{data_dir, sample_dir};
use millstream_tests::power_cut::ledger;
use millstream_tests::queries::{QUERIES, Query, SAMPLE};
use millstream_tests::soak::{Kind, exit_code, number};

/// How long a query has to be to be killed several times while checkpoints are taken five times a second.
const MILLIS: u64 = 3000;
/// And to pass failpoints several times.
const MILLIS_TO_A_FAILPOINT: u64 = 1200;

/// How often a failpoint is tried to be reached, on different queries and backends; half of it, if it is reached.
const N_ATTEMPTS: u64 = 6;

const TABLE: Kind = Kind {
    heading: "Killed queries (`make crash`)",
    columns: &["what", "runs", "deaths", "seeds", "violations"],
};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.is_empty());
    let mut number = |default| number(arguments.next(), default);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let done = number(20).and_then(|n_runs| Ok((n_runs, number(now)?)));
    exit_code(done.and_then(|(n_runs, seed)| soak(n_runs, seed)))
}

/// What there is to be run: these queries, and then two jobs with a log between them.
struct Cases {
    queries: Vec<&'static Query>,
    data: PathBuf,
    is_full: bool,
}

impl Cases {
    fn find() -> Cases {
        match data_dir() {
            Some(data) => Cases { queries: QUERIES.iter().collect(), data, is_full: true },
            None => Cases::sample(),
        }
    }

    fn sample() -> Cases {
        let queries = SAMPLE.map(Query::of).into();
        Cases { queries, data: sample_dir(), is_full: false }
    }

    fn case(&self, seed: u64, millis: u64) -> Result<Case, String> {
        let Some(query) = self.queries.get((seed % (self.queries.len() as u64 + 1)) as usize)
        else {
            return Ok(Case::relay(millis, None));
        };
        let expected =
            if self.is_full { query.expected_dir(&self.data) } else { self.data.join("expected") };
        Case::new(query, &self.data, Path::new(&expected), millis)
    }
}

/// Runs it all; how many violations there were.
fn soak(n_runs: u64, seed: u64) -> Result<usize, String> {
    let cases = Cases::find();
    let data = if cases.is_full { "full data" } else { "sample" };
    println!("{n_runs} runs over the {data}, seeds from {seed} (SEED={seed} does the same again)");
    let what =
        format!("{} queries and a log, {data}, {}", cases.queries.len(), BACKENDS.join(" and "));
    let mut n_violations =
        row(&what, n_runs, seed, |seed| Ok(cases.case(seed, MILLIS)?.killed(seed)))?;
    let cut_off = |seed| Ok(cases.case(seed, MILLIS)?.cut_off(seed));
    n_violations += row(&format!("power cuts: {what}"), n_runs, seed, cut_off)?;
    // Each is of three leaders, and some sixty cuts.
    let what = "power cuts: a job manager and its clients";
    n_violations += row(what, n_runs.div_ceil(4), seed, |seed| Ok(ledger::cut_off(seed)))?;

    let mut aborted = Tally::default();
    let mut missed = Vec::new();
    let sample = Cases::sample();
    let mut next = seed..;
    for name in failpoint::NAMES {
        let mut reached = false;
        for (attempt, seed) in (0..N_ATTEMPTS).zip(&mut next) {
            if attempt >= N_ATTEMPTS / 2 && reached {
                break;
            }
            // The first time it is passed, with and without something to come back from; then somewhere in between.
            let (n, killed) = (if attempt < 2 { 1 } else { 2 + seed % 5 }, attempt % 2 == 1);
            let case = match name.starts_with("log.") {
                true => Case::relay(MILLIS_TO_A_FAILPOINT, None),
                false => sample.case(seed, MILLIS_TO_A_FAILPOINT)?,
            };
            let outcome = case.aborted(seed, name, n, killed);
            println!("seed {seed}: {outcome}");
            reached |= outcome.reached;
            aborted.count(&outcome);
        }
        if !reached {
            missed.push(*name);
        }
    }
    let mut what = format!("dying at {} failpoints", failpoint::NAMES.len() - missed.len());
    if !missed.is_empty() {
        what += &format!(", never reached: {}", missed.join(", "));
        println!("never reached: {}", missed.join(", "));
    }
    let last = next.start - 1;
    aborted.add(&what, &format!("{seed}..={last}"))?;
    Ok(n_violations + aborted.n_violations)
}

/// So many runs, and a row of what came of them; how many violations there were.
fn row(
    what: &str,
    n_runs: u64,
    first_seed: u64,
    run: impl Fn(u64) -> Result<Outcome, String>,
) -> Result<usize, String> {
    let mut tally = Tally::default();
    for (n, seed) in (1..=n_runs).zip(first_seed..) {
        let outcome = run(seed)?;
        println!("{n} of {n_runs}, seed {seed}: {outcome}");
        tally.count(&outcome);
    }
    let last = (first_seed + n_runs).saturating_sub(1);
    tally.add(what, &format!("{first_seed}..={last}"))?;
    Ok(tally.n_violations)
}

#[derive(Default)]
struct Tally {
    n_runs: usize,
    n_deaths: u64,
    n_violations: usize,
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        self.n_runs += 1;
        self.n_deaths += outcome.n_kills;
        self.n_violations += usize::from(outcome.violation.is_some());
    }

    fn add(&self, what: &str, seeds: &str) -> Result<(), String> {
        if self.n_runs == 0 {
            return Ok(());
        }
        let Tally { n_runs, n_deaths, n_violations } = self;
        let cells =
            [what, &n_runs.to_string(), &n_deaths.to_string(), seeds, &n_violations.to_string()];
        let path = TABLE.add(&cells.map(str::to_owned)).map_err(|e| format!("SOAK.md: {e}"))?;
        println!(
            "{n_runs} runs, {n_deaths} deaths, {n_violations} violations: see {}",
            path.display()
        );
        Ok(())
    }
}
