//! Runs rows by turns and draws the ratios.
//!
//! Each run is a process of its own, so that peak memory is that of one run and no run inherits
//! the heap of the one before. Contestants take turns within a row, in the opposite order every
//! other time, and ratios are drawn between runs that lie side by side: the machine's drift then
//! hits both.

use std::process::{Command, Stdio};

use serde::Serialize;

use crate::engine::Engine;
use crate::measure::Figure;
use crate::rows::Row;
use crate::workload::BenchError;

/// Someone who can run rows.
pub struct Contestant<'a> {
    /// The name in reports.
    pub name: &'static str,
    /// Whether a row can be run at all.
    pub can_run: Box<dyn Fn(&Row) -> bool + 'a>,
    /// Runs a row once.
    pub run: Box<dyn Fn(&Row) -> Result<Figure, BenchError> + 'a>,
}

/// All runs of a row.
#[derive(Debug, Serialize)]
pub struct RowResult {
    /// The row.
    #[serde(skip)]
    pub row: &'static Row,
    /// The contestants.
    pub engines: Vec<&'static str>,
    /// For each time the row was run, a figure of each contestant, in their order.
    pub runs: Vec<Vec<Figure>>,
}

impl RowResult {
    /// The median over the runs of something about a contestant.
    pub fn median(&self, contestant: usize, value: impl Fn(&Figure) -> f64) -> f64 {
        median(self.runs.iter().map(|run| value(&run[contestant])))
    }

    /// The median over the runs of the ratio of a contestant to another.
    pub fn ratio(&self, ours: usize, theirs: usize, value: impl Fn(&Figure) -> f64) -> f64 {
        median(self.runs.iter().map(|run| value(&run[ours]) / value(&run[theirs])))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs each row `runs` times by every contestant in turn; says on the error stream what is going
/// on.
///
/// # Errors
/// A run failed.
pub fn compare(
    rows: &[&'static Row],
    contestants: &[Contestant<'_>],
    runs: usize,
) -> Result<Vec<RowResult>, BenchError> {
    let mut results = Vec::new();
    for row in rows {
        let contestants: Vec<_> = contestants.iter().filter(|c| (c.can_run)(row)).collect();
        if contestants.is_empty() {
            eprintln!("{:20} is left out: nobody here can run it", row.id);
            continue;
        }
        let mut result = RowResult {
            row,
            engines: contestants.iter().map(|contestant| contestant.name).collect(),
            runs: Vec::new(),
        };
        for turn in 0..runs {
            let mut order: Vec<_> = (0..contestants.len()).collect();
            if turn % 2 == 1 {
                order.reverse();
            }
            let mut figures = Vec::new();
            for at in order {
                let figure = (contestants[at].run)(row)?;
                let rate = figure.records_per_s / 1e6;
                eprintln!("{:20} {:10} {rate:10.2} M/s", row.id, contestants[at].name);
                figures.push((at, figure));
            }
            figures.sort_by_key(|figure| figure.0);
            result.runs.push(figures.into_iter().map(|figure| figure.1).collect());
        }
        results.push(result);
    }
    Ok(results)
}

/// A contestant that runs rows in child processes of this program.
pub fn contestant<'a>(engine: Engine, quick: bool, parallelism: usize) -> Contestant<'a> {
    let run = move |row: &Row| run_child(row, engine, row.events(quick), parallelism, None);
    let can_run = move |row: &Row| engine.can_run(row);
    Contestant { name: engine.name(), can_run: Box::new(can_run), run: Box::new(run) }
}

/// Runs a row once in a process of its own, which may submit it to a cluster.
///
/// # Errors
/// The process cannot be started, or the run failed.
pub(crate) fn run_child(
    row: &Row,
    engine: Engine,
    n: u64,
    parallelism: usize,
    cluster: Option<&str>,
) -> Result<Figure, BenchError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["row", row.id, "--engine", engine.name()]);
    command.args(["--n", &n.to_string(), "--parallelism", &parallelism.to_string()]);
    if let Some(cluster) = cluster {
        command.args(["--cluster", cluster]);
    }
    let output = stdout_of(&mut command)?;
    Ok(serde_json::from_str(&output)?)
}

/// What a command prints; its error stream is ours.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn stdout_of(command: &mut Command) -> Result<String, BenchError> {
    let error = |reason: String, command: &Command| BenchError::Child {
        command: format!("{command:?}"),
        reason,
    };
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| error(e.to_string(), command))?;
    if !output.status.success() {
        return Err(error(output.status.to_string(), command));
    }
    String::from_utf8(output.stdout).map_err(|e| error(e.to_string(), command))
}
