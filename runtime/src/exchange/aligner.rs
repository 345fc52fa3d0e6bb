//! Where a barrier stands among the channels of one input: which of them delivered it, which are held back
//! for it, and when it goes on to the task.
//!
//! A pure machine; it decides and holds no data, so the rules of exactly-once are here alone and a gate only
//! stashes what arrives on a channel that [`BarrierAligner::is_blocked`]. One barrier is under way at a time,
//! because one checkpoint is: that a newer one has begun means that the older was given up, wherever this is
//! noticed first. A barrier is handed to the task at most once, by [`Passage::Complete`] or by
//! [`Passage::Overtake`].
//!
//! The end of a channel delivers every barrier there will ever be, so that checkpoints go on after some
//! sources have finished.

use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Barrier, CheckpointId, CheckpointMode};

/// See the module's text.
#[derive(Clone, Debug)]
pub struct BarrierAligner {
    mode: CheckpointMode,
    channels: Vec<Channel>,
    pending: Option<Barrier>,
    /// The newest checkpoint heard of, whatever became of it.
    newest: Option<CheckpointId>,
    /// The newest checkpoint whose barrier overtakes although it began to wait.
    turned: Option<CheckpointId>,
}

/// What a channel did about the pending barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Missing,
    Delivered,
    Ended,
}

/// What an event at one channel means for the whole input, in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alignment {
    /// This checkpoint is given up: what was blocked for it is free, what was recorded for it is void.
    pub abandoned: Option<CheckpointId>,
    /// What becomes of the barrier.
    pub passage: Passage,
}

/// What becomes of a barrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passage {
    /// Nothing, now.
    #[default]
    Nothing,
    /// Every channel delivered it: unblock everything and hand it to the task.
    Complete(Barrier),
    /// It is the first of an unaligned checkpoint: hand it to the task at once. Data that other channels
    /// deliver before their barrier ([`BarrierAligner::is_recorded`]) is channel state.
    Overtake(Barrier),
    /// Every channel delivered the one that overtook: its channel state is whole.
    Closed(CheckpointId),
}

impl BarrierAligner {
    /// An aligner for so many channels, all open.
    pub fn new(n_channels: usize, mode: CheckpointMode) -> Self {
        let channels = vec![Channel::Missing; n_channels];
        BarrierAligner { mode, channels, pending: None, newest: None, turned: None }
    }

    /// A barrier came through a channel. One that is older than the newest checkpoint heard of is ignored.
    pub fn barrier(&mut self, channel: usize, barrier: Barrier) -> Alignment {
        if self.channels[channel] == Channel::Ended {
            return Alignment::default();
        }
        if self.newest >= Some(barrier.checkpoint) {
            if self.is_pending(barrier.checkpoint) {
                self.channels[channel] = Channel::Delivered;
            }
            return Alignment { abandoned: None, passage: self.settle() };
        }
        let abandoned = self.abandon();
        self.newest = Some(barrier.checkpoint);
        self.channels[channel] = Channel::Delivered;
        let passage = if !self.is_missed() {
            self.free();
            Passage::Complete(barrier)
        } else {
            self.pending = Some(barrier);
            if self.overtakes(barrier) { Passage::Overtake(barrier) } else { Passage::Nothing }
        };
        Alignment { abandoned, passage }
    }

    /// A channel ended; nothing comes through it any more.
    pub fn ended(&mut self, channel: usize) -> Alignment {
        self.channels[channel] = Channel::Ended;
        Alignment { abandoned: None, passage: self.settle() }
    }

    /// A checkpoint was aborted: its barriers count no more, nor do those of older ones.
    pub fn cancel(&mut self, checkpoint: CheckpointId) -> Alignment {
        let outdated = self.pending.is_some_and(|barrier| barrier.checkpoint <= checkpoint);
        let abandoned = if outdated { self.abandon() } else { None };
        self.newest = self.newest.max(Some(checkpoint));
        Alignment { abandoned, passage: Passage::Nothing }
    }

    /// Waiting for this barrier has taken too long, here or at a sender: from now on it overtakes. Only in the
    /// mode that allows it, and not for a savepoint.
    pub fn turn(&mut self, barrier: Barrier) -> Alignment {
        let is_old = self.newest > Some(barrier.checkpoint);
        if self.mode != CheckpointMode::Timed || is_old || self.overtakes(barrier) {
            return Alignment::default();
        }
        if barrier.kind.is_savepoint() {
            return Alignment::default();
        }
        self.turned = Some(barrier.checkpoint);
        let passage = if self.is_pending(barrier.checkpoint) {
            Passage::Overtake(barrier)
        } else {
            Passage::Nothing
        };
        Alignment { abandoned: None, passage }
    }

    /// Whether a barrier overtakes because waiting for it took too long.
    pub fn has_turned(&self, barrier: Barrier) -> bool {
        self.turned == Some(barrier.checkpoint)
    }

    /// The barrier that channels wait for.
    pub fn waiting_for(&self) -> Option<Barrier> {
        self.pending.filter(|barrier| self.aligns(*barrier))
    }

    /// Whether what arrives on a channel must wait: it belongs after the pending barrier.
    #[inline]
    pub fn is_blocked(&self, channel: usize) -> bool {
        !is_planted(Bug::SkipAlignment)
            && self.channels[channel] == Channel::Delivered
            && self.pending.is_some_and(|barrier| self.aligns(barrier))
    }

    /// Whether data that arrives on a channel is channel state: it belongs before the pending barrier, which
    /// the task has already taken.
    #[inline]
    pub fn is_recorded(&self, channel: usize) -> bool {
        self.channels[channel] == Channel::Missing
            && self.pending.is_some_and(|barrier| self.overtakes(barrier))
    }

    /// The barrier that some channel delivered and another did not.
    pub fn pending(&self) -> Option<Barrier> {
        self.pending
    }

    /// A savepoint must not depend on how the job was run, so it is aligned in every mode.
    fn aligns(&self, barrier: Barrier) -> bool {
        let waits = matches!(self.mode, CheckpointMode::ExactlyOnce | CheckpointMode::Timed);
        barrier.kind.is_savepoint() || (waits && !self.overtakes(barrier))
    }

    fn overtakes(&self, barrier: Barrier) -> bool {
        let overtakes = match self.mode {
            CheckpointMode::Unaligned => true,
            CheckpointMode::Timed => self.turned == Some(barrier.checkpoint),
            CheckpointMode::ExactlyOnce | CheckpointMode::AtLeastOnce => false,
        };
        overtakes && !barrier.kind.is_savepoint()
    }

    fn is_pending(&self, checkpoint: CheckpointId) -> bool {
        self.pending.is_some_and(|barrier| barrier.checkpoint == checkpoint)
    }

    fn is_missed(&self) -> bool {
        self.channels.contains(&Channel::Missing)
    }

    /// What becomes of the pending barrier now that a channel delivered it or ended.
    fn settle(&mut self) -> Passage {
        if self.is_missed() {
            return Passage::Nothing;
        }
        match self.pending.take() {
            None => Passage::Nothing,
            Some(barrier) => {
                self.free();
                if self.overtakes(barrier) {
                    Passage::Closed(barrier.checkpoint)
                } else {
                    Passage::Complete(barrier)
                }
            }
        }
    }

    fn abandon(&mut self) -> Option<CheckpointId> {
        let barrier = self.pending.take()?;
        self.free();
        Some(barrier.checkpoint)
    }

    /// Makes all channels wait for the next barrier.
    fn free(&mut self) {
        for channel in self.channels.iter_mut().filter(|c| **c == Channel::Delivered) {
            *channel = Channel::Missing;
        }
    }
}

#[cfg(test)]
mod tests;
