//! The shape of a file: it opens with why it is as it is, stays short enough for one sitting, gives a reason for every
//! `unsafe`, and names its types after what they are.

use super::source::{Source, mentions};
use super::{Finding, lies_in, rust_files, settle};

/// Where a file has become more than one idea. Tests and benchmarks are lists and may be longer.
const MAX_LINES: usize = 600;

/// Endings that say nothing about what a type is.
const VAGUE: [&str; 7] = ["Manager", "Helper", "Helpers", "Util", "Utils", "Impl", "Info"];
/// The two processes that Flink's vocabulary calls so, and what is said to and by one of them.
const PROCESSES: [&str; 4] = ["JobManager", "TaskManager", "ToTaskManager", "FromTaskManager"];

fn opening(source: &Source) -> Option<Finding> {
    let first = source.lines().into_iter().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let reason = first.trim().strip_prefix("//!").unwrap_or_default();
    reason
        .trim()
        .is_empty()
        .then(|| Finding::at(source, 0, "does not open with `//!` and its reason"))
}

fn length(source: &Source) -> Option<Finding> {
    let n_lines = source.lines().len();
    let list = lies_in(source.path(), "tests") || lies_in(source.path(), "benches");
    (n_lines > MAX_LINES && !list)
        .then(|| Finding::file(source.path(), format!("has grown to {n_lines} lines")))
}

fn unsafe_without_reason(source: &Source) -> Vec<Finding> {
    let (lines, code) = (source.lines(), source.code());
    let unsafe_lines: Vec<bool> = code.iter().map(|line| mentions(line, "unsafe")).collect();
    let has_reason = |index: usize| {
        // Attributes may stand between, and one reason serves a run of `unsafe` lines (`impl Send`, `impl Sync`).
        let above = (0..index)
            .rev()
            .find(|&above| !unsafe_lines[above] && !code[above].trim().starts_with("#["));
        let comment = above.and_then(|above| lines[above].trim().strip_prefix("//"));
        comment.is_some_and(|comment| !comment.trim().is_empty())
    };
    let bare = (0..code.len()).filter(|&index| unsafe_lines[index] && !has_reason(index));
    bare.map(|index| Finding::at(source, index, "`unsafe` without a `// SAFETY:` reason above it"))
        .collect()
}

/// The name of the type that `line` makes public.
fn public_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = if rest.starts_with('(') { rest.split_once(')')?.1 } else { rest };
    let mut words = rest.split_whitespace().skip_while(|word| *word == "unsafe");
    matches!(words.next()?, "struct" | "enum" | "union" | "trait" | "type").then_some(())?;
    let name = words.next()?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

fn vague_names(source: &Source) -> Vec<Finding> {
    let named = source.code().into_iter().enumerate().filter_map(|(index, line)| {
        let name = public_type(line).filter(|name| !PROCESSES.contains(name))?;
        let ending = VAGUE.iter().find(|ending| name.ends_with(*ending))?;
        Some(Finding::at(
            source,
            index,
            format!("`{name}`: name it by what it is, not `…{ending}`"),
        ))
    });
    named.collect()
}

#[test]
fn files_open_with_their_reason() {
    settle(
        "every Rust file says first why it is shaped so",
        rust_files().iter().filter_map(opening),
    );
}

#[test]
fn files_hold_one_idea() {
    settle(&format!("no file is above {MAX_LINES} lines"), rust_files().iter().filter_map(length));
}

#[test]
fn unsafe_has_its_reason() {
    settle(
        "`unsafe` is argued for where it stands",
        rust_files().iter().flat_map(unsafe_without_reason),
    );
}

#[test]
fn types_are_named_after_what_they_are() {
    settle("public types have telling names", rust_files().iter().flat_map(vague_names));
}

#[cfg(test)]
mod can_fail {
    use super::*;

    const NONE: [usize; 0] = [];

    fn source(text: &str) -> Source {
        Source::new("runtime/src/a.rs", text)
    }

    #[test]
    fn on_a_file_without_reason() {
        for text in ["", "use std::fmt;\n", "//!\nuse std::fmt;\n", "// Why.\n"] {
            assert!(opening(&source(text)).is_some(), "{text:?}");
        }
        assert_eq!(opening(&source("\n//! Why.\nuse std::fmt;\n")), None);
    }

    #[test]
    fn on_a_long_file() {
        let text = "let x = 1;\n".repeat(MAX_LINES + 1);
        assert_eq!(
            length(&source(&text)).map(|finding| finding.what),
            Some("has grown to 601 lines".into())
        );
        assert_eq!(length(&source(&text[11..])), None);
        assert_eq!(length(&Source::new("client/tests/a.rs", text)), None);
    }

    #[test]
    fn on_unsafe_without_reason() {
        let lines = |text: &str| -> Vec<usize> {
            unsafe_without_reason(&source(text)).into_iter().map(|finding| finding.line).collect()
        };
        assert_eq!(lines("let a = 1;\nlet b = unsafe { f() };\n"), [2]);
        assert_eq!(lines("//\nunsafe fn f() {}\n"), [2]);
        assert_eq!(lines("// SAFETY: alone here.\n\nunsafe { f() }\n"), [3]);
        assert_eq!(
            lines(
                "// SAFETY: owned.\n#[allow(unsafe_code)]\nunsafe impl Send for A {}\nunsafe impl Sync for A {}\n"
            ),
            NONE
        );
        assert_eq!(lines("let unsafe_code = \"unsafe\"; // unsafe\n"), NONE);
    }

    #[test]
    fn on_vague_names() {
        let names = |text: &str| vague_names(&source(text)).len();
        assert_eq!(names("pub struct SlotManager {\n"), 1);
        assert_eq!(names("pub(crate) enum JobInfo<T> {\n"), 1);
        assert_eq!(names("    pub unsafe trait TableImpl: Send {}\npub type TimeUtil = u8;\n"), 2);
        assert_eq!(
            names("pub struct JobManager;\npub struct TaskManager(u8);\npub struct Simple;\n"),
            0
        );
        assert_eq!(names("pub use a::FooImpl;\n// pub struct FooImpl;\npub fn as_info() {}\n"), 0);
    }
}
