//! Writes down what a process does to its files. Syncs take their time, as on a disk that has other things to do, and sync nothing:
//! what survives is made up by whoever reads what is written down.
//!
//! A library that is loaded before all others (`LD_PRELOAD`) and has the names of the C library's functions that change files.
//! Each does what it is asked to do, and adds an entry to the journal if that was in the folder that is followed. Both
//! happen under one lock: so the order in the journal is the order on the disk, whichever threads there are.
//!
//! A function that is missing here would be one more way to change a file unseen. So whoever reads a journal holds
//! what it says against what is there (`Disk::is_as`).

// `LD_PRELOAD`, and the functions that Rust's library calls on Linux.
#![cfg(target_os = "linux")]
// Each function here is called by C or calls the system: that is what it is for.
#![allow(unsafe_code)]

pub mod journal;

use journal::{Entry, Op};
use libc::{AT_FDCWD, c_char, c_int, c_long, c_uint, c_void, mode_t, off_t, size_t, ssize_t};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

struct Recorder {
    root: PathBuf,
    journal: c_int,
    /// Files and folders that were seen below the root. The number of one that is gone may come back outside of it; what is
    /// written down of that one has no name, and means nothing.
    followed: BTreeSet<u64>,
    n_entries: u64,
    /// What lies in a folder of this name takes as long as anything to be synced.
    slow: Option<OsString>,
}

/// The longest that a sync takes, in µs.
const LONGEST_SYNC_US: f64 = 300_000.0;

static RECORDER: OnceLock<Option<Mutex<Recorder>>> = OnceLock::new();

fn recorder() -> Option<MutexGuard<'static, Recorder>> {
    let recorder = RECORDER.get_or_init(|| {
        let root = PathBuf::from(std::env::var_os(journal::ROOT)?);
        let path = CString::new(std::env::var_os(journal::JOURNAL)?.as_bytes()).ok()?;
        let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC;
        let path = path.as_ptr();
        // SAFETY: the path is a C string.
        let journal = unsafe { libc::syscall(libc::SYS_openat, AT_FDCWD, path, flags, 0o600) };
        if journal < 0 {
            give_up("cannot open the journal");
        }
        let Some(inode) = inode(root.as_os_str().as_bytes()) else { give_up("there is no root") };
        let followed = BTreeSet::from([inode]);
        let (journal, slow) = (journal as c_int, std::env::var_os(journal::SLOW));
        Some(Mutex::new(Recorder { root, journal, followed, n_entries: 0, slow }))
    });
    recorder.as_ref().map(|recorder| recorder.lock().unwrap_or_else(PoisonError::into_inner))
}

fn give_up(why: &str) -> ! {
    let text = format!("{} {why}\n", journal::GAVE_UP);
    // SAFETY: the text is as long as it says. Not `eprintln`: it would come back here.
    unsafe { libc::syscall(libc::SYS_write, 2, text.as_ptr(), text.len()) };
    std::process::abort()
}

impl Recorder {
    fn add(&mut self, op: &Op) {
        let Ok(entry) = journal::encode(op) else { give_up("an entry cannot be encoded") };
        let (bytes, n) = (entry.as_ptr(), entry.len());
        // SAFETY: the entry is as long as it says.
        let n_written = unsafe { libc::syscall(libc::SYS_write, self.journal, bytes, n) };
        if n_written != n as c_long {
            give_up("cannot write the journal");
        }
        self.n_entries += 1;
    }

    /// What a path means, if it lies below the root.
    ///
    /// # Safety
    /// The path is a C string.
    unsafe fn entry(&self, folder: c_int, path: *const c_char) -> Option<Entry> {
        // SAFETY: it is a C string.
        let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
        let path = if path.is_absolute() { path.to_owned() } else { place_of(folder)?.join(path) };
        let (parent, name) = (path.parent()?, path.file_name()?);
        if !parent.starts_with(&self.root) {
            return None;
        }
        let folder = inode(parent.as_os_str().as_bytes())?;
        Some(Entry { folder, name: name.as_bytes().to_vec() })
    }

    /// The file that a descriptor stands for, if it is one that is followed.
    fn file(&self, fd: c_int) -> Option<u64> {
        Some(stat(fd)?.st_ino).filter(|file| self.followed.contains(file))
    }
}

/// What a path leads to, if there is something.
fn inode(path: &[u8]) -> Option<u64> {
    let path = CString::new(path).ok()?;
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path is a C string, and there is room for the answer, which is there if it says so.
    let found = unsafe { libc::stat(path.as_ptr(), stat.as_mut_ptr()) == 0 };
    // SAFETY: see above.
    found.then(|| unsafe { stat.assume_init() }.st_ino)
}

fn stat(fd: c_int) -> Option<libc::stat> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: there is room for the answer, which is there if it says so.
    unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }
}

/// Whether a descriptor stands for a file. Most that is written goes elsewhere, and need not wait for the lock.
fn is_file(fd: c_int) -> bool {
    stat(fd).is_some_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// The path of an open folder, or of the working directory.
fn place_of(folder: c_int) -> Option<PathBuf> {
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    let link = match folder {
        AT_FDCWD => c"/proc/self/cwd".to_owned(),
        folder => CString::new(format!("/proc/self/fd/{folder}")).ok()?,
    };
    // SAFETY: the path is a C string, and the buffer is as long as it says.
    let n = unsafe { libc::readlink(link.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let path = buffer.get(..usize::try_from(n).ok()?)?;
    Some(Path::new(OsStr::from_bytes(path)).to_owned())
}

/// Whether there is something of this name.
///
/// # Safety
/// The path is a C string.
unsafe fn exists(folder: c_int, path: *const c_char) -> bool {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: it is a C string, and there is room for the answer.
    unsafe { libc::fstatat(folder, path, stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) == 0 }
}

// SAFETY, for all that follows: these are the C library's functions, and whoever calls one keeps to its contract.

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // Held whatever comes of it: the folder may be one that is just being made.
    let recorder = recorder();
    // SAFETY: see above.
    let at = recorder.as_ref().and_then(|recorder| unsafe { recorder.entry(folder, path) });
    // SAFETY: see above.
    let was_there = at.is_some() && unsafe { exists(folder, path) };
    // SAFETY: see above.
    let fd = unsafe { libc::syscall(libc::SYS_openat, folder, path, flags, mode) as c_int };
    let (Some(mut recorder), Some(at)) = (recorder, at) else { return fd };
    if let Some(stat) = (fd >= 0).then(|| stat(fd)).flatten() {
        let file = stat.st_ino;
        recorder.followed.insert(file);
        if flags & libc::O_CREAT != 0 && !was_there {
            recorder.add(&Op::Create { at, file });
        } else if flags & libc::O_TRUNC != 0 {
            recorder.add(&Op::SetLength { file, length: 0 });
        }
    }
    fd
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: see above.
    unsafe { openat(folder, path, flags, mode) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: see above.
    unsafe { openat(AT_FDCWD, path, flags, mode) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: see above.
    unsafe { openat(AT_FDCWD, path, flags, mode) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: see above.
    unsafe { openat(AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
}

/// Does what changes a file, and then writes down what is in it now from where the change begins.
fn change(fd: c_int, from: impl FnOnce() -> u64, call: impl FnOnce() -> c_long) -> c_long {
    let followed = is_file(fd).then(recorder).flatten();
    let followed = followed.and_then(|recorder| Some((recorder.file(fd)?, recorder)));
    let Some((file, mut recorder)) = followed else { return call() };
    let offset = from();
    let n = call();
    if n > 0 {
        let mut bytes = vec![0; n as usize];
        // What was written is read back through a descriptor of its own: this one may be there for writing only.
        let own = format!("/proc/self/fd/{fd}\0");
        // SAFETY: the path ends with a zero, and the buffer is as long as it says.
        let n_read = unsafe {
            let own = libc::syscall(
                libc::SYS_openat,
                AT_FDCWD,
                own.as_ptr(),
                libc::O_RDONLY | libc::O_CLOEXEC,
            );
            let n = libc::syscall(libc::SYS_pread64, own, bytes.as_mut_ptr(), bytes.len(), offset);
            libc::syscall(libc::SYS_close, own);
            n
        };
        if n_read != n {
            give_up("what was written cannot be read");
        }
        recorder.add(&Op::Write { file, offset, bytes });
    }
    n
}

/// Where the next write to a descriptor goes.
fn position(fd: c_int) -> u64 {
    // SAFETY: both take a number.
    unsafe {
        if libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) & c_long::from(libc::O_APPEND) != 0 {
            return stat(fd).map_or(0, |stat| stat.st_size as u64);
        }
        libc::syscall(libc::SYS_lseek, fd, 0, libc::SEEK_CUR) as u64
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, n: size_t) -> ssize_t {
    // SAFETY: see above.
    change(fd, || position(fd), || unsafe { libc::syscall(libc::SYS_write, fd, bytes, n) })
        as ssize_t
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const libc::iovec, n: c_int) -> ssize_t {
    // SAFETY: see above.
    change(fd, || position(fd), || unsafe { libc::syscall(libc::SYS_writev, fd, parts, n) })
        as ssize_t
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    bytes: *const c_void,
    n: size_t,
    at: off_t,
) -> ssize_t {
    // SAFETY: see above.
    change(fd, || at as u64, || unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, n, at) })
        as ssize_t
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, n: size_t, at: off_t) -> ssize_t {
    // SAFETY: see above.
    unsafe { pwrite64(fd, bytes, n, at) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_at: *mut off_t,
    to: c_int,
    to_at: *mut off_t,
    n: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: see above; the place is there if it is given.
    let at = || unsafe { to_at.as_ref() }.map_or_else(|| position(to), |at| *at as u64);
    let call = libc::SYS_copy_file_range;
    // SAFETY: see above.
    let copy = || unsafe { libc::syscall(call, from, from_at, to, to_at, n, flags) };
    change(to, at, copy) as ssize_t
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    let followed = is_file(fd).then(recorder).flatten();
    // SAFETY: see above.
    let done = unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) as c_int };
    let file = followed.as_ref().and_then(|recorder| recorder.file(fd));
    if let (Some(mut recorder), Some(file), 0) = (followed, file, done) {
        recorder.add(&Op::SetLength { file, length: length as u64 });
    }
    done
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    // SAFETY: see above.
    unsafe { ftruncate64(fd, length) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, from: off_t, length: off_t) -> c_int {
    let recorder = is_file(fd).then(recorder).flatten();
    // SAFETY: see above.
    let done = unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, from, length) as c_int };
    let file = recorder.as_ref().and_then(|recorder| recorder.file(fd));
    if let (Some(mut recorder), Some(file), 0) = (recorder, file, done) {
        let length = stat(fd).map_or(0, |stat| stat.st_size as u64);
        // Room alone is no content, nor is it if room behind the end is given back, as RocksDB does. What else can be asked for
        // nobody here asks for.
        let is_behind = mode & libc::FALLOC_FL_PUNCH_HOLE != 0 && from as u64 >= length;
        let known =
            libc::FALLOC_FL_KEEP_SIZE | if is_behind { libc::FALLOC_FL_PUNCH_HOLE } else { 0 };
        if mode & !known != 0 {
            give_up("a kind of fallocate that is not known");
        }
        recorder.add(&Op::SetLength { file, length });
    }
    done
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, from: off_t, length: off_t) -> c_int {
    // SAFETY: see above.
    unsafe { fallocate64(fd, mode, from, length) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    let begun = recorder().and_then(|recorder| {
        let is_slow = recorder.slow.as_ref().is_some_and(|slow| {
            place_of(fd).is_some_and(|place| place.iter().any(|name| name == slow))
        });
        Some((recorder.file(fd)?, recorder.n_entries, is_slow))
    });
    let Some((what, began, is_slow)) = begun else {
        // SAFETY: see above.
        return unsafe { libc::syscall(libc::SYS_fsync, fd) as c_int };
    };
    // Most take less than a millisecond and some very long; others go on meanwhile.
    let luck = (began ^ what).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let part = if is_slow { 1.0 } else { (luck as f64 / (1u64 << 24) as f64).powi(12) };
    let us = LONGEST_SYNC_US * part;
    // SAFETY: it takes a number.
    unsafe { libc::usleep(us as c_uint) };
    if let Some(mut recorder) = recorder() {
        recorder.add(&Op::Sync { what, began });
    }
    0
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: see above. What it leaves out is not of interest.
    unsafe { fsync(fd) }
}

/// Does what changes names, and writes it down if it is of interest and went well.
fn rename_or_so(op: impl FnOnce(&Recorder) -> Option<Op>, call: impl FnOnce() -> c_long) -> c_int {
    let recorder = recorder();
    let op = recorder.as_deref().and_then(op);
    let done = call() as c_int;
    if let (Some(mut recorder), Some(op), 0) = (recorder, op, done) {
        recorder.add(&op);
    }
    done
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    rename_or_so(
        |recorder| {
            // SAFETY: see above.
            let from = unsafe { recorder.entry(from_folder, from) };
            // SAFETY: see above.
            let to = unsafe { recorder.entry(to_folder, to) };
            match (from, to) {
                (Some(from), Some(to)) if flags == 0 => Some(Op::Rename { from, to }),
                (None, None) => None,
                _ => give_up("a kind of rename that is not known"),
            }
        },
        // SAFETY: see above.
        || unsafe { libc::syscall(libc::SYS_renameat2, from_folder, from, to_folder, to, flags) },
    )
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: see above.
    unsafe { renameat2(from_folder, from, to_folder, to, 0) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: see above.
    unsafe { renameat2(AT_FDCWD, from, AT_FDCWD, to, 0) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    rename_or_so(
        |recorder| {
            let mut stat = MaybeUninit::<libc::stat>::uninit();
            // SAFETY: see above; there is room for the answer, which is there if it says so.
            unsafe {
                let at = recorder.entry(to_folder, to)?;
                // A file that comes from elsewhere would come without its content.
                if recorder.entry(from_folder, from).is_none() {
                    give_up("a file is linked from outside of the folder that is followed");
                }
                let is_there =
                    libc::fstatat(from_folder, from, stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW);
                (is_there == 0).then(|| Op::Link { at, file: stat.assume_init().st_ino })
            }
        },
        // SAFETY: see above.
        || unsafe { libc::syscall(libc::SYS_linkat, from_folder, from, to_folder, to, flags) },
    )
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn link(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: see above.
    unsafe { linkat(AT_FDCWD, from, AT_FDCWD, to, 0) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    rename_or_so(
        // SAFETY: see above.
        |recorder| Some(Op::Unlink { at: unsafe { recorder.entry(folder, path) }? }),
        // SAFETY: see above.
        || unsafe { libc::syscall(libc::SYS_unlinkat, folder, path, flags) },
    )
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: see above.
    unsafe { unlinkat(AT_FDCWD, path, 0) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: see above.
    unsafe { unlinkat(AT_FDCWD, path, libc::AT_REMOVEDIR) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(folder: c_int, path: *const c_char, mode: mode_t) -> c_int {
    let recorder = recorder();
    // SAFETY: see above.
    let at = recorder.as_ref().and_then(|recorder| unsafe { recorder.entry(folder, path) });
    // SAFETY: see above.
    let done = unsafe { libc::syscall(libc::SYS_mkdirat, folder, path, mode) as c_int };
    if let (Some(mut recorder), Some(at), 0) = (recorder, at, done) {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: see above; there is room for the answer, which is there if it says so.
        let made = unsafe {
            (libc::fstatat(folder, path, stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) == 0)
                .then(|| stat.assume_init().st_ino)
        };
        let Some(made) = made else { give_up("a folder that was made cannot be looked at") };
        recorder.add(&Op::MakeFolder { at, folder: made });
    }
    done
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: see above.
    unsafe { mkdirat(AT_FDCWD, path, mode) }
}
