//! Sources and sinks: files, logs, sockets, collections, generators.
//!
//! A connector is a builder that implements [`Source`] or [`Sink`] of the runtime and nothing else: it is
//! made on the user's side, shared by all subtasks, and gives each of them a reader or a writer of its own.
//! Nothing is opened before the job runs, so building a graph has no side effects.

pub mod collection;
pub mod conformance;
mod durable;
pub mod encode;
pub mod file;
pub mod generator;
mod lines;
pub mod log;
pub mod malformed;
pub mod paced;
#[cfg(feature = "fuzzing")]
pub mod received;
pub mod sink;
pub mod socket;
#[cfg(test)]
mod testing;

pub use collection::{FromIter, FromVec, from_iter, from_vec};
pub use file::{FileSink, FileSource};
pub use generator::{Generator, Scheduled};
pub use log::{LogSink, LogSource};
pub use malformed::{BadRecord, OnError, parse_with};
pub use paced::Paced;
pub use sink::{Collect, Discard, Print};
pub use socket::{SocketSink, SocketSource};

#[doc(no_inline)]
pub use millstream_runtime::operator::{Sink, SinkWriter};
#[doc(no_inline)]
pub use millstream_runtime::source::Source;
