//! What checkpoints take, seen from outside and from inside.
//!
//! How long one takes and how much it stores is read off the folder: a thread looks at it from time to time and notes
//! when a checkpoint's folder was made, when its manifest was, and what is in it. Nothing is asked of the engine, and a
//! completed checkpoint stays until the next one is complete, so none is missed. For how long tasks were held
//! up only the engine knows: it has a metric for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use millstream::runtime::metrics::MetricValue;
use millstream::runtime::task::CHECKPOINT_HOLD;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::workload::BenchError;

/// What the checkpoints of a run took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Checkpoints {
    /// How many there were, the one at the end included.
    pub n: usize,
    /// Milliseconds that one took, at the median.
    pub median_ms: f64,
    /// And at most.
    pub max_ms: f64,
    /// Bytes that the largest stored.
    pub max_bytes: f64,
    /// For how long they held up the task that they held up longest.
    pub holds: Option<Holds>,
}

impl Checkpoints {
    /// From milliseconds and bytes of each; nothing if there were none.
    pub fn of(mut taken: Vec<(f64, f64)>, holds: Option<Holds>) -> Option<Self> {
        taken.sort_by(|one, other| one.0.total_cmp(&other.0));
        let max_ms = taken.last()?.0;
        let median_ms = taken[taken.len() / 2].0;
        let max_bytes = taken.iter().map(|one| one.1).fold(0.0, f64::max);
        Some(Self { n: taken.len(), median_ms, max_ms, max_bytes, holds })
    }
}

/// For how long a task was held up, once for each barrier and each slice of state.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Holds {
    /// How often.
    pub n: u64,
    /// The median, in microseconds.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Holds {
    /// Of the task that was held up most often (the one with the state), but the longest of any; nothing if no task
    /// took part in a checkpoint.
    pub fn of(metrics: &BTreeMap<(String, String, usize), MetricValue>) -> Option<Self> {
        let mut found: Option<Self> = None;
        for ((_, name, _), value) in metrics {
            let MetricValue::Distribution { n, p50, p99, max } = *value else { continue };
            if name != CHECKPOINT_HOLD {
                continue;
            }
            let longest = found.map_or(0.0, |held| held.max_us).max(max as f64);
            let held = Self { n, p50_us: p50 as f64, p99_us: p99 as f64, max_us: longest };
            found = match found {
                Some(most) if most.n >= n => Some(Self { max_us: longest, ..most }),
                _ => Some(held),
            };
        }
        found
    }
}

type Taken = BTreeMap<String, (f64, f64)>;

/// A folder for the checkpoints of one run, and the thread that looks into it.
#[derive(Debug)]
pub struct CheckpointFolder {
    dir: TempDir,
    interval_ms: u64,
    taken: Arc<Mutex<Taken>>,
    stop: Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl CheckpointFolder {
    /// Makes one among the temporary files; checkpoints are to be taken every `interval_ms`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(interval_ms: u64) -> Result<Self, BenchError> {
        let dir = tempfile::Builder::new().prefix("millstream-bench-").tempdir()?;
        let taken = Arc::<Mutex<Taken>>::default();
        let (stop, stopped) = bounded::<()>(0);
        let (path, shared) = (dir.path().to_owned(), Arc::clone(&taken));
        let thread = std::thread::spawn(move || {
            let pause = Duration::from_millis(50);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                note(&path, &shared);
            }
            note(&path, &shared);
        });
        Ok(Self { dir, interval_ms, taken, stop, thread })
    }

    /// What makes a job take its checkpoints into this folder.
    pub fn options(&self) -> [(&'static str, String); 2] {
        [
            ("checkpoint-dir", self.dir.path().display().to_string()),
            ("checkpoint-interval", format!("{}ms", self.interval_ms)),
        ]
    }

    /// What was seen of them; deletes them.
    ///
    /// # Errors
    /// There was none.
    pub fn measured(self, holds: Option<Holds>) -> Result<Checkpoints, BenchError> {
        drop(self.stop);
        self.thread.join().expect("the looking thread does not panic");
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let checkpoints = Checkpoints::of(taken.values().copied().collect(), holds);
        checkpoints.ok_or_else(|| BenchError::Job("no checkpoint was completed".into()))
    }
}

/// Notes the completed checkpoints that are there.
fn note(dir: &Path, taken: &Mutex<Taken>) {
    let Ok(folders) = std::fs::read_dir(dir) else { return };
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    for folder in folders.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        if let std::collections::btree_map::Entry::Vacant(entry) = taken.entry(name) {
            // One that is being deleted was noted before.
            if let Some(found) = completed(&folder.path()) {
                entry.insert(found);
            }
        }
    }
}

/// Milliseconds and bytes of a checkpoint; nothing if it is not complete.
fn completed(folder: &Path) -> Option<(f64, f64)> {
    let end = folder.join("manifest").metadata().ok()?.modified().ok()?;
    let meta = folder.metadata().ok()?;
    let start = meta.created().unwrap_or(SystemTime::now()).min(end);
    let millis = end.duration_since(start).ok()?.as_secs_f64() * 1e3;
    Some((millis, bytes_below(folder).ok()? as f64))
}

/// A completed checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Complete {
    /// Bytes of its files.
    pub(crate) bytes: u64,
    at: SystemTime,
}

/// The newest completed checkpoint in a folder.
pub(crate) fn newest_complete(dir: &Path) -> Option<Complete> {
    let folders = std::fs::read_dir(dir).ok()?.flatten();
    let complete = folders.filter_map(|folder| {
        let end = folder.path().join("manifest").metadata().ok()?.modified().ok()?;
        Some(Complete { bytes: bytes_below(&folder.path()).ok()?, at: end })
    });
    complete.max_by_key(|complete| complete.at)
}

/// Bytes of the files in a folder and in those in it: RocksDB's files have one of their own.
fn bytes_below(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in folder.read_dir()? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { bytes_below(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completed_checkpoints_are_noted() {
        let folder = CheckpointFolder::new(1000).unwrap();
        let make = |name: &str, files: &[(&str, usize)]| {
            let path = folder.dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            files.iter().for_each(|(f, n)| std::fs::write(path.join(f), vec![0; *n]).unwrap());
        };
        make("chk-1-0", &[("task-0-0", 900)]);
        make("chk-1-0/task-0-0.tree", &[("1.sst", 100)]);
        std::fs::write(folder.dir.path().join("chk-1-0/manifest"), [0; 24]).unwrap();
        make("chk-2-0", &[("task-0-0", 5000)]);
        assert_eq!(newest_complete(folder.dir.path()).unwrap().bytes, 1024);
        let measured = folder.measured(None).unwrap();
        assert_eq!((measured.n, measured.max_bytes), (1, 1024.0));
        assert!(measured.max_ms < 60_000.0, "{measured:?}");
        assert!(CheckpointFolder::new(1000).unwrap().measured(None).is_err());
    }

    #[test]
    fn the_task_with_the_state_is_shown() {
        let held = |operator: &str, name: &str, n, max| {
            let key = (operator.to_owned(), name.to_owned(), 0);
            (key, MetricValue::Distribution { n, p50: 2, p99: 3, max })
        };
        let metrics =
            [held("source", CHECKPOINT_HOLD, 4, 900), held("count", CHECKPOINT_HOLD, 80, 50)];
        let holds = Holds::of(&metrics.into()).unwrap();
        assert_eq!((holds.n, holds.max_us), (80, 900.0));
        assert!(Holds::of(&[held("count", "latency", 4, 9)].into()).is_none());
    }
}
