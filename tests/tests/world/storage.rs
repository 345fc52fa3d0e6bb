//! Storages that fail: an operation does nothing and says so, or does its work and the answer is lost.
//!
//! Failures stand around the storage in memory, which holds the truth.

use super::prng::Prng;
use super::weather::{Weather, struck};
use millstream::prelude::*;
use millstream::state::snapshot::{
    CheckpointStorage, FileRef, Manifest, MemoryStorage, ObjectWriter, completed, read_manifest,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All storages of a world, by folder. Clones are the same.
#[derive(Clone)]
pub(super) struct Storages {
    by_dir: Arc<Mutex<BTreeMap<PathBuf, MemoryStorage>>>,
    weather: Arc<Mutex<Weather>>,
}

impl Storages {
    pub(super) fn new(prng: Prng) -> Self {
        Storages { by_dir: Arc::default(), weather: Weather::calm(prng) }
    }

    pub(super) fn weather(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a folder really holds.
    pub(super) fn truth(&self, dir: &Path) -> MemoryStorage {
        let mut by_dir = self.by_dir.lock().unwrap_or_else(PoisonError::into_inner);
        by_dir.entry(dir.to_owned()).or_default().clone()
    }

    /// What a process is given for a folder.
    pub(super) fn open(&self, dir: &Path) -> Arc<dyn CheckpointStorage> {
        Arc::new(Flaky { truth: self.truth(dir), weather: Arc::clone(&self.weather) })
    }

    /// Loses what is not finished.
    pub(super) fn crash(&self) {
        let by_dir = self.by_dir.lock().unwrap_or_else(PoisonError::into_inner);
        by_dir.values().for_each(MemoryStorage::crash);
    }

    /// The number of the newest checkpoint or savepoint that is complete, whatever its folder; 0 if there is none.
    pub(super) fn newest(&self) -> u64 {
        let by_dir = self.by_dir.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = by_dir.values().flat_map(|storage| storage.list("").unwrap_or_default());
        let number = |path: String| {
            let folder = path.strip_suffix("/manifest")?.to_owned();
            folder.split('-').nth(1)?.parse::<u64>().ok()
        };
        paths.filter_map(number).max().unwrap_or(0)
    }
}

/// The newest completed checkpoint of a storage, with its folder.
pub(super) fn newest_manifest(storage: &MemoryStorage) -> Option<(String, Manifest)> {
    let folder = completed(storage).ok()?.pop()?;
    let manifest = read_manifest(storage, &folder).ok()?;
    Some((folder, manifest))
}

/// The newest stop that left a mark in a storage: its number, and the savepoint.
pub(super) fn newest_stop(storage: &MemoryStorage) -> Option<(u64, PathBuf)> {
    let marks = storage.list("stopped-").ok()?;
    let number = |mark: &String| mark.rsplit('-').next()?.parse::<u64>().ok();
    let newest = marks.iter().filter_map(number).max()?;
    let content = String::from_utf8(storage.bytes(&mark_of(newest))?).ok()?;
    // A hash stands before the path.
    Some((newest, content.split_once(' ')?.1.into()))
}

/// What the mark of a stop is called.
pub(super) fn mark_of(number: u64) -> String {
    format!("stopped-{number}")
}

struct Flaky {
    truth: MemoryStorage,
    weather: Arc<Mutex<Weather>>,
}

impl CheckpointStorage for Flaky {
    fn create(&self, path: &str) -> Result<Box<dyn ObjectWriter>> {
        struck(&self.weather, path, || {
            let inner = self.truth.create(path)?;
            let (path, weather) = (path.to_owned(), Arc::clone(&self.weather));
            Ok(Box::new(FlakyWriter { inner, path, weather }) as Box<dyn ObjectWriter>)
        })
    }

    fn import_all(&self, files: &[(PathBuf, String)]) -> Result<Vec<FileRef>> {
        let import = |file: &(PathBuf, String)| {
            struck(&self.weather, &file.1, || self.truth.import_all(std::slice::from_ref(file)))
        };
        Ok(files.iter().map(import).collect::<Result<Vec<_>>>()?.concat())
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        struck(&self.weather, path, || self.truth.open(path))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        struck(&self.weather, prefix, || self.truth.list(prefix))
    }

    fn delete_all(&self, paths: &[String]) -> Result<()> {
        paths.iter().try_for_each(|path| struck(&self.weather, path, || self.truth.delete(path)))
    }
}

struct FlakyWriter {
    inner: Box<dyn ObjectWriter>,
    path: String,
    weather: Arc<Mutex<Weather>>,
}

impl ObjectWriter for FlakyWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let inner = &mut self.inner;
        struck(&self.weather, &self.path, || inner.write(bytes))
    }

    fn finish(self: Box<Self>) -> Result<FileRef> {
        let FlakyWriter { inner, path, weather } = *self;
        struck(&weather, &path, || inner.finish())
    }
}
