//! A job that runs on a cluster, as the program that submitted it holds it.

use crate::cluster::Connection;
use crate::job::{Job, JobState, JobStatus};
use crate::local::Program;
use millstream_model::{Error, Result, SnapshotKind};
use millstream_proto::message::{
    ClientReply, ClientRequest, Drain, JobDetail, JobId, JobPhase, MetricSample,
    MetricValue as Sampled, Outcome,
};
use millstream_runtime::metrics::{MetricValue, Registry};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// See the module's text.
pub(super) struct FarJob {
    connection: Connection,
    id: JobId,
    program: Program,
    /// Once it has ended.
    outcome: Mutex<Option<Outcome>>,
}

impl FarJob {
    pub(super) fn new(connection: Connection, id: JobId, program: Program) -> Self {
        FarJob { connection, id, program, outcome: Mutex::default() }
    }

    fn outcome(&self) -> MutexGuard<'_, Option<Outcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn detail(&self) -> Option<JobDetail> {
        match self.connection.call(ClientRequest::Job(self.id)) {
            Ok(ClientReply::Job(detail)) => Some(*detail),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, id = %self.id, "the job cannot be asked how it is");
                None
            }
        }
    }

    fn samples(&self) -> Vec<MetricSample> {
        if let Some(outcome) = &*self.outcome() {
            return outcome.metrics.clone();
        }
        self.detail().map(|detail| detail.metrics).unwrap_or_default()
    }

    /// Brings the records that the program keeps for itself to it.
    fn scatter(&self, outcome: &mut Outcome) -> Result<()> {
        for collected in &self.program.graph.collected {
            let found = outcome.results.iter_mut().filter(|(name, _)| *name == collected.name);
            for bytes in found.flat_map(|(_, values)| values.drain(..)) {
                (collected.scatter)(&bytes)?;
            }
        }
        Ok(())
    }
}

fn state_of(phase: JobPhase) -> JobState {
    match phase {
        JobPhase::Created => JobState::Created,
        JobPhase::Initializing | JobPhase::Running | JobPhase::Reconciling => JobState::Running,
        JobPhase::Failing => JobState::Failing,
        JobPhase::Restarting => JobState::Restarting,
        JobPhase::Cancelling => JobState::Cancelling,
        JobPhase::Finished => JobState::Finished,
        JobPhase::Canceled => JobState::Cancelled,
        JobPhase::Failed => JobState::Failed,
    }
}

impl Job for FarJob {
    fn name(&self) -> &str {
        &self.program.compiled.graph.name
    }

    fn id(&self) -> Option<String> {
        Some(self.id.to_string())
    }

    fn status(&self) -> JobStatus {
        let overview = self.outcome().as_ref().map(|outcome| outcome.overview.clone());
        let overview = overview.or_else(|| self.detail().map(|detail| detail.overview));
        let n_tasks = self.program.compiled.graph.n_tasks();
        match overview {
            Some(overview) => JobStatus {
                state: state_of(overview.state),
                records: overview.records,
                n_tasks,
                n_restarts: overview.n_restarts,
                last_checkpoint: overview.last_checkpoint,
                passed_over: overview.passed_over,
            },
            None => JobStatus {
                state: JobState::Created,
                records: 0,
                n_tasks,
                n_restarts: 0,
                last_checkpoint: None,
                passed_over: Vec::new(),
            },
        }
    }

    fn counter(&self, name: &str) -> u64 {
        let count = |sample: &MetricSample| match sample.value {
            Sampled::Count(n) if sample.name == name => n,
            _ => 0,
        };
        self.samples().iter().map(count).sum()
    }

    fn snapshot(&self, kind: SnapshotKind, dir: PathBuf) -> Result<PathBuf> {
        let stop = match kind {
            SnapshotKind::Stop { drain } => Some(Drain(drain)),
            SnapshotKind::Savepoint | SnapshotKind::Checkpoint => None,
        };
        match self.connection.call(ClientRequest::Savepoint { job: self.id, dir, stop })? {
            ClientReply::Savepoint(path) => Ok(path),
            other => Err(Error::internal(format!("a savepoint was answered by {other:?}"))),
        }
    }

    fn cancel(&self) {
        if let Err(error) = self.connection.call(ClientRequest::Cancel(self.id)) {
            tracing::warn!(%error, id = %self.id, "that the job ends is not confirmed");
        }
    }

    fn wait(&self) -> Result<(JobState, Duration)> {
        let config = &self.program.config;
        let bar = config.shows_progress().then(|| {
            let style = "{spinner} {msg} {human_pos} records, {elapsed}";
            indicatif::ProgressBar::new_spinner().with_style(
                indicatif::ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()),
            )
        });
        let waited = self.connection.wait(self.id, |detail| {
            if let Some(bar) = &bar {
                let overview = &detail.overview;
                bar.set_message(match overview.n_missing_slots {
                    0 => overview.name.clone(),
                    n => format!("{} waits for {n} more slots;", overview.name),
                });
                bar.set_position(overview.records);
            }
        });
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let mut outcome = waited?;
        self.scatter(&mut outcome)?;
        let overview = &outcome.overview;
        let ended_ms = overview.end_time_ms.unwrap_or(overview.start_time_ms);
        let elapsed = Duration::from_millis((ended_ms - overview.start_time_ms).max(0) as u64);
        let (state, error) = (state_of(overview.state), outcome.error.take());
        *self.outcome() = Some(outcome);
        error.map_or(Ok((state, elapsed)), Err)
    }

    fn metrics(&self) -> BTreeMap<(String, String, usize), MetricValue> {
        let value = |value| match value {
            Sampled::Count(n) => MetricValue::Count(n),
            Sampled::Level(n) => MetricValue::Level(n),
            Sampled::Distribution { n, p50, p99, max } => {
                MetricValue::Distribution { n, p50, p99, max }
            }
        };
        let samples = self.samples().into_iter();
        samples.map(|s| ((s.operator, s.name, s.subtask), value(s.value))).collect()
    }

    fn registry(&self) -> Option<&Registry> {
        None
    }

    fn take_cells(&self, name: &str) -> Vec<Vec<u8>> {
        let mut outcome = self.outcome();
        let results = outcome.iter_mut().flat_map(|outcome| &mut outcome.results);
        let named = results.filter(|(n, _)| n == name);
        named.flat_map(|(_, values)| std::mem::take(values)).collect()
    }

    fn peak_network_memory(&self) -> usize {
        // It is that of other processes.
        0
    }
}
