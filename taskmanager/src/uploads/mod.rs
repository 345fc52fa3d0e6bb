//! Bringing the snapshots of tasks to storage, on threads that may wait.
//!
//! A task hands over encoded blocks and goes on; a few threads per host write them, make them durable and
//! only then acknowledge. One thread serves a task for the whole of a snapshot, so its blocks stay in order.
//! What a thread runs is a [`Writer`]; a simulation steps writers by hand instead, one message at a time.
//! Stores are cut by a thread of their own: until that is done a task may not write to its store, so it must not wait until the
//! files of others have been brought to storage.
//! What is under way is bounded by the tasks themselves: they stop to write by themselves when their backlog
//! is large, and are woken when it is small again.

#[cfg(test)]
mod tests;
mod trees;
mod writer;

use crossbeam_channel::{Sender, unbounded};
use millstream_model::{Barrier, CheckpointId, Error, Result};
pub use millstream_proto::message::SnapshotEvent;
use millstream_runtime::task::{SnapshotStream, Snapshots, Waker};
use millstream_state::Written;
use millstream_state::copies::LocalCopies;
use millstream_state::lsm::LsmFile;
use millstream_state::snapshot::{CheckpointStorage, Manifest, TaskSnapshot};
use millstream_state::store::{Backend, StoreCut};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use trees::Stored;
pub use writer::Writer;

/// Threads that write to storage.
const N_THREADS: usize = 2;
/// Completed checkpoints that are remembered. Each task has stored its files for each of them, and remembers what it found then.
const MAX_COMPLETED: usize = 16;
/// A backlog from which on a task that has stopped to write is woken.
const SMALL_BACKLOG_BYTES: usize = 1 << 20;

/// Where a checkpoint's files go: a storage, and a folder in it.
#[derive(Clone)]
pub struct Target {
    /// The storage.
    pub storage: Arc<dyn CheckpointStorage>,
    /// The folder.
    pub folder: String,
}

type Stream = (usize, CheckpointId);

enum Message {
    Begin {
        stream: Stream,
        is_savepoint: bool,
        /// `None` if the barrier was here before whoever says where the checkpoint goes.
        target: Option<Target>,
        waker: Waker,
        backlog: Arc<AtomicUsize>,
    },
    /// Where a checkpoint goes for which streams have begun.
    Aim {
        checkpoint: CheckpointId,
        target: Target,
    },
    Block {
        stream: Stream,
        part: u32,
        entries: Written,
    },
    /// Everything was given, and the store is still to be cut.
    Cut {
        stream: Stream,
        snapshot: TaskSnapshot,
        cut: StoreCut,
    },
    Finish {
        stream: Stream,
        snapshot: TaskSnapshot,
        tree: Option<Tree>,
    },
    Fail {
        stream: Stream,
        error: Error,
    },
    GiveUp {
        stream: Stream,
    },
    /// Checkpoints up to this one that are not complete will never be.
    Aborted {
        checkpoint: CheckpointId,
    },
    Stop,
}

/// A store that was cut, and its files.
struct Tree {
    cut: StoreCut,
    files: Vec<LsmFile>,
}

/// Where checkpoints go.
#[derive(Default)]
struct Targets {
    known: BTreeMap<CheckpointId, Target>,
    /// Those for which streams have begun although that is not known yet.
    waited_for: BTreeSet<CheckpointId>,
}

/// Writes the snapshots of one attempt of a job. See the module's text.
pub struct Uploads {
    threads: Vec<Sender<Message>>,
    /// To who cuts stores.
    cuts: Sender<Message>,
    wakers: Vec<Waker>,
    attempt: u32,
    completed: Arc<Mutex<BTreeSet<CheckpointId>>>,
    /// Checkpoints below this number that are not complete never will be.
    given_up: Arc<AtomicU64>,
    copies: Option<Arc<LocalCopies>>,
    targets: Mutex<Targets>,
    events: Sender<(u32, SnapshotEvent)>,
    /// The attempt is over: what has not been written is not wanted any more.
    is_over: Arc<AtomicBool>,
    running: Vec<JoinHandle<()>>,
}

/// Waits for the threads: they hold stores, which must be closed before the process ends.
impl Drop for Uploads {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.iter().chain([&self.cuts]) {
            // One that is gone need not be stopped.
            let _ = thread.send(Message::Stop);
        }
        for thread in self.running.drain(..) {
            // A panic of its own has been printed by the hook.
            let _ = thread.join();
        }
    }
}

impl Uploads {
    /// Starts the threads, for so many tasks of those that the wakers are of. Events carry the attempt. `own` is the checkpoint the attempt was restored from, if
    /// it is the job's own, so that its files may be named again.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(
        wakers: Vec<Waker>,
        n_tasks: usize,
        attempt: u32,
        backend: Option<&Backend>,
        own: Option<&Manifest>,
        events: Sender<(u32, SnapshotEvent)>,
    ) -> Result<Self> {
        let n_threads = N_THREADS.min(n_tasks);
        let (mut uploads, writers) =
            Uploads::by_hand(wakers, n_threads, attempt, backend, own, events);
        for (index, mut writer) in writers.into_iter().enumerate() {
            let is_over = Arc::clone(&uploads.is_over);
            let thread = std::thread::Builder::new()
                .name(format!("millstream-upload-{index}"))
                .spawn(move || writer.run(&is_over))
                .map_err(|e| Error::external("the system refused a thread").caused_by(e))?;
            uploads.running.push(thread);
        }
        Ok(uploads)
    }

    /// The same without threads: somebody else steps the writers, of which one more only cuts.
    pub fn by_hand(
        wakers: Vec<Waker>,
        n_writers: usize,
        attempt: u32,
        backend: Option<&Backend>,
        own: Option<&Manifest>,
        events: Sender<(u32, SnapshotEvent)>,
    ) -> (Self, Vec<Writer>) {
        let mut writers = Vec::new();
        let completed = Arc::<Mutex<BTreeSet<CheckpointId>>>::default();
        let given_up = Arc::<AtomicU64>::default();
        let stored = |manifest: &Manifest| {
            let of_task =
                |(number, task): (usize, &TaskSnapshot)| (number, Stored::of(&task.shared));
            manifest.tasks.iter().enumerate().map(of_task).collect::<HashMap<_, _>>()
        };
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..n_writers.max(1)).map(|_| unbounded()).unzip();
        let (cuts, to_cut) = unbounded();
        for messages in receivers.into_iter().chain([to_cut]) {
            let stored = own.map(stored).unwrap_or_default();
            writers.push(Writer::new(
                messages,
                senders.clone(),
                (attempt, events.clone(), Arc::clone(&given_up)),
                backend.cloned(),
                (Arc::clone(&completed), stored),
            ));
        }
        let uploads = Uploads {
            threads: senders,
            cuts,
            wakers,
            attempt,
            completed,
            given_up,
            copies: backend.map(|backend| Arc::clone(&backend.copies)),
            targets: Mutex::default(),
            events,
            is_over: Arc::default(),
            running: Vec::new(),
        };
        (uploads, writers)
    }

    /// A checkpoint is complete: later ones may name its files.
    pub fn complete(&self, checkpoint: CheckpointId) {
        let mut completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
        completed.insert(checkpoint);
        if completed.len() > MAX_COMPLETED {
            completed.pop_first();
        }
        drop(completed);
        if let Some(copies) = &self.copies {
            copies.complete(checkpoint);
        }
    }

    /// A checkpoint was given up, and those before it that are not complete.
    pub fn aborted(&self, checkpoint: CheckpointId) {
        // At once: what is in the queues may take long, and is not wanted any more.
        self.given_up.fetch_max(checkpoint.0 + 1, Ordering::SeqCst);
        for thread in &self.threads {
            // A thread that is gone is told by the host's end.
            let _ = thread.send(Message::Aborted { checkpoint });
        }
    }

    /// Says where a checkpoint goes; before its barrier is sent. Where other processes have tasks, their barrier may
    /// come through the stream and be faster: what is handed over until then is held.
    pub fn aim(&self, checkpoint: CheckpointId, target: Target) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        // One is under way at a time; the one before may still be asked for by a task that is late.
        while targets.known.len() > 2 {
            targets.known.pop_first();
        }
        if targets.waited_for.remove(&checkpoint) {
            for thread in &self.threads {
                // A thread that is gone is told by the host's end.
                let _ = thread.send(Message::Aim { checkpoint, target: target.clone() });
            }
        }
        targets.known.insert(checkpoint, target);
        // What is older will not be aimed any more.
        targets.waited_for.retain(|waited| *waited > checkpoint);
    }
}

impl Snapshots for Uploads {
    fn begin(&self, task: usize, barrier: Barrier) -> Box<dyn SnapshotStream> {
        let stream = (task, barrier.checkpoint);
        let messages = self.threads[task % self.threads.len()].clone();
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let target = targets.known.get(&barrier.checkpoint).cloned();
        if target.is_none() {
            targets.waited_for.insert(barrier.checkpoint);
        }
        let (waker, backlog) = (Arc::clone(&self.wakers[task]), Arc::new(AtomicUsize::new(0)));
        let is_savepoint = barrier.kind.is_savepoint();
        let begin =
            Message::Begin { stream, is_savepoint, target, waker, backlog: Arc::clone(&backlog) };
        // While the lock is held: what is aimed meanwhile comes behind it. A thread that is gone is told by the host's
        // end.
        let _ = messages.send(begin);
        drop(targets);
        let cuts = self.cuts.clone();
        Box::new(Upload { stream, messages, cuts, backlog, is_over: false })
    }

    fn ended(&self, task: usize) {
        let _ = self.events.send((self.attempt, SnapshotEvent::Ended { task }));
    }
}

/// The task's end of an upload.
struct Upload {
    stream: Stream,
    messages: Sender<Message>,
    cuts: Sender<Message>,
    backlog: Arc<AtomicUsize>,
    is_over: bool,
}

impl SnapshotStream for Upload {
    fn backlog_bytes(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    fn block(&mut self, part: u32, entries: Written) {
        self.backlog.fetch_add(entries.bytes.len(), Ordering::Relaxed);
        let _ = self.messages.send(Message::Block { stream: self.stream, part, entries });
    }

    fn finish(mut self: Box<Self>, snapshot: TaskSnapshot, cut: Option<StoreCut>) {
        self.is_over = true;
        let stream = self.stream;
        let _ = match cut {
            Some(cut) => self.cuts.send(Message::Cut { stream, snapshot, cut }),
            None => self.messages.send(Message::Finish { stream, snapshot, tree: None }),
        };
    }

    fn fail(mut self: Box<Self>, error: Error) {
        self.is_over = true;
        let _ = self.messages.send(Message::Fail { stream: self.stream, error });
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.messages.send(Message::GiveUp { stream: self.stream });
        }
    }
}
