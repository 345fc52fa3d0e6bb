//! Tests of snapshots at rest. What they share is a small checkpoint with every kind of file in it, stored
//! as a job would store it.

mod catalog;
mod corruption;
mod crash;
mod storage;
mod tools;

use super::storage::CheckpointStorage;
use super::*;
use crate::part::Written;
use crate::schema::Shape;
use millstream_model::Result;
use millstream_model::checkpoint::{CheckpointId, SnapshotKind};
use millstream_model::job_graph::OperatorId;
use std::io::Read;
use std::path::Path;

/// A checkpoint of two subtasks, with a state file and a new shared file each; `older` files are named too.
/// Contents differ between checkpoints and subtasks, lengths do not.
fn store(
    storage: &dyn CheckpointStorage,
    id: u64,
    epoch: u64,
    older: &[FileRef],
) -> Result<Manifest> {
    store_in(storage, &checkpoint_folder(CheckpointId(id), epoch), id, epoch, older)
}

/// Takes in one local file.
fn import(storage: &dyn CheckpointStorage, local_file: &Path, path: &str) -> Result<FileRef> {
    let taken = storage.import_all(&[(local_file.to_owned(), path.to_owned())])?;
    Ok(taken.into_iter().next().expect("one was given"))
}

fn store_in(
    storage: &dyn CheckpointStorage,
    folder: &str,
    id: u64,
    epoch: u64,
    older: &[FileRef],
) -> Result<Manifest> {
    let tasks = (0..2).map(|subtask| store_task(storage, folder, id, subtask, older));
    let operator = |id, name: &str, uid: Option<&str>| {
        (OperatorId(id), name.to_owned(), uid.map(str::to_owned))
    };
    let manifest = Manifest {
        id: CheckpointId(id),
        epoch,
        kind: SnapshotKind::Checkpoint,
        completed_at_ms: 1_700_000_000_000 + id as i64,
        job: "flights".to_owned(),
        vertices: vec![VertexSnapshot {
            operators: vec![operator(1, "count", None), operator(u64::MAX, "join", Some("left"))],
            parallelism: 2,
            max_parallelism: 128,
        }],
        tasks: tasks.collect::<Result<_>>()?,
    };
    write_manifest(storage, folder, &manifest)?;
    Ok(manifest)
}

fn store_task(
    storage: &dyn CheckpointStorage,
    folder: &str,
    id: u64,
    subtask: usize,
    older: &[FileRef],
) -> Result<TaskSnapshot> {
    let content = |n: u8| Written { bytes: vec![n, id as u8, subtask as u8], n_entries: 3 };
    let path =
        |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let mut writer = StateFileWriter::create(storage, &path(&format!("0-{subtask}.state")))?;
    writer.block(0, &content(10))?;
    writer.block(2, &content(11))?;
    writer.block(0, &content(12))?;
    let file = writer.finish()?;
    let mut table = storage.create(&path(&format!("0-{subtask}.table")))?;
    table.write(b"a table of ")?;
    table.write(&content(13).bytes)?;
    let part = |name: &str, kind, n_entries| PartSnapshot {
        name: name.to_owned(),
        kind,
        version: 0,
        shape: Shape::Tuple(vec![Shape::Text, Shape::Int { bits: 64, signed: true }]),
        n_entries,
        n_bytes: n_entries,
    };
    let counts = vec![part("counts", PartKind::Keyed, 6), part("offsets", PartKind::Split, 0)];
    Ok(TaskSnapshot {
        vertex: 0,
        subtask,
        ended: false,
        operators: vec![
            OperatorSnapshot { id: OperatorId(1), parts: counts },
            OperatorSnapshot {
                id: OperatorId(u64::MAX),
                parts: vec![part("waiting", PartKind::Keyed, 3)],
            },
        ],
        file: Some(file),
        shared: older.iter().cloned().chain([table.finish()?]).collect(),
    })
}

/// Reads a checkpoint as a restore does: all of every file, before anything of it is used.
fn restore(storage: &dyn CheckpointStorage, folder: &str) -> Result<Vec<Vec<u8>>> {
    let manifest = read_manifest(storage, folder)?;
    let mut contents = Vec::new();
    for task in &manifest.tasks {
        if let Some(file) = &task.file {
            let blocks = StateFileReader::open(storage, file)?;
            contents.extend(blocks.map(|block| Ok(block?.bytes)).collect::<Result<Vec<_>>>()?);
        }
        for file in &task.shared {
            contents.push(storage.read_all(file)?);
        }
    }
    Ok(contents)
}

/// What lies under a path, unchecked.
fn raw(storage: &dyn CheckpointStorage, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    storage.open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
