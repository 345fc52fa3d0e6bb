//! The election of one: a folder, and whoever holds its lock.
//!
//! The epoch lies in the folder and grows with every start, so that what a former process said is refused after
//! the next has begun. The lock is the operating system's: it goes with the process, however that ends. It keeps
//! two job managers that were given the same folder by mistake from undoing each other's work.

use crate::durable::{self, Format};
use crate::{Election, Leadership};
use crossbeam_channel::Receiver;
use millstream_model::{Error, LeaderEpoch, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

const EPOCH: Format = Format { magic: *b"MSEPOCH\0", version: 1 };

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Standalone {
    folder: PathBuf,
}

impl Standalone {
    /// In this folder, which is made if it is not there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Standalone { folder: folder.into() }
    }
}

impl Election for Standalone {
    fn campaign(&mut self, _stop: &Receiver<()>) -> Result<Option<Leadership>> {
        durable::make_folder(&self.folder)?;
        let lock = lock(&self.folder)?;
        let path = self.folder.join("epoch");
        let last = match durable::read(&path, EPOCH)? {
            None => 0,
            Some(bytes) => {
                <[u8; 8]>::try_from(&bytes[..]).map(u64::from_le_bytes).map_err(|_| {
                    Error::external(format!("the file `{}` holds no number", path.display()))
                        .finally()
                })?
            }
        };
        let epoch = last.checked_add(1).ok_or_else(|| {
            Error::external(format!("the number in the file `{}` cannot grow", path.display()))
        })?;
        durable::write(&path, EPOCH, &epoch.to_le_bytes())?;
        Ok(Some(Leadership::new(LeaderEpoch(epoch), crossbeam_channel::never(), lock)))
    }
}

/// The folder's lock, with the number of this process in it, for people.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let failed = |e| Error::external(format!("cannot lock `{}`", path.display())).caused_by(e);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only said for convenience: whoever holds it may not have written it yet.
            let _ = file.take(20).read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => String::new(),
                number => format!(" (process {number})"),
            };
            return Err(Error::user(format!(
                "another job manager{holder} uses the folder `{}`: stop it first, or give this one a folder of \
                 its own",
                folder.display()
            )));
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::never;

    fn campaign(folder: &Path) -> Result<Leadership> {
        Standalone::new(folder).campaign(&never()).map(|leadership| leadership.unwrap())
    }

    #[test]
    fn the_epoch_grows_with_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new/folder");
        for expected in 1..4 {
            let leadership = campaign(&folder).unwrap();
            assert_eq!(leadership.epoch(), LeaderEpoch(expected));
            assert!(leadership.lost().is_empty());
        }
    }

    #[test]
    fn two_in_one_folder_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let first = campaign(dir.path()).unwrap();
        let error = campaign(dir.path()).unwrap_err().to_string();
        assert!(error.contains("another job manager"), "{error}");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains("a folder of its own"), "{error}");
        drop(first);
        // Who was refused has not counted.
        assert_eq!(campaign(dir.path()).unwrap().epoch(), LeaderEpoch(2));
    }

    #[test]
    fn a_damaged_epoch_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        drop(campaign(dir.path()).unwrap());
        let path = dir.path().join("epoch");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = campaign(dir.path()).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("epoch"), "{error}");
        // Not a number, although it is whole.
        durable::write(&path, EPOCH, b"seven").unwrap();
        let error = campaign(dir.path()).unwrap_err().to_string();
        assert!(error.contains("holds no number"), "{error}");
    }
}
