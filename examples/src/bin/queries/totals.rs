//! What most queries ask of a group: how many records, and how much in all.

use millstream::prelude::*;

/// A count, and the sum of a field.
#[derive(Clone)]
pub(crate) struct Totals<F>(pub(crate) F);

impl<T, F> Aggregate<T> for Totals<F>
where
    F: Fn(&T) -> i64 + Clone + Send + Sync + 'static,
{
    type Acc = (u64, i64);
    type Out = (u64, i64);

    fn create(&self) -> (u64, i64) {
        (0, 0)
    }

    fn add(&self, (n, sum): &mut (u64, i64), value: T) {
        *n += 1;
        *sum += (self.0)(&value);
    }

    fn merge(&self, (n, sum): &mut (u64, i64), other: &(u64, i64)) {
        *n += other.0;
        *sum += other.1;
    }

    fn retract(&self, (n, sum): &mut (u64, i64), other: &(u64, i64)) -> bool {
        *n -= other.0;
        *sum -= other.1;
        true
    }

    fn is_invertible(&self) -> bool {
        true
    }

    fn result(&self, totals: &(u64, i64)) -> (u64, i64) {
        *totals
    }
}
