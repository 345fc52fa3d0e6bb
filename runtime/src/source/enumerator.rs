//! Split enumerators: where splits come from that are not all known when a job starts.
//!
//! An enumerator is user code, so it runs where user code runs: as a task of its own, one subtask, in front of the
//! readers. It is an upstream task like any other. Barriers begin in it, and what it assigned before one goes to
//! the readers before that barrier, in band; so in a checkpoint every split is either in the state of the enumerator
//! as one to come, or in that of exactly one reader.
//!
//! Data flows one way: the enumerator says which reader gets a split, and readers ask for nothing. That costs some
//! balance (a reader that is slow has a longer list, until the parallelism changes and the lists are dealt out
//! anew), and there is no second protocol that would have to be repeated after a restore.

use crate::chain::{ChainVisitor, Flow, Freeze, Push, Site, Stateful};
use crate::context::OperatorContext;
use crate::metrics::Counter;
use crate::task::{Head, Polled, Waker};
use millstream_model::{Barrier, Batch, Data, Error, EventTime, Result, Signal};
use millstream_state::{OperatorListState, OperatorStateSet, OperatorStates, Visitor};
use serde::{Deserialize, Serialize};
use std::cell::RefMut;
use std::collections::VecDeque;

/// The metric that counts the splits an enumerator has assigned.
pub const ASSIGNED_SPLITS: &str = "assigned_splits";

/// What an enumerator knows of splits to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enumeration {
    /// There may be more: ask again at once.
    More,
    /// None now: ask again when woken, or at this processing time.
    Wait {
        /// Microseconds since the epoch; `MAX_TIME` to be asked only when woken.
        until_us: EventTime,
    },
    /// There will be no other.
    End,
}

/// Finds the splits of a source while it runs.
///
/// Of each attempt of a job there is one. It is called in this order, always from the same task, and never two calls
/// at a time:
///
/// 1. After a restore its [states](Self::states) are filled with what they held at the barrier of the checkpoint.
/// 2. [`open`](Self::open), once, before anything is asked for.
/// 3. [`poll`](Self::poll), again and again, also earlier than it was asked to be, until it says
///    [`Enumeration::End`]. Between two calls a checkpoint may be taken: it holds the states as they are then, and
///    the readers have, or will get before it, what was assigned by then. So whatever a call assigns must be noted in
///    the states by the same call, or it is assigned again after a restore.
/// 4. After `End` it is not called any more in this attempt. If the job goes on from a checkpoint that was taken just
///    before that was known, it is asked once more and must say so again; from a later one it is not opened at all.
///
/// It must not block for long: whoever has to wait for the outside does so on a thread of its own, and wakes the
/// task. A split that was assigned is never given back; what a reader has not read of it is in the reader's state, and is
/// dealt out to all readers when their number changes.
///
/// Readers take in what is assigned as soon as it comes, whatever they still have to read: an enumerator without end that
/// always says there is [`More`](Enumeration::More) fills their memory, so let it find as much as is to be read soon.
///
/// A reader that has no split is idle after the time after which a quiet split would be, unless the source is bounded; until
/// then it holds event time where it is. A split that is assigned when event time has moved on may bring late records.
///
/// ```
/// use millstream_model::Result;
/// use millstream_runtime::source::{Assignments, Enumeration, EnumeratorContext, SplitEnumerator};
/// use millstream_state::{OperatorListState, OperatorStateSet, operator_states};
///
/// const NEXT: OperatorListState<u32> = OperatorListState::split("next");
///
/// /// Hours of a day, one after the other.
/// struct Hours;
///
/// impl SplitEnumerator<u32> for Hours {
///     fn states(&self) -> OperatorStateSet {
///         operator_states![NEXT]
///     }
///     fn poll(&mut self, context: &EnumeratorContext<'_>, out: &mut Assignments<u32>) -> Result<Enumeration> {
///         let mut next = context.state(&NEXT);
///         let hour = next.pop().unwrap_or(0);
///         if hour == 24 {
///             next.push(24);
///             return Ok(Enumeration::End);
///         }
///         out.assign(hour);
///         next.push(hour + 1);
///         Ok(Enumeration::More)
///     }
/// }
/// ```
pub trait SplitEnumerator<S>: Send {
    /// The states it uses: what it must know after a restore. Its own fields are scratch.
    fn states(&self) -> OperatorStateSet {
        OperatorStateSet::NONE
    }

    /// Called once per attempt, before it is asked for splits and after its states were restored.
    ///
    /// # Errors
    /// Whatever prevents it from finding splits; the error ends the job.
    fn open(&mut self, context: &EnumeratorContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Assigns the splits that are new.
    ///
    /// # Errors
    /// If they cannot be found; the error ends the job.
    fn poll(
        &mut self,
        context: &EnumeratorContext<'_>,
        out: &mut Assignments<S>,
    ) -> Result<Enumeration>;
}

/// What an enumerator may know of where it runs.
pub struct EnumeratorContext<'a> {
    /// Its clock, its metrics, the parameters of the program.
    pub operator: &'a OperatorContext,
    states: &'a OperatorStates,
}

impl<'a> EnumeratorContext<'a> {
    /// A context with these states.
    pub fn new(operator: &'a OperatorContext, states: &'a OperatorStates) -> Self {
        EnumeratorContext { operator, states }
    }

    /// The elements of one of its states.
    ///
    /// # Panics
    /// If the state was not declared, was declared with another type, or is being held already: mistakes in the
    /// program, which end the job with this text.
    pub fn state<T: Data>(&self, state: &OperatorListState<T>) -> RefMut<'a, Vec<T>> {
        self.states.of(state)
    }

    /// Processing time in microseconds since the epoch.
    pub fn now_us(&self) -> EventTime {
        self.operator.task().job().clock.now_us()
    }

    /// Wakes the task, from any thread.
    pub fn waker(&self) -> &Waker {
        self.operator.task().waker()
    }
}

/// A split on its way to a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment<S> {
    /// Index of the subtask that is to read it.
    pub reader: u32,
    /// What it is to read.
    pub split: S,
}

/// Takes the splits that an enumerator finds.
#[derive(Debug)]
pub struct Assignments<S> {
    n_readers: usize,
    next: usize,
    assigned: VecDeque<Assignment<S>>,
    mistake: Option<usize>,
}

impl<S> Assignments<S> {
    /// None yet, for so many readers.
    pub fn new(n_readers: usize) -> Self {
        Assignments {
            n_readers: n_readers.max(1),
            next: 0,
            assigned: VecDeque::new(),
            mistake: None,
        }
    }

    /// Number of subtasks that read.
    pub fn n_readers(&self) -> usize {
        self.n_readers
    }

    /// Gives a split to the reader whose turn it is.
    pub fn assign(&mut self, split: S) {
        let reader = self.next;
        self.next = (reader + 1) % self.n_readers;
        self.assign_to(reader, split);
    }

    /// Gives a split to the reader with this index, which is less than [`n_readers`](Self::n_readers); otherwise the
    /// job ends.
    pub fn assign_to(&mut self, reader: usize, split: S) {
        if reader >= self.n_readers {
            self.mistake.get_or_insert(reader);
        }
        self.assigned.push_back(Assignment { reader: reader as u32, split });
    }

    /// Takes out what was assigned, in order: for enumerators that stand around another.
    pub fn take(&mut self) -> impl Iterator<Item = Assignment<S>> + use<S> {
        std::mem::take(&mut self.assigned).into_iter()
    }

    fn check(&self) -> Result<()> {
        match self.mistake {
            None => Ok(()),
            Some(reader) => Err(Error::user(format!(
                "the enumerator assigned a split to reader {reader}, but there are only {n} (0 to {}): choose a number \
                 below `n_readers()`, or leave the choice to `assign`",
                self.n_readers - 1,
                n = self.n_readers
            ))),
        }
    }
}

/// The head of an enumerator's task.
pub struct EnumeratorHead<S> {
    enumerator: Box<dyn SplitEnumerator<S>>,
    states: OperatorStates,
    operator: OperatorContext,
    assignments: Assignments<S>,
    has_ended: bool,
    batch: Batch<Assignment<S>>,
    batch_size: usize,
    link: Box<dyn Push<Assignment<S>>>,
    site: Site,
    n_assigned: Counter,
}

impl<S: Data> EnumeratorHead<S> {
    /// A head that sends what `enumerator` assigns to so many readers into `link`.
    ///
    /// # Errors
    /// If the enumerator's states are declared wrongly.
    pub fn new(
        enumerator: Box<dyn SplitEnumerator<S>>,
        n_readers: usize,
        link: Box<dyn Push<Assignment<S>>>,
        operator: OperatorContext,
        site: Site,
    ) -> Result<Self> {
        Ok(EnumeratorHead {
            states: OperatorStates::new(enumerator.states())?,
            enumerator,
            assignments: Assignments::new(n_readers),
            has_ended: false,
            batch: Batch::default(),
            batch_size: operator.task().job().batch_size.max(1),
            link,
            site,
            n_assigned: operator.counter(ASSIGNED_SPLITS),
            operator,
        })
    }

    /// Asks for more, if everything was sent on; what to do if there is nothing.
    fn ask(&mut self) -> Result<Polled> {
        if self.has_ended {
            return Ok(Polled::End);
        }
        self.site.enter();
        let context = EnumeratorContext::new(&self.operator, &self.states);
        let found = self.enumerator.poll(&context, &mut self.assignments)?;
        self.assignments.check()?;
        self.n_assigned.add(self.assignments.assigned.len() as u64);
        self.has_ended = found == Enumeration::End;
        Ok(match found {
            Enumeration::More => Polled::Took(Flow::Ready),
            Enumeration::Wait { until_us } => Polled::Nothing { until_us },
            Enumeration::End => Polled::End,
        })
    }
}

impl<S: Data> Stateful for EnumeratorHead<S> {
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.states.parts(visitor)
    }

    fn ended(&mut self) {
        self.has_ended = true;
    }
}

impl<S: Data> Head for EnumeratorHead<S> {
    fn open(&mut self) -> Result<()> {
        self.link.open()?;
        if self.has_ended {
            return Ok(());
        }
        self.site.enter();
        let opened = self.enumerator.open(&EnumeratorContext::new(&self.operator, &self.states));
        self.site.locate(opened)
    }

    fn poll(&mut self) -> Result<Polled> {
        if self.assignments.assigned.is_empty() {
            let asked = self.ask();
            let polled = self.site.locate(asked)?;
            if self.assignments.assigned.is_empty() {
                return Ok(polled);
            }
        }
        let n = self.assignments.assigned.len().min(self.batch_size);
        self.batch.values.extend(self.assignments.assigned.drain(..n));
        let mut flow = self.link.push(&mut self.batch)?;
        self.batch.clear();
        if flow == Flow::Ready && self.assignments.assigned.is_empty() {
            // Its readers may have nothing else, and it may take long until it finds the next.
            flow = self.link.signal(Signal::Flush)?;
        }
        Ok(Polled::Took(flow))
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.link.signal(signal)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.link.resume()
    }

    fn end(&mut self) -> Result<Flow> {
        self.link.signal(Signal::End)
    }

    fn close(&mut self) -> Result<()> {
        self.link.close()
    }

    fn is_source(&self) -> bool {
        true
    }

    fn barrier(&mut self, barrier: Barrier) -> Result<Flow> {
        self.states.parts(&mut Freeze(barrier.kind))?;
        self.link.signal(Signal::Barrier(barrier))
    }

    /// What the states say was assigned must be with its reader before the barrier is.
    fn has_unsent(&self) -> bool {
        !self.assignments.assigned.is_empty()
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        let site = self.site.clone();
        visitor.operator(&site, self)?;
        self.link.visit(visitor)
    }
}
