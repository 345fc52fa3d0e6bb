//! What runs inside a task.
//!
//! Data flows one way: a [`task::Head`] takes a batch from a source or an exchange and pushes it through a
//! chain of typed links ([`chain`]), one virtual call per batch and operator, into the [`exchange`] writers
//! at the chain's end. A task is only ever `step()`ped and never blocks, so who steps it (a thread of its
//! own, a worker that serves many, a simulator) is somebody else's choice.

pub mod chain;
pub mod context;
pub mod exchange;
pub mod function;
pub mod function_broadcast;
pub mod keyed;
pub mod metrics;
pub mod operator;
pub mod source;
pub mod task;
pub mod watermark;
pub mod window;

pub use context::{Clock, SystemClock, TaskContext};
pub use millstream_state::{failpoint, folder};
