//! Bringing the snapshots of tasks to storage, on threads that may wait.
//!
//! A task hands over encoded blocks and goes on; a few threads per host write them, make them durable and
//! only then acknowledge. One thread serves a task for the whole of a snapshot, so its blocks stay in order.
//! What a thread runs is a [`Writer`]; a simulation steps writers by hand instead, one message at a time.
//! What is under way is bounded by the tasks themselves: they stop to write by themselves when their backlog
//! is large, and are woken when it is small again.

#[cfg(test)]
mod tests;
mod trees;

use crossbeam_channel::{Receiver, Sender, unbounded};
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Barrier, CheckpointId, Error, Result};
pub use millstream_proto::message::SnapshotEvent;
use millstream_runtime::task::{SnapshotStream, Snapshots, Waker};
use millstream_state::Written;
use millstream_state::copies::LocalCopies;
use millstream_state::snapshot::{
    CheckpointStorage, FileRef, Manifest, StateFileWriter, TaskSnapshot,
};
use millstream_state::store::{Backend, StoreCut};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use trees::Stored;

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
    Finish {
        stream: Stream,
        snapshot: TaskSnapshot,
        cut: Option<StoreCut>,
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
    wakers: Vec<Waker>,
    attempt: u32,
    completed: Arc<Mutex<BTreeSet<CheckpointId>>>,
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
        for thread in &self.threads {
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

    /// The same without threads: somebody else steps the writers.
    pub fn by_hand(
        wakers: Vec<Waker>,
        n_writers: usize,
        attempt: u32,
        backend: Option<&Backend>,
        own: Option<&Manifest>,
        events: Sender<(u32, SnapshotEvent)>,
    ) -> (Self, Vec<Writer>) {
        let (mut threads, mut writers) = (Vec::new(), Vec::new());
        let completed = Arc::<Mutex<BTreeSet<CheckpointId>>>::default();
        let stored = |manifest: &Manifest| {
            let of_task =
                |(number, task): (usize, &TaskSnapshot)| (number, Stored::of(&task.shared));
            manifest.tasks.iter().enumerate().map(of_task).collect::<HashMap<_, _>>()
        };
        for _ in 0..n_writers.max(1) {
            let (sender, messages) = unbounded();
            threads.push(sender);
            writers.push(Writer {
                messages,
                attempt,
                events: events.clone(),
                files: HashMap::new(),
                held: HashMap::new(),
                backend: backend.cloned(),
                completed: Arc::clone(&completed),
                stored: own.map(stored).unwrap_or_default(),
            });
        }
        let uploads = Uploads {
            threads,
            wakers,
            attempt,
            completed,
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
        Box::new(Upload { stream, messages, backlog, is_over: false })
    }

    fn ended(&self, task: usize) {
        let _ = self.events.send((self.attempt, SnapshotEvent::Ended { task }));
    }
}

/// The task's end of an upload.
struct Upload {
    stream: Stream,
    messages: Sender<Message>,
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
        let _ = self.messages.send(Message::Finish { stream: self.stream, snapshot, cut });
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

/// A file being written.
struct File {
    is_savepoint: bool,
    target: Target,
    waker: Waker,
    backlog: Arc<AtomicUsize>,
    /// Begun with the first block.
    writer: Option<StateFileWriter>,
}

impl File {
    fn write(&mut self, part: u32, entries: &Written) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let path = &self.target.folder;
                self.writer.insert(StateFileWriter::create(&*self.target.storage, path)?)
            }
        };
        writer.block(part, entries)
    }
}

/// Writes what the tasks that it serves hand over.
pub struct Writer {
    messages: Receiver<Message>,
    attempt: u32,
    events: Sender<(u32, SnapshotEvent)>,
    files: HashMap<Stream, File>,
    /// What was handed over before it is known where it goes.
    held: HashMap<Stream, Vec<Message>>,
    backend: Option<Backend>,
    completed: Arc<Mutex<BTreeSet<CheckpointId>>>,
    /// By task.
    stored: HashMap<usize, Stored>,
}

impl Writer {
    fn run(&mut self, is_over: &AtomicBool) {
        while let Ok(message) = self.messages.recv() {
            match message {
                Message::Stop => break,
                _ if is_over.load(Ordering::SeqCst) => {}
                message => self.take(message),
            }
        }
    }

    /// Whether there is something to do now.
    pub fn has_work(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Does one piece of work, if there is one.
    pub fn step(&mut self) {
        if let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
    }

    /// Whether a message has to wait until it is known where its stream goes; then it is kept.
    fn holds_back(&mut self, message: Message) -> Option<Message> {
        if let Message::Begin { stream, .. } = &message {
            // A task takes part in one checkpoint at a time: what it has begun before is given up.
            self.held.retain(|(task, _), _| *task != stream.0);
        }
        match &message {
            Message::Begin { stream, target: None, .. } => {
                self.held.insert(*stream, vec![message]);
                None
            }
            Message::Block { stream, .. } | Message::Finish { stream, .. } => {
                match self.held.get_mut(stream) {
                    Some(held) => {
                        held.push(message);
                        None
                    }
                    None => Some(message),
                }
            }
            Message::Fail { stream, .. } | Message::GiveUp { stream } => {
                self.held.remove(stream);
                Some(message)
            }
            _ => Some(message),
        }
    }

    fn take(&mut self, message: Message) {
        let Some(message) = self.holds_back(message) else { return };
        match message {
            // Held back above.
            Message::Begin { target: None, .. } => {}
            Message::Aim { checkpoint, target: aim } => {
                let aimed = self.held.extract_if(|(_, of), _| *of == checkpoint);
                let messages: Vec<Message> = aimed.flat_map(|(_, messages)| messages).collect();
                for mut message in messages {
                    if let Message::Begin { target, .. } = &mut message {
                        *target = Some(aim.clone());
                    }
                    self.take(message);
                }
            }
            Message::Begin { stream, is_savepoint, target: Some(target), waker, backlog } => {
                let (task, attempt) = (stream.0, self.attempt);
                let folder = format!("{}/task-{task}-{attempt}", target.folder);
                let target = Target { folder, ..target };
                let file = File { is_savepoint, target, waker, backlog, writer: None };
                self.files.insert(stream, file);
            }
            Message::Block { stream, part, entries } => {
                let Some(file) = self.files.get_mut(&stream) else { return };
                let written = file.write(part, &entries);
                let n_bytes = entries.bytes.len();
                let before = file.backlog.fetch_sub(n_bytes, Ordering::Relaxed);
                if before - n_bytes < SMALL_BACKLOG_BYTES {
                    file.waker.wake();
                }
                if let Err(error) = written {
                    self.decline(stream, error);
                }
            }
            Message::Finish { stream, snapshot, cut } => {
                let Some(file) = self.files.remove(&stream) else { return };
                match self.finish(stream, file, snapshot, cut) {
                    Ok(snapshot) => {
                        let (task, checkpoint) = stream;
                        self.tell(SnapshotEvent::Taken { task, checkpoint, snapshot });
                    }
                    Err(error) => self.decline(stream, error),
                }
            }
            Message::Fail { stream, error } => self.decline(stream, error),
            Message::GiveUp { stream } => {
                self.files.remove(&stream);
            }
            Message::Aborted { checkpoint } => {
                // With what is held goes the cut of a tree, which takes nothing until then.
                self.held.retain(|(_, of), _| *of > checkpoint);
            }
            Message::Stop => {}
        }
    }

    fn finish(
        &mut self,
        (task, checkpoint): Stream,
        mut file: File,
        mut snapshot: TaskSnapshot,
        cut: Option<StoreCut>,
    ) -> Result<TaskSnapshot> {
        if let Some(mut cut) = cut {
            let tables = cut.run()?;
            match &self.backend {
                Some(backend) if file.is_savepoint => {
                    trees::write_entries(
                        backend,
                        &cut,
                        &tables,
                        &mut snapshot,
                        |part, entries| file.write(part, entries),
                    )?;
                }
                backend => {
                    let completed =
                        self.completed.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let stored = self.stored.entry(task).or_default();
                    snapshot.shared =
                        stored.store(checkpoint, &completed, &file.target, &tables)?;
                    if let Some(backend) = backend {
                        backend.copies.keep(task, checkpoint, &tables);
                    }
                }
            }
        }
        snapshot.file = match trees::close(file.writer) {
            Err(_) if is_planted(Bug::AckBeforeDurable) => {
                Some(FileRef { path: file.target.folder, bytes: 0, digest: String::new() })
            }
            file => file?,
        };
        Ok(snapshot)
    }

    fn decline(&mut self, (task, checkpoint): Stream, error: Error) {
        self.files.remove(&(task, checkpoint));
        self.tell(SnapshotEvent::Declined { task, checkpoint, error });
    }

    fn tell(&self, event: SnapshotEvent) {
        let _ = self.events.send((self.attempt, event));
    }
}
