//! A folder for what a process writes while it runs, among those of other processes.
//!
//! Its process deletes it at its end. One that was killed cannot, and state may be many gigabytes, so every process
//! deletes what dead ones have left beside its own folder. That one is dead is told by a lock that the system lets go
//! with it: a number of a process may be somebody else's by now, and an age says nothing. Locks are not always seen by
//! other machines that share a file system, and other users' folders are none of our business; so only folders of this
//! machine and this user are looked at.

use crate::folder::sync_folder;
use millstream_model::{Error, Result};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
/// Stands in its place where the file system knows no locks.
const NO_LOCK: &str = "no-lock";

/// See the module's text. Deleted when it is dropped.
pub struct WorkDir {
    path: PathBuf,
    name: String,
    /// `None` where the file system knows no locks; then nobody deletes it but its own process.
    _lock: Option<File>,
}

impl WorkDir {
    /// Makes one, and deletes those of dead processes beside it. It is called by the machine's name and one of its own, that
    /// no other ever has; if it is taken, another is asked for.
    ///
    /// # Errors
    /// External: the folder cannot be made there.
    pub fn make(parent: &Path, machine: &str, new_name: impl Fn() -> String) -> Result<Self> {
        let made = Self::try_to_make(parent, &prefix(machine), new_name);
        made.map_err(|e| {
            Error::external(format!(
                "cannot make a folder for the files of running tasks in {}",
                parent.display()
            ))
            .caused_by(e)
        })
    }

    fn try_to_make(
        parent: &Path,
        prefix: &str,
        new_name: impl Fn() -> String,
    ) -> std::io::Result<Self> {
        fs::create_dir_all(parent)?;
        loop {
            let name = new_name();
            let path = parent.join(format!("{prefix}{name}"));
            // What a job remembers is nobody else's business.
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            let file = path.join(LOCK);
            let lock = match File::create(&file).map(|lock| (lock.try_lock(), lock)) {
                Ok((Ok(()), lock)) => Some(lock),
                // Another one that has just begun takes it for a dead one's.
                Ok((Err(TryLockError::WouldBlock), _)) => continue,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
                Ok((Err(TryLockError::Error(_)), _)) => {
                    fs::rename(&file, path.join(NO_LOCK))?;
                    None
                }
            };
            // It may have been taken for a dead one's between its making and its locking.
            if lock.is_some() && !file.exists() {
                continue;
            }
            // Should the power go and leave the rest without the lock, nobody could tell that it is a dead one's. If this fails, no more
            // than that may come of it.
            let _ = sync_folder(&path);
            let own = WorkDir { path, name, _lock: lock };
            sweep(parent, prefix, fs::metadata(&own.path)?.uid());
            return Ok(own);
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its own name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        delete(&self.path);
    }
}

/// How the names of all folders of a machine begin, and no other's.
fn prefix(machine: &str) -> String {
    let machine = machine.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    format!("millstream-state.{machine}.")
}

/// Deletes what dead processes have left; what cannot be deleted stays.
fn sweep(parent: &Path, prefix: &str, user: u32) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        // Of a link, that of the link itself: what it leads to is not looked at.
        let is_own = entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == user);
        if !is_own || !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let path = entry.path();
        // Some file systems lock only what may be written.
        match File::options().read(true).write(true).open(path.join(LOCK)) {
            // Held until all is gone, so that whoever has just made it sees that it is not free.
            Ok(lock) if lock.try_lock().is_ok() => delete(&path),
            Ok(_) => {}
            // Empty it is one whose process died when it made or deleted it; if it lives, it makes another.
            Err(_) => drop(fs::remove_dir(&path)),
        }
    }
}

/// The lock goes last, also on the disk: without it nobody would go on if this process died meanwhile.
fn delete(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_name() != LOCK {
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                _ => fs::remove_file(entry.path()),
            };
        }
    }
    // What could not be deleted, the next one tries again.
    if fs::read_dir(path).is_ok_and(|left| left.count() <= 1) {
        let _ = sync_folder(path);
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tempfile::TempDir;

    fn make(parent: &Path) -> Result<WorkDir> {
        static N_MADE: AtomicU64 = AtomicU64::new(0);
        // Some names are asked for twice.
        let new_name = || (N_MADE.fetch_add(1, Ordering::Relaxed) * 2 / 3).to_string();
        WorkDir::make(parent, "here", new_name)
    }

    #[test]
    fn what_dead_processes_left_is_deleted_and_nothing_else() {
        let parent = TempDir::new().unwrap();
        let alive = make(parent.path()).unwrap();
        fs::write(alive.path().join("a"), "used").unwrap();
        let at = |name: &str| parent.path().join(name);
        for file in [
            "millstream-state.here.dead/lock",
            "millstream-state.here.dead/run/tree/a",
            "millstream-state.here.without/no-lock",
            "millstream-state.elsewhere.dead/lock",
            "millstream-state.here.foreign/a",
            "other/lock",
            "target/lock",
        ] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), "").unwrap();
        }
        fs::create_dir(at("millstream-state.here.empty")).unwrap();
        fs::write(at("millstream-state.here.file"), "").unwrap();
        std::os::unix::fs::symlink(at("target"), at("millstream-state.here.link")).unwrap();

        let second = make(parent.path()).unwrap();
        assert_ne!(alive.name(), second.name());
        let mut left: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| ![alive.path(), second.path()].contains(&path.as_path()))
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "millstream-state.elsewhere.dead",
                "millstream-state.here.file",
                "millstream-state.here.foreign",
                "millstream-state.here.link",
                "millstream-state.here.without",
                "other",
                "target"
            ]
        );
        assert!(alive.path().join("a").exists() && at("target/lock").exists());

        let gone = alive.path().to_owned();
        drop(alive);
        assert!(!gone.exists() && second.path().exists());
    }

    #[test]
    fn many_that_begin_at_once_have_one_each() {
        let parent = TempDir::new().unwrap();
        let made: Vec<WorkDir> = std::thread::scope(|scope| {
            let many: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        // Each begins while others end.
                        (0..20).for_each(|_| drop(make(parent.path()).unwrap()));
                        make(parent.path()).unwrap()
                    })
                })
                .collect();
            many.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(made.iter().all(|one| one.path().join(LOCK).exists()));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 8);
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let parent = TempDir::new().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = make(&file).err().unwrap().to_string();
        assert!(refused.contains(&file.display().to_string()), "{refused}");
    }

    #[test]
    fn machines_do_not_share_the_beginning_of_a_name() {
        assert!(!prefix("a.b").starts_with(&prefix("a")));
        assert!(!prefix("a-b").starts_with(&prefix("a")));
        assert_eq!(prefix("../x"), "millstream-state.___x.");
    }
}
