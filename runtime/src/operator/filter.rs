//! Keeps some of the records: in place, nothing is copied.

use crate::chain::{ChainVisitor, Flow, Operator, Output, Push, Records, Site, Step};
use millstream_model::{Batch, Result, Signal};

/// `filter`.
pub struct Filter<T, F> {
    keep: F,
    next: Box<dyn Push<T>>,
    site: Site,
}

impl<T, F: Fn(&T) -> bool> Filter<T, F> {
    /// The link that passes on to `next` what `keep` approves of.
    pub fn new(keep: F, next: Box<dyn Push<T>>, site: Site) -> Self {
        Filter { keep, next, site }
    }
}

impl<T: Send, F: Fn(&T) -> bool + Send> Push<T> for Filter<T, F> {
    fn open(&mut self) -> Result<()> {
        self.next.open()
    }

    fn push(&mut self, batch: &mut Batch<T>) -> Result<Flow> {
        self.site.enter();
        batch.retain(&self.keep);
        if batch.is_blank() {
            return Ok(Flow::Ready);
        }
        self.next.push(batch)
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

/// `filter_map`: maps some of the records and drops the others.
pub struct FilterMap<I, O, F> {
    function: F,
    next: Box<dyn Push<O>>,
    batch: Batch<O>,
    site: Site,
    input: std::marker::PhantomData<fn(I)>,
}

impl<I, O, F: Fn(I) -> Option<O>> FilterMap<I, O, F> {
    /// The link that passes on to `next` what `function` makes of records.
    pub fn new(function: F, next: Box<dyn Push<O>>, site: Site) -> Self {
        FilterMap { function, next, batch: Batch::default(), site, input: std::marker::PhantomData }
    }
}

impl<I, O: Send, F: Fn(I) -> Option<O> + Send> Push<I> for FilterMap<I, O, F> {
    fn open(&mut self) -> Result<()> {
        self.next.open()
    }

    fn push(&mut self, batch: &mut Batch<I>) -> Result<Flow> {
        self.site.enter();
        batch.filter_map_into(&mut self.batch, &self.function);
        if self.batch.is_blank() {
            return Ok(Flow::Ready);
        }
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

/// `try_filter`: the first error ends the job.
pub struct TryFilter<F>(pub F);

impl<T: 'static, F: Fn(&T) -> Result<bool> + Send> Operator<T, T> for TryFilter<F> {
    fn process(&mut self, records: &mut Records<'_, T>, out: &mut Output<T>) -> Result<Step> {
        while let Some((value, time, _)) = records.next_record() {
            if (self.0)(&value)? {
                out.emit_at(value, time);
            }
        }
        Ok(Step::Done)
    }
}
