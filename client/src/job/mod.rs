//! A job that runs, and what it leaves behind: the same for the program, wherever the job runs.

mod handle;
mod result;

pub(crate) use handle::Canceller;
pub use handle::{JobHandle, JobStatus};
pub use millstream_jobmanager::scheduler::JobState;
pub use result::JobResult;

use millstream_model::{Result, SnapshotKind};
use millstream_runtime::metrics::{MetricValue, Registry};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The counter every source keeps.
pub(crate) const RECORDS: &str = "records";

/// A job, wherever it runs.
pub(crate) trait Job: Send + Sync {
    fn name(&self) -> &str;
    /// What the cluster calls it, if it runs on one.
    fn id(&self) -> Option<String> {
        None
    }
    fn status(&self) -> JobStatus;
    /// A counter's sum over all subtasks so far.
    fn counter(&self, name: &str) -> u64;
    /// Takes a savepoint into a folder of its own in `dir`; gives that folder when it is complete and,
    /// if it stops the job, the job has ended.
    fn snapshot(&self, kind: SnapshotKind, dir: PathBuf) -> Result<PathBuf>;
    fn cancel(&self);
    /// Waits for the end: how it ended, and how long it ran; or its failure.
    fn wait(&self) -> Result<(JobState, Duration)>;
    fn metrics(&self) -> BTreeMap<(String, String, usize), MetricValue>;
    /// Metrics and accumulators, if they are in this process.
    fn registry(&self) -> Option<&Registry>;
    /// The cells of an accumulator as bytes, if they are not; they are taken out.
    fn take_cells(&self, name: &str) -> Vec<Vec<u8>>;
    /// The most memory that records under way took in this process, in bytes.
    fn peak_network_memory(&self) -> usize;
}
