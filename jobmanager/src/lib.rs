//! Decides what runs; never runs user code.
//!
//! Today that is the [`scheduler`]: the machine that takes a job from its graph to its end. It is the same
//! one whether the tasks run in this process or elsewhere: a shell carries out its effects.

pub mod checkpoint;
pub mod scheduler;
