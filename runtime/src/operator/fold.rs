//! Running results per key: reduce, sum, min, max, count, aggregate, `map_with_state`.
//!
//! All of them are one probe per record into one table, and what happens to the entry is a closure known
//! at compile time.

use crate::chain::{Operator, Output, Records, Step};
use crate::keyed::KeySelector;
use millstream_model::{Data, Key, Result};
use millstream_state::{KeyedTable, Visitor};
use std::sync::Arc;

/// What a fold does with a record and the state of its key.
pub trait Fold<K, I>: Send + 'static {
    /// What is kept per key.
    type State: Data;
    /// What is emitted per record.
    type Out: 'static;
    /// The state of a key before its first record.
    fn create(&self) -> Self::State;
    /// Takes a record and its key's state.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn fold(&self, key: &K, state: &mut Self::State, value: I) -> Result<Self::Out>;
}

/// Runs a [`Fold`].
pub struct KeyedFold<K, I, F: Fold<K, I>> {
    fold: F,
    selector: Arc<dyn KeySelector<I, K>>,
    table: KeyedTable<K, F::State>,
}

impl<K: Key, I, F: Fold<K, I>> KeyedFold<K, I, F> {
    /// The operator that folds records by the keys `selector` finds.
    pub fn new(fold: F, selector: Arc<dyn KeySelector<I, K>>) -> Self {
        KeyedFold { fold, selector, table: KeyedTable::default() }
    }
}

impl<K: Key, I: Send, F: Fold<K, I>> Operator<I, F::Out> for KeyedFold<K, I, F> {
    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<F::Out>) -> Result<Step> {
        let (selector, fold) = (&*self.selector, &self.fold);
        self.table.warm(records.hashes());
        let table = &mut self.table;
        records.each(|value, time, hash| {
            let (key, state) = table.entry(
                hash,
                |k| selector.is(&value, k),
                || (selector.key(&value), fold.create()),
            );
            out.emit_at(fold.fold(key, state, value)?, time);
            Ok(Step::Done)
        })
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("folded", &mut self.table)
    }
}
