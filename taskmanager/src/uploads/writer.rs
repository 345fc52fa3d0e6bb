//! What writes: the blocks of tasks into their files, their trees' files into storage.
//!
//! A machine that is stepped with one message at a time, by its thread or by a simulation. What comes before it is known where its
//! checkpoint goes is held.

use super::trees::{self, Stored};
use super::{Message, SMALL_BACKLOG_BYTES, SnapshotEvent, Stream, Target, Tree};
use crossbeam_channel::{Receiver, Sender};
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{CheckpointId, Error, Result};
use millstream_runtime::task::Waker;
use millstream_state::Written;
use millstream_state::snapshot::{FileRef, StateFileWriter, TaskSnapshot};
use millstream_state::store::Backend;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// To all that write.
    threads: Vec<Sender<Message>>,
    attempt: u32,
    events: Sender<(u32, SnapshotEvent)>,
    given_up: Arc<AtomicU64>,
    files: HashMap<Stream, File>,
    /// What was handed over before it is known where it goes.
    pub(super) held: HashMap<Stream, Vec<Message>>,
    backend: Option<Backend>,
    completed: Arc<Mutex<BTreeSet<CheckpointId>>>,
    /// By task.
    stored: HashMap<usize, Stored>,
}

impl Writer {
    /// Writes for an attempt what comes as messages; `threads` are all that write. What is `completed`, and what of each task's
    /// files is stored, is known from before.
    pub(super) fn new(
        messages: Receiver<Message>,
        threads: Vec<Sender<Message>>,
        (attempt, events, given_up): (u32, Sender<(u32, SnapshotEvent)>, Arc<AtomicU64>),
        backend: Option<Backend>,
        (completed, stored): (Arc<Mutex<BTreeSet<CheckpointId>>>, HashMap<usize, Stored>),
    ) -> Self {
        Writer {
            messages,
            threads,
            attempt,
            events,
            given_up,
            files: HashMap::new(),
            held: HashMap::new(),
            backend,
            completed,
            stored,
        }
    }

    pub(super) fn run(&mut self, is_over: &AtomicBool) {
        while let Ok(message) = self.messages.recv() {
            match message {
                Message::Stop => break,
                _ if is_over.load(Ordering::SeqCst) => {}
                message => self.take(message),
            }
        }
    }

    /// Whether a stream is of a checkpoint that never will be.
    fn is_given_up(&self, (_, checkpoint): Stream) -> bool {
        checkpoint.0 < self.given_up.load(Ordering::SeqCst)
    }

    /// To who writes a stream.
    fn send(&self, stream: Stream, message: Message) {
        // A thread that is gone is told by the host's end.
        let _ = self.threads[stream.0 % self.threads.len()].send(message);
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
                let is_given_up = self.is_given_up(stream);
                let Some(file) = self.files.get_mut(&stream) else { return };
                let written = if is_given_up { Ok(()) } else { file.write(part, &entries) };
                let n_bytes = entries.bytes.len();
                let before = file.backlog.fetch_sub(n_bytes, Ordering::Relaxed);
                if before - n_bytes < SMALL_BACKLOG_BYTES {
                    file.waker.wake();
                }
                if let Err(error) = written {
                    self.decline(stream, error);
                }
            }
            // While storage is slow, more and more of these would come.
            Message::Cut { stream, .. } if self.is_given_up(stream) => {
                self.send(stream, Message::GiveUp { stream });
            }
            Message::Finish { stream, .. } if self.is_given_up(stream) => {
                self.files.remove(&stream);
            }
            Message::Cut { stream, snapshot, mut cut } => {
                let message = match cut.run() {
                    Ok(files) => {
                        Message::Finish { stream, snapshot, tree: Some(Tree { cut, files }) }
                    }
                    Err(error) => Message::Fail { stream, error },
                };
                self.send(stream, message);
            }
            Message::Finish { stream, snapshot, tree } => {
                let Some(file) = self.files.remove(&stream) else { return };
                match self.finish(stream, file, snapshot, tree) {
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
                // With what is held goes the cut of a tree, whose files are not needed any more.
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
        tree: Option<Tree>,
    ) -> Result<TaskSnapshot> {
        if let Some(Tree { cut, files: tables }) = tree {
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
