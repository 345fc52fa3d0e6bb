//! Parts: the named pieces of an operator's state, and the one way to get at all of them.
//!
//! An operator shows its parts to a [`Visitor`]; what that does with them is its own affair: freeze them at
//! a barrier, write a slice of them between two batches, fill them from a snapshot, describe them, or let
//! them go after an abort. So an operator says once what its state is, and can forget no case.
//!
//! Freezing is O(1). From then on a part writes down an entry *before* it is changed, unless it has been
//! written already; so every entry is written once, as it was at the barrier, by the cursor or by the first
//! change, whichever comes first, and what is changed never waits.

use crate::schema::{Compatibility, Schema, Shape, compatible};
use crate::snapshot::{Assignment, PartKind};
use crate::store::Space;
use millstream_model::{Error, Key, Result, SnapshotKind};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A named piece of an operator's state. See the module's text.
pub trait Part {
    /// How its entries are dealt out when the parallelism changes.
    fn kind(&self) -> PartKind;

    /// The shape of an entry.
    ///
    /// # Errors
    /// If the type cannot be kept in state.
    fn shape(&self) -> Result<Shape>;

    /// What the program calls this version of the part's type.
    fn version(&self) -> u32 {
        0
    }

    /// Fixes what the next snapshot holds, of the kind it is: everything as it is now.
    fn freeze(&mut self, kind: SnapshotKind);

    /// Appends entries until there are about `budget` bytes, and counts them; true when everything that was
    /// there at the freeze has been written.
    ///
    /// # Errors
    /// If a value cannot be encoded.
    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool>;

    /// Whether what is left to write has yet to come: [`write`](Part::write) would be in vain until the task is
    /// woken.
    fn is_waiting(&self) -> bool {
        false
    }

    /// Whether it can lie in a store.
    fn can_attach(&self) -> bool {
        false
    }

    /// Puts a store beneath it, before anything is in it, if it can lie in one. `is_empty`: nothing of the part
    /// is in the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn attach(&mut self, space: Space, is_empty: bool) -> Result<()> {
        let _ = (space, is_empty);
        Ok(())
    }

    /// What tells of a value, as it lies in a store, whether all of it has expired; `None` if it never does.
    fn expiry(&self) -> Option<IsExpired> {
        None
    }

    /// Forgets the freeze: the snapshot is not wanted any more.
    fn thaw(&mut self);

    /// Takes those of the entries, as [`write`](Part::write) appended them, that belong here.
    ///
    /// # Errors
    /// If they cannot be decoded.
    fn restore(&mut self, entries: &Entries<'_>) -> Result<()>;
}

/// Tells of the bytes of a value whether all of it has expired. What cannot be read has not.
pub type IsExpired = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Entries of a part as bytes: encoded one behind the other.
#[derive(Debug, Default)]
pub struct Written {
    /// The entries.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub n_entries: u64,
}

impl Written {
    /// Moves what is in `other` behind what is here.
    pub fn append(&mut self, other: &mut Written) {
        if self.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, &mut other.bytes);
        } else {
            self.bytes.append(&mut other.bytes);
        }
        self.n_entries += std::mem::take(&mut other.n_entries);
    }
}

/// Stored entries of a part, and what is known of them.
pub struct Entries<'a> {
    /// The entries, one behind the other.
    pub bytes: &'a [u8],
    /// Which of them belong here.
    pub assignment: &'a Assignment,
    /// The shape they were written in.
    pub shape: &'a Shape,
    /// What the program called that version of the type.
    pub version: u32,
    /// Index of the first of them among all of the writer's.
    pub first: u64,
}

impl Entries<'_> {
    /// Decodes the entries one by one.
    ///
    /// # Errors
    /// If one cannot be decoded; the first error of `take`.
    pub fn each<T: DeserializeOwned + 'static>(
        &self,
        mut take: impl FnMut(u64, T) -> Result<()>,
    ) -> Result<()> {
        let reader = Schema::<T>::recorded().reader(self.shape, self.version)?;
        self.walk(|index, bytes| {
            let (entry, taken) = reader.read(bytes)?;
            take(index, entry)?;
            Ok(taken)
        })
    }

    /// Goes through the entries: `read` is given the bytes from each on, and says how many it takes.
    ///
    /// # Errors
    /// The first error of `read`.
    pub fn walk(&self, mut read: impl FnMut(u64, &[u8]) -> Result<usize>) -> Result<()> {
        let (mut rest, mut index) = (self.bytes, self.first);
        while !rest.is_empty() {
            let taken = read(index, rest)?;
            // An entry of no bytes would never end; the number of such entries is not told by their bytes.
            if taken == 0 {
                return Ok(());
            }
            rest = &rest[taken..];
            index += 1;
        }
        Ok(())
    }

    /// The shape that the keys were written in, which stand at `place` of each entry: it must be that of `K`.
    /// Where an entry belongs depends on the bytes of its key, so a key that has changed is another key.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_key<K: Key>(&self, place: usize) -> Result<()> {
        let (written, current) = (self.shape_at(place)?, Shape::of::<K>()?);
        if compatible(written, &current) == Compatibility::Same {
            return Ok(());
        }
        Err(Error::user(format!(
            "the keys of a state must stay as they are, because they say where it belongs; undo the change of \
             the key, or give the state another name. Written:\n{written}\nNow:\n{current}"
        )))
    }

    /// The shape of what stands at `place` of each entry.
    ///
    /// # Errors
    /// If entries are made otherwise.
    pub fn shape_at(&self, place: usize) -> Result<&Shape> {
        let parts = match self.shape {
            Shape::Tuple(parts) => parts.get(place),
            _ => None,
        };
        parts.ok_or_else(|| {
            Error::user(format!(
                "the state was another kind of state: give it another name. Written:\n{}",
                self.shape
            ))
        })
    }
}

/// Sees the parts of operators. See the module's text.
pub trait Visitor {
    /// Sees a part. Names are unique within an operator.
    ///
    /// # Errors
    /// Whatever the visitor came for may fail.
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()>;
}

/// A part whose values can be told to be over by their bytes, so that they go from a store by themselves.
///
/// A store drops them whenever it compacts its files, also between a barrier and the moment at which its files are taken. So
/// what is over may only be judged by a clock that does not run on after a barrier: `frozen` moves it.
pub struct Expiring<'a> {
    /// The part.
    pub part: &'a mut dyn Part,
    /// Tells of a value whether it is over.
    pub is_expired: IsExpired,
    /// Called at every freeze: what is over now is over for every checkpoint from this one on.
    pub frozen: &'a dyn Fn(),
}

impl Part for Expiring<'_> {
    fn kind(&self) -> PartKind {
        self.part.kind()
    }
    fn shape(&self) -> Result<Shape> {
        self.part.shape()
    }
    fn version(&self) -> u32 {
        self.part.version()
    }
    fn freeze(&mut self, kind: SnapshotKind) {
        self.part.freeze(kind);
        (self.frozen)();
    }
    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        self.part.write(out, budget)
    }
    fn is_waiting(&self) -> bool {
        self.part.is_waiting()
    }
    fn can_attach(&self) -> bool {
        self.part.can_attach()
    }
    fn attach(&mut self, space: Space, is_empty: bool) -> Result<()> {
        self.part.attach(space, is_empty)
    }
    fn expiry(&self) -> Option<IsExpired> {
        Some(Arc::clone(&self.is_expired))
    }
    fn thaw(&mut self) {
        self.part.thaw();
    }
    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        self.part.restore(entries)
    }
}

/// A part that is the same in all subtasks, whatever it is otherwise.
pub(crate) struct Broadcast<'a>(pub(crate) &'a mut dyn Part);

impl Part for Broadcast<'_> {
    fn kind(&self) -> PartKind {
        PartKind::Broadcast
    }
    fn shape(&self) -> Result<Shape> {
        self.0.shape()
    }
    fn version(&self) -> u32 {
        self.0.version()
    }
    fn freeze(&mut self, kind: SnapshotKind) {
        self.0.freeze(kind);
    }
    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        self.0.write(out, budget)
    }
    fn thaw(&mut self) {
        self.0.thaw();
    }
    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        if entries.assignment.writer != 0 {
            return Ok(());
        }
        let everything =
            Assignment { subtask: 0, parallelism: 1, max_parallelism: 1, writer: 0, n_writers: 1 };
        self.0.restore(&Entries { assignment: &everything, ..*entries })
    }
}
