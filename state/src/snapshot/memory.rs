//! Checkpoint storage in memory, for tests: it can crash, fail and lie.
//!
//! What has been finished is durable; what is being written is in its writer only, so that a
//! [`crash`](MemoryStorage::crash) loses exactly that. Every call to the storage or to a writer is an
//! *operation*, and the operations are counted: a test runs its story once to learn how many there are, and
//! then once for each of them with that one failing. Clones are the same storage.

use super::storage::{CheckpointStorage, Fingerprint, ObjectWriter, check_path, exists};
use super::{FileRef, Manifest, Restore};
use millstream_model::{CheckpointId, Error, Result, SnapshotKind};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and says so.
    Refused,
    /// It does its work, and says that it failed: the answer was lost.
    AnswerLost,
}

/// Checkpoint storage in memory. See the module's text.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    objects: BTreeMap<String, Arc<[u8]>>,
    n_operations: u64,
    /// The operation that fails next, and how.
    fault: Option<(u64, Fault)>,
    n_crashes: u64,
}

impl MemoryStorage {
    /// An empty one.
    pub fn new() -> Self {
        MemoryStorage::default()
    }

    /// A checkpoint that holds nothing, in a storage of its own.
    pub fn empty_checkpoint(id: CheckpointId) -> Restore {
        let manifest = Manifest {
            id,
            epoch: 0,
            kind: SnapshotKind::Checkpoint,
            completed_at_ms: 0,
            job: "empty".into(),
            vertices: Vec::new(),
            tasks: Vec::new(),
        };
        let storage = Arc::new(MemoryStorage::new());
        Restore { storage, manifest: Arc::new(manifest), allow_non_restored: false }
    }

    /// How many operations there have been.
    pub fn n_operations(&self) -> u64 {
        self.lock().n_operations
    }

    /// Makes the `n`-th operation from now fail, counted from 0. A later call replaces an earlier one.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        let mut disk = self.lock();
        disk.fault = Some((disk.n_operations + n, fault));
    }

    /// Loses what is not finished: every writer there is fails from now on.
    pub fn crash(&self) {
        self.lock().n_crashes += 1;
    }

    /// The content of an object, as it is.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().objects.get(path).map(|bytes| bytes.to_vec())
    }

    /// Damages an object: changes its content as `change` says. False if there is none.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut disk = self.lock();
        let Some(object) = disk.objects.get_mut(path) else { return false };
        let mut bytes = object.to_vec();
        change(&mut bytes);
        *object = bytes.into();
        true
    }

    /// Inverts one bit of an object, counted from its first byte's lowest.
    ///
    /// # Panics
    /// If there is no such bit: a test that damages nothing shows nothing.
    pub fn flip_bit(&self, path: &str, bit: usize) {
        assert!(self.damage(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)), "no object `{path}`");
    }

    /// Cuts an object to its first `len` bytes.
    ///
    /// # Panics
    /// If it is not longer than that.
    pub fn truncate(&self, path: &str, len: usize) {
        let cut = |bytes: &mut Vec<u8>| {
            assert!(len < bytes.len(), "`{path}` has only {} bytes", bytes.len());
            bytes.truncate(len);
        };
        assert!(self.damage(path, cut), "no object `{path}`");
    }

    /// Loses an object, without counting as an operation. False if there is none.
    pub fn lose(&self, path: &str) -> bool {
        self.lock().objects.remove(path).is_some()
    }

    /// Exchanges the contents of two objects.
    ///
    /// # Panics
    /// If there are not two, or if they are equal.
    pub fn swap(&self, a: &str, b: &str) {
        let mut disk = self.lock();
        let (Some(in_a), Some(in_b)) = (disk.objects.remove(a), disk.objects.remove(b)) else {
            panic!("no objects `{a}` and `{b}`");
        };
        assert!(in_a != in_b, "`{a}` and `{b}` are equal");
        disk.objects.insert(a.to_owned(), in_b);
        disk.objects.insert(b.to_owned(), in_a);
    }

    /// A storage of its own with the same objects, without faults.
    pub fn copy(&self) -> Self {
        let objects = self.lock().objects.clone();
        MemoryStorage { disk: Arc::new(Mutex::new(Disk { objects, ..Disk::default() })) }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // A panic of a test elsewhere leaves no change half done here.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and does it, or fails as it was told to.
    fn operate<T>(
        &self,
        verb: &str,
        path: &str,
        action: impl FnOnce(&mut Disk) -> Result<T>,
    ) -> Result<T> {
        let mut disk = self.lock();
        let n = disk.n_operations;
        disk.n_operations += 1;
        let fault = disk.fault.take_if(|(at, _)| *at == n).map(|(_, fault)| fault);
        if fault != Some(Fault::Refused) {
            let done = action(&mut disk)?;
            if fault.is_none() {
                return Ok(done);
            }
        }
        Err(Error::external(format!(
            "cannot {verb} `{path}`: the test lets operation {n} of the storage fail"
        )))
    }
}

impl Disk {
    fn refuse_existing(&self, path: &str) -> Result<()> {
        if self.objects.contains_key(path) { Err(exists(path)) } else { Ok(()) }
    }
}

impl CheckpointStorage for MemoryStorage {
    fn create(&self, path: &str) -> Result<Box<dyn ObjectWriter>> {
        check_path(path)?;
        self.operate("create", path, |disk| {
            disk.refuse_existing(path)?;
            Ok(Box::new(MemoryWriter {
                storage: self.clone(),
                path: path.to_owned(),
                bytes: Vec::new(),
                n_crashes: disk.n_crashes,
            }) as Box<dyn ObjectWriter>)
        })
    }

    fn import_all(&self, files: &[(PathBuf, String)]) -> Result<Vec<FileRef>> {
        let import = |(local_file, path): &(PathBuf, String)| {
            let bytes = std::fs::read(local_file).map_err(|e| {
                Error::external(format!("cannot read `{}`", local_file.display())).caused_by(e)
            })?;
            check_path(path)?;
            self.operate("import", path, |disk| {
                disk.refuse_existing(path)?;
                let file = describe(path, &bytes);
                disk.objects.insert(path.to_owned(), bytes.into());
                Ok(file)
            })
        };
        files.iter().map(import).collect()
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        check_path(path)?;
        self.operate("read", path, |disk| match disk.objects.get(path) {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read + Send>),
            None => Err(Error::external(format!(
                "cannot read `{path}`: it is not there; the checkpoint is not complete, restore from \
                 another one"
            ))),
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.operate("list", prefix, |disk| {
            Ok(disk.objects.keys().filter(|path| path.starts_with(prefix)).cloned().collect())
        })
    }

    fn delete_all(&self, paths: &[String]) -> Result<()> {
        paths.iter().try_for_each(|path| {
            check_path(path)?;
            self.operate("delete", path, |disk| {
                disk.objects.remove(path);
                Ok(())
            })
        })
    }
}

struct MemoryWriter {
    storage: MemoryStorage,
    path: String,
    bytes: Vec<u8>,
    n_crashes: u64,
}

impl MemoryWriter {
    fn refuse_after_crash(disk: &Disk, n_crashes: u64, path: &str) -> Result<()> {
        if disk.n_crashes == n_crashes {
            return Ok(());
        }
        Err(Error::external(format!("`{path}` was lost in a crash before it was finished")))
    }
}

impl ObjectWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.storage.operate("write", &self.path, |disk| {
            MemoryWriter::refuse_after_crash(disk, self.n_crashes, &self.path)?;
            self.bytes.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn finish(self: Box<Self>) -> Result<FileRef> {
        let MemoryWriter { storage, path, bytes, n_crashes } = *self;
        storage.operate("finish", &path, |disk| {
            MemoryWriter::refuse_after_crash(disk, n_crashes, &path)?;
            disk.refuse_existing(&path)?;
            let file = describe(&path, &bytes);
            disk.objects.insert(path.clone(), bytes.into());
            Ok(file)
        })
    }
}

fn describe(path: &str, bytes: &[u8]) -> FileRef {
    let mut seen = Fingerprint::default();
    seen.add(bytes);
    seen.of_file(path)
}
