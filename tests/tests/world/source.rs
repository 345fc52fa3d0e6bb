//! A source that gives the same records whenever it is read, split by split, and sometimes nothing for a while. Its splits are
//! known at the start, or found one after the other.

use super::prng::Prng;
use millstream::model::Batch;
use millstream::prelude::*;
use millstream::runtime::source::{
    Assignments, Enumeration, EnumeratorContext, ReadStatus, Source, SplitContext, SplitEnumerator,
    SplitReader,
};
use millstream::runtime::task::Restore;
use millstream::runtime::watermark::Marker;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) key: u64,
    pub(super) time: EventTime,
    pub(super) value: u64,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Events {
    pub(super) splits: Arc<Vec<Vec<Event>>>,
    /// Whether its splits are found while the job runs.
    pub(super) is_enumerated: bool,
    /// Whether it has no end to speak of, and is idle when it has nothing.
    pub(super) is_idle: bool,
}

/// How far behind the latest record of its split one may be, in ms: the bound of the watermarks.
pub(super) const BOUND_MS: EventTime = 20;

impl Events {
    /// Draws so many splits of at most so many records. Those that are `late` are behind the watermark of their split.
    pub(super) fn draw(prng: &mut Prng, n_splits: usize, n_most: usize, has_late: bool) -> Self {
        let split = |_| {
            let n_events = prng.below(n_most + 1);
            let mut time = 0;
            let event = |_| {
                // Even, so that no two sessions of an odd gap can touch without overlapping.
                time += 2 * prng.below(8) as EventTime;
                let behind = match prng.below(10) {
                    0 if has_late => BOUND_MS + 2 + 2 * prng.below(30) as EventTime,
                    1..4 => 2 * prng.below(BOUND_MS as usize / 2 + 1) as EventTime,
                    _ => 0,
                };
                let (key, value) = (prng.below(9) as u64, prng.below(1000) as u64);
                Event { key, time: (time - behind).max(0), value }
            };
            (0..n_events).map(event).collect()
        };
        let splits = Arc::new((0..n_splits).map(split).collect());
        Events { splits, is_enumerated: false, is_idle: false }
    }
}

/// What a source saves of a split: the split, and how far its watermarks have come.
type Saved = ((u32, u32), Option<Marker>);

impl Events {
    /// What of them comes before a savepoint, in which the source is called `uid`.
    pub(super) fn before(&self, savepoint: &Restore, uid: &str) -> Result<Self> {
        let id_of = |uid: &str| {
            let mut operators = savepoint.manifest.vertices.iter().flat_map(|v| &v.operators);
            let known = operators.find(|(.., own)| own.as_deref() == Some(uid)).map(|(id, ..)| *id);
            known.ok_or_else(|| Error::internal(format!("the savepoint knows no `{uid}`")))
        };
        let id = id_of(uid)?;
        let mut splits = (*self.splits).clone();
        // Splits that have ended are left out.
        for ((split, at), _) in savepoint.entries_of::<Saved>(id, "splits")? {
            splits[split as usize].truncate(at as usize);
        }
        if self.is_enumerated {
            // So are those that nobody had been given.
            let next = savepoint.entries_of::<u32>(id_of(&format!("{uid}: splits"))?, "next")?;
            let n_assigned = next.first().map_or(0, |next| *next as usize);
            splits.iter_mut().skip(n_assigned).for_each(Vec::clear);
        }
        Ok(Events { splits: Arc::new(splits), ..*self })
    }
}

impl Source for Events {
    type Out = Event;
    /// Index of the split, and how many of its records have been read.
    type Split = (u32, u32);

    fn is_bounded(&self) -> bool {
        !self.is_idle
    }

    fn discover(&self, _: usize) -> Result<Vec<(u32, u32)>> {
        Ok((0..self.splits.len() as u32).map(|split| (split, 0)).collect())
    }

    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator<(u32, u32)>>> {
        let n_splits = self.splits.len() as u32;
        self.is_enumerated.then(|| Box::new(Finder { n_splits, due_us: 0 }) as _)
    }

    fn open(
        &self,
        (split, at): (u32, u32),
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<Event, (u32, u32)>>> {
        let (events, context) = (self.clone(), context.operator.clone());
        Ok(Box::new(Reader { events, split, at, has_rested: false, context }))
    }
}

/// The number of the next split.
const NEXT: OperatorListState<u32> = OperatorListState::split("next");

/// Finds a split now and then.
struct Finder {
    n_splits: u32,
    due_us: EventTime,
}

impl SplitEnumerator<(u32, u32)> for Finder {
    fn states(&self) -> OperatorStateSet {
        operator_states![NEXT]
    }

    fn poll(
        &mut self,
        context: &EnumeratorContext<'_>,
        out: &mut Assignments<(u32, u32)>,
    ) -> Result<Enumeration> {
        if context.now_us() < self.due_us {
            return Ok(Enumeration::Wait { until_us: self.due_us });
        }
        let mut state = context.state(&NEXT);
        let next = state.pop().unwrap_or(0);
        if next == self.n_splits {
            state.push(next);
            return Ok(Enumeration::End);
        }
        out.assign((next, 0));
        state.push(next + 1);
        self.due_us = context.now_us() + EventTime::from(500 + next * 1777);
        Ok(Enumeration::Wait { until_us: self.due_us })
    }
}

struct Reader {
    events: Events,
    split: u32,
    at: u32,
    has_rested: bool,
    context: OperatorContext,
}

impl SplitReader<Event, (u32, u32)> for Reader {
    fn read(&mut self, out: &mut Batch<Event>) -> Result<ReadStatus> {
        let events = &self.events.splits[self.split as usize];
        // At every seventh record or so it has nothing for a while.
        if self.at % 7 == self.split % 7 && !std::mem::replace(&mut self.has_rested, true) {
            let until_us =
                self.context.now_ms() * 1000 + EventTime::from(500 + self.at * 97 % 3000);
            return Ok(if self.events.is_idle {
                ReadStatus::CaughtUp { until_us }
            } else {
                ReadStatus::Paused { until_us }
            });
        }
        self.has_rested = false;
        // Batches of one to four.
        let end = (self.at as usize + 1 + self.at as usize % 4).min(events.len());
        out.values.extend_from_slice(&events[self.at as usize..end]);
        self.at = end as u32;
        Ok(if end == events.len() { ReadStatus::End } else { ReadStatus::More })
    }

    fn split(&self) -> (u32, u32) {
        (self.split, self.at)
    }
}
