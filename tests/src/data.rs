//! Where the data sets are, and what happens when they are not there.
//!
//! The repository carries a small sample; the full set lies outside of it, named by `MILLSTREAM_DATA`. A clone without
//! the set still tests what it can and *says* how much it left out. Where the set must be there (CI), leaving out is a
//! failure: `MILLSTREAM_REQUIRE_DATA=1` turns every [`skip`] into a panic, so a case cannot drop out unnoticed.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Names the folder of the full data set. A relative path counts from the workspace root. Default: [`DEFAULT`].
pub const DATA_VARIABLE: &str = "MILLSTREAM_DATA";
/// Set to `1`: a case without data is a failure.
pub const REQUIRE_VARIABLE: &str = "MILLSTREAM_REQUIRE_DATA";
/// Names a file to which [`skip`] appends a line (case, tab, reason), for the summary of `make test`.
pub const SKIPPED_VARIABLE: &str = "MILLSTREAM_SKIPPED";
/// Where the full data set is looked for, from the workspace root, unless [`DATA_VARIABLE`] says otherwise.
pub const DEFAULT: &str = "../shared/data";

/// The root of the workspace.
pub fn workspace_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in a folder of the workspace").to_owned()
}

/// The folder of the full data set, or `None` when this machine has none.
///
/// # Panics
/// When the set is absent although it was named or required.
pub fn data_dir() -> Option<PathBuf> {
    locate(&workspace_root(), std::env::var_os(DATA_VARIABLE), required())
        .unwrap_or_else(|problem| panic!("{problem}"))
}

/// The sample that the repository carries; laid out like the full set.
pub fn sample_dir() -> PathBuf {
    workspace_root().join("examples/data")
}

/// Where files go that need not outlive the test and are opened and synced many times: in memory, if this system has
/// such a folder.
pub fn fast_dir() -> PathBuf {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() { in_memory.to_owned() } else { std::env::temp_dir() }
}

/// Reports that `case` cannot run here because of `reason`.
///
/// # Panics
/// When data are required.
pub fn skip(case: &str, reason: &str) {
    assert!(!required(), "{case}: {reason}, and {REQUIRE_VARIABLE}=1 allows no skipping");
    eprintln!("skipped {case}: {reason}");
    if let Some(list) = std::env::var_os(SKIPPED_VARIABLE) {
        let mut file = OpenOptions::new().append(true).create(true).open(&list);
        let written =
            file.as_mut().map(|file| file.write_all(format!("{case}\t{reason}\n").as_bytes()));
        assert!(matches!(written, Ok(Ok(()))), "cannot append to {}", list.display());
    }
}

fn required() -> bool {
    std::env::var_os(REQUIRE_VARIABLE).is_some_and(|value| value == "1")
}

fn locate(root: &Path, named: Option<OsString>, required: bool) -> Result<Option<PathBuf>, String> {
    let named = named.filter(|value| !value.is_empty());
    let must_exist = required || named.is_some();
    let dir = root.join(named.unwrap_or_else(|| DEFAULT.into()));
    if dir.join("expected").is_dir() {
        return Ok(Some(dir));
    }
    if must_exist {
        return Err(format!(
            "no data set in {}: it should hold `expected/` and the folders beside it. \
             Set {DATA_VARIABLE} to where the set is, or unset it and {REQUIRE_VARIABLE} to do without",
            dir.display()
        ));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_set_under(root: &Path, relative: &str) {
        std::fs::create_dir_all(root.join(relative).join("expected")).unwrap();
    }

    #[test]
    fn a_relative_name_counts_from_the_root() {
        let root = tempfile::tempdir().unwrap();
        data_set_under(root.path(), "sets/full");
        let found = locate(root.path(), Some("sets/full".into()), true);
        assert_eq!(found, Ok(Some(root.path().join("sets/full"))));
    }

    #[test]
    fn the_default_is_beside_the_workspace() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("clone");
        std::fs::create_dir(&root).unwrap();
        assert_eq!(locate(&root, None, false), Ok(None));
        data_set_under(outer.path(), "shared/data");
        assert_eq!(locate(&root, None, true), Ok(Some(root.join(DEFAULT))));
        assert_eq!(locate(&root, Some("".into()), true), Ok(Some(root.join(DEFAULT))));
    }

    #[test]
    fn an_absent_set_is_an_error_when_required_or_named() {
        let root = tempfile::tempdir().unwrap();
        assert!(locate(root.path(), None, true).unwrap_err().contains(DATA_VARIABLE));
        let problem = locate(root.path(), Some("nowhere".into()), false).unwrap_err();
        assert!(problem.contains("nowhere"), "{problem}");
    }
}
