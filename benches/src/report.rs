//! The tables that a reader sees, and the JSON beside them.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::checkpoints::{Checkpoints, Holds};
use crate::cluster;
use crate::harness::RowResult;
use crate::measure::{Figure, Latency};
use crate::rows::{MEMORY_TARGET, Measure, Target};
use crate::workload::BenchError;

/// What is written as JSON: every figure of every run.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// Seconds since the epoch.
    pub unix_time: u64,
    /// Where the figures were taken.
    pub machine: Machine,
    /// Whether the runs were short.
    pub quick: bool,
    /// The rows.
    pub rows: &'a [RowResult],
}

/// Where figures were taken.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: name.map_or("unknown", |name| name.1).into(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Writes the figures as JSON: to `path`, or to `results/<seconds since the epoch>.json` in the
/// package. Answers where they are.
///
/// # Errors
/// The file cannot be written.
pub fn write(
    path: Option<PathBuf>,
    quick: bool,
    rows: &[RowResult],
) -> Result<PathBuf, BenchError> {
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let path = path.unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("results/{unix_time}.json"))
    });
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let report = Report { unix_time, machine: Machine::this(), quick, rows };
    std::fs::write(&path, serde_json::to_vec_pretty(&report)?)?;
    Ok(path)
}

/// The tables of a comparison; with two contestants, the second is drawn against the first.
pub fn tables(results: &[RowResult]) -> String {
    let of = |measure| -> Vec<&RowResult> {
        results.iter().filter(|result| result.row.about_what == measure).collect()
    };
    let (throughput, latency) = (of(Measure::Throughput), of(Measure::Latency));
    let mut text = String::new();
    if !throughput.is_empty() {
        text += &throughput_table(&throughput);
        text +=
            "M/s: million records per second (words for w3); M/cpu-s: per second of CPU time.\n";
    }
    for line in hour_lines(&throughput).into_iter().chain(cost_lines(&throughput)) {
        text += &line;
    }
    if !latency.is_empty() {
        text += "\n";
        text += &latency_table(&latency);
        text +=
            "sleep: a thread beside the run that only sleeps; what it suffers is the machine's.\n";
    }
    let checkpoints: Vec<_> = results.iter().filter(|result| takes_checkpoints(result)).collect();
    if !checkpoints.is_empty() {
        text += "\n";
        text += &checkpoint_table(&checkpoints);
        text += "ms: from the barrier to the manifest; held: for how long a checkpoint held up the task that it held up longest,\n\
                 once for each barrier and for each slice of state that was written.\n";
    }
    text
}

fn takes_checkpoints(result: &RowResult) -> bool {
    result.runs.iter().flatten().any(|figure| figure.checkpoints.is_some())
}

fn checkpoint_table(results: &[&RowResult]) -> String {
    let head = ["row", "engine", "checkpoints", "MiB", "median ms", "max ms"];
    let mut head: Vec<_> = head.map(str::to_owned).into();
    head.extend(
        ["held p50 µs", "held p99 µs", "held max µs", "peak MiB", "target"].map(Into::into),
    );
    let mut table = Table::new(head);
    for result in results {
        for (at, engine) in result.engines.iter().enumerate() {
            let of = |value: fn(&Checkpoints) -> f64| {
                result.median(at, |f| f.checkpoints.as_ref().map_or(f64::NAN, value))
            };
            let held = |value: fn(&Holds) -> f64| {
                result.median(at, |f| {
                    f.checkpoints.and_then(|c| c.holds).as_ref().map_or(f64::NAN, value)
                })
            };
            if of(|c| c.n as f64).is_nan() {
                continue;
            }
            let held = [held(|h| h.p50_us), held(|h| h.p99_us), held(|h| h.max_us)];
            let mut line = vec![result.row.id.to_owned(), (*engine).to_owned()];
            line.extend([of(|c| c.n as f64), of(|c| c.max_bytes / 1048576.0)].map(digits));
            line.extend([of(|c| c.median_ms), of(|c| c.max_ms)].map(digits));
            line.extend(held.map(digits));
            line.push(digits(result.median(at, |f| f.peak_mib)));
            let target = result.row.flink.as_ref().map(|flink| flink.target);
            line.push(match target {
                Some(Target::Checkpoints { held_max_us }) if *engine == "millstream" => {
                    let stall = format!("held ≤ {held_max_us} {}", verdict(held[2] <= held_max_us));
                    if result.engines[0] == "flink" {
                        let times = |f: &Figure| f.checkpoints.map_or(f64::NAN, |c| c.median_ms);
                        let met = result.ratio(at, 0, times) <= 1.0;
                        format!("{stall}, ms ≤ flink's {}", verdict(met))
                    } else {
                        stall
                    }
                }
                _ => String::new(),
            });
            table.lines.push(line);
        }
    }
    table.to_string()
}

/// What checkpoints cost, for the rows whose plain row was run too.
fn cost_lines(results: &[&RowResult]) -> Vec<String> {
    let cost = |result: &&RowResult| {
        let (id, most) = result.row.plain?;
        let plain = results.iter().find(|other| other.row.id == id)?;
        let at = result.engines.iter().position(|engine| *engine == "millstream")?;
        let rate = |f: &Figure| f.records_per_s;
        let lost = 1.0 - result.median(at, rate) / plain.median(at, rate);
        let target = match most {
            most if most < 1.0 => format!(" (≤ {:.0} % {})", most * 100.0, verdict(lost <= most)),
            _ => String::new(),
        };
        Some(format!("{}: loses {:.1} % of {id}{target}\n", result.row.id, lost * 100.0))
    };
    results.iter().filter_map(cost).collect()
}

fn throughput_table(results: &[&RowResult]) -> String {
    let engines = &results[0].engines;
    let pair = engines.len() == 2;
    let against_flink = engines[0] == "flink";
    let mut head = vec!["row".to_owned()];
    for unit in ["M/s", "M/cpu-s", "MiB"] {
        head.extend(engines.iter().map(|engine| format!("{engine} {unit}")));
        if pair {
            head.push("ratio".into());
        }
    }
    let on_cluster = pair && engines[1] == cluster::throughput::NAME;
    if against_flink {
        head.extend(["target".into(), "memory".into()]);
    } else if on_cluster {
        head.push("target".into());
    }
    let mut table = Table::new(head);
    for result in results {
        let mut line = vec![result.row.id.to_owned()];
        let metrics: [(fn(&Figure) -> f64, f64); 3] =
            [(|f| f.records_per_s, 1e6), (|f| f.records_per_cpu_s, 1e6), (|f| f.peak_mib, 1.0)];
        for (metric, unit) in metrics {
            for engine in 0..engines.len() {
                line.push(digits(result.median(engine, metric) / unit));
            }
            if pair {
                line.push(digits(result.ratio(1, 0, metric)));
            }
        }
        if against_flink {
            let target = match result.row.flink.as_ref().map(|flink| flink.target) {
                Some(Target::Throughput(times)) => {
                    let met = result.ratio(1, 0, |f| f.records_per_s) >= times;
                    format!("≥ {times} {}", verdict(met))
                }
                _ => String::new(),
            };
            let met = result.ratio(1, 0, |f| f.peak_mib) <= MEMORY_TARGET;
            line.extend([target, format!("≤ {MEMORY_TARGET} {}", verdict(met))]);
        } else if on_cluster {
            line.push(cluster::throughput::target(result.row).map_or(String::new(), |least| {
                let met = result.ratio(1, 0, |f| f.records_per_s) >= least;
                format!("≥ {least} {}", verdict(met))
            }));
        }
        table.lines.push(line);
    }
    table.to_string()
}

fn latency_table(results: &[&RowResult]) -> String {
    let head = ["row", "engine", "p50 µs", "p99 µs", "p99.9 µs", "max µs", "M/cpu-s", "MiB"];
    let mut head: Vec<_> = head.map(str::to_owned).into();
    head.extend(["sleep p50", "sleep p99", "sleep p99.9", "sleep max", "target"].map(Into::into));
    let mut table = Table::new(head);
    let quantiles: [fn(&Latency) -> f64; 4] =
        [|l| l.p50_us, |l| l.p99_us, |l| l.p999_us, |l| l.max_us];
    for result in results {
        for (at, engine) in result.engines.iter().enumerate() {
            let of = |latency: Option<Latency>, quantile: fn(&Latency) -> f64| {
                latency.as_ref().map_or(f64::NAN, quantile)
            };
            let own = quantiles.map(|q| result.median(at, |f| of(f.latency, q)));
            let sleep = quantiles.map(|q| result.median(at, |f| of(f.sleep_control, q)));
            let mut line = vec![result.row.id.to_owned(), (*engine).to_owned()];
            line.extend(own.map(digits));
            line.push(digits(result.median(at, |f| f.records_per_cpu_s) / 1e6));
            line.push(digits(result.median(at, |f| f.peak_mib)));
            line.extend(sleep.map(digits));
            let target = result.row.flink.as_ref().map(|flink| flink.target);
            line.push(match target {
                Some(Target::Latency { p50_us, p99_us }) if *engine == "millstream" => {
                    let met = own[0] <= p50_us && own[1] <= p99_us;
                    format!("p50 ≤ {p50_us}, p99 ≤ {p99_us} {}", verdict(met))
                }
                _ => String::new(),
            });
            table.lines.push(line);
        }
    }
    table.to_string()
}

/// What sliding costs over tumbling, if both rows were run.
fn hour_lines(results: &[&RowResult]) -> Vec<String> {
    let find = |id| results.iter().find(|result| result.row.id == id);
    let (Some(tumbling), Some(sliding)) = (find("hour-tumbling"), find("hour-sliding")) else {
        return Vec::new();
    };
    let cost = |(at, engine): (usize, &&str)| {
        let rate = |f: &Figure| f.records_per_s;
        let times = tumbling.median(at, rate) / sliding.median(at, rate);
        let verdict = verdict(times <= 2.0);
        format!("{engine}: 1 h every 1 s costs {times:.2} times 1 h tumbling (≤ 2 {verdict})\n")
    };
    tumbling.engines.iter().enumerate().map(cost).collect()
}

/// Times in ms of something that happened several times, in a line.
pub fn times_line(what: &str, times_ms: &[f64], target_ms: f64) -> String {
    let mut sorted = times_ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some((least, most)) = sorted.first().zip(sorted.last()) else { return String::new() };
    let median = sorted[sorted.len() / 2];
    let (n, verdict) = (sorted.len(), verdict(median <= target_ms));
    format!(
        "{what}: median {median:.0} ms of {n}, {least:.0} to {most:.0} (≤ {target_ms} {verdict})\n"
    )
}

/// The memory of a cluster at rest, in a line.
pub fn idle_line(idle: cluster::idle::Idle) -> String {
    let (once, sum, most) = (idle.shared_once_mib, idle.resident_mib, cluster::idle::TARGET_MIB);
    let verdict = verdict(sum <= most);
    format!(
        "idle cluster, a job manager and two task managers: {sum:.1} MiB resident, {once:.1} MiB with what is \
         shared counted once (≤ {most} {verdict})\n"
    )
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// Three significant digits; nothing for what was not measured.
fn digits(value: f64) -> String {
    match value {
        v if v.is_nan() => String::new(),
        v if v.abs() >= 100.0 => format!("{v:.0}"),
        v if v.abs() >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Columns as wide as their widest cell, the first aligned left, in Markdown's notation.
struct Table {
    head: Vec<String>,
    lines: Vec<Vec<String>>,
}

impl Table {
    fn new(head: Vec<String>) -> Self {
        Self { head, lines: Vec::new() }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = || std::iter::once(&self.head).chain(&self.lines);
        let width = |column: usize| all().map(|line| line[column].chars().count()).max();
        let widths: Vec<_> = (0..self.head.len()).filter_map(width).collect();
        for (at, line) in all().enumerate() {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "| {cell:<width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if at == 0 {
                for (column, width) in widths.iter().enumerate() {
                    match column {
                        0 => write!(f, "|-{:-<width$}-|", "")?,
                        _ => write!(f, "-{:-<width$}:|", "")?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;

    fn figure(engine: &str, rate: f64, mib: f64) -> Figure {
        Figure {
            row: String::new(),
            engine: engine.into(),
            n: 1,
            parallelism: 2,
            records: 1,
            sink_records: 1,
            checksum: String::new(),
            checked: true,
            records_per_s: rate * 1e6,
            records_per_cpu_s: rate * 5e5,
            wall_s: 1.0,
            cpu_s: 2.0,
            peak_mib: mib,
            latency: None,
            sleep_control: None,
            checkpoints: None,
        }
    }

    fn result(row: &str, engines: [&'static str; 2], rates: [[f64; 2]; 3]) -> RowResult {
        let runs = rates.map(|pair| {
            vec![figure(engines[0], pair[0], 1000.0), figure(engines[1], pair[1], 100.0)]
        });
        RowResult { row: rows::find(row).unwrap(), engines: engines.into(), runs: runs.into() }
    }

    #[test]
    fn ratios_are_drawn_within_pairs() {
        let pairs = [[1.0, 2.0], [10.0, 30.0], [4.0, 40.0]];
        let result = result("q5", ["flink", "millstream"], pairs);
        assert_eq!(result.ratio(1, 0, |f| f.records_per_s), 3.0);
        assert_eq!(result.median(0, |f| f.records_per_s), 4e6);
        let text = tables(&[result]);
        let cells: Vec<_> = text.lines().nth(2).unwrap().split('|').map(str::trim).collect();
        let expected = [
            "",
            "q5",
            "4.00",
            "30.0",
            "3.00",
            "2.00",
            "15.0",
            "3.00",
            "1000",
            "100",
            "0.10",
            "≥ 12 missed",
            "≤ 0.25 met",
            "",
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn rows_on_a_cluster_are_held_against_the_embedded_ones() {
        let engines = ["millstream", cluster::throughput::NAME];
        let text = tables(&[result("q5", engines, [[4.0, 1.0]; 3])]);
        assert!(text.contains("≥ 0.5 missed"), "{text}");
        let text = tables(&[result("q8", engines, [[4.0, 3.0]; 3])]);
        assert!(text.contains("≥ 0.5 met"), "{text}");
    }

    #[test]
    fn the_median_is_held_against_the_target() {
        let line = times_line("recovery", &[900.0, 5000.0, 700.0], 1000.0);
        assert_eq!(line, "recovery: median 900 ms of 3, 700 to 5000 (≤ 1000 met)\n");
        assert!(times_line("recovery", &[1100.0], 1000.0).ends_with("missed)\n"));
    }

    #[test]
    fn checkpoints_are_held_against_their_targets() {
        let taken = |median_ms, holds| Checkpoints {
            n: 4,
            median_ms,
            max_ms: 900.0,
            max_bytes: 1e9,
            holds,
        };
        let holds = Holds { n: 9, p50_us: 40.0, p99_us: 90.0, max_us: 6000.0 };
        let mut result = result("w6-1g", ["flink", "millstream"], [[1.0, 1.0]; 3]);
        for run in &mut result.runs {
            run[0].checkpoints = Some(taken(500.0, None));
            run[1].checkpoints = Some(taken(400.0, Some(holds)));
        }
        let text = tables(&[result]);
        assert!(text.contains("held ≤ 5000 missed, ms ≤ flink's met"), "{text}");
    }

    #[test]
    fn what_checkpoints_cost_is_a_share_of_the_plain_row() {
        let engines = ["loop", "millstream"];
        let results = [
            result("w2-100k", engines, [[9.0, 10.0]; 3]),
            result("w2-100k-ckpt", engines, [[9.0, 8.0]; 3]),
        ];
        let text = tables(&results);
        assert!(text.contains("w2-100k-ckpt: loses 20.0 % of w2-100k (≤ 10 % missed)"), "{text}");
    }

    #[test]
    fn sliding_is_compared_with_tumbling() {
        let engines = ["loop", "millstream"];
        let results = [
            result("hour-tumbling", engines, [[9.0, 9.0]; 3]),
            result("hour-sliding", engines, [[6.0, 3.0]; 3]),
        ];
        let text = tables(&results);
        assert!(text.contains("loop: 1 h every 1 s costs 1.50 times 1 h tumbling (≤ 2 met)"));
        assert!(text.contains("millstream: 1 h every 1 s costs 3.00 times"), "{text}");
    }
}
