//! What goes over the network for an attempt, counted.
//!
//! One addition per frame; nobody looks at it but metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an attempt has sent and received over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames that were sent.
    pub frames_out: u64,
    /// Their bytes, as they were sent.
    pub bytes_out: u64,
    /// Frames that arrived.
    pub frames_in: u64,
    /// Their bytes, as they arrived.
    pub bytes_in: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    frames_out: AtomicU64,
    bytes_out: AtomicU64,
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
}

impl Counters {
    pub(super) fn sent(&self, bytes: usize) {
        self.frames_out.fetch_add(1, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received_bytes(&self, n: usize) {
        self.bytes_in.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn received_frame(&self) {
        self.frames_in.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Traffic {
        Traffic {
            frames_out: self.frames_out.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            frames_in: self.frames_in.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
        }
    }
}
