//! What a window keeps of its records.
//!
//! An accumulator where the result can be built up record by record, the records themselves where it cannot.
//! Only what is put into several windows must be copied; an aggregate never copies a record, because one
//! record is an accumulator too and accumulators can be merged.

use millstream_model::Data;
use millstream_state::Aggregate;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What a window keeps of records of type `T`. Records are added in order of arrival.
pub trait Content<T>: Clone + Send + 'static {
    /// What is kept per key and window.
    type Acc: Data + Clone;
    /// A record that goes into several windows.
    type Shared;

    /// What is kept of no record.
    fn create(&self) -> Self::Acc;
    /// Adds a record.
    fn add(&self, acc: &mut Self::Acc, value: T);
    /// Makes a record ready to go into several windows.
    fn share(&self, value: T) -> Self::Shared;
    /// Adds a record that goes into other windows too.
    fn add_shared(&self, acc: &mut Self::Acc, value: &Self::Shared);
    /// Adds what was kept in a later window that becomes one with this one.
    fn merge(&self, acc: &mut Self::Acc, later: Self::Acc);
}

/// Keeps the accumulator of an aggregate.
#[derive(Clone, Debug)]
pub struct Aggregated<A>(pub A);

impl<T, A: Aggregate<T>> Content<T> for Aggregated<A> {
    type Acc = A::Acc;
    type Shared = A::Acc;

    #[inline]
    fn create(&self) -> A::Acc {
        self.0.create()
    }
    #[inline]
    fn add(&self, acc: &mut A::Acc, value: T) {
        self.0.add(acc, value);
    }
    fn share(&self, value: T) -> A::Acc {
        let mut acc = self.0.create();
        self.0.add(&mut acc, value);
        acc
    }
    fn add_shared(&self, acc: &mut A::Acc, value: &A::Acc) {
        self.0.merge(acc, value);
    }
    fn merge(&self, acc: &mut A::Acc, later: A::Acc) {
        self.0.merge(acc, &later);
    }
}

/// Keeps one record: what a function makes of what is kept and the record that came.
#[derive(Clone, Debug)]
pub struct Reduced<F>(pub F);

impl<T, F> Content<T> for Reduced<F>
where
    T: Data + Clone,
    F: Fn(T, T) -> T + Clone + Send + 'static,
{
    type Acc = Option<T>;
    type Shared = T;

    #[inline]
    fn create(&self) -> Option<T> {
        None
    }
    #[inline]
    fn add(&self, acc: &mut Option<T>, value: T) {
        *acc = Some(match acc.take() {
            Some(folded) => (self.0)(folded, value),
            None => value,
        });
    }
    fn share(&self, value: T) -> T {
        value
    }
    fn add_shared(&self, acc: &mut Option<T>, value: &T) {
        self.add(acc, value.clone());
    }
    fn merge(&self, acc: &mut Option<T>, later: Option<T>) {
        if let Some(later) = later {
            self.add(acc, later);
        }
    }
}

/// Keeps all records, in order of arrival.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elements;

impl<T: Data + Clone> Content<T> for Elements {
    type Acc = Vec<T>;
    type Shared = T;

    #[inline]
    fn create(&self) -> Vec<T> {
        Vec::new()
    }
    #[inline]
    fn add(&self, acc: &mut Vec<T>, value: T) {
        acc.push(value);
    }
    fn share(&self, value: T) -> T {
        value
    }
    fn add_shared(&self, acc: &mut Vec<T>, value: &T) {
        acc.push(value.clone());
    }
    fn merge(&self, acc: &mut Vec<T>, mut later: Vec<T>) {
        acc.append(&mut later);
    }
}

/// A record of one of two streams.
#[derive(Clone, Debug)]
pub enum OneOf<L, R> {
    /// Of the first stream.
    Left(L),
    /// Of the second stream.
    Right(R),
}

/// Keeps the records of two streams apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct BothSides;

/// What [`BothSides`] keeps. Most windows hold one or two records of a key, which need no list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sides<L, R> {
    /// Records of the first stream, in order of arrival.
    pub left: SmallVec<[L; 1]>,
    /// Records of the second stream, in order of arrival.
    pub right: SmallVec<[R; 1]>,
}

impl<L, R> Content<OneOf<L, R>> for BothSides
where
    L: Data + Clone,
    R: Data + Clone,
{
    type Acc = Sides<L, R>;
    type Shared = OneOf<L, R>;

    #[inline]
    fn create(&self) -> Sides<L, R> {
        Sides { left: SmallVec::new(), right: SmallVec::new() }
    }
    #[inline]
    fn add(&self, acc: &mut Sides<L, R>, value: OneOf<L, R>) {
        match value {
            OneOf::Left(left) => acc.left.push(left),
            OneOf::Right(right) => acc.right.push(right),
        }
    }
    fn share(&self, value: OneOf<L, R>) -> OneOf<L, R> {
        value
    }
    fn add_shared(&self, acc: &mut Sides<L, R>, value: &OneOf<L, R>) {
        self.add(acc, value.clone());
    }
    fn merge(&self, acc: &mut Sides<L, R>, mut later: Sides<L, R>) {
        acc.left.append(&mut later.left);
        acc.right.append(&mut later.right);
    }
}
