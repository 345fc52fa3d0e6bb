//! The folder of a task manager: its lock, and what is in it.
//!
//! Two processes in one folder would delete each other's hosts' folders. The lock is the system's: it is gone with the
//! process, however that ended, and so what lies in the working folders then is of no use to anybody.

use millstream_model::{Error, Result};
use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// See the module's text. Held as long as the process runs.
pub(super) struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes it if it is not there, locks it, and clears away what dead hosts have left.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::user(format!(
                "the folder {} of the task manager cannot be used: name another one",
                dir.display()
            ))
            .caused_by(e)
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        // Programs and their output are nobody else's business.
        std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        let lock = File::create(dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::user(format!(
                    "another task manager works in {}: give each a folder of its own",
                    dir.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let folder = Folder { dir, _lock: lock };
        for stale in [folder.hosts(), folder.logs()] {
            match std::fs::remove_dir_all(&stale) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
                _ => std::fs::create_dir_all(&stale).map_err(failed)?,
            }
        }
        Ok(folder)
    }

    /// Of programs: what is there is used again.
    pub(super) fn programs(&self) -> PathBuf {
        self.dir.join("programs")
    }

    /// Of what programs print.
    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Of working folders.
    pub(super) fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_folder_belongs_to_one_process_and_is_cleared() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a");
        let folder = Folder::take(&path).unwrap();
        std::fs::create_dir_all(folder.programs()).unwrap();
        std::fs::write(folder.hosts().join("left"), "over").unwrap();
        let refused = Folder::take(&path).err().unwrap().to_string();
        assert!(refused.contains("another task manager works in"), "{refused}");
        drop(folder);
        let folder = Folder::take(&path).unwrap();
        assert!(folder.programs().exists() && !folder.hosts().join("left").exists());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(Folder::take(&dir.path().join("file")).is_err());
    }
}
