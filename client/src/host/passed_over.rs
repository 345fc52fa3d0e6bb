//! A job that was run before the one of this host: its call of `execute` is passed over.

use crate::job::{Job, JobState, JobStatus};
use millstream_model::{Error, Result, SnapshotKind};
use millstream_runtime::metrics::{MetricValue, Registry};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// See the module's text.
pub(crate) struct PassedOver {
    pub(crate) name: String,
    pub(crate) n_tasks: usize,
}

impl Job for PassedOver {
    fn name(&self) -> &str {
        &self.name
    }

    fn status(&self) -> JobStatus {
        JobStatus {
            state: JobState::Finished,
            records: 0,
            n_tasks: self.n_tasks,
            n_restarts: 0,
            last_checkpoint: None,
            passed_over: Vec::new(),
        }
    }

    fn counter(&self, _: &str) -> u64 {
        0
    }

    fn snapshot(&self, _: SnapshotKind, _: PathBuf) -> Result<PathBuf> {
        Err(Error::user("the job has ended, so it cannot take a savepoint"))
    }

    fn cancel(&self) {}

    fn wait(&self) -> Result<(JobState, Duration)> {
        Ok((JobState::Finished, Duration::ZERO))
    }

    fn metrics(&self) -> BTreeMap<(String, String, usize), MetricValue> {
        BTreeMap::new()
    }

    fn registry(&self) -> Option<&Registry> {
        None
    }

    fn take_cells(&self, _: &str) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn peak_network_memory(&self) -> usize {
        0
    }
}
