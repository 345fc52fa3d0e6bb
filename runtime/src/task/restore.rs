//! Filling a task's operators from a snapshot.
//!
//! Every file that a subtask of one of the task's operators wrote is read once, block by block; the operator
//! (by its id) and the part (by its name) take what belongs to this subtask. So it is of no matter how many
//! subtasks wrote, which operators were fused, or in which order the parts stand.

use super::Head;
use super::snapshot::in_state;
use crate::chain::{ChainVisitor, Site, Stateful};
use millstream_model::job_graph::OperatorId;
use millstream_model::{Data, Error, Result};
use millstream_state::part::Entries;
use millstream_state::snapshot::{
    Assignment, CheckpointStorage, Manifest, PartKind, PartSnapshot, StateFileReader, TaskSnapshot,
};
use millstream_state::{Part, Visitor, codec};
use std::collections::HashMap;
use std::sync::Arc;

/// A checkpoint to start from.
#[derive(Clone)]
pub struct Restore {
    /// Where its files are.
    pub storage: Arc<dyn CheckpointStorage>,
    /// What it is made of.
    pub manifest: Arc<Manifest>,
    /// Whether state that no operator asks for is passed over.
    pub allow_non_restored: bool,
}

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

impl Restore {
    /// All entries of an operator's part, whoever wrote them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn entries_of<T: Data>(&self, id: OperatorId, part: &str) -> Result<Vec<T>> {
        let mut found = Vec::new();
        for writer in &self.manifest.tasks {
            let parts = writer.operators.iter().flat_map(|o| o.parts.iter().map(|p| (o.id, p)));
            let numbers: Vec<u32> = (0..)
                .zip(parts)
                .filter(|(_, (operator, p))| *operator == id && p.name == part)
                .map(|(number, _)| number)
                .collect();
            let Some(file) = writer.file.as_ref().filter(|_| !numbers.is_empty()) else { continue };
            for block in StateFileReader::open(&*self.storage, file)? {
                let block = block?;
                if numbers.contains(&block.part) {
                    let mut rest = &block.bytes[..];
                    while !rest.is_empty() {
                        let (entry, taken) = codec::decode(rest)?;
                        found.push(entry);
                        rest = &rest[taken..];
                    }
                }
            }
        }
        Ok(found)
    }

    /// What the subtasks of a task's operators wrote, with their number, in order.
    pub(super) fn writers<'a>(
        &'a self,
        ids: &'a [OperatorId],
    ) -> impl Iterator<Item = (&'a TaskSnapshot, usize)> {
        let vertices: Vec<usize> = ids.iter().filter_map(|id| self.vertex_of(*id)).collect();
        let of = |t: &&TaskSnapshot| vertices.contains(&t.vertex);
        let tasks: Vec<&TaskSnapshot> = self.manifest.tasks.iter().filter(of).collect();
        tasks.into_iter().map(|t| (t, self.manifest.vertices[t.vertex].parallelism))
    }

    /// The vertex an operator was in, if the checkpoint knows it.
    fn vertex_of(&self, id: OperatorId) -> Option<usize> {
        self.manifest.vertices.iter().position(|v| v.operators.iter().any(|o| o.0 == id))
    }

    /// Fills the operators behind `head`; whether the task had ended.
    pub(super) fn fill(&self, head: &mut dyn Head, task: &Subtask<'_>) -> Result<bool> {
        // Number of writers by operator.
        let mut n_writers: HashMap<OperatorId, usize> = HashMap::new();
        let mut vertices = Vec::new();
        for &id in task.ids {
            if let Some(vertex) = self.vertex_of(id) {
                n_writers.insert(id, self.manifest.vertices[vertex].parallelism);
                vertices.push(vertex);
            }
        }
        head.visit(&mut Begin { ids: task.ids, known: &n_writers })?;
        let writers = || self.manifest.tasks.iter().filter(|t| vertices.contains(&t.vertex));
        for writer in writers() {
            let Some(file) = &writer.file else { continue };
            let parts: Vec<(OperatorId, &PartSnapshot)> = writer
                .operators
                .iter()
                .flat_map(|operator| operator.parts.iter().map(|part| (operator.id, part)))
                .collect();
            for block in StateFileReader::open(&*self.storage, file)? {
                let block = block?;
                let Some((id, part)) = parts.get(block.part as usize) else {
                    return Err(Error::external(format!(
                        "`{}` holds a part that its manifest does not name: verify the checkpoint",
                        self.storage.locate(&file.path)
                    )));
                };
                let Some(n_writers) = n_writers.get(id) else { continue };
                let assignment = task.assignment(writer.subtask, *n_writers);
                if part.kind == PartKind::Keyed && !assignment.overlaps() {
                    continue;
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
                if !fill.is_taken && !self.allow_non_restored {
                    return Err(Error::user(format!(
                        "the checkpoint holds a state `{}` that its operator no longer declares: declare it, \
                         or restore with `allow-non-restored` to leave it behind",
                        part.name
                    )));
                }
            }
        }
        let ended = !vertices.is_empty() && writers().all(|writer| writer.ended);
        head.visit(&mut Finish { ended })?;
        Ok(ended)
    }
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
struct Finish {
    ended: bool,
}

impl ChainVisitor for Finish {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        if self.ended {
            operator.ended();
        }
        operator.restored().map_err(|e| e.at(site.place()))
    }
}
