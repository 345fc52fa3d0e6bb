//! Maps that keys have, in chunks.
//!
//! The unit of everything that happens to state is the entry of a table: it is what the undo log of a snapshot writes down,
//! what a slice holds, what is dirty, what leaves memory and comes back. A map that were one entry would be written down as a
//! whole by the first change during a snapshot, rewritten in the store for a change of one value, and never larger than
//! memory. So a map is as many entries as it needs: *chunks* of about a hundred values or some kilobytes, under the key and a
//! number. A map that fits into one is one, and pays nothing for all this. A larger one grows by linear hashing (Litwin, "Linear
//! hashing: a new tool for file and table addressing", VLDB 1980): one chunk is split at a time, so growing costs as much as
//! a chunk whatever the size, and shrinking likewise. Chunk 0 has the map's [`Head`](chunk::Head), which knows how many there
//! are; a chunk that would be empty is not there.
//!
//! A chunk lies where its key does: of its hash the high half, which chooses the key group, is the key's, and only the low
//! half is its own. All else (stores, checkpoints, rescaling) needs to know nothing of maps.
//!
//! Values that expire go by themselves, and from a store without anybody noticing. So a head knows when the last of them
//! goes, and not before that may it go itself; and what it knows of their number may be too large, never too small. Chunks
//! that it leaves behind hold only what is over, and are replaced when a new map of that key gets so far.

mod chunk;
mod expiring;
mod handle;
mod layout;
mod lent;
mod shelf;
mod spread;
mod table;

pub use chunk::{ByOwner, Chunk, ChunkOf};
pub use expiring::ExpiringMap;
pub use handle::MapHandle;
pub use table::MapTable;

#[cfg(test)]
mod tests;
