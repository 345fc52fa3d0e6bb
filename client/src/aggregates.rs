//! The aggregates everybody needs, ready for windows and folds.

use millstream_model::Data;
use millstream_state::Aggregate;
use std::marker::PhantomData;
use std::ops::AddAssign;
use std::sync::Arc;

/// Counts records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

impl<T> Aggregate<T> for Count {
    type Acc = u64;
    type Out = u64;
    fn create(&self) -> u64 {
        0
    }
    #[inline]
    fn add(&self, acc: &mut u64, _: T) {
        *acc += 1;
    }
    #[inline]
    fn merge(&self, acc: &mut u64, other: &u64) {
        *acc += other;
    }
    #[inline]
    fn result(&self, acc: &u64) -> u64 {
        *acc
    }
    #[inline]
    fn retract(&self, acc: &mut u64, other: &u64) -> bool {
        *acc -= other;
        true
    }
    fn is_invertible(&self) -> bool {
        true
    }
}

/// A number that can be added up.
pub trait Number: Data + Clone + Sync + Default + AddAssign {
    /// Whether subtracting gives back exactly what was there before adding: integers yes, floats no.
    const IS_EXACT: bool;
    /// Subtracts.
    fn take_back(&mut self, other: &Self);
}

macro_rules! numbers {
    ($exact:expr; $($t:ty),*) => {$(
        impl Number for $t {
            const IS_EXACT: bool = $exact;
            #[inline]
            fn take_back(&mut self, other: &Self) {
                *self -= *other;
            }
        }
    )*};
}

numbers!(true; i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);
numbers!(false; f32, f64);

/// Adds up a field.
pub struct Sum<F, N> {
    field: Arc<F>,
    number: PhantomData<fn() -> N>,
}

impl<F, N> Sum<F, N> {
    /// Adds up what `field` reads.
    pub fn of(field: F) -> Self {
        Sum { field: Arc::new(field), number: PhantomData }
    }
}

impl<F, N> Clone for Sum<F, N> {
    fn clone(&self) -> Self {
        Sum { field: Arc::clone(&self.field), number: PhantomData }
    }
}

impl<T, N: Number, F: Fn(&T) -> N + Send + Sync + 'static> Aggregate<T> for Sum<F, N> {
    type Acc = N;
    type Out = N;
    fn create(&self) -> N {
        N::default()
    }
    #[inline]
    fn add(&self, acc: &mut N, value: T) {
        *acc += (self.field)(&value);
    }
    #[inline]
    fn merge(&self, acc: &mut N, other: &N) {
        *acc += other.clone();
    }
    fn result(&self, acc: &N) -> N {
        acc.clone()
    }
    fn retract(&self, acc: &mut N, other: &N) -> bool {
        if N::IS_EXACT {
            acc.take_back(other);
        }
        N::IS_EXACT
    }
    fn is_invertible(&self) -> bool {
        N::IS_EXACT
    }
}

macro_rules! extreme {
    ($name:ident, $doc:literal, $pick:ident) => {
        #[doc = $doc]
        pub struct $name<F, N> {
            field: Arc<F>,
            value: PhantomData<fn() -> N>,
        }

        impl<F, N> $name<F, N> {
            /// Of what `field` reads.
            pub fn of(field: F) -> Self {
                $name { field: Arc::new(field), value: PhantomData }
            }
        }

        impl<F, N> Clone for $name<F, N> {
            fn clone(&self) -> Self {
                $name { field: Arc::clone(&self.field), value: PhantomData }
            }
        }

        impl<T, N, F> Aggregate<T> for $name<F, N>
        where
            N: Data + Clone + Sync + Ord,
            F: Fn(&T) -> N + Send + Sync + 'static,
        {
            type Acc = Option<N>;
            type Out = N;
            fn create(&self) -> Option<N> {
                None
            }
            fn add(&self, acc: &mut Option<N>, value: T) {
                self.merge_value(acc, (self.field)(&value));
            }
            fn merge(&self, acc: &mut Option<N>, other: &Option<N>) {
                if let Some(other) = other {
                    self.merge_value(acc, other.clone());
                }
            }
            fn result(&self, acc: &Option<N>) -> N {
                match acc {
                    Some(value) => value.clone(),
                    None => unreachable!("a result is asked for only after a record was added"),
                }
            }
        }

        impl<F, N: Ord> $name<F, N> {
            fn merge_value(&self, acc: &mut Option<N>, value: N) {
                *acc = Some(match acc.take() {
                    Some(before) => before.$pick(value),
                    None => value,
                });
            }
        }
    };
}

extreme!(Min, "The smallest value of a field.", min);
extreme!(Max, "The largest value of a field.", max);
