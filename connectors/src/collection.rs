//! Records that are in the program already: a vector, an iterator.
//!
//! A source may be opened more than once (a restarted job reads it again), so what is kept is not an
//! iterator but how to make one. Order is the collection's, so there is one split.

use millstream_model::{Batch, Data, Result};
use millstream_runtime::source::{ReadStatus, Source, SplitContext, SplitReader};
use std::sync::Arc;

/// The records of a vector, in order.
///
/// ```
/// let numbers = millstream_connectors::from_vec(vec![1, 2, 3]);
/// ```
pub fn from_vec<T: Data + Clone + Sync>(values: Vec<T>) -> FromVec<T> {
    FromVec { values: values.into() }
}

/// The records of the iterator that `make` gives, in order. `make` is called again when the job is
/// restarted, and must then give the same records.
///
/// ```
/// let squares = millstream_connectors::from_iter(|| (0..1000u64).map(|i| i * i));
/// ```
pub fn from_iter<It, F>(make: F) -> FromIter<F>
where
    It: Iterator + Send + 'static,
    It::Item: Data,
    F: Fn() -> It + Send + Sync + 'static,
{
    FromIter { make }
}

/// See [`from_vec`].
pub struct FromVec<T> {
    values: Arc<[T]>,
}

struct VecReader<T> {
    values: Arc<[T]>,
    at: usize,
    batch_size: usize,
}

impl<T: Data + Clone + Sync> Source for FromVec<T> {
    type Out = T;
    /// How many records have been read.
    type Split = u64;

    fn is_bounded(&self) -> bool {
        true
    }
    fn discover(&self, _: usize) -> Result<Vec<u64>> {
        Ok(vec![0])
    }
    fn open(&self, from: u64, context: &SplitContext) -> Result<Box<dyn SplitReader<T, u64>>> {
        let values = Arc::clone(&self.values);
        let at = values.len().min(from as usize);
        Ok(Box::new(VecReader { values, at, batch_size: context.batch_size }))
    }
    fn size_hint(&self) -> Option<u64> {
        Some(self.values.len() as u64)
    }
    fn max_parallelism(&self) -> Option<usize> {
        Some(1)
    }
}

impl<T: Clone + Send + Sync> SplitReader<T, u64> for VecReader<T> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<ReadStatus> {
        let end = (self.at + self.batch_size).min(self.values.len());
        out.values.extend_from_slice(&self.values[self.at..end]);
        self.at = end;
        Ok(if end == self.values.len() { ReadStatus::End } else { ReadStatus::More })
    }
    fn split(&self) -> u64 {
        self.at as u64
    }
}

/// See [`from_iter`].
pub struct FromIter<F> {
    make: F,
}

struct IterReader<It> {
    values: It,
    n_read: u64,
    batch_size: usize,
}

impl<It, F> Source for FromIter<F>
where
    It: Iterator + Send + 'static,
    It::Item: Data,
    F: Fn() -> It + Send + Sync + 'static,
{
    type Out = It::Item;
    /// How many records have been read.
    type Split = u64;

    fn is_bounded(&self) -> bool {
        true
    }
    fn discover(&self, _: usize) -> Result<Vec<u64>> {
        Ok(vec![0])
    }
    fn open(
        &self,
        from: u64,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<It::Item, u64>>> {
        let mut values = (self.make)();
        if let Some(last) = from.checked_sub(1) {
            values.nth(last as usize);
        }
        Ok(Box::new(IterReader { values, n_read: from, batch_size: context.batch_size }))
    }
    fn size_hint(&self) -> Option<u64> {
        (self.make)().size_hint().1.map(|n| n as u64)
    }
    fn max_parallelism(&self) -> Option<usize> {
        Some(1)
    }
}

impl<It: Iterator + Send> SplitReader<It::Item, u64> for IterReader<It> {
    fn read(&mut self, out: &mut Batch<It::Item>) -> Result<ReadStatus> {
        let before = out.len();
        out.values.extend(self.values.by_ref().take(self.batch_size));
        let n = out.len() - before;
        self.n_read += n as u64;
        let ended = n < self.batch_size;
        Ok(if ended { ReadStatus::End } else { ReadStatus::More })
    }
    fn split(&self) -> u64 {
        self.n_read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Surroundings;

    #[test]
    fn a_vector_can_be_read_again() {
        let source = from_vec((0..2500).collect::<Vec<i32>>());
        let at = Surroundings::new(0, 1);
        for _ in 0..2 {
            assert_eq!(at.read_all(&source).unwrap(), (0..2500).collect::<Vec<_>>());
        }
        assert_eq!(source.size_hint(), Some(2500));
    }

    #[test]
    fn an_iterator_is_made_anew_each_time() {
        let source = from_iter(|| (0..1024u64).filter(|i| i % 2 == 1));
        let at = Surroundings::new(0, 1);
        for _ in 0..2 {
            let read = at.read_all(&source).unwrap();
            assert_eq!((read.len(), read[511]), (512, 1023));
        }
        assert_eq!(source.max_parallelism(), Some(1));
    }

    #[test]
    fn nothing_is_a_collection_too() {
        let at = Surroundings::new(0, 1);
        assert_eq!(at.read_all(&from_vec(Vec::<String>::new())).unwrap(), Vec::<String>::new());
        assert_eq!(at.read_all(&from_iter(std::iter::empty::<u8>)).unwrap(), Vec::<u8>::new());
    }
}
