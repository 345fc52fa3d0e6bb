//! Whose word holds.
//!
//! A lease alone excludes nobody: a leader that was paused wakes up and goes on. So every message and every write
//! that can change something durable carries the number of its leader, and whoever receives it refuses a smaller
//! one than it has seen.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a leader: grows with every one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct LeaderEpoch(pub u64);

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
