//! One record in, any number out.
//!
//! The iterator form is a cursor: it stops between two results when the output is blocked, so one record
//! may yield a million without a million being held. The collector form takes pieces borrowed from its
//! record and runs a record to its end.

use crate::chain::{Operator, Output, Records, Step};
use crate::function::Collector;
use millstream_model::{EventTime, NO_TIME, Result};

/// `flat_map`: a function from a record to an iterator.
pub struct FlatMap<F, It> {
    function: F,
    current: Option<It>,
    time: EventTime,
}

impl<F, It> FlatMap<F, It> {
    /// The operator that emits what `function` yields.
    pub fn new(function: F) -> Self {
        FlatMap { function, current: None, time: NO_TIME }
    }
}

impl<F, It: Iterator> FlatMap<F, It> {
    fn drain(&mut self, out: &mut Output<It::Item>) -> Step
    where
        It::Item: 'static,
    {
        if let Some(items) = &mut self.current {
            loop {
                if out.is_blocked() {
                    return Step::Yield;
                }
                match items.next() {
                    Some(item) => out.emit_at(item, self.time),
                    None => break,
                }
            }
            self.current = None;
        }
        Step::Done
    }
}

impl<I, C, F> Operator<I, C::Item> for FlatMap<F, C::IntoIter>
where
    C: IntoIterator,
    C::IntoIter: Send,
    C::Item: 'static,
    F: Fn(I) -> C + Send,
{
    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<C::Item>) -> Result<Step> {
        loop {
            if self.drain(out) == Step::Yield {
                return Ok(Step::Yield);
            }
            let Some((value, time, _)) = records.next_record() else { return Ok(Step::Done) };
            self.time = time;
            self.current = Some((self.function)(value).into_iter());
        }
    }
}

/// `try_flat_map`: the first error ends the job.
pub struct TryFlatMap<F, It>(FlatMap<F, It>);

impl<F, It> TryFlatMap<F, It> {
    /// The operator that emits what `function` yields.
    pub fn new(function: F) -> Self {
        TryFlatMap(FlatMap::new(function))
    }
}

impl<I, C, F> Operator<I, C::Item> for TryFlatMap<F, C::IntoIter>
where
    C: IntoIterator,
    C::IntoIter: Send,
    C::Item: 'static,
    F: Fn(I) -> Result<C> + Send,
{
    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<C::Item>) -> Result<Step> {
        loop {
            if self.0.drain(out) == Step::Yield {
                return Ok(Step::Yield);
            }
            let Some((value, time, _)) = records.next_record() else { return Ok(Step::Done) };
            self.0.time = time;
            self.0.current = Some((self.0.function)(value)?.into_iter());
        }
    }
}

/// `flat_map_into`: a function that emits into a collector.
pub struct FlatMapInto<F>(pub F);

impl<I, O: 'static, F: Fn(I, &mut Collector<'_, O>) -> Result<()> + Send> Operator<I, O>
    for FlatMapInto<F>
{
    fn process(&mut self, records: &mut Records<'_, I>, out: &mut Output<O>) -> Result<Step> {
        records.each(|value, time, _| {
            out.set_time(time);
            (self.0)(value, &mut Collector::new(out))?;
            Ok(if out.is_blocked() { Step::Yield } else { Step::Done })
        })
    }
}
