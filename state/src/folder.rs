//! Folders that survive a power cut.
//!
//! A file is durable when it was synced *and* the folder that holds its name was: the two are different blocks on the
//! disk. The same is true of a folder and the one above it. Everything here comes down to not forgetting the second; nor what
//! somebody else has made who may not have come so far, or did not care.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Makes the names in a folder durable.
///
/// # Errors
/// If the system refuses.
pub fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The same for names that others gave: where this process may not look or nothing can be written, they are as durable as
/// they get.
///
/// # Errors
/// If the folder is not there, or cannot be synced although it could be written.
pub fn settle_folder(dir: &Path) -> io::Result<()> {
    const BEYOND_US: [ErrorKind; 3] =
        [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::InvalidInput];
    match sync_folder(dir) {
        Err(e) if BEYOND_US.contains(&e.kind()) => Ok(()),
        synced => synced,
    }
}

/// Makes a folder and those above it, unless they are there, and their names durable, whoever made them.
///
/// # Errors
/// If it cannot be made or synced.
pub fn make_folder(dir: &Path) -> io::Result<()> {
    let dir = std::path::absolute(dir)?;
    fs::create_dir_all(&dir)?;
    // The topmost first: a name that is durable leads to nothing if one above it is not.
    let above: Vec<&Path> = dir.ancestors().skip(1).collect();
    above.into_iter().rev().try_for_each(settle_folder)?;
    sync_folder(&dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_with_those_above_and_may_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b/c");
        for _ in 0..2 {
            make_folder(&folder).unwrap();
            assert!(folder.is_dir());
        }
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(make_folder(&dir.path().join("file/d")).is_err());
        assert!(settle_folder(&dir.path().join("none")).is_err());
        // A folder of the kernel's own, in which nobody can write.
        settle_folder(Path::new("/proc/self")).unwrap();
    }
}
