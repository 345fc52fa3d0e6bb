//! A link: everything this host has to do with one other host in one attempt.
//!
//! Tasks put frames into the link's queue and go on. Whoever finds nobody writing writes; while somebody does, frames
//! gather, and the next write carries many. What overtakes and what gives credit back goes before everything else. How much can lie in
//! the queue is bounded by credit per channel and counted in the process's memory.
//!
//! A link is lost once, with one cause. Then whoever sends through it is told, and whoever waits for credit is
//! woken to be told. It is not a loss when the connection ends after every channel has.

use super::frame::{self, ChannelId, Frame, Kind};
use super::inlet::Port;
use super::outgoing::{Next, Outgoing, Phase, Writing};
use super::outlet::Outlet;
use super::traffic::Counters;
use super::{credit::Amount, wire};
use crate::exchange::MemoryPool;
use millstream_model::{Error, Result};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Used buffers that are kept, and their bytes.
const SPARE_BUFFERS: usize = 32;
const SPARE_BYTES: usize = 128 << 10;

/// Told when another host is lost: its number, and why.
pub type OnLost = Arc<dyn Fn(u32, Error) + Send + Sync>;

/// The channels of a link.
#[derive(Default)]
pub(super) struct Channels {
    pub(super) outlets: HashMap<ChannelId, Arc<Outlet>>,
    pub(super) inlets: HashMap<ChannelId, Arc<dyn Port>>,
}

/// See the module's text.
pub(super) struct Link {
    pub(super) host: u32,
    pub(super) address: SocketAddr,
    pub(super) memory: Arc<MemoryPool>,
    pub(super) traffic: Arc<Counters>,
    on_lost: OnLost,
    channels: OnceLock<Channels>,
    n_open_outlets: AtomicUsize,
    n_open_inlets: AtomicUsize,
    outgoing: Mutex<Queue>,
    /// Woken when there is something to write, or an end of it.
    pub(super) to_write: Notify,
    spare: Mutex<Vec<Vec<u8>>>,
    is_connected: AtomicBool,
    /// Whether nobody is to be told of a loss any more.
    is_quiet: AtomicBool,
    failure: OnceLock<String>,
}

/// What is to be sent, and where whoever sends may write it.
#[derive(Default)]
struct Queue {
    outgoing: Outgoing,
    socket: Option<Arc<OwnedWriteHalf>>,
}

impl Deref for Queue {
    type Target = Outgoing;

    fn deref(&self) -> &Outgoing {
        &self.outgoing
    }
}

impl DerefMut for Queue {
    fn deref_mut(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(super) fn new(
        host: u32,
        address: SocketAddr,
        memory: Arc<MemoryPool>,
        traffic: Arc<Counters>,
        on_lost: OnLost,
    ) -> Link {
        Link {
            host,
            address,
            memory,
            traffic,
            on_lost,
            channels: OnceLock::new(),
            n_open_outlets: AtomicUsize::new(0),
            n_open_inlets: AtomicUsize::new(0),
            outgoing: Mutex::default(),
            to_write: Notify::new(),
            spare: Mutex::default(),
            is_connected: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    /// From now on these are its channels, and what arrives may take so many bytes of each.
    pub(super) fn start(&self, channels: Channels, window_bytes: u64) -> Result<()> {
        self.n_open_outlets.store(channels.outlets.len(), Ordering::SeqCst);
        self.n_open_inlets.store(channels.inlets.len(), Ordering::SeqCst);
        for (channel, inlet) in &channels.inlets {
            self.give_credit(*channel, inlet.begin(window_bytes))?;
        }
        self.channels.set(channels).map_err(|_| Error::internal("a link was started twice"))
    }

    /// Whether this is the first connection.
    pub(super) fn connect(&self) -> bool {
        !self.is_connected.swap(true, Ordering::SeqCst)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::SeqCst)
    }

    /// An empty buffer for a frame, with room for its header.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut buffer = lock(&self.spare).pop().unwrap_or_default();
        frame::begin(&mut buffer);
        buffer
    }

    /// Takes a buffer back.
    pub(super) fn recycle(&self, buffer: Vec<u8>) {
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BYTES {
            spare.push(buffer);
        }
    }

    /// Why nothing can be sent any more.
    ///
    /// # Errors
    /// If the link is lost or closed.
    pub(super) fn check(&self) -> Result<()> {
        match self.failure.get() {
            Some(cause) => Err(Error::external(cause.clone()).as_consequence()),
            None => Ok(()),
        }
    }

    /// Sends a frame after all others, if there is memory for it: all outlets are nudged when there may be. A
    /// link that has nothing to send may always be given one frame, so it cannot wait for the memory of others.
    pub(super) fn send(&self, frame: Vec<u8>) -> std::result::Result<(), Vec<u8>> {
        let n = frame.len();
        let mut outgoing = lock(&self.outgoing);
        if outgoing.phase != Phase::Open {
            return Ok(());
        }
        if outgoing.frames.is_empty() {
            self.memory.take(n);
        } else if !self.memory.try_take(n) {
            outgoing.is_waited_for = true;
            return Err(frame);
        }
        outgoing.frames.push_back((frame, n));
        self.write_now(outgoing);
        Ok(())
    }

    /// Sends a frame before all others but those that were sent so.
    pub(super) fn send_urgent(&self, frame: Vec<u8>) {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.phase == Phase::Open {
            outgoing.urgent.push_back(frame);
            self.write_now(outgoing);
        }
    }

    /// From now on whoever sends may write to this socket, as long as it takes all.
    pub(super) fn write_directly(&self, socket: &Arc<OwnedWriteHalf>) {
        lock(&self.outgoing).socket = Some(Arc::clone(socket));
    }

    /// Writes what was just sent, unless somebody is at it: that costs less than to wake the thread of the
    /// network. What the socket does not take at once is left to that thread, and so is a failure.
    fn write_now(&self, mut outgoing: MutexGuard<'_, Queue>) {
        let mut writing = Writing::default();
        if outgoing.has_rest() {
            return;
        }
        let Some(socket) = outgoing.socket.clone() else {
            drop(outgoing);
            self.to_write.notify_one();
            return;
        };
        if outgoing.take(&mut writing) != Next::Write {
            return;
        }
        drop(outgoing);
        let n = socket.try_write_vectored(&writing.slices()).unwrap_or(0);
        self.written(&mut writing, n);
    }

    /// Takes what is to be written next.
    pub(super) fn take_outgoing(&self, writing: &mut Writing) -> Next {
        lock(&self.outgoing).take(writing)
    }

    /// So many bytes of it were written; the rest, if there is any, is for the network's thread.
    pub(super) fn written(&self, writing: &mut Writing, n: usize) {
        for (frame, counted) in writing.advance(n) {
            self.traffic.sent(frame.len());
            self.memory.give_back(counted);
            self.recycle(frame);
        }
        let mut outgoing = lock(&self.outgoing);
        let is_waited_for = std::mem::take(&mut outgoing.is_waited_for);
        let lost = outgoing.put_back(std::mem::take(writing));
        let has_more = !outgoing.is_empty() || outgoing.phase != Phase::Open;
        drop(outgoing);
        self.memory.give_back(lost);
        if has_more {
            self.to_write.notify_one();
        }
        if is_waited_for {
            self.outlets().for_each(|outlet| outlet.nudge());
        }
    }

    fn outlets(&self) -> impl Iterator<Item = &Arc<Outlet>> {
        self.channels.get().into_iter().flat_map(|channels| channels.outlets.values())
    }

    /// Lets a sender send so much more.
    ///
    /// # Errors
    /// A bug.
    pub(super) fn give_credit(&self, channel: ChannelId, amount: Amount) -> Result<()> {
        let mut frame = self.buffer();
        wire::encode(&(amount.messages, amount.bytes), &mut frame)?;
        frame::finish(&mut frame, Kind::Credit, false, channel)?;
        self.send_urgent(frame);
        Ok(())
    }

    /// Takes what has arrived; false if the other side is done.
    ///
    /// # Errors
    /// If it makes no sense.
    pub(super) fn receive(&self, frame: &Frame<'_>, payload: &[u8]) -> Result<bool> {
        let channels =
            self.channels.get().ok_or_else(|| Error::internal("a link was not started"))?;
        let channel = frame.channel;
        let inlet = || {
            let found = channels.inlets.get(&channel);
            found.ok_or_else(|| Error::external(format!("no channel is expected at {channel}")))
        };
        match frame.kind {
            Kind::Batch => inlet()?.batch(payload)?,
            Kind::Signal => {
                if inlet()?.signal(payload)? {
                    self.n_open_inlets.fetch_sub(1, Ordering::SeqCst);
                }
            }
            Kind::Barrier => inlet()?.barrier(payload)?,
            Kind::Credit => {
                let (messages, bytes) = wire::decode_all(payload)?;
                let outlet = channels.outlets.get(&channel);
                let unknown = || Error::external(format!("no channel goes to {channel}"));
                outlet.ok_or_else(unknown)?.grant(Amount { messages, bytes })?;
            }
            Kind::Close => return Ok(false),
        }
        Ok(true)
    }

    /// A channel to the other host has ended.
    pub(super) fn end_outlet(&self) {
        self.n_open_outlets.fetch_sub(1, Ordering::SeqCst);
    }

    fn is_settled(&self) -> bool {
        self.n_open_outlets.load(Ordering::SeqCst) == 0
            && self.n_open_inlets.load(Ordering::SeqCst) == 0
            && lock(&self.outgoing).is_empty_of_data()
    }

    /// The other side has ended the connection: that is fine if there is nothing more to come or go.
    pub(super) fn end(&self, how: &'static str) {
        if self.is_settled() {
            self.is_quiet.store(true, Ordering::SeqCst);
        }
        self.lose(&how);
    }

    /// Nothing will come or go any more, for this reason.
    pub(super) fn lose(&self, cause: &dyn std::fmt::Display) {
        let text = format!("host {} at {} is lost: {cause}", self.host, self.address);
        if self.failure.set(text.clone()).is_err() {
            return;
        }
        self.shut();
        self.outlets().for_each(|outlet| outlet.wake());
        if !self.is_quiet.load(Ordering::SeqCst) {
            tracing::warn!("{text}");
            (self.on_lost)(self.host, Error::external(text));
        }
    }

    /// The attempt is over. What was sent is still carried if every channel to the other host has ended;
    /// otherwise it is of no use to anybody.
    pub(super) fn close(&self) {
        self.is_quiet.store(true, Ordering::SeqCst);
        if self.n_open_outlets.load(Ordering::SeqCst) == 0 && self.is_connected() {
            let mut close = self.buffer();
            let is_made = frame::finish(&mut close, Kind::Close, false, ChannelId::NONE).is_ok();
            let mut outgoing = lock(&self.outgoing);
            if is_made && outgoing.phase == Phase::Open {
                outgoing.frames.push_back((close, 0));
                outgoing.phase = Phase::Closing;
            }
            drop(outgoing);
            self.to_write.notify_one();
        } else {
            self.lose(&"the attempt was closed");
        }
    }

    fn shut(&self) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.socket = None;
        let counted = outgoing.close();
        drop(outgoing);
        self.memory.give_back(counted);
        self.to_write.notify_one();
    }
}
