//! A task's part in a checkpoint: writing down, slice by slice, what was frozen at the barrier.
//!
//! The barrier only freezes. What was frozen is encoded by the task itself, because only the task may touch
//! live state, but in slices between two batches, and also while it is blocked or idle; the bytes go to a
//! [`SnapshotStream`], which brings them to storage on threads of its own. So neither the size of the state nor
//! slow storage holds a record up for longer than a slice takes.

use super::Head;
use crate::chain::{ChainVisitor, Site, Stateful};
use crate::exchange::{holds_messages, is_channel_part};
use millstream_model::job_graph::OperatorId;
use millstream_model::{Barrier, Domain, Error, Result};
use millstream_state::snapshot::{OperatorSnapshot, PartSnapshot, TaskSnapshot};
use millstream_state::store::StoreCut;
use millstream_state::{Part, Visitor, Written};

/// Where tasks' snapshots go.
pub trait Snapshots: Send + Sync {
    /// Begins a task's snapshot for a checkpoint; the task is woken when the backlog has become small.
    fn begin(&self, task: usize, barrier: Barrier) -> Box<dyn SnapshotStream>;
    /// A task has come to the end of its input and waits for its last checkpoint.
    fn ended(&self, task: usize);
}

/// Takes the bytes of one task's snapshot. Dropped without an end, the snapshot is given up.
pub trait SnapshotStream: Send {
    /// Bytes taken that are not written yet.
    fn backlog_bytes(&self) -> usize;
    /// Entries of a part, following those given before.
    fn block(&mut self, part: u32, entries: Written);
    /// Everything was given: acknowledges the checkpoint once it is durable.
    /// With a cut of the task's store, if it has one; carrying that out is part of it.
    fn finish(self: Box<Self>, snapshot: TaskSnapshot, cut: Option<StoreCut>);
    /// The snapshot could not be taken.
    fn fail(self: Box<Self>, error: Error);
}

/// Bytes a slice is about: some tens of microseconds.
const SLICE_BYTES: usize = 64 << 10;
/// Bytes on their way to storage from which on a task stops to write more by itself.
const BACKLOG_BYTES: usize = 4 << 20;

/// A snapshot being written.
pub(super) struct Snapshot {
    pub(super) barrier: Barrier,
    /// Whether the barrier has left the chain: only then everything is frozen.
    pub(super) has_passed: bool,
    ended: bool,
    /// Whether that is untrue if something is under way to it.
    pub(super) may_have_more: bool,
    stream: Box<dyn SnapshotStream>,
    operators: Vec<OperatorSnapshot>,
    /// Parts that are written, over all operators.
    n_done: usize,
}

impl Snapshot {
    /// Begins to write what `head` holds.
    pub(super) fn new(
        barrier: Barrier,
        ended: bool,
        stream: Box<dyn SnapshotStream>,
        operators: Vec<OperatorSnapshot>,
    ) -> Self {
        let (has_passed, may_have_more) = (false, false);
        Snapshot { barrier, has_passed, ended, may_have_more, stream, operators, n_done: 0 }
    }

    /// Whether a slice can be written now.
    pub(super) fn is_ready(&self) -> bool {
        self.has_passed && self.stream.backlog_bytes() < BACKLOG_BYTES
    }

    /// Writes a slice.
    pub(super) fn write_slice(&mut self, head: &mut dyn Head) -> Result<Slicing> {
        let mut slice = Slice {
            snapshot: self,
            operator: 0,
            part: 0,
            number: 0,
            budget: SLICE_BYTES,
            is_waiting: false,
        };
        head.visit(&mut slice)?;
        Ok(match (slice.is_waiting, slice.budget) {
            (true, _) => Slicing::Waiting,
            (false, 0) => Slicing::More,
            (false, _) => Slicing::Done,
        })
    }

    /// Bytes written so far.
    pub(super) fn n_bytes(&self) -> u64 {
        self.operators.iter().flat_map(|operator| &operator.parts).map(|part| part.n_bytes).sum()
    }

    /// Everything is written.
    pub(super) fn finish(self, vertex: usize, subtask: usize, cut: Option<StoreCut>) {
        let Snapshot { ended, stream, operators, .. } = self;
        let (file, shared) = (None, Vec::new());
        stream.finish(TaskSnapshot { vertex, subtask, ended, operators, file, shared }, cut);
    }

    /// It cannot be written.
    pub(super) fn fail(self, error: Error) {
        self.stream.fail(error);
    }
}

/// What a slice came to.
pub(super) enum Slicing {
    /// Everything is written.
    Done,
    /// There is more.
    More,
    /// There is more, but it has yet to come.
    Waiting,
}

/// Goes over all parts and writes those that are not written, until the budget is spent.
struct Slice<'s> {
    snapshot: &'s mut Snapshot,
    /// The operator and part being shown, and the part's number over all operators.
    operator: usize,
    part: usize,
    number: usize,
    budget: usize,
    is_waiting: bool,
}

impl ChainVisitor for Slice<'_> {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        self.part = 0;
        let shown = operator.parts(self);
        self.operator += usize::from(self.part > 0);
        shown.map_err(|e| e.at(site.place()))
    }
}

impl Visitor for Slice<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        let (at, number) = (self.part, self.number);
        self.part += 1;
        self.number += 1;
        // Parts are written one after the other; those before are done, those behind have to wait.
        if self.budget == 0 || number < self.snapshot.n_done {
            return Ok(());
        }
        let mut written = Written::default();
        let is_done = part.write(&mut written, self.budget)?;
        let n_bytes = written.bytes.len();
        if let Some(described) = self
            .snapshot
            .operators
            .get_mut(self.operator)
            .and_then(|operator| operator.parts.get_mut(at))
        {
            described.n_entries += written.n_entries;
            described.n_bytes += n_bytes as u64;
        }
        // There may be records for who was restored as ended.
        if self.snapshot.may_have_more && is_channel_part(name) && holds_messages(&written.bytes) {
            self.snapshot.ended = false;
        }
        if written.n_entries > 0 {
            self.snapshot.stream.block(number as u32, written);
        }
        self.is_waiting = !is_done && n_bytes == 0 && part.is_waiting();
        self.budget = if is_done { self.budget.saturating_sub(n_bytes).max(1) } else { 0 };
        self.snapshot.n_done += usize::from(is_done);
        Ok(())
    }
}

/// Describes the parts of a task's operators.
pub(super) fn describe(head: &mut dyn Head, ids: &[OperatorId]) -> Result<Vec<OperatorSnapshot>> {
    let mut described = Describe { ids, operators: Vec::new(), parts: Vec::new() };
    head.visit(&mut described)?;
    Ok(described.operators)
}

struct Describe<'a> {
    ids: &'a [OperatorId],
    operators: Vec<OperatorSnapshot>,
    parts: Vec<PartSnapshot>,
}

impl ChainVisitor for Describe<'_> {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        operator.parts(self).map_err(|e| e.at(site.place()))?;
        let parts = std::mem::take(&mut self.parts);
        if !parts.is_empty() {
            let id = self.ids.get(site.index()).copied();
            let id = id.ok_or_else(|| Error::internal("an operator of a task has no id"))?;
            self.operators.push(OperatorSnapshot { id, parts });
        }
        Ok(())
    }
}

impl Visitor for Describe<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        if self.parts.iter().any(|p| p.name == name) {
            return Err(Error::user(format!("two states are called `{name}`: rename one")));
        }
        self.parts.push(PartSnapshot {
            name: name.into(),
            kind: part.kind(),
            version: part.version(),
            shape: part.shape().map_err(|e| in_state(name, &e))?,
            n_entries: 0,
            n_bytes: 0,
        });
        Ok(())
    }
}

/// The error with the name of the state that it is about.
pub(super) fn in_state(name: &str, error: &Error) -> Error {
    let message = format!("state `{name}`: {error}");
    match error.domain() {
        Domain::User => Error::user(message),
        Domain::External => Error::external(message),
        Domain::Internal => Error::internal(message),
    }
}

/// Lets go what was frozen.
pub(super) struct Thaw;

impl ChainVisitor for Thaw {
    fn operator(&mut self, _: &Site, operator: &mut dyn Stateful) -> Result<()> {
        operator.parts(self)
    }
}

impl Visitor for Thaw {
    fn part(&mut self, _: &str, part: &mut dyn Part) -> Result<()> {
        part.thaw();
        Ok(())
    }
}
