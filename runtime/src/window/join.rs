//! What a join makes of a window: the pairs of its two sides, or both sides as they are.
//!
//! A join is a window operator like any other whose records happen to come from two streams. Only the
//! pairs are special: there can be very many of one key, so they are a cursor of their own.

use super::content::Sides;
use super::emit::{Emit, WindowContext};
use crate::chain::{Output, Step};
use crate::function::Collector;
use millstream_model::Result;
use std::marker::PhantomData;

/// Calls a function for every pair of records of the two sides.
pub struct Pairs<F, O> {
    function: F,
    /// The pair to go on with after the output was blocked.
    next: (usize, usize),
    output: PhantomData<fn() -> O>,
}

impl<F, O> Pairs<F, O> {
    /// Calls `function` for every pair.
    pub fn new(function: F) -> Self {
        Pairs { function, next: (0, 0), output: PhantomData }
    }
}

impl<K, L, R, O, F> Emit<K, Sides<L, R>> for Pairs<F, O>
where
    O: 'static,
    F: Fn(&L, &R, &mut Collector<'_, O>) -> Result<()> + Send + 'static,
{
    type Out = O;
    fn emit(
        &mut self,
        _: &K,
        sides: &Sides<L, R>,
        _: &WindowContext<'_>,
        out: &mut Output<O>,
    ) -> Result<Step> {
        let (first, mut from) = std::mem::take(&mut self.next);
        for (i, left) in sides.left.iter().enumerate().skip(first) {
            for (j, right) in sides.right.iter().enumerate().skip(from) {
                if out.is_blocked() {
                    self.next = (i, j);
                    return Ok(Step::Yield);
                }
                (self.function)(left, right, &mut Collector::new(out))?;
            }
            from = 0;
        }
        Ok(Step::Done)
    }
}

/// Calls a function with both sides of a key, either of which may be empty.
pub struct Groups<F, O> {
    function: F,
    output: PhantomData<fn() -> O>,
}

impl<F, O> Groups<F, O> {
    /// Calls `function` once per key and window.
    pub fn new(function: F) -> Self {
        Groups { function, output: PhantomData }
    }
}

impl<K, L, R, O, F> Emit<K, Sides<L, R>> for Groups<F, O>
where
    O: 'static,
    F: Fn(&K, &[L], &[R], &WindowContext<'_>, &mut Collector<'_, O>) -> Result<()>,
    F: Send + 'static,
{
    type Out = O;
    fn emit(
        &mut self,
        key: &K,
        sides: &Sides<L, R>,
        ctx: &WindowContext<'_>,
        out: &mut Output<O>,
    ) -> Result<Step> {
        (self.function)(key, &sides.left, &sides.right, ctx, &mut Collector::new(out))?;
        Ok(Step::Done)
    }
}
