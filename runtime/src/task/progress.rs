//! What a task and whoever steps it say to each other: what a step came to, and that it is worth another.

use millstream_model::EventTime;
use std::sync::Arc;

/// Wakes a task that answered `Idle` or `Blocked`.
pub trait Wake: Send + Sync {
    /// Makes sure the task is stepped again, soon.
    fn wake(&self);
}

/// See [`Wake`].
pub type Waker = Arc<dyn Wake>;

/// A waker for tasks that somebody steps anyway: tests and harnesses.
#[derive(Debug, Default)]
pub struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Step again at once.
    Busy,
    /// Nothing to do until woken, or until this processing time (µs).
    Idle(EventTime),
    /// Waits for room downstream; it will be woken (or stepped at this processing time, µs).
    Blocked(EventTime),
    /// Its state is restored from a checkpoint, and nothing was sent yet. The next step goes on: it is for whoever steps it to
    /// wait until all tasks have come so far, so that a checkpoint that cannot be read does no harm.
    Restored,
    /// Finished: all input taken, all output sent, operators closed.
    Done,
}
