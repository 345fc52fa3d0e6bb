//! From records to files: when a file is complete, and what a checkpoint takes of it.

use super::Rolling;
use super::parts::{self, Parts};
use crate::encode::Encode;
use millstream_model::{Batch, CheckpointId, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::operator::{Committer, SinkWriter, Staged};
use std::path::{Path, PathBuf};

/// Bytes that are given to a file at a time.
pub(super) const BLOCK: usize = 256 * 1024;

/// Writes the files of one subtask.
pub(super) struct FileWriter<E> {
    /// As it is at the beginning of a file: it may write a header.
    form: E,
    encode: E,
    /// Encoded, for the file being written.
    buffer: Vec<u8>,
    parts: Parts,
    rolling: Rolling,
    context: OperatorContext,
}

impl<E: Clone> FileWriter<E> {
    pub(super) fn new(form: E, parts: Parts, rolling: Rolling, context: OperatorContext) -> Self {
        let encode = form.clone();
        FileWriter { form, encode, buffer: Vec::new(), parts, rolling, context }
    }

    fn write_buffer(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.parts.write(&self.buffer, self.context.now_ms())?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// The next record begins a file.
    fn complete(&mut self) -> Result<()> {
        self.write_buffer()?;
        self.encode = self.form.clone();
        self.parts.seal()
    }

    fn roll(&mut self) -> Result<()> {
        let Rolling { at_bytes, after_ms } = self.rolling;
        let open = self.parts.open();
        let size = open.map_or(0, |(size, _)| size) + self.buffer.len() as u64;
        let is_full = size > 0 && at_bytes.is_some_and(|limit| size >= limit);
        let is_old = matches!((open, after_ms), (Some((_, since_ms)), Some(age_ms))
            if self.context.now_ms().saturating_sub(since_ms) >= age_ms);
        if is_full || is_old { self.complete() } else { Ok(()) }
    }
}

impl<T, E: Encode<T>> SinkWriter<T> for FileWriter<E> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.encode.encode(&batch.values, &mut self.buffer)?;
        batch.clear();
        // The age of a file is counted from its first bytes on.
        let begins = self.rolling.after_ms.is_some() && self.parts.open().is_none();
        if begins || self.buffer.len() >= BLOCK {
            self.write_buffer()?;
        }
        self.roll()
    }

    fn flush(&mut self) -> Result<()> {
        self.roll()
    }

    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Vec<Staged>> {
        self.complete()?;
        self.parts.stage(checkpoint)
    }

    fn finish(&mut self) -> Result<()> {
        self.complete()?;
        let is_rolling = self.rolling.at_bytes.is_some() || self.rolling.after_ms.is_some();
        self.parts.finish(is_rolling)
    }
}

/// Gives staged files their names.
pub(super) struct FileCommitter {
    dir: PathBuf,
}

impl FileCommitter {
    pub(super) fn new(dir: &Path) -> Self {
        FileCommitter { dir: dir.to_owned() }
    }
}

impl Committer for FileCommitter {
    fn commit(&mut self, staged: &[Staged]) -> Result<()> {
        parts::commit(&self.dir, staged)
    }
}
