//! How much memory the state of a process may take.
//!
//! One figure, divided once: the blocks of files that are kept (3/8), what is written and not in files yet
//! (1/8), and decoded values (1/2), which are worth most: one that is there costs nanoseconds, a block
//! microseconds. The first two are held by the engine of the trees; decoded values are counted here, by the
//! tasks, each for itself.
//!
//! A task may use what the others leave free. When all together use too much, those give back that use more
//! than an equal share; who uses less is never asked. So the limit holds once every task has been stepped.
//!
//! It holds but for a few entries of each table. A handful of keys whose values are larger than all that there is would be
//! read and decoded again for every record of a batch, a thousand times slower than the memory is worth.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much memory the state of a process may take. See the module's text.
#[derive(Debug)]
pub struct MemoryBudget {
    total_bytes: usize,
    /// So many entries of a table may stay, however large they are.
    n_kept: usize,
    used: AtomicUsize,
    n_shares: AtomicUsize,
}

impl MemoryBudget {
    /// A budget of so many bytes in all.
    pub fn new(total_bytes: usize) -> Arc<Self> {
        Self::keeping(0, total_bytes)
    }

    /// The same, but so many entries of each table may stay, however large they are.
    pub fn keeping(n_kept: usize, total_bytes: usize) -> Arc<Self> {
        Arc::new(MemoryBudget {
            total_bytes,
            n_kept,
            used: AtomicUsize::new(0),
            n_shares: AtomicUsize::new(0),
        })
    }

    /// For blocks of files that are kept, in bytes.
    pub fn block_cache_bytes(&self) -> usize {
        self.total_bytes / 8 * 3
    }

    /// For what is written and not in files yet, in bytes.
    pub fn memtable_bytes(&self) -> usize {
        self.total_bytes / 8
    }

    /// For decoded values of all tasks, in bytes.
    pub fn limit(&self) -> usize {
        self.total_bytes - self.block_cache_bytes() - self.memtable_bytes()
    }

    /// How many entries of a table may stay, however large they are.
    pub fn n_kept(&self) -> usize {
        self.n_kept
    }

    /// How many bytes the decoded values of all tasks take.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The part of one task.
    pub fn share(self: &Arc<Self>) -> Share {
        self.n_shares.fetch_add(1, Ordering::Relaxed);
        Share { budget: Arc::clone(self), used: 0 }
    }
}

/// What one task takes of a [`MemoryBudget`]. What it has not given back is given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<MemoryBudget>,
    used: usize,
}

impl Share {
    /// Counts bytes that are used from now on. It is never refused: the memory is taken already.
    pub fn take(&mut self, bytes: usize) {
        self.used += bytes;
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that are free again, of those that were taken.
    pub fn give_back(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.used, "{bytes} bytes were given back, {} taken", self.used);
        let bytes = bytes.min(self.used);
        self.used -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes it has taken.
    pub fn used(&self) -> usize {
        self.used
    }

    /// How many bytes this task should free now.
    pub fn excess(&self) -> usize {
        let equal = self.budget.limit() / self.budget.n_shares.load(Ordering::Relaxed).max(1);
        let over = self.budget.used().saturating_sub(self.budget.limit());
        over.min(self.used.saturating_sub(equal))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.used);
        self.budget.n_shares.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        let budget = MemoryBudget::new(1000);
        assert_eq!(budget.block_cache_bytes() + budget.memtable_bytes() + budget.limit(), 1000);
        assert_eq!((budget.block_cache_bytes(), budget.memtable_bytes()), (375, 125));
    }

    #[test]
    fn a_task_may_use_what_others_leave_free_until_they_want_it() {
        let budget = MemoryBudget::new(1600);
        let (mut large, mut small) = (budget.share(), budget.share());
        large.take(700);
        assert_eq!((budget.limit(), large.excess()), (800, 0));
        small.take(300);
        assert_eq!(budget.used(), 1000);
        assert_eq!((large.excess(), small.excess()), (200, 0));
        large.give_back(200);
        assert_eq!((large.excess(), large.used(), budget.used()), (0, 500, 800));
        small.take(500);
        assert_eq!((large.excess(), small.excess()), (100, 400));
        drop(large);
        assert_eq!((small.excess(), budget.used()), (0, 800));
        drop(small);
        assert_eq!(budget.used(), 0);
    }
}
