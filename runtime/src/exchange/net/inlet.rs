//! The receiving end of a channel from another process.
//!
//! What arrives is decoded by whoever reads the connection and goes straight into the gate's queue. There is
//! always room: the far sender's credit is the gate's own, and comes back when the task takes a message. So
//! nothing is parked between the connection and the gate, and one task that is slow holds up no other.

use super::credit::{Amount, Returns};
use super::frame::ChannelId;
use super::link::Link;
use super::{columns, wire};
use crate::exchange::channel::CREDIT_BATCHES;
use crate::exchange::{GiveBack, Inlet};
use millstream_model::{Barrier, Data, Error, Result, Signal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// An inlet, whatever its records are.
pub(super) trait Port: Send + Sync {
    /// The connection is made: the credit to begin with, of so many bytes.
    fn begin(&self, window_bytes: u64) -> Amount;
    /// Takes records.
    fn batch(&self, payload: &[u8]) -> Result<()>;
    /// Takes a signal; whether it is the end of the channel.
    fn signal(&self, payload: &[u8]) -> Result<bool>;
    /// Takes a barrier that overtook.
    fn barrier(&self, payload: &[u8]) -> Result<()>;
}

/// Gives credit back over the network.
pub(super) struct Returning {
    link: Weak<Link>,
    channel: ChannelId,
    returns: OnceLock<Mutex<Returns>>,
}

impl Returning {
    pub(super) fn new(link: &Arc<Link>, channel: ChannelId) -> Returning {
        Returning { link: Arc::downgrade(link), channel, returns: OnceLock::new() }
    }
}

impl GiveBack for Returning {
    fn give_back(&self, bytes: usize) {
        let Some(returns) = self.returns.get() else { return };
        let mut returns = returns.lock().unwrap_or_else(PoisonError::into_inner);
        let due = returns.take(bytes);
        drop(returns);
        if let (Some(amount), Some(link)) = (due, self.link.upgrade())
            && let Err(e) = link.give_credit(self.channel, amount)
        {
            link.lose(&e);
        }
    }
}

/// See the module's text.
pub(super) struct Arrivals<T> {
    pub(super) inlet: Inlet<T>,
    pub(super) returning: Arc<Returning>,
    has_ended: AtomicBool,
}

impl<T> Arrivals<T> {
    pub(super) fn new(inlet: Inlet<T>, returning: Arc<Returning>) -> Self {
        Arrivals { inlet, returning, has_ended: AtomicBool::new(false) }
    }

    fn check_open(&self) -> Result<()> {
        if self.has_ended.load(Ordering::Relaxed) {
            return Err(Error::external("something came after the end of its channel"));
        }
        Ok(())
    }
}

impl<T: Data> Port for Arrivals<T> {
    fn begin(&self, window_bytes: u64) -> Amount {
        let granted = Amount { messages: CREDIT_BATCHES as u32, bytes: window_bytes.max(1) };
        self.returning.returns.get_or_init(|| Mutex::new(Returns::of(granted)));
        granted
    }

    // A task that is gone has failed or was cancelled; whoever runs the job knows.
    fn batch(&self, payload: &[u8]) -> Result<()> {
        self.check_open()?;
        let mut batch = self.inlet.buffer();
        columns::decode(payload, &mut batch)?;
        self.inlet.put(batch, payload.len())?;
        Ok(())
    }

    fn signal(&self, payload: &[u8]) -> Result<bool> {
        self.check_open()?;
        let signal: Signal = wire::decode_all(payload)?;
        match signal {
            Signal::Flush | Signal::Tick(_) => {
                return Err(Error::external("a signal that never leaves its task has arrived"));
            }
            Signal::Idle | Signal::Active | Signal::Barrier(_) | Signal::End => {}
        }
        self.inlet.put_signal(signal)?;
        let is_end = signal == Signal::End;
        self.has_ended.fetch_or(is_end, Ordering::Relaxed);
        Ok(is_end)
    }

    fn barrier(&self, payload: &[u8]) -> Result<()> {
        let (barrier, n_before): (Barrier, u64) = wire::decode_all(payload)?;
        self.inlet.overtake(barrier, n_before);
        Ok(())
    }
}
