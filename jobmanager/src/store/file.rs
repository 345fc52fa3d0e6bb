//! A store in a folder: a file for each record, and one for the fence.
//!
//! A file is replaced as a whole and durably ([`durable`]), and has a checksum. Every write takes the folder's lock
//! and reads fence and version anew: the check is right also if another process writes here, whatever an election
//! says.

use super::{Key, MetadataStore, StoreError, Stored, pass};
use millstream_ha::durable::{self, Format};
use millstream_model::{Error, LeaderEpoch};
use std::fs::File;
use std::path::{Path, PathBuf};

const FENCE: Format = Format { magic: *b"MSFENCE\0", version: 1 };
const RECORD: Format = Format { magic: *b"MSRECORD", version: 1 };

/// See the module's text.
#[derive(Debug)]
pub struct FileStore {
    records: PathBuf,
    fence: PathBuf,
    lock: PathBuf,
}

impl FileStore {
    /// Opens the store in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let records = folder.join("records");
        durable::make_folder(&records)?;
        Ok(FileStore { records, fence: folder.join("fence"), lock: folder.join("lock") })
    }

    fn place(&self, key: Key) -> PathBuf {
        self.records.join(key.to_string())
    }

    /// Alone here, and not behind a newer leader; as long as the result lives.
    fn enter(&self, epoch: LeaderEpoch) -> Result<File, StoreError> {
        let lock = || {
            let file = File::create(&self.lock)?;
            // Held for as long as one small file takes to be written.
            file.lock()?;
            Ok(file)
        };
        let lock = lock().map_err(|e: std::io::Error| {
            let message = format!("cannot lock `{}`", self.lock.display());
            StoreError::Failed(Error::external(message).caused_by(e))
        })?;
        let seen = durable::read(&self.fence, FENCE).map_err(StoreError::Failed)?;
        let seen = match seen {
            None => LeaderEpoch::default(),
            Some(bytes) => LeaderEpoch(number(&bytes, &self.fence)?.0),
        };
        pass(seen, epoch)?;
        if seen < epoch {
            durable::write(&self.fence, FENCE, &epoch.0.to_le_bytes())
                .map_err(StoreError::Failed)?;
        }
        Ok(lock)
    }
}

/// The number at the beginning, and what follows.
fn number<'a>(bytes: &'a [u8], path: &Path) -> Result<(u64, &'a [u8]), StoreError> {
    let Some((number, rest)) = bytes.split_first_chunk::<8>() else {
        let message = format!("the file `{}` holds no number", path.display());
        return Err(StoreError::Failed(Error::external(message).finally()));
    };
    Ok((u64::from_le_bytes(*number), rest))
}

impl MetadataStore for FileStore {
    fn fence(&self, epoch: LeaderEpoch) -> Result<(), StoreError> {
        self.enter(epoch).map(drop)
    }

    fn read(&self, key: Key) -> Result<Option<Stored>, StoreError> {
        let place = self.place(key);
        let Some(bytes) = durable::read(&place, RECORD).map_err(StoreError::Failed)? else {
            return Ok(None);
        };
        let (version, rest) = number(&bytes, &place)?;
        Ok(Some(Stored { version, bytes: rest.to_vec() }))
    }

    fn keys(&self) -> Result<Vec<Key>, StoreError> {
        let names = durable::list(&self.records).map_err(StoreError::Failed)?;
        let key = |name: std::ffi::OsString| {
            let name = name.to_string_lossy();
            name.parse().map_err(|_| {
                StoreError::Failed(Error::external(format!(
                    "the file `{}` is no record of a job manager: move it elsewhere",
                    self.records.join(&*name).display()
                )))
            })
        };
        names.into_iter().map(key).collect()
    }

    fn write(
        &self,
        epoch: LeaderEpoch,
        key: Key,
        replaces: Option<u64>,
        bytes: &[u8],
    ) -> Result<u64, StoreError> {
        let _lock = self.enter(epoch)?;
        if self.read(key)?.map(|stored| stored.version) != replaces {
            return Err(StoreError::Changed(key));
        }
        let version = replaces.unwrap_or(0).checked_add(1).ok_or_else(|| {
            let message = format!("the number in the record `{key}` cannot grow: it is damaged");
            StoreError::Failed(Error::external(message).finally())
        })?;
        let body = [&version.to_le_bytes(), bytes].concat();
        durable::write(&self.place(key), RECORD, &body).map_err(StoreError::Failed)?;
        Ok(version)
    }

    fn remove(&self, epoch: LeaderEpoch, key: Key, replaces: u64) -> Result<(), StoreError> {
        let _lock = self.enter(epoch)?;
        if self.read(key)?.map(|stored| stored.version) != Some(replaces) {
            return Err(StoreError::Changed(key));
        }
        durable::remove(&self.place(key)).map_err(StoreError::Failed)
    }
}
