//! A checkpoint of a tree that is under way.
//!
//! It is a value that is run, not a call that returns: writing the last of the memory to files takes a
//! hundred milliseconds or more, and the task does not wait for that. Until it has been run or dropped, the
//! tree it belongs to takes no writes, or the checkpoint would hold what was written after its barrier.

use super::LsmFile;
use millstream_model::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A checkpoint of a tree that has been begun. See the module's text.
#[must_use = "the checkpoint is taken when this is run"]
pub struct Cut {
    take: Box<dyn FnOnce() -> Result<Vec<LsmFile>> + Send>,
    under_way: UnderWay,
}

impl Cut {
    /// Takes the checkpoint, on any thread. What it holds is in these files; immutable ones that are in
    /// storage under their name need not be stored again.
    ///
    /// # Errors
    /// If a file is damaged, or if the disk fails. The tree is as good as before.
    pub fn run(self) -> Result<Vec<LsmFile>> {
        let Cut { take, under_way } = self;
        let files = take();
        drop(under_way);
        files
    }
}

/// Knows whether a tree has a cut that is under way.
#[derive(Default)]
pub(super) struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Closes the gate until the cut is done.
    pub(super) fn cut(
        &self,
        take: impl FnOnce() -> Result<Vec<LsmFile>> + Send + 'static,
    ) -> Result<Cut> {
        if self.0.swap(true, Ordering::Acquire) {
            return Err(Error::internal("a checkpoint was begun before the last one was done"));
        }
        Ok(Cut { take: Box::new(take), under_way: UnderWay(Arc::clone(&self.0)) })
    }

    /// Refuses to write while it is closed.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(Error::internal("state was written while a checkpoint was being taken"));
        }
        Ok(())
    }
}

/// Opens the gate when it goes, however the cut ends.
struct UnderWay(Arc<AtomicBool>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
