//! Windows: cutting a keyed stream into finite pieces.
//!
//! A window operator is put together from four parts that know nothing of each other:
//! *which windows* a record belongs to ([`assigner`]), *what is kept* of the records ([`content`]),
//! *when* that is due (the end of the window, or a [`trigger`]), and *what is made of it* ([`emit`]).
//!
//! What is aligned (the same windows for all keys) and fires by the clock needs no timer per key: a window,
//! or a slice that several windows share, owns the table of its keys, fires as a whole and is dropped as a
//! whole ([`aligned`], [`sliced`]). Sessions have windows per key and one timer each ([`session`]).
//! Everything else goes through [`general`]. All of them are driven by one shell ([`operator`]) and built by
//! the functions of [`build`].

mod aligned;
pub mod assigner;
mod boxed;
pub mod build;
pub mod content;
pub mod count;
pub mod emit;
pub mod evictor;
pub(crate) mod firing;
mod general;
pub mod grid;
pub mod join;
mod key;
mod operator;
mod session;
mod sliced;
mod slots;
pub mod time_window;
pub mod trigger;
pub mod triggers;

#[cfg(test)]
mod tests;

pub use assigner::{Assigner, DynamicSession, Global, Offset, Session, Sliding, Tumbling};
pub use boxed::{BoxedOperator, BoxedTwoInput};
pub use content::{Aggregated, Content, Elements, Reduced};
pub use emit::{Emit, WindowContext, WindowFunction};
pub use evictor::{CountEvictor, DeltaEvictor, Eviction, Evictor, TimeEvictor, WindowElements};
pub use key::{EitherKey, Keyed, OneKey};
pub use time_window::TimeWindow;
pub use trigger::{BoxedTrigger, Trigger, TriggerContext, TriggerResult};
pub use triggers::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger,
    EventTimeTrigger, ProcessingTimeTrigger, PurgingTrigger,
};
