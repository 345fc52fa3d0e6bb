//! # Millstream: streaming jobs in Rust
//!
//! A job is a program: build streams, end them in sinks, call `execute`.
//!
//! ```
//! use millstream::prelude::*;
//!
//! fn main() -> Result<()> {
//!     let env = Environment::local();
//!     let counts = env
//!         .from_collection(vec![Text::from("to be or not"), Text::from("to be")])
//!         .flat_map_into(|line, out| line.split(' ').for_each(|word| out.emit(Text::from(word))))
//!         .key_by_ref(|word| word.as_str())
//!         .count()
//!         .uid("counts");
//!     assert_eq!(counts.execute_and_collect("word count")?.len(), 6);
//!     Ok(())
//! }
//! ```

pub mod aggregates;
mod builder;
#[cfg(feature = "cluster")]
pub mod cluster;
mod compile;
pub mod config;
mod environment;
mod graph;
#[cfg(feature = "cluster")]
mod host;
mod interrupt;
mod job;
mod local;
pub mod prelude;
pub mod stream;
#[cfg(feature = "cluster")]
mod submit;
pub mod testing;

pub use builder::EnvironmentBuilder;
pub use config::{ExplainFormat, reference as configuration_reference};
pub use environment::Environment;
pub use job::{JobHandle, JobResult, JobState, JobStatus};
pub use millstream_connectors as connectors;
pub use millstream_model as model;
pub use millstream_runtime as runtime;
pub use millstream_state as state;

/// The program in the README is one that compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
