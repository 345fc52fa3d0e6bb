//! Sources: where records enter.
//!
//! A source is divided into *splits* (a file, a partition, a range of a generator); each split is read by
//! one reader, has its own watermark generator, and belongs to one subtask. A reader never blocks: it gives
//! what it has, or says when to ask again.
//!
//! A split also says *where* in it to begin, so that one type serves three purposes: what `discover` finds
//! begins at the beginning; what a snapshot holds ([`SplitReader::split`]) begins right behind the last record
//! that was read; and `open` goes on from either. After a restore the splits of the snapshot are opened, and
//! those that had ended are not, wherever the parallelism puts them.
//!
//! Most sources know their splits when the job starts: `discover` finds them, once. One that does not (new files in a
//! folder, new partitions of a topic) has a [`SplitEnumerator`] instead, which goes on finding some while the job runs.

mod enumerator;
mod head;
mod intake;

pub use enumerator::{
    ASSIGNED_SPLITS, Assignment, Assignments, Enumeration, EnumeratorContext, EnumeratorHead,
    SplitEnumerator,
};
pub use head::SourceHead;
// What an enumerator declares its states with, and what holds them.
pub use millstream_state::{OperatorListState, OperatorStateSet, OperatorStates, operator_states};

use crate::context::OperatorContext;
use crate::task::Waker;
use millstream_model::{Batch, Data, EventTime, Result};

/// What a reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    /// There may be more: ask again at once.
    More,
    /// Nothing now, and nothing is known to be waiting: ask again when woken or at this processing time
    /// (µs). Time spent like this counts towards idleness.
    CaughtUp {
        /// Microseconds since the epoch; `MAX_TIME` to be asked only when woken.
        until_us: EventTime,
    },
    /// Nothing now by the reader's own choice (a rate limit): ask again at this processing time. Does not
    /// count towards idleness.
    Paused {
        /// Microseconds since the epoch.
        until_us: EventTime,
    },
    /// The split has ended.
    End,
}

/// What a reader is given.
pub struct SplitContext {
    /// Index of the subtask that reads.
    pub subtask: usize,
    /// Number of subtasks of the source.
    pub parallelism: usize,
    /// Wakes the subtask: for readers whose records arrive on a thread of their own.
    pub waker: Waker,
    /// Most records per read.
    pub batch_size: usize,
    /// Where the reader runs: the clock, metrics.
    pub operator: OperatorContext,
}

/// A source of records. See the module's text.
pub trait Source: Send + Sync + 'static {
    /// What it emits.
    type Out: Data;
    /// A part that is read on its own, and where in it to begin.
    type Split: Data + Clone;

    /// Whether it ends by itself.
    fn is_bounded(&self) -> bool;

    /// Finds the splits. Called once per attempt, before any reader is opened; not used after a restore, and not called if
    /// there is an [`enumerator`](Self::enumerator).
    ///
    /// # Errors
    /// If they cannot be found (a missing file, say).
    fn discover(&self, parallelism: usize) -> Result<Vec<Self::Split>>;

    /// What finds the splits while the job runs, if they are not all known when it starts. Called when the job is built,
    /// to see whether there is one, and wherever it is to run; so it must be cheap and touch nothing outside, and what it
    /// says must depend on the source alone.
    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator<Self::Split>>> {
        None
    }

    /// Opens a split where it says.
    ///
    /// # Errors
    /// If it cannot be opened.
    fn open(
        &self,
        split: Self::Split,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<Self::Out, Self::Split>>>;

    /// Whether a subtask may read its splits one after the other, so that no more than one is at work at a time.
    /// It does so only where the source's own watermarks say nothing: a split that has not begun holds event
    /// time back, so with watermarks all splits are read side by side and time moves in all of them.
    fn reads_in_turn(&self) -> bool {
        false
    }

    /// About how many records the whole source will give, for progress bars.
    fn size_hint(&self) -> Option<u64> {
        None
    }

    /// Whether it can go back to where a split says. A source that cannot loses, when the job recovers, what was
    /// read since the checkpoint.
    fn can_go_back(&self) -> bool {
        true
    }

    /// How many subtasks it can use at most; `None` for any number.
    fn max_parallelism(&self) -> Option<usize> {
        None
    }
}

/// Reads one split.
pub trait SplitReader<T, S>: Send {
    /// Appends at most a batch of records to `out` (with times, if the source has them). Must not block
    /// for long; a reader that needs to wait for the outside does so on a thread of its own.
    ///
    /// # Errors
    /// If reading fails; the error ends the job.
    fn read(&mut self, out: &mut Batch<T>) -> Result<ReadStatus>;

    /// What is left: the split as it has to be opened to go on right behind the last record that was read.
    /// A source that cannot go back (a socket) gives a split that begins wherever it is then.
    fn split(&self) -> S;
}

/// Opens a reader.
pub type OpenSplit<T, S> = Box<dyn Fn(S) -> Result<Box<dyn SplitReader<T, S>>> + Send>;

#[cfg(test)]
mod assigned_tests;
#[cfg(test)]
mod tests;
