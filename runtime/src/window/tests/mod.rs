//! Window operators against a model that was written from the definitions.
//!
//! Every operator is run through its link as a task would run it: step by step, in batches with marks, and
//! into an output that is blocked at random, so that every cursor is left in every place.

mod clock;
mod joins;
mod kit;
mod model;
mod properties;
mod refused;
mod transcripts;
mod triggers;
mod united;
mod windows;
