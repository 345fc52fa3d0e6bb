//! What a pipeline under test is surrounded by: time that moves when told to, a bell for what comes from
//! other threads, and sinks that keep records with their times.

use millstream_model::{Batch, CheckpointId, Data, EventTime, Result};
use millstream_runtime::context::{Clock, OperatorContext};
use millstream_runtime::operator::{Committer, Sink, SinkStart, SinkWriter, Staged};
use millstream_runtime::task::Wake;
use millstream_state::codec;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a pipeline may wait for results of asynchronous calls before the test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Time that moves when told to.
#[derive(Debug, Default)]
pub(super) struct ManualClock(pub(super) AtomicI64);

impl Clock for ManualClock {
    fn now_us(&self) -> EventTime {
        self.0.load(Ordering::SeqCst)
    }
}

/// Tells the harness that something arrived from another thread.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Bell {
    pub(super) fn wait(&self) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, PATIENCE, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rung)
    }
}

/// What came out of a pipeline and was not taken by the test.
pub(super) struct Records<T> {
    kept: Arc<Mutex<Kept<T>>>,
}

struct Kept<T> {
    records: Vec<(T, EventTime)>,
    /// How many were taken.
    n_taken: u64,
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Records { kept: Arc::new(Mutex::new(Kept { records: Vec::new(), n_taken: 0 })) }
    }
}

impl<T> Clone for Records<T> {
    fn clone(&self) -> Self {
        Records { kept: Arc::clone(&self.kept) }
    }
}

impl<T> Records<T> {
    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Vec<(T, EventTime)> {
        let mut kept = self.lock();
        let records = std::mem::take(&mut kept.records);
        kept.n_taken += records.len() as u64;
        records
    }
}

/// A sink that keeps records with their times. The test sees them at once; what is staged is how many there
/// were, so that a restore takes back those that came after the snapshot and were not taken.
pub(super) struct Probe<T>(pub(super) Records<T>);

impl<T: Data> Sink<T> for Probe<T> {
    fn prepare(&self, start: &SinkStart) -> Result<()> {
        let SinkStart::Recovering(staged) = start else { return Ok(()) };
        let counts = staged.iter().map(|staged| codec::decode_all(staged));
        let n: u64 = counts.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0);
        let mut kept = self.0.lock();
        let n_left = n.saturating_sub(kept.n_taken);
        kept.records.truncate(usize::try_from(n_left).unwrap_or(usize::MAX));
        Ok(())
    }
    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Probe(self.0.clone())))
    }
    fn committer(&self) -> Option<Box<dyn Committer>> {
        Some(Box::new(Seen))
    }
}

impl<T: Data> SinkWriter<T> for Probe<T> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let times: Vec<_> = (0..batch.len()).map(|i| batch.time(i)).collect();
        self.0.lock().records.extend(batch.values.drain(..).zip(times));
        Ok(())
    }
    fn stage(&mut self, _: CheckpointId) -> Result<Vec<Staged>> {
        let kept = self.0.lock();
        let mut staged = Vec::new();
        codec::encode(&(kept.n_taken + kept.records.len() as u64), &mut staged)?;
        Ok(vec![staged])
    }
}

/// Commits what can be seen already.
struct Seen;

impl Committer for Seen {
    fn commit(&mut self, _: &[Staged]) -> Result<()> {
        Ok(())
    }
}

/// What a side output received.
pub struct Side<T>(pub(super) Records<T>);

impl<T> Side<T> {
    /// The records since the last call.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// const ERRORS: OutputTag<String> = OutputTag::new(millstream::stream::ERRORS);
    /// let build = |input: DataStream<Result<u32, String>>| input.split_errors().0;
    /// let (mut harness, errors) = Harness::with_side(&ERRORS, build)?;
    /// harness.element(Err("no number".to_string()), 0)?;
    /// assert_eq!(errors.take(), ["no number"]);
    /// assert!(errors.take().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take(&self) -> Vec<T> {
        self.0.take().into_iter().map(|(v, _)| v).collect()
    }
}
