//! A partitioned, transactional log in a folder: what one job writes exactly once, others read exactly once.
//!
//! ```text
//! meta                          partitions, and the epoch: which attempt may write
//! lock                          held by whoever prepares or commits
//! staged/…                      segments and transactions that nobody sees yet
//! segments/<tx>-<partition>     the records of a transaction in a partition
//! commits/<number>              a committed transaction: names its segments
//! ```
//!
//! A transaction is what one subtask wrote for one checkpoint. It is staged as complete, synced files, and
//! committed by *one* rename: of the file that describes it, to the next number in `commits`. So a transaction
//! is visible in all partitions or in none, there are no torn ends to be told from damage, and whether it was
//! committed can always be seen. The log of a partition is its segments in the order of the commits.
//!
//! Preparing an attempt takes the next epoch. What was staged in another one can only be committed by the
//! attempt that found it in its checkpoint: a process that is thought dead and comes back is refused.
//!
//! Records are JSON: what reads a log is another program, which may have been compiled later, with a type that
//! has a field more, or be no Rust at all; and JSON can be looked at. Floats keep every bit, except those that
//! are not finite, which JSON does not have.

mod folder;
#[cfg(feature = "fuzzing")]
pub(crate) mod received;
mod segment;
mod sink;
mod source;

pub use sink::{ByKey, BySubtask, ChoosePartition, LogSink};
pub use source::{LogSource, LogSplit};

#[cfg(test)]
mod tests;
