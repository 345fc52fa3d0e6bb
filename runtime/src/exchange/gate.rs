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
//! there is, so waiting for them cannot deadlock.

use super::{BarrierAligner, MemoryPool, Passage};
use crate::task::Waker;
use crate::watermark::Valve;
use crossbeam_channel::{Receiver, TryRecvError, TrySendError, bounded};
use millstream_model::{Barrier, Batch, CheckpointId, CheckpointMode, Error, Result, Signal};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Batches that may be under way in one channel.
const CREDIT_BATCHES: usize = 16;

enum Message<T> {
    Batch(Batch<T>, usize),
    Signal(Signal),
}

/// What a sender and its receiver share of one channel.
struct Channel {
    in_flight: AtomicUsize,
    /// Whether the sender has something to send, could not, and was not woken since.
    is_waited_for: AtomicBool,
    sender: Waker,
}

/// What all senders share with a gate.
struct Shared {
    memory: Arc<MemoryPool>,
    /// Batches in the queue, or about to be.
    queued: AtomicUsize,
    /// Channels that are waited for.
    n_waited_for: AtomicUsize,
    receiver: Waker,
}

impl Shared {
    /// Notes that a channel is waited for.
    fn wait(&self, channel: &Channel) {
        // Counted first: the count may be seen too high for a moment, but never too low.
        self.n_waited_for.fetch_add(1, Ordering::SeqCst);
        if channel.is_waited_for.swap(true, Ordering::SeqCst) {
            self.n_waited_for.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Notes that a channel is no longer waited for; false if it was not.
    fn stop_waiting(&self, channel: &Channel) -> bool {
        let waited = channel.is_waited_for.load(Ordering::SeqCst)
            && channel.is_waited_for.swap(false, Ordering::SeqCst);
        if waited {
            self.n_waited_for.fetch_sub(1, Ordering::SeqCst);
        }
        waited
    }

    /// Wakes a channel's sender if it waits.
    fn wake(&self, channel: &Channel) -> bool {
        let waited = self.stop_waiting(channel);
        if waited {
            channel.sender.wake();
        }
        waited
    }
}

/// Used buffers of a gate on their way back to the senders: the last one in is the first one out, because
/// it is the one still in the caches.
struct Spare<T> {
    buffers: Mutex<Vec<Batch<T>>>,
    capacity: usize,
}

impl<T> Spare<T> {
    fn take(&self) -> Option<Batch<T>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, buffer: Batch<T>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < self.capacity {
            buffers.push(buffer);
        }
    }
}

/// The sending end of one channel.
pub struct Sender<T> {
    index: usize,
    queue: crossbeam_channel::Sender<(usize, Message<T>)>,
    spare: Arc<Spare<T>>,
    channel: Arc<Channel>,
    shared: Arc<Shared>,
}

/// All channels into one subtask. See the module's text.
pub struct Gate<T> {
    queue: Receiver<(usize, Message<T>)>,
    spare: Arc<Spare<T>>,
    channels: Vec<Arc<Channel>>,
    shared: Arc<Shared>,
    valve: Valve,
    aligner: BarrierAligner,
    /// What arrived on channels that are ahead, in order.
    held: VecDeque<(usize, Message<T>)>,
    /// What was held and goes on.
    freed: VecDeque<(usize, Message<T>)>,
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
pub fn connect<T>(
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
    let shared = Arc::new(Shared {
        memory: Arc::clone(memory),
        queued: AtomicUsize::new(0),
        n_waited_for: AtomicUsize::new(0),
        receiver,
    });
    let channels: Vec<_> = senders
        .iter()
        .map(|sender| {
            Arc::new(Channel {
                in_flight: AtomicUsize::new(0),
                is_waited_for: AtomicBool::new(false),
                sender: sender.clone(),
            })
        })
        .collect();
    let ends = channels
        .iter()
        .enumerate()
        .map(|(index, channel)| Sender {
            index,
            queue: queue_in.clone(),
            spare: Arc::clone(&spare),
            channel: Arc::clone(channel),
            shared: Arc::clone(&shared),
        })
        .collect();
    let gate = Gate {
        queue,
        spare,
        channels,
        shared,
        valve: Valve::new(n),
        aligner: BarrierAligner::new(n, mode),
        held: VecDeque::new(),
        freed: VecDeque::new(),
        next: VecDeque::new(),
        last_woken: 0,
    };
    (ends, gate)
}

impl<T> Sender<T> {
    /// A used buffer that came back, or a new one.
    pub fn buffer(&self) -> Batch<T> {
        self.spare.take().unwrap_or_default()
    }

    /// Sends a batch of about so many bytes if there is credit; then the batch is left blank with a fresh
    /// buffer. Otherwise the sending task will be woken when there is.
    ///
    /// # Errors
    /// If the receiver is gone.
    pub fn try_send(&self, batch: &mut Batch<T>, bytes: usize) -> Result<bool> {
        if !self.is_granted(|| self.take_credit(bytes)) {
            return Ok(false);
        }
        let full = std::mem::replace(batch, self.buffer());
        self.put(Message::Batch(full, bytes))?;
        Ok(true)
    }

    /// Tries; if that fails, asks to be woken and tries again, because what it takes may just have come. Does
    /// not try while it waits.
    fn is_granted(&self, take: impl Fn() -> bool) -> bool {
        let channel = &self.channel;
        if channel.is_waited_for.load(Ordering::SeqCst) {
            return false;
        }
        if take() {
            return true;
        }
        self.shared.wait(channel);
        let granted = take();
        if granted {
            self.shared.stop_waiting(channel);
        }
        granted
    }

    fn take_credit(&self, bytes: usize) -> bool {
        if self.channel.in_flight.load(Ordering::SeqCst) >= CREDIT_BATCHES {
            return false;
        }
        // Not counted before it is certain: two senders that count for a moment would each take the other's
        // count for a batch, and wait for it to be taken out.
        let Shared { memory, queued, .. } = &*self.shared;
        if queued.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            memory.take(bytes);
        } else if memory.try_take(bytes) {
            queued.fetch_add(1, Ordering::SeqCst);
        } else {
            return false;
        }
        self.channel.in_flight.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Sends a signal if there is credit.
    ///
    /// # Errors
    /// If the receiver is gone.
    pub fn try_signal(&self, signal: Signal) -> Result<bool> {
        let limit = if signal == Signal::End { CREDIT_BATCHES + 1 } else { CREDIT_BATCHES };
        let in_flight = &self.channel.in_flight;
        if !self.is_granted(|| in_flight.load(Ordering::SeqCst) < limit) {
            return Ok(false);
        }
        in_flight.fetch_add(1, Ordering::SeqCst);
        self.put(Message::Signal(signal))?;
        Ok(true)
    }

    fn put(&self, message: Message<T>) -> Result<()> {
        match self.queue.try_send((self.index, message)) {
            Ok(()) => {
                self.shared.receiver.wake();
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => {
                Err(Error::internal("the receiving task is gone"))
            }
            Err(TrySendError::Full(_)) => {
                Err(Error::internal("a channel was given more than its credit"))
            }
        }
    }
}

impl<T> Gate<T> {
    /// Takes what has arrived first.
    ///
    /// # Errors
    /// If senders went away without ending their channel.
    pub fn poll(&mut self) -> Result<Arrival<T>> {
        if let Some(arrival) = self.next.pop_front() {
            return Ok(arrival);
        }
        let (index, message) = match self.freed.pop_front() {
            Some(freed) if self.aligner.is_blocked(freed.0) => {
                self.held.push_back(freed);
                return Ok(Arrival::Taken);
            }
            Some(freed) => freed,
            None => match self.queue.try_recv() {
                Ok((index, message)) => {
                    if matches!(message, Message::Batch(..)) {
                        self.shared.queued.fetch_sub(1, Ordering::SeqCst);
                    }
                    if self.aligner.is_blocked(index) {
                        self.held.push_back((index, message));
                        self.wake_senders(None);
                        return Ok(Arrival::Taken);
                    }
                    (index, message)
                }
                Err(TryRecvError::Empty) => return Ok(Arrival::Nothing),
                Err(TryRecvError::Disconnected) => {
                    return Err(Error::internal("the sending tasks are gone"));
                }
            },
        };
        let arrival = match message {
            Message::Batch(batch, bytes) => {
                self.shared.memory.give_back(bytes);
                self.arrive(index, batch)
            }
            Message::Signal(signal) => {
                self.take_signal(index, signal);
                self.next.pop_front().unwrap_or(Arrival::Taken)
            }
        };
        self.channels[index].in_flight.fetch_sub(1, Ordering::SeqCst);
        self.wake_senders(Some(index));
        Ok(arrival)
    }

    fn arrive(&mut self, index: usize, mut batch: Batch<T>) -> Arrival<T> {
        let valve = &mut self.valve;
        batch.marks.retain_mut(|m| match valve.advance(index, m.watermark) {
            Some(w) => {
                m.watermark = w;
                true
            }
            None => false,
        });
        if batch.is_blank() { Arrival::Taken } else { Arrival::Batch(batch) }
    }

    /// Puts what a signal of one channel means for the whole gate into `next`.
    fn take_signal(&mut self, index: usize, signal: Signal) {
        let change = match signal {
            Signal::Barrier(barrier) => {
                let alignment = self.aligner.barrier(index, barrier);
                if alignment.abandoned.is_some() {
                    self.free_held();
                }
                self.pass(alignment.passage);
                return;
            }
            Signal::Idle => self.valve.idle(index),
            Signal::Active => self.valve.active(index),
            _ => {
                // The end brings every barrier: the one that waited for this channel comes first.
                let alignment = self.aligner.ended(index);
                self.pass(alignment.passage);
                self.valve.end(index)
            }
        };
        if let Some(watermark) = change.watermark {
            let mut batch = Batch::default();
            batch.mark(watermark);
            self.next.push_back(Arrival::Batch(batch));
        }
        self.next.extend(change.signal.map(Arrival::Signal));
    }

    fn pass(&mut self, passage: Passage) {
        match passage {
            Passage::Complete(barrier) => {
                self.next.push_back(Arrival::Barrier(barrier));
                self.free_held();
            }
            Passage::Overtake(barrier) => self.next.push_back(Arrival::Barrier(barrier)),
            Passage::Nothing | Passage::Closed(_) => {}
        }
    }

    /// Lets go on what was held; it is older than what was freed before and not yet taken.
    fn free_held(&mut self) {
        self.held.append(&mut self.freed);
        std::mem::swap(&mut self.held, &mut self.freed);
    }

    /// A checkpoint was given up: nothing waits for its barrier any more.
    pub fn cancel(&mut self, checkpoint: CheckpointId) {
        if self.aligner.cancel(checkpoint).abandoned.is_some() {
            self.free_held();
        }
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

    /// Gives a consumed batch's buffers back to the senders.
    pub fn recycle(&self, mut batch: Batch<T>) {
        batch.clear();
        self.spare.put(batch);
    }
}
