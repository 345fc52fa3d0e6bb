//! Joins two streams on a key and a distance in time.
//!
//! Each record is kept, in order of time, as long as a record that is not late can still be its partner, and
//! looks for its own partners among what is kept when it arrives: so every pair is found once, by the later
//! arrival. What is over is dropped when its key is touched; keys that nobody touches are visited in turn, a
//! few per record, so the state holds no more than one round of what is over, and nothing ever stalls.

use crate::chain::{Output, Records, Step, TwoInputOperator};
use crate::context::OperatorContext;
use crate::function::Collector;
use crate::keyed::KeySelector;
use crate::watermark::Ahead;
use crate::window::firing::{Late, timed};
use millstream_model::{Data, Error, EventTime, Key, MAX_TIME, MIN_TIME, Result};
use millstream_state::{DenseTable, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// Keys visited per record in search of what is over.
const VISITS_PER_RECORD: usize = 2;
/// Keys visited per watermark.
const VISITS_PER_WATERMARK: usize = 16;

/// Where the partners of a record of the first stream lie, and what becomes of late records.
#[derive(Clone, Copy, Debug)]
pub struct IntervalSpec {
    lower: EventTime,
    upper: EventTime,
    late: [Option<&'static str>; 2],
}

impl IntervalSpec {
    /// Partners are at least `lower` and at most `upper` milliseconds after (before, if negative) the
    /// record of the first stream.
    ///
    /// # Errors
    /// If the bounds are the wrong way round.
    pub fn between(lower: EventTime, upper: EventTime) -> Result<Self> {
        if lower > upper {
            return Err(Error::user(format!(
                "the lower bound of an interval join ({lower} ms) is above its upper bound ({upper} ms): \
                 swap them"
            )));
        }
        Ok(IntervalSpec { lower, upper, late: [None, None] })
    }

    /// Late records of the first stream go to the side output of this name.
    #[must_use]
    pub fn late_left_to(mut self, tag: &'static str) -> Self {
        self.late[0] = Some(tag);
        self
    }

    /// Late records of the second stream go to the side output of this name.
    #[must_use]
    pub fn late_right_to(mut self, tag: &'static str) -> Self {
        self.late[1] = Some(tag);
        self
    }
}

/// See the module's text.
pub struct IntervalJoin<K, L, R, F, O> {
    kept: Kept<K, L, R>,
    left: Arc<dyn KeySelector<L, K>>,
    right: Arc<dyn KeySelector<R, K>>,
    function: F,
    late: [Late; 2],
    ahead: Ahead,
    /// Partners of the last record that are still to be joined.
    matching: Option<Matching>,
    output: PhantomData<fn() -> O>,
}

/// What is kept, and how long.
struct Kept<K, L, R> {
    lower: EventTime,
    upper: EventTime,
    watermark: EventTime,
    keys: DenseTable<K, Sides<L, R>>,
    /// The key to be visited next.
    next_visit: usize,
}

/// The records of a key in order of time.
#[derive(Serialize, Deserialize)]
struct Sides<L, R> {
    left: VecDeque<(EventTime, L)>,
    right: VecDeque<(EventTime, R)>,
}

/// One record of a key and a run of its partners: as `(left, right)` if the record is of the first stream.
struct Matching {
    key: usize,
    of_left: bool,
    record: usize,
    partners: Range<usize>,
}

/// Inserts in order of time, behind what has the same; tells where.
fn insert<T>(records: &mut VecDeque<(EventTime, T)>, time: EventTime, value: T) -> usize {
    if records.back().is_none_or(|(last, _)| *last <= time) {
        records.push_back((time, value));
        return records.len() - 1;
    }
    let at = records.partition_point(|(t, _)| *t <= time);
    records.insert(at, (time, value));
    at
}

/// The records with times from `from` to `to`, both inclusive.
fn between<T>(records: &VecDeque<(EventTime, T)>, from: EventTime, to: EventTime) -> Range<usize> {
    let first = records.partition_point(|(t, _)| *t < from);
    first..records.partition_point(|(t, _)| *t <= to).max(first)
}

impl<K: Key, L, R> Kept<K, L, R> {
    /// Drops what no record can be a partner of that is not late.
    fn prune(sides: &mut Sides<L, R>, lower: EventTime, upper: EventTime, watermark: EventTime) {
        while sides.left.front().is_some_and(|(t, _)| t.saturating_add(upper) < watermark) {
            sides.left.pop_front();
        }
        while sides.right.front().is_some_and(|(t, _)| t.saturating_sub(lower) < watermark) {
            sides.right.pop_front();
        }
    }

    /// Visits some keys and drops what is over.
    fn visit(&mut self, n_keys: usize) {
        for _ in 0..n_keys.min(self.keys.len()) {
            if self.next_visit >= self.keys.len() {
                self.next_visit = 0;
            }
            let sides = self.keys.value_mut(self.next_visit);
            Self::prune(sides, self.lower, self.upper, self.watermark);
            if sides.left.is_empty() && sides.right.is_empty() {
                // The last key takes its place and is visited next.
                self.keys.remove_at(self.next_visit);
            } else {
                self.next_visit += 1;
            }
        }
    }

    /// The key of a record, opened if need be, with what is over dropped.
    fn open<T>(
        &mut self,
        selector: &dyn KeySelector<T, K>,
        value: &T,
        hash: u64,
    ) -> (usize, &mut Sides<L, R>) {
        let at = match self.keys.find(hash, |key| selector.is(value, key)) {
            Some(at) => at,
            None => {
                let sides = Sides { left: VecDeque::new(), right: VecDeque::new() };
                self.keys.append(hash, (selector.key(value), sides));
                self.keys.len() - 1
            }
        };
        let sides = self.keys.value_mut(at);
        Self::prune(sides, self.lower, self.upper, self.watermark);
        (at, sides)
    }
}

impl<K, L, R, O, F> IntervalJoin<K, L, R, F, O>
where
    K: Key,
    O: 'static,
    F: FnMut(&L, &R, &mut Collector<'_, O>) -> Result<()>,
{
    /// The operator that calls `function` for every pair; results carry the later of the two times.
    pub fn new(
        spec: &IntervalSpec,
        function: F,
        left: Arc<dyn KeySelector<L, K>>,
        right: Arc<dyn KeySelector<R, K>>,
        context: &OperatorContext,
    ) -> Self {
        let keys = DenseTable::default();
        let IntervalSpec { lower, upper, late } = *spec;
        IntervalJoin {
            kept: Kept { lower, upper, watermark: MIN_TIME, keys, next_visit: 0 },
            left,
            right,
            function,
            late: late.map(|tag| Late::new(tag, context)),
            ahead: Ahead::default(),
            matching: None,
            output: PhantomData,
        }
    }

    /// Joins the last record with its partners, as far as the output takes them.
    fn join(&mut self, out: &mut Output<O>) -> Result<Step> {
        let Some(Matching { key, of_left, record, partners }) = &mut self.matching else {
            return Ok(Step::Done);
        };
        if let Some(sides) = self.kept.keys.at(*key).map(|entry| &entry.value) {
            for partner in partners.clone() {
                if out.is_blocked() {
                    partners.start = partner;
                    return Ok(Step::Yield);
                }
                let (l, r) = if *of_left { (*record, partner) } else { (partner, *record) };
                let ((left_time, left), (right_time, right)) = (&sides.left[l], &sides.right[r]);
                out.set_time(*left_time.max(right_time));
                (self.function)(left, right, &mut Collector::new(out))?;
            }
        }
        self.matching = None;
        Ok(Step::Done)
    }
}

impl<K, L, R, O, F> TwoInputOperator<L, R, O> for IntervalJoin<K, L, R, F, O>
where
    K: Key,
    L: Data,
    R: Data,
    O: 'static,
    F: FnMut(&L, &R, &mut Collector<'_, O>) -> Result<()> + Send,
{
    fn left(&mut self, records: &mut Records<'_, L>, out: &mut Output<O>) -> Result<Step> {
        if self.join(out)? == Step::Yield {
            return Ok(Step::Yield);
        }
        self.kept.visit(VISITS_PER_RECORD * records.len());
        while let Some((value, time, hash)) = records.next_record() {
            timed(time)?;
            if time < self.ahead.of(hash, self.kept.watermark) {
                self.late[0].take(value, time, out);
                continue;
            }
            let (lower, upper) = (self.kept.lower, self.kept.upper);
            let (key, sides) = self.kept.open(&*self.left, &value, hash);
            let record = insert(&mut sides.left, time, value);
            let (from, to) = (time.saturating_add(lower), time.saturating_add(upper));
            let partners = between(&sides.right, from, to);
            self.matching = Some(Matching { key, of_left: true, record, partners });
            if self.join(out)? == Step::Yield {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn right(&mut self, records: &mut Records<'_, R>, out: &mut Output<O>) -> Result<Step> {
        if self.join(out)? == Step::Yield {
            return Ok(Step::Yield);
        }
        self.kept.visit(VISITS_PER_RECORD * records.len());
        while let Some((value, time, hash)) = records.next_record() {
            timed(time)?;
            if time < self.ahead.of(hash, self.kept.watermark) {
                self.late[1].take(value, time, out);
                continue;
            }
            let (lower, upper) = (self.kept.lower, self.kept.upper);
            let (key, sides) = self.kept.open(&*self.right, &value, hash);
            let record = insert(&mut sides.right, time, value);
            let (from, to) = (time.saturating_sub(upper), time.saturating_sub(lower));
            let partners = between(&sides.left, from, to);
            self.matching = Some(Matching { key, of_left: false, record, partners });
            if self.join(out)? == Step::Yield {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn advance(&mut self, watermark: EventTime, _: &mut Output<O>) -> Result<Step> {
        self.kept.watermark = self.kept.watermark.max(watermark);
        self.ahead.pass(watermark);
        let all = watermark == MAX_TIME;
        self.kept.visit(if all { self.kept.keys.len() } else { VISITS_PER_WATERMARK });
        Ok(Step::Done)
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("joined", &mut self.kept.keys)
    }

    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.kept.watermark = watermark;
        self.ahead = ahead.clone();
        Ok(())
    }
}
