//! Local copies: tables of checkpoints that this process still has on its disk.
//!
//! A table of a tree never changes and has a name that no other ever had. So one more link to it, made when a checkpoint
//! has taken it, is a copy of what storage holds, and costs nothing. A task that comes back to where it was takes its
//! tables from here and reads of storage only what is not here. That is all that copies are for: what storage holds is
//! not looked at then, and without copies everything works the same, only slower (Flink calls it task-local recovery).
//!
//! Kept is what the newest completed checkpoint needs, and the last two after it: nobody goes back further, and what is not
//! complete may never be.
//!
//! A copy is the very file that the tree had, so it may be damaged where storage is not. So copies are on trial from when an
//! attempt begins with them until it has completed a checkpoint: if it fails before, the next one reads from storage.

use crate::lsm::{Content, LsmFile};
use millstream_model::CheckpointId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's text.
#[derive(Debug)]
pub struct LocalCopies {
    dir: PathBuf,
    /// Names of tables by task, and by the checkpoint that they are part of.
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_task: HashMap<usize, BTreeMap<CheckpointId, BTreeSet<String>>>,
    /// The newest that is complete.
    completed: Option<CheckpointId>,
    /// The attempt that began with copies, until it has completed a checkpoint.
    on_trial: Option<u32>,
}

impl Tables {
    /// Forgets the tables that only these sets need: their names.
    fn without(&self, sets: impl IntoIterator<Item = BTreeSet<String>>) -> Vec<String> {
        let is_needed = |name: &String| {
            self.by_task.values().any(|sets| sets.values().any(|names| names.contains(name)))
        };
        sets.into_iter().flatten().filter(|name| !is_needed(name)).collect()
    }
}

/// Checkpoints that are kept beside the newest complete one.
const N_PENDING: usize = 2;

impl LocalCopies {
    /// In a folder of their own, which is made when there is something to be kept.
    pub fn new(dir: PathBuf) -> Self {
        LocalCopies { dir, tables: Mutex::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name.replace('/', "~"))
    }

    /// Keeps the tables of a task's checkpoint.
    pub fn keep(&self, task: usize, checkpoint: CheckpointId, files: &[LsmFile]) {
        let mut names = BTreeSet::new();
        for file in files.iter().filter(|file| file.immutable) {
            let Content::File(from) = &file.content else { continue };
            let linked = fs::create_dir_all(&self.dir)
                .and_then(|()| fs::hard_link(from, self.path(&file.name)));
            match linked {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // It will be read from storage.
                Err(_) => continue,
            }
            names.insert(file.name.clone());
        }
        if names.is_empty() {
            return;
        }
        let mut tables = self.tables();
        let completed = tables.completed;
        let sets = tables.by_task.entry(task).or_default();
        sets.insert(checkpoint, names);
        let pending = sets.keys().filter(|id| Some(**id) != completed).copied();
        let n_over = pending.clone().count().saturating_sub(N_PENDING);
        let over: Vec<_> = pending.take(n_over).collect();
        let dropped: Vec<_> = over.iter().filter_map(|id| sets.remove(id)).collect();
        self.remove(&tables.without(dropped));
    }

    fn remove(&self, names: &[String]) {
        for name in names {
            // What stays goes with the folder.
            let _ = fs::remove_file(self.path(name));
        }
    }

    /// A checkpoint is complete: what only older ones need goes.
    pub fn complete(&self, checkpoint: CheckpointId) {
        let mut tables = self.tables();
        tables.completed = Some(checkpoint);
        tables.on_trial = None;
        let mut older = Vec::new();
        for sets in tables.by_task.values_mut() {
            let newer = sets.split_off(&checkpoint);
            older.extend(std::mem::replace(sets, newer).into_values());
        }
        self.remove(&tables.without(older));
    }

    /// Whether an attempt may begin with copies; if so, they are on trial.
    pub fn may_try(&self, attempt: u32) -> bool {
        let mut tables = self.tables();
        *tables.on_trial.get_or_insert(attempt) == attempt
    }

    /// The copy of a table of this name and length, if there is one.
    pub fn find(&self, name: &str, bytes: u64) -> Option<PathBuf> {
        let path = self.path(name);
        fs::metadata(&path).ok().filter(|there| there.len() == bytes).map(|_| path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_newest_completed_checkpoint_needs_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let table = |name: &str| {
            let path = dir.path().join(name);
            fs::write(&path, name).unwrap();
            let content = Content::File(path);
            LsmFile { name: format!("run-0-1/{name}"), bytes: 1, immutable: true, content }
        };
        let [a, b, c, d] = ["a", "b", "c", "d"].map(table);
        let manifest = LsmFile { name: "MANIFEST".into(), immutable: false, ..a.clone() };
        let copies = LocalCopies::new(dir.path().join("copies"));
        let kept = || {
            let found = [&a, &b, &c, &d].map(|file| copies.find(&file.name, 1).is_some());
            found.map(u8::from)
        };
        copies.keep(0, CheckpointId(1), &[a.clone(), b.clone(), manifest.clone()]);
        copies.keep(1, CheckpointId(1), std::slice::from_ref(&d));
        copies.keep(0, CheckpointId(2), &[b.clone(), c.clone()]);
        assert_eq!(kept(), [1, 1, 1, 1]);
        assert_eq!(copies.find(&manifest.name, 1), None, "it is not the same in all checkpoints");
        copies.complete(CheckpointId(1));
        assert_eq!(kept(), [1, 1, 1, 1]);
        copies.complete(CheckpointId(2));
        assert_eq!(kept(), [0, 1, 1, 0]);
        assert_eq!(copies.find(&b.name, 2), None, "it is of another length");
        // Of those that are never completed, the last two.
        copies.keep(0, CheckpointId(3), std::slice::from_ref(&a));
        copies.keep(0, CheckpointId(4), std::slice::from_ref(&b));
        assert_eq!(kept(), [1, 1, 1, 0]);
        copies.keep(0, CheckpointId(5), std::slice::from_ref(&b));
        assert_eq!(kept(), [0, 1, 1, 0]);
    }

    #[test]
    fn an_attempt_that_fails_at_once_is_the_last_with_copies() {
        let copies = LocalCopies::new("copies".into());
        assert!(copies.may_try(1) && copies.may_try(1), "all tasks of an attempt");
        assert!(!copies.may_try(2) && !copies.may_try(3));
        copies.complete(CheckpointId(1));
        assert!(copies.may_try(4));
    }
}
