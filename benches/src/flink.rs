//! Apache Flink as a contestant.
//!
//! The harness in `flink/` runs the same workloads on the same events in a JVM. It warms the JVM
//! up with whole jobs and leaves the first quarter of the measured run out, so its figures are
//! Flink's best; ours are whole runs from a cold start.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::harness::{Contestant, stdout_of};
use crate::measure::{Figure, Latency};
use crate::rows::{Flink, Row};
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
    Ok(Contestant { name: "flink", run: Box::new(run) })
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
    command.arg(format!("warm={warm}")).arg("runs=1");
    let output = stdout_of(&mut command)?;
    let run = parse(&output).ok_or_else(|| BenchError::Child {
        command: format!("{command:?}"),
        reason: format!("no measured run in its output: {}", output.trim()),
    })??;
    figure(row, parallelism, &run)
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
        Some(expected) if row.measures_latency => Sink { records: run.sink, ..expected },
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
    fn a_wrong_checksum_or_no_run_is_an_error() {
        let mut run = parse(OUTPUT).unwrap().unwrap();
        run.chk = "000000bb79a3bf93".into();
        assert!(figure(rows::find("w3-text").unwrap(), 2, &run).is_err());
        assert!(parse("FAILED w=w3").is_none());
    }
}
