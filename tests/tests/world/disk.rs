//! A disk that survives crashes, and the transactional sink that writes to it.
//!
//! A writer keeps what it is given in memory, where a crash takes it; staging puts it on the disk, where nobody sees it;
//! committing makes it visible. The disk itself watches what no later look could tell: that nothing becomes visible before
//! its checkpoint is complete. Its own weather decides what fails.

use super::prng::Prng;
use super::sabotage;
use super::weather::{Weather, struck};
use millstream::model::sabotage::Bug;
use millstream::model::{Batch, CheckpointId};
use millstream::prelude::*;
use millstream::runtime::operator::{Committer, Sink, SinkStart, SinkWriter, Staged};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a sink is given: a key, a time, a value.
pub(super) type Row = (u64, EventTime, u64);

/// Tells the newest checkpoint that is complete, by what lies in storage.
pub(super) type Newest = Arc<dyn Fn() -> u64 + Send + Sync>;

/// See the module's text. Clones are one disk.
#[derive(Clone)]
pub(super) struct Disk {
    files: Arc<Mutex<Files>>,
    weather: Arc<Mutex<Weather>>,
    newest: Newest,
}

#[derive(Default)]
struct Files {
    staged: BTreeMap<String, Vec<Row>>,
    committed: BTreeMap<String, Vec<Row>>,
    n_made: u64,
    violations: Vec<String>,
}

impl Disk {
    pub(super) fn new(prng: Prng, newest: Newest) -> Self {
        Disk { files: Arc::default(), weather: Weather::calm(prng), newest }
    }

    /// How staging and committing goes.
    pub(super) fn weather(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        // A panic that a test planned leaves nothing half done.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is visible of a sink's output.
    pub(super) fn visible(&self, sink: &str) -> Vec<Row> {
        let files = self.files();
        let of_sink = files.committed.iter().filter(|(name, _)| name.starts_with(sink));
        of_sink.flat_map(|(_, rows)| rows.iter().copied()).collect()
    }

    /// The names of what is staged.
    pub(super) fn staged(&self) -> Vec<String> {
        self.files().staged.keys().cloned().collect()
    }

    /// What was seen to be wrong.
    pub(super) fn violations(&self) -> Vec<String> {
        self.files().violations.clone()
    }

    fn commit(&self, staged: &[Staged]) -> Result<()> {
        struck(&self.weather, "a commit", || self.take(staged))
    }

    /// Makes output visible.
    fn take(&self, staged: &[Staged]) -> Result<()> {
        let newest = (self.newest)();
        let mut files = self.files();
        for name in staged {
            let name = String::from_utf8_lossy(name).into_owned();
            let checkpoint = name.split('/').nth(1).and_then(|n| n.parse::<u64>().ok());
            if checkpoint.is_none_or(|checkpoint| checkpoint > newest) {
                let seen =
                    format!("`{name}` became visible, but the newest checkpoint is {newest}");
                files.violations.push(seen);
            }
            if let Some(rows) = files.staged.remove(&name) {
                files.committed.insert(name, rows);
            } else if let Some(rows) = files.committed.get_mut(&name) {
                if sabotage(Bug::CommitTwice) {
                    rows.extend_from_within(..);
                }
            } else {
                return Err(Error::external(format!("the staged output `{name}` is gone")));
            }
        }
        Ok(())
    }
}

/// A sink that stages its output and commits it when told to.
pub(super) struct Transactional {
    pub(super) name: &'static str,
    pub(super) disk: Disk,
}

impl Sink<Row> for Transactional {
    fn prepare(&self, start: &SinkStart) -> Result<()> {
        match start {
            SinkStart::Fresh => {
                if self.disk.staged().iter().any(|name| name.starts_with(self.name)) {
                    return Err(Error::user("output of another run is in the way"));
                }
            }
            SinkStart::Recovering(staged) => {
                self.disk.commit(staged)?;
                if !sabotage(Bug::KeepStale) {
                    let is_others = |name: &String| !name.starts_with(self.name);
                    self.disk.files().staged.retain(|name, _| is_others(name));
                }
            }
            SinkStart::RecoveringPart { subtasks, staged } => {
                let is_of = |name: &str| subtask_of(name).is_some_and(|s| subtasks.contains(&s));
                let is_staged = |name: &&Staged| is_of(&String::from_utf8_lossy(name));
                let staged: Vec<Staged> = staged.iter().filter(is_staged).cloned().collect();
                self.disk.commit(&staged)?;
                if !sabotage(Bug::KeepStale) {
                    let is_others = |name: &String| !name.starts_with(self.name) || !is_of(name);
                    self.disk.files().staged.retain(|name, _| is_others(name));
                }
            }
        }
        Ok(())
    }

    fn recovers_apart(&self) -> bool {
        true
    }

    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<Row>>> {
        let subtask = context.task().subtask();
        let (name, disk) = (self.name, self.disk.clone());
        Ok(Box::new(Writer { name, disk, subtask, rows: Vec::new() }))
    }

    fn committer(&self) -> Option<Box<dyn Committer>> {
        Some(Box::new(Commits(self.disk.clone())))
    }
}

/// The subtask that wrote a file.
fn subtask_of(name: &str) -> Option<usize> {
    name.split('/').nth(2)?.split('-').next()?.parse().ok()
}

struct Writer {
    name: &'static str,
    disk: Disk,
    subtask: usize,
    rows: Vec<Row>,
}

impl SinkWriter<Row> for Writer {
    fn write(&mut self, batch: &mut Batch<Row>) -> Result<()> {
        self.rows.append(&mut batch.values);
        Ok(())
    }

    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Vec<Staged>> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let rows = std::mem::take(&mut self.rows);
        struck(&self.disk.weather, "staged output", || {
            let mut files = self.disk.files();
            files.n_made += 1;
            let name = format!("{}/{checkpoint}/{}-{}", self.name, self.subtask, files.n_made);
            files.staged.insert(name.clone(), rows);
            Ok(vec![name.into_bytes()])
        })
    }
}

struct Commits(Disk);

impl Committer for Commits {
    fn commit(&mut self, staged: &[Staged]) -> Result<()> {
        self.0.commit(staged)
    }
}
