//! Which of the free slots a job is given.

use millstream_model::Error;
use millstream_proto::message::TaskManagerId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// See the module's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// On the task managers that have least to do: work is even, and one that dies takes little along.
    #[default]
    Spread,
    /// On as few task managers as possible: records cross no network, and idle machines can be let go.
    Packed,
}

/// A task manager a slot could be taken from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) id: TaskManagerId,
    pub(super) n_slots: usize,
    pub(super) n_free: usize,
}

impl Placement {
    /// So many slots, first those of `before` that are free; fewer, if there are not as many.
    pub(super) fn allot(
        self,
        n_slots: usize,
        before: &[TaskManagerId],
        candidates: &mut [Candidate],
    ) -> Vec<TaskManagerId> {
        let mut slots = Vec::with_capacity(n_slots);
        for id in before.iter().take(n_slots) {
            if let Some(c) = candidates.iter_mut().find(|c| c.id == *id && c.n_free > 0) {
                c.n_free -= 1;
                slots.push(c.id);
            }
        }
        while slots.len() < n_slots
            && let Some(index) = self.choose(candidates)
        {
            candidates[index].n_free -= 1;
            slots.push(candidates[index].id);
        }
        slots
    }

    /// The index of the candidate for the next slot; earlier ones first, where it makes no difference.
    fn choose(self, candidates: &[Candidate]) -> Option<usize> {
        let free = candidates.iter().enumerate().filter(|(_, c)| c.n_free > 0);
        // How full: used of all, compared without dividing.
        let fuller = |a: &Candidate, b: &Candidate| {
            let used = |c: &Candidate| c.n_slots - c.n_free;
            (used(a) as u128 * b.n_slots as u128).cmp(&(used(b) as u128 * a.n_slots as u128))
        };
        match self {
            Placement::Spread => free.min_by(|(_, a), (_, b)| fuller(a, b)),
            // Of equal ones the first: `max_by` would take the last.
            Placement::Packed => free.min_by(|(_, a), (_, b)| fuller(b, a)),
        }
        .map(|(index, _)| index)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Placement::Spread => "spread",
            Placement::Packed => "packed",
        })
    }
}

impl FromStr for Placement {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "spread" => Ok(Placement::Spread),
            "packed" => Ok(Placement::Packed),
            _ => Err(Error::user(format!("`{text}` is no placement: use `spread` or `packed`"))),
        }
    }
}
