//! The sending end of a channel into another process.
//!
//! The task that sends encodes: then the work is spread over the tasks, and what waits in a queue has a known
//! size. What there is no credit for is not encoded; it stays in the writer, where it can still be saved when
//! a barrier overtakes it.

use super::credit::{Allowance, Amount};
use super::frame::{self, ChannelId, HEADER_BYTES, Kind};
use super::link::Link;
use super::{columns, compress, wire};
use crate::exchange::Remote;
use crate::task::Waker;
use millstream_model::{Barrier, Batch, Data, Error, Result, Signal};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the sender of a channel and its connection share.
pub(super) struct Outlet {
    allowance: Mutex<Allowance>,
    waker: Waker,
}

impl Outlet {
    pub(super) fn new(waker: Waker) -> Outlet {
        Outlet { allowance: Mutex::default(), waker }
    }

    fn allowance(&self) -> MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Credit has come.
    pub(super) fn grant(&self, amount: Amount) -> Result<()> {
        let granted = self.allowance().grant(amount);
        match granted {
            Ok(true) => self.wake(),
            Ok(false) => {}
            Err(_) => return Err(Error::external("credit that was never taken was given back")),
        }
        Ok(())
    }

    /// There may be memory again.
    pub(super) fn nudge(&self) {
        let was_waiting = self.allowance().stop_waiting();
        if was_waiting {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }
}

/// See the module's text.
pub(super) struct Outgoing<T> {
    pub(super) link: Arc<Link>,
    pub(super) outlet: Arc<Outlet>,
    pub(super) channel: ChannelId,
    pub(super) compresses: bool,
    /// Only the sending task counts here.
    n_sent: AtomicU64,
    records: PhantomData<fn(T)>,
}

impl<T> Outgoing<T> {
    pub(super) fn new(
        link: Arc<Link>,
        outlet: Arc<Outlet>,
        channel: ChannelId,
        compresses: bool,
    ) -> Self {
        let n_sent = AtomicU64::new(0);
        Outgoing { link, outlet, channel, compresses, n_sent, records: PhantomData }
    }

    /// Sends a frame that is counted with so many bytes of credit. False if there is no memory for it now; when
    /// there may be, the task is woken.
    fn send(&self, frame: Vec<u8>, bytes: usize) -> bool {
        // Before it is sent: it may come back at once.
        self.outlet.allowance().spend(bytes);
        if let Err(frame) = self.link.send(frame) {
            // Tried again once it waits, because what it waits for may just have come.
            self.outlet.allowance().wait();
            if let Err(frame) = self.link.send(frame) {
                self.outlet.allowance().refund(bytes);
                self.link.recycle(frame);
                return false;
            }
            self.outlet.allowance().stop_waiting();
        }
        self.n_sent.fetch_add(1, Ordering::Relaxed);
        true
    }
}

impl<T: Data> Remote<T> for Outgoing<T> {
    fn try_send(&self, batch: &mut Batch<T>) -> Result<bool> {
        self.link.check()?;
        if !self.outlet.allowance().ask() {
            return Ok(false);
        }
        let mut frame = self.link.buffer();
        columns::encode(batch, &mut frame)?;
        let bytes = frame.len() - HEADER_BYTES;
        let mut is_compressed = false;
        if self.compresses {
            let mut smaller = self.link.buffer();
            is_compressed = compress::compress(&frame[HEADER_BYTES..], &mut smaller);
            if is_compressed {
                std::mem::swap(&mut frame, &mut smaller);
            }
            self.link.recycle(smaller);
        }
        frame::finish(&mut frame, Kind::Batch, is_compressed, self.channel)?;
        let is_sent = self.send(frame, bytes);
        if is_sent {
            batch.clear();
        }
        Ok(is_sent)
    }

    fn try_signal(&self, signal: Signal) -> Result<bool> {
        self.link.check()?;
        let is_end = signal == Signal::End;
        if !is_end && !self.outlet.allowance().ask() {
            return Ok(false);
        }
        let mut frame = self.link.buffer();
        wire::encode(&signal, &mut frame)?;
        frame::finish(&mut frame, Kind::Signal, false, self.channel)?;
        if !self.send(frame, 0) {
            return Ok(false);
        }
        if is_end {
            self.link.end_outlet();
        }
        Ok(true)
    }

    fn overtake(&self, barrier: Barrier) {
        let n_before = self.n_sent.load(Ordering::Relaxed);
        let mut frame = self.link.buffer();
        let written = wire::encode(&(barrier, n_before), &mut frame)
            .and_then(|()| frame::finish(&mut frame, Kind::Barrier, false, self.channel));
        match written {
            Ok(()) => self.link.send_urgent(frame),
            Err(e) => self.link.lose(&e),
        }
    }
}
