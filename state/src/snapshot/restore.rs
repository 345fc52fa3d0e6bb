//! A checkpoint that a job goes on from: whoever decides finds it, whoever runs the tasks reads it.

use super::{CheckpointStorage, Manifest, StateFileReader, TaskSnapshot};
use crate::codec;
use millstream_model::job_graph::OperatorId;
use millstream_model::{Data, Result};
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
            let mut blocks = StateFileReader::open(&*self.storage, file)?;
            while let Some(block) = blocks.next().transpose()? {
                if numbers.contains(&block.part)
                    && let Err(error) = decode_into(&block.bytes, &mut found)
                {
                    return Err(blocks.explain(error));
                }
            }
        }
        Ok(found)
    }

    /// What the subtasks of a task's operators wrote, with their number, in order.
    pub fn writers<'a>(
        &'a self,
        ids: &'a [OperatorId],
    ) -> impl Iterator<Item = (&'a TaskSnapshot, usize)> {
        let vertices: Vec<usize> = ids.iter().filter_map(|id| self.vertex_of(*id)).collect();
        let of = |t: &&TaskSnapshot| vertices.contains(&t.vertex);
        let tasks: Vec<&TaskSnapshot> = self.manifest.tasks.iter().filter(of).collect();
        tasks.into_iter().map(|t| (t, self.manifest.vertices[t.vertex].parallelism))
    }

    /// The vertex an operator was in, if the checkpoint knows it.
    pub fn vertex_of(&self, id: OperatorId) -> Option<usize> {
        self.manifest.vertices.iter().position(|v| v.operators.iter().any(|o| o.0 == id))
    }
}

fn decode_into<T: Data>(mut bytes: &[u8], entries: &mut Vec<T>) -> Result<()> {
    while !bytes.is_empty() {
        let (entry, taken) = codec::decode(bytes)?;
        entries.push(entry);
        bytes = &bytes[taken..];
    }
    Ok(())
}
