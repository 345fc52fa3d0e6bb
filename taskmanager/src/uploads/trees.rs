//! The files of a task's store on their way to storage.
//!
//! A checkpoint of the job's holds the files themselves, and only those are stored that storage does not have:
//! a table that a *completed* checkpoint brought there is merely named again. A savepoint must be readable by
//! any backend, so its entries are written into the state file as if they had been in memory; they are the
//! same bytes.

use super::Target;
use millstream_model::{CheckpointId, Error, Result};
use millstream_state::Written;
use millstream_state::lsm::{Content, LsmFile, Open, end_of_prefix};
use millstream_state::snapshot::{CheckpointStorage, FileRef, StateFileWriter, TaskSnapshot};
use millstream_state::store::{
    Backend, KEY_HEADER_BYTES, StoreCut, part_prefix, stored_path, tree_name,
};
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

/// Entries of a savepoint are written in blocks of about so many bytes.
const BLOCK_BYTES: usize = 256 << 10;

/// What of one task's files is in storage.
#[derive(Default)]
pub(super) struct Stored {
    /// By what the tree calls them: where, and which checkpoint brought them there; `None` when it is known to be complete.
    files: HashMap<String, (Option<CheckpointId>, FileRef)>,
}

impl Stored {
    /// The files of a checkpoint that is the job's own.
    pub(super) fn of(files: &[FileRef]) -> Self {
        let named = files.iter().map(|file| (tree_name(&file.path), (None, file.clone())));
        Stored { files: named.collect() }
    }

    /// Stores what is not there, and names everything. Of the `completed` checkpoints it needs those since the last call.
    pub(super) fn store(
        &mut self,
        checkpoint: CheckpointId,
        completed: &BTreeSet<CheckpointId>,
        target: &Target,
        files: &[LsmFile],
    ) -> Result<Vec<FileRef>> {
        let known = |file: &LsmFile| {
            let (brought_by, stored) = self.files.get(&file.name)?;
            let is_there = file.immutable && brought_by.is_none_or(|by| completed.contains(&by));
            is_there.then(|| stored.clone())
        };
        let known: Vec<Option<FileRef>> = files.iter().map(known).collect();
        let missing = files.iter().zip(&known).filter(|(_, known)| known.is_none());
        let folder = format!("{}.tree", target.folder);
        let mut brought = bring(&*target.storage, &folder, missing.map(|(file, _)| file))?;
        let mut named = Vec::new();
        let mut kept = HashMap::new();
        for (file, known) in files.iter().zip(known) {
            let (brought_by, stored) = match (known, brought.remove(&file.name)) {
                (Some(stored), _) => (None, stored),
                (None, Some(stored)) => (Some(checkpoint), stored),
                (None, None) => return Err(Error::internal("storage has not taken in a file")),
            };
            named.push(stored.clone());
            kept.insert(file.name.clone(), (brought_by, stored));
        }
        // What the tree no longer has it will never have again.
        self.files = kept;
        Ok(named)
    }
}

/// Stores files that storage does not have; their references, by what the tree calls them.
fn bring<'f>(
    storage: &dyn CheckpointStorage,
    folder: &str,
    files: impl Iterator<Item = &'f LsmFile>,
) -> Result<HashMap<String, FileRef>> {
    let mut stored = HashMap::new();
    let (mut names, mut of_disk) = (Vec::new(), Vec::new());
    for file in files {
        let path = stored_path(folder, &file.name);
        match &file.content {
            Content::File(local) => {
                names.push(file.name.clone());
                of_disk.push((local.clone(), path));
            }
            Content::Memory(bytes) => {
                let mut object = storage.create(&path)?;
                object.write(bytes)?;
                stored.insert(file.name.clone(), object.finish()?);
            }
        }
    }
    stored.extend(names.into_iter().zip(storage.import_all(&of_disk)?));
    Ok(stored)
}

/// Writes all entries of a cut into a state file.
pub(super) fn write_entries(
    backend: &Backend,
    cut: &StoreCut,
    files: &[LsmFile],
    snapshot: &mut TaskSnapshot,
    mut write: impl FnMut(u32, &Written) -> Result<()>,
) -> Result<()> {
    let tree = backend.engine.open(Open {
        dir: &cut.dir().with_extension("read"),
        instance: "read",
        files,
        expiry: Default::default(),
    })?;
    let mut number = 0;
    for operator in &mut snapshot.operators {
        for part in &mut operator.parts {
            let prefix = part_prefix(operator.id, &part.name);
            let end = end_of_prefix(&prefix);
            let mut block = Written::default();
            let mut flush =
                |block: &mut Written, part: &mut millstream_state::snapshot::PartSnapshot| {
                    part.n_entries += block.n_entries;
                    part.n_bytes += block.bytes.len() as u64;
                    let written = write(number, block);
                    *block = Written::default();
                    written
                };
            tree.scan(&prefix, end.as_deref(), &mut |key, value| {
                block.bytes.extend_from_slice(&key[KEY_HEADER_BYTES..]);
                block.bytes.extend_from_slice(value);
                block.n_entries += 1;
                if block.bytes.len() >= BLOCK_BYTES {
                    flush(&mut block, part)?;
                }
                Ok(ControlFlow::Continue(()))
            })?;
            flush(&mut block, part)?;
            number += 1;
        }
    }
    drop(tree);
    // What cannot be deleted lies in the job's own folder.
    let _ = std::fs::remove_dir_all(cut.dir().with_extension("read"));
    Ok(())
}

/// Closes a state file that may not have been begun.
pub(super) fn close(writer: Option<StateFileWriter>) -> Result<Option<FileRef>> {
    writer.map(StateFileWriter::finish).transpose()
}
