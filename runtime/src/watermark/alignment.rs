//! Alignment: how far the splits of a group are, so that a fast one can wait for the slowest.

use millstream_model::{EventTime, MAX_TIME, MIN_TIME};
use std::collections::HashMap;
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
    watermarks: Vec<EventTime>,
    /// Places of those that have left.
    free: Vec<usize>,
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
    pub fn join(&self) -> usize {
        let mut members = self.members();
        if let Some(member) = members.free.pop() {
            members.watermarks[member] = MIN_TIME;
            return member;
        }
        members.watermarks.push(MIN_TIME);
        members.watermarks.len() - 1
    }

    /// Reports a split's watermark ([`MAX_TIME`] for one that is idle or has ended) and gives the slowest.
    pub fn report(&self, member: usize, watermark: EventTime) -> EventTime {
        let mut members = self.members();
        if let Some(m) = members.watermarks.get_mut(member) {
            *m = watermark;
        }
        members.watermarks.iter().copied().min().unwrap_or(MAX_TIME)
    }

    /// Forgets a split, which must not report any more: another may take its place.
    pub fn leave(&self, member: usize) {
        let mut members = self.members();
        if let Some(m) = members.watermarks.get_mut(member) {
            *m = MAX_TIME;
            members.free.push(member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_that_has_left_holds_nobody_back_and_makes_room_for_another() {
        let group = Group::default();
        let (slow, fast) = (group.join(), group.join());
        group.report(fast, 100);
        assert_eq!(group.report(slow, 10), 10);
        group.leave(slow);
        assert_eq!(group.report(fast, 100), 100);
        // A group through which many splits go does not grow, and a new one starts at the beginning.
        assert_eq!(group.join(), slow);
        assert_eq!(group.report(fast, 100), MIN_TIME);
    }
}
