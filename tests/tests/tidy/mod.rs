//! The invariants a machine can check (they open ARCHITECTURE.md), held against every file of the repository.
//!
//! Each rule is a function from something small (a [`Source`], a manifest, a table) to its [`Finding`]s. One test runs
//! it over the repository; others show on a few bad lines that it can fail. A rule that cannot fail is worth nothing.

mod arrows;
mod manifests;
mod purity;
mod shape;
mod source;
mod text;
mod waits;

use std::fmt;
use std::path::Path;
use std::process::Command;

use millstream_tests::data::workspace_root;

use source::Source;

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1; 0 when the whole file is meant.
    line: usize,
    what: String,
}

impl Finding {
    /// `index` is the line counted from 0.
    fn at(source: &Source, index: usize, what: impl Into<String>) -> Finding {
        Finding { path: source.path().to_owned(), line: index + 1, what: what.into() }
    }

    fn file(path: &str, what: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line: 0, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// Fails with every finding, in the words of `rule`.
fn settle(rule: &str, findings: impl IntoIterator<Item = Finding>) {
    let findings: Vec<String> = findings.into_iter().map(|finding| finding.to_string()).collect();
    assert!(findings.is_empty(), "{rule}:\n  {}\n", findings.join("\n  "));
}

/// The repository's files, by their path from its root: tracked ones, and new ones that are not ignored, so that a
/// finding shows up before the commit rather than after it.
fn repository_files() -> Vec<String> {
    let root = workspace_root();
    let mut git = Command::new("git");
    git.current_dir(&root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().unwrap_or_else(|error| panic!("{git:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the tidy tests need a git clone; {git:?} says: {said}");
    let listed = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let mut files: Vec<String> = listed.split_terminator('\0').map(str::to_owned).collect();
    // A tracked file may just have been removed.
    files.retain(|path| root.join(path).is_file());
    files.sort_unstable();
    files.dedup();
    assert!(
        files.iter().any(|path| path == "tests/tests/tidy/mod.rs"),
        "git does not list this very file"
    );
    files
}

/// Every text file of the repository; binary ones have no lines to check.
fn text_files() -> Vec<(String, String)> {
    let root = workspace_root();
    let text = |path: String| {
        let bytes = std::fs::read(root.join(&path)).ok()?;
        Some((path, String::from_utf8(bytes).ok()?))
    };
    repository_files().into_iter().filter_map(text).collect()
}

/// Every Rust file of the repository.
fn rust_files() -> Vec<Source> {
    let files = text_files().into_iter();
    files
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| Source::new(path, text))
        .collect()
}

/// Whether any folder on the way to `path` is called `folder`.
fn lies_in(path: &str, folder: &str) -> bool {
    let parents = Path::new(path).parent().into_iter().flat_map(Path::components);
    parents.into_iter().any(|component| component.as_os_str() == folder)
}
