//! Log-structured trees: where state lies that is larger than memory.
//!
//! The trait is what a write-back cache needs and no more, so that two things can stand behind it: RocksDB
//! (feature `rocksdb`) and a deterministic [`model`] for the simulation. A task has one tree. Keys are opaque
//! bytes in bytewise order; what a prefix means is the caller's affair.
//!
//! There is no log of writes: what makes state durable is a checkpoint, and a tree that was not closed is
//! not opened again but restored. A checkpoint is a [`Cut`]: begun by the task that owns the tree and carried
//! out by whichever thread has time, while the task goes on reading. What it holds is everything written
//! before it was begun; so that nothing later can slip in, writing is refused until it is done.
//!
//! Files are named so that a checkpoint can refer to those of an earlier one; see [`files`].

mod budget;
mod cut;
pub mod files;
pub mod model;
#[cfg(feature = "rocksdb")]
mod rocks;
#[cfg(test)]
mod tests;

pub use budget::{MemoryBudget, Share};
pub use cut::Cut;
pub use files::{Content, LsmFile};
#[cfg(feature = "rocksdb")]
pub use rocks::RocksEngine;

use millstream_model::Result;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// What opens trees; the trees of a process share its caches and threads.
pub trait LsmEngine: Send + Sync {
    /// Opens a tree that is empty or holds what a checkpoint held.
    ///
    /// # Errors
    /// If a file is missing or damaged in a way that shows at once (other damage shows when it is read), if
    /// the folder is not empty, or if the disk fails.
    fn open(&self, open: Open<'_>) -> Result<Box<dyn Lsm>>;

    /// Whether files are taken as they come, in memory: they need not be put on the disk to be opened.
    fn takes_files_in_memory(&self) -> bool {
        false
    }
}

/// How a tree is opened.
pub struct Open<'a> {
    /// Where it lives. The folder is made; if it is there it must be empty. It is the caller's to delete.
    pub dir: &'a Path,
    /// A name that no other opening of a tree in this job ever had or will have: files made from now on bear
    /// it. Letters, digits, `-` and `_`.
    pub instance: &'a str,
    /// The files of a checkpoint, all of them, or none for an empty tree.
    pub files: &'a [LsmFile],
    /// Which entries may be dropped.
    pub expiry: Expiry,
}

/// A log-structured tree. See the module's text.
pub trait Lsm: Send {
    /// Reads a value into `out`, whose content it replaces; false, and `out` empty, if there is none.
    ///
    /// # Errors
    /// If a file is damaged or the disk fails.
    fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool>;

    /// Reads many values, in the order of the keys: `visit` gets the key's index and its value, if there is
    /// one. `sorted` says that the keys ascend, which saves sorting them. `visit` leaves the tree alone.
    ///
    /// # Errors
    /// As [`get`](Lsm::get), or what `visit` fails with.
    fn multi_get(
        &self,
        keys: &[&[u8]],
        sorted: bool,
        visit: &mut dyn FnMut(usize, Option<&[u8]>) -> Result<()>,
    ) -> Result<()>;

    /// Reads the entries with `from <= key`, and `key < to` if there is an end, in order, until `visit`
    /// breaks. To go on there, begin behind that key. `visit` leaves the tree alone.
    ///
    /// # Errors
    /// As [`get`](Lsm::get), or what `visit` fails with.
    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()>;

    /// Writes, in this order; of several to the same key the last counts. It is cheapest when keys ascend.
    /// It may wait for the disk when compaction falls behind.
    ///
    /// # Errors
    /// If the disk fails; an internal one while a [`Cut`] is not done.
    fn write(&mut self, ops: &mut dyn Iterator<Item = Op<'_>>) -> Result<()>;

    /// Begins a checkpoint. Files that are nowhere but in this tree are put into `dir`, which must not exist,
    /// on the disk of the tree's own folder; it is the caller's to delete.
    ///
    /// # Errors
    /// An internal one if the last one is not done.
    fn cut(&mut self, dir: &Path) -> Result<Cut>;

    /// Rewrites everything now, without what is deleted or expired. Takes as long as that takes.
    ///
    /// # Errors
    /// As [`write`](Lsm::write).
    fn compact(&mut self) -> Result<()>;

    /// How large it is.
    ///
    /// # Errors
    /// If the tree cannot say.
    fn size(&self) -> Result<LsmSize>;
}

/// One change of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// Sets a key's value.
    Put(&'a [u8], &'a [u8]),
    /// Deletes a key.
    Delete(&'a [u8]),
    /// Deletes all keys from the first, before the second. It costs about as much as one deletion, and every
    /// later read a little until it is compacted away: for ranges, not for single keys.
    DeleteRange(&'a [u8], &'a [u8]),
}

/// How large a tree is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LsmSize {
    /// Bytes in files.
    pub file_bytes: u64,
    /// Number of files.
    pub n_files: u64,
    /// Bytes that are not in files yet.
    pub memory_bytes: u64,
    /// About how many keys there are.
    pub n_keys: u64,
    /// Bytes that compaction has yet to rewrite.
    pub compaction_debt_bytes: u64,
}

/// The first key behind all keys with a prefix; `None` if there is no such key.
pub fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Which entries have expired: compaction drops them.
///
/// Until it comes by they are still read, so who reads looks at the time too.
#[derive(Clone, Default)]
pub struct Expiry(Option<Arc<IsOver>>);

type IsOver = dyn Fn(&[u8], &[u8]) -> bool + Send + Sync;

impl Expiry {
    /// Nothing expires.
    pub fn never() -> Self {
        Expiry(None)
    }

    /// The entries expire for which `is_over` says of key and value that their time has come. It is asked from
    /// several threads, for every entry that is compacted; once it has said so, it must stay with it.
    pub fn of(is_over: impl Fn(&[u8], &[u8]) -> bool + Send + Sync + 'static) -> Self {
        Expiry(Some(Arc::new(is_over)))
    }

    /// Whether nothing expires.
    pub fn is_never(&self) -> bool {
        self.0.is_none()
    }

    /// Whether an entry may be dropped.
    pub fn is_over(&self, key: &[u8], value: &[u8]) -> bool {
        let Some(is_over) = &self.0 else { return false };
        // To know, types of the program may have to be read. If that panics there is nobody here to tell, and
        // RocksDB is none to panic through: who reads the value next will see it.
        catch_unwind(AssertUnwindSafe(|| is_over(key, value))).unwrap_or(false)
    }
}
