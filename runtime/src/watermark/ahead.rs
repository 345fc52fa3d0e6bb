//! Key groups in which event time has come further than in their subtask.
//!
//! An unaligned barrier finds every subtask of an operator at another time. When what they wrote is dealt out anew, the
//! event time of a subtask is the earliest of theirs, because records may be under way that were not late there. But what a
//! faster one had fired must not fire again, and what would have been late there must not be taken: so every key group goes
//! on with the time that it stood at, until its subtask has come as far.
//!
//! This holds for the state and for what comes to it later. It does not reach into what the barrier overtook: such records
//! are judged by the time of the key group and by what the watermarks of *all* old channels have come to, so one that a
//! watermark close before it would have made late may still be taken. None is late that would not have been.

use millstream_model::key_group::key_group;
use millstream_model::{EventTime, MIN_TIME};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// See the module's text. Empty but for a while after a restore.
#[derive(Clone, Debug, Default)]
pub struct Ahead {
    max_parallelism: u32,
    stands: Vec<Stand>,
}

/// Where a range of key groups stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stand {
    first: u32,
    end: u32,
    time: EventTime,
}

impl Stand {
    /// That these key groups stand at `time`.
    pub(crate) fn new(groups: &Range<u32>, time: EventTime) -> Self {
        Stand { first: groups.start, end: groups.end, time }
    }

    /// What of it lies in a range.
    fn within(self, groups: &Range<u32>) -> Option<Self> {
        let (first, end) = (self.first.max(groups.start), self.end.min(groups.end));
        (first < end).then_some(Stand { first, end, ..self })
    }
}

impl Ahead {
    /// Of what stands where, that which lies in these of so many key groups and beyond `watermark`.
    pub(crate) fn of_range(
        stands: impl IntoIterator<Item = Stand>,
        (groups, max_parallelism): (&Range<u32>, u32),
        watermark: EventTime,
    ) -> Self {
        let stands = stands.into_iter().filter_map(|stand| stand.within(groups));
        let stands = stands.filter(|stand| stand.time > watermark).collect();
        Ahead { max_parallelism, stands }
    }

    pub(crate) fn stands(&self) -> &[Stand] {
        &self.stands
    }

    /// Whether every key group stands where its subtask does.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.stands.is_empty()
    }

    /// Where event time stands for a key with this hash in a subtask that stands at `watermark`.
    #[inline]
    pub fn of(&self, hash: u64, watermark: EventTime) -> EventTime {
        if self.stands.is_empty() { watermark } else { watermark.max(self.stand_of(hash)) }
    }

    /// Whether what was due at `time` has fired for a key with this hash, though its subtask has not come that far.
    #[inline]
    pub fn has_passed(&self, hash: u64, time: EventTime) -> bool {
        !self.stands.is_empty() && self.stand_of(hash) >= time
    }

    #[cold]
    fn stand_of(&self, hash: u64) -> EventTime {
        let group = key_group(hash, self.max_parallelism);
        let is_of = |stand: &&Stand| (stand.first..stand.end).contains(&group);
        self.stands.iter().filter(is_of).map(|stand| stand.time).max().unwrap_or(MIN_TIME)
    }

    /// The subtask has come to `watermark`, and what was due by then has been dealt with.
    #[inline]
    pub fn pass(&mut self, watermark: EventTime) {
        if !self.stands.is_empty() {
            self.stands.retain(|stand| stand.time > watermark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash of this group of four.
    fn of_group(group: u64) -> u64 {
        group << 62
    }

    #[test]
    fn groups_stand_where_they_stood_until_their_subtask_comes_by() {
        let stands = [(0..1, 5), (1..3, 9), (3..4, 7)];
        let stands = stands.map(|(groups, time)| Stand::new(&groups, time));
        let mut ahead = Ahead::of_range(stands, (&(0..3), 4), 5);
        let times = |ahead: &Ahead| [0, 1, 2, 3].map(|group| ahead.of(of_group(group), 5));
        assert_eq!(times(&ahead), [5, 9, 9, 5], "the last group belongs to another subtask");
        assert!(ahead.has_passed(of_group(1), 9) && !ahead.has_passed(of_group(1), 10));
        assert!(!ahead.has_passed(of_group(0), 1), "what its subtask has passed is no matter");
        ahead.pass(8);
        assert_eq!(times(&ahead), [5, 9, 9, 5]);
        ahead.pass(9);
        assert!(ahead.is_empty());
    }
}
