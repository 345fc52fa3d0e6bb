//! A task's store: one log-structured tree beneath its tables, and the rules of when it is written.
//!
//! Between the barrier of a checkpoint and the cut of its files no value written after the barrier may reach
//! the tree. So the store is *held* from the freeze until the cut is done: tables may still write what was
//! there at the freeze, and nothing else; what became dirty since stays in memory for so long.

use crate::codec;
use crate::copies::LocalCopies;
use crate::lsm::{
    Cut, Expiry, Lsm, LsmEngine, LsmFile, MemoryBudget, Op, Open, Share, end_of_prefix,
};
use crate::part::IsExpired;
use crate::work_dir::WorkDir;
use millstream_model::job_graph::OperatorId;
use millstream_model::key_group::key_group;
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Result, hash_key};
use serde::Serialize;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What the stores of a process have in common.
#[derive(Clone)]
pub struct Backend {
    /// Opens trees.
    pub engine: Arc<dyn LsmEngine>,
    /// How much memory decoded values may take.
    pub budget: Arc<MemoryBudget>,
    /// Where trees live.
    pub dir: PathBuf,
    /// A name that no other run of this job has; files of its trees bear it.
    pub run: String,
    /// What of checkpoints is still here.
    pub copies: Arc<LocalCopies>,
    /// Where trees live, if that goes with the last that holds this.
    own: Option<Arc<WorkDir>>,
}

/// See the module's text.
pub struct Store {
    tree: Mutex<Box<dyn Lsm>>,
    share: Mutex<Share>,
    /// What decoded values of all tasks may take.
    limit_bytes: usize,
    /// How many entries of a table may stay all the same.
    n_kept: usize,
    is_held: AtomicBool,
    /// Cuts that have been begun and are not done.
    n_cutting: AtomicUsize,
    /// Called when one is done.
    when_cut: OnceLock<Box<dyn Fn() + Send + Sync>>,
    dir: PathBuf,
    n_cuts: AtomicU64,
    _own: Option<Arc<WorkDir>>,
}

impl Backend {
    /// Over trees that live in a folder.
    pub fn new(
        engine: Arc<dyn LsmEngine>,
        budget: Arc<MemoryBudget>,
        dir: PathBuf,
        run: String,
    ) -> Self {
        let copies = Arc::new(LocalCopies::new(dir.join("copies")));
        Backend { engine, budget, dir, run, copies, own: None }
    }

    /// Over trees in a folder of their own; it goes with the last that holds this or one of its stores.
    pub fn in_work_dir(
        engine: Arc<dyn LsmEngine>,
        budget: Arc<MemoryBudget>,
        own: WorkDir,
    ) -> Self {
        let (dir, run) = (own.path().to_owned(), own.name().to_owned());
        Backend { own: Some(Arc::new(own)), ..Self::new(engine, budget, dir, run) }
    }

    /// Opens the store of a task: empty, or with the files of a checkpoint. Compaction drops what has expired.
    ///
    /// # Errors
    /// As [`LsmEngine::open`].
    pub fn open(
        &self,
        task: usize,
        attempt: u32,
        files: &[LsmFile],
        expiry: Expiry,
    ) -> Result<Arc<Store>> {
        let instance = format!("{}-{attempt}-{task}", self.run);
        let dir = self.dir.join(&instance);
        let opened =
            self.engine.open(Open { dir: &dir.join("tree"), instance: &instance, files, expiry });
        let tree = opened.inspect_err(|_| {
            // What cannot be deleted lies in the job's own folder.
            let _ = std::fs::remove_dir_all(&dir);
        })?;
        Ok(Arc::new(Store {
            tree: Mutex::new(tree),
            share: Mutex::new(self.budget.share()),
            limit_bytes: self.budget.limit(),
            n_kept: self.budget.n_kept(),
            is_held: AtomicBool::new(false),
            n_cutting: AtomicUsize::new(0),
            when_cut: OnceLock::new(),
            dir,
            n_cuts: AtomicU64::new(0),
            _own: self.own.clone(),
        }))
    }
}

impl Store {
    fn tree(&self) -> MutexGuard<'_, Box<dyn Lsm>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The space of one part.
    pub fn space(self: &Arc<Self>, id: OperatorId, part: &str, max_parallelism: u32) -> Space {
        Space { store: Arc::clone(self), prefix: part_prefix(id, part), max_parallelism }
    }

    /// What decoded values of all tasks may take, in bytes.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// How many entries of a table may stay, however large they are.
    pub(crate) fn n_kept(&self) -> usize {
        self.n_kept
    }

    /// Whether only what was there at the freeze may be written.
    pub fn is_held(&self) -> bool {
        if is_planted(Bug::WriteAfterBarrier) {
            return false;
        }
        self.is_held.load(Ordering::SeqCst) || self.is_cutting()
    }

    /// Whether a cut has been begun and is not done: nothing at all may be written.
    pub fn is_cutting(&self) -> bool {
        self.n_cutting.load(Ordering::SeqCst) > 0
    }

    /// Has this called, by whatever thread, whenever a cut is done. The first time counts.
    pub fn when_cut(&self, call: impl Fn() + Send + Sync + 'static) {
        let _ = self.when_cut.set(Box::new(call));
    }

    fn has_cut(&self) {
        self.n_cutting.fetch_sub(1, Ordering::SeqCst);
        if let Some(call) = self.when_cut.get() {
            call();
        }
    }

    /// Lets everything be written again: there will be no cut.
    pub fn release(&self) {
        self.is_held.store(false, Ordering::SeqCst);
    }

    /// Begins to cut the files of a checkpoint: everything that was there at the freeze has been written.
    ///
    /// # Errors
    /// As [`Lsm::cut`].
    pub fn cut(self: &Arc<Self>) -> Result<StoreCut> {
        let number = self.n_cuts.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.join(format!("cut-{number}"));
        let cut = self.tree().cut(&dir)?;
        self.n_cutting.fetch_add(1, Ordering::SeqCst);
        self.release();
        Ok(StoreCut { cut: Some(cut), store: Arc::clone(self), dir })
    }

    /// Writes entries that lie in another tree: of a part, for key groups that this task owns.
    ///
    /// # Errors
    /// As [`Lsm::scan`] and [`Lsm::write`].
    pub fn copy_from(&self, other: &dyn Lsm, from: &[u8], to: &[u8]) -> Result<()> {
        const N_AT_ONCE: usize = 4096;
        let mut from = from.to_vec();
        loop {
            let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            other.scan(&from, Some(to), &mut |key, value| {
                entries.push((key.to_vec(), value.to_vec()));
                let is_full = entries.len() == N_AT_ONCE;
                Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            self.tree().write(&mut entries.iter().map(|(k, v)| Op::Put(k, v)))?;
            match entries.pop() {
                Some((last, _)) if entries.len() + 1 == N_AT_ONCE => {
                    from = last;
                    from.push(0);
                }
                _ => return Ok(()),
            }
        }
    }

    /// Rewrites everything now, without what is deleted or has expired.
    ///
    /// # Errors
    /// As [`Lsm::compact`].
    pub fn compact(&self) -> Result<()> {
        self.tree().compact()
    }

    /// Deletes a range of keys.
    ///
    /// # Errors
    /// As [`Lsm::write`].
    pub fn delete_range(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.tree().write(&mut std::iter::once(Op::DeleteRange(from, to)))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What cannot be deleted is in a folder of its own.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A cut under way; while there is one, nothing is written.
pub struct StoreCut {
    cut: Option<Cut>,
    store: Arc<Store>,
    dir: PathBuf,
}

impl StoreCut {
    /// Carries it out: the files of the checkpoint, which are there until this is dropped.
    ///
    /// # Errors
    /// As [`Cut::run`].
    pub fn run(&mut self) -> Result<Vec<LsmFile>> {
        let Some(cut) = self.cut.take() else { return Ok(Vec::new()) };
        let files = cut.run();
        self.store.has_cut();
        files
    }

    /// A folder that goes when this is dropped.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for StoreCut {
    fn drop(&mut self) {
        if self.cut.take().is_some() {
            self.store.has_cut();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Where a file of a tree is stored, in a folder of its checkpoint.
pub fn stored_path(folder: &str, name: &str) -> String {
    format!("{folder}/{}", name.replace('/', "~"))
}

/// What a tree calls a file that is stored there.
pub fn tree_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).replace('~', "/")
}

/// What of these parts' entries expires: how a part's keys begin, and what tells of its values whether they have.
pub fn expiry_of(parts: impl IntoIterator<Item = ([u8; 8], IsExpired)>) -> Expiry {
    let by_prefix: HashMap<[u8; 8], IsExpired> = parts.into_iter().collect();
    if by_prefix.is_empty() {
        return Expiry::never();
    }
    Expiry::of(move |key, value| {
        let is_expired = key.first_chunk().and_then(|prefix| by_prefix.get(prefix));
        is_expired.is_some_and(|is_expired| is_expired(value))
    })
}

/// How the keys of a part begin in every tree: the same in all subtasks and runs.
pub fn part_prefix(id: OperatorId, part: &str) -> [u8; 8] {
    // A number and a text always hash.
    hash_key(&(id.0, part)).unwrap_or_default().to_be_bytes()
}

/// Whether a tree has entries of a part.
///
/// # Errors
/// If the tree cannot be read.
pub fn has_part(tree: &dyn Lsm, id: OperatorId, part: &str) -> Result<bool> {
    let (prefix, mut has_some) = (part_prefix(id, part), false);
    tree.scan(&prefix, end_of_prefix(&prefix).as_deref(), &mut |_, _| {
        has_some = true;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(has_some)
}

/// The keys of a part that lie in these key groups: from, and before.
pub fn part_range(prefix: [u8; 8], groups: std::ops::Range<u32>) -> (Vec<u8>, Vec<u8>) {
    let at = |group: u32| {
        let mut key = prefix.to_vec();
        key.extend_from_slice(&(group as u16).to_be_bytes());
        key
    };
    let end = if groups.end > u32::from(u16::MAX) {
        end_of_prefix(&prefix).unwrap_or_default()
    } else {
        at(groups.end)
    };
    (at(groups.start), end)
}

/// Bytes before the encoded key: the part's, and the key group.
pub const KEY_HEADER_BYTES: usize = 10;

/// The key group of a key that has its header.
pub fn group_of(key: &[u8]) -> u16 {
    key.get(8..KEY_HEADER_BYTES).map_or(0, |group| u16::from_be_bytes([group[0], group[1]]))
}

/// One part's keys in a task's store.
#[derive(Clone)]
pub struct Space {
    store: Arc<Store>,
    prefix: [u8; 8],
    max_parallelism: u32,
}

impl Space {
    /// The store it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The key of an entry.
    ///
    /// # Errors
    /// If the key cannot be encoded.
    pub fn key<K: Serialize>(&self, hash: u64, key: &K, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.extend_from_slice(&self.header(self.group(hash)));
        codec::encode(key, out)
    }

    /// The key group of a hash.
    pub fn group(&self, hash: u64) -> u16 {
        key_group(hash, self.max_parallelism) as u16
    }

    /// How the keys of a key group begin.
    pub fn header(&self, group: u16) -> [u8; KEY_HEADER_BYTES] {
        let mut header = [0; KEY_HEADER_BYTES];
        header[..8].copy_from_slice(&self.prefix);
        header[8..].copy_from_slice(&group.to_be_bytes());
        header
    }

    /// The first key behind those that begin so.
    pub fn end_of(&self, begin: &[u8]) -> Vec<u8> {
        // A key behind all that begin with the largest prefix there is: no key is as long.
        end_of_prefix(begin).unwrap_or_else(|| vec![0xff; 64])
    }

    /// The first key from this one on, in whichever of the part's key groups it lies.
    ///
    /// # Errors
    /// As [`Lsm::scan`].
    pub fn first(&self, from: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        self.scan_range(from, &self.end_of(&self.prefix), &mut |key, _| {
            found = Some(key.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// The part's first key could be this one.
    pub fn begin(&self) -> &[u8] {
        &self.prefix
    }

    /// Visits the entries from a key on, before another, in order, until `visit` breaks. Keys have their header.
    ///
    /// # Errors
    /// As [`Lsm::scan`].
    pub fn scan_range(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.store.tree().scan(from, Some(to), visit)
    }

    /// Reads the value of a key.
    ///
    /// # Errors
    /// As [`Lsm::get`].
    pub fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.store.tree().get(key, out)
    }

    /// Reads the values of many keys.
    ///
    /// # Errors
    /// As [`Lsm::multi_get`].
    pub fn multi_get(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        self.store.tree().multi_get(keys, false, visit)
    }

    /// Sets and (without a value) deletes keys.
    ///
    /// # Errors
    /// As [`Lsm::write`].
    pub fn write(&self, changes: &mut [Change]) -> Result<()> {
        changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        self.store.tree().write(&mut changes.iter().map(|change| match &change.value {
            Some(value) => Op::Put(&change.key, value),
            None => Op::Delete(&change.key),
        }))
    }

    /// Visits all entries: encoded key and value.
    ///
    /// # Errors
    /// As [`Lsm::scan`].
    pub fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let end = end_of_prefix(&self.prefix);
        self.store.tree().scan(&self.prefix, end.as_deref(), &mut |key, value| {
            visit(&key[KEY_HEADER_BYTES..], value)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// From now on, until the cut, only what is there now may be written.
    pub fn hold(&self) {
        self.store.is_held.store(true, Ordering::SeqCst);
    }

    /// Counts bytes that are used from now on, or free again; how many should be freed.
    pub fn account(&self, before: usize, now: usize) -> usize {
        let mut share = self.store.share.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= before {
            share.take(now - before);
        } else {
            share.give_back(before - now);
        }
        share.excess()
    }
}

/// A change of a key.
pub struct Change {
    /// As [`Space::key`] makes it.
    pub key: Vec<u8>,
    /// The new value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// Its bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}
