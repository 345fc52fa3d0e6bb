//! Snapshots at rest: what a checkpoint is made of, how it lies in storage, and how it is looked at.
//!
//! A task writes one file of blocks per checkpoint ([`mod@format`]), a [`Manifest`] names all files with their
//! lengths and digests, and a checkpoint exists from the moment its manifest does.

pub mod catalog;
mod description;
pub mod format;
pub mod local;
pub mod manifest;
pub mod mark;
pub mod memory;
mod restore;
pub mod storage;
#[cfg(test)]
mod tests;
pub mod tools;
pub mod trees;

pub use catalog::{Latest, completed, latest, sweep};
pub use description::{
    Assignment, FileRef, Manifest, OperatorSnapshot, PartKind, PartSnapshot, TaskSnapshot,
    VertexSnapshot,
};
pub use format::{Block, StateFileReader, StateFileWriter};
pub use local::LocalStorage;
pub use manifest::{checkpoint_folder, read_manifest, write_manifest};
pub use memory::MemoryStorage;
pub use restore::Restore;
pub use storage::{CheckpointStorage, ObjectWriter, read_error};
