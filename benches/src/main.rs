//! The command line of the benchmarks; see the README of this package.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use millstream_benches::cluster::{Cluster, idle, recovery, submission, throughput};
use millstream_benches::engine::{self, Engine};
use millstream_benches::harness::{self, Contestant};
use millstream_benches::rows::{self, ROWS, Row};
use millstream_benches::workload::BenchError;
use millstream_benches::{flink, report};

/// A stream processor moves small blocks between threads; glibc's allocator is slow at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the benchmark rows by turns as hand-written loops and as Millstream jobs.
///
/// ROWS=w2,q5 in the environment chooses rows, QUICK=1 makes single short runs.
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one row once in this process and prints the figure as JSON.
    Row {
        /// The row's id.
        id: String,
        /// Who runs it.
        #[arg(long)]
        engine: Engine,
        /// Source events [default: the row's].
        #[arg(long)]
        n: Option<u64>,
        /// Subtasks of every operator.
        #[arg(long, default_value_t = 2)]
        parallelism: usize,
        /// The job manager of the cluster that is to run it.
        #[arg(long)]
        cluster: Option<String>,
    },
    /// Runs rows by turns in one process and over two task managers, then measures recovery, submission and memory.
    ///
    /// ROWS takes these, too: recovery, submission, idle.
    Cluster(Options),
    /// A job whose task managers are killed.
    #[command(hide = true)]
    RecoveryJob(Submitted),
    /// A job whose first output is waited for.
    #[command(hide = true)]
    SubmissionJob(Submitted),
    /// Runs the rows by turns by Flink and by us.
    Flink(Options),
    /// Lists the rows.
    List,
}

/// What a job is told that is measured from outside.
#[derive(Args)]
struct Submitted {
    #[arg(long)]
    cluster: String,
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Args)]
struct Options {
    /// Who runs beside the yardstick, or `loop` for the loops alone.
    #[arg(long, default_value = "both")]
    engine: Choice,
    /// Where to write the figures [default: results/TIME.json in the package].
    #[arg(long)]
    json: Option<PathBuf>,
    /// Subtasks of every operator; the loops have 2.
    #[arg(long, default_value_t = 2)]
    parallelism: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Choice {
    /// The loops, or Flink, beside Millstream.
    Both,
    /// The loops; with `flink`, beside it.
    Loop,
    /// Millstream; with `flink`, beside it.
    Millstream,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Row { id, engine, n, parallelism, cluster }) => {
            row(&id, engine, n, parallelism, cluster)
        }
        Some(Command::Cluster(options)) => on_cluster(options),
        Some(Command::RecoveryJob(job)) => recovery::job(&job.cluster, &job.dir),
        Some(Command::SubmissionJob(job)) => submission::job(&job.cluster, &job.dir),
        Some(Command::Flink(options)) => against_flink(options),
        Some(Command::List) => {
            ROWS.iter().for_each(|row| println!("{:20} {}", row.id, row.about));
            Ok(())
        }
        None => against_loops(cli.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn row(
    id: &str,
    engine: Engine,
    n: Option<u64>,
    parallelism: usize,
    cluster: Option<String>,
) -> Result<(), BenchError> {
    let row = rows::find(id)?;
    let figure = engine::run(row, engine, n.unwrap_or(row.full), parallelism, cluster)?;
    println!("{}", serde_json::to_string(&figure)?);
    Ok(())
}

fn against_loops(options: Options) -> Result<(), BenchError> {
    let engines = match options.engine {
        Choice::Both => vec![Engine::Loop, Engine::Millstream],
        Choice::Loop => vec![Engine::Loop],
        Choice::Millstream => vec![Engine::Millstream],
    };
    let rows = rows::select(&chosen_rows())?;
    require_jobs(&rows, &engines)?;
    let contestants: Vec<_> = engines
        .into_iter()
        .map(|engine| harness::contestant(engine, quick(), options.parallelism))
        .collect();
    compare(&rows, &contestants, options.json)
}

fn against_flink(options: Options) -> Result<(), BenchError> {
    let ours = match options.engine {
        Choice::Loop => Engine::Loop,
        Choice::Both | Choice::Millstream => Engine::Millstream,
    };
    let chosen = chosen_rows();
    let mut rows = rows::select(&chosen)?;
    if chosen.is_empty() {
        rows.retain(|row| row.flink.is_some());
    }
    for row in &rows {
        flink::row_of(row)?;
    }
    require_jobs(&rows, &[ours])?;
    let contestants = [
        flink::contestant(quick(), options.parallelism)?,
        harness::contestant(ours, quick(), options.parallelism),
    ];
    compare(&rows, &contestants, options.json)
}

/// What [`Command::Cluster`] measures beside rows.
const BESIDE_ROWS: [&str; 3] = ["recovery", "submission", "idle"];

fn on_cluster(options: Options) -> Result<(), BenchError> {
    let chosen = chosen_rows();
    let is_chosen = |what: &str| chosen.is_empty() || chosen.split(',').any(|id| id.trim() == what);
    let is_row = |id: &&str| !BESIDE_ROWS.contains(&id.trim());
    let ids: Vec<_> = chosen.split(',').filter(is_row).collect();
    let mut rows = rows::select(&ids.join(","))?;
    if chosen.is_empty() {
        rows.retain(|row| throughput::is_usual(row));
    } else if ids.is_empty() {
        rows.clear();
    }
    if !rows.is_empty() {
        let cluster = Cluster::start(2, options.parallelism.div_ceil(2))?;
        let contestants = [
            harness::contestant(Engine::Millstream, quick(), options.parallelism),
            throughput::contestant(&cluster, quick(), options.parallelism),
        ];
        compare(&rows, &contestants, options.json)?;
    }
    let (n_kills, n_submissions) = if quick() { (1, 1) } else { (9, 9) };
    if is_chosen("recovery") {
        let times_ms = recovery::measure(n_kills)?;
        let what = "recovery with 100 MB of state, from SIGKILL of a task manager to output";
        print!("{}", report::times_line(what, &times_ms, recovery::TARGET_MS));
    }
    if is_chosen("submission") {
        let times_ms = submission::measure(n_submissions)?;
        let what = "submission of a program that the cluster has, from its start to output";
        print!("{}", report::times_line(what, &times_ms, submission::TARGET_MS));
    }
    if is_chosen("idle") {
        print!("{}", report::idle_line(idle::measure()?));
    }
    Ok(())
}

/// Fails before anything is measured rather than in the middle.
fn require_jobs(rows: &[&Row], engines: &[Engine]) -> Result<(), BenchError> {
    rows.iter().try_for_each(|row| {
        let mut able = engines.iter().filter(|engine| engine.can_run(row));
        able.try_for_each(|engine| engine.job(row).map(drop))
    })
}

fn compare(
    rows: &[&'static Row],
    contestants: &[Contestant<'_>],
    json: Option<PathBuf>,
) -> Result<(), BenchError> {
    let runs = if quick() { 1 } else { 3 };
    let results = harness::compare(rows, contestants, runs)?;
    println!("{}", report::tables(&results));
    let path = report::write(json, quick(), &results)?;
    println!("all figures: {}", path.display());
    Ok(())
}

/// The rows that `ROWS` asks for.
fn chosen_rows() -> String {
    std::env::var("ROWS").unwrap_or_default()
}

/// Whether `QUICK` asks for single short runs.
fn quick() -> bool {
    std::env::var("QUICK").is_ok_and(|value| !value.is_empty() && value != "0")
}
