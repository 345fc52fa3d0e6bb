//! What a gate has taken out of its queue and not given to its task, and how it becomes part of a snapshot.
//!
//! An aligned barrier only holds back: what arrives on a channel that is ahead waits here, in order. A barrier
//! that overtakes (Carbone et al. call it unaligned; Flink's FLIP-76) leaves data behind it that belongs before
//! it: that is *channel state*. It is written down when the task takes it or when a slice gets to it, whichever
//! comes first, so neither waits for the other. How far a channel's part reaches its sender says with the
//! barrier; of a channel whose barrier has not come everything belongs before it.
//!
//! After a restore, channel state is replayed before anything else, through a valve of its own that stands where
//! the old one stood: so every record is judged by the watermark it would have been judged by. With another
//! parallelism every subtask replays what it owns now of what each old one had. Then a channel that was idle holds event
//! time all the same: it was left out of account by one old subtask, and says nothing of where the others were.

use crate::watermark::{Status, Valve};
use millstream_model::{Batch, CheckpointId, Data, Error, EventTime, Result, Signal};
use millstream_state::codec;
use millstream_state::part::{Entries, Written};
use millstream_state::schema::Shape;
use millstream_state::snapshot::{Assignment, PartKind};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What a channel carries.
pub(super) enum Message<T> {
    /// Records, and the bytes they were counted with.
    Batch(Batch<T>, usize),
    Signal(Signal),
}

/// A message that was taken out of the queue.
pub(super) struct Held<T> {
    pub(super) channel: usize,
    /// How many messages of its channel came before it.
    pub(super) number: u64,
    pub(super) message: Message<T>,
    is_written: bool,
}

impl<T> Held<T> {
    pub(super) fn new(channel: usize, number: u64, message: Message<T>) -> Self {
        Held { channel, number, message, is_written: false }
    }
}

/// See the module's text.
pub(super) struct InFlight<T> {
    /// What arrived on channels that are ahead, in order.
    held: VecDeque<Held<T>>,
    /// What goes on.
    freed: VecDeque<Held<T>>,
    recording: Option<Recording>,
    pub(super) replay: Option<Replay<T>>,
}

/// The channel state of a checkpoint.
struct Recording {
    checkpoint: CheckpointId,
    /// Of each channel, the first message behind the barrier; `None` while the barrier has not come.
    limits: Vec<Option<u64>>,
    /// Whether the limits are known and everything before them has been taken out of the queue.
    is_whole: bool,
    written: Written,
    failure: Option<Error>,
}

/// An entry of the part. Written from [`EntryRef`], which has the same variants.
#[derive(Deserialize)]
enum Entry<T> {
    /// Where the channel's watermark stood before what follows, and whether it was idle.
    Stand(EventTime, bool),
    Batch(Batch<T>),
    Status(Signal),
}

#[derive(Serialize)]
enum EntryRef<'a, T> {
    Stand(EventTime, bool),
    Batch(&'a Batch<T>),
    Status(Signal),
}

/// Bytes of an entry that says where a channel stood.
const STAND_BYTES: usize = 4 + 4 + 8 + 1;

/// Whether entries of a part hold more than where channels stood, which is of use only for what comes behind it.
pub(crate) fn holds_messages(entries: &[u8]) -> bool {
    let is_stand = |entry: &[u8]| entry.len() == STAND_BYTES && entry[4..8] == [0; 4];
    !entries.chunks(STAND_BYTES).all(is_stand)
}

impl Recording {
    fn is_before(&self, channel: usize, number: u64) -> bool {
        self.limits.get(channel).is_some_and(|limit| limit.is_none_or(|limit| number < limit))
    }

    fn log<T: Data>(&mut self, channel: usize, entry: &EntryRef<'_, T>) {
        match codec::encode(&(channel as u32, entry), &mut self.written.bytes) {
            Ok(()) => self.written.n_entries += 1,
            Err(e) => {
                self.failure.get_or_insert(e);
            }
        }
    }

    /// Writes a message down unless that is done or it came behind the barrier.
    fn record<T: Data>(&mut self, held: &mut Held<T>) {
        if held.is_written || !self.is_before(held.channel, held.number) {
            return;
        }
        held.is_written = true;
        match &held.message {
            Message::Batch(batch, _) => self.log(held.channel, &EntryRef::Batch(batch)),
            Message::Signal(signal @ (Signal::Idle | Signal::Active | Signal::End)) => {
                self.log::<T>(held.channel, &EntryRef::Status(*signal));
            }
            Message::Signal(_) => {}
        }
    }
}

impl<T: Data> InFlight<T> {
    pub(super) fn new() -> Self {
        InFlight { held: VecDeque::new(), freed: VecDeque::new(), recording: None, replay: None }
    }

    /// Holds a message back.
    pub(super) fn hold(&mut self, held: Held<T>) {
        self.held.push_back(held);
    }

    /// Puts back a message that was taken out too soon.
    pub(super) fn put_back(&mut self, held: Held<T>) {
        self.freed.push_front(held);
    }

    /// Keeps a message that was taken out of the queue ahead of its turn.
    pub(super) fn keep(&mut self, held: Held<T>) {
        self.freed.push_back(held);
    }

    /// The next message that goes on.
    pub(super) fn next(&mut self) -> Option<Held<T>> {
        self.freed.pop_front()
    }

    /// Lets go on what was held; it is older than what was freed before and not yet taken.
    pub(super) fn free(&mut self) {
        self.held.append(&mut self.freed);
        std::mem::swap(&mut self.held, &mut self.freed);
    }

    /// The task is about to take a message.
    pub(super) fn take(&mut self, held: &mut Held<T>) {
        if let Some(recording) = &mut self.recording {
            recording.record(held);
        }
    }

    /// Begins to record what belongs before a barrier that has overtaken it; `limits` as far as they are
    /// known.
    pub(super) fn record(
        &mut self,
        checkpoint: CheckpointId,
        limits: Vec<Option<u64>>,
        valve: &Valve,
    ) {
        let mut recording = Recording {
            checkpoint,
            limits,
            is_whole: false,
            written: Written::default(),
            failure: None,
        };
        for (channel, (watermark, status)) in valve.inputs().enumerate() {
            if status != Status::Ended {
                let stand = EntryRef::<T>::Stand(watermark, status == Status::Idle);
                recording.log(channel, &stand);
            }
        }
        // What an earlier checkpoint has written down and the task has not taken is in this one, too.
        for held in self.held.iter_mut().chain(&mut self.freed) {
            held.is_written = false;
        }
        self.recording = Some(recording);
    }

    /// Whether channel state is being recorded for this checkpoint.
    pub(super) fn is_recording(&self, checkpoint: CheckpointId) -> bool {
        self.recording.as_ref().is_some_and(|r| r.checkpoint == checkpoint)
    }

    /// The barrier of a channel has come, behind so many messages; or the channel ended there.
    pub(super) fn limit(&mut self, channel: usize, n_before: u64) {
        if let Some(recording) = &mut self.recording
            && recording.limits[channel].is_none()
        {
            recording.limits[channel] = Some(n_before);
        }
    }

    /// Whether more has to be taken out of the queue; `n_taken` of each channel has been.
    pub(super) fn lacks(&mut self, n_taken: &[u64]) -> bool {
        let Some(recording) = &mut self.recording else { return false };
        let reached = |(limit, taken): (&Option<u64>, &u64)| limit.is_some_and(|l| *taken >= l);
        recording.is_whole = recording.limits.iter().zip(n_taken).all(reached);
        !recording.is_whole
    }

    /// Whether the rest of the channel state has yet to come.
    pub(super) fn is_waiting(&self) -> bool {
        self.recording.as_ref().is_some_and(|r| !r.is_whole)
    }

    /// Writes what has been recorded, and what waits here and belongs to it; whether that is all.
    pub(super) fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        let Some(recording) = &mut self.recording else { return Ok(true) };
        out.append(&mut recording.written);
        let mut is_through = true;
        for held in self.held.iter_mut().chain(&mut self.freed) {
            if out.bytes.len() + recording.written.bytes.len() >= budget {
                is_through = false;
                break;
            }
            recording.record(held);
        }
        out.append(&mut recording.written);
        if let Some(e) = recording.failure.take() {
            return Err(e);
        }
        let is_done = is_through && recording.is_whole;
        if is_done {
            self.recording = None;
        }
        Ok(is_done)
    }

    /// The checkpoint is given up.
    pub(super) fn forget(&mut self) {
        self.recording = None;
    }

    /// So are this one and those before it.
    pub(super) fn forget_up_to(&mut self, checkpoint: CheckpointId) {
        self.recording.take_if(|recording| recording.checkpoint <= checkpoint);
    }

    pub(super) fn shape() -> Result<Shape> {
        Shape::of::<(u32, Entry<T>)>()
    }

    /// Takes channel state to be replayed.
    pub(super) fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        let assignment = entries.assignment;
        let is_same = assignment.parallelism == assignment.n_writers;
        if is_same && assignment.writer != assignment.subtask {
            return Ok(());
        }
        let replay = self.replay.get_or_insert_with(Replay::default);
        entries.each(|index, (channel, entry): (u32, Entry<T>)| {
            let input = replay.input(assignment.writer, channel);
            match entry {
                Entry::Stand(watermark, is_idle) => {
                    replay.stands.push((input, watermark, is_idle && is_same));
                }
                Entry::Status(Signal::Idle | Signal::Active) if !is_same => {}
                Entry::Status(signal) => {
                    replay.messages.push_back((input, Replayed::Status(signal)))
                }
                Entry::Batch(batch) => {
                    if !batch.is_whole() {
                        return Err(Error::external("stored channel state is damaged"));
                    }
                    let batch =
                        if is_same { batch } else { owned(batch, assignment, index as usize) };
                    if !batch.is_blank() {
                        replay.messages.push_back((input, Replayed::Batch(batch)));
                    }
                }
            }
            Ok(())
        })
    }
}

/// What of a batch belongs to a subtask: by key if it is keyed, else all or nothing, but always its marks.
fn owned<T>(mut batch: Batch<T>, assignment: &Assignment, index: usize) -> Batch<T> {
    let is_dealt = assignment.is_dealt(index);
    let keeps: Vec<bool> = if batch.hashes.is_empty() {
        vec![is_dealt; batch.len()]
    } else {
        batch.hashes.iter().map(|hash| assignment.owns(*hash)).collect()
    };
    let mut keeps = keeps.into_iter();
    batch.retain(|_| keeps.next().unwrap_or(false));
    batch
}

/// Channel state on its way into the task.
pub(super) struct Replay<T> {
    /// The old subtasks and channels, by the number of their input.
    inputs: Vec<(usize, u32)>,
    /// Where the inputs' watermarks stand at the beginning.
    stands: Vec<(usize, EventTime, bool)>,
    messages: VecDeque<(usize, Replayed<T>)>,
    /// Made when the replay begins.
    valve: Option<Valve>,
}

enum Replayed<T> {
    Batch(Batch<T>),
    Status(Signal),
}

impl<T> Default for Replay<T> {
    fn default() -> Self {
        Replay { inputs: Vec::new(), stands: Vec::new(), messages: VecDeque::new(), valve: None }
    }
}

impl<T> Replay<T> {
    fn input(&mut self, writer: usize, channel: u32) -> usize {
        let at = (writer, channel);
        match self.inputs.iter().position(|input| *input == at) {
            Some(input) => input,
            None => {
                self.inputs.push(at);
                self.inputs.len() - 1
            }
        }
    }

    /// The next batch, its marks being the watermarks of the whole; `None` at the end. An empty one changes
    /// nothing.
    pub(super) fn next(&mut self) -> Option<Batch<T>> {
        let (inputs, stands) = (self.inputs.len(), &self.stands);
        let valve = self.valve.get_or_insert_with(|| {
            let mut valve = Valve::new(inputs);
            for &(input, watermark, is_idle) in stands {
                valve.advance(input, watermark);
                if is_idle {
                    valve.idle(input);
                }
            }
            valve
        });
        let (input, message) = self.messages.pop_front()?;
        let mut batch = match message {
            Replayed::Batch(batch) => batch,
            Replayed::Status(signal) => {
                let change = match signal {
                    Signal::Idle => valve.idle(input),
                    Signal::Active => valve.active(input),
                    _ => valve.end(input),
                };
                let mut batch = Batch::default();
                if let Some(watermark) = change.watermark {
                    batch.mark(watermark);
                }
                return Some(batch);
            }
        };
        batch.marks.retain_mut(|mark| match valve.advance(input, mark.watermark) {
            Some(watermark) => {
                mark.watermark = watermark;
                true
            }
            None => false,
        });
        Some(batch)
    }
}

/// The kind of the part: every subtask sees all of it and picks what it owns.
pub(super) const KIND: PartKind = PartKind::Union;
