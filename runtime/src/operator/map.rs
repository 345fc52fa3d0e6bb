//! One record in, one record out.

use crate::chain::{ChainVisitor, Flow, Operator, Output, Push, Records, Site, Step};
use crate::context::OperatorContext;
use crate::function::MapFunction;
use millstream_model::{Batch, Result, Signal};

/// `map`: touches only the values; times and marks move on as they are.
pub struct Map<I, O, F> {
    function: F,
    next: Box<dyn Push<O>>,
    batch: Batch<O>,
    site: Site,
    input: std::marker::PhantomData<fn(I)>,
}

impl<I, O, F: Fn(I) -> O> Map<I, O, F> {
    /// The link that maps records by `function` into `next`.
    pub fn new(function: F, next: Box<dyn Push<O>>, site: Site) -> Self {
        Map { function, next, batch: Batch::default(), site, input: std::marker::PhantomData }
    }
}

impl<I, O: Send, F: Fn(I) -> O + Send> Push<I> for Map<I, O, F> {
    fn open(&mut self) -> Result<()> {
        self.next.open()
    }

    fn push(&mut self, batch: &mut Batch<I>) -> Result<Flow> {
        self.site.enter();
        self.batch.values.extend(batch.values.drain(..).map(&self.function));
        std::mem::swap(&mut self.batch.times, &mut batch.times);
        std::mem::swap(&mut self.batch.marks, &mut batch.marks);
        batch.clear();
        let flow = self.next.push(&mut self.batch);
        self.batch.clear();
        flow
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.next.signal(signal)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.next.resume()
    }

    fn close(&mut self) -> Result<()> {
        self.next.close()
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        self.next.visit(visitor)
    }
}

/// `try_map`: the first error ends the job.
pub struct TryMap<F>(pub F);

impl<I, O: 'static, F: Fn(I) -> Result<O> + Send> Operator<I, O> for TryMap<F> {
    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<O>) -> Result<Step> {
        while let Some((value, time, _)) = records.next_record() {
            out.emit_at((self.0)(value)?, time);
        }
        Ok(Step::Done)
    }
}

/// `map_with`: a function with a life cycle.
pub struct MapWith<F> {
    function: F,
    context: OperatorContext,
}

impl<F> MapWith<F> {
    /// The operator that runs `function`.
    pub fn new(function: F, context: OperatorContext) -> Self {
        MapWith { function, context }
    }
}

impl<I, F: MapFunction<I>> Operator<I, F::Out> for MapWith<F>
where
    F::Out: 'static,
{
    fn open(&mut self) -> Result<()> {
        self.function.open(&self.context)
    }
    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<F::Out>) -> Result<Step> {
        while let Some((value, time, _)) = records.next_record() {
            out.emit_at(self.function.map(value)?, time);
        }
        Ok(Step::Done)
    }
    fn close(&mut self) -> Result<()> {
        self.function.close()
    }
}
