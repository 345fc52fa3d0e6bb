//! Event time as a plain number.
//!
//! A newtype around milliseconds would have to be unwrapped in every user closure, and every data set
//! carries plain integers already; so event time is an `i64`, and the few values with a meaning have names.

use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z. May be negative.
pub type EventTime = i64;

/// The time of a record that has none. Never a valid event time: sources refuse it.
pub const NO_TIME: EventTime = i64::MIN;
/// The watermark before anything is known: below every record.
pub const MIN_TIME: EventTime = i64::MIN;
/// The watermark at the end of a bounded stream: above every record.
pub const MAX_TIME: EventTime = i64::MAX;

/// `n` milliseconds.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `n` seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` minutes.
pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// `n` hours.
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(3600 * n)
}

/// `n` days.
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(86_400 * n)
}

/// A duration in event-time milliseconds, saturating at the end of time.
pub fn as_millis(d: Duration) -> EventTime {
    EventTime::try_from(d.as_millis()).unwrap_or(MAX_TIME)
}
