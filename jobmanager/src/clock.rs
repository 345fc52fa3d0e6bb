//! The one place of this package that looks at a clock: machines are given the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that only goes forward, and the time of day.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// Time since it was started, in ms.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The time of day, in ms since the epoch.
    pub fn wall_ms(&self) -> i64 {
        self.wall_us() / 1000
    }

    /// The time of day, in µs since the epoch.
    pub fn wall_us(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}
