//! Chains: operators joined by typed links, one virtual call per batch.
//!
//! A link is an operator with what comes after it. Pushing a batch into the first link runs it through all
//! of them; nothing is queued between two fused operators. Backpressure runs the other way as a return
//! value: a link that answers [`Flow::Blocked`] has taken what it was given but holds work that cannot go
//! on (an exchange downstream is full), and must be `resume`d to [`Flow::Ready`] before it is given more.
//! So nothing in a chain ever waits, and no driver can deadlock.

mod one;
mod output;
mod tee;
mod two;
mod visit;

pub use one::{OneInput, Operator, Records, Step};
pub use output::{AnySide, Output, SideOutput};
pub use tee::Tee;
pub use two::{LeftPort, RightPort, TwoInput, TwoInputLink, TwoInputOperator};
pub(crate) use visit::Freeze;
pub use visit::{ChainVisitor, Notice, Stateful};

use millstream_model::{Batch, Place, Result, Signal};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether a link can take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Everything given was dealt with.
    Ready,
    /// Work is held back: `resume` until it answers `Ready` before pushing or signalling again.
    Blocked,
}

impl Flow {
    /// Blocked if either is.
    pub fn and(self, other: Flow) -> Flow {
        if self == Flow::Blocked { self } else { other }
    }
}

/// A link of a chain: takes batches and signals of records of type `T`.
pub trait Push<T>: Send {
    /// Called once before anything else, consumers first.
    ///
    /// # Errors
    /// What the operator's own opening reports.
    fn open(&mut self) -> Result<()>;

    /// Takes all of a batch, records and marks; leaves it blank, its buffers kept.
    ///
    /// # Errors
    /// The failure of an operator in or behind this link: it ends the task.
    fn push(&mut self, batch: &mut Batch<T>) -> Result<Flow>;

    /// Takes a signal.
    ///
    /// # Errors
    /// As for `push`.
    fn signal(&mut self, signal: Signal) -> Result<Flow>;

    /// Goes on with held work, here and behind. Called once per step of the task, so it is also where
    /// asynchronous results come in.
    ///
    /// # Errors
    /// As for `push`.
    fn resume(&mut self) -> Result<Flow>;

    /// Called once after the end of input, producers first. Not called when the task fails.
    ///
    /// # Errors
    /// What the operator's own closing reports.
    fn close(&mut self) -> Result<()>;

    /// Shows the operators here and behind, producers first, whether or not the link is blocked.
    ///
    /// # Errors
    /// The visitor's.
    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()>;
}

/// Where an operator stands, for errors and panics: the task remembers which operator runs.
#[derive(Clone, Debug)]
pub struct Site {
    place: Arc<Place>,
    current: Arc<AtomicUsize>,
    index: usize,
}

impl Site {
    /// The site of the operator with this index in its task.
    pub fn new(place: Place, current: Arc<AtomicUsize>, index: usize) -> Self {
        Site { place: Arc::new(place), current, index }
    }

    /// A site outside any task, for tests.
    pub fn detached(operator: &str) -> Self {
        let place = Place { operator: operator.into(), subtask: 0, parallelism: 1, attempt: 0 };
        Site::new(place, Arc::default(), 0)
    }

    /// Notes that this operator's code runs from here on.
    #[inline]
    pub fn enter(&self) {
        self.current.store(self.index, Ordering::Relaxed);
    }

    /// Index of the operator in its task.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The operator's place.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Adds the place to an error.
    #[inline]
    pub fn locate<R>(&self, result: Result<R>) -> Result<R> {
        result.map_err(|e| e.at(&self.place))
    }
}

/// A link that forgets everything: the end of a stream nobody listens to.
#[derive(Debug, Default)]
pub struct Discard;

impl<T> Push<T> for Discard {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn push(&mut self, batch: &mut Batch<T>) -> Result<Flow> {
        batch.clear();
        Ok(Flow::Ready)
    }
    fn signal(&mut self, _: Signal) -> Result<Flow> {
        Ok(Flow::Ready)
    }
    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
    fn visit(&mut self, _: &mut dyn ChainVisitor) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod restored_tests;
