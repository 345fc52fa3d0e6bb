//! Slows any source down: for demonstrations, and to see a job live.
//!
//! The wrapper reads ahead one batch of its source and hands it out as the rate allows; all subtasks draw
//! from one allowance. After a quiet time at most a second's worth is made up for, so that a source that
//! had nothing for an hour does not come back with an hour's burst.

use crate::generator::pace::{Pace, Pacer};
use millstream_model::{Batch, Data, EventTime, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::source::{
    Assignments, Enumeration, EnumeratorContext, OperatorStateSet, ReadStatus, Source,
    SplitContext, SplitEnumerator, SplitReader,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source at a limited rate.
///
/// ```
/// # use millstream_connectors::{FileSource, Paced};
/// let lines = Paced::new(FileSource::lines("access.log"), 1_000);
/// ```
pub struct Paced<S> {
    source: S,
    pace: Pace,
    taken: Arc<AtomicU64>,
}

impl<S: Source> Paced<S> {
    /// `source` with at most `per_second` records a second over all subtasks, in ticks of a millisecond.
    pub fn new(source: S, per_second: u64) -> Self {
        Paced { source, pace: Pace::new(per_second), taken: Arc::default() }
    }
}

impl<S: Source> Source for Paced<S> {
    type Out = S::Out;
    type Split = PacedSplit<S::Split>;

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    fn can_go_back(&self) -> bool {
        self.source.can_go_back()
    }

    fn discover(&self, parallelism: usize) -> Result<Vec<PacedSplit<S::Split>>> {
        self.pace.reset()?;
        self.taken.store(0, Ordering::Relaxed);
        let splits = self.source.discover(parallelism)?;
        Ok(splits.into_iter().map(PacedSplit::whole).collect())
    }

    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator<PacedSplit<S::Split>>>> {
        let enumerator = self.source.enumerator()?;
        Some(Box::new(PacedEnumerator { enumerator, assigned: None }))
    }

    fn open(
        &self,
        split: PacedSplit<S::Split>,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<S::Out, PacedSplit<S::Split>>>> {
        self.pace.check()?;
        Ok(Box::new(PacedReader {
            reader: self.source.open(split.split.clone(), context)?,
            n_to_pass: split.n_passed,
            ahead_of: split,
            values: Vec::new().into_iter(),
            times: Vec::new().into_iter(),
            status: ReadStatus::More,
            // What was taken is counted over all attempts, from one start.
            pacer: self.pace.from(0, 0),
            taken: Arc::clone(&self.taken),
            operator: context.operator.clone(),
        }))
    }

    fn reads_in_turn(&self) -> bool {
        self.source.reads_in_turn()
    }

    fn size_hint(&self) -> Option<u64> {
        self.source.size_hint()
    }

    fn max_parallelism(&self) -> Option<usize> {
        self.source.max_parallelism()
    }
}

/// A split of the source, and how many records of it, read from there, were handed out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PacedSplit<S> {
    /// Where the batch that was read ahead begins.
    pub split: S,
    /// Records of that batch, and those before the split's end, that were handed out.
    pub n_passed: u64,
}

impl<S> PacedSplit<S> {
    fn whole(split: S) -> Self {
        PacedSplit { split, n_passed: 0 }
    }
}

/// Assigns what the source's own enumerator does.
struct PacedEnumerator<S> {
    enumerator: Box<dyn SplitEnumerator<S>>,
    /// Knows whose turn it is.
    assigned: Option<Assignments<S>>,
}

impl<S: Send> SplitEnumerator<PacedSplit<S>> for PacedEnumerator<S> {
    fn states(&self) -> OperatorStateSet {
        self.enumerator.states()
    }

    fn open(&mut self, context: &EnumeratorContext<'_>) -> Result<()> {
        self.enumerator.open(context)
    }

    fn poll(
        &mut self,
        context: &EnumeratorContext<'_>,
        out: &mut Assignments<PacedSplit<S>>,
    ) -> Result<Enumeration> {
        let assigned = self.assigned.get_or_insert_with(|| Assignments::new(out.n_readers()));
        let found = self.enumerator.poll(context, assigned)?;
        for assignment in assigned.take() {
            out.assign_to(assignment.reader as usize, PacedSplit::whole(assignment.split));
        }
        Ok(found)
    }
}

struct PacedReader<T, S> {
    reader: Box<dyn SplitReader<T, S>>,
    /// Where what was read ahead comes from.
    ahead_of: PacedSplit<S>,
    /// Records that an earlier attempt handed out.
    n_to_pass: u64,
    /// Read ahead.
    values: std::vec::IntoIter<T>,
    times: std::vec::IntoIter<EventTime>,
    /// What the reader said when it was last asked.
    status: ReadStatus,
    pacer: Pacer,
    taken: Arc<AtomicU64>,
    operator: OperatorContext,
}

impl<T, S> PacedReader<T, S> {
    /// Takes an allowance for up to `n` records: how many, or when there will be one.
    fn allow(&mut self, n: u64) -> std::result::Result<u64, EventTime> {
        let clock = &*self.operator.task().job().clock;
        let schedule = self.pacer.schedule(clock);
        let n_due = schedule.n_due(clock.now_us());
        let forfeited = n_due.saturating_sub(schedule.per_second());
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let from = taken.max(forfeited);
            let to = from.saturating_add(n).min(n_due);
            if from >= to {
                return Err(schedule.due_us(from));
            }
            match self.taken.compare_exchange(taken, to, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(to - from),
                Err(now) => taken = now,
            }
        }
    }
}

impl<T: Send, S: Data + Clone> SplitReader<T, PacedSplit<S>> for PacedReader<T, S> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<ReadStatus> {
        if self.values.len() == 0 {
            if self.status == ReadStatus::End {
                return Ok(ReadStatus::End);
            }
            if self.n_to_pass == 0 {
                self.ahead_of = PacedSplit { split: self.reader.split(), n_passed: 0 };
            }
            let mut batch = Batch::default();
            self.status = self.reader.read(&mut batch)?;
            let n = (batch.len() as u64).min(self.n_to_pass) as usize;
            self.n_to_pass -= n as u64;
            batch.values.drain(..n);
            batch.times.drain(..n.min(batch.times.len()));
            self.values = batch.values.into_iter();
            self.times = batch.times.into_iter();
            if self.values.len() == 0 {
                return Ok(self.status);
            }
        }
        match self.allow(self.values.len() as u64) {
            Ok(n) => {
                out.values.extend(self.values.by_ref().take(n as usize));
                out.times.extend(self.times.by_ref().take(n as usize));
                self.ahead_of.n_passed += n;
                Ok(ReadStatus::More)
            }
            Err(until_us) => Ok(ReadStatus::Paused { until_us }),
        }
    }

    fn split(&self) -> PacedSplit<S> {
        self.ahead_of.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Surroundings;
    use crate::{from_iter, from_vec};
    use millstream_runtime::source::OperatorStates;

    #[test]
    fn a_rate_spreads_records_over_time() {
        let source = Paced::new(from_vec((0..5000).collect::<Vec<i32>>()), 2000);
        let at = Surroundings::new(0, 1);
        assert_eq!(at.read_all(&source).unwrap(), (0..5000).collect::<Vec<_>>());
        assert_eq!(at.clock.0.load(Ordering::SeqCst), 2_500_000);
        assert_eq!((source.size_hint(), source.max_parallelism()), (Some(5000), Some(1)));
    }

    /// One split at a time.
    struct OneByOne(u32);

    impl SplitEnumerator<u32> for OneByOne {
        fn poll(
            &mut self,
            _: &EnumeratorContext<'_>,
            out: &mut Assignments<u32>,
        ) -> Result<Enumeration> {
            out.assign(self.0);
            self.0 += 1;
            Ok(Enumeration::More)
        }
    }

    #[test]
    fn splits_that_come_one_by_one_go_to_all_readers() {
        let at = Surroundings::new(0, 1);
        let mut enumerator = PacedEnumerator { enumerator: Box::new(OneByOne(0)), assigned: None };
        let states = OperatorStates::new(enumerator.states()).unwrap();
        let context = EnumeratorContext::new(&at.operator, &states);
        let readers = (0..5).map(|_| {
            // A new one each time, as after a restore.
            let mut out = Assignments::new(3);
            assert_eq!(enumerator.poll(&context, &mut out).unwrap(), Enumeration::More);
            out.take().map(|assignment| assignment.reader).collect::<Vec<_>>()
        });
        assert_eq!(readers.collect::<Vec<_>>(), [[0], [1], [2], [0], [1]]);
    }

    #[test]
    fn at_most_a_second_is_made_up_for() {
        let source = Paced::new(from_iter(|| 0..10_000u32), 1000);
        let at = Surroundings::new(0, 1).batch_size(400);
        let mut reader = at.open(&source).unwrap().remove(0);
        let mut batch = Batch::default();
        assert_eq!(reader.read(&mut batch).unwrap(), ReadStatus::Paused { until_us: 1000 });
        at.clock.0.store(3_600_000_000, Ordering::SeqCst);
        while reader.read(&mut batch).unwrap() == ReadStatus::More {}
        assert_eq!(batch.values, (0..1000).collect::<Vec<_>>());
    }
}
