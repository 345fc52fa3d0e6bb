//! The memory that records under way may take, for a whole process.
//!
//! Counted in bytes, because a batch of large records is not a batch of small ones. The rule that keeps it
//! from deadlock: a receiver whose queue is empty may always be sent one batch. Receivers at the end of the
//! graph always drain, so by induction every queue does.

use crate::task::Waker;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A budget of bytes. See the module's text.
pub struct MemoryPool {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    is_awaited: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl MemoryPool {
    /// A pool of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        MemoryPool {
            limit,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            waiting: Mutex::default(),
        }
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
        // Not added and taken back: what was added for a moment would make others fail, and giving it back
        // would wake those who then make it fail again, for ever.
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

    /// Gives bytes back and wakes who waits for them.
    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) && self.is_awaited.swap(false, Ordering::SeqCst) {
            let waiting =
                std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            for waker in waiting {
                waker.wake();
            }
        }
    }

    /// Wakes `waker` when bytes have been given back. Try again after calling this: they may just have been.
    pub fn await_room(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // A task asks once for each of its channels, one after the other.
        if !waiting.last().is_some_and(|last| Arc::ptr_eq(last, waker)) {
            waiting.push(waker.clone());
        }
        drop(waiting);
        self.is_awaited.store(true, Ordering::SeqCst);
    }
}
