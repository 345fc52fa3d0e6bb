//! The files of a sink: their names say how far they have come, and each step is one rename.
//!
//! ```text
//! .part-<subtask>-<i>.inprogress            is being written, or waits for its checkpoint
//! .part-<checkpoint>-<subtask>-<k>.pending  staged: complete, on the disk, unseen
//! part-<checkpoint>-<subtask>-<k>           committed
//! part-<subtask>, part-<subtask>-<k>        complete, of a job without checkpoints (with `-<k>` if it rolls)
//! ```
//!
//! The number of a checkpoint never comes again once its output may have been committed, and what is left of
//! one that was not completed is deleted before its number can; so no name is used for two contents.
//! What is staged also says which checkpoint it was and how long the files are, so that a folder that does not
//! belong to the checkpoint, or has gone on without it, is noticed.

use crate::durable::{failed, names_in};
use millstream_model::{CheckpointId, Error, EventTime, Result};
use millstream_runtime::failpoint;
use millstream_runtime::folder::sync_folder;
use millstream_runtime::operator::Staged;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// How far a file has come, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    InProgress,
    Pending,
    /// Of a job with checkpoints.
    Committed,
    /// Of a job without.
    Finished,
}

impl Stage {
    pub(super) fn is_hidden(self) -> bool {
        matches!(self, Stage::InProgress | Stage::Pending)
    }
}

/// How far a file has come; `None` if it is not a sink's.
pub(super) fn stage_of(name: &str) -> Option<Stage> {
    let numbers = |text: &str| {
        let is_number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        text.split('-').all(is_number).then(|| text.split('-').count())
    };
    if let Some(hidden) = name.strip_prefix(".part-") {
        if let Some(text) = hidden.strip_suffix(".inprogress") {
            return numbers(text).filter(|n| *n <= 2).map(|_| Stage::InProgress);
        }
        return numbers(hidden.strip_suffix(".pending")?)
            .filter(|n| *n == 3)
            .map(|_| Stage::Pending);
    }
    match numbers(name.strip_prefix("part-")?)? {
        1 | 2 => Some(Stage::Finished),
        3 => Some(Stage::Committed),
        _ => None,
    }
}

/// The checkpoint that a committed file is of.
fn checkpoint_of(name: &str) -> Option<u64> {
    let is_committed = stage_of(name) == Some(Stage::Committed);
    name.split('-').nth(1).filter(|_| is_committed)?.parse().ok()
}

/// The subtask that wrote a file.
fn subtask_of(name: &str) -> Option<usize> {
    let mut numbers = name.trim_start_matches('.').split('.').next()?.split('-').skip(1);
    let place = match stage_of(name)? {
        Stage::InProgress | Stage::Finished => 0,
        Stage::Pending | Stage::Committed => 1,
    };
    numbers.nth(place)?.parse().ok()
}

/// A complete file that nobody sees yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// The name it gets.
    name: String,
    size_bytes: u64,
}

/// What a subtask stages: which checkpoint it is for, always, and its files.
fn encode(checkpoint: CheckpointId, files: &[Pending]) -> Staged {
    let mut text = checkpoint.to_string();
    for file in files {
        text.push_str(&format!("\n{} {}", file.size_bytes, file.name));
    }
    text.into_bytes()
}

pub(super) fn decode(staged: &[u8]) -> Result<(u64, Vec<Pending>)> {
    let file = |line: &str| {
        let (size, name) = line.split_once(' ')?;
        checkpoint_of(name)?;
        Some(Pending { name: name.to_owned(), size_bytes: size.parse().ok()? })
    };
    let parse = |text: &str| {
        let mut lines = text.split('\n');
        Some((lines.next()?.parse().ok()?, lines.map(file).collect::<Option<Vec<_>>>()?))
    };
    std::str::from_utf8(staged).ok().and_then(parse).ok_or_else(|| {
        Error::external(format!(
            "`{}` is not what a file sink stages: another sink had the uid of this one when the checkpoint was \
             taken; give each its own",
            String::from_utf8_lossy(staged)
        ))
    })
}

impl Pending {
    fn hidden(&self) -> String {
        format!(".{}.pending", self.name)
    }

    /// Gives the file its name, unless it has it.
    fn commit(&self, dir: &Path) -> Result<()> {
        let (hidden, visible) = (dir.join(self.hidden()), dir.join(&self.name));
        let size = |path: &Path| match fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(path, "cannot be looked at", e)),
        };
        let (pending, committed) = (size(&hidden)?, size(&visible)?);
        let found = match (pending, committed) {
            (Some(_), Some(_)) => return Err(taken(&visible)),
            (Some(size), None) | (None, Some(size)) => size,
            (None, None) => {
                return Err(Error::external(format!(
                    "`{}` is gone: the checkpoint counts on it as staged output. Was the folder emptied, or is \
                     another run at work in it? Restore with the folder as it was, or begin anew in another one",
                    hidden.display()
                )));
            }
        };
        if found != self.size_bytes {
            let path = if pending.is_some() { &hidden } else { &visible };
            return Err(Error::external(format!(
                "`{}` is {found} bytes long, and {} were staged: it is damaged, or of another run; restore with \
                 the folder as it was, or begin anew in another one",
                path.display(),
                self.size_bytes
            )));
        }
        if pending.is_some() {
            failpoint::hit("file.before-commit");
            fs::rename(&hidden, &visible).map_err(|e| failed(&visible, "cannot be named", e))?;
            failpoint::hit("file.after-commit");
        }
        Ok(())
    }
}

fn taken(path: &Path) -> Error {
    Error::user(format!(
        "`{}` is there already: the job was restored from an older checkpoint than the output in its folder, \
         which would be written a second time. Choose another folder, or remove what was written since",
        path.display()
    ))
}

/// Makes staged files visible, if they are not; durably.
pub(super) fn commit(dir: &Path, staged: &[Staged]) -> Result<()> {
    commit_some(dir, staged, |_| true)
}

/// The same for the files of these subtasks: others commit theirs.
pub(super) fn commit_of(dir: &Path, staged: &[Staged], subtasks: &[usize]) -> Result<()> {
    commit_some(dir, staged, |name| is_of(name, subtasks))
}

fn is_of(name: &str, subtasks: &[usize]) -> bool {
    subtask_of(name).is_some_and(|subtask| subtasks.contains(&subtask))
}

fn commit_some(dir: &Path, staged: &[Staged], which: impl Fn(&str) -> bool) -> Result<()> {
    let mut has_files = false;
    for staged in staged {
        for file in decode(staged)?.1.iter().filter(|file| which(&file.name)) {
            file.commit(dir)?;
            has_files = true;
        }
    }
    // Also if all had their names: whoever gave them may have died before this.
    if has_files { sync(dir) } else { Ok(()) }
}

/// Refuses a folder that holds output from after the checkpoint that staged this: it would come again.
pub(super) fn refuse_later(dir: &Path, staged: &[Staged]) -> Result<()> {
    let mut restored = 0;
    for staged in staged {
        restored = restored.max(decode(staged)?.0);
    }
    let names = names_in(dir).map_err(|e| failed(dir, "cannot be listed", e))?;
    match names.iter().find(|name| checkpoint_of(name).is_some_and(|id| id > restored)) {
        Some(name) => Err(taken(&dir.join(name))),
        None => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<()> {
    sync_folder(dir).map_err(|e| failed(dir, "cannot be synced", e))
}

/// Removes the files that have come as far as `which` says.
pub(super) fn remove(dir: &Path, which: impl Fn(Stage) -> bool) -> Result<()> {
    remove_some(dir, |name| stage_of(name).is_some_and(&which))
}

/// The same for the files of these subtasks.
pub(super) fn remove_of(
    dir: &Path,
    subtasks: &[usize],
    which: impl Fn(Stage) -> bool,
) -> Result<()> {
    remove_some(dir, |name| stage_of(name).is_some_and(&which) && is_of(name, subtasks))
}

fn remove_some(dir: &Path, which: impl Fn(&str) -> bool) -> Result<()> {
    let names = names_in(dir).map_err(|e| failed(dir, "cannot be listed", e))?;
    for name in names.iter().filter(|name| which(name)) {
        let path = dir.join(name);
        failpoint::hit("file.before-delete");
        fs::remove_file(&path).map_err(|e| failed(&path, "cannot be removed", e))?;
        failpoint::hit("file.after-delete");
    }
    sync(dir)
}

struct Open {
    file: File,
    path: PathBuf,
    size_bytes: u64,
    since_ms: EventTime,
}

/// The files of one subtask.
pub(super) struct Parts {
    dir: PathBuf,
    subtask: usize,
    n_begun: u64,
    open: Option<Open>,
    /// Complete and on the disk, with their sizes.
    sealed: Vec<(PathBuf, u64)>,
}

impl Parts {
    pub(super) fn new(dir: &Path, subtask: usize) -> Self {
        Parts { dir: dir.to_owned(), subtask, n_begun: 0, open: None, sealed: Vec::new() }
    }

    /// Bytes in the file being written, and since when it is.
    pub(super) fn open(&self) -> Option<(u64, EventTime)> {
        self.open.as_ref().map(|open| (open.size_bytes, open.since_ms))
    }

    /// Appends to the file, which is made with its first bytes.
    pub(super) fn write(&mut self, bytes: &[u8], now_ms: EventTime) -> Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let name = format!(".part-{}-{}.inprogress", self.subtask, self.n_begun);
                let path = self.dir.join(name);
                failpoint::hit("file.before-create");
                let file = File::create_new(&path).map_err(|e| match e.kind() {
                    ErrorKind::AlreadyExists => Error::user(format!(
                        "`{}` is being written already: give every sink and every job a folder of its own",
                        path.display()
                    )),
                    _ => failed(&path, "cannot be made", e),
                })?;
                failpoint::hit("file.after-create");
                self.n_begun += 1;
                self.open.insert(Open { file, path, size_bytes: 0, since_ms: now_ms })
            }
        };
        let written = open.file.write_all(bytes);
        written.map_err(|e| failed(&open.path, "cannot be written", e))?;
        open.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Completes the file being written, if there is one.
    pub(super) fn seal(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            failpoint::hit("file.before-sync");
            open.file.sync_all().map_err(|e| failed(&open.path, "cannot be synced", e))?;
            failpoint::hit("file.after-sync");
            self.sealed.push((open.path, open.size_bytes));
        }
        Ok(())
    }

    /// Puts everything written so far where it survives a crash, unseen. There is always something to hand
    /// over, if only which checkpoint it was.
    pub(super) fn stage(&mut self, checkpoint: CheckpointId) -> Result<Vec<Staged>> {
        self.seal()?;
        let mut files = Vec::new();
        for (k, (path, size_bytes)) in self.sealed.drain(..).enumerate() {
            let name = format!("part-{checkpoint}-{}-{k}", self.subtask);
            let pending = Pending { name, size_bytes };
            let visible = self.dir.join(&pending.name);
            if visible.exists() {
                return Err(taken(&visible));
            }
            failpoint::hit("file.before-stage");
            rename(&path, &self.dir.join(pending.hidden()))?;
            failpoint::hit("file.after-stage");
            files.push(pending);
        }
        if !files.is_empty() {
            sync(&self.dir)?;
        }
        Ok(vec![encode(checkpoint, &files)])
    }

    /// Makes everything visible at once: without checkpoints. The files have numbers if they may be several.
    pub(super) fn finish(&mut self, are_numbered: bool) -> Result<()> {
        self.seal()?;
        if self.sealed.is_empty() {
            return Ok(());
        }
        for (k, (path, _)) in self.sealed.drain(..).enumerate() {
            let subtask = self.subtask;
            let name = match are_numbered {
                true => format!("part-{subtask}-{k}"),
                false => format!("part-{subtask}"),
            };
            failpoint::hit("file.before-finish");
            rename(&path, &self.dir.join(name))?;
            failpoint::hit("file.after-finish");
        }
        sync(&self.dir)
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let renamed: io::Result<()> = fs::rename(from, to);
    renamed.map_err(|e| failed(to, "cannot be completed", e))
}
