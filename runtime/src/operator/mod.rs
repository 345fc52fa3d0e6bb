//! Operators, one a file.
//!
//! The simplest ones are links themselves and touch only the columns they need; whoever needs watermarks,
//! timers or several outputs implements [`Operator`](crate::chain::Operator) and leaves the rest to its link.

mod async_wait;
mod broadcast;
mod co_process;
mod filter;
mod flat_map;
mod fold;
mod interval_join;
mod keyed_process;
mod map;
mod process;
mod sink;
mod temporal_join;
mod waiting;

pub use async_wait::{AsyncCall, AsyncOrder, AsyncWait, DEFAULT_ASYNC_CAPACITY, Retry};
pub use broadcast::{BroadcastProcess, KeyedBroadcastProcess};
pub use co_process::{CoProcess, KeyedCoProcess};
pub use filter::{Filter, FilterMap, TryFilter};
pub use flat_map::{FlatMap, FlatMapInto, TryFlatMap};
pub use fold::{Fold, KeyedFold};
pub use interval_join::{IntervalJoin, IntervalSpec};
pub use keyed_process::KeyedProcess;
pub use map::{Map, MapWith, TryMap};
pub use process::Process;
pub use sink::{Committer, STAGED_PART, Sink, SinkLink, SinkStart, SinkWriter, Staged};
pub use temporal_join::TemporalJoin;
