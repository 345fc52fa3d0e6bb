//! Who leads.
//!
//! One job manager leads at a time, and each has a [`LeaderEpoch`] that is larger than all before it. The epoch
//! is what makes leading safe: a lease alone excludes nobody, because a holder that was paused wakes up and goes
//! on; receivers and stores refuse what a smaller epoch says. An [`Election`] only makes it unlikely that two
//! believe in themselves for long, and says when it is over.

pub mod durable;
mod standalone;

pub use standalone::Standalone;

use crossbeam_channel::Receiver;
use millstream_model::{Error, LeaderEpoch, Result};
use std::fmt;

/// How job managers agree on a leader.
pub trait Election: Send {
    /// Takes part until this process leads. `None` if a word came through `stop` first, or its other end is gone.
    ///
    /// May be called again when a leadership is lost.
    ///
    /// # Errors
    /// If this process can never lead, or cannot find out.
    fn campaign(&mut self, stop: &Receiver<()>) -> Result<Option<Leadership>>;
}

/// That this process leads. Dropping it makes way for the next.
pub struct Leadership {
    epoch: LeaderEpoch,
    lost: Receiver<Error>,
    /// What holds the place; goes last.
    _place: Box<dyn Send>,
}

impl Leadership {
    /// Of an election's making: `lost` brings the reason when the leadership is over, `place` is dropped to give
    /// it up.
    pub fn new(epoch: LeaderEpoch, lost: Receiver<Error>, place: impl Send + 'static) -> Self {
        Leadership { epoch, lost, _place: Box::new(place) }
    }

    /// The leader's number: larger than that of any leader before.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Brings the reason, once, when somebody else leads or may do so. From then on this process has to be
    /// silent; what it says all the same is refused.
    pub fn lost(&self) -> &Receiver<Error> {
        &self.lost
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leadership({})", self.epoch)
    }
}
