//! A piece of time.
//!
//! Half-open, as in Flink: `end` is the first moment outside. So neighbouring windows share no moment, and
//! what a window is due at, and what its results are stamped with, is its last millisecond.

use millstream_model::{EventTime, MAX_TIME, MIN_TIME};
use serde::{Deserialize, Serialize};

/// The time from `start` up to, but not including, `end`, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimeWindow {
    /// The first moment inside.
    pub start: EventTime,
    /// The first moment after.
    pub end: EventTime,
}

impl TimeWindow {
    /// All of time: the only window of [`Global`](super::Global).
    pub const ALWAYS: TimeWindow = TimeWindow { start: MIN_TIME, end: MAX_TIME };

    /// The last moment inside. The window is due when the watermark reaches it, and its results carry it.
    pub fn max_timestamp(&self) -> EventTime {
        self.end.saturating_sub(1)
    }

    /// Whether the two share a moment, or the one begins where the other ends.
    pub fn touches(&self, other: &TimeWindow) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The smallest window that holds both.
    #[must_use]
    pub fn cover(&self, other: &TimeWindow) -> TimeWindow {
        TimeWindow { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_touch_and_others_do_not() {
        let at = |start, end| TimeWindow { start, end };
        assert!(at(0, 10).touches(&at(10, 20)));
        assert!(at(10, 20).touches(&at(0, 10)));
        assert!(!at(0, 10).touches(&at(11, 20)));
        assert_eq!(at(-5, 3).cover(&at(1, 9)), at(-5, 9));
        assert_eq!(at(-5, 3).max_timestamp(), 2);
    }
}
