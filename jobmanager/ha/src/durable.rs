//! Small files that survive a crash whole, or not at all.
//!
//! ```text
//! 8 bytes magic   u16 version   u64 length of the body   u32 CRC-32 of the body   body
//! ```
//!
//! All numbers are little-endian. A file is written beside its place, synced, renamed to its name, and then its
//! folder is synced: whoever reads it finds the old content or the new. Two writers of one file must exclude each
//! other.

use millstream_model::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// What kind of file it is, and in which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Its first bytes.
    pub magic: [u8; 8],
    /// Its version.
    pub version: u16,
}

/// The longest body, in bytes.
pub const MAX_BYTES: u64 = 256 << 20;

/// What the name of a file ends with that is not yet in its place.
pub const UNFINISHED: &str = ".new";

/// How the system says that names are as durable as they get: others made them where this process may not look, or nobody can
/// write.
const BEYOND_US: [ErrorKind; 3] =
    [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::InvalidInput];

const HEADER: usize = 8 + 2 + 8 + 4;

/// Makes a folder, and those above it, unless they are there, and their names durable, whoever made them.
///
/// # Errors
/// If it cannot be made.
pub fn make_folder(folder: &Path) -> Result<()> {
    let make = || {
        let folder = std::path::absolute(folder)?;
        fs::create_dir_all(&folder)?;
        // The topmost first: a name that is durable leads to nothing if one above it is not.
        let above: Vec<&Path> = folder.ancestors().skip(1).collect();
        for folder in above.into_iter().rev() {
            match sync_folder(folder) {
                Err(e) if BEYOND_US.contains(&e.kind()) => {}
                synced => synced?,
            }
        }
        sync_folder(&folder)
    };
    make().map_err(|e| failed("make the folder", folder, e))
}

/// Puts this content into the file, in place of what was there.
///
/// # Errors
/// If it cannot be written; then what was there still is, or nobody knows.
pub fn write(path: &Path, format: Format, body: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    let write = || {
        let mut header = Vec::with_capacity(HEADER);
        header.extend(format.magic);
        header.extend(format.version.to_le_bytes());
        header.extend((body.len() as u64).to_le_bytes());
        header.extend(crc32fast::hash(body).to_le_bytes());
        let mut file = File::create(&unfinished)?;
        file.write_all(&header)?;
        file.write_all(body)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_folder(folder_of(path))
    };
    if body.len() as u64 > MAX_BYTES {
        return Err(Error::external(format!(
            "what is to be written to `{}` has {} bytes, and nobody would read more than {MAX_BYTES}",
            path.display(),
            body.len()
        )));
    }
    write().map_err(|e| {
        // On a full disk the room is needed; whether it was there is of no interest.
        let _ = fs::remove_file(&unfinished);
        failed("write", path, e)
    })
}

/// The content of the file; `None` if there is none.
///
/// # Errors
/// If it cannot be read, is damaged, or is of another kind or version.
pub fn read(path: &Path, format: Format) -> Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path, e)),
    };
    let damaged = |how: &dyn std::fmt::Display| {
        Err(Error::external(format!("the file `{}` is damaged: {how}", path.display())).finally())
    };
    // Grows with what there is, not with what is claimed.
    let mut bytes = Vec::new();
    let limit = HEADER as u64 + MAX_BYTES + 1;
    (&mut file).take(limit).read_to_end(&mut bytes).map_err(|e| failed("read", path, e))?;
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return damaged(&format_args!("it is cut off after {} bytes", bytes.len()));
    };
    if header[..8] != format.magic {
        return damaged(&"it does not begin as such a file does");
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != format.version {
        return Err(Error::user(format!(
            "the file `{}` is of version {version}, this release of Millstream knows version {}",
            path.display(),
            format.version
        ))
        .finally());
    }
    let mut length = [0; 8];
    length.copy_from_slice(&header[10..18]);
    let length = u64::from_le_bytes(length);
    if length != body.len() as u64 {
        return damaged(&format_args!("{} bytes where {length} should be", body.len()));
    }
    let mut checksum = [0; 4];
    checksum.copy_from_slice(&header[18..22]);
    if crc32fast::hash(body) != u32::from_le_bytes(checksum) {
        return damaged(&"its checksum is wrong");
    }
    bytes.drain(..HEADER);
    Ok(Some(bytes))
}

/// Removes a file durably, if it is there.
///
/// # Errors
/// If it cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        removed => removed,
    };
    removed.and_then(|()| sync_folder(folder_of(path))).map_err(|e| failed("remove", path, e))
}

/// The names of the files in a folder that are whole; what a crash left unfinished is removed.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<OsString>> {
    let list = || {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if !entry.file_type()?.is_file() {
                continue;
            }
            if name.as_encoded_bytes().ends_with(UNFINISHED.as_bytes()) {
                fs::remove_file(entry.path())?;
            } else {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    list().map_err(|e| failed("list the folder", folder, e))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// If the system refuses.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn failed(what: &str, path: &Path, e: io::Error) -> Error {
    Error::external(format!("cannot {what} `{}`", path.display())).caused_by(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMAT: Format = Format { magic: *b"MSTEST\0\0", version: 1 };

    #[test]
    fn content_is_read_as_it_was_written_and_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        make_folder(&folder).unwrap();
        let path = folder.join("file");
        assert_eq!(read(&path, FORMAT).unwrap(), None);
        for body in [&b"one"[..], b"", b"a longer one"] {
            write(&path, FORMAT, body).unwrap();
            assert_eq!(read(&path, FORMAT).unwrap().unwrap(), body);
        }
        assert_eq!(list(&folder).unwrap(), ["file"]);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path, FORMAT).unwrap(), None);
    }

    #[test]
    fn what_a_crash_left_unfinished_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file.new"), b"half").unwrap();
        fs::write(dir.path().join("other"), b"whole").unwrap();
        assert_eq!(list(dir.path()).unwrap(), ["other"]);
        assert!(!dir.path().join("file.new").exists());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, FORMAT, b"body").unwrap();
        let whole = fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = read(&path, FORMAT).unwrap_err();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert!(error.is_final());
        };
        for len in 0..whole.len() {
            refused(&whole[..len]);
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            refused(&bytes);
        }
        refused(&[&whole[..], b"."].concat());
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, Format { version: 2, ..FORMAT }, b"body").unwrap();
        let error = read(&path, FORMAT).unwrap_err().to_string();
        assert!(error.contains("version 2") && error.contains("version 1"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs::write(&path, &bytes).unwrap();
            prop_assert!(read(&path, FORMAT).is_err());
        }
    }
}
