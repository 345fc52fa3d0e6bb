//! Alignment: how far the splits of a group are, so that a fast one can wait for the slowest.

use millstream_model::{EventTime, MAX_TIME, MIN_TIME};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The alignment groups of a job in this process.
#[derive(Debug, Default)]
pub struct Alignment {
    groups: Mutex<HashMap<String, Arc<Group>>>,
}

/// The splits of one group and their watermarks.
#[derive(Debug, Default)]
pub struct Group {
    members: Mutex<Vec<EventTime>>,
}

impl Alignment {
    /// The group called `name`.
    pub fn group(&self, name: &str) -> Arc<Group> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(groups.entry(name.to_string()).or_default())
    }
}

impl Group {
    /// Adds a split; it holds the others back until it reports.
    pub fn join(&self) -> usize {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.push(MIN_TIME);
        members.len() - 1
    }

    /// Reports a split's watermark ([`MAX_TIME`] for one that is idle or has ended) and gives the slowest.
    pub fn report(&self, member: usize, watermark: EventTime) -> EventTime {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(m) = members.get_mut(member) {
            *m = watermark;
        }
        members.iter().copied().min().unwrap_or(MAX_TIME)
    }
}
