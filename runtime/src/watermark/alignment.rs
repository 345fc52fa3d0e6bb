//! Alignment: how far the splits of a group are, so that a fast one can wait for the slowest.
//!
//! A split is a member as long as it is read: who is gone holds nobody back.

use millstream_model::{EventTime, MAX_TIME, MIN_TIME};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The alignment groups of a job in this process.
#[derive(Debug, Default)]
pub struct Alignment {
    groups: Mutex<HashMap<String, Arc<Group>>>,
}

/// The splits of one group and their watermarks.
#[derive(Debug, Default)]
pub struct Group {
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    watermarks: BTreeMap<usize, EventTime>,
    n_joined: usize,
}

/// A split's place in a group.
#[derive(Debug)]
pub struct Member {
    group: Arc<Group>,
    number: usize,
}

impl Alignment {
    /// The group called `name`.
    pub fn group(&self, name: &str) -> Arc<Group> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(groups.entry(name.to_string()).or_default())
    }
}

impl Group {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a split; it holds the others back until it reports.
    pub fn join(self: &Arc<Self>) -> Member {
        let mut members = self.members();
        let number = members.n_joined;
        members.n_joined += 1;
        members.watermarks.insert(number, MIN_TIME);
        Member { group: Arc::clone(self), number }
    }
}

impl Member {
    /// Reports the split's watermark ([`MAX_TIME`] for one that is idle or has ended) and gives the slowest.
    pub fn report(&self, watermark: EventTime) -> EventTime {
        let mut members = self.group.members();
        members.watermarks.insert(self.number, watermark);
        members.watermarks.values().copied().min().unwrap_or(MAX_TIME)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.members().watermarks.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_those_who_are_there_is_told() {
        let alignment = Alignment::default();
        let (a, b) = (alignment.group("g").join(), alignment.group("g").join());
        assert_eq!(a.report(5), MIN_TIME, "the other has not reported");
        assert_eq!(b.report(3), 3);
        assert_eq!(a.report(7), 3);
        drop(b);
        assert_eq!(a.report(8), 8);
        assert_eq!(alignment.group("another").join().report(9), 9);
    }
}
