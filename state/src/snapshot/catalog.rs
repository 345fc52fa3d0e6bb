//! Which checkpoints a storage holds, which of them is the newest, and what belongs to none.
//!
//! Checkpoints are known by their folders `chk-<id>-<epoch>`; one without a manifest never was, unless its
//! [`mark`](super::mark) tells that it was. A file lies
//! in the folder of the checkpoint that stored it first, also when later ones name it too, so whatever an
//! unfinished checkpoint has stored is in its own folder. Nothing outside of such folders is ever touched:
//! savepoints are the user's, wherever they lie.

use super::manifest::{checkpoint_folder, manifest_path, parse_checkpoint_folder, read_manifest};
use super::storage::CheckpointStorage;
use super::{Manifest, tools};
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Error, Result};
use std::collections::BTreeSet;

/// The newest checkpoint.
#[derive(Debug)]
pub struct Latest {
    /// Its folder.
    pub folder: String,
    /// Its manifest.
    pub manifest: Manifest,
    /// Newer ones that were passed over because they are damaged, newest first, and what is wrong with each.
    /// Always empty unless that was allowed.
    pub skipped: Vec<(String, Error)>,
}

/// The folders of all completed checkpoints, oldest first.
///
/// # Errors
/// If the storage fails.
pub fn completed(storage: &dyn CheckpointStorage) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in storage.list("chk-")? {
        if let Some((folder, "manifest")) = path.rsplit_once('/')
            && let Some(number) = parse_checkpoint_folder(folder)
        {
            found.push((number, folder.to_owned()));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, folder)| folder).collect())
}

/// The newest completed checkpoint, by id and epoch; `None` if there never was one.
///
/// A damaged one is an error: an older one would take back what has been committed since. With
/// `allow_older`, the newest one is taken of which *everything* can be read; that reads all of it.
///
/// # Errors
/// If it is damaged, or none can be read, or the storage fails.
pub fn latest(storage: &dyn CheckpointStorage, allow_older: bool) -> Result<Option<Latest>> {
    let mut skipped: Vec<(String, Error)> = Vec::new();
    for folder in completed(storage)?.into_iter().rev() {
        let whole = || {
            let manifest = read_manifest(storage, &folder)?;
            let problems = if allow_older { tools::verify(storage, &folder) } else { Vec::new() };
            problems.into_iter().next().map_or(Ok(manifest), |problem| Err(problem.error))
        };
        match whole() {
            Ok(manifest) => return Ok(Some(Latest { folder, manifest, skipped })),
            Err(error) if allow_older => skipped.push((folder, error)),
            Err(error) => return Err(error),
        }
    }
    match skipped.into_iter().next() {
        None => Ok(None),
        Some((folder, error)) => Err(Error::external(format!(
            "no checkpoint can be read, not even an older one; the newest is `{folder}`"
        ))
        .caused_by(error)),
    }
}

/// Deletes what belongs to no checkpoint: everything in checkpoints' folders that is not a manifest of
/// `keep`, not named by one, not in a folder of `pending` (those of checkpoints under way), and of no epoch after `epoch`: what
/// is may be of another leader, who knows better. Gives the paths that were deleted.
///
/// Manifests go first, so that a crash in between leaves orphans and never a checkpoint that lacks a file.
///
/// # Errors
/// If the storage fails; what is left is found the next time.
pub fn sweep(
    storage: &dyn CheckpointStorage,
    keep: &[&Manifest],
    pending: &[&str],
    epoch: u64,
) -> Result<Vec<String>> {
    let mut kept = BTreeSet::new();
    for manifest in keep {
        let own = checkpoint_folder(manifest.id, manifest.epoch);
        let files = manifest.files().map(|file| file.path.clone());
        kept.extend(files.filter(|path| !is_planted(Bug::DeleteShared) || path.starts_with(&own)));
        kept.insert(manifest_path(&own));
    }
    let is_orphan = |path: &String| {
        let folder = path.split_once('/').map_or("", |(folder, _)| folder);
        parse_checkpoint_folder(folder).is_some_and(|(_, of)| of <= epoch)
            && !pending.contains(&folder)
            && !kept.contains(path)
    };
    let mut orphans = storage.list("chk-")?;
    orphans.retain(is_orphan);
    let is_manifest = |path: &String| path.ends_with("/manifest");
    orphans.sort_by_key(|path| !is_manifest(path));
    let (manifests, others) = orphans.split_at(orphans.partition_point(is_manifest));
    storage.delete_all(manifests)?;
    storage.delete_all(others)?;
    Ok(orphans)
}
