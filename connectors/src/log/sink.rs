//! The log as a sink: a transaction per subtask and checkpoint.

use super::folder::{
    Folder, Moment, StagedTransaction, Transaction, is_name, segment_name, transaction_name,
};
use super::segment::SegmentWriter;
use millstream_model::{Batch, CheckpointId, Error, Key, Result, hash_key};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::operator::{Committer, Sink, SinkStart, SinkWriter, Staged};
use serde::Serialize;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;

/// Decides which partition a record goes to.
pub trait ChoosePartition<T>: Clone + Send + Sync + 'static {
    /// The partition, below `n_partitions`, of a record that `subtask` writes.
    ///
    /// # Errors
    /// If the record does not say.
    fn partition(&self, record: &T, subtask: usize, n_partitions: u32) -> Result<u32>;
}

/// Each subtask writes to one partition, so that its records stay in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct BySubtask;

impl<T> ChoosePartition<T> for BySubtask {
    #[inline]
    fn partition(&self, _: &T, subtask: usize, n_partitions: u32) -> Result<u32> {
        Ok((subtask % n_partitions as usize) as u32)
    }
}

/// Records of one key go to one partition.
#[derive(Debug)]
pub struct ByKey<F, K> {
    key: F,
    keys: PhantomData<fn() -> K>,
}

impl<F: Clone, K> Clone for ByKey<F, K> {
    fn clone(&self) -> Self {
        ByKey { key: self.key.clone(), keys: PhantomData }
    }
}

impl<T, K: Key, F: Fn(&T) -> K + Clone + Send + Sync + 'static> ChoosePartition<T> for ByKey<F, K> {
    fn partition(&self, record: &T, _: usize, n_partitions: u32) -> Result<u32> {
        let hash = hash_key(&(self.key)(record)).map_err(|e| {
            Error::user("a record's key cannot choose a partition of a log").caused_by(e)
        })?;
        Ok((hash % u64::from(n_partitions)) as u32)
    }
}

/// Writes records to a partitioned log in a folder, which a [`LogSource`](super::LogSource) reads: each exactly
/// once, in a job that takes checkpoints. One job at a time writes a log.
///
/// ```
/// # use millstream_connectors::LogSink;
/// let clicks = LogSink::new("topics/clicks").partitions(8).key(|click: &(u64, String)| click.0);
/// ```
#[derive(Clone, Debug)]
pub struct LogSink<P> {
    folder: Folder,
    n_partitions: Option<u32>,
    appends: bool,
    choose: P,
}

impl LogSink<BySubtask> {
    /// A log in the folder `dir`, which must be empty or absent; of one partition, if it is new.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        LogSink { folder: Folder::new(dir), n_partitions: None, appends: false, choose: BySubtask }
    }
}

impl<P> LogSink<P> {
    /// How many partitions the log has: at most so many subtasks read it side by side.
    #[must_use]
    pub fn partitions(mut self, n: u32) -> Self {
        self.n_partitions = Some(n);
        self
    }

    /// Sends records of one key to one partition, where they stay in the order in which a subtask writes them.
    #[must_use]
    pub fn key<T, K: Key, F: Fn(&T) -> K + Clone + Send + Sync + 'static>(
        self,
        key: F,
    ) -> LogSink<ByKey<F, K>> {
        let LogSink { folder, n_partitions, appends, .. } = self;
        LogSink { folder, n_partitions, appends, choose: ByKey { key, keys: PhantomData } }
    }

    /// Adds to a log that other runs have written.
    #[must_use]
    pub fn append(mut self) -> Self {
        self.appends = true;
        self
    }
}

fn encode(staged: &StagedTransaction) -> Result<Staged> {
    serde_json::to_vec(staged)
        .map_err(|e| Error::internal("what a log stages is JSON").caused_by(e))
}

pub(super) fn decode(staged: &[Staged]) -> Result<Vec<StagedTransaction>> {
    let decode = |staged: &Staged| {
        let staged: StagedTransaction = serde_json::from_slice(staged).map_err(|e| {
            Error::external(
                "what the checkpoint holds for a log was not staged by one: another sink had the uid of this one",
            )
            .caused_by(e)
        })?;
        match &staged.name {
            Some(name) if !is_name(name) => Err(Error::external(format!(
                "a checkpoint names a transaction of a log `{name}`, which no log would: it is damaged"
            ))),
            _ => Ok(staged),
        }
    };
    staged.iter().map(decode).collect()
}

impl<T: Serialize + 'static, P: ChoosePartition<T>> Sink<T> for LogSink<P> {
    fn prepare(&self, start: &SinkStart) -> Result<()> {
        let staged = match start {
            SinkStart::Fresh => Vec::new(),
            SinkStart::Recovering(staged) => decode(staged)?,
            // All subtasks write under one epoch.
            SinkStart::RecoveringPart { .. } => {
                return Err(Error::internal("a log is recovered as a whole"));
            }
        };
        self.folder.prepare(self.n_partitions, &staged, self.appends)
    }

    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        // Prepared before: a writer that is still there when the next attempt begins has the older epoch.
        let meta = self.folder.known_meta()?;
        Ok(Box::new(LogWriter {
            folder: self.folder.clone(),
            choose: self.choose.clone(),
            subtask: context.subtask(),
            epoch: meta.epoch,
            n_partitions: meta.n_partitions,
            n_staged: 0,
            segments: BTreeMap::new(),
            buffer: Vec::new(),
        }))
    }

    fn committer(&self) -> Option<Box<dyn Committer>> {
        Some(Box::new(LogCommitter { folder: self.folder.clone() }))
    }

    fn name(&self) -> String {
        format!("log in {}", self.folder.dir.display())
    }
}

struct LogWriter<P> {
    folder: Folder,
    choose: P,
    subtask: usize,
    epoch: u64,
    n_partitions: u32,
    n_staged: u64,
    /// By partition.
    segments: BTreeMap<u32, SegmentWriter>,
    buffer: Vec<u8>,
}

impl<P> LogWriter<P> {
    fn name(&self) -> String {
        transaction_name(self.epoch, self.subtask, self.n_staged)
    }

    fn segment(&mut self, partition: u32) -> Result<&mut SegmentWriter> {
        if !self.segments.contains_key(&partition) {
            let name = segment_name(&self.name(), partition);
            let path = self.folder.staged().join(&name);
            self.segments.insert(partition, SegmentWriter::create(path, partition, name)?);
        }
        self.segments
            .get_mut(&partition)
            .ok_or_else(|| Error::internal("a segment that was made is not there"))
    }

    fn stage_at(&mut self, checkpoint: u64) -> Result<StagedTransaction> {
        let at = Moment { epoch: self.epoch, checkpoint };
        if self.segments.is_empty() {
            return Ok(StagedTransaction { at, name: None });
        }
        let name = self.name();
        self.n_staged += 1;
        let segments = std::mem::take(&mut self.segments);
        let segments = segments.into_values().map(SegmentWriter::finish);
        let transaction = Transaction { at, segments: segments.collect::<Result<_>>()? };
        self.folder.stage(&name, &transaction)?;
        Ok(StagedTransaction { at, name: Some(name) })
    }
}

impl<T: Serialize, P: ChoosePartition<T>> SinkWriter<T> for LogWriter<P> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        for record in &batch.values {
            let partition = self.choose.partition(record, self.subtask, self.n_partitions)?;
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            serde_json::to_writer(&mut buffer, record).map_err(|e| {
                Error::user("a record cannot be written to a log, as JSON").caused_by(e)
            })?;
            self.segment(partition)?.record(&buffer)?;
            self.buffer = buffer;
        }
        batch.clear();
        Ok(())
    }

    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Vec<Staged>> {
        Ok(vec![encode(&self.stage_at(checkpoint.0)?)?])
    }

    fn finish(&mut self) -> Result<()> {
        let staged = self.stage_at(u64::MAX)?;
        self.folder.commit_staged(&[staged])
    }
}

struct LogCommitter {
    folder: Folder,
}

impl Committer for LogCommitter {
    fn commit(&mut self, staged: &[Staged]) -> Result<()> {
        self.folder.commit_staged(&decode(staged)?)
    }
}
