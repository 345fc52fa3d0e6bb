//! What the example programs share, so that each of them is about one thing: the records of the data sets
//! and how a line becomes one ([`records`], [`fields`], [`clock`]), how a file becomes a stream
//! ([`input`]), and how a program begins and ends ([`program`]).

pub mod clock;
pub mod fields;
pub mod input;
pub mod program;
pub mod random;
pub mod records;
