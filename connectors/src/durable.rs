//! Folders and files that survive a power cut.
//!
//! A file is durable when it was synced *and* the folder that holds its name was: the two are different
//! blocks on the disk. Everything here comes down to not forgetting the second.

use millstream_model::Error;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// What a failed step on a file means.
pub(crate) fn failed(path: &Path, what: &str, cause: io::Error) -> Error {
    Error::external(format!("`{}` {what}", path.display())).caused_by(cause)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a folder and those above it, unless they are there.
pub(crate) fn make_folder(dir: &Path) -> io::Result<()> {
    let dir = std::path::absolute(dir)?;
    // The first folder that was there holds the first new name, and so on down.
    let n_new = dir.ancestors().take_while(|folder| !folder.exists()).count();
    fs::create_dir_all(&dir)?;
    dir.ancestors().take(n_new + 1).try_for_each(sync_folder)
}

/// The names in a folder that are valid UTF-8, sorted; no other is ever ours.
pub(crate) fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}
