//! Apache Flink as a contestant.
//!
//! The harness in `flink/` runs the same workloads on the same events in a JVM. It warms the JVM
//! up with whole jobs and leaves the first quarter of the measured run out, so its figures are
//! Flink's best; ours are whole runs from a cold start.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::checkpoints::Checkpoints;
use crate::harness::{Contestant, stdout_of};
use crate::measure::{Figure, Latency};
use crate::rows::{Flink, Measure, Row};
use crate::workload::{BenchError, Sink};

/// A line `RUN {…}` of the Flink harness: one measured run.
#[derive(Debug, Deserialize)]
struct Run {
    n: u64,
    win_s: f64,
    ev_s: f64,
    cpu_s: f64,
    ev_per_cpu_s: f64,
    sink: u64,
    chk: String,
    hwm_mb: f64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    max_us: Option<f64>,
}

impl Run {
    fn latency(&self) -> Option<Latency> {
        Some(Latency {
            p50_us: self.p50_us?,
            p99_us: self.p99_us?,
            p999_us: self.p999_us?,
            max_us: self.max_us?,
        })
    }
}

/// Flink as a contestant, installed on first use; rows without a Flink row are refused.
///
/// # Errors
/// Flink cannot be installed; `build.sh` has said on the error stream what is missing.
pub fn contestant<'a>(quick: bool, parallelism: usize) -> Result<Contestant<'a>, BenchError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("flink");
    let home = match std::env::var_os("PEER_HOME") {
        Some(home) => PathBuf::from(home),
        None => folder.join("work"),
    };
    if !home.join("build/classes").is_dir() {
        eprint!("{}", stdout_of(&mut Command::new(folder.join("build.sh")))?);
    }
    let run = move |row: &Row| run_once(&folder, row, quick, parallelism);
    let can_run = |row: &Row| row.flink.is_some();
    Ok(Contestant { name: "flink", can_run: Box::new(can_run), run: Box::new(run) })
}

/// How Flink runs `row`.
///
/// # Errors
/// It does not.
pub fn row_of(row: &Row) -> Result<&Flink, BenchError> {
    row.flink.as_ref().ok_or(BenchError::NoJob { row: row.id, engine: "flink" })
}

fn run_once(
    folder: &Path,
    row: &Row,
    quick: bool,
    parallelism: usize,
) -> Result<Figure, BenchError> {
    let flink = row_of(row)?;
    let (n, warm) = if quick { (flink.quick, 1) } else { (flink.full, 2) };
    let mut command = Command::new(folder.join("run.sh"));
    command.args(flink.args.split(' '));
    command.arg(format!("p={parallelism}")).arg(format!("n={n}"));
    // A run of large state is long and paced: a second one would warm nothing up that the first did not.
    let warm = if row.about_what == Measure::Checkpoints { 0 } else { warm };
    command.arg(format!("warm={warm}")).arg("runs=1");
    if row.state.interval_ms > 0 {
        command.env("KEEP", "1");
    }
    let output = stdout_of(&mut command)?;
    let checkpoints = match log_of(&output) {
        Some(log) => {
            let text = std::fs::read_to_string(&log)?;
            // What is kept for us is the whole folder of the run, its checkpoints included.
            if let Some(folder) = log.parent() {
                std::fs::remove_dir_all(folder)?;
            }
            logged_checkpoints(&text)
        }
        None => None,
    };
    let run = parse(&output).ok_or_else(|| BenchError::Child {
        command: format!("{command:?}"),
        reason: format!("no measured run in its output: {}", output.trim()),
    })??;
    Ok(Figure { checkpoints, ..figure(row, parallelism, &run)? })
}

/// The log that the harness was asked to keep.
fn log_of(output: &str) -> Option<PathBuf> {
    output.lines().find_map(|line| line.strip_prefix("LOG ")).map(PathBuf::from)
}

/// What the coordinator says of each checkpoint: `Completed checkpoint 3 for job … (1042 bytes, checkpointDuration=170 ms,
/// finalizationTime=5 ms)`. For how long a task was held up is not said.
fn logged_checkpoints(log: &str) -> Option<Checkpoints> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let said = log.lines().filter_map(|line| {
        let (_, said) = line.split_once("Completed checkpoint ")?.1.split_once('(')?;
        let (bytes, rest) = said.split_once(" bytes")?;
        let (ms, _) = rest.split_once("checkpointDuration=")?.1.split_once(" ms")?;
        Some((number(ms)?, number(bytes)?))
    });
    Checkpoints::of(said.collect(), None)
}

/// The measured run among the lines that the Flink harness prints.
fn parse(output: &str) -> Option<Result<Run, BenchError>> {
    let line = output.lines().find_map(|line| line.strip_prefix("RUN "))?;
    Some(serde_json::from_str(line).map_err(BenchError::from))
}

fn figure(row: &Row, parallelism: usize, run: &Run) -> Result<Figure, BenchError> {
    let checksum = u64::from_str_radix(&run.chk, 16)
        .map_err(|e| BenchError::Job(format!("Flink's checksum {:?}: {e}", run.chk)))?;
    // Flink's latency sink takes no checksum.
    let sink = match row.expected(run.n) {
        Some(expected) if row.about_what == Measure::Latency => {
            Sink { records: run.sink, ..expected }
        }
        _ => Sink { records: run.sink, checksum },
    };
    let checked = row.check("flink", run.n, sink)?;
    let records = row.records(run.n, run.sink);
    let per_event = records as f64 / run.n as f64;
    Ok(Figure {
        row: row.id.into(),
        engine: "flink".into(),
        n: run.n,
        parallelism,
        records,
        sink_records: run.sink,
        checksum: run.chk.clone(),
        checked,
        records_per_s: run.ev_s * per_event,
        records_per_cpu_s: run.ev_per_cpu_s * per_event,
        wall_s: run.win_s,
        cpu_s: run.cpu_s,
        peak_mib: run.hwm_mb,
        latency: run.latency(),
        sleep_control: None,
        checkpoints: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;

    const OUTPUT: &str = r#"WARNING: something
RUN {"w":"w3","args":"w=w3","n":900000,"win_s":1.5,"ev_s":450000,"cpu_s":3.0,"ev_per_cpu_s":225000,"gc_ms":3,"first_to_end_s":2.0,"full_ev_s":400000,"sink":9986625,"chk":"000000bb79a3bf92","hwm_mb":900}
MED {"args":"w=w3","ev_s":450000,"ev_per_cpu_s":225000,"hwm_mb":900}
"#;

    #[test]
    fn the_measured_run_becomes_a_figure_in_words() {
        let run = parse(OUTPUT).unwrap().unwrap();
        let figure = figure(rows::find("w3-text").unwrap(), 2, &run).unwrap();
        assert!(figure.checked);
        assert_eq!(figure.records, 9_986_625);
        assert!((figure.records_per_s - 450_000.0 * 9_986_625.0 / 900_000.0).abs() < 1.0);
        assert_eq!(figure.peak_mib, 900.0);
        assert!(figure.latency.is_none());
    }

    #[test]
    fn checkpoints_are_read_from_the_log() {
        let log = "12:00:00,123 INFO  CheckpointCoordinator [] - Triggering checkpoint 1\n\
                   12:00:00,293 INFO  CheckpointCoordinator [] - Completed checkpoint 1 for job a0 (17000000 bytes, \
                   checkpointDuration=170 ms, finalizationTime=5 ms).\n\
                   12:00:05,293 INFO  CheckpointCoordinator [] - Completed checkpoint 2 for job a0 (16000000 bytes, \
                   checkpointDuration=90 ms, finalizationTime=5 ms).\n";
        let checkpoints = logged_checkpoints(log).unwrap();
        assert_eq!((checkpoints.n, checkpoints.max_ms), (2, 170.0));
        assert_eq!(checkpoints.max_bytes, 17e6);
        assert!(logged_checkpoints("Completed checkpoint of nothing").is_none());
        assert_eq!(log_of("RUN {}\nLOG /a/b.log\n"), Some(PathBuf::from("/a/b.log")));
    }

    #[test]
    fn a_wrong_checksum_or_no_run_is_an_error() {
        let mut run = parse(OUTPUT).unwrap().unwrap();
        run.chk = "000000bb79a3bf93".into();
        assert!(figure(rows::find("w3-text").unwrap(), 2, &run).is_err());
        assert!(parse("FAILED w=w3").is_none());
    }
}
