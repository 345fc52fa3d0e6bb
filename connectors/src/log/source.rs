//! The log as a source: a split per partition, committed records only.
//!
//! A position is a commit's number and an offset in the segment it names, so a reader never searches.

use super::folder::{Folder, Transaction};
use super::segment::SegmentReader;
use millstream_model::{Batch, Data, Error, EventTime, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::source::{ReadStatus, Source, SplitContext, SplitReader};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::path::PathBuf;

/// How often a reader that has read everything looks again, in µs.
const POLL_US: EventTime = 10_000;
/// Commits of other partitions that one read passes over at most.
const COMMITS_PER_READ: usize = 256;

/// Reads a log that a [`LogSink`](super::LogSink) writes: what is committed when the job starts, or with
/// [`follow`](Self::follow) also what is committed later, without end.
///
/// ```
/// # use millstream_connectors::LogSource;
/// let clicks = LogSource::new::<(u64, String)>("topics/clicks").follow();
/// ```
pub struct LogSource<T> {
    folder: Folder,
    follows: bool,
    records: PhantomData<fn() -> T>,
}

impl LogSource<()> {
    /// The log in the folder `dir`.
    pub fn new<T: Data>(dir: impl Into<PathBuf>) -> LogSource<T> {
        LogSource { folder: Folder::new(dir), follows: false, records: PhantomData }
    }
}

impl<T> LogSource<T> {
    /// Waits for more when everything is read.
    #[must_use]
    pub fn follow(mut self) -> Self {
        self.follows = true;
        self
    }
}

/// A partition, and where in it to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSplit {
    /// Which one.
    pub partition: u32,
    /// Number of the commit to go on in.
    pub commit: u64,
    /// Offset of the next record in its segment; 0 for the first.
    pub offset: u64,
    /// Number of the commit to stop before; `None` to follow.
    pub end: Option<u64>,
}

impl<T: Data> Source for LogSource<T> {
    type Out = T;
    type Split = LogSplit;

    fn is_bounded(&self) -> bool {
        !self.follows
    }

    fn discover(&self, _: usize) -> Result<Vec<LogSplit>> {
        let meta = self.folder.known_meta()?;
        self.folder.whole()?;
        let end = (!self.follows).then_some(self.folder.durable_commits()?);
        let split = |partition| LogSplit { partition, commit: 0, offset: 0, end };
        Ok((0..meta.n_partitions).map(split).collect())
    }

    fn open(
        &self,
        split: LogSplit,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<T, LogSplit>>> {
        Ok(Box::new(LogReader {
            folder: self.folder.clone(),
            split,
            segment: None,
            n_durable: 0,
            batch_size: context.batch_size,
            operator: context.operator.clone(),
            records: PhantomData,
        }))
    }
}

struct LogReader<T> {
    folder: Folder,
    split: LogSplit,
    /// Of the commit that the split names, once it was looked at.
    segment: Option<SegmentReader>,
    /// How many commits are known to survive a power cut.
    n_durable: u64,
    batch_size: usize,
    operator: OperatorContext,
    records: PhantomData<fn() -> T>,
}

impl<T> LogReader<T> {
    /// Opens the next segment of the partition; or says why there is none.
    fn advance(&mut self) -> Result<Option<ReadStatus>> {
        for _ in 0..COMMITS_PER_READ {
            if self.split.end.is_some_and(|end| self.split.commit >= end) {
                return Ok(Some(ReadStatus::End));
            }
            let Some(commit) = self.durable_commit()? else {
                if self.split.end.is_some() || self.split.offset > 0 {
                    return Err(Error::external(format!(
                        "commit {} of the log in `{}` was there and is gone: restore the log from a copy",
                        self.split.commit,
                        self.folder.dir.display()
                    )));
                }
                let until_us = self.operator.task().job().clock.now_us() + POLL_US;
                return Ok(Some(ReadStatus::CaughtUp { until_us }));
            };
            let mine = commit.segments.into_iter().find(|s| s.partition == self.split.partition);
            if let Some(segment) = mine {
                let path = self.folder.segment(&segment.name);
                self.segment = Some(SegmentReader::open(&path, segment, self.split.offset)?);
                return Ok(None);
            }
            self.pass();
        }
        Ok(Some(ReadStatus::More))
    }

    /// The commit that the split names. Nobody notes a position in one that may be another after a power cut.
    fn durable_commit(&mut self) -> Result<Option<Transaction>> {
        let commit = self.folder.commit(self.split.commit)?;
        if commit.is_some() && self.split.commit >= self.n_durable {
            self.n_durable = self.folder.durable_commits()?;
        }
        Ok(commit)
    }

    /// Goes on to the next commit.
    fn pass(&mut self) {
        self.segment = None;
        self.split.commit += 1;
        self.split.offset = 0;
    }
}

impl<T: Data> SplitReader<T, LogSplit> for LogReader<T> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<ReadStatus> {
        let mut n = 0;
        while n < self.batch_size {
            let Some(segment) = &mut self.segment else {
                match self.advance()? {
                    None => continue,
                    // What was read comes first.
                    Some(_) if n > 0 => return Ok(ReadStatus::More),
                    Some(status) => return Ok(status),
                }
            };
            let Some(bytes) = segment.next()? else {
                self.pass();
                continue;
            };
            let record = serde_json::from_slice(bytes).map_err(|e| {
                Error::user(format!(
                    "a record in partition {} of the log in `{}` (commit {}, offset {}) is no `{}`: read it as \
                     what was written",
                    self.split.partition,
                    self.folder.dir.display(),
                    self.split.commit,
                    self.split.offset,
                    std::any::type_name::<T>()
                ))
                .caused_by(e)
            })?;
            self.split.offset = segment.offset;
            out.values.push(record);
            n += 1;
        }
        Ok(ReadStatus::More)
    }

    fn split(&self) -> LogSplit {
        self.split.clone()
    }
}
