//! Aggregates: folding many records into one accumulator that can be merged.

use millstream_model::Data;

/// Folds records of type `T` into an accumulator (Flink's `AggregateFunction`).
///
/// `merge` must be associative and commutative, and `add` must be the same as merging a fresh
/// accumulator that holds the one record: windows share partial results on that promise.
pub trait Aggregate<T>: Clone + Send + Sync + 'static {
    /// What is kept in state.
    type Acc: Data + Sync + Clone;
    /// What comes out.
    type Out: Data;

    /// The accumulator of nothing.
    fn create(&self) -> Self::Acc;
    /// Adds one record.
    fn add(&self, acc: &mut Self::Acc, value: T);
    /// Adds all that another accumulator holds.
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc);
    /// What the accumulator amounts to.
    fn result(&self, acc: &Self::Acc) -> Self::Out;

    /// Takes back an earlier `merge`, *exactly*; `false` if this aggregate has no exact inverse.
    ///
    /// Integer counts and sums have one, so a sliding window subtracts what leaves it instead of adding
    /// up again what stays. Floats do not: rounding would depend on history.
    fn retract(&self, acc: &mut Self::Acc, other: &Self::Acc) -> bool {
        let _ = (acc, other);
        false
    }

    /// Whether [`retract`](Aggregate::retract) works.
    fn is_invertible(&self) -> bool {
        false
    }
}
