//! What lies in the trees of a checkpoint, and not in its state files.
//!
//! What a state file has replaces what the task's tree has of the same key, so that counts once. Which key a stored entry has
//! is not to be seen without its type; but keys are encoded such that none is the beginning of another, so it is enough
//! to know where entries end, and that their shape tells.

use super::tools::{self, Inspection};
use super::{
    CheckpointStorage, PartKind, PartSnapshot, StateFileReader, TaskSnapshot, read_manifest,
};
use crate::lsm::{Expiry, Lsm, Open, end_of_prefix};
use crate::schema::encoded_len;
use crate::store::{Backend, KEY_HEADER_BYTES, has_part, part_prefix};
use millstream_model::Result;
use millstream_model::job_graph::OperatorId;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Sums up a snapshot as [`tools::inspect`] does, with all that lies in its trees: they are read for that. Entries of types that
/// only the program can read count twice if the tree and the state file of a task have them both.
///
/// # Errors
/// If the snapshot cannot be read, or the backend is another one than wrote it.
pub fn inspect(
    storage: &dyn CheckpointStorage,
    folder: &str,
    backend: &Backend,
) -> Result<Inspection> {
    let manifest = read_manifest(storage, folder)?;
    let mut inspection = tools::inspect(storage, folder)?;
    let with_trees = manifest.tasks.iter().filter(|task| !task.shared.is_empty());
    for (index, task) in with_trees.enumerate() {
        let dir = backend.dir.join(format!("{}-inspected-{index}", backend.run));
        let counted = in_tree(storage, task, backend, &dir);
        // What cannot be deleted lies in the caller's folder.
        let _ = std::fs::remove_dir_all(&dir);
        for (id, name, n_entries, n_bytes) in counted? {
            let mut parts = inspection.parts.iter_mut();
            if let Some(part) = parts.find(|part| part.operator == id && part.name == name) {
                part.n_entries += n_entries;
                part.n_bytes += n_bytes;
            }
        }
    }
    inspection.counts_trees = true;
    Ok(inspection)
}

/// Of each keyed part of a task, how many entries only its tree has, and their length.
fn in_tree<'t>(
    storage: &dyn CheckpointStorage,
    task: &'t TaskSnapshot,
    backend: &Backend,
    dir: &std::path::Path,
) -> Result<Vec<(OperatorId, &'t str, u64, u64)>> {
    let files = backend.fetch(storage, &task.shared, &dir.join("files"), false)?;
    let tree = backend.engine.open(Open {
        dir: &dir.join("tree"),
        instance: "inspected",
        files: &files,
        expiry: Expiry::never(),
    })?;
    let parts = || task.operators.iter().flat_map(|o| o.parts.iter().map(|part| (o.id, part)));
    let mut in_trees: BTreeMap<u32, (OperatorId, &PartSnapshot)> = BTreeMap::new();
    for (number, (id, part)) in (0..).zip(parts()).filter(|(_, (_, p))| p.kind == PartKind::Keyed) {
        if has_part(&*tree, id, &part.name)? {
            in_trees.insert(number, (id, part));
        }
    }
    let in_file = in_file(storage, task, &in_trees)?;
    let mut counted = Vec::new();
    for (number, (id, part)) in in_trees {
        let in_file = in_file.get(&number).map_or(&[][..], Vec::as_slice);
        let (n_entries, n_bytes) = count(&*tree, id, &part.name, in_file)?;
        counted.push((id, part.name.as_str(), n_entries, n_bytes));
    }
    Ok(counted)
}

/// The entries of a part in a tree that are not among those, which are sorted: how many, and their length.
fn count(tree: &dyn Lsm, id: OperatorId, part: &str, others: &[Vec<u8>]) -> Result<(u64, u64)> {
    let prefix = part_prefix(id, part);
    let (mut n_entries, mut n_bytes) = (0, 0);
    tree.scan(&prefix, end_of_prefix(&prefix).as_deref(), &mut |key, value| {
        let key = &key[KEY_HEADER_BYTES..];
        let next = others.partition_point(|other| &other[..] < key);
        if !others.get(next).is_some_and(|other| other.starts_with(key)) {
            n_entries += 1;
            n_bytes += (key.len() + value.len()) as u64;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((n_entries, n_bytes))
}

/// The entries of these parts in a task's state file, sorted, by the part's number.
fn in_file(
    storage: &dyn CheckpointStorage,
    task: &TaskSnapshot,
    parts: &BTreeMap<u32, (OperatorId, &PartSnapshot)>,
) -> Result<BTreeMap<u32, Vec<Vec<u8>>>> {
    let mut found: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    let Some(file) = &task.file else { return Ok(found) };
    for block in StateFileReader::open(storage, file)? {
        let block = block?;
        let Some((_, part)) = parts.get(&block.part) else { continue };
        if part.shape.has_opaque() {
            continue;
        }
        let mut rest = &block.bytes[..];
        while !rest.is_empty() {
            let (entry, others) = rest.split_at(encoded_len(rest, &part.shape)?.max(1));
            found.entry(block.part).or_default().push(entry.to_vec());
            rest = others;
        }
    }
    found.values_mut().for_each(|entries| entries.sort_unstable());
    Ok(found)
}
