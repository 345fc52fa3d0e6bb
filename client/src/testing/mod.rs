//! Testing operators and whole pipelines without threads, clocks or files.
//!
//! A [`Harness`] runs what a program would run (the same graph, fusion, exchange and operators) on the
//! calling thread, step by step, with time that only moves when the test says so. A [`Script`] is a case
//! (elements, watermarks, expected results) that is rerun in every [`Mode`], because results must not depend
//! on batches, fusion, parallelism or failures.
//!
//! ```
//! use millstream::prelude::*;
//! use millstream::testing::Script;
//!
//! # fn main() -> Result<()> {
//! Script::new()
//!     .element(('a', 1), 10)
//!     .element(('b', 2), 11)
//!     .expect([('a', 1), ('b', 2)])
//!     .element(('a', 3), 12)
//!     .expect([('a', 4)])
//!     .run(|input| input.key_by(|e| e.0).map_with_state(|sum: &mut i32, (k, n)| { *sum += n; (k, *sum) }))?;
//! # Ok(())
//! # }
//! ```

mod harness;
mod input;
mod pipeline;
#[cfg(test)]
mod restores;
mod script;
mod snapshot;
mod surroundings;
#[doc(hidden)]
pub mod world;

pub use harness::Harness;
pub use input::InputHandle;
pub use script::{Mode, Script, Setup};
pub use snapshot::Snapshot;
pub use surroundings::Side;
