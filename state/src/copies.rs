//! Local copies: tables of checkpoints that this process still has on its disk.
//!
//! A table of a tree never changes and has a name that no other ever had. So one more link to it, made when a checkpoint
//! has taken it, is a copy of what storage holds, and costs nothing. A task that comes back to where it was takes its
//! tables from here and reads of storage only what is not here. That is all that copies are for: what storage holds is
//! not looked at then, and without copies everything works the same, only slower (Flink calls it task-local recovery).
//!
//! Kept is what the newest completed checkpoint needs, and those after it: nobody goes back further.

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
    tables: Mutex<HashMap<usize, BTreeMap<CheckpointId, BTreeSet<String>>>>,
}

impl LocalCopies {
    /// In a folder of their own, which is made when there is something to be kept.
    pub fn new(dir: PathBuf) -> Self {
        LocalCopies { dir, tables: Mutex::default() }
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<usize, BTreeMap<CheckpointId, BTreeSet<String>>>> {
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
        if !names.is_empty() {
            self.tables().entry(task).or_default().insert(checkpoint, names);
        }
    }

    /// A checkpoint is complete: what only older ones need goes.
    pub fn complete(&self, checkpoint: CheckpointId) {
        let mut tables = self.tables();
        let mut older = BTreeSet::new();
        for of_task in tables.values_mut() {
            let newer = of_task.split_off(&checkpoint);
            older.extend(std::mem::replace(of_task, newer).into_values().flatten());
        }
        let is_needed = |name: &String| {
            tables.values().any(|of_task| of_task.values().any(|names| names.contains(name)))
        };
        for name in older.iter().filter(|name| !is_needed(name)) {
            // What stays goes with the folder.
            let _ = fs::remove_file(self.path(name));
        }
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
    }
}
