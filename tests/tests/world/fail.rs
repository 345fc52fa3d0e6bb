//! User code that fails when it is told to.

use super::source::Event;
use millstream::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const WHOLE: u8 = 0;
const ERROR: u8 = 1;
const PANIC: u8 = 2;

/// Passes records on; the next one after it was blown ends its task, by an error or a panic.
#[derive(Clone, Default)]
pub(super) struct Fuse(Arc<AtomicU8>, Arc<AtomicU64>);

impl Fuse {
    /// How many records have come.
    pub(super) fn n_records(&self) -> u64 {
        self.1.load(Ordering::SeqCst)
    }

    pub(super) fn blow(&self, panics: bool) {
        self.0.store(if panics { PANIC } else { ERROR }, Ordering::SeqCst);
    }
}

/// Panics with this are not printed.
pub(super) const PLANNED: &str = "as planned";

impl MapFunction<Event> for Fuse {
    type Out = Event;

    fn map(&mut self, event: Event) -> Result<Event> {
        self.1.fetch_add(1, Ordering::SeqCst);
        match self.0.swap(WHOLE, Ordering::SeqCst) {
            ERROR => Err(Error::user(PLANNED)),
            PANIC => std::panic::panic_any(PLANNED),
            _ => Ok(event),
        }
    }
}
