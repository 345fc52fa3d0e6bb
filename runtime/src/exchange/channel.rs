//! One channel, from the side that sends: credit, the queue of the gate, and who is woken.
//!
//! A sender that cannot send says so in its channel and is woken by the gate, which looks for such senders
//! when a batch is taken out. A channel that comes from another process has two ends more: there a
//! [`Sender`] stands for whatever carries messages away ([`Remote`]), here an [`Inlet`] puts into the gate's
//! queue what was carried. An inlet needs to ask for nothing: the credit is the one that the far sender was
//! given, so there is room for whatever arrives, a connection that serves many channels never waits for one of
//! them, and a barrier that overtakes finds everything before it in the queue or on the wire. Credit goes back
//! ([`GiveBack`]) when the task takes the message, as it does here.

use super::MemoryPool;
use super::in_flight::Message;
use crate::task::Waker;
use crossbeam_channel::TrySendError;
use millstream_model::{Barrier, Batch, Error, Result, Signal};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Batches that may be under way in one channel.
pub(super) const CREDIT_BATCHES: usize = 16;

/// What a sender and its receiver share of one channel.
pub(super) struct Channel {
    in_flight: AtomicUsize,
    n_sent: AtomicU64,
    /// Whether the sender has something to send, could not, and was not woken since.
    is_waited_for: AtomicBool,
    sender: Waker,
    /// Who gives credit back to a sender in another process.
    inlet: OnceLock<Arc<dyn GiveBack>>,
}

impl Channel {
    pub(super) fn new(sender: &Waker) -> Channel {
        Channel {
            in_flight: AtomicUsize::new(0),
            n_sent: AtomicU64::new(0),
            is_waited_for: AtomicBool::new(false),
            sender: sender.clone(),
            inlet: OnceLock::new(),
        }
    }

    /// The task took a message of so many bytes.
    pub(super) fn give_back(&self, bytes: usize) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if let Some(inlet) = self.inlet.get() {
            inlet.give_back(bytes);
        }
    }
}

/// Takes back the credit of an [`Inlet`].
pub trait GiveBack: Send + Sync {
    /// The task took a message that was counted with so many bytes.
    fn give_back(&self, bytes: usize);
}

/// What carries the messages of one channel to another process. Its own is the credit, and to wake the sending
/// task when there is some again.
pub trait Remote<T>: Send {
    /// As [`Sender::try_send`].
    ///
    /// # Errors
    /// If the receiver cannot be reached any more, or the records cannot be carried.
    fn try_send(&self, batch: &mut Batch<T>) -> Result<bool>;
    /// As [`Sender::try_signal`].
    ///
    /// # Errors
    /// If the receiver cannot be reached any more.
    fn try_signal(&self, signal: Signal) -> Result<bool>;
    /// As [`Sender::overtake`].
    fn overtake(&self, barrier: Barrier);
}

/// What all senders share with a gate.
pub(super) struct Shared {
    memory: Arc<MemoryPool>,
    /// Bytes that were taken for this gate and not given back.
    n_taken: AtomicUsize,
    /// Batches in the queue, or about to be.
    pub(super) queued: AtomicUsize,
    /// Channels that are waited for.
    pub(super) n_waited_for: AtomicUsize,
    /// Barriers that overtake: the channel, and how many of its messages belong before.
    pub(super) urgent: Mutex<VecDeque<(usize, Barrier, u64)>>,
    pub(super) has_urgent: AtomicBool,
    pub(super) receiver: Waker,
}

/// What was under way when its tasks went: nobody takes it any more.
impl Drop for Shared {
    fn drop(&mut self) {
        self.memory.give_back(*self.n_taken.get_mut());
    }
}

impl Shared {
    pub(super) fn new(memory: &Arc<MemoryPool>, receiver: Waker) -> Self {
        Shared {
            memory: Arc::clone(memory),
            n_taken: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            n_waited_for: AtomicUsize::new(0),
            urgent: Mutex::default(),
            has_urgent: AtomicBool::new(false),
            receiver,
        }
    }

    /// Takes memory for a batch whether there is room or not.
    fn take(&self, bytes: usize) {
        self.memory.take(bytes);
        self.n_taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes memory for a batch if there is room.
    fn try_take(&self, bytes: usize) -> bool {
        let is_taken = self.memory.try_take(bytes);
        if is_taken {
            self.n_taken.fetch_add(bytes, Ordering::Relaxed);
        }
        is_taken
    }

    /// Gives the memory of a batch back.
    pub(super) fn give_back(&self, bytes: usize) {
        self.n_taken.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.give_back(bytes);
    }

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
    pub(super) fn wake(&self, channel: &Channel) -> bool {
        let waited = self.stop_waiting(channel);
        if waited {
            channel.sender.wake();
        }
        waited
    }
}

/// Used buffers of a gate on their way back to the senders: the last one in is the first one out, because
/// it is the one still in the caches.
pub(super) struct Spare<T> {
    pub(super) buffers: Mutex<Vec<Batch<T>>>,
    pub(super) capacity: usize,
}

impl<T> Spare<T> {
    pub(super) fn take(&self) -> Option<Batch<T>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(super) fn put(&self, buffer: Batch<T>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < self.capacity {
            buffers.push(buffer);
        }
    }
}

/// The sending end of one channel.
pub struct Sender<T> {
    route: Route<T>,
}

enum Route<T> {
    Local(Local<T>),
    Remote(Box<dyn Remote<T>>),
}

/// The way into a gate's queue.
pub(super) type Queue<T> = crossbeam_channel::Sender<(usize, Message<T>)>;

impl<T> Sender<T> {
    /// The end of a channel of this process.
    pub(super) fn local(
        index: usize,
        queue: Queue<T>,
        spare: Arc<Spare<T>>,
        channel: Arc<Channel>,
        shared: Arc<Shared>,
    ) -> Self {
        Sender { route: Route::Local(Local { index, queue, spare, channel, shared }) }
    }

    /// The end of a channel into another process.
    pub fn remote(remote: Box<dyn Remote<T>>) -> Self {
        Sender { route: Route::Remote(remote) }
    }

    /// Sends a batch of about so many bytes if there is credit; then the batch is left blank with a fresh
    /// buffer. Otherwise the sending task will be woken when there is.
    ///
    /// # Errors
    /// If the receiver is gone.
    pub fn try_send(&self, batch: &mut Batch<T>, bytes: usize) -> Result<bool> {
        match &self.route {
            Route::Local(local) => local.try_send(batch, bytes),
            Route::Remote(remote) => remote.try_send(batch),
        }
    }

    /// Sends a signal if there is credit.
    ///
    /// # Errors
    /// If the receiver is gone.
    pub fn try_signal(&self, signal: Signal) -> Result<bool> {
        match &self.route {
            Route::Local(local) => local.try_signal(signal),
            Route::Remote(remote) => remote.try_signal(signal),
        }
    }

    /// Lets a barrier overtake everything that was sent; what was not sent is the sender's to save.
    pub fn overtake(&self, barrier: Barrier) {
        match &self.route {
            Route::Local(local) => {
                local.overtake(barrier, local.channel.n_sent.load(Ordering::SeqCst));
            }
            Route::Remote(remote) => remote.overtake(barrier),
        }
    }

    /// Makes this the end of a channel that comes from another process; its credit goes to `give_back`.
    ///
    /// # Errors
    /// If it is one already, or goes to another process.
    pub fn into_inlet(self, give_back: Arc<dyn GiveBack>) -> Result<Inlet<T>> {
        let Route::Local(local) = self.route else {
            return Err(Error::internal("a channel cannot both come and go"));
        };
        match local.channel.inlet.set(give_back) {
            Ok(()) => Ok(Inlet { local }),
            Err(_) => Err(Error::internal("a channel has two far ends")),
        }
    }
}

/// Where the messages of a channel from another process come in. See the module's text.
pub struct Inlet<T> {
    local: Local<T>,
}

impl<T> Inlet<T> {
    /// A used buffer that came back, or a new one.
    pub fn buffer(&self) -> Batch<T> {
        self.local.buffer()
    }

    /// Puts in a batch that counts with so many bytes; false if the receiving task is gone.
    ///
    /// # Errors
    /// If the far sender had no credit.
    pub fn put(&self, batch: Batch<T>, bytes: usize) -> Result<bool> {
        let shared = &self.local.shared;
        self.claim(CREDIT_BATCHES)?;
        shared.queued.fetch_add(1, Ordering::SeqCst);
        shared.take(bytes);
        let is_there = self.local.put(Message::Batch(batch, bytes)).is_ok();
        if !is_there {
            shared.give_back(bytes);
        }
        Ok(is_there)
    }

    /// Puts in a signal; false if the receiving task is gone.
    ///
    /// # Errors
    /// If the far sender had no credit.
    pub fn put_signal(&self, signal: Signal) -> Result<bool> {
        self.claim(credit_for(signal))?;
        Ok(self.local.put(Message::Signal(signal)).is_ok())
    }

    /// A barrier that overtook what was sent after the first `n_before` messages, wherever that is now.
    pub fn overtake(&self, barrier: Barrier, n_before: u64) {
        self.local.overtake(barrier, n_before);
    }

    fn claim(&self, limit: usize) -> Result<()> {
        if self.local.channel.in_flight.fetch_add(1, Ordering::SeqCst) < limit {
            return Ok(());
        }
        Err(Error::external("the other side sent more than its credit"))
    }
}

/// How many messages may be under way for this one to be sent: the end of a channel needs no credit.
pub(super) fn credit_for(signal: Signal) -> usize {
    if signal == Signal::End { CREDIT_BATCHES + 1 } else { CREDIT_BATCHES }
}

/// A channel inside the process.
struct Local<T> {
    index: usize,
    queue: Queue<T>,
    spare: Arc<Spare<T>>,
    channel: Arc<Channel>,
    shared: Arc<Shared>,
}

impl<T> Local<T> {
    fn buffer(&self) -> Batch<T> {
        self.spare.take().unwrap_or_default()
    }

    fn try_send(&self, batch: &mut Batch<T>, bytes: usize) -> Result<bool> {
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
        let queued = &self.shared.queued;
        if queued.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.shared.take(bytes);
        } else if self.shared.try_take(bytes) {
            queued.fetch_add(1, Ordering::SeqCst);
        } else {
            return false;
        }
        self.channel.in_flight.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn try_signal(&self, signal: Signal) -> Result<bool> {
        let in_flight = &self.channel.in_flight;
        if !self.is_granted(|| in_flight.load(Ordering::SeqCst) < credit_for(signal)) {
            return Ok(false);
        }
        in_flight.fetch_add(1, Ordering::SeqCst);
        self.put(Message::Signal(signal))?;
        Ok(true)
    }

    fn overtake(&self, barrier: Barrier, n_before: u64) {
        let mut urgent = self.shared.urgent.lock().unwrap_or_else(PoisonError::into_inner);
        urgent.push_back((self.index, barrier, n_before));
        self.shared.has_urgent.store(true, Ordering::SeqCst);
        drop(urgent);
        self.shared.receiver.wake();
    }

    fn put(&self, message: Message<T>) -> Result<()> {
        self.channel.n_sent.fetch_add(1, Ordering::SeqCst);
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
