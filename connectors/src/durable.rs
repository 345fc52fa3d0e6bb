//! What sinks and sources that keep files say and ask of a folder.

use millstream_model::Error;
use std::fs;
use std::io;
use std::path::Path;

/// What a failed step on a file means.
pub(crate) fn failed(path: &Path, what: &str, cause: io::Error) -> Error {
    Error::external(format!("`{}` {what}", path.display())).caused_by(cause)
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
