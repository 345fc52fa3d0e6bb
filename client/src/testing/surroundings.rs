//! What a pipeline under test is surrounded by: time that moves when told to, a bell for what comes from
//! other threads, and sinks that keep records with their times.

use millstream_model::{Batch, Data, EventTime, Result};
use millstream_runtime::context::{Clock, OperatorContext};
use millstream_runtime::operator::{Sink, SinkWriter};
use millstream_runtime::task::Wake;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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

pub(super) type Records<T> = Arc<Mutex<Vec<(T, EventTime)>>>;

/// Keeps records with their times.
pub(super) struct Probe<T>(pub(super) Records<T>);

impl<T: Data> Sink<T> for Probe<T> {
    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Probe(Arc::clone(&self.0))))
    }
}

impl<T: Data> SinkWriter<T> for Probe<T> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let times: Vec<_> = (0..batch.len()).map(|i| batch.time(i)).collect();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(batch.values.drain(..).zip(times));
        Ok(())
    }
}

pub(super) fn take<T>(records: &Records<T>) -> Vec<(T, EventTime)> {
    std::mem::take(&mut *records.lock().unwrap_or_else(PoisonError::into_inner))
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
        take(&self.0).into_iter().map(|(v, _)| v).collect()
    }
}
