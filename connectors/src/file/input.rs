//! From a path, a folder or a pattern to bytes.
//!
//! Whether a file is compressed is seen from its first two bytes, not from its name. Names that start with
//! a dot are passed over unless asked for: an output folder may hold files that are still being written.
//!
//! A file that is opened again must be the one that it was, though it may have grown. Its name, its times and where it lies on
//! a disk say nothing of that, because a file may be moved or brought back; so a few blocks of it are compared. They are
//! spread over all of its length, because files of one kind begin and end alike.

use flate2::bufread::MultiGzDecoder;
use millstream_model::{Error, Result};
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Small, so that what was taken from a file says how far its reader is.
const COMPRESSED_BLOCK: usize = 8 * 1024;

/// How many blocks of a file are compared, and how long they are: a file of up to 64 KiB is compared as a whole.
const N_SAMPLES: u64 = 16;
const SAMPLE_BYTES: u64 = 4096;

/// The files that `path` means: itself, all files in a folder and the folders in it, or those that match
/// a pattern; in order of their names. A pattern that means none is a mistake.
pub(super) fn find(path: &Path) -> Result<Vec<PathBuf>> {
    let found = look(path)?;
    if found.is_empty() && is_pattern(path) && fs::metadata(path).is_err() {
        return Err(Error::user(format!(
            "no file matches `{}`: check the pattern (`*` and `?` do not match `/` or a leading dot)",
            path.display()
        )));
    }
    Ok(found)
}

/// As [`find`], for somebody who will look again: a pattern may mean no file yet, and a file may go while its folder is
/// being listed.
pub(super) fn look(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            walk(path, &mut found).map_err(|e| unreadable(path, "cannot be listed", e))?;
        }
        Ok(_) => found.push(path.to_owned()),
        Err(_) if is_pattern(path) => {
            let mut matches = Vec::new();
            expand(path, &mut matches).map_err(|e| unreadable(path, "cannot be listed", e))?;
            for path in matches {
                match look(&path) {
                    Err(_) if is_gone(&path) => {}
                    files => found.append(&mut files?),
                }
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::user(format!(
                "there is no file `{}`: check the path{}",
                path.display(),
                looked_in(path)
            )));
        }
        Err(e) => return Err(unreadable(path, "cannot be read", e)),
    }
    Ok(found)
}

/// Whether there is nothing, not even a link to nothing: whoever has listed it has since removed it.
pub(super) fn is_gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// A relative path means little without where it starts.
fn looked_in(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(dir) if path.is_relative() => format!(" (it was looked for in `{}`)", dir.display()),
        _ => String::new(),
    }
}

pub(super) fn unreadable(path: &Path, what: &str, cause: io::Error) -> Error {
    Error::external(format!("`{}` {what}", path.display())).caused_by(cause)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<_>> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect();
    let mut entries = entries?;
    entries.sort_unstable();
    Ok(entries)
}

/// Appends the files below a folder. What is removed meanwhile is passed over.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for path in entries(dir)?.into_iter().filter(|path| !is_hidden(path)) {
        let is_dir = match fs::metadata(&path) {
            Err(_) if is_gone(&path) => continue,
            meta => meta?.is_dir(),
        };
        if !is_dir {
            found.push(path);
            continue;
        }
        let n_before = found.len();
        match walk(&path, found) {
            Err(_) if is_gone(&path) => found.truncate(n_before),
            walked => walked?,
        }
    }
    Ok(())
}

fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|b| matches!(b, b'*' | b'?'))
}

/// What there is at a path, if there is something: what cannot be looked at is not left out as if it were not there.
fn what_is_at(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(io::Error::new(e.kind(), format!("`{}`: {e}", path.display()))),
    }
}

/// All paths that match a pattern, component by component.
fn expand(pattern: &Path, matches: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut bases = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            bases.iter_mut().for_each(|base| base.push(component));
            continue;
        };
        if !is_pattern(Path::new(name)) {
            bases.iter_mut().for_each(|base| base.push(name));
            let mut there = Vec::new();
            for base in bases {
                if what_is_at(&base)?.is_some() {
                    there.push(base);
                }
            }
            bases = there;
            continue;
        }
        let mut next = Vec::new();
        for base in &bases {
            let dir = if base.as_os_str().is_empty() { Path::new(".") } else { base };
            if !what_is_at(dir)?.is_some_and(|meta| meta.is_dir()) {
                continue;
            }
            let paths = match entries(dir) {
                Err(_) if is_gone(dir) => continue,
                paths => paths?,
            };
            for path in paths.into_iter().filter(|path| !is_hidden(path)) {
                let Some(entry) = path.file_name() else { continue };
                if is_match(name.as_encoded_bytes(), entry.as_encoded_bytes()) {
                    next.push(base.join(entry));
                }
            }
        }
        bases = next;
    }
    matches.append(&mut bases);
    Ok(())
}

/// Whether `name` matches `pattern`: `*` is any run, `?` one character.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            is_match(&pattern[1..], name) || (!name.is_empty() && is_match(pattern, &name[1..]))
        }
        (Some(b'?'), Some(_)) => {
            // One character may be several bytes: the ones that continue it go along.
            let rest = &name[1..];
            let n_more = rest.iter().take_while(|b| **b & 0xc0 == 0x80).count();
            is_match(&pattern[1..], &rest[n_more..])
        }
        (Some(p), Some(n)) => p == n && is_match(&pattern[1..], &name[1..]),
        _ => false,
    }
}

/// Where bytes come from, for messages.
#[derive(Clone)]
pub(super) struct Origin {
    path: PathBuf,
    pub(super) name: String,
    is_gzip: bool,
}

impl Origin {
    /// A file that ends before what was read of it.
    pub(super) fn shrank(&self, was: u64, is: u64) -> Error {
        Error::external(format!(
            "`{}` is another file than the checkpoint knows: {was} bytes of it were there, and now it has {is}. \
             Put the file back, or begin anew",
            self.name
        ))
    }

    /// A file that is as long as it was, or longer, and holds something else.
    fn replaced(&self) -> Error {
        Error::external(format!(
            "`{}` is another file than the checkpoint knows: its length may be right, its content is not. Put the file \
             back, or begin anew",
            self.name
        ))
    }

    /// What a failed read means, `line` being the last line that could be read.
    pub(super) fn failure(&self, line: u64, cause: io::Error) -> Error {
        let what = match cause.kind() {
            io::ErrorKind::FileTooLarge => {
                return Error::user(format!(
                    "`{}`, after line {line}: {cause}: is it a file of this format?",
                    self.name
                ));
            }
            io::ErrorKind::UnexpectedEof if self.is_gzip => "the compressed data ends too early",
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput if self.is_gzip => {
                "the compressed data is damaged"
            }
            _ => {
                return unreadable(&self.path, &format!("cannot be read after line {line}"), cause);
            }
        };
        Error::user(format!(
            "`{}`, after line {line}: {what}: `gzip -t` checks it; get or make the file again",
            self.name
        ))
        .caused_by(cause)
    }
}

/// A file being read, decompressed if need be.
pub(super) struct Input {
    bytes: Box<dyn Read + Send>,
    stored: Arc<AtomicU64>,
    /// Where the bytes begin, counted in uncompressed bytes.
    pub(super) start: u64,
    /// Length of the file as it is stored.
    pub(super) size_bytes: u64,
    /// A checksum over blocks of it.
    pub(super) sample: u32,
}

impl Input {
    /// Opens a file at an offset, counted in uncompressed bytes. If it was open before, its length and its sample
    /// then are `known`.
    pub(super) fn open(
        path: &Path,
        offset: u64,
        known: Option<(u64, u32)>,
    ) -> Result<(Origin, Input)> {
        let open = || {
            let mut file = File::open(path)?;
            let size_bytes = file.metadata()?.len();
            let is_replaced = match known {
                // One that has shrunk is told apart by whoever knows what was there.
                Some((size, was)) if size <= size_bytes => sample(&mut file, size)? != was,
                _ => false,
            };
            let sample = sample(&mut file, size_bytes)?;
            let magic = head(&mut file, GZIP_MAGIC.len())?;
            Ok((file, magic, size_bytes, sample, is_replaced))
        };
        let (mut file, mut magic, size_bytes, sample, is_replaced) =
            open().map_err(|e| unreadable(path, "cannot be opened", e))?;
        let is_gzip = magic == GZIP_MAGIC;
        let origin = Origin { path: path.to_owned(), name: path.display().to_string(), is_gzip };
        if is_replaced {
            return Err(origin.replaced());
        }
        if offset > 0 && !is_gzip {
            if offset > size_bytes {
                return Err(origin.shrank(offset, size_bytes));
            }
            file.seek(SeekFrom::Start(offset)).map_err(|e| origin.failure(0, e))?;
            magic.clear();
        }
        let stored = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: Cursor::new(magic).chain(file), n: Arc::clone(&stored) };
        let mut bytes: Box<dyn Read + Send> = if is_gzip {
            let compressed = BufReader::with_capacity(COMPRESSED_BLOCK, counted);
            Box::new(MultiGzDecoder::new(compressed))
        } else {
            Box::new(counted)
        };
        let mut start = offset;
        if offset == 0 {
            let first =
                head(&mut bytes, BYTE_ORDER_MARK.len()).map_err(|e| origin.failure(0, e))?;
            if first == BYTE_ORDER_MARK {
                start = first.len() as u64;
            } else {
                bytes = Box::new(Cursor::new(first).chain(bytes));
            }
        } else if is_gzip {
            let dropped = io::copy(&mut (&mut bytes).take(offset), &mut io::sink());
            let n = dropped.map_err(|e| origin.failure(0, e))?;
            if n < offset {
                return Err(origin.shrank(offset, n));
            }
        }
        Ok((origin, Input { bytes, stored, start, size_bytes, sample }))
    }

    /// Bytes taken from the file so far, as they are stored.
    pub(super) fn n_stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.bytes.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

/// A checksum over blocks that are spread over the first `size_bytes` of a file; leaves it at its beginning. What has no
/// length (a pipe) is not touched.
fn sample(file: &mut File, size_bytes: u64) -> io::Result<u32> {
    let mut sum = crc32fast::Hasher::new();
    let n = N_SAMPLES.min(size_bytes.div_ceil(SAMPLE_BYTES));
    for i in 0..n {
        // The last one ends where the file does.
        let spread = u128::from(size_bytes.saturating_sub(SAMPLE_BYTES)) * u128::from(i);
        let start = (spread / u128::from((n - 1).max(1))) as u64;
        file.seek(SeekFrom::Start(start))?;
        let block = head(file, SAMPLE_BYTES.min(size_bytes - start) as usize)?;
        sum.update(&block);
    }
    if n > 0 {
        file.rewind()?;
    }
    Ok(sum.finalize())
}

/// The first `n` bytes, or fewer if there are no more.
fn head(bytes: &mut impl Read, n: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(n);
    bytes.take(n as u64).read_to_end(&mut head)?;
    Ok(head)
}

struct Counted<R> {
    inner: R,
    n: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.n.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("part-*", "part-0", true),
            ("part-*", "part-", true),
            ("part-?", "part-10", false),
            ("*.csv*", "a.csv.gz", true),
            ("*a*b", "xaybzb", true),
            ("*a*b", "xaybz", false),
            ("na?ve", "naïve", true),
            ("", "a", false),
        ] {
            assert_eq!(is_match(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_in_order_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/part-1", "b/part-0", "b/.part-2.inprogress", "a/x.txt", "a/.git/x"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = |path: &str| -> Vec<String> {
            let relative = |p: PathBuf| p.strip_prefix(dir.path()).unwrap().display().to_string();
            find(&dir.path().join(path)).unwrap().into_iter().map(relative).collect()
        };
        assert_eq!(found(""), ["a/x.txt", "b/part-0", "b/part-1"]);
        assert_eq!(found("b/part-*"), ["b/part-0", "b/part-1"]);
        assert_eq!(found("?/x*"), ["a/x.txt"]);
        assert_eq!(found("*"), ["a/x.txt", "b/part-0", "b/part-1"]);
        assert_eq!(found("b/.part-2.inprogress"), ["b/.part-2.inprogress"]);
    }
    #[test]
    fn what_cannot_be_looked_at_is_not_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/log"), "").unwrap();
        fs::write(dir.path().join("b"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("c")).unwrap();
        let pattern = dir.path().join("*/log");
        assert_eq!(find(&pattern).unwrap(), [dir.path().join("a/log")]);
        // It leads to itself.
        std::os::unix::fs::symlink("d", dir.path().join("d")).unwrap();
        let error = find(&pattern).unwrap_err();
        assert!(error.to_string().contains("cannot be listed"), "{error}");
    }
}
