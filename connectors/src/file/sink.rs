//! The file sink: a folder of files that appear under their names when they are complete, and not before.
//!
//! Whoever reads `part-*` never sees half a file, not even after a crash; and in a job that takes checkpoints,
//! never a record that a recovery could bring a second time. What is being written has a hidden name. A
//! barrier completes the files of every subtask and *stages* them under other hidden names; when the checkpoint
//! is complete they get the names that readers look for (see [`parts`] for the names). A recovery commits what
//! the checkpoint holds as staged and deletes what else is hidden. Without checkpoints all of that happens at
//! the end of the input.
//!
//! Files are synced by the task that writes them, at the barrier: rolling by size keeps what is left to be
//! synced then small.

mod parts;
mod writer;

use crate::durable::failed;
use crate::encode::{ByDisplay, Encode, ToCsv, ToJson, ToLines};
use millstream_model::{Error, EventTime, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::folder::make_folder;
use millstream_runtime::operator::{Committer, Sink, SinkStart, SinkWriter};
use parts::{Parts, Stage};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use writer::{FileCommitter, FileWriter};

/// Writes records into files of a folder: `part-0`, `part-1`, … by subtask; in a job that takes checkpoints
/// `part-<checkpoint>-<subtask>-<k>`, each of which appears when that checkpoint is complete.
///
/// Every sink needs a folder of its own. A subtask without records leaves no file.
///
/// ```
/// # use millstream_connectors::FileSink;
/// use std::fmt::Write;
/// use std::time::Duration;
///
/// let lines = FileSink::lines("out/words");
/// let rows = FileSink::csv("out/flights").with_header().overwrite();
/// let pairs = FileSink::formatted("out/counts", |(word, n): &(String, u64), out| write!(out, "{word},{n}"));
/// let events = FileSink::json("out/events").roll_at_bytes(128 << 20).roll_after(Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct FileSink<E> {
    dir: PathBuf,
    overwrite: bool,
    rolling: Rolling,
    encode: E,
    /// Whether a run began in the folder, so that everything in it is of this run.
    has_begun: Arc<AtomicBool>,
}

/// When a file is complete although no checkpoint asks for it.
#[derive(Clone, Copy, Debug, Default)]
struct Rolling {
    at_bytes: Option<u64>,
    after_ms: Option<EventTime>,
}

impl<E> FileSink<E> {
    fn new(dir: impl Into<PathBuf>, encode: E) -> Self {
        let (dir, has_begun) = (dir.into(), Arc::default());
        FileSink { dir, overwrite: false, rolling: Rolling::default(), encode, has_begun }
    }

    /// Accepts a folder that is not empty and removes the files of earlier runs from it: `part-*`,
    /// complete or not, and nothing else.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Begins another file when one has this many bytes: it is longer by what a batch brought at most. A
    /// file never goes on behind a checkpoint, with or without this.
    #[must_use]
    pub fn roll_at_bytes(mut self, n: u64) -> Self {
        self.rolling.at_bytes = Some(n);
        self
    }

    /// Begins another file when one is this old (by the clock) and more comes or the input falls silent.
    /// Without checkpoints all files still appear at the end.
    #[must_use]
    pub fn roll_after(mut self, age: Duration) -> Self {
        self.rolling.after_ms = Some(age.as_millis().try_into().unwrap_or(EventTime::MAX));
        self
    }
}

impl FileSink<ToLines<ByDisplay>> {
    /// A line a record, by its `Display`.
    pub fn lines(dir: impl Into<PathBuf>) -> Self {
        FileSink::new(dir, ToLines::new(ByDisplay))
    }

    /// A line a record, by `show`, which appends a record to the text it is given.
    pub fn formatted<T, F>(dir: impl Into<PathBuf>, show: F) -> FileSink<ToLines<F>>
    where
        F: Fn(&T, &mut String) -> std::fmt::Result + Clone + Send + Sync + 'static,
    {
        FileSink::new(dir, ToLines::new(show))
    }

    /// Comma-separated values, without a header.
    pub fn csv(dir: impl Into<PathBuf>) -> FileSink<ToCsv> {
        FileSink::new(dir, ToCsv::default())
    }

    /// A JSON value a line.
    pub fn json(dir: impl Into<PathBuf>) -> FileSink<ToJson> {
        FileSink::new(dir, ToJson)
    }
}

impl FileSink<ToCsv> {
    /// Begins every file with the names of the fields.
    #[must_use]
    pub fn with_header(mut self) -> Self {
        self.encode.header = true;
        self
    }

    /// What stands between two fields; the default is a comma.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.encode.delimiter = delimiter;
        self
    }
}

/// Makes sure that `dir` is there and holds nothing, or nothing of other runs.
fn begin(dir: &Path, overwrite: bool) -> Result<()> {
    if overwrite {
        return parts::remove(dir, |_| true);
    }
    let listed = |e| failed(dir, "cannot be listed", e);
    match fs::read_dir(dir).map_err(listed)?.next() {
        None => Ok(()),
        Some(entry) => Err(Error::user(format!(
            "the output folder `{}` is not empty (it holds `{}`): choose another one, empty it, or replace what earlier runs wrote with `overwrite`",
            dir.display(),
            entry.map_err(listed)?.file_name().to_string_lossy()
        ))),
    }
}

impl<T, E: Encode<T>> Sink<T> for FileSink<E> {
    fn prepare(&self, start: &SinkStart) -> Result<()> {
        let dir = &*self.dir;
        make_folder(dir).map_err(|e| failed(dir, "cannot be made a folder", e))?;
        match start {
            SinkStart::Fresh => begin(dir, self.overwrite)?,
            // Every checkpoint stages something, so none was completed: the job begins again. What was
            // finished without checkpoints is in the way only if this very sink did not begin here.
            SinkStart::Recovering(staged) if staged.is_empty() => {
                parts::remove(dir, Stage::is_hidden)?;
                begin(dir, self.overwrite || self.has_begun.load(Ordering::Relaxed))?;
            }
            SinkStart::Recovering(staged) => {
                parts::refuse_later(dir, staged)?;
                parts::commit(dir, staged)?;
                return parts::remove(dir, Stage::is_hidden);
            }
            SinkStart::RecoveringPart { subtasks, staged } => {
                parts::commit_of(dir, staged, subtasks)?;
                // Without checkpoints: a subtask that had finished begins again with its region.
                let is_over = |stage: Stage| stage.is_hidden() || stage == Stage::Finished;
                return parts::remove_of(dir, subtasks, is_over);
            }
        }
        self.has_begun.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Every file says in its name which subtask wrote it.
    fn recovers_apart(&self) -> bool {
        true
    }

    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        let parts = Parts::new(&self.dir, context.subtask());
        let (encode, rolling) = (self.encode.clone(), self.rolling);
        Ok(Box::new(FileWriter::new(encode, parts, rolling, context.clone())))
    }

    fn committer(&self) -> Option<Box<dyn Committer>> {
        Some(Box::new(FileCommitter::new(&self.dir)))
    }

    fn name(&self) -> String {
        format!("files in {}", self.dir.display())
    }
}

/// How many files a subtask has staged, by what it said of them.
#[cfg(feature = "fuzzing")]
pub(crate) fn n_staged(staged: &[u8]) -> Result<usize> {
    Ok(parts::decode(staged)?.1.len())
}

#[cfg(test)]
mod tests;
