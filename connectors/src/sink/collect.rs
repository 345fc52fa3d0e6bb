//! Records into a vector that the program keeps.

use millstream_model::{Batch, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::operator::{Sink, SinkWriter};
use std::sync::{Arc, Mutex, PoisonError};

/// Appends every record to a vector: each subtask's in order, several subtasks' as they come.
///
/// ```
/// # use millstream_connectors::Collect;
/// # use std::sync::{Arc, Mutex};
/// let records = Arc::new(Mutex::new(Vec::<u64>::new()));
/// let sink = Collect::new(Arc::clone(&records));
/// ```
#[derive(Debug)]
pub struct Collect<T> {
    records: Arc<Mutex<Vec<T>>>,
}

impl<T> Collect<T> {
    /// A sink that appends to `records`.
    pub fn new(records: Arc<Mutex<Vec<T>>>) -> Self {
        Collect { records }
    }
}

impl<T: Send + 'static> Sink<T> for Collect<T> {
    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Collect { records: Arc::clone(&self.records) }))
    }
    /// There is nothing to be prepared.
    fn recovers_apart(&self) -> bool {
        true
    }
    fn name(&self) -> String {
        "collect".into()
    }
}

impl<T: Send> SinkWriter<T> for Collect<T> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        // Whoever panicked while looking at the records has not broken them.
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.append(&mut batch.values);
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
        let records = Arc::default();
        let sink = Collect::new(Arc::clone(&records));
        for subtask in 0..2 {
            Surroundings::new(subtask, 2).write_all(&sink, &[&[1, 2], &[], &[3]]).unwrap();
        }
        assert_eq!(*records.lock().unwrap(), [1, 2, 3, 1, 2, 3]);
    }
}
