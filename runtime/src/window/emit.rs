//! What is made of a window that fires.
//!
//! [`WindowFunction`] is what users write; [`Emit`] is what operators call. Between them stand small
//! adapters that turn what a window kept into what the function wants to see: the result of an aggregate,
//! all elements, the pairs of a join.

use super::time_window::TimeWindow;
use crate::chain::{Output, Step};
use crate::context::OperatorContext;
use crate::function::Collector;
use millstream_model::{EventTime, Result};
use millstream_state::Aggregate;
use std::marker::PhantomData;

/// What a window function may ask of the firing it is called for.
pub struct WindowContext<'a> {
    pub(crate) window: TimeWindow,
    pub(crate) watermark: EventTime,
    pub(crate) refiring: bool,
    pub(crate) operator: &'a OperatorContext,
}

impl WindowContext<'_> {
    /// The window that fires.
    pub fn window(&self) -> TimeWindow {
        self.window
    }
    /// The current watermark.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }
    /// Processing time in milliseconds since the epoch.
    pub fn now_ms(&self) -> EventTime {
        self.operator.now_ms()
    }
    /// Whether a late record makes a window fire whose time has passed already: the result replaces an
    /// earlier one, if there was one.
    pub fn is_refiring(&self) -> bool {
        self.refiring
    }
    /// Where the function runs; metrics and accumulators.
    pub fn operator(&self) -> &OperatorContext {
        self.operator
    }
}

/// Makes results of a window's content (Flink's `ProcessWindowFunction`): `In` is `[T]` for all elements,
/// the result type of an aggregate, or the record type of a reduce.
pub trait WindowFunction<K, In: ?Sized>: Clone + Send + 'static {
    /// What it emits.
    type Out;
    /// Called once per subtask before the first record.
    ///
    /// # Errors
    /// Whatever prevents the job from starting.
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// Processes what a window of a key holds. Results carry the window's last millisecond.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn process(
        &mut self,
        key: &K,
        input: &In,
        ctx: &WindowContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// Called once after the last record.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A window function that is a closure.
pub struct WindowClosure<F, O> {
    function: F,
    output: PhantomData<fn() -> O>,
}

impl<F, O> WindowClosure<F, O> {
    /// The window function that calls `function`.
    pub fn new(function: F) -> Self {
        WindowClosure { function, output: PhantomData }
    }
}

impl<F: Clone, O> Clone for WindowClosure<F, O> {
    fn clone(&self) -> Self {
        WindowClosure::new(self.function.clone())
    }
}

impl<K, In, O, F> WindowFunction<K, In> for WindowClosure<F, O>
where
    In: ?Sized,
    O: 'static,
    F: Fn(&K, &In, &WindowContext<'_>, &mut Collector<'_, O>) -> Result<()>,
    F: Clone + Send + 'static,
{
    type Out = O;
    fn process(
        &mut self,
        key: &K,
        input: &In,
        ctx: &WindowContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        (self.function)(key, input, ctx, out)
    }
}

/// What an operator calls for a window of a key that fires; `A` is what the window kept.
///
/// A call that may emit very much can yield like an operator and is then called again with the same
/// arguments.
pub trait Emit<K, A>: Send + 'static {
    /// What it emits.
    type Out: 'static;
    /// Called once per subtask before the first record.
    ///
    /// # Errors
    /// Whatever prevents the job from starting.
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// Emits what this content amounts to; the output's time is set.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn emit(
        &mut self,
        key: &K,
        content: &A,
        ctx: &WindowContext<'_>,
        out: &mut Output<Self::Out>,
    ) -> Result<Step>;
    /// Called once after the last record.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Emits the result of an aggregate, nothing else.
pub struct Results<T, A> {
    aggregate: A,
    record: PhantomData<fn() -> T>,
}

impl<T, A> Results<T, A> {
    /// Emits results of `aggregate`.
    pub fn new(aggregate: A) -> Self {
        Results { aggregate, record: PhantomData }
    }
}

impl<K, T: 'static, A: Aggregate<T>> Emit<K, A::Acc> for Results<T, A> {
    type Out = A::Out;
    #[inline]
    fn emit(
        &mut self,
        _: &K,
        acc: &A::Acc,
        _: &WindowContext<'_>,
        out: &mut Output<A::Out>,
    ) -> Result<Step> {
        out.emit(self.aggregate.result(acc));
        Ok(Step::Done)
    }
}

/// Gives the result of an aggregate to a window function.
pub struct ResultsTo<T, A, F> {
    aggregate: A,
    function: F,
    record: PhantomData<fn() -> T>,
}

impl<T, A, F> ResultsTo<T, A, F> {
    /// Gives results of `aggregate` to `function`.
    pub fn new(aggregate: A, function: F) -> Self {
        ResultsTo { aggregate, function, record: PhantomData }
    }
}

impl<K, T, A, F> Emit<K, A::Acc> for ResultsTo<T, A, F>
where
    T: 'static,
    A: Aggregate<T>,
    F: WindowFunction<K, A::Out>,
    F::Out: 'static,
{
    type Out = F::Out;
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        self.function.open(context)
    }
    #[inline]
    fn emit(
        &mut self,
        key: &K,
        acc: &A::Acc,
        ctx: &WindowContext<'_>,
        out: &mut Output<F::Out>,
    ) -> Result<Step> {
        let result = self.aggregate.result(acc);
        self.function.process(key, &result, ctx, &mut Collector::new(out))?;
        Ok(Step::Done)
    }
    fn close(&mut self) -> Result<()> {
        self.function.close()
    }
}

/// Emits the one record a reduce keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Folded;

impl<K, T: Clone + 'static> Emit<K, Option<T>> for Folded {
    type Out = T;
    fn emit(
        &mut self,
        _: &K,
        folded: &Option<T>,
        _: &WindowContext<'_>,
        out: &mut Output<T>,
    ) -> Result<Step> {
        if let Some(value) = folded {
            out.emit(value.clone());
        }
        Ok(Step::Done)
    }
}

/// Gives the one record a reduce keeps to a window function.
#[derive(Clone, Debug)]
pub struct FoldedTo<F>(pub F);

impl<K, T, F> Emit<K, Option<T>> for FoldedTo<F>
where
    F: WindowFunction<K, T>,
    F::Out: 'static,
{
    type Out = F::Out;
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        self.0.open(context)
    }
    fn emit(
        &mut self,
        key: &K,
        folded: &Option<T>,
        ctx: &WindowContext<'_>,
        out: &mut Output<F::Out>,
    ) -> Result<Step> {
        if let Some(value) = folded {
            self.0.process(key, value, ctx, &mut Collector::new(out))?;
        }
        Ok(Step::Done)
    }
    fn close(&mut self) -> Result<()> {
        self.0.close()
    }
}

/// Gives all elements to a window function.
#[derive(Clone, Debug)]
pub struct ElementsTo<F>(pub F);

impl<K, T, F> Emit<K, Vec<T>> for ElementsTo<F>
where
    F: WindowFunction<K, [T]>,
    F::Out: 'static,
{
    type Out = F::Out;
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        self.0.open(context)
    }
    fn emit(
        &mut self,
        key: &K,
        elements: &Vec<T>,
        ctx: &WindowContext<'_>,
        out: &mut Output<F::Out>,
    ) -> Result<Step> {
        self.0.process(key, elements, ctx, &mut Collector::new(out))?;
        Ok(Step::Done)
    }
    fn close(&mut self) -> Result<()> {
        self.0.close()
    }
}
