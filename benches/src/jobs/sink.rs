//! The sink of every job: counts and adds up, a subtask for itself.

use crate::workload::Sink as Totals;
use millstream::model::{Batch, Result};
use millstream::prelude::*;
use millstream::runtime::operator::{Sink, SinkWriter};
use std::sync::{Arc, Mutex, PoisonError};

/// Adds up `value` of each record.
pub(super) struct Checksum<F> {
    value: Arc<F>,
    total: Total,
}

/// What all subtasks of a job's sink saw.
#[derive(Clone, Default)]
pub(super) struct Total(Arc<Mutex<Totals>>);

impl Total {
    /// A sink into this total.
    pub(super) fn sink<T, F: Fn(&T) -> u64>(&self, value: F) -> Checksum<F> {
        Checksum { value: Arc::new(value), total: self.clone() }
    }

    pub(super) fn get(&self) -> Totals {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer<F> {
    value: Arc<F>,
    sink: Totals,
    total: Total,
}

impl<T: Data, F: Fn(&T) -> u64 + Send + Sync + 'static> Sink<T> for Checksum<F> {
    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        let (value, total) = (Arc::clone(&self.value), self.total.clone());
        Ok(Box::new(Writer { value, sink: Totals::default(), total }))
    }
}

impl<T: Data, F: Fn(&T) -> u64 + Send + Sync> SinkWriter<T> for Writer<F> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let (value, sink) = (&*self.value, &mut self.sink);
        batch.values.iter().for_each(|v| sink.add(value(v)));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let mut total = self.total.0.lock().unwrap_or_else(PoisonError::into_inner);
        *total = [*total, self.sink].into_iter().sum();
        Ok(())
    }
}
