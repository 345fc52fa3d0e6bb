//! The exchange: how batches get from the tasks of one vertex to the tasks of another.
//!
//! Inside a process a batch moves as a value through a bounded queue, never encoded. Every receiving
//! subtask has one [`Gate`]: one queue for all its channels, so looking for input is one operation
//! however many senders there are. What may be under way is bounded twice: 16 batches a channel, and bytes
//! for the whole process ([`MemoryPool`]). A sender without credit keeps its output and is blocked; taking
//! a batch out wakes it.

mod aligner;
mod channel;
mod gate;
mod in_flight;
mod memory;
#[cfg(feature = "net")]
pub mod net;
mod partition;
mod writer;

pub use aligner::{Alignment, BarrierAligner, Passage};
pub use channel::{GiveBack, Inlet, Remote, Sender};
pub use gate::{Arrival, Gate, connect};
pub(crate) use in_flight::holds_messages;
pub use memory::MemoryPool;
pub use partition::{Broadcast, Custom, Hash, Partition, RoundRobin, Shuffle, Single};
pub use writer::{Lanes, Limits, Writer};

/// How the names of parts begin that hold records which were under way. No state of a user is called so.
const CHANNEL_PART: &str = "under way: ";
/// The part of the only input.
pub(crate) const INPUT_PART: &str = "under way: input";
/// Those of two.
pub(crate) const INPUT_PARTS: [&str; 2] = ["under way: input 0", "under way: input 1"];

/// Whether a part holds records that were under way.
pub(crate) fn is_channel_part(name: &str) -> bool {
    name.starts_with(CHANNEL_PART)
}

#[cfg(test)]
mod overtaking_tests;
#[cfg(test)]
mod tests;
