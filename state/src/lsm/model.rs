//! A tree in memory, for the simulation: deterministic, and made of the same things as a real one.
//!
//! Writes go to a table in memory; when it is full, and at a checkpoint, it becomes a *run*: sorted, never
//! changed, a file with a number. A run is merged with the one below when it has grown to half its size, so
//! that old runs live long and a checkpoint finds most of its files in storage already. Merging is when
//! expired entries go, as in RocksDB. There are no threads: what RocksDB does behind one's back happens
//! inside of `write`, always at the same place.
//!
//! Files can be [damaged](ModelEngine::damage), as a disk would. A cut is taken when it is run: with
//! [`ModelEngine::admit_writes_during_cuts`] whatever was written meanwhile is in it, as it might be in
//! RocksDB, were it not refused.

mod run;

use self::run::Run;
use super::cut::{Cut, Gate};
use super::files::{Content, LsmFile, Names};
use super::{Expiry, Lsm, LsmEngine, LsmSize, Op, Open};
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file that says which runs there are.
const MANIFEST: &str = "MANIFEST";

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It is not there.
    Lost,
    /// One of its bits is not what it was.
    Flipped,
}

/// Opens trees in memory. See the module's text.
pub struct ModelEngine {
    memtable_bytes: usize,
    disk: Arc<Disk>,
}

/// What the trees of an engine have in common.
#[derive(Default)]
struct Disk {
    damaged: Mutex<BTreeMap<String, Damage>>,
    admits_writes_during_cuts: AtomicBool,
}

impl ModelEngine {
    /// An engine whose trees make a run of every so many bytes.
    pub fn new(memtable_bytes: usize) -> Self {
        ModelEngine { memtable_bytes, disk: Arc::default() }
    }

    /// Damages the file of this name: what a checkpoint called it. A tree that needs it fails, and so does
    /// a checkpoint; one that copies bytes without looking copies the flipped bit.
    pub fn damage(&self, name: &str, damage: Damage) {
        self.disk.damaged().insert(name.to_owned(), damage);
    }

    /// From now on, writing while a cut is not done is not refused: what is planted to see that it matters.
    pub fn admit_writes_during_cuts(&self) {
        self.disk.admits_writes_during_cuts.store(true, Ordering::Relaxed);
    }
}

impl Disk {
    fn damaged(&self) -> MutexGuard<'_, BTreeMap<String, Damage>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails as reading a damaged file does.
    fn check(&self, name: &str) -> Result<()> {
        match self.damaged().get(name) {
            None => Ok(()),
            Some(Damage::Lost) => {
                Err(Error::external(format!("the state file {name} is not there")))
            }
            Some(Damage::Flipped) => Err(run::damaged(name)),
        }
    }

    /// What a checkpoint finds in a file.
    fn content(&self, run: &Run) -> Result<Arc<[u8]>> {
        match self.damaged().get(&run.name) {
            Some(Damage::Flipped) => {
                let mut bytes = run.bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Ok(bytes.into())
            }
            Some(Damage::Lost) => {
                Err(Error::external(format!("the state file {} is not there", run.name)))
            }
            None => Ok(Arc::clone(&run.bytes)),
        }
    }
}

impl LsmEngine for ModelEngine {
    fn open(&self, open: Open<'_>) -> Result<Box<dyn Lsm>> {
        let Open { dir: _, instance, files, expiry } = open;
        let names = Names::new(instance, files)?;
        let mut tree = Tree {
            disk: Arc::clone(&self.disk),
            memtable_bytes: self.memtable_bytes,
            names,
            expiry,
            memtable: BTreeMap::new(),
            unflushed_bytes: 0,
            runs: Vec::new(),
            n_made: 0,
        };
        if !files.is_empty() {
            tree.restore(files)?;
        }
        Ok(Box::new(ModelTree { tree: Arc::new(Mutex::new(tree)), gate: Gate::default() }))
    }

    fn takes_files_in_memory(&self) -> bool {
        true
    }
}

struct ModelTree {
    tree: Arc<Mutex<Tree>>,
    gate: Gate,
}

struct Tree {
    disk: Arc<Disk>,
    memtable_bytes: usize,
    names: Names,
    expiry: Expiry,
    /// `None` is a deletion, here and in runs.
    memtable: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    unflushed_bytes: usize,
    /// Newest first.
    runs: Vec<Arc<Run>>,
    n_made: u64,
}

impl Tree {
    fn restore(&mut self, files: &[LsmFile]) -> Result<()> {
        let find = |local: &str| {
            files.iter().find(|file| file.local_name() == local).ok_or_else(|| {
                Error::external(format!("the state file {local} is missing in the checkpoint"))
            })
        };
        let (n_made, runs) = run::decode_manifest(MANIFEST, &find(MANIFEST)?.read()?)?;
        self.n_made = n_made;
        for local in runs {
            let file = find(&local)?;
            self.disk.check(&file.name)?;
            self.runs.push(Arc::new(Run::decode(file.name.clone(), file.read()?)?));
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<&[u8]>> {
        if let Some(value) = self.memtable.get(key) {
            return Ok(value.as_deref());
        }
        for run in &self.runs {
            self.disk.check(&run.name)?;
            if let Some(value) = run.get(key) {
                return Ok(value);
            }
        }
        Ok(None)
    }

    /// The entries of a range, in order, without what is deleted.
    fn range(&self, from: &[u8], to: Option<&[u8]>) -> Result<BTreeMap<&[u8], &[u8]>> {
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let mut newest: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
        if to.is_some_and(|to| to <= from) {
            return Ok(BTreeMap::new());
        }
        for run in self.runs.iter().rev() {
            self.disk.check(&run.name)?;
            newest.extend(run.range(from, to));
        }
        let written = self.memtable.range::<[u8], _>(bounds);
        newest.extend(written.map(|(key, value)| (key.as_slice(), value.as_deref())));
        Ok(newest.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
    }

    fn apply(&mut self, op: Op<'_>) -> Result<()> {
        match op {
            Op::Put(key, value) => self.set(key.to_vec(), Some(value.to_vec())),
            Op::Delete(key) => self.set(key.to_vec(), None),
            Op::DeleteRange(from, to) => {
                let keys: BTreeSet<Vec<u8>> =
                    self.range(from, Some(to))?.into_keys().map(<[u8]>::to_vec).collect();
                keys.into_iter().for_each(|key| self.set(key, None));
            }
        }
        if self.unflushed_bytes >= self.memtable_bytes { self.flush() } else { Ok(()) }
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.unflushed_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.memtable.insert(key, value);
    }

    fn flush(&mut self) -> Result<()> {
        self.unflushed_bytes = 0;
        let entries = std::mem::take(&mut self.memtable);
        if !entries.is_empty() {
            let run = self.make(entries)?;
            self.runs.insert(0, run);
        }
        while let [upper, lower, ..] = self.runs.as_slice()
            && upper.bytes.len() * 2 >= lower.bytes.len()
        {
            self.merge(2)?;
        }
        Ok(())
    }

    /// Makes one run of the newest `n`.
    fn merge(&mut self, n: usize) -> Result<()> {
        let to_the_bottom = n == self.runs.len();
        let mut entries = BTreeMap::new();
        for run in self.runs[..n].iter().rev() {
            self.disk.check(&run.name)?;
            entries.extend(run.range(&[], None).map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))));
        }
        for (key, value) in &mut entries {
            if value.as_ref().is_some_and(|value| self.expiry.is_over(key, value)) {
                *value = None;
            }
        }
        if to_the_bottom {
            entries.retain(|_, value| value.is_some());
        }
        let merged = if entries.is_empty() { None } else { Some(self.make(entries)?) };
        self.runs.splice(..n, merged);
        Ok(())
    }

    fn make(&mut self, entries: BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<Arc<Run>> {
        self.n_made += 1;
        let name = self.names.of(&format!("{:06}.run", self.n_made));
        Ok(Arc::new(Run::new(name, entries)?))
    }

    fn checkpoint(&mut self) -> Result<Vec<LsmFile>> {
        self.flush()?;
        let mut files = Vec::new();
        for run in &self.runs {
            files.push(file(run.name.clone(), true, self.disk.content(run)?));
        }
        let manifest = run::encode_manifest(self.n_made, &self.runs)?;
        files.push(file(MANIFEST.to_owned(), false, manifest.into()));
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }
}

fn file(name: String, immutable: bool, content: Arc<[u8]>) -> LsmFile {
    LsmFile { name, bytes: content.len() as u64, immutable, content: Content::Memory(content) }
}

impl ModelTree {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    fn check_gate(&self) -> Result<()> {
        let admits = self.tree().disk.admits_writes_during_cuts.load(Ordering::Relaxed);
        if admits || is_planted(Bug::WriteAfterBarrier) { Ok(()) } else { self.gate.check() }
    }
}

fn lock(tree: &Mutex<Tree>) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lsm for ModelTree {
    fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        let tree = self.tree();
        let value = tree.get(key)?;
        out.extend_from_slice(value.unwrap_or_default());
        Ok(value.is_some())
    }

    fn multi_get(
        &self,
        keys: &[&[u8]],
        sorted: bool,
        visit: &mut dyn FnMut(usize, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        debug_assert!(!sorted || keys.is_sorted(), "the keys do not ascend");
        let tree = self.tree();
        keys.iter().enumerate().try_for_each(|(index, key)| visit(index, tree.get(key)?))
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for (key, value) in self.tree().range(from, to)? {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, ops: &mut dyn Iterator<Item = Op<'_>>) -> Result<()> {
        self.check_gate()?;
        let mut tree = self.tree();
        for op in ops {
            tree.apply(op)?;
        }
        Ok(())
    }

    fn cut(&mut self, _dir: &Path) -> Result<Cut> {
        let tree = Arc::clone(&self.tree);
        self.gate.cut(move || lock(&tree).checkpoint())
    }

    fn compact(&mut self) -> Result<()> {
        self.check_gate()?;
        let mut tree = self.tree();
        tree.flush()?;
        let n = tree.runs.len();
        tree.merge(n)
    }

    fn size(&self) -> Result<LsmSize> {
        let tree = self.tree();
        Ok(LsmSize {
            file_bytes: tree.runs.iter().map(|run| run.bytes.len() as u64).sum(),
            n_files: tree.runs.len() as u64,
            memory_bytes: tree.unflushed_bytes as u64,
            n_keys: tree.range(&[], None)?.len() as u64,
            compaction_debt_bytes: 0,
        })
    }
}
