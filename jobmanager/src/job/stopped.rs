//! The marks that stops with a savepoint leave among the job's checkpoints.
//!
//! A savepoint that stops the job commits output, so none of the checkpoints before it may be gone on from: that
//! would commit the same again. But it lies where the user wanted it, and perhaps nowhere near them. So its path
//! is written down beside the checkpoints, durably, before anybody is told that it is complete; whoever looks
//! for the newest checkpoint finds the savepoint instead. The next checkpoint makes the mark needless.

use millstream_model::{CheckpointId, Error, Result, hash_key};
use millstream_state::snapshot::{CheckpointStorage, read_error};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What the names of marks begin with.
const PREFIX: &str = "stopped-";

/// A stop with a savepoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    /// Its number.
    pub(super) checkpoint: CheckpointId,
    /// Where the savepoint lies.
    pub(super) savepoint: PathBuf,
}

fn name_of(checkpoint: CheckpointId) -> String {
    format!("{PREFIX}{checkpoint}")
}

/// What a mark holds: the path, and a hash over it and the number, so that a damaged one is known for one.
fn content_of(checkpoint: CheckpointId, path: &str) -> String {
    // Numbers and texts always hash.
    format!("{:016x} {path}", hash_key(&(checkpoint.0, path)).unwrap_or_default())
}

/// Leaves a mark; durable when it returns.
pub(super) fn mark(
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
    storage.publish(&name_of(checkpoint), content_of(checkpoint, path).as_bytes())
}

/// The newest stop.
///
/// # Errors
/// If its mark is damaged, or the storage fails.
pub(super) fn newest(storage: &dyn CheckpointStorage) -> Result<Option<Stopped>> {
    let numbers = marks(storage)?;
    let Some(checkpoint) = numbers.into_iter().max() else { return Ok(None) };
    let name = name_of(checkpoint);
    let place = storage.locate(&name);
    let mut content = Vec::new();
    storage.open(&name)?.read_to_end(&mut content).map_err(|e| read_error(&place, e))?;
    let path = std::str::from_utf8(&content).ok().and_then(|content| content.split_once(' '));
    match path {
        Some((_, path)) if content_of(checkpoint, path).as_bytes() == content => {
            Ok(Some(Stopped { checkpoint, savepoint: path.into() }))
        }
        _ => Err(Error::external(format!(
            "`{place}` is damaged: it names the savepoint that the job was stopped with; restore that \
             savepoint by its path, with another `checkpoint-dir`"
        ))),
    }
}

/// Deletes the marks of stops before a checkpoint.
pub(super) fn forget_before(
    storage: &dyn CheckpointStorage,
    checkpoint: CheckpointId,
) -> Result<()> {
    let numbers = marks(storage)?;
    numbers.into_iter().filter(|n| *n < checkpoint).try_for_each(|n| storage.delete(&name_of(n)))
}

/// Deletes the mark of a stop that did not come about, if there is one.
pub(super) fn forget(storage: &dyn CheckpointStorage, checkpoint: CheckpointId) -> Result<()> {
    storage.delete(&name_of(checkpoint))
}

/// The numbers of all stops.
pub(super) fn marks(storage: &dyn CheckpointStorage) -> Result<Vec<CheckpointId>> {
    let number = |name: &String| {
        let number = CheckpointId(name.strip_prefix(PREFIX)?.parse().ok()?);
        (name_of(number) == *name).then_some(number)
    };
    Ok(storage.list(PREFIX)?.iter().filter_map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_state::snapshot::MemoryStorage;

    #[test]
    fn the_newest_mark_is_found_until_a_checkpoint_comes_after_it() {
        let storage = MemoryStorage::new();
        assert_eq!(newest(&storage).unwrap(), None);
        mark(&storage, CheckpointId(9), Path::new("/a/savepoint-9")).unwrap();
        mark(&storage, CheckpointId(10), Path::new("/b c/savepoint-10")).unwrap();
        let stopped =
            Stopped { checkpoint: CheckpointId(10), savepoint: "/b c/savepoint-10".into() };
        assert_eq!(newest(&storage).unwrap(), Some(stopped));
        forget_before(&storage, CheckpointId(10)).unwrap();
        assert_eq!(storage.list("").unwrap(), ["stopped-10"]);
        forget_before(&storage, CheckpointId(11)).unwrap();
        assert_eq!(newest(&storage).unwrap(), None);
    }

    #[test]
    fn a_damaged_mark_is_refused_and_named() {
        let whole = MemoryStorage::new();
        mark(&whole, CheckpointId(3), Path::new("/a/savepoint-3")).unwrap();
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
