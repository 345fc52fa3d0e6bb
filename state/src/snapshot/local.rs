//! Checkpoint storage in a directory.
//!
//! An object is written under a name of its own beside its place, synced, and then *linked* to its name:
//! unlike a rename, a link refuses a name that is taken, so write-once is the file system's promise and not
//! a check that could come too late. Then the folders up to the root are synced, all of them and always:
//! one that somebody else has just made may not be durable yet, and one that is costs next to nothing.
//!
//! Of a large object the system is asked to write what is there while the rest is still to come: the disk works while the state
//! is encoded, and the sync at the end finds little left to wait for.

use super::FileRef;
use super::storage::{CheckpointStorage, Fingerprint, ObjectWriter, check_path, exists, failed};
use crate::failpoint;
use crate::folder::{make_folder, settle_folder, sync_folder};
use millstream_model::{Error, Result};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// So much of an object is left to the system before it is asked to write it.
const WRITE_BACK_BYTES: u64 = 4 * 1024 * 1024;

/// A directory as checkpoint storage. See the module's text.
#[derive(Clone, Debug)]
pub struct LocalStorage {
    root: PathBuf,
}

impl LocalStorage {
    /// Uses a directory, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(dir: impl AsRef<Path>) -> Result<Self> {
        let name = dir.as_ref().display().to_string();
        let make = || {
            // Absolute, so that it stays the same when the working directory changes.
            let root = std::path::absolute(dir.as_ref())?;
            // What others have named in it is durable then, too: marks count on that.
            make_folder(&root)?;
            Ok(LocalStorage { root })
        };
        make().map_err(|e| failed("use the checkpoint folder", &name, e))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.root
    }

    fn place(&self, path: &str) -> Result<PathBuf> {
        check_path(path)?;
        Ok(self.root.join(path))
    }
}

impl LocalStorage {
    /// Takes in a local file; its name is not durable yet.
    fn link(&self, local_file: &Path, path: &str) -> Result<FileRef> {
        let place = self.place(path)?;
        let unreadable = |e| failed("read", &local_file.display().to_string(), e);
        // Of a symbolic link, what it points at: a link to the link would be none to the content.
        let local_file = &local_file.canonicalize().map_err(unreadable)?;
        let mut source = File::open(local_file).map_err(unreadable)?;
        failpoint::hit("storage.before-import");
        source.sync_all().map_err(unreadable)?;
        match with_folder(&place, || fs::hard_link(local_file, &place)) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                return Err(exists(&self.locate(path)));
            }
            // Another file system, or one without links: a copy does as well.
            Err(_) => {
                let mut writer = self.create(path)?;
                pour(&mut source, unreadable, |bytes| writer.write(bytes))?;
                return writer.finish();
            }
        }
        let mut seen = Fingerprint::default();
        pour(&mut source, unreadable, |bytes| {
            seen.add(bytes);
            Ok(())
        })?;
        Ok(seen.of_file(path))
    }

    /// Removes a file, and the folders that held nothing else; the one that has lost a name by that.
    fn remove(&self, place: &Path) -> io::Result<Option<PathBuf>> {
        match fs::remove_file(place) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // One that still holds something refuses.
        let stays = |folder: &&Path| **folder == *self.root || fs::remove_dir(folder).is_err();
        Ok(folders(&self.root, place).find(stays).map(Path::to_owned))
    }
}

impl CheckpointStorage for LocalStorage {
    fn create(&self, path: &str) -> Result<Box<dyn ObjectWriter>> {
        let place = self.place(path)?;
        let name = self.locate(path);
        if fs::symlink_metadata(&place).is_ok() {
            return Err(exists(&name));
        }
        let (file, temporary) = create_beside(&place).map_err(|e| failed("create", &name, e))?;
        failpoint::hit("storage.after-create");
        Ok(Box::new(LocalWriter {
            file: BufWriter::with_capacity(64 * 1024, file),
            temporary: Temporary(temporary),
            place,
            root: self.root.clone(),
            path: path.to_owned(),
            name,
            seen: Fingerprint::default(),
            n_written: 0,
            n_begun: 0,
        }))
    }

    fn import_all(&self, files: &[(PathBuf, String)]) -> Result<Vec<FileRef>> {
        let linked = files.iter().map(|(local_file, path)| self.link(local_file, path));
        let linked = linked.collect::<Result<Vec<FileRef>>>()?;
        // Each is synced once, however many files are new in it.
        let places: Vec<PathBuf> =
            files.iter().map(|(_, path)| self.place(path)).collect::<Result<_>>()?;
        let changed: BTreeSet<&Path> =
            places.iter().flat_map(|place| folders(&self.root, place)).collect();
        for folder in changed.into_iter().rev() {
            let name = || folder.display().to_string();
            sync_folder(folder).map_err(|e| failed("sync the folder", &name(), e))?;
        }
        failpoint::hit("storage.after-import");
        Ok(linked)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        match File::open(self.place(path)?) {
            Ok(file) => Ok(Box::new(file)),
            Err(e) => Err(failed("read", &self.locate(path), e)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        // Only the folder that the prefix leads to has to be walked.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let start = if folder.is_empty() { self.root.clone() } else { self.place(folder)? };
        let mut paths = Vec::new();
        walk(&start, folder, prefix, &mut paths)
            .map_err(|e| failed("list", &start.display().to_string(), e))?;
        paths.sort_unstable();
        Ok(paths)
    }

    fn delete_all(&self, paths: &[String]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        // Each is synced once, however much it has lost; also if not all of it can be deleted.
        let mut changed = BTreeSet::new();
        let deleted = paths.iter().try_for_each(|path| {
            let place = self.place(path)?;
            failpoint::hit("storage.before-delete");
            let left = self.remove(&place).map_err(|e| failed("delete", &self.locate(path), e))?;
            changed.extend(left);
            Ok(())
        });
        for folder in &changed {
            match sync_folder(folder) {
                // It went with a later one, and that of its own name is among these.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                synced => synced
                    .map_err(|e| failed("delete what was in", &folder.display().to_string(), e))?,
            }
        }
        failpoint::hit("storage.after-delete");
        deleted
    }

    fn settle(&self, path: &str) -> Result<()> {
        let place = self.place(path)?;
        // Whoever made it synced its content before it got the name.
        let settled = folders(&self.root, &place).try_for_each(settle_folder);
        settled.map_err(|e| failed("sync the folder of", &self.locate(path), e))
    }

    fn locate(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }
}

struct LocalWriter {
    file: BufWriter<File>,
    temporary: Temporary,
    place: PathBuf,
    root: PathBuf,
    path: String,
    name: String,
    seen: Fingerprint,
    n_written: u64,
    /// Of those, how many bytes the system was asked to write.
    n_begun: u64,
}

impl ObjectWriter for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| failed("write", &self.name, e))?;
        self.seen.add(bytes);
        self.n_written += bytes.len() as u64;
        if self.n_written - self.n_begun >= WRITE_BACK_BYTES {
            self.file.flush().map_err(|e| failed("write", &self.name, e))?;
            begin_write_back(self.file.get_ref(), self.n_begun..self.n_written);
            self.n_begun = self.n_written;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<FileRef> {
        let name = &self.name;
        self.file.flush().map_err(|e| failed("write", name, e))?;
        failpoint::hit("storage.before-sync");
        self.file.get_ref().sync_all().map_err(|e| failed("sync", name, e))?;
        failpoint::hit("storage.after-sync");
        failpoint::hit("storage.before-link");
        match fs::hard_link(&self.temporary.0, &self.place) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(exists(name)),
            Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
                return Err(Error::external(format!(
                    "cannot link `{name}` to its name; put checkpoints on a file system with hard links"
                ))
                .caused_by(e));
            }
            Err(e) => return Err(failed("link", name, e)),
        }
        failpoint::hit("storage.after-link");
        drop(self.temporary);
        sync_folders(&self.root, &self.place).map_err(|e| failed("sync the folder of", name, e))?;
        Ok(self.seen.of_file(&self.path))
    }
}

/// Has the system begin to write a part of a file to the disk. Whether it does makes no difference but in time: what is
/// durable only a sync says, and tells of what went wrong.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn begin_write_back(file: &File, range: Range<u64>) {
    use std::os::fd::AsRawFd;
    let (from, length) = (range.start as i64, (range.end - range.start) as i64);
    // SAFETY: it reads no memory of ours, and the descriptor is open, because the file is borrowed. The standard library has
    // no such call.
    unsafe { libc::sync_file_range(file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(not(target_os = "linux"))]
fn begin_write_back(_: &File, _: Range<u64>) {}

/// A name that goes when it is not needed any more. If that fails it is an orphan, which is swept later.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A new file in the same folder. Its name is one that nothing has, not even what a crash left.
fn create_beside(place: &Path) -> io::Result<(File, PathBuf)> {
    for n in 0u64.. {
        let mut temporary = place.as_os_str().to_owned();
        temporary.push(format!(".tmp{n}"));
        match with_folder(place, || File::create_new(&temporary)) {
            Ok(file) => return Ok((file, temporary.into())),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Does what needs the folder of `place`. Making the folder is tried a few times: whoever deletes the last
/// file in it may take it away in between.
fn with_folder<T>(place: &Path, action: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..8 {
        match action() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                place.parent().map_or(Ok(()), fs::create_dir_all)?;
            }
            result => return result,
        }
    }
    action()
}

/// The folders that hold `place`, from its own up to `root`.
fn folders<'a>(root: &'a Path, place: &'a Path) -> impl Iterator<Item = &'a Path> {
    place.ancestors().skip(1).take_while(move |folder| folder.starts_with(root))
}

fn sync_folders(root: &Path, place: &Path) -> io::Result<()> {
    folders(root, place).try_for_each(sync_folder)
}

/// Reads a file to its end, piece by piece.
fn pour(
    source: &mut File,
    unreadable: impl Fn(io::Error) -> Error,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => each(&buffer[..n])?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
}

/// Collects the files below a folder. What is gone by the time one gets there was never seen; names that
/// are not UTF-8 are not ours.
fn walk(dir: &Path, folder: &str, prefix: &str, paths: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if !path.starts_with(prefix) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), &path, prefix, paths)?,
            Ok(_) => paths.push(path),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
