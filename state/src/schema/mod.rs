//! Schemas of state: what a type looked like when it was written, and how its bytes are read when it has
//! changed since.
//!
//! A [`Shape`] is recorded from a type and stored beside its bytes. When they are read, [`compatible`] says
//! whether the codec can do it alone, [`decode_as`] can by name, or only the program knows; a [`Schema`] is
//! what the program has to say.

mod admits;
mod compatible;
mod decode;
mod display;
mod draft;
mod fault;
mod input;
mod recorder;
mod samples;
mod shape;
mod stored;

#[cfg(test)]
mod tests;

pub use compatible::{Compatibility, compatible};
pub(crate) use input::MAX_EMPTY;

pub use decode::{decode_as, encoded_len};
pub use shape::{Field, Shape, Variant};
pub use stored::{Migration, Reader, Schema, StateSchema, Stored};
