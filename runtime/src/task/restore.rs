//! Filling a task's operators from a snapshot.
//!
//! Every file that a subtask of one of the task's operators wrote is read once, block by block; the operator
//! (by its id) and the part (by its name) take what belongs to this subtask. So it is of no matter how many
//! subtasks wrote, which operators were fused, or in which order the parts stand.

use super::Head;
use super::snapshot::in_state;
use crate::chain::{ChainVisitor, Site, Stateful};
use crate::exchange::{holds_messages, is_channel_part};
use millstream_model::job_graph::OperatorId;
use millstream_model::{Error, Result};
use millstream_state::part::Entries;
pub use millstream_state::snapshot::Restore;
use millstream_state::snapshot::{
    Assignment, Block, PartKind, PartSnapshot, StateFileReader, TaskSnapshot,
};
use millstream_state::{Part, Visitor};
use std::collections::HashMap;

/// The subtask that restores.
pub(super) struct Subtask<'a> {
    pub(super) ids: &'a [OperatorId],
    pub(super) subtask: usize,
    pub(super) parallelism: usize,
    pub(super) max_parallelism: u32,
}

impl Subtask<'_> {
    /// Which entries of a writer belong here.
    pub(super) fn assignment(&self, writer: usize, n_writers: usize) -> Assignment {
        Assignment {
            subtask: self.subtask,
            parallelism: self.parallelism,
            max_parallelism: self.max_parallelism,
            writer,
            n_writers,
        }
    }
}

/// Fills the operators behind `head`; whether all of them had come to their end.
pub(super) fn fill(restore: &Restore, head: &mut dyn Head, task: &Subtask<'_>) -> Result<bool> {
    // Number of writers by operator.
    let mut n_writers: HashMap<OperatorId, usize> = HashMap::new();
    let mut vertices = Vec::new();
    for &id in task.ids {
        if let Some(vertex) = restore.vertex_of(id) {
            n_writers.insert(id, restore.manifest.vertices[vertex].parallelism);
            vertices.push(vertex);
        }
    }
    head.visit(&mut Begin { ids: task.ids, known: &n_writers })?;
    let writers = || restore.manifest.tasks.iter().filter(|t| vertices.contains(&t.vertex));
    for writer in writers() {
        let Some(file) = &writer.file else { continue };
        let parts: Vec<(OperatorId, &PartSnapshot)> = writer
            .operators
            .iter()
            .flat_map(|operator| operator.parts.iter().map(|part| (operator.id, part)))
            .collect();
        let mut give = |block: &Block| {
            let Some((id, part)) = parts.get(block.part as usize) else {
                let what = "it holds a part that its manifest does not name: verify the checkpoint";
                return Err(Error::external(what));
            };
            let Some(n_writers) = n_writers.get(id) else { return Ok(()) };
            let assignment = task.assignment(writer.subtask, *n_writers);
            if part.kind == PartKind::Keyed && !assignment.overlaps() {
                return Ok(());
            }
            let entries = Entries {
                bytes: &block.bytes,
                assignment: &assignment,
                shape: &part.shape,
                version: part.version,
                first: block.first,
            };
            let mut fill = Fill { ids: task.ids, id: *id, part, entries, is_taken: false };
            head.visit(&mut fill)?;
            let is_void = is_channel_part(&part.name) && !holds_messages(&block.bytes);
            match fill.is_taken || restore.allow_non_restored || is_void {
                true => Ok(()),
                false => Err(not_declared(&part.name)),
            }
        };
        let mut blocks = StateFileReader::open(&*restore.storage, file)?;
        while let Some(block) = blocks.next().transpose()? {
            if let Err(error) = give(&block) {
                return Err(blocks.explain(error));
            }
        }
    }
    // With the same parallelism each goes on where it was.
    let is_own = |writer: &&TaskSnapshot| {
        let vertex = restore.manifest.vertices.get(writer.vertex);
        let is_same = vertex.is_some_and(|vertex| vertex.parallelism == task.parallelism);
        !is_same || writer.subtask == task.subtask
    };
    let ended = !vertices.is_empty() && writers().filter(is_own).all(|writer| writer.ended);
    head.visit(&mut Finish { ids: task.ids, known: &n_writers, ended })?;
    Ok(ended && task.ids.iter().all(|id| n_writers.contains_key(id)))
}

/// A checkpoint holds what nobody takes.
pub(super) fn not_declared(part: &str) -> Error {
    if is_channel_part(part) {
        return Error::user(format!(
            "the checkpoint holds records that were under way (`{part}`), and what they were on their way to has no such input \
             now, because it is fused with what comes before it, or gone: restore with the parallelism and chaining that it \
             was taken with, and change them over a savepoint, which holds none; `allow-non-restored` loses these records"
        ));
    }
    Error::user(format!(
        "the checkpoint holds a state `{part}` that its operator no longer declares: declare it, or restore with \
         `allow-non-restored` to leave it behind"
    ))
}

/// Prepares the operators that the checkpoint knows.
struct Begin<'a> {
    ids: &'a [OperatorId],
    known: &'a HashMap<OperatorId, usize>,
}

impl ChainVisitor for Begin<'_> {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        if self.ids.get(site.index()).is_some_and(|id| self.known.contains_key(id)) {
            operator.restoring();
        }
        Ok(())
    }
}

/// Gives entries to the part they are of.
struct Fill<'a> {
    ids: &'a [OperatorId],
    id: OperatorId,
    part: &'a PartSnapshot,
    entries: Entries<'a>,
    is_taken: bool,
}

impl ChainVisitor for Fill<'_> {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        if self.is_taken || self.ids.get(site.index()) != Some(&self.id) {
            return Ok(());
        }
        operator.parts(self).map_err(|e| e.at(site.place()))
    }
}

impl Visitor for Fill<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        if self.is_taken || name != self.part.name {
            return Ok(());
        }
        self.is_taken = true;
        if part.kind() != self.part.kind {
            return Err(Error::user(format!(
                "state `{name}` was {:?} in the checkpoint and is {:?} now: give it another name",
                self.part.kind,
                part.kind()
            )));
        }
        part.restore(&self.entries).map_err(|e| in_state(name, &e))
    }
}

/// Lets every operator make up the rest.
struct Finish<'a> {
    ids: &'a [OperatorId],
    known: &'a HashMap<OperatorId, usize>,
    ended: bool,
}

impl ChainVisitor for Finish<'_> {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        let is_known = self.ids.get(site.index()).is_some_and(|id| self.known.contains_key(id));
        if self.ended && is_known {
            operator.ended();
        }
        operator.restored().map_err(|e| e.at(site.place()))
    }
}
