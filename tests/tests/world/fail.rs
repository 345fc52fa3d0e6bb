//! User code that fails: at a record when it is told to, and where no record is, as its weather says.

use super::prng::Prng;
use super::source::Event;
use super::weather::{Weather, struck};
use millstream::model::Batch;
use millstream::prelude::*;
use millstream::runtime::source::{
    Assignments, Enumeration, EnumeratorContext, ReadStatus, Source, SplitContext, SplitEnumerator,
    SplitReader,
};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const WHOLE: u8 = 0;
const ERROR: u8 = 1;
const PANIC: u8 = 2;

/// Passes records on; the next one after it was blown ends its task, by an error or a panic.
#[derive(Clone)]
pub(super) struct Fuse {
    next: Arc<AtomicU8>,
    n_records: Arc<AtomicU64>,
    weather: Arc<Mutex<Weather>>,
}

impl Fuse {
    pub(super) fn new(prng: Prng) -> Self {
        Fuse { next: Arc::default(), n_records: Arc::default(), weather: Weather::calm(prng) }
    }

    /// How many records have come.
    pub(super) fn n_records(&self) -> u64 {
        self.n_records.load(Ordering::SeqCst)
    }

    pub(super) fn blow(&self, panics: bool) {
        self.next.store(if panics { PANIC } else { ERROR }, Ordering::SeqCst);
    }

    /// What becomes of it, and of the sources behind it, where no record is.
    pub(super) fn weather(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Panics with this are not printed.
pub(super) const PLANNED: &str = "as planned";

impl MapFunction<Event> for Fuse {
    type Out = Event;

    fn open(&mut self, _: &OperatorContext) -> Result<()> {
        struck(&self.weather, "the beginning", || Ok(()))
    }

    fn map(&mut self, event: Event) -> Result<Event> {
        self.n_records.fetch_add(1, Ordering::SeqCst);
        match self.next.swap(WHOLE, Ordering::SeqCst) {
            ERROR => Err(Error::user(PLANNED)),
            PANIC => std::panic::panic_any(PLANNED),
            _ => Ok(event),
        }
    }

    fn close(&mut self) -> Result<()> {
        struck(&self.weather, "the end", || Ok(()))
    }
}

/// A source that fails now and then.
pub(super) struct Frail<S> {
    pub(super) inner: S,
    pub(super) fuse: Fuse,
}

impl<S: Source> Source for Frail<S> {
    type Out = S::Out;
    type Split = S::Split;

    fn is_bounded(&self) -> bool {
        self.inner.is_bounded()
    }

    fn discover(&self, parallelism: usize) -> Result<Vec<S::Split>> {
        self.inner.discover(parallelism)
    }

    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator<S::Split>>> {
        let inner = self.inner.enumerator()?;
        Some(Box::new(Frail { inner, fuse: self.fuse.clone() }))
    }

    fn open(
        &self,
        split: S::Split,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<S::Out, S::Split>>> {
        let inner = struck(&self.fuse.weather, "a new split", || self.inner.open(split, context))?;
        Ok(Box::new(Frail { inner, fuse: self.fuse.clone() }))
    }
}

impl<T, S> SplitReader<T, S> for Frail<Box<dyn SplitReader<T, S>>> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<ReadStatus> {
        struck(&self.fuse.weather, "a read", || self.inner.read(out))
    }

    fn split(&self) -> S {
        self.inner.split()
    }
}

impl<S> SplitEnumerator<S> for Frail<Box<dyn SplitEnumerator<S>>> {
    fn states(&self) -> OperatorStateSet {
        self.inner.states()
    }

    fn poll(
        &mut self,
        context: &EnumeratorContext<'_>,
        out: &mut Assignments<S>,
    ) -> Result<Enumeration> {
        struck(&self.fuse.weather, "the search for splits", || self.inner.poll(context, out))
    }
}
