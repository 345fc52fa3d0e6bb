//! Schemas of state: what a type looked like when it was written, and how its bytes are read when it has
//! changed since.

mod shape;

pub use shape::{Field, Shape, Variant};
