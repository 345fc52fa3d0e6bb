//! Parts: the named pieces of an operator's state, and the one way to get at all of them.
//!
//! An operator shows its parts to a [`Visitor`]; what that does with them is its own affair: freeze them at
//! a barrier, write a slice of them between two batches, fill them from a snapshot, describe them, or let
//! them go after an abort. So an operator says once what its state is, and can forget no case.
//!
//! Freezing is O(1). From then on a part writes down an entry *before* it is changed, unless it has been
//! written already; so every entry is written once, as it was at the barrier, by the cursor or by the first
//! change, whichever comes first, and what is changed never waits.

use crate::schema::Shape;
use crate::snapshot::{Assignment, PartKind};
use millstream_model::Result;

/// A named piece of an operator's state. See the module's text.
pub trait Part {
    /// How its entries are dealt out when the parallelism changes.
    fn kind(&self) -> PartKind;

    /// The shape of an entry, of `(key, value)` if it is keyed.
    ///
    /// # Errors
    /// If the type cannot be kept in state.
    fn shape(&self) -> Result<Shape>;

    /// What the program calls this version of the part's type.
    fn version(&self) -> u32 {
        0
    }

    /// Fixes what the next snapshot holds: everything as it is now.
    fn freeze(&mut self);

    /// Appends entries, about `budget` bytes of them, and counts them; true when everything that was there
    /// at the freeze has been written.
    ///
    /// # Errors
    /// If a value cannot be encoded.
    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool>;

    /// Forgets the freeze: the snapshot is not wanted any more.
    fn thaw(&mut self);

    /// Takes those of the entries, as [`write`](Part::write) appended them, that belong here.
    ///
    /// # Errors
    /// If they cannot be decoded.
    fn restore(&mut self, entries: &[u8], from: &Source<'_>) -> Result<()>;
}

/// Entries of a part as bytes.
#[derive(Debug, Default)]
pub struct Written {
    /// The entries, one behind the other: their length (4 bytes), for keyed parts the key's hash (8 bytes),
    /// and the encoded entry.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub n_entries: u64,
}

/// Where entries that are restored come from.
pub struct Source<'a> {
    /// Which of them belong here.
    pub assignment: &'a Assignment,
    /// The shape they were written in.
    pub shape: &'a Shape,
    /// What the program called that version of the type.
    pub version: u32,
    /// Index of the first entry of this block among all of the writer's.
    pub first: u64,
}

/// Sees the parts of operators. See the module's text.
pub trait Visitor {
    /// Sees a part. Names are unique within an operator.
    ///
    /// # Errors
    /// Whatever the visitor came for may fail.
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()>;
}
