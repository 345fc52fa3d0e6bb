//! Streams: the DataStream API.
//!
//! A stream is a place in the graph and a record type, nothing more: calling a method adds a node and gives
//! the stream behind it. Types are nominal (`DataStream<T>`, `KeyedStream<K, T>`), so signatures and errors
//! stay readable; the closures live in the graph.

mod async_map;
mod broadcast;
mod connected;
mod data_stream;
mod joined;
mod keyed;
mod partitioning;
mod settings;
mod side_outputs;
mod sinks;
mod sources;
mod transform;
mod windowed;

pub use broadcast::{BroadcastConnectedStreams, KeyedBroadcastConnectedStreams};
pub use connected::{ConnectedStreams, KeyedConnectedStreams};
pub use data_stream::DataStream;
pub use joined::{IntervalJoined, JoinedStreams, TemporalJoined, WindowedJoin};
pub use keyed::KeyedStream;
pub use settings::OperatorSettings;
pub use side_outputs::ERRORS;
pub use sinks::{Collected, SinkHandle};
pub use windowed::WindowedStream;

pub(crate) use partitioning::Partitioning;
