//! Snapshots at rest: what a checkpoint is made of, how it lies in storage, and how it is looked at.
//!
//! A task writes one file of blocks per checkpoint ([`format`]), a [`Manifest`] names all files with their
//! lengths and digests, and a checkpoint exists from the moment its manifest does.

mod description;

pub use description::{
    Assignment, FileRef, Manifest, OperatorSnapshot, PartKind, PartSnapshot, TaskSnapshot,
    VertexSnapshot,
};
