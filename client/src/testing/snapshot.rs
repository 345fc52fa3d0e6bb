//! Snapshots of a pipeline under test: taken by the tasks of a real job, kept in memory.
//!
//! What tasks write goes through the writers of a real job into checkpoint storage and a manifest; only the threads
//! that they would run on are missing, and what they have to do is done whenever the tasks have had their turn. So a
//! test may hold the writing back: everything is frozen, the pipeline runs on, and what it changes must not show in
//! the snapshot.

use crossbeam_channel::{Receiver, unbounded};
use millstream_model::{Barrier, CheckpointId, Error, Result, SnapshotKind};
use millstream_runtime::task::{Command, Control, Restore, SnapshotStream, Snapshots, Waker};
use millstream_state::Written;
use millstream_state::snapshot::{
    CheckpointStorage, Manifest, TaskSnapshot, VertexSnapshot, checkpoint_folder, write_manifest,
};
use millstream_state::store::{Backend, StoreCut};
use millstream_taskmanager::uploads::{SnapshotEvent, Target, Uploads, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A moment of a pipeline, to which it can be taken back; see [`Harness::snapshot`](super::Harness::snapshot).
#[derive(Clone)]
pub struct Snapshot(pub(super) Restore);

impl Snapshot {
    /// How many bytes its files have, those included that it shares with earlier ones.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let mut harness = Harness::new(|input: DataStream<u32>| input.key_by(|n| *n).count())?;
    /// let before = harness.snapshot()?.size_bytes();
    /// (0..100).for_each(|n| harness.input().element(n, 0));
    /// assert!(harness.snapshot()?.size_bytes() > before);
    /// # Ok(())
    /// # }
    /// ```
    pub fn size_bytes(&self) -> u64 {
        self.0.manifest.files().map(|file| file.bytes).sum()
    }
}

/// Takes in what the tasks of one attempt write.
pub(super) struct Shelf {
    gate: Arc<Gate>,
    writers: Vec<Writer>,
    events: Receiver<(u32, SnapshotEvent)>,
    storage: Arc<dyn CheckpointStorage>,
    newest: CheckpointId,
    taken: BTreeMap<usize, TaskSnapshot>,
    failed: Option<Error>,
    n_ended: usize,
}

impl Shelf {
    /// That of an attempt whose tasks have these wakers. `own` is what it was restored from, if that lies in the same
    /// storage.
    pub(super) fn new(
        storage: Arc<dyn CheckpointStorage>,
        wakers: Vec<Waker>,
        attempt: u32,
        backend: Option<&Backend>,
        own: Option<&Manifest>,
    ) -> Self {
        let (sender, events) = unbounded();
        let (uploads, writers) = Uploads::by_hand(wakers, 1, attempt, backend, own, sender);
        Shelf {
            gate: Arc::new(Gate { uploads, is_held: Arc::default() }),
            writers,
            events,
            storage,
            newest: CheckpointId(0),
            taken: BTreeMap::new(),
            failed: None,
            n_ended: 0,
        }
    }

    /// Where tasks bring their snapshots.
    pub(super) fn entrance(&self) -> Arc<dyn Snapshots> {
        Arc::clone(&self.gate) as Arc<dyn Snapshots>
    }

    /// How many tasks have come to their end.
    pub(super) fn n_ended(&self) -> usize {
        self.n_ended
    }

    /// Sends a barrier into the pipeline, and lets nothing be written yet.
    pub(super) fn begin(&mut self, checkpoint: CheckpointId, controls: &[Arc<Control>]) {
        self.newest = checkpoint;
        self.taken.clear();
        self.failed = None;
        self.gate.is_held.store(true, Ordering::SeqCst);
        let (storage, folder) = (Arc::clone(&self.storage), checkpoint_folder(checkpoint, 0));
        self.gate.uploads.aim(checkpoint, Target { storage, folder });
        let barrier = Barrier { checkpoint, kind: SnapshotKind::Checkpoint };
        controls.iter().for_each(|control| control.send(Command::Barrier(barrier)));
    }

    /// Lets the tasks write.
    pub(super) fn release(&self) {
        self.gate.is_held.store(false, Ordering::SeqCst);
    }

    /// Does what the threads of the writers would have done by now; whether that was anything.
    pub(super) fn work(&mut self) -> bool {
        let mut has_worked = false;
        for writer in &mut self.writers {
            while writer.has_work() {
                writer.step();
                has_worked = true;
            }
        }
        for (_, event) in self.events.try_iter() {
            match event {
                SnapshotEvent::Taken { task, checkpoint, snapshot } => {
                    if checkpoint == self.newest {
                        self.taken.insert(task, snapshot);
                    }
                }
                SnapshotEvent::Declined { checkpoint, error, .. } => {
                    if checkpoint == self.newest {
                        self.failed = Some(error);
                    }
                }
                SnapshotEvent::Ended { .. } => self.n_ended += 1,
            }
        }
        has_worked
    }

    /// Closes the snapshot that every task has written.
    pub(super) fn complete(
        &mut self,
        vertices: Vec<VertexSnapshot>,
        n_tasks: usize,
    ) -> Result<Snapshot> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let tasks: Vec<_> = std::mem::take(&mut self.taken).into_values().collect();
        if tasks.len() < n_tasks {
            return Err(Error::internal(format!(
                "{} of {n_tasks} tasks did not take part in the snapshot",
                n_tasks - tasks.len()
            )));
        }
        let (id, kind, job) = (self.newest, SnapshotKind::Checkpoint, "harness".into());
        let manifest = Manifest { id, epoch: 0, kind, completed_at_ms: 0, job, vertices, tasks };
        write_manifest(&*self.storage, &checkpoint_folder(id, 0), &manifest)?;
        self.gate.uploads.complete(id);
        let (storage, manifest) = (Arc::clone(&self.storage), Arc::new(manifest));
        Ok(Snapshot(Restore { storage, manifest, allow_non_restored: false }))
    }
}

/// The writers' entrance, which can be shut.
struct Gate {
    uploads: Uploads,
    is_held: Arc<AtomicBool>,
}

impl Snapshots for Gate {
    fn begin(&self, task: usize, barrier: Barrier) -> Box<dyn SnapshotStream> {
        let inner = self.uploads.begin(task, barrier);
        Box::new(Gated { inner, is_held: Arc::clone(&self.is_held) })
    }

    fn ended(&self, task: usize) {
        self.uploads.ended(task);
    }
}

struct Gated {
    inner: Box<dyn SnapshotStream>,
    is_held: Arc<AtomicBool>,
}

impl SnapshotStream for Gated {
    fn backlog_bytes(&self) -> usize {
        if self.is_held.load(Ordering::SeqCst) { usize::MAX } else { self.inner.backlog_bytes() }
    }

    fn block(&mut self, part: u32, entries: Written) {
        self.inner.block(part, entries);
    }

    fn finish(self: Box<Self>, snapshot: TaskSnapshot, cut: Option<StoreCut>) {
        self.inner.finish(snapshot, cut);
    }

    fn fail(self: Box<Self>, error: Error) {
        self.inner.fail(error);
    }
}
