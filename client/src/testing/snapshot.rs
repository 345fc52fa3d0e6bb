//! Snapshots of a pipeline under test: taken by the tasks of a real job, kept in memory.
//!
//! What tasks write goes into checkpoint storage and a manifest exactly as it does in a job; only the threads
//! that bring it there are missing. So a test may hold the writing back: everything is frozen, the pipeline
//! runs on, and what it changes must not show in the snapshot.

use millstream_model::{Barrier, CheckpointId, Error, Result, SnapshotKind};
use millstream_runtime::task::{Command, Control, Restore, SnapshotStream, Snapshots};
use millstream_state::Written;
use millstream_state::snapshot::{
    Manifest, MemoryStorage, StateFileWriter, TaskSnapshot, VertexSnapshot, checkpoint_folder,
    write_manifest,
};
use millstream_state::store::StoreCut;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A moment of a pipeline, to which it can be taken back; see [`Harness::snapshot`](super::Harness::snapshot).
#[derive(Clone)]
pub struct Snapshot(pub(super) Restore);

/// Takes in what the tasks of a pipeline write.
#[derive(Default)]
pub(super) struct Shelf {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    storage: MemoryStorage,
    /// Whether tasks are to wait with writing.
    is_held: bool,
    taken: BTreeMap<usize, TaskSnapshot>,
    failed: Option<Error>,
    n_ended: usize,
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    /// How many tasks have come to their end.
    pub(super) fn n_ended(&self) -> usize {
        lock(&self.inner).n_ended
    }

    /// Sends a barrier into the pipeline, and lets nothing be written yet.
    pub(super) fn begin(&self, checkpoint: CheckpointId, controls: &[Arc<Control>]) {
        let mut inner = lock(&self.inner);
        let n_ended = inner.n_ended;
        *inner = Inner { is_held: true, n_ended, ..Inner::default() };
        let barrier = Barrier { checkpoint, kind: SnapshotKind::Checkpoint };
        controls.iter().for_each(|control| control.send(Command::Barrier(barrier)));
    }

    /// Lets the tasks write.
    pub(super) fn release(&self) {
        lock(&self.inner).is_held = false;
    }

    /// Closes the snapshot that every task has written.
    pub(super) fn complete(
        &self,
        id: CheckpointId,
        vertices: Vec<VertexSnapshot>,
        n_tasks: usize,
    ) -> Result<Snapshot> {
        let mut inner = lock(&self.inner);
        if let Some(error) = inner.failed.take() {
            return Err(error);
        }
        let tasks: Vec<_> = std::mem::take(&mut inner.taken).into_values().collect();
        if tasks.len() < n_tasks {
            return Err(Error::internal(format!(
                "{} of {n_tasks} tasks did not take part in the snapshot",
                n_tasks - tasks.len()
            )));
        }
        let (kind, job) = (SnapshotKind::Checkpoint, "harness".into());
        let manifest = Manifest { id, epoch: 0, kind, completed_at_ms: 0, job, vertices, tasks };
        write_manifest(&inner.storage, &checkpoint_folder(id, 0), &manifest)?;
        let storage = Arc::new(inner.storage.clone());
        Ok(Snapshot(Restore { storage, manifest: Arc::new(manifest), allow_non_restored: false }))
    }
}

impl Snapshots for Shelf {
    fn begin(&self, task: usize, barrier: Barrier) -> Box<dyn SnapshotStream> {
        let path = format!("{}/task-{task}", checkpoint_folder(barrier.checkpoint, 0));
        let inner = Arc::clone(&self.inner);
        Box::new(Stream { inner, task, path, writer: None, failed: None })
    }

    fn ended(&self, _: usize) {
        lock(&self.inner).n_ended += 1;
    }
}

struct Stream {
    inner: Arc<Mutex<Inner>>,
    task: usize,
    path: String,
    /// Begun with the first block.
    writer: Option<StateFileWriter>,
    failed: Option<Error>,
}

impl Stream {
    fn write(&mut self, part: u32, entries: &Written) -> Result<()> {
        if self.writer.is_none() {
            let storage = lock(&self.inner).storage.clone();
            self.writer = Some(StateFileWriter::create(&storage, &self.path)?);
        }
        self.writer.as_mut().map_or(Ok(()), |writer| writer.block(part, entries))
    }
}

impl SnapshotStream for Stream {
    fn backlog_bytes(&self) -> usize {
        if lock(&self.inner).is_held { usize::MAX } else { 0 }
    }

    fn block(&mut self, part: u32, entries: Written) {
        if let Err(error) = self.write(part, &entries) {
            self.failed.get_or_insert(error);
        }
    }

    /// All state is in memory: there is no store to cut.
    fn finish(self: Box<Self>, mut snapshot: TaskSnapshot, _: Option<StoreCut>) {
        let Stream { inner, task, writer, failed, .. } = *self;
        let file = match failed {
            Some(error) => Err(error),
            None => writer.map(StateFileWriter::finish).transpose(),
        };
        let mut inner = lock(&inner);
        match file {
            Ok(file) => {
                snapshot.file = file;
                inner.taken.insert(task, snapshot);
            }
            Err(error) => inner.failed = Some(error),
        }
    }

    fn fail(self: Box<Self>, error: Error) {
        lock(&self.inner).failed = Some(error);
    }
}
