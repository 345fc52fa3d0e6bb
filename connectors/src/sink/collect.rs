//! Records into a vector that the program keeps.

use millstream_model::{Batch, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::operator::{Sink, SinkWriter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Appends every record to a vector: each subtask's in order, several subtasks' as they come.
pub struct Collect<T>(Collected<T>);

/// What a [`Collect`] has taken so far. Clones show the same vector.
#[derive(Debug)]
pub struct Collected<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Collected<T> {
    fn clone(&self) -> Self {
        Collected(Arc::clone(&self.0))
    }
}

impl<T> Collected<T> {
    /// The records, to be looked at or changed in place.
    pub fn get(&self) -> MutexGuard<'_, Vec<T>> {
        // Whoever panicked while looking has not broken the vector.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the records out.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.get())
    }
}

impl<T> Collect<T> {
    /// A sink, and the vector it appends to.
    ///
    /// ```
    /// # use millstream_connectors::Collect;
    /// let (sink, collected) = Collect::<u64>::new();
    /// // … run the job that writes to `sink` …
    /// assert!(collected.take().is_empty());
    /// ```
    pub fn new() -> (Self, Collected<T>) {
        let collected = Collected(Arc::default());
        (Collect(collected.clone()), collected)
    }
}

impl<T: Send + 'static> Sink<T> for Collect<T> {
    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Collect(self.0.clone())))
    }
    fn name(&self) -> String {
        "collect".into()
    }
}

impl<T: Send> SinkWriter<T> for Collect<T> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.0.get().append(&mut batch.values);
        batch.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Surroundings;

    #[test]
    fn all_subtasks_share_the_vector() {
        let (sink, collected) = Collect::new();
        for subtask in 0..2 {
            Surroundings::new(subtask, 2).write_all(&sink, &[&[1, 2], &[], &[3]]).unwrap();
        }
        assert_eq!(collected.take(), [1, 2, 3, 1, 2, 3]);
        assert!(collected.get().is_empty());
    }
}
