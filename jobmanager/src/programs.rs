//! The executables of jobs, by the SHA-256 of their content.
//!
//! A program is stored under its own hash, which is computed anew while it comes in: what does not have the hash it
//! claims is never seen under it. The name of a file here is made of 64 hexadecimal digits or of a number that
//! counts; nothing that was received is ever part of a path. Nothing here is run, and no file is executable.
//!
//! Room is bounded: when a new program needs some, those that came first and that no job needs go.

use millstream_ha::durable;
use millstream_model::{Error, Result};
use millstream_proto::message::ProgramId;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module's text.
#[derive(Clone, Debug)]
pub struct ProgramStore {
    folder: Arc<PathBuf>,
    limits: Limits,
    n_uploads: Arc<AtomicU64>,
}

/// How much is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest program, in bytes.
    pub max_program_bytes: u64,
    /// All programs together, in bytes.
    pub max_total_bytes: u64,
}

/// A program that is coming in. If it is dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    id: ProgramId,
    total_bytes: u64,
    n_bytes: u64,
    hash: Sha256,
    file: File,
    unfinished: Unfinished,
    place: PathBuf,
}

/// Removes its file, unless that has been moved.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After it was moved to its place there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

impl ProgramStore {
    /// Opens the store in a folder, which is made if it is not there. What a crash left unfinished is removed.
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self> {
        durable::make_folder(folder)?;
        durable::list(folder)?;
        Ok(ProgramStore { folder: Arc::new(folder.to_owned()), limits, n_uploads: Arc::default() })
    }

    fn place(&self, id: ProgramId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// How long a program is, in bytes; `None` if it is not here.
    ///
    /// # Errors
    /// If the file system cannot say.
    pub fn size(&self, id: ProgramId) -> Result<Option<u64>> {
        match fs::metadata(self.place(id)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &self.place(id), e)),
        }
    }

    /// As [`size`](Self::size), for whoever counts on the program: it is durable then. One may be seen before whoever stored it
    /// has come so far.
    ///
    /// # Errors
    /// If the file system cannot say, or cannot make it durable.
    pub fn settle(&self, id: ProgramId) -> Result<Option<u64>> {
        let size = self.size(id)?;
        durable::sync_folder(&self.folder).map_err(|e| failed("sync", &self.folder, e))?;
        Ok(size)
    }

    /// A program and its length in bytes, to be sent. Who receives it checks its hash.
    ///
    /// # Errors
    /// If it is not here, or cannot be read.
    pub fn read(&self, id: ProgramId) -> Result<(File, u64)> {
        let open = || {
            let file = File::open(self.place(id))?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        open().map_err(|e: std::io::Error| match e.kind() {
            ErrorKind::NotFound => missing(id),
            _ => failed("read", &self.place(id), e),
        })
    }

    /// Begins to take in a program; those `in_use` are not removed to make room.
    ///
    /// # Errors
    /// If it is too long, or no room can be made.
    pub fn begin(
        &self,
        id: ProgramId,
        total_bytes: u64,
        in_use: &BTreeSet<ProgramId>,
    ) -> Result<Upload> {
        let Limits { max_program_bytes, .. } = self.limits;
        if total_bytes == 0 || total_bytes > max_program_bytes {
            return Err(Error::user(format!(
                "the program has {total_bytes} bytes, the job manager takes 1 to {max_program_bytes}: strip it \
                 of symbols, or give the job manager a larger `max-program-bytes`"
            )));
        }
        self.make_room(total_bytes, in_use)?;
        let number = self.n_uploads.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{number}{}", durable::UNFINISHED));
        let file = File::create(&path).map_err(|e| failed("write", &path, e))?;
        Ok(Upload {
            id,
            total_bytes,
            n_bytes: 0,
            hash: Sha256::new(),
            file,
            unfinished: Unfinished(path),
            place: self.place(id),
        })
    }

    fn make_room(&self, n_bytes: u64, in_use: &BTreeSet<ProgramId>) -> Result<()> {
        let list = || {
            let mut programs = Vec::new();
            for entry in fs::read_dir(&*self.folder)? {
                let entry = entry?;
                match entry.metadata() {
                    Ok(metadata) => programs.push((metadata.modified()?, metadata.len(), entry)),
                    // An upload that has just ended.
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(programs)
        };
        let mut programs = list().map_err(|e| failed("list", &self.folder, e))?;
        programs.sort_by_key(|(modified, ..)| *modified);
        let needed: BTreeSet<String> = in_use.iter().map(ToString::to_string).collect();
        let mut n_stored: u64 = programs.iter().map(|(_, length, _)| length).sum();
        for (_, length, entry) in programs {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_program = !name.ends_with(durable::UNFINISHED);
            if n_stored.saturating_add(n_bytes) <= self.limits.max_total_bytes {
                break;
            }
            if is_program && !needed.contains(&*name) {
                tracing::info!(program = %name, "a program that no job needs is removed to make room");
                durable::remove(&entry.path())?;
                n_stored -= length;
            }
        }
        if n_stored.saturating_add(n_bytes) > self.limits.max_total_bytes {
            return Err(Error::user(format!(
                "there is no room for a program of {n_bytes} bytes: jobs need {n_stored} bytes of programs, and \
                 the job manager keeps {} at most; give it a larger `max-programs-bytes`",
                self.limits.max_total_bytes
            )));
        }
        Ok(())
    }
}

impl Upload {
    /// Takes the next piece.
    ///
    /// # Errors
    /// If there is more than was said, or it cannot be written.
    pub fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.n_bytes += piece.len() as u64;
        if self.n_bytes > self.total_bytes {
            return Err(Error::user(format!(
                "the program is longer than the {} bytes it was said to have",
                self.total_bytes
            )));
        }
        self.hash.update(piece);
        self.file.write_all(piece).map_err(|e| failed("write", &self.unfinished.0, e))
    }

    /// Stores the program durably.
    ///
    /// # Errors
    /// If bytes are missing, it has another hash, or it cannot be written.
    pub fn finish(self) -> Result<()> {
        if self.n_bytes != self.total_bytes {
            return Err(Error::user(format!(
                "the program was cut off after {} of {} bytes: upload it again",
                self.n_bytes, self.total_bytes
            )));
        }
        let hash = ProgramId(self.hash.finalize().into());
        if hash != self.id {
            return Err(Error::user(format!(
                "the program that was received is {hash}, not {}: upload it again",
                self.id
            )));
        }
        let store = || {
            self.file.sync_all()?;
            fs::rename(&self.unfinished.0, &self.place)?;
            durable::sync_folder(self.place.parent().unwrap_or(Path::new(".")))
        };
        store().map_err(|e| failed("write", &self.place, e))
    }
}

fn missing(id: ProgramId) -> Error {
    Error::user(format!("the program {id} is not here: upload it first"))
}

fn failed(what: &str, path: &Path, e: std::io::Error) -> Error {
    Error::external(format!("cannot {what} `{}`", path.display())).caused_by(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const LIMITS: Limits = Limits { max_program_bytes: 100, max_total_bytes: 250 };

    fn id(content: &[u8]) -> ProgramId {
        ProgramId(Sha256::digest(content).into())
    }

    fn store(folder: &Path) -> ProgramStore {
        ProgramStore::open(folder, LIMITS).unwrap()
    }

    fn upload(store: &ProgramStore, content: &[u8], in_use: &[ProgramId]) -> Result<()> {
        let in_use = in_use.iter().copied().collect();
        let mut upload = store.begin(id(content), content.len() as u64, &in_use)?;
        content.chunks(7).try_for_each(|piece| upload.write(piece))?;
        upload.finish()
    }

    fn n_files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_program_is_there_when_it_is_whole_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let content = b"\x7fELF and so on";
        let first = store(dir.path());
        assert_eq!(first.size(id(content)).unwrap(), None);
        let error = first.read(id(content)).unwrap_err().to_string();
        assert!(error.contains("is not here"), "{error}");
        upload(&first, content, &[]).unwrap();
        upload(&first, content, &[]).unwrap();
        let again = store(dir.path());
        assert_eq!(again.size(id(content)).unwrap(), Some(content.len() as u64));
        let (mut file, length) = again.read(id(content)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!((&bytes[..], length), (&content[..], content.len() as u64));
        assert_eq!(n_files(dir.path()), 1);
    }

    #[test]
    fn what_is_not_what_it_claims_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let begin = |total| store.begin(id(b"honest"), total, &BTreeSet::new());
        let refused = |result: Result<()>, why: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let mut other = begin(6).unwrap();
        other.write(b"forged").unwrap();
        refused(other.finish(), "upload it again");
        let mut short = begin(6).unwrap();
        short.write(b"hon").unwrap();
        refused(short.finish(), "cut off after 3 of 6");
        let mut long = begin(6).unwrap();
        refused(long.write(b"honest and more"), "longer than the 6");
        drop(long);
        refused(begin(101).map(drop), "takes 1 to 100");
        refused(begin(0).map(drop), "takes 1 to 100");
        assert_eq!(n_files(dir.path()), 0);
    }

    #[test]
    fn what_a_crash_left_unfinished_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut crashed = store(dir.path()).begin(id(b"honest"), 6, &BTreeSet::new()).unwrap();
        crashed.write(b"hon").unwrap();
        std::mem::forget(crashed);
        assert_eq!(n_files(dir.path()), 1);
        store(dir.path());
        assert_eq!(n_files(dir.path()), 0);
    }

    #[test]
    fn programs_that_no_job_needs_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let programs = [[1; 90], [2; 90], [3; 90], [4; 90]];
        let age = |nth: usize, content: &[u8]| {
            // As if they had come one after the other, however coarse the clock of the file system is.
            let file = File::options().write(true).open(store.place(id(content))).unwrap();
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(nth as u64);
            file.set_modified(at).unwrap();
        };
        for (nth, content) in programs[..2].iter().enumerate() {
            upload(&store, content, &[]).unwrap();
            age(nth, content);
        }
        upload(&store, &programs[2], &[id(&programs[0])]).unwrap();
        let here = |content: &[u8]| store.size(id(content)).unwrap().is_some();
        assert_eq!(programs.map(|content| here(&content)), [true, false, true, false]);
        let in_use = [id(&programs[0]), id(&programs[2])];
        let error = upload(&store, &programs[3], &in_use).unwrap_err().to_string();
        assert!(error.contains("jobs need 180 bytes"), "{error}");
        assert_eq!(programs.map(|content| here(&content)), [true, false, true, false]);
    }
}
