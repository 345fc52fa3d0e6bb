//! Who can run a row, and one run of it.

use serde::Serialize;

use crate::checkpoints::CheckpointFolder;
use crate::measure::{Clock, Figure, Latency, peak_mib};
use crate::pace::SleepControl;
use crate::rows::{Measure, Row};
use crate::text::Text;
use crate::workload::{BenchError, Job, Setup};
use crate::{jobs, loops};

/// Who runs a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The hand-written loop.
    Loop,
    /// Millstream.
    Millstream,
}

impl Engine {
    /// Whether it can run `row`: no hand-written loop takes checkpoints of large state.
    pub fn can_run(self, row: &Row) -> bool {
        self == Self::Millstream || row.about_what != Measure::Checkpoints
    }

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Millstream => "millstream",
        }
    }

    /// The job of `row`.
    ///
    /// # Errors
    /// There is none: a row that cannot be run is an error, not a gap in the table.
    pub fn job(self, row: &Row) -> Result<Job, BenchError> {
        let job = match self {
            Self::Loop => loops::job(row.id),
            Self::Millstream => jobs::job(row.id),
        };
        job.ok_or(BenchError::NoJob { row: row.id, engine: self.name() })
    }
}

/// Runs `row` once, in this process or on a cluster, and checks the result. In a task host of the cluster it does not
/// return. Of a run on a cluster the time is that of its tasks, and CPU time and memory are not those of the tasks.
///
/// # Errors
/// There is no such job, it failed, or its result is wrong.
pub fn run(
    row: &Row,
    engine: Engine,
    n: u64,
    parallelism: usize,
    cluster: Option<String>,
) -> Result<Figure, BenchError> {
    let job = engine.job(row)?;
    if engine == Engine::Loop {
        loops::check_parallelism(parallelism)?;
    }
    let text = if row.reads_text { Some(Text::load()?) } else { None };
    let interval_ms = row.state.interval_ms;
    let takes_checkpoints = engine == Engine::Millstream && interval_ms > 0;
    let setup = Setup {
        n,
        parallelism,
        text,
        rocksdb: row.state.rocksdb.then_some(row.state.memory),
        checkpoints: takes_checkpoints.then(|| CheckpointFolder::new(interval_ms)).transpose()?,
        cluster,
    };
    let control = (row.about_what == Measure::Latency).then(SleepControl::start);
    let clock = Clock::start();
    let outcome = job(&setup)?;
    let (wall_s, cpu_s) = clock.stop();
    let wall_s = outcome.span_s.unwrap_or(wall_s);
    let control = control.map(SleepControl::stop);
    let checked = row.check(engine.name(), n, outcome.sink)?;
    let checkpoints = setup.checkpoints.map(|folder| folder.measured(outcome.holds)).transpose()?;
    let records = row.records(n, outcome.sink.records);
    Ok(Figure {
        row: row.id.into(),
        engine: engine.name().into(),
        n,
        parallelism,
        records,
        sink_records: outcome.sink.records,
        checksum: format!("{:016x}", outcome.sink.checksum),
        checked,
        records_per_s: records as f64 / wall_s,
        records_per_cpu_s: records as f64 / cpu_s,
        wall_s,
        cpu_s,
        peak_mib: peak_mib(),
        latency: outcome.latency_ns.as_ref().map(Latency::from),
        sleep_control: control.as_ref().map(Latency::from),
        checkpoints,
    })
}
