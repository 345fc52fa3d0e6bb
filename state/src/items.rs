//! Operator state: a few values of a subtask that belong to no key.
//!
//! Positions of splits, the progress of a clock, what a sink has yet to commit. They are few, so they are
//! simply copied (as bytes) when the snapshot is taken. What becomes of them when the parallelism changes is
//! their kind: dealt out, given to everybody, or the same everywhere.

use crate::log::Log;
use crate::part::{Entries, Part, Written};
use crate::schema::{Schema, Shape};
use crate::snapshot::PartKind;
use millstream_model::{Data, Result, SnapshotKind};

/// See the module's text.
pub struct Items<T> {
    /// The values. After a restore: those that belong to this subtask.
    pub values: Vec<T>,
    kind: PartKind,
    schema: Schema<T>,
    /// Whether a subtask that is what it was wants only what it wrote itself.
    keeps_own: bool,
    frozen: Option<Log>,
}

impl<T: Data> Items<T> {
    fn new(kind: PartKind) -> Self {
        Items::described(kind, Schema::recorded())
    }

    /// Values with a schema.
    pub fn described(kind: PartKind, schema: Schema<T>) -> Self {
        Items { values: Vec::new(), kind, schema, keeps_own: false, frozen: None }
    }

    /// Values that are dealt out to all subtasks.
    pub fn split() -> Self {
        Items::new(PartKind::Split)
    }

    /// Values all of which every subtask gets.
    pub fn union() -> Self {
        Items::new(PartKind::Union)
    }

    /// Values all of which every subtask gets if the parallelism has changed; otherwise each gets its own.
    pub fn own_or_union() -> Self {
        Items { keeps_own: true, ..Items::new(PartKind::Union) }
    }

    /// Values that are the same in all subtasks.
    pub fn broadcast() -> Self {
        Items::new(PartKind::Broadcast)
    }
}

impl<T: Data> Part for Items<T> {
    fn kind(&self) -> PartKind {
        self.kind
    }

    fn shape(&self) -> Result<Shape> {
        self.schema.shape()
    }

    fn version(&self) -> u32 {
        self.schema.version_number()
    }

    fn freeze(&mut self, _: SnapshotKind) {
        let schema = self.schema;
        let mut log = Log::new(Box::new(move || schema.shape()));
        self.values.iter().for_each(|value| log.push(value));
        self.frozen = Some(log);
    }

    fn write(&mut self, out: &mut Written, _: usize) -> Result<bool> {
        if let Some(mut log) = self.frozen.take() {
            log.hand_over(out)?;
        }
        Ok(true)
    }

    fn thaw(&mut self) {
        self.frozen = None;
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        let (kind, assignment) = (self.kind, entries.assignment);
        let is_same = assignment.parallelism == assignment.n_writers;
        if self.keeps_own && is_same && assignment.writer != assignment.subtask {
            return Ok(());
        }
        let reader = self.schema.reader(entries.shape, entries.version)?;
        entries.walk(|index, bytes| {
            let (value, taken) = reader.read(bytes)?;
            let belongs = match kind {
                PartKind::Split => assignment.is_dealt(index as usize),
                PartKind::Union => true,
                // Equal in all writers: taken from one that is certain to be there.
                PartKind::Broadcast | PartKind::Keyed => assignment.writer == 0,
            };
            if belongs {
                self.values.push(value);
            }
            Ok(taken)
        })
    }
}
