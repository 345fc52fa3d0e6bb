//! Marks: what a job goes on from, written down beside its checkpoints before anybody commits anything for it.
//!
//! What is complete is known by its manifest. But a manifest that is lost tells nothing, and what came before it must not be
//! gone on from: that would commit the same output again. So each checkpoint leaves a mark, durably, when its manifest is
//! durable and before it counts; and whoever looks for the newest finds out that one is gone.
//!
//! A stop with a savepoint leaves a mark, too: the savepoint lies where the user wanted it, and perhaps nowhere near the
//! checkpoints. That one holds its path.
//!
//! The next checkpoint makes all marks before it needless. Whatever is given up loses its mark first: a mark without what it
//! names is a loss.

use super::manifest::{checkpoint_folder, parse_checkpoint_folder};
use super::storage::{CheckpointStorage, read_error};
use millstream_model::{CheckpointId, Error, Result, hash_key};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What the names of marks begin with: of checkpoints, with their folder, and of stops, with their number.
const COMPLETED: &str = "completed-";
const STOPPED: &str = "stopped-";

/// What a job goes on from.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark {
    /// The checkpoint of this number in this folder of the storage.
    Completed(CheckpointId, String),
    /// The savepoint of this number at this path: the job was stopped with it.
    Stopped(CheckpointId, PathBuf),
}

impl Mark {
    /// The number of the checkpoint or savepoint, and the epoch of whoever completed it; 0 of a stop, which is alone with its
    /// number.
    pub fn number(&self) -> (CheckpointId, u64) {
        match self {
            Mark::Completed(id, folder) => {
                (*id, parse_checkpoint_folder(folder).map_or(0, |(_, epoch)| epoch))
            }
            Mark::Stopped(id, _) => (*id, 0),
        }
    }
}

fn name_of_stop(checkpoint: CheckpointId) -> String {
    format!("{STOPPED}{checkpoint}")
}

/// What the mark of a stop holds: the path, and a hash over it and the number, so that a damaged one is known for one.
fn content_of(checkpoint: CheckpointId, path: &str) -> String {
    // Numbers and texts always hash.
    format!("{:016x} {path}", hash_key(&(checkpoint.0, path)).unwrap_or_default())
}

/// Marks a checkpoint, whose manifest is durable; durable when it returns.
///
/// # Errors
/// If the storage fails, or it has one.
pub fn completed(storage: &dyn CheckpointStorage, id: CheckpointId, epoch: u64) -> Result<()> {
    storage.publish(&name_of(&checkpoint_folder(id, epoch)), &[])
}

/// Marks a stop with a savepoint, whose manifest is durable; durable when it returns.
///
/// # Errors
/// If the path is not UTF-8, the storage fails, or it has one.
pub fn stopped(
    storage: &dyn CheckpointStorage,
    checkpoint: CheckpointId,
    savepoint: &Path,
) -> Result<()> {
    let path = savepoint.to_str().ok_or_else(|| {
        Error::user(format!(
            "the path of the savepoint, `{}`, is not UTF-8: choose another folder",
            savepoint.display()
        ))
    })?;
    storage.publish(&name_of_stop(checkpoint), content_of(checkpoint, path).as_bytes())
}

/// The newest mark.
///
/// # Errors
/// If it is damaged, or the storage fails.
pub fn newest(storage: &dyn CheckpointStorage) -> Result<Option<Mark>> {
    let Some(((checkpoint, _), name)) = all(storage)?.into_iter().max() else { return Ok(None) };
    if let Some(folder) = name.strip_prefix(COMPLETED) {
        return Ok(Some(Mark::Completed(checkpoint, folder.to_owned())));
    }
    let place = storage.locate(&name);
    let mut content = Vec::new();
    storage.open(&name)?.read_to_end(&mut content).map_err(|e| read_error(&place, e))?;
    let path = std::str::from_utf8(&content).ok().and_then(|content| content.split_once(' '));
    match path {
        Some((_, path)) if content_of(checkpoint, path).as_bytes() == content => {
            Ok(Some(Mark::Stopped(checkpoint, path.into())))
        }
        _ => Err(Error::external(format!(
            "`{place}` is damaged: it names the savepoint that the job was stopped with; restore that \
             savepoint by its path, with another `checkpoint-dir`"
        ))),
    }
}

/// The numbers and epochs of all that is marked, as [`Mark::number`].
///
/// # Errors
/// If the storage fails.
pub fn numbers(storage: &dyn CheckpointStorage) -> Result<Vec<(CheckpointId, u64)>> {
    Ok(all(storage)?.into_iter().map(|(number, _)| number).collect())
}

/// Deletes the marks of all numbers and epochs but these, and what a crash has left of marks.
///
/// # Errors
/// If the storage fails.
pub fn retain(
    storage: &dyn CheckpointStorage,
    is_kept: impl Fn(CheckpointId, u64) -> bool,
) -> Result<()> {
    let goes = |name: &String| {
        let is_left_over = || name.rsplit_once('.').is_some_and(|(name, _)| parse(name).is_some());
        parse(name).map_or_else(is_left_over, |(id, epoch)| !is_kept(id, epoch))
    };
    let mut names = named(storage)?;
    names.retain(goes);
    storage.delete_all(&names)
}

/// Deletes the mark of the checkpoint in a folder, if there is one.
///
/// # Errors
/// If the storage fails.
pub fn forget(storage: &dyn CheckpointStorage, folder: &str) -> Result<()> {
    storage.delete(&name_of(folder))
}

/// What the mark of the checkpoint in a folder is called.
pub fn name_of(folder: &str) -> String {
    format!("{COMPLETED}{folder}")
}

/// All marks by number and epoch, with their names.
fn all(storage: &dyn CheckpointStorage) -> Result<Vec<((CheckpointId, u64), String)>> {
    let marks = named(storage)?.into_iter();
    Ok(marks.filter_map(|name| Some((parse(&name)?, name))).collect())
}

/// All that is called like one.
fn named(storage: &dyn CheckpointStorage) -> Result<Vec<String>> {
    let mut names = storage.list(COMPLETED)?;
    names.extend(storage.list(STOPPED)?);
    Ok(names)
}

/// The number and epoch of a mark, if that is the name of one.
fn parse(name: &str) -> Option<(CheckpointId, u64)> {
    if let Some(folder) = name.strip_prefix(COMPLETED) {
        return parse_checkpoint_folder(folder);
    }
    let checkpoint = CheckpointId(name.strip_prefix(STOPPED)?.parse().ok()?);
    (name_of_stop(checkpoint) == name).then_some((checkpoint, 0))
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStorage;
    use super::*;

    #[test]
    fn the_newest_mark_is_found_until_it_is_let_go() {
        let storage = MemoryStorage::new();
        assert_eq!(newest(&storage).unwrap(), None);
        completed(&storage, CheckpointId(8), 2).unwrap();
        stopped(&storage, CheckpointId(9), Path::new("/a/savepoint-9")).unwrap();
        stopped(&storage, CheckpointId(10), Path::new("/b c/savepoint-10")).unwrap();
        let stop = Mark::Stopped(CheckpointId(10), "/b c/savepoint-10".into());
        assert_eq!(newest(&storage).unwrap(), Some(stop));
        completed(&storage, CheckpointId(11), 2).unwrap();
        let checkpoint = Mark::Completed(CheckpointId(11), "chk-11-2".into());
        assert_eq!(newest(&storage).unwrap(), Some(checkpoint));
        retain(&storage, |id, _| id >= CheckpointId(10)).unwrap();
        assert_eq!(storage.list("").unwrap(), ["completed-chk-11-2", "stopped-10"]);
        completed(&storage, CheckpointId(11), 10).unwrap();
        assert_eq!(newest(&storage).unwrap().unwrap().number(), (CheckpointId(11), 10));
        retain(&storage, |_, epoch| epoch > 2).unwrap();
        assert_eq!(storage.list("").unwrap(), ["completed-chk-11-10"]);
        forget(&storage, "chk-11-10").unwrap();
        assert_eq!(newest(&storage).unwrap(), None);
    }

    #[test]
    fn names_are_written_in_one_way() {
        let storage = MemoryStorage::new();
        for name in ["completed-chk-07-2", "completed-chk-7", "stopped-+3", "stopped-3/x"] {
            storage.publish(name, &[]).unwrap();
        }
        assert_eq!(numbers(&storage).unwrap(), []);
    }

    #[test]
    fn what_a_crash_has_left_goes() {
        let storage = MemoryStorage::new();
        for name in ["completed-chk-7-2.tmp0", "stopped-3.tmp1", "stopped-mine.txt"] {
            storage.publish(name, &[]).unwrap();
        }
        completed(&storage, CheckpointId(7), 2).unwrap();
        retain(&storage, |_, _| true).unwrap();
        assert_eq!(storage.list("").unwrap(), ["completed-chk-7-2", "stopped-mine.txt"]);
    }

    #[test]
    fn a_damaged_mark_is_refused_and_named() {
        let whole = MemoryStorage::new();
        stopped(&whole, CheckpointId(3), Path::new("/a/savepoint-3")).unwrap();
        let n_bytes = whole.bytes("stopped-3").unwrap().len();
        let refused = |storage: MemoryStorage, how: &str| {
            let error = newest(&storage).expect_err(how).to_string();
            assert!(error.contains("`stopped-3` is damaged"), "{how}: {error}");
        };
        for bit in 0..n_bytes * 8 {
            let storage = whole.copy();
            storage.flip_bit("stopped-3", bit);
            refused(storage, &format!("bit {bit}"));
        }
        for len in 0..n_bytes {
            let storage = whole.copy();
            storage.truncate("stopped-3", len);
            refused(storage, &format!("cut to {len}"));
        }
    }
}
