//! A folder for what a process writes while it runs, among those of other processes.
//!
//! Its process deletes it at its end. One that was killed cannot, and state may be many gigabytes, so every process
//! deletes what dead ones have left beside its own folder. That one is dead is told by a lock that the system lets go
//! with it: a number of a process may be somebody else's by now, and an age says nothing.

use millstream_model::{Error, Result};
use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the names of all of them begin.
const PREFIX: &str = "millstream-state-";
const LOCK: &str = "lock";

/// See the module's text. Deleted when it is dropped.
pub struct WorkDir {
    path: PathBuf,
    name: String,
    /// `None` where the file system knows no locks; then nobody deletes it but its own process.
    _lock: Option<File>,
}

impl WorkDir {
    /// Makes one, and deletes those of dead processes beside it.
    ///
    /// # Errors
    /// External: the folder cannot be made there.
    pub fn make(parent: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::external(format!(
                "cannot make a folder for the files of running tasks in {}",
                parent.display()
            ))
            .caused_by(e)
        };
        std::fs::create_dir_all(parent).map_err(failed)?;
        sweep(parent);
        loop {
            let name = new_name();
            let path = parent.join(format!("{PREFIX}{name}"));
            // What a job remembers is nobody else's business.
            DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
            let file = path.join(LOCK);
            let lock = match File::create(&file).map(|lock| (lock.try_lock(), lock)) {
                Ok((Ok(()), lock)) => Some(lock),
                // Another one that has just begun takes it for a dead one's.
                Ok((Err(TryLockError::WouldBlock), _)) => continue,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
                Ok((Err(TryLockError::Error(_)), _)) => {
                    std::fs::remove_file(&file).map_err(failed)?;
                    None
                }
            };
            // It may have been taken for a dead one's between its making and its locking.
            if lock.is_none() || file.exists() {
                return Ok(WorkDir { path, name, _lock: lock });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name that no other one ever has, wherever it is.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        delete(&self.path);
    }
}

/// Of this moment, this process, and this of its folders.
fn new_name() -> String {
    static N_MADE: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let number = N_MADE.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{:x}-{number}", since_epoch.as_micros(), std::process::id())
}

/// Deletes what dead processes have left; what cannot be deleted (it may be another user's) stays.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        match File::open(path.join(LOCK)) {
            // Held until all is gone, so that whoever has just made it sees that it is not free.
            Ok(lock) if lock.try_lock().is_ok() => delete(&path),
            Ok(_) => {}
            // Empty it is one whose process died when it made or deleted it; if it lives, it makes another.
            Err(_) => drop(std::fs::remove_dir(&path)),
        }
    }
}

/// The lock goes last: without it nobody would go on if this process died meanwhile.
fn delete(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_name() != LOCK {
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(entry.path()),
                _ => std::fs::remove_file(entry.path()),
            };
        }
    }
    // What could not be deleted, the next one tries again.
    if std::fs::read_dir(path).is_ok_and(|left| left.count() <= 1) {
        let _ = std::fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn what_dead_processes_left_is_deleted_and_nothing_else() {
        let parent = TempDir::new().unwrap();
        let alive = WorkDir::make(parent.path()).unwrap();
        std::fs::write(alive.path().join("a"), "used").unwrap();
        let at = |name: &str| parent.path().join(name);
        for (folder, file) in
            [("millstream-state-dead", LOCK), ("millstream-state-foreign", "a"), ("other", LOCK)]
        {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::write(at(folder).join(file), "").unwrap();
        }
        std::fs::write(at("millstream-state-file"), "").unwrap();

        std::fs::create_dir_all(at("millstream-state-dead/run/tree")).unwrap();
        std::fs::write(at("millstream-state-dead/run/tree/a"), "unused").unwrap();
        std::fs::create_dir(at("millstream-state-empty")).unwrap();

        let second = WorkDir::make(parent.path()).unwrap();
        assert!(alive.path().join("a").exists());
        assert!(!at("millstream-state-dead").exists() && !at("millstream-state-empty").exists());
        assert!(at("millstream-state-foreign").exists() && at("other").exists());
        assert!(at("millstream-state-file").exists());
        assert_ne!(alive.name(), second.name());

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
                        (0..20).for_each(|_| drop(WorkDir::make(parent.path()).unwrap()));
                        WorkDir::make(parent.path()).unwrap()
                    })
                })
                .collect();
            many.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(made.iter().all(|one| one.path().join(LOCK).exists()));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 8);
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let parent = TempDir::new().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = WorkDir::make(&file).err().unwrap().to_string();
        assert!(refused.contains(&file.display().to_string()), "{refused}");
    }
}
