//! The vocabulary of Millstream.
//!
//! Every other package speaks in these words, so this one knows nothing of threads, clocks, files or
//! networks: a record ([`Data`], [`Key`], [`Text`]), the columns it travels in ([`Batch`]), what flows
//! between batches ([`Signal`]), what a job looks like ([`job_graph`]) and how it fails ([`Error`]).

pub mod batch;
pub mod checkpoint;
pub mod data;
pub mod encode;
pub mod failure;
pub mod hash;
pub mod job_graph;
pub mod key_group;
pub mod leader;
pub mod machine;
#[doc(hidden)]
pub mod sabotage;
pub mod settings;
pub mod text;
pub mod time;

pub use batch::{Batch, Mark, Signal};
pub use checkpoint::{Barrier, CheckpointId, CheckpointMode, Command, Notice, SnapshotKind};
pub use data::{Data, Key};
pub use failure::{Domain, Error, Place, Result};
pub use hash::hash_key;
pub use leader::LeaderEpoch;
pub use machine::Machine;
pub use text::Text;
pub use time::{EventTime, MAX_TIME, MIN_TIME, NO_TIME};
