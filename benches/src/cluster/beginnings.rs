//! A sink that only says when it began: for how long a job, or an attempt of it, is without output.
//!
//! Each of its subtasks leaves a file for the first record it is given: who, in which process, when. A file has its name
//! when it is whole, so whoever looks for it sees all of it or nothing.

use crate::measure::now_us;
use crate::workload::BenchError;
use millstream::model::{Batch, Result};
use millstream::prelude::*;
use millstream::runtime::operator::{Sink, SinkWriter};
use std::path::{Path, PathBuf};

/// The first output of a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Beginning {
    /// When, in µs since the epoch.
    pub at_us: u64,
    /// The subtask.
    pub subtask: usize,
    /// The process it runs in.
    pub pid: u32,
}

/// All that are there, the oldest first.
///
/// # Errors
/// The folder cannot be read.
pub fn beginnings(dir: &Path) -> std::result::Result<Vec<Beginning>, BenchError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let parts: Vec<_> = name.to_str().unwrap_or_default().split('-').collect();
        if let [at_us, subtask, pid] = parts[..]
            && let (Ok(at_us), Ok(subtask), Ok(pid)) = (at_us.parse(), subtask.parse(), pid.parse())
        {
            found.push(Beginning { at_us, subtask, pid });
        }
    }
    found.sort();
    Ok(found)
}

/// See the module's text.
pub(super) struct Beginnings(pub(super) PathBuf);

struct Writer {
    dir: PathBuf,
    subtask: usize,
    has_begun: bool,
}

impl<T: Data> Sink<T> for Beginnings {
    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        let (dir, subtask) = (self.0.clone(), context.subtask());
        Ok(Box::new(Writer { dir, subtask, has_begun: false }))
    }
}

impl<T: Data> SinkWriter<T> for Writer {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        if !self.has_begun && !batch.values.is_empty() {
            self.has_begun = true;
            let name = format!("{}-{}-{}", now_us(), self.subtask, std::process::id());
            std::fs::write(self.dir.join(name), [])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subtask_begins_once() {
        let dir = tempfile::tempdir().unwrap();
        let env = Environment::builder().parallelism(2).set("progress", "never").build().unwrap();
        env.generate(10_000, |i| i).rebalance().sink(Beginnings(dir.path().to_owned()));
        let before_us = now_us();
        env.execute("beginnings").unwrap();
        let found = beginnings(dir.path()).unwrap();
        let mut subtasks: Vec<_> = found.iter().map(|b| b.subtask).collect();
        subtasks.sort();
        assert_eq!(subtasks, [0, 1]);
        assert!(found.iter().all(|b| b.at_us >= before_us && b.pid == std::process::id()));
    }
}
