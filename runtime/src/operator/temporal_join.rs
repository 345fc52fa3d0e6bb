//! Joins each record of a stream with the version of a table that was valid at its time (as-of join).
//!
//! A record of the first stream waits until the watermark reaches its time: then no version that would have
//! been valid can still come. Records leave in order of time. Of each key the table keeps the version that is
//! valid at the watermark and all later ones; keys are visited in turn, a few per row, to drop the others. Those that lie in a
//! store keep them until a row of theirs comes.

use super::waiting::Waiting;
use crate::chain::{Output, Records, Step, TwoInputOperator};
use crate::context::OperatorContext;
use crate::function::Collector;
use crate::keyed::KeySelector;
use crate::metrics::Counter;
use crate::watermark::Ahead;
use crate::window::firing::timed;
use millstream_model::{Data, EventTime, Key, MAX_TIME, MIN_TIME, Result};
use millstream_state::{KeyedTable, Left, Visitor};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

/// Keys visited per row of the table in search of versions that nobody will ask for.
const VISITS_PER_ROW: usize = 2;

/// See the module's text.
///
/// A record behind the watermark is not dropped: it is joined at once with what is still known, which lacks
/// versions that were replaced before the watermark. Such records are counted in `late_records_joined`.
pub struct TemporalJoin<K, L, R, F, O> {
    /// Records of the first stream whose time has not come.
    waiting: Waiting<L>,
    /// Per key, in order of time; at most one version per moment.
    versions: KeyedTable<K, VecDeque<(EventTime, R)>>,
    /// Where the visits of keys have come to.
    visited_to: usize,
    left: Arc<dyn KeySelector<L, K>>,
    right: Arc<dyn KeySelector<R, K>>,
    function: F,
    watermark: EventTime,
    ahead: Ahead,
    late: Counter,
    output: PhantomData<fn() -> O>,
}

/// Drops the versions that were replaced before the watermark.
fn prune<R>(versions: &mut VecDeque<(EventTime, R)>, watermark: EventTime) -> Left {
    let n_reached = versions.partition_point(|(t, _)| *t <= watermark);
    versions.drain(..n_reached.saturating_sub(1));
    Left::Something
}

impl<K, L, R, O, F> TemporalJoin<K, L, R, F, O>
where
    K: Key,
    L: Data,
    R: Data,
    O: 'static,
    F: FnMut(L, Option<&R>, &mut Collector<'_, O>) -> Result<()>,
{
    /// The operator that calls `function` with each record of the first stream and the version of its time.
    pub fn new(
        function: F,
        left: Arc<dyn KeySelector<L, K>>,
        right: Arc<dyn KeySelector<R, K>>,
        context: &OperatorContext,
    ) -> Self {
        TemporalJoin {
            waiting: Waiting::default(),
            versions: KeyedTable::default(),
            visited_to: 0,
            left,
            right,
            function,
            watermark: MIN_TIME,
            ahead: Ahead::default(),
            late: context.counter("late_records_joined"),
            output: PhantomData,
        }
    }

    fn join(&mut self, time: EventTime, hash: u64, left: L, out: &mut Output<O>) -> Result<()> {
        let selector = &*self.left;
        self.versions.fetch_with(hash, || selector.key(&left));
        let version = self.versions.get(hash, |key| selector.is(&left, key)).and_then(|versions| {
            let n = versions.partition_point(|(t, _)| *t <= time);
            versions.get(n.checked_sub(1)?)
        });
        out.set_time(time);
        (self.function)(left, version.map(|(_, row)| row), &mut Collector::new(out))
    }

    /// Visits some keys and drops the versions that were replaced before the watermark.
    fn visit(&mut self, n_keys: usize) {
        let watermark = self.watermark;
        self.visited_to = self.versions.sweep(
            self.visited_to,
            n_keys,
            |versions| versions.get(1).is_some_and(|(t, _)| *t <= watermark),
            |versions| prune(versions, watermark),
        );
    }
}

impl<K, L, R, O, F> TwoInputOperator<L, R, O> for TemporalJoin<K, L, R, F, O>
where
    K: Key,
    L: Data,
    R: Data,
    O: 'static,
    F: FnMut(L, Option<&R>, &mut Collector<'_, O>) -> Result<()> + Send,
{
    fn left(&mut self, records: &mut Records<'_, L>, out: &mut Output<O>) -> Result<Step> {
        while let Some((value, time, hash)) = records.next_record() {
            timed(time)?;
            let watermark = self.ahead.of(hash, self.watermark);
            if time > watermark {
                self.waiting.insert(time, hash, value);
                continue;
            }
            if time < watermark {
                self.late.inc();
            }
            self.join(time, hash, value, out)?;
            if out.is_blocked() && !records.is_empty() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn right(&mut self, records: &mut Records<'_, R>, _: &mut Output<O>) -> Result<Step> {
        self.visit(VISITS_PER_ROW * records.len());
        while let Some((value, time, hash)) = records.next_record() {
            timed(time)?;
            let selector = &*self.right;
            let make = || (selector.key(&value), VecDeque::new());
            let (_, versions) = self.versions.entry(hash, |k| selector.is(&value, k), make);
            prune(versions, self.watermark);
            let at = versions.partition_point(|(t, _)| *t < time);
            match versions.get_mut(at) {
                Some((t, row)) if *t == time => *row = value,
                _ => versions.insert(at, (time, value)),
            }
        }
        Ok(Step::Done)
    }

    fn advance(&mut self, watermark: EventTime, out: &mut Output<O>) -> Result<Step> {
        while self.waiting.next_time().is_some_and(|time| time <= watermark) {
            if out.is_blocked() {
                return Ok(Step::Yield);
            }
            if let Some((time, hash, left)) = self.waiting.pop() {
                self.join(time, hash, left, out)?;
            }
        }
        self.watermark = self.watermark.max(watermark);
        self.ahead.pass(watermark);
        Ok(Step::Done)
    }

    fn end(&mut self, out: &mut Output<O>) -> Result<Step> {
        self.advance(MAX_TIME, out)
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("waiting", &mut self.waiting)?;
        visitor.part("versions", &mut self.versions)
    }

    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.watermark = watermark;
        self.ahead = ahead.clone();
        Ok(())
    }
}
