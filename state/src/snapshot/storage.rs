//! Where snapshots lie: a folder of named objects that are written once.
//!
//! The contract is the smallest one a checkpoint needs, so that a directory, a test's memory and an object
//! store can all keep it: an object appears whole or not at all, is durable when its writer says so, is
//! never changed, and is never trusted: everything that is read by its [`FileRef`] is held to the length
//! and digest in there, which come from a manifest that is held to its own.

use super::FileRef;
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Error, Result};
use std::io::{self, Read};
use std::path::PathBuf;
use xxhash_rust::xxh3::Xxh3;

/// A folder of named objects, each written once. See the module's text.
///
/// Paths have `/` between folders and are relative; absolute ones and those with `.` or `..` in them are
/// refused. Folders need not be made.
pub trait CheckpointStorage: Send + Sync {
    /// Begins an object, which is there only when its writer has finished.
    ///
    /// # Errors
    /// If there is one already, if the path is no good, or if the storage fails.
    fn create(&self, path: &str) -> Result<Box<dyn ObjectWriter>>;

    /// Takes in local files that are never changed again, by hard links if that is possible: which, and the path of each. All
    /// are durable when it returns; their references are in the same order.
    ///
    /// # Errors
    /// As [`create`](CheckpointStorage::create), or if a file cannot be read; some may be there then.
    fn import_all(&self, files: &[(PathBuf, String)]) -> Result<Vec<FileRef>>;

    /// Opens an object of which nothing is known: **nothing about what is read is checked**. For objects
    /// that carry their own digest; all others are read by their [`FileRef`].
    ///
    /// # Errors
    /// If it is not there, or if the storage fails.
    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>>;

    /// Paths that begin with `prefix`, sorted. What a crash left unfinished may be among them, under a name
    /// that was never asked for, so that it can be deleted.
    ///
    /// # Errors
    /// If the storage fails.
    fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// Deletes objects, durably; that one is not there is not an error. Which of them are still there after a crash, nobody knows.
    ///
    /// # Errors
    /// If a path is no good, or if the storage fails.
    fn delete_all(&self, paths: &[String]) -> Result<()>;

    /// Deletes one, as [`delete_all`](Self::delete_all).
    ///
    /// # Errors
    /// As there.
    fn delete(&self, path: &str) -> Result<()> {
        self.delete_all(&[path.to_owned()])
    }

    /// Makes durable that an object is there, which somebody else has made: one may be seen before its maker has come so far, and
    /// whoever builds on it must not be left without it. Storage that shows what is durable alone has nothing to do.
    ///
    /// # Errors
    /// If the path is no good, or if the storage fails.
    fn settle(&self, _path: &str) -> Result<()> {
        Ok(())
    }

    /// How messages call an object, so that it can be found.
    fn locate(&self, path: &str) -> String {
        path.to_owned()
    }

    /// Opens an object. Its length and digest are checked where the reader comes to the end: the last
    /// `read`, the one that would give 0, fails if they are wrong. **A reader that is dropped before it
    /// gave 0 has checked nothing.** [`read_error`] turns what it fails with into an [`Error`].
    ///
    /// # Errors
    /// If it is not there, or if the storage fails.
    fn read(&self, file: &FileRef) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(Verified::new(self.open(&file.path)?, self.locate(&file.path), file)))
    }

    /// All of an object, checked.
    ///
    /// # Errors
    /// If it is not there, if it is damaged, or if the storage fails.
    fn read_all(&self, file: &FileRef) -> Result<Vec<u8>> {
        // No capacity in advance: memory is taken for what is there, not for what is claimed.
        let mut bytes = Vec::new();
        match self.read(file)?.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(e) => Err(read_error(&self.locate(&file.path), e)),
        }
    }

    /// Makes an object of these bytes, whole or not at all; durable when it returns.
    ///
    /// # Errors
    /// If there is one already, if the path is no good, or if the storage fails.
    fn publish(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let mut writer = self.create(path)?;
        writer.write(bytes)?;
        writer.finish().map(drop)
    }
}

/// An object on its way. Dropped unfinished, it was never there.
pub trait ObjectWriter: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// If the storage fails.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the object appear; durable when it returns.
    ///
    /// # Errors
    /// If there is one of that name by now, or if the storage fails. After an error the object may be
    /// there or not.
    fn finish(self: Box<Self>) -> Result<FileRef>;
}

/// Length and digest of what passes by.
#[derive(Default)]
pub(super) struct Fingerprint {
    bytes: u64,
    hash: Box<Xxh3>,
}

impl Fingerprint {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    fn digest(&self) -> String {
        format!("{:032x}", self.hash.digest128())
    }

    pub(super) fn of_file(&self, path: &str) -> FileRef {
        FileRef { path: path.to_owned(), bytes: self.bytes, digest: self.digest() }
    }
}

/// A reader that knows what it should have read.
struct Verified<R> {
    inner: R,
    name: String,
    expected: FileRef,
    seen: Fingerprint,
}

impl<R: Read> Verified<R> {
    fn new(inner: R, name: String, expected: &FileRef) -> Self {
        Verified { inner, name, expected: expected.clone(), seen: Fingerprint::default() }
    }

    /// Whether all was as it should be, if this was the end.
    fn check(&self, at_end: bool) -> Result<()> {
        if is_planted(Bug::IgnoreChecksums) {
            return Ok(());
        }
        let (is, should) = (self.seen.bytes, self.expected.bytes);
        if is > should || (at_end && is < should) {
            let than = if is > should { "longer" } else { "shorter" };
            let is = if at_end { format!("{is}") } else { format!("at least {is}") };
            return Err(damaged(
                &self.name,
                format!("is {than} than the checkpoint says: {is} bytes instead of {should}"),
            ));
        }
        if at_end && self.seen.digest() != self.expected.digest {
            return Err(damaged(
                &self.name,
                format!(
                    "does not hold what was written: its digest is {} instead of {}",
                    self.seen.digest(),
                    self.expected.digest
                ),
            ));
        }
        Ok(())
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buffer)?;
        self.seen.add(&buffer[..n]);
        self.check(n == 0).map_err(io::Error::other)?;
        Ok(n)
    }
}

/// What a reader of [`CheckpointStorage::read`] failed with, as an error that names the file.
pub fn read_error(name: &str, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => failed("read", name, error),
    }
}

/// A file that is not what it was.
pub(super) fn damaged(name: &str, what: impl std::fmt::Display) -> Error {
    Error::external(format!(
        "`{name}` {what}; put the file back as it was written, or restore from another checkpoint"
    ))
}

/// Something that the system refused.
pub(super) fn failed(verb: &str, name: &str, cause: io::Error) -> Error {
    let remedy = match cause.kind() {
        io::ErrorKind::NotFound => "the checkpoint is not complete, restore from another one",
        io::ErrorKind::PermissionDenied => "allow this process to read and write there",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        _ => "see that the storage is there and works",
    };
    Error::external(format!("cannot {verb} `{name}` ({remedy})")).caused_by(cause)
}

/// A second object of the same name.
pub(super) fn exists(name: &str) -> Error {
    Error::external(format!(
        "`{name}` is there already, and what a checkpoint holds is written once; does another job, or \
         another run of this one, use the same folder?"
    ))
}

/// Refuses what could lie outside of the storage or have two names.
pub(super) fn check_path(path: &str) -> Result<()> {
    let is_good = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['\0', '\\']);
    if path.split('/').all(is_good) {
        return Ok(());
    }
    Err(Error::user(format!(
        "`{}` is not a path within checkpoint storage: use names with `/` between them, and neither `.` nor `..`",
        path.escape_debug()
    )))
}
