//! Checkpoints and savepoints at rest: needs their files, and no cluster.

use super::{print, write_out};
use crate::args;
use crate::failure::{Failure, Kind, Outcome};
use crate::settings::absolute;
use crate::table::{bytes, table, time};
use millstream::model::Error;
use millstream::state::snapshot::{LocalStorage, tools};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where snapshots are: a storage, and the folders of those that are meant.
struct Found {
    storage: LocalStorage,
    folders: Vec<String>,
}

/// The snapshot in a folder, or all that are in it.
fn find(path: &Path) -> Outcome<Found> {
    let path = absolute(path.to_path_buf()).map_err(Failure::usage)?;
    let nothing =
        || Failure::not_found(format!("there is no checkpoint or savepoint in {}", path.display()));
    if !path.is_dir() {
        return Err(nothing());
    }
    // A checkpoint names files of its siblings, so the storage is the folder above; a savepoint's are its own.
    let (root, folder) = match path.join("manifest").exists() {
        true => split(&path)?,
        false => (path.clone(), None),
    };
    let storage = LocalStorage::new(&root).map_err(Failure::refused)?;
    let folders = match folder {
        Some(folder) => vec![folder],
        None => {
            let listed = tools::list(&storage).map_err(Failure::refused)?;
            listed.into_iter().map(|listed| listed.folder).collect()
        }
    };
    match folders.is_empty() {
        true => Err(nothing()),
        false => Ok(Found { storage, folders }),
    }
}

fn split(path: &Path) -> Outcome<(PathBuf, Option<String>)> {
    match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(root), Some(name)) => Ok((root.to_path_buf(), Some(name.to_string()))),
        _ => Err(Failure::usage(format!("{} cannot be a snapshot's folder", path.display()))),
    }
}

pub(crate) fn verify(json: bool, snapshot: &args::Snapshot) -> Outcome {
    let found = find(&snapshot.path)?;
    let mut n_damaged = 0;
    let mut results = Vec::new();
    for folder in &found.folders {
        let problems = tools::verify(&found.storage, folder);
        n_damaged += usize::from(!problems.is_empty());
        if !json {
            let verdict = if problems.is_empty() { "whole" } else { "DAMAGED" };
            write_out(format!("{} {verdict}\n", shown(folder)).as_bytes());
            for problem in &problems {
                write_out(format!("  {problem}\n").as_bytes());
            }
        }
        let problems = problems
            .iter()
            .map(|problem| json!({ "file": problem.file, "error": problem.error.to_string() }));
        results.push(json!({ "folder": folder, "problems": problems.collect::<Vec<_>>() }));
    }
    if json {
        print(true, &results, String::new)?;
    }
    match n_damaged {
        0 => Ok(()),
        n => {
            let text = format!("{n} of {} snapshots are damaged", found.folders.len());
            Err(Failure::Error(Kind::Damaged, Error::external(text)))
        }
    }
}

pub(crate) fn inspect(json: bool, snapshot: &args::Snapshot) -> Outcome {
    let found = find(&snapshot.path)?;
    if found.folders.len() > 1 {
        return list(json, &found);
    }
    let folder = &found.folders[0];
    let mut inspection = tools::inspect(&found.storage, folder)
        .map_err(|error| Failure::Error(Kind::Damaged, error))?;
    // What can be told is told, also of a checkpoint whose trees cannot be read.
    let mut uncounted = None;
    if inspection.shared.0 > 0 {
        match with_trees(&found.storage, folder) {
            Ok(counted) => inspection = counted,
            Err(why) => uncounted = Some(why),
        }
    }
    let parts = inspection.parts.iter().map(|part| {
        json!({
            "operator": part.operator_name,
            "state": part.name,
            "kind": format!("{:?}", part.kind),
            "versions": part.versions,
            "subtasks": part.n_subtasks,
            "entries": part.n_entries,
            "bytes": part.n_bytes,
        })
    });
    let value = json!({
        "job": inspection.job,
        "snapshot": summary(folder, &inspection.summary),
        "parts": parts.collect::<Vec<_>>(),
        "tree-files": inspection.shared.0,
        "tree-bytes": inspection.shared.1,
        "counts-trees": inspection.counts_trees,
        "trees-not-counted-because": uncounted,
    });
    print(json, &value, || match &uncounted {
        Some(why) => format!("{inspection}They cannot be counted: {why}\n"),
        None => inspection.to_string(),
    })
}

/// Counts what lies in trees, too; or tells why not.
#[cfg(feature = "rocksdb")]
fn with_trees(storage: &LocalStorage, folder: &str) -> Result<tools::Inspection, String> {
    use millstream::state::lsm::{MemoryBudget, RocksEngine};
    use millstream::state::snapshot::trees;
    use millstream::state::store::Backend;
    use std::sync::Arc;

    /// For the blocks of tables that are read, each once.
    const CACHE_BYTES: usize = 64 << 20;

    let dir = tempfile::tempdir().map_err(|e| format!("there is no place for them: {e}"))?;
    let budget = MemoryBudget::new(CACHE_BYTES);
    let engine = Arc::new(RocksEngine::new(&budget, 1));
    let backend = Backend::new(engine, budget, dir.path().to_owned(), "inspect".into());
    trees::inspect(storage, folder, &backend).map_err(|error| error.to_string())
}

#[cfg(not(feature = "rocksdb"))]
fn with_trees(_: &LocalStorage, _: &str) -> Result<tools::Inspection, String> {
    Err("this command was built without the feature `rocksdb`".into())
}

/// Of several, which there are.
fn list(json: bool, found: &Found) -> Outcome {
    let listed = tools::list(&found.storage).map_err(Failure::refused)?;
    let values: Vec<_> = listed
        .iter()
        .map(|listed| match &listed.summary {
            Ok(found) => summary(&listed.folder, found),
            Err(error) => json!({ "folder": listed.folder, "error": error.to_string() }),
        })
        .collect();
    print(json, &values, || {
        let row = |listed: &tools::Listed| match &listed.summary {
            Ok(summary) => [
                shown(&listed.folder).to_string(),
                format!("{:?}", summary.kind).to_lowercase(),
                format!("{} UTC", time(summary.completed_at_ms)),
                summary.n_files.to_string(),
                bytes(summary.n_bytes),
            ],
            Err(error) => {
                let dash = || "-".to_string();
                [shown(&listed.folder).to_string(), error.to_string(), dash(), dash(), dash()]
            }
        };
        let rows: Vec<_> = listed.iter().map(row).collect();
        table(["SNAPSHOT", "KIND", "COMPLETED", "FILES", "SIZE"], &rows)
    })
}

fn summary(folder: &str, summary: &tools::Summary) -> Value {
    json!({
        "folder": folder,
        "id": summary.id.0,
        "epoch": summary.epoch,
        "kind": format!("{:?}", summary.kind).to_lowercase(),
        "completed-at-ms": summary.completed_at_ms,
        "files": summary.n_files,
        "bytes": summary.n_bytes,
    })
}

fn shown(folder: &str) -> &str {
    if folder.is_empty() { "." } else { folder }
}
