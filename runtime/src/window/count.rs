//! Windows of so many records of a key, whatever their times.
//!
//! Each is full by itself, so there is no trigger to ask and no clock to watch. Its results carry the time
//! of the record that filled it. Windows of the last n records, every m records, are
//! [`Global`](super::Global) with a count trigger and a count evictor.

use super::boxed::BoxedOperator;
use super::content::Content;
use super::emit::Emit;
use super::firing::{Firings, Pending};
use super::key::Keyed;
use super::time_window::TimeWindow;
use crate::chain::{Operator, Output, Records, Step};
use crate::context::OperatorContext;
use crate::keyed::KeySelector;
use crate::watermark::Ahead;
use millstream_model::{Error, EventTime, Key, Result};
use millstream_state::{KeyedTable, Visitor};
use std::sync::Arc;

/// The operator for windows of `n` records of a key each.
///
/// # Errors
/// If `n` is 0.
pub fn count_window<K, T, C, E>(
    n: u64,
    content: C,
    emit: E,
    selector: Arc<dyn KeySelector<T, K>>,
    context: OperatorContext,
) -> Result<BoxedOperator<T, E::Out>>
where
    K: Key,
    T: Send + 'static,
    C: Content<T>,
    E: Emit<K, C::Acc>,
{
    if n == 0 {
        return Err(Error::user("a count window must hold at least one record"));
    }
    let firings = Firings::new(emit, context);
    let windows = KeyedTable::default();
    Ok(BoxedOperator::new(CountWindows { n, content, selector, windows, firings }))
}

struct CountWindows<K, C, A, E, S> {
    n: u64,
    content: C,
    selector: S,
    /// How many records a key has, and what is kept of them.
    windows: KeyedTable<K, (u64, A)>,
    firings: Firings<K, A, E>,
}

impl<T, K, C, E, S> Operator<T, E::Out> for CountWindows<K, C, C::Acc, E, S>
where
    K: Key,
    T: Send + 'static,
    C: Content<T>,
    E: Emit<K, C::Acc>,
    S: Keyed<T, K>,
{
    fn open(&mut self) -> Result<()> {
        self.firings.open()
    }

    fn process(&mut self, records: &mut Records<'_, T>, out: &mut Output<E::Out>) -> Result<Step> {
        if self.firings.drain(out)? == Step::Yield {
            return Ok(Step::Yield);
        }
        while let Some((value, time, hash)) = records.next_record() {
            let (selector, content) = (&self.selector, &self.content);
            let (key, (count, acc)) = self.windows.entry(
                hash,
                |key| selector.is(&value, key),
                || (selector.key(&value), (0, content.create())),
            );
            content.add(acc, value);
            *count += 1;
            if *count < self.n {
                continue;
            }
            let key = key.clone();
            if let Some((_, (_, content))) = self.windows.remove(hash, |k| *k == key) {
                let window = TimeWindow::ALWAYS;
                self.firings.push(Pending { key, content, window, time, refiring: false });
            }
            if self.firings.drain(out)? == Step::Yield {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn advance(&mut self, watermark: EventTime, _: &mut Output<E::Out>) -> Result<Step> {
        self.firings.observe(watermark);
        Ok(Step::Done)
    }

    fn close(&mut self) -> Result<()> {
        self.firings.close()
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("windows", &mut self.windows)
    }

    fn restored(&mut self, watermark: EventTime, _: &Ahead) -> Result<()> {
        self.firings.observe(watermark);
        Ok(())
    }
}
