//! Joins two streams on a key and a distance in time.
//!
//! Each record is kept, in order of time, as long as a record that is not late can still be its partner, and
//! looks for its own partners among what is kept when it arrives: so every pair is found once, by the later
//! arrival. What is over is dropped when its key is touched; keys that nobody touches are visited in turn, a
//! few per record, so the state holds no more than one round of what is over, and nothing ever stalls. What lies in a
//! store is not visited: it goes when the store compacts its files.

use crate::chain::{Output, Records, Step, TwoInputOperator};
use crate::context::OperatorContext;
use crate::function::Collector;
use crate::keyed::KeySelector;
use crate::watermark::Ahead;
use crate::window::firing::{Late, timed};
use millstream_model::{Data, Error, EventTime, Key, MAX_TIME, MIN_TIME, Result};
use millstream_state::part::{Expiring, IsExpired};
use millstream_state::{KeyedTable, Left, Visitor, codec};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

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
    matching: Option<Matching<K>>,
    output: PhantomData<fn() -> O>,
}

/// What is kept, and how long.
struct Kept<K, L, R> {
    lower: EventTime,
    upper: EventTime,
    watermark: EventTime,
    keys: KeyedTable<K, Sides<L, R>>,
    /// Where the visits of keys have come to.
    visited_to: usize,
    /// The watermark at the last barrier, for those who compact the files of a store: what is over by then, no checkpoint
    /// that is still to be written has need of. Where there are none, the watermark.
    frozen_watermark: Arc<AtomicI64>,
    takes_checkpoints: bool,
}

/// The records of a key in order of time.
#[derive(Serialize, Deserialize)]
struct Sides<L, R> {
    left: VecDeque<(EventTime, L)>,
    right: VecDeque<(EventTime, R)>,
}

/// One record of a key and a run of its partners that are still to be joined: as `(left, right)` if the record is of the
/// first stream.
struct Matching<K> {
    hash: u64,
    key: K,
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

impl<L, R> Sides<L, R> {
    /// Whether something is kept that no record can be a partner of that is not late.
    fn has_passed(&self, lower: EventTime, upper: EventTime, watermark: EventTime) -> bool {
        let left = self.left.front().is_some_and(|(t, _)| t.saturating_add(upper) < watermark);
        left || self.right.front().is_some_and(|(t, _)| t.saturating_sub(lower) < watermark)
    }

    /// Drops that; what is left.
    fn prune(&mut self, lower: EventTime, upper: EventTime, watermark: EventTime) -> Left {
        while self.left.front().is_some_and(|(t, _)| t.saturating_add(upper) < watermark) {
            self.left.pop_front();
        }
        while self.right.front().is_some_and(|(t, _)| t.saturating_sub(lower) < watermark) {
            self.right.pop_front();
        }
        if self.left.is_empty() && self.right.is_empty() { Left::Nothing } else { Left::Something }
    }
}

impl<K: Key, L: Data, R: Data> Kept<K, L, R> {
    fn new(lower: EventTime, upper: EventTime, takes_checkpoints: bool) -> Self {
        Kept {
            lower,
            upper,
            watermark: MIN_TIME,
            keys: KeyedTable::default(),
            visited_to: 0,
            frozen_watermark: Arc::new(AtomicI64::new(MIN_TIME)),
            takes_checkpoints,
        }
    }

    /// Moves the clock.
    fn pass(&mut self, watermark: EventTime) {
        self.watermark = self.watermark.max(watermark);
        if !self.takes_checkpoints {
            self.frozen_watermark.store(self.watermark, Ordering::Relaxed);
        }
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        let is_expired = self.expiry();
        let Kept { keys, watermark, frozen_watermark, .. } = self;
        let frozen = || frozen_watermark.store(*watermark, Ordering::Relaxed);
        visitor.part("joined", &mut Expiring { part: keys, is_expired, frozen: &frozen })
    }

    /// Visits some keys and drops what is over.
    fn visit(&mut self, n_keys: usize) {
        let (lower, upper, watermark) = (self.lower, self.upper, self.watermark);
        self.visited_to = self.keys.sweep(
            self.visited_to,
            n_keys,
            |sides| sides.has_passed(lower, upper, watermark),
            |sides| sides.prune(lower, upper, watermark),
        );
    }

    /// The entry of a record's key, opened if need be, with what is over dropped.
    fn open<T>(
        &mut self,
        selector: &dyn KeySelector<T, K>,
        value: &T,
        hash: u64,
    ) -> &mut (K, Sides<L, R>) {
        let make =
            || (selector.key(value), Sides { left: VecDeque::new(), right: VecDeque::new() });
        let entry = self.keys.entry(hash, |key| selector.is(value, key), make);
        entry.1.prune(self.lower, self.upper, self.watermark);
        entry
    }

    /// Tells of the bytes of an entry whether all of it is over.
    fn expiry(&self) -> IsExpired {
        let (lower, upper) = (self.lower, self.upper);
        let watermark = Arc::clone(&self.frozen_watermark);
        Arc::new(move |bytes| {
            let watermark = watermark.load(Ordering::Relaxed);
            codec::decode_all::<Sides<L, R>>(bytes)
                .is_ok_and(|mut sides| sides.prune(lower, upper, watermark) == Left::Nothing)
        })
    }
}

impl<K, L, R, O, F> IntervalJoin<K, L, R, F, O>
where
    K: Key,
    L: Data,
    R: Data,
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
        let IntervalSpec { lower, upper, late } = *spec;
        let takes_checkpoints = context.task().job().checkpoints.is_some();
        let kept = Kept::new(lower, upper, takes_checkpoints);
        IntervalJoin {
            kept,
            left,
            right,
            function,
            late: late.map(|tag| Late::new(tag, context)),
            ahead: Ahead::default(),
            matching: None,
            output: PhantomData,
        }
    }

    /// Joins what is left of the last record's partners, as far as the output takes them.
    fn go_on(&mut self, out: &mut Output<O>) -> Result<Step> {
        let Some(matching) = &mut self.matching else { return Ok(Step::Done) };
        let Matching { hash, key, of_left, record, partners } = matching;
        self.kept.keys.fetch(*hash, key);
        if let Some(sides) = self.kept.keys.get(*hash, |k| k == key)
            && join(sides, (*of_left, *record), partners, &mut self.function, out)? == Step::Yield
        {
            return Ok(Step::Yield);
        }
        self.matching = None;
        Ok(Step::Done)
    }
}

/// Joins a record with a run of its partners, as far as the output takes the results; what is left of the run.
fn join<L, R, O: 'static>(
    sides: &Sides<L, R>,
    (of_left, record): (bool, usize),
    partners: &mut Range<usize>,
    function: &mut impl FnMut(&L, &R, &mut Collector<'_, O>) -> Result<()>,
    out: &mut Output<O>,
) -> Result<Step> {
    while partners.start < partners.end {
        if out.is_blocked() {
            return Ok(Step::Yield);
        }
        let (l, r) = if of_left { (record, partners.start) } else { (partners.start, record) };
        let ((left_time, left), (right_time, right)) = (&sides.left[l], &sides.right[r]);
        out.set_time(*left_time.max(right_time));
        function(left, right, &mut Collector::new(out))?;
        partners.start += 1;
    }
    Ok(Step::Done)
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
        if self.go_on(out)? == Step::Yield {
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
            let mut partners = between(&sides.right, from, to);
            let of_left = true;
            let step = join(sides, (of_left, record), &mut partners, &mut self.function, out)?;
            if step == Step::Yield {
                let key = key.clone();
                self.matching = Some(Matching { hash, key, of_left, record, partners });
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn right(&mut self, records: &mut Records<'_, R>, out: &mut Output<O>) -> Result<Step> {
        if self.go_on(out)? == Step::Yield {
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
            let mut partners = between(&sides.left, from, to);
            let of_left = false;
            let step = join(sides, (of_left, record), &mut partners, &mut self.function, out)?;
            if step == Step::Yield {
                let key = key.clone();
                self.matching = Some(Matching { hash, key, of_left, record, partners });
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn advance(&mut self, watermark: EventTime, _: &mut Output<O>) -> Result<Step> {
        self.kept.pass(watermark);
        self.ahead.pass(watermark);
        let all = watermark == MAX_TIME;
        self.kept.visit(if all { usize::MAX } else { VISITS_PER_WATERMARK });
        Ok(Step::Done)
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.kept.parts(visitor)
    }

    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.kept.watermark = watermark;
        self.ahead = ahead.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_model::SnapshotKind;
    use millstream_state::Part;

    struct Freeze;

    impl Visitor for Freeze {
        fn part(&mut self, _: &str, part: &mut dyn Part) -> Result<()> {
            part.freeze(SnapshotKind::Checkpoint);
            Ok(())
        }
    }

    /// A store may compact its files between a barrier and the moment at which they are taken.
    #[test]
    fn what_a_barrier_found_is_not_over_before_the_next() {
        let sides = Sides::<u64, u64> { left: [(100, 1)].into(), right: VecDeque::new() };
        let mut bytes = Vec::new();
        codec::encode(&sides, &mut bytes).unwrap();
        let mut kept = Kept::<u64, u64, u64>::new(0, 50, true);
        let is_over = kept.expiry();
        kept.pass(140);
        kept.parts(&mut Freeze).unwrap();
        kept.pass(200);
        assert!(!is_over(&bytes), "a record of 145 that comes after the barrier joins it");
        kept.parts(&mut Freeze).unwrap();
        assert!(is_over(&bytes));

        let mut kept = Kept::<u64, u64, u64>::new(0, 50, false);
        let is_over = kept.expiry();
        kept.pass(150);
        assert!(!is_over(&bytes));
        kept.pass(151);
        assert!(is_over(&bytes), "nobody goes back to where it was not");
    }
}
