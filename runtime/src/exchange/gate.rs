//! The receiving side: one queue per subtask, credit per channel.
//!
//! A sender that cannot send says so in its channel and is woken by the gate, which looks for such senders
//! when a batch is taken out: all of them when the queue has become empty, because then one of them may send
//! whatever memory there is; otherwise the one whose credit has come back, and one other in turn, because
//! there may be memory now. Until it is woken a sender need not try: so a task that is blocked on many
//! channels, woken for one, does not go through all.
//!
//! At a barrier the channels wait for each other: what arrives on one that is ahead is held, in order, and
//! goes on when the last one has brought the barrier. Held batches keep their credit and their memory, which
//! bounds them, but do not count as queued: the channels that are behind may go on sending whatever memory
//! there is, so waiting for them cannot deadlock. An unaligned barrier does not come through the queue: it
//! overtakes what is in it, which becomes channel state ([`in_flight`]).

use super::channel::{CREDIT_BATCHES, Channel, Sender, Shared, Spare};
use super::in_flight::{self, Held, InFlight, Message};
use super::{Alignment, BarrierAligner, MemoryPool, Passage};
use crate::task::Waker;
use crate::watermark::{Status, Valve};
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use millstream_model::{
    Barrier, Batch, CheckpointId, CheckpointMode, Data, Error, Result, Signal, SnapshotKind,
};
use millstream_state::part::{Entries, Written};
use millstream_state::schema::Shape;
use millstream_state::snapshot::PartKind;
use millstream_state::{Part, Visitor};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// All channels into one subtask. See the module's text.
pub struct Gate<T> {
    queue: Receiver<(usize, Message<T>)>,
    spare: Arc<Spare<T>>,
    channels: Vec<Arc<Channel>>,
    shared: Arc<Shared>,
    valve: Valve,
    aligner: BarrierAligner,
    mode: CheckpointMode,
    /// Whichever mode a snapshot was taken in.
    is_restoring: bool,
    in_flight: InFlight<T>,
    /// Messages of each channel that were taken out of the queue.
    n_taken: Vec<u64>,
    /// Where the last barrier of each channel stood: recording may begin anew, but barriers do not come again.
    barriers: Vec<Option<(CheckpointId, u64)>>,
    /// What follows what was just handed out.
    next: VecDeque<Arrival<T>>,
    /// The channel whose sender was woken last.
    last_woken: usize,
}

/// What a gate has for its task.
pub enum Arrival<T> {
    /// A batch, its marks being the watermarks of the whole gate.
    Batch(Batch<T>),
    /// The gate as a whole became idle, active, or ended.
    Signal(Signal),
    /// Every channel has brought this barrier.
    Barrier(Barrier),
    /// Something that changes nothing for the task.
    Taken,
    /// Nothing is there now.
    Nothing,
}

/// Connects senders (known by their wakers) to one receiver.
pub fn connect<T: Data>(
    memory: &Arc<MemoryPool>,
    senders: &[Waker],
    receiver: Waker,
    mode: CheckpointMode,
) -> (Vec<Sender<T>>, Gate<T>) {
    let n = senders.len();
    // One more per channel than its credit: the end of a channel needs none.
    let (queue_in, queue) = bounded(n * (CREDIT_BATCHES + 2));
    let spare =
        Arc::new(Spare { buffers: Mutex::default(), capacity: (2 * n).max(CREDIT_BATCHES) });
    let shared = Arc::new(Shared::new(memory, receiver));
    let channels: Vec<_> = senders.iter().map(|sender| Arc::new(Channel::new(sender))).collect();
    let ends = channels
        .iter()
        .enumerate()
        .map(|(index, channel)| {
            let (channel, shared) = (Arc::clone(channel), Arc::clone(&shared));
            Sender::local(index, queue_in.clone(), Arc::clone(&spare), channel, shared)
        })
        .collect();
    let gate = Gate {
        queue,
        spare,
        channels,
        shared,
        valve: Valve::new(n),
        aligner: BarrierAligner::new(n, mode),
        mode,
        is_restoring: false,
        in_flight: InFlight::new(),
        n_taken: vec![0; n],
        barriers: vec![None; n],
        next: VecDeque::new(),
        last_woken: 0,
    };
    (ends, gate)
}

impl<T: Data> Gate<T> {
    /// Takes what has arrived first.
    ///
    /// # Errors
    /// If senders went away without ending their channel.
    pub fn poll(&mut self) -> Result<Arrival<T>> {
        if let Some(arrival) = self.next.pop_front() {
            return Ok(arrival);
        }
        if let Some(replay) = &mut self.in_flight.replay {
            match replay.next() {
                Some(batch) if batch.is_blank() => return Ok(Arrival::Taken),
                Some(batch) => return Ok(Arrival::Batch(batch)),
                // Only now barriers may come, also through the task's other input.
                None => {
                    self.in_flight.replay = None;
                    return Ok(Arrival::Taken);
                }
            }
        }
        if self.shared.has_urgent.load(Ordering::SeqCst) {
            self.take_urgent();
            if let Some(arrival) = self.next.pop_front() {
                return Ok(arrival);
            }
        }
        let mut held = match self.in_flight.next() {
            Some(held) => held,
            None => match self.take_out()? {
                // A barrier may have overtaken it after the look above; and it may have come behind that barrier.
                Some(held) if self.shared.has_urgent.load(Ordering::SeqCst) => {
                    self.in_flight.put_back(held);
                    return Ok(Arrival::Taken);
                }
                Some(held) => held,
                None => return Ok(Arrival::Nothing),
            },
        };
        let channel = held.channel;
        if self.aligner.is_blocked(channel) {
            self.in_flight.hold(held);
            self.wake_senders(None);
            return Ok(Arrival::Taken);
        }
        self.in_flight.take(&mut held);
        let (arrival, bytes) = match held.message {
            Message::Batch(batch, bytes) => {
                self.shared.give_back(bytes);
                (self.arrive(channel, batch), bytes)
            }
            Message::Signal(signal) => {
                self.take_signal(channel, held.number, signal);
                (self.next.pop_front().unwrap_or(Arrival::Taken), 0)
            }
        };
        self.channels[channel].give_back(bytes);
        self.wake_senders(Some(channel));
        Ok(arrival)
    }

    /// Takes a message out of the queue. It keeps its credit and its memory, but no longer counts as queued.
    fn take_out(&mut self) -> Result<Option<Held<T>>> {
        match self.queue.try_recv() {
            Ok((channel, message)) => {
                if matches!(message, Message::Batch(..)) {
                    self.shared.queued.fetch_sub(1, Ordering::SeqCst);
                }
                let number = self.n_taken[channel];
                self.n_taken[channel] += 1;
                Ok(Some(Held::new(channel, number, message)))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Error::internal("the sending tasks are gone")),
        }
    }

    fn arrive(&mut self, channel: usize, mut batch: Batch<T>) -> Arrival<T> {
        let valve = &mut self.valve;
        batch.marks.retain_mut(|m| match valve.advance(channel, m.watermark) {
            Some(w) => {
                m.watermark = w;
                true
            }
            None => false,
        });
        if batch.is_blank() { Arrival::Taken } else { Arrival::Batch(batch) }
    }

    /// Puts what a signal of one channel means for the whole gate into `next`.
    fn take_signal(&mut self, channel: usize, number: u64, signal: Signal) {
        let change = match signal {
            Signal::Barrier(barrier) => {
                self.take_barrier(channel, number, barrier);
                return;
            }
            Signal::Idle => self.valve.idle(channel),
            Signal::Active => self.valve.active(channel),
            _ => {
                // The end brings every barrier: the one that waited for this channel comes first.
                let alignment = self.aligner.ended(channel);
                self.in_flight.limit(channel, number + 1);
                self.pass(alignment);
                self.valve.end(channel)
            }
        };
        if let Some(watermark) = change.watermark {
            let mut batch = Batch::default();
            batch.mark(watermark);
            self.next.push_back(Arrival::Batch(batch));
        }
        self.next.extend(change.signal.map(Arrival::Signal));
    }

    /// Takes a barrier that came through the queue.
    fn take_barrier(&mut self, channel: usize, number: u64, barrier: Barrier) {
        self.barriers[channel] = Some((barrier.checkpoint, number));
        if self.in_flight.is_recording(barrier.checkpoint) {
            self.in_flight.limit(channel, number);
        }
        let alignment = self.aligner.barrier(channel, barrier);
        self.pass(alignment);
    }

    /// Waiting for this barrier has taken too long: it overtakes what is queued.
    pub fn turn(&mut self, barrier: Barrier) {
        let alignment = self.aligner.turn(barrier);
        if let Passage::Overtake(barrier) = alignment.passage {
            self.record(barrier);
            self.in_flight.free();
        }
        self.pass(alignment);
    }

    /// The barrier that channels wait for.
    pub fn waiting_for(&self) -> Option<Barrier> {
        self.aligner.waiting_for()
    }

    /// Takes the barriers that overtook.
    fn take_urgent(&mut self) {
        let urgent = {
            let mut urgent = self.shared.urgent.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.has_urgent.store(false, Ordering::SeqCst);
            std::mem::take(&mut *urgent)
        };
        for (channel, barrier, n_before) in urgent {
            self.turn(barrier);
            self.barriers[channel] = Some((barrier.checkpoint, n_before));
            let alignment = self.aligner.barrier(channel, barrier);
            if let Passage::Complete(barrier) | Passage::Overtake(barrier) = alignment.passage
                && !self.in_flight.is_recording(barrier.checkpoint)
            {
                self.record(barrier);
            }
            if self.in_flight.is_recording(barrier.checkpoint) {
                self.in_flight.limit(channel, n_before);
            }
            self.pass(alignment);
        }
    }

    /// Begins to record what belongs before a barrier that overtakes, unless that has begun: also when it
    /// came through another input of the task.
    pub fn record(&mut self, barrier: Barrier) {
        if self.overtaking(barrier) && !self.in_flight.is_recording(barrier.checkpoint) {
            let limit = |(channel, (_, status))| match self.barriers[channel] {
                Some((checkpoint, n_before)) if checkpoint == barrier.checkpoint => Some(n_before),
                _ => (status == Status::Ended).then_some(self.n_taken[channel]),
            };
            let limits = self.valve.inputs().enumerate().map(limit).collect();
            self.in_flight.record(barrier.checkpoint, limits, &self.valve);
        }
    }

    /// Whether a barrier overtakes what is queued here.
    fn overtaking(&self, barrier: Barrier) -> bool {
        match self.mode {
            CheckpointMode::Unaligned => !barrier.kind.is_savepoint(),
            CheckpointMode::Timed => self.aligner.has_turned(barrier),
            CheckpointMode::ExactlyOnce | CheckpointMode::AtLeastOnce => false,
        }
    }

    fn pass(&mut self, alignment: Alignment) {
        if alignment.abandoned.is_some() {
            self.in_flight.free();
        }
        match alignment.passage {
            Passage::Complete(barrier) => {
                self.next.push_back(Arrival::Barrier(barrier));
                self.in_flight.free();
            }
            Passage::Overtake(barrier) => self.next.push_back(Arrival::Barrier(barrier)),
            Passage::Nothing | Passage::Closed(_) => {}
        }
    }

    /// Shows the channel state as a part of this name, if barriers may overtake, or might have before a restore.
    ///
    /// # Errors
    /// The visitor's.
    pub fn parts(&mut self, name: &str, visitor: &mut dyn Visitor) -> Result<()> {
        let is_shown = self.mode.may_overtake() || self.is_restoring;
        if is_shown { visitor.part(name, self) } else { Ok(()) }
    }

    /// A snapshot is about to be restored, or (`false`) has been.
    pub fn set_restoring(&mut self, is_restoring: bool) {
        self.is_restoring = is_restoring;
    }

    /// Whether channel state is still to be replayed. Until then no barrier may come through another input.
    pub fn is_replaying(&self) -> bool {
        self.in_flight.replay.is_some()
    }

    /// A checkpoint was given up: nothing waits for its barrier any more.
    pub fn cancel(&mut self, checkpoint: CheckpointId) {
        if self.aligner.cancel(checkpoint).abandoned.is_some() {
            self.in_flight.free();
        }
        // The task may not have polled its barrier.
        let is_given_up = |arrival: &Arrival<T>| matches!(arrival, Arrival::Barrier(b) if b.checkpoint <= checkpoint);
        self.next.retain(|arrival| !is_given_up(arrival));
        self.in_flight.forget_up_to(checkpoint);
    }

    /// Wakes senders after something was taken out: of the channel with this index, or to be held.
    fn wake_senders(&mut self, index: Option<usize>) {
        if self.shared.n_waited_for.load(Ordering::SeqCst) == 0 {
            return;
        }
        let is_empty = self.shared.queued.load(Ordering::SeqCst) == 0;
        if !is_empty && let Some(index) = index {
            self.shared.wake(&self.channels[index]);
        }
        for _ in 0..self.channels.len() {
            self.last_woken = (self.last_woken + 1) % self.channels.len();
            if self.shared.wake(&self.channels[self.last_woken]) && !is_empty {
                return;
            }
        }
    }

    /// Takes out of the queue what the running snapshot lacks.
    fn take_out_for_snapshot(&mut self) -> Result<()> {
        // No look at the queue counts that was not followed by one at the barriers that overtook.
        loop {
            while self.in_flight.lacks(&self.n_taken) {
                match self.take_out()? {
                    Some(held) => {
                        if let Message::Signal(Signal::Barrier(barrier)) = &held.message {
                            self.find_barrier(held.channel, held.number, *barrier);
                        }
                        self.in_flight.keep(held);
                    }
                    None => break,
                }
            }
            if !self.shared.has_urgent.load(Ordering::SeqCst) {
                break;
            }
            self.take_urgent();
        }
        self.wake_senders(None);
        Ok(())
    }

    /// A barrier was found before its turn: everything behind it belongs after it. One that the snapshot is not of has its turn
    /// when what is before it has been taken.
    fn find_barrier(&mut self, channel: usize, number: u64, barrier: Barrier) {
        if self.in_flight.is_recording(barrier.checkpoint) {
            self.take_barrier(channel, number, barrier);
        } else {
            self.barriers[channel] = Some((barrier.checkpoint, number));
        }
    }

    /// Gives a consumed batch's buffers back to the senders.
    pub fn recycle(&self, mut batch: Batch<T>) {
        batch.clear();
        self.spare.put(batch);
    }
}

/// Channel state: what belongs before a barrier that overtook it.
impl<T: Data> Part for Gate<T> {
    fn kind(&self) -> PartKind {
        in_flight::KIND
    }

    fn shape(&self) -> Result<Shape> {
        InFlight::<T>::shape()
    }

    /// Recording begins with the barrier, not here.
    fn freeze(&mut self, _: SnapshotKind) {}

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        self.take_out_for_snapshot()?;
        self.in_flight.write(out, budget)
    }

    fn is_waiting(&self) -> bool {
        self.in_flight.is_waiting()
    }

    fn thaw(&mut self) {
        self.in_flight.forget();
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        self.in_flight.restore(entries)
    }
}
