//! The memory that records under way may take, for a whole process.
//!
//! Counted in bytes, because a batch of large records is not a batch of small ones. The rule that keeps it
//! from deadlock: a receiver whose queue is empty may always be sent one batch. Receivers at the end of the
//! graph always drain, so by induction every queue does. It also means that nobody needs to wait for memory as
//! such: who finds none waits for the receiver's queue, and gates wake their senders.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A budget of bytes. See the module's text.
#[derive(Debug)]
pub struct MemoryPool {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl MemoryPool {
    /// A pool of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        MemoryPool { limit, used: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    /// The configured limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were ever in use.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Takes bytes if there is room for them.
    pub fn try_take(&self, bytes: usize) -> bool {
        // Not added and taken back: what was added for a moment would make others fail, and nobody would
        // tell them that there was room after all.
        let fits = |used: usize| used.checked_add(bytes).filter(|taken| *taken <= self.limit);
        match self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits) {
            Ok(before) => {
                self.peak.fetch_max(before + bytes, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    }

    /// Takes bytes whether there is room or not: for the one batch that every empty receiver may be sent.
    pub fn take(&self, bytes: usize) {
        let taken = self.used.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.peak.fetch_max(taken, Ordering::Relaxed);
    }

    /// Gives bytes back.
    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
    }
}
