//! Executables, by what is in them.
//!
//! A program's name is the SHA-256 of its bytes, and its file is called that and nothing else, so no name from outside
//! ever reaches the file system. What comes from the job manager is hashed while it is written and gets its name only
//! if it is what was asked for.
//!
//! Before it is run it is verified again: in full once per life of this process, and in full whenever the file is not
//! the one that was verified (device, inode, length, and the times of the last change of content and of anything
//! else, which no program can set). Programs run under the user that the cache belongs to, so one could change
//! the file of another; hashing tens of megabytes for every start would guard against nothing more than that look
//! at the file does, and a start is to take less than a second.
//!
//! The cache has a limit; what has not been used for longest goes first, and what is in use stays.

#[cfg(test)]
mod tests;

use millstream_model::{Error, Result};
use millstream_proto::message::ProgramId;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{File, Metadata, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio_stream::{Stream, StreamExt};

/// The beginning of the name of a file that is not whole yet.
const INCOMING: &str = "incoming-";
/// For its owner, to be read and run.
const MODE: u32 = 0o500;

/// See the module's text.
pub struct Programs {
    dir: PathBuf,
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<ProgramId, Entry>,
    /// One fetch or verification of a program at a time.
    locks: HashMap<ProgramId, Arc<tokio::sync::Mutex<()>>>,
    /// Bytes that are being fetched.
    incoming_bytes: u64,
    n_incoming: u64,
    /// Counts uses.
    clock: u64,
}

struct Entry {
    bytes: u64,
    last_used: u64,
    n_leases: usize,
    verified: Option<Stamp>,
}

/// What a file looks like from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            file: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A program that is in use: it stays while this lives.
pub struct Lease {
    programs: Arc<Programs>,
    id: ProgramId,
}

impl Lease {
    /// Its executable.
    pub fn path(&self) -> PathBuf {
        self.programs.path(self.id)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(entry) = self.programs.state().entries.get_mut(&self.id) {
            entry.n_leases -= 1;
        }
    }
}

impl Programs {
    /// The cache in a folder that belongs to this process; what an earlier one left there is used if it is sound.
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(dir: &Path, limit_bytes: u64) -> Result<Arc<Programs>> {
        let failed = |e| {
            Error::external(format!("the folder of programs {} cannot be used", dir.display()))
                .caused_by(e)
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut found = Vec::new();
        for file in std::fs::read_dir(dir).map_err(failed)? {
            let file = file.map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            match file.file_name().to_str().and_then(id_of_name) {
                Some(id) if metadata.is_file() => {
                    found.push((metadata.mtime(), id, metadata.len()))
                }
                _ if metadata.is_file() => std::fs::remove_file(file.path()).map_err(failed)?,
                _ => {}
            }
        }
        found.sort_unstable();
        let mut state = State::default();
        for (_, id, bytes) in found {
            state.clock += 1;
            let last_used = state.clock;
            state.entries.insert(id, Entry { bytes, last_used, n_leases: 0, verified: None });
        }
        Ok(Arc::new(Programs { dir: dir.to_owned(), limit_bytes, state: Mutex::new(state) }))
    }

    /// A program, which is fetched if it is not here: `open` begins to bring its pieces. Whoever wants the same
    /// program meanwhile waits for the one fetch.
    ///
    /// # Errors
    /// If it cannot be fetched, is not what was asked for, or does not fit.
    pub async fn get<S>(
        self: &Arc<Self>,
        id: ProgramId,
        n_bytes: u64,
        open: impl Future<Output = Result<S>>,
    ) -> Result<Lease>
    where
        S: Stream<Item = Result<Vec<u8>>> + Unpin,
    {
        let lock = Arc::clone(self.state().locks.entry(id).or_default());
        let guard = lock.lock().await;
        let lease = match self.lease(id) {
            Some(lease) if self.is_sound(id).await? => Ok(lease),
            Some(lease) => {
                tracing::warn!(program = %id, "a program in the cache has changed and is fetched anew");
                self.forget(id)?;
                drop(lease);
                self.fetch(id, n_bytes, open).await
            }
            None => self.fetch(id, n_bytes, open).await,
        };
        drop(guard);
        drop(lock);
        // Nobody else waits for it: the map and this function held the only two.
        self.state().locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        lease
    }

    /// Bytes of all programs that are here.
    pub fn n_bytes(&self) -> u64 {
        self.state().entries.values().map(|entry| entry.bytes).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: ProgramId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn lease(self: &Arc<Self>, id: ProgramId) -> Option<Lease> {
        let mut state = self.state();
        state.clock += 1;
        let now = state.clock;
        let entry = state.entries.get_mut(&id)?;
        entry.n_leases += 1;
        entry.last_used = now;
        Some(Lease { programs: Arc::clone(self), id })
    }

    /// Whether the file is what its name says; hashed only if it is not the one that was.
    async fn is_sound(&self, id: ProgramId) -> Result<bool> {
        let path = self.path(id);
        let Ok(metadata) = tokio::fs::metadata(&path).await else { return Ok(false) };
        let stamp = Stamp::of(&metadata);
        let known = self.state().entries.get(&id).and_then(|entry| entry.verified);
        if known == Some(stamp) && metadata.permissions().mode() & 0o777 == MODE {
            return Ok(true);
        }
        let hashed = tokio::task::spawn_blocking(move || hash(&path)).await;
        let hashed = hashed.map_err(|e| Error::internal("hashing ended early").caused_by(e))?;
        let is_sound = hashed.is_ok_and(|found| found == id)
            && std::fs::set_permissions(self.path(id), Permissions::from_mode(MODE)).is_ok();
        if is_sound
            && let Ok(metadata) = std::fs::metadata(self.path(id))
            && let Some(entry) = self.state().entries.get_mut(&id)
        {
            entry.verified = Some(Stamp::of(&metadata));
        }
        Ok(is_sound)
    }

    /// Removes the file from the folder; who runs it has it still.
    fn forget(&self, id: ProgramId) -> Result<()> {
        match std::fs::remove_file(self.path(id)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    async fn fetch<S>(
        self: &Arc<Self>,
        id: ProgramId,
        n_bytes: u64,
        open: impl Future<Output = Result<S>>,
    ) -> Result<Lease>
    where
        S: Stream<Item = Result<Vec<u8>>> + Unpin,
    {
        let incoming = self.make_room(id, n_bytes)?;
        let mut pieces = open.await?;
        let mut file = tokio::fs::File::create_new(&incoming.path).await?;
        let (mut hasher, mut n_read) = (Sha256::new(), 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            n_read += piece.len() as u64;
            if n_read > n_bytes {
                break;
            }
            hasher.update(&piece);
            file.write_all(&piece).await?;
        }
        file.flush().await?;
        drop(file.into_std().await);
        if n_read != n_bytes {
            return Err(Error::external(format!(
                "program {id} should have {n_bytes} bytes, and {n_read} came"
            )));
        }
        let found = ProgramId(hasher.finalize().into());
        if found != id {
            return Err(Error::external(format!(
                "what came as program {id} is {found}: it was damaged or exchanged, and is not run"
            )));
        }
        std::fs::set_permissions(&incoming.path, Permissions::from_mode(MODE))?;
        std::fs::rename(&incoming.path, self.path(id))?;
        let verified = Some(Stamp::of(&std::fs::metadata(self.path(id))?));
        drop(incoming);
        let mut state = self.state();
        state.clock += 1;
        let last_used = state.clock;
        // Leases of a file of that name which was found changed are still out.
        let n_leases = 1 + state.entries.get(&id).map_or(0, |entry| entry.n_leases);
        state.entries.insert(id, Entry { bytes: n_bytes, last_used, n_leases, verified });
        Ok(Lease { programs: Arc::clone(self), id })
    }

    /// Deletes what is not used until there is room, and keeps it.
    fn make_room(self: &Arc<Self>, id: ProgramId, n_bytes: u64) -> Result<Incoming> {
        let mut state = self.state();
        loop {
            let others = state.entries.iter().filter(|(other, _)| **other != id);
            let taken = others.map(|(_, entry)| entry.bytes).sum::<u64>() + state.incoming_bytes;
            if n_bytes <= self.limit_bytes.saturating_sub(taken) {
                break;
            }
            let unused = state.entries.iter().filter(|(other, e)| e.n_leases == 0 && **other != id);
            let oldest = unused.min_by_key(|(_, entry)| entry.last_used).map(|(other, _)| *other);
            let Some(oldest) = oldest else {
                return Err(Error::user(format!(
                    "a program of {n_bytes} bytes does not fit into the cache of {} bytes, of which {taken} are \
                     in use: raise the task manager's limit, or strip the executable",
                    self.limit_bytes
                )));
            };
            self.forget(oldest)?;
            state.entries.remove(&oldest);
        }
        state.incoming_bytes += n_bytes;
        state.n_incoming += 1;
        let path = self.dir.join(format!("{INCOMING}{}", state.n_incoming));
        Ok(Incoming { programs: Arc::clone(self), path, n_bytes })
    }
}

/// A file that is being written, and the room kept for it; gone when it is not finished.
struct Incoming {
    programs: Arc<Programs>,
    path: PathBuf,
    n_bytes: u64,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.programs.state().incoming_bytes -= self.n_bytes;
        // Not there if it was finished, or not begun.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn hash(path: &Path) -> std::io::Result<ProgramId> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 18];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(ProgramId(hasher.finalize().into())),
            n => hasher.update(&piece[..n]),
        }
    }
}

fn id_of_name(name: &str) -> Option<ProgramId> {
    let mut id = [0; 32];
    if name.len() != 64 || !name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return None;
    }
    for (byte, digits) in id.iter_mut().zip(name.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(ProgramId(id))
}
