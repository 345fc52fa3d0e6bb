//! State: what an operator remembers.
//!
//! State is *live typed values*: a table of Rust values by key, reached by reference, never encoded on
//! access. A [`descriptor`] names a state and its type; a [`states::KeyedStates`] holds the tables of one
//! operator and lends them key by key; [`timers`] are state too. Bytes exist only at the boundary
//! (snapshot, spill, network), behind these same tables: [`part`] is how state is written and read back.

pub mod aggregate;
mod cache;
pub mod codec;
pub mod copies;
pub mod dense;
pub mod described;
pub mod descriptor;
pub mod expiring;
pub mod failpoint;
mod fetch;
pub mod folder;
pub mod handle;
pub mod items;
pub mod layout;
pub mod log;
pub mod lsm;
pub mod map;
pub mod operator_state;
mod pages;
pub mod part;
mod prefetch;
pub mod schema;
pub mod snapshot;
pub mod spill;
pub mod states;
pub mod store;
pub mod table;
pub mod timers;
pub mod ttl;
pub mod undo;
pub mod work_dir;

pub use aggregate::Aggregate;
pub use dense::DenseTable;
pub use descriptor::{
    AggregatingState, Declared, Expiring, ListState, MapState, ReducingState, StateKind, StateSet,
    ValueState,
};
pub use items::Items;
pub use operator_state::{OperatorListState, OperatorStateSet, OperatorStates};
pub use part::{Entries, Part, Visitor, Written};
pub use spill::Spill;
pub use states::KeyedStates;
pub use table::{KeyedTable, Left};
pub use timers::TimerQueue;
pub use ttl::Ttl;

#[cfg(test)]
mod freeze_tests;
