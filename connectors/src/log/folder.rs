//! The folder of a log: every file in it is complete and synced before its name means anything.

use crate::durable::{failed, names_in};
use millstream_model::{Error, Result};
use millstream_runtime::failpoint;
use millstream_runtime::folder::{make_folder, settle_folder, sync_folder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const META_MAGIC: [u8; 8] = *b"MSLOGMET";
const COMMIT_MAGIC: [u8; 8] = *b"MSLOGCMT";
/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;

/// What all writers and readers of a log agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    version: u32,
    pub(super) n_partitions: u32,
    /// Grows with every attempt that writes.
    pub(super) epoch: u64,
    /// When the latest transaction was staged of those that are committed, or are being so. The last that was committed need
    /// not be the latest: subtasks commit one after the other, each also what checkpoints have left that were given up.
    #[serde(default)]
    committed: Option<Moment>,
}

/// When a transaction was staged: later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Moment {
    pub(super) epoch: u64,
    /// `u64::MAX` at the end of a job without checkpoints.
    pub(super) checkpoint: u64,
}

/// What a subtask wrote for a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Transaction {
    pub(super) at: Moment,
    pub(super) segments: Vec<Segment>,
}

/// The records of a transaction in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) partition: u32,
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) n_records: u64,
}

/// What a subtask hands over at a barrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StagedTransaction {
    pub(super) at: Moment,
    /// The transaction's name, if anything was written.
    pub(super) name: Option<String>,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) dir: PathBuf,
}

/// A file with a magic, a length and a checksum around JSON.
fn seal(magic: [u8; 8], content: &impl Serialize) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(content)
        .map_err(|e| Error::internal("the log's own files are JSON").caused_by(e))?;
    let mut bytes = magic.to_vec();
    bytes.extend((json.len() as u32).to_le_bytes());
    bytes.extend(crc32fast::hash(&json).to_le_bytes());
    bytes.extend(json);
    Ok(bytes)
}

fn unseal<T: DeserializeOwned>(path: &Path, magic: [u8; 8], bytes: &[u8]) -> Result<T> {
    let damaged = |what: &str| {
        Error::external(format!("`{}` {what}: restore the log from a copy", path.display()))
    };
    let Some((head, json)) = bytes.split_at_checked(16).filter(|(head, _)| head[..8] == magic)
    else {
        return Err(damaged("does not begin as a file of a log"));
    };
    let u32_at =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if (u32_at(8) as usize, u32_at(12)) != (json.len(), crc32fast::hash(json)) {
        return Err(damaged("is damaged: its length or checksum is wrong"));
    }
    serde_json::from_slice(json).map_err(|e| damaged("is damaged").caused_by(e))
}

/// Makes a file that is complete when it has its name.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let next = path.with_extension("next");
    let write = || {
        let mut file = File::create(&next)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    };
    write().map_err(|e| failed(path, "cannot be written", e))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(path, "cannot be read", e)),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| failed(to, "cannot be named", e))
}

fn sync(dir: &Path) -> Result<()> {
    sync_folder(dir).map_err(|e| failed(dir, "cannot be synced", e))
}

impl Folder {
    pub(super) fn new(dir: impl Into<PathBuf>) -> Self {
        Folder { dir: dir.into() }
    }

    pub(super) fn staged(&self) -> PathBuf {
        self.dir.join("staged")
    }

    pub(super) fn segment(&self, name: &str) -> PathBuf {
        self.dir.join("segments").join(name)
    }

    fn commit_path(&self, number: u64) -> PathBuf {
        self.dir.join("commits").join(format!("{number:020}"))
    }

    /// What the log is; `None` if there is none.
    pub(super) fn meta(&self) -> Result<Option<Meta>> {
        let path = self.dir.join("meta");
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let meta: Meta = unseal(&path, META_MAGIC, &bytes)?;
        if meta.version != VERSION || meta.n_partitions == 0 {
            return Err(Error::external(format!(
                "`{}` is of version {}, and this program reads version {VERSION}: use the release that wrote it",
                path.display(),
                meta.version
            )));
        }
        Ok(Some(meta))
    }

    /// What the log is; it must be there.
    pub(super) fn known_meta(&self) -> Result<Meta> {
        self.meta()?.ok_or_else(|| {
            Error::user(format!(
                "there is no log in `{}`: check the path, or start the job that writes it first",
                self.dir.display()
            ))
        })
    }

    fn write_meta(&self, meta: &Meta) -> Result<()> {
        write_whole(&self.dir.join("meta"), &seal(META_MAGIC, meta)?)
    }

    /// Keeps others from preparing and committing until the file is dropped.
    fn lock(&self) -> Result<File> {
        let path = self.dir.join("lock");
        let lock = || {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|e| failed(&path, "cannot be locked", e))
    }

    /// Begins an attempt: nobody else may commit what they stage from now on. `n_partitions` is what a new log
    /// gets. With what was `staged` by the checkpoint that is restored, makes that visible; without, the log
    /// must be empty, unless records may be appended. What else was staged is gone.
    pub(super) fn prepare(
        &self,
        n_partitions: Option<u32>,
        staged: &[StagedTransaction],
        appends: bool,
    ) -> Result<()> {
        for dir in
            [&self.dir, &self.staged(), &self.dir.join("segments"), &self.dir.join("commits")]
        {
            make_folder(dir).map_err(|e| failed(dir, "cannot be made a folder", e))?;
        }
        let _lock = self.lock()?;
        let before = self.meta()?;
        let had = before.map_or(n_partitions.unwrap_or(1), |meta| meta.n_partitions);
        if n_partitions.is_some_and(|n| n != had || n == 0) {
            return Err(Error::user(format!(
                "the log in `{}` has {had} partitions and cannot get another number: leave it, or choose another \
                 folder",
                self.dir.display()
            )));
        }
        let committed = before.and_then(|meta| meta.committed);
        let last = match self.whole()?.checked_sub(1) {
            Some(last) => self.commit(last)?.map(|last| last.at).max(committed),
            None => None,
        };
        let restored = staged.iter().map(|staged| staged.at).max();
        match (last, restored) {
            (Some(_), None) if !appends => {
                return Err(Error::user(format!(
                    "the log in `{}` is not empty: choose another folder, delete it, or add to it with `append`",
                    self.dir.display()
                )));
            }
            (Some(last), Some(restored)) if last > restored => {
                return Err(Error::user(format!(
                    "the log in `{}` goes on behind the checkpoint that the job was restored from (its latest \
                     transaction is of checkpoint {}): what was written since would be written twice. Choose \
                     another folder",
                    self.dir.display(),
                    last.checkpoint
                )));
            }
            _ => {}
        }
        // The epoch first: from here on nobody else can commit.
        let epoch = before.map_or(0, |meta| meta.epoch).checked_add(1).ok_or_else(|| {
            Error::external(format!(
                "the number in `{}` cannot grow: it is damaged",
                self.dir.join("meta").display()
            ))
        })?;
        failpoint::hit("log.before-epoch");
        let committed = last.max(latest(staged));
        self.write_meta(&Meta { version: VERSION, n_partitions: had, epoch, committed })?;
        failpoint::hit("log.after-epoch");
        for staged in staged {
            self.make_visible(staged)?;
        }
        self.discard()
    }

    /// Removes what is staged.
    fn discard(&self) -> Result<()> {
        let dir = self.staged();
        for name in names_in(&dir).map_err(|e| failed(&dir, "cannot be listed", e))? {
            let path = dir.join(name);
            failpoint::hit("log.before-delete");
            fs::remove_file(&path).map_err(|e| failed(&path, "cannot be removed", e))?;
            failpoint::hit("log.after-delete");
        }
        sync(&dir)
    }

    /// Stages a transaction whose segments are complete and synced.
    pub(super) fn stage(&self, name: &str, transaction: &Transaction) -> Result<()> {
        failpoint::hit("log.before-stage");
        write_whole(&self.staged().join(name), &seal(COMMIT_MAGIC, transaction)?)?;
        failpoint::hit("log.after-stage");
        Ok(())
    }

    /// Commits what was staged in the current epoch.
    pub(super) fn commit_staged(&self, staged: &[StagedTransaction]) -> Result<()> {
        let _lock = self.lock()?;
        let meta = self.known_meta()?;
        let epoch = meta.epoch;
        if let Some(stale) = staged.iter().find(|staged| staged.at.epoch != epoch) {
            return Err(Error::external(format!(
                "another attempt writes the log in `{}` (epoch {epoch}): this one (epoch {}) was taken for dead \
                 and must not commit; if two jobs write it, give each a log of its own",
                self.dir.display(),
                stale.at.epoch
            )));
        }
        // Before anything is visible that an older checkpoint knows nothing of.
        let committed = meta.committed.max(latest(staged));
        if committed != meta.committed {
            self.write_meta(&Meta { committed, ..meta })?;
        }
        staged.iter().try_for_each(|staged| self.make_visible(staged))
    }

    fn make_visible(&self, staged: &StagedTransaction) -> Result<()> {
        let Some(name) = &staged.name else { return Ok(()) };
        let path = self.staged().join(name);
        let n_commits = self.n_commits()?;
        let Some(bytes) = read(&path)? else { return self.find(staged, name, n_commits) };
        let transaction = Transaction::unsealed(&path, &bytes)?;
        for segment in &transaction.segments {
            let (from, to) = (self.staged().join(&segment.name), self.segment(&segment.name));
            // It is there already if whoever began this did not get to its end.
            let is_there = !from.exists();
            if !is_there && to.exists() {
                return Err(Error::internal(format!(
                    "two transactions of a log are called `{name}`"
                )));
            }
            segment.check_length(if is_there { &to } else { &from })?;
            if !is_there {
                failpoint::hit("log.before-move");
                rename(&from, &to)?;
                failpoint::hit("log.after-move");
            }
        }
        sync(&self.dir.join("segments"))?;
        failpoint::hit("log.before-commit");
        rename(&path, &self.commit_path(n_commits))?;
        sync(&self.dir.join("commits"))?;
        failpoint::hit("log.after-commit");
        Ok(())
    }

    /// Makes sure that a transaction that is no longer staged was committed.
    fn find(&self, staged: &StagedTransaction, name: &str, n_commits: u64) -> Result<()> {
        for number in (0..n_commits).rev() {
            match self.commit(number)? {
                Some(commit) if commit.at == staged.at && commit.is_called(name) => {
                    return sync(&self.dir.join("commits"));
                }
                // Within an epoch they are committed in any order, but only after those of all epochs before.
                Some(commit) if commit.at.epoch < staged.at.epoch => break,
                _ => {}
            }
        }
        Err(Error::external(format!(
            "transaction `{name}` is neither staged nor committed in `{}`: was the folder replaced since the \
             checkpoint? Restore with the folder as it was, or begin anew in another one",
            self.dir.display()
        )))
    }

    /// How many transactions are committed; none of them is missing.
    pub(super) fn whole(&self) -> Result<u64> {
        let dir = self.dir.join("commits");
        let names = names_in(&dir).map_err(|e| failed(&dir, "cannot be listed", e))?;
        let mut next = 0;
        for number in names.iter().filter_map(|name| name.parse::<u64>().ok()) {
            // What is committed while a folder is listed may be passed over, and what came after it not.
            if let Some(missing) = (next..number).find(|number| !self.commit_path(*number).exists())
            {
                return Err(Error::external(format!(
                    "`{}` is missing, and there are later ones: restore the log from a copy",
                    self.commit_path(missing).display()
                )));
            }
            next = number.saturating_add(1);
        }
        self.n_commits()
    }

    /// How many transactions are committed.
    pub(super) fn n_commits(&self) -> Result<u64> {
        // They are numbered without gaps: twice as far until there is none, then halves.
        let exists = |number: u64| {
            let path = self.commit_path(number);
            path.try_exists().map_err(|e| failed(&path, "cannot be looked at", e))
        };
        let mut end = 1;
        while exists(end - 1)? {
            end *= 2;
        }
        let mut begin = end / 2;
        end -= 1;
        while begin < end {
            let middle = begin + (end - begin) / 2;
            if exists(middle)? {
                begin = middle + 1;
            } else {
                end = middle;
            }
        }
        Ok(begin)
    }

    /// How many transactions are committed and survive a power cut. Whoever commits gives one its name before that is on the
    /// disk, and whoever looks may see it between: if it is lost then, it comes again, but perhaps under another number.
    pub(super) fn durable_commits(&self) -> Result<u64> {
        let n_commits = self.n_commits()?;
        let dir = self.dir.join("commits");
        settle_folder(&dir).map_err(|e| failed(&dir, "cannot be synced", e))?;
        Ok(n_commits)
    }

    /// A committed transaction; `None` if there is none of that number yet.
    pub(super) fn commit(&self, number: u64) -> Result<Option<Transaction>> {
        let path = self.commit_path(number);
        match read(&path)? {
            Some(bytes) => Transaction::unsealed(&path, &bytes).map(Some),
            None => Ok(None),
        }
    }
}

/// When the latest of them was staged that holds anything.
fn latest(staged: &[StagedTransaction]) -> Option<Moment> {
    staged.iter().filter(|staged| staged.name.is_some()).map(|staged| staged.at).max()
}

impl Segment {
    /// Whether its file is as long as it was when it was synced.
    fn check_length(&self, path: &Path) -> Result<()> {
        let is = fs::metadata(path).map_err(|e| failed(path, "cannot be committed", e))?.len();
        if is == self.size_bytes {
            return Ok(());
        }
        Err(Error::external(format!(
            "`{}` is damaged: it has {is} bytes, and {} were written. Restore the log from a copy",
            path.display(),
            self.size_bytes
        )))
    }
}

impl Transaction {
    fn unsealed(path: &Path, bytes: &[u8]) -> Result<Self> {
        let transaction: Transaction = unseal(path, COMMIT_MAGIC, bytes)?;
        match transaction.segments.iter().find(|segment| !is_name(&segment.name)) {
            // It would be looked for outside of the log.
            Some(segment) => Err(Error::external(format!(
                "`{}` is damaged: it names a segment `{}`, which no log would; restore the log from a copy",
                path.display(),
                segment.name
            ))),
            None => Ok(transaction),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.segments.iter().any(|s| s.name == segment_name(name, s.partition))
    }
}

/// The name of a transaction: no other ever has it, because no two attempts have an epoch in common.
pub(super) fn transaction_name(epoch: u64, subtask: usize, k: u64) -> String {
    format!("{epoch}-{subtask}-{k}")
}

/// Whether a transaction or a segment can be called that. Names come from checkpoints and files, and become parts of paths.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'p'))
}

/// The name of its segment in a partition.
pub(super) fn segment_name(transaction: &str, partition: u32) -> String {
    format!("{transaction}-p{partition}")
}
