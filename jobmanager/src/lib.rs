//! Decides what runs; never runs user code.
//!
//! These are machines: the [`scheduler`] takes a job from its graph to its end, the coordinator of
//! [`checkpoint`]s says what can be restored, and [`restart`] whether it will be. They are the same whether
//! the tasks run in this process or elsewhere: a shell carries out their effects. In a cluster the [`dispatcher`] and
//! the pool of slots ([`resource`]) are machines, too; what carries out theirs, the process, is behind the feature `server`.

pub mod checkpoint;
pub mod clock;
pub mod dispatcher;
pub mod job;
#[cfg(feature = "server")]
pub mod process;
#[cfg(feature = "server")]
pub mod programs;
pub mod resource;
#[cfg(feature = "server")]
mod rest;
pub mod restart;
pub mod scheduler;
pub mod store;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod stories;
