//! What the workspace-wide tests share: where the data are, how results are compared, how a program is built and run.
//!
//! The tests themselves are one binary (`tests/all.rs`), because every further test binary links the whole engine once
//! more. Nothing depends on this package, so it may panic freely: a panic here is a failed test.

pub mod chaos;
pub mod cluster;
pub mod compare;
pub mod crash;
pub mod data;
pub mod decoders;
pub mod power_cut;
pub mod program;
pub mod queries;
pub mod random;
pub mod soak;
pub mod unruly;
