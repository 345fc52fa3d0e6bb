//! What the compiler refuses, and in which words: a program that cannot work should not build, and should say why.
//!
//! Each file of `tests/compile-fail` is a program; the `.stderr` beside it holds the lines that the compiler must say, in
//! this order, among others. Not all it says: most of that is the compiler's own and changes with every release. The
//! programs are compiled against the engine as it was built for this very test, so nothing is built twice.

use millstream_tests::data::workspace_root;
use millstream_tests::program::cargo_build;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first promised line that `said` does not hold after those before it.
fn unsaid<'a>(promised: &'a str, said: &str) -> Option<&'a str> {
    let mut said = said.lines();
    promised
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .find(|&line| !said.any(|s| s.contains(line)))
}

/// The library a program is compiled against.
fn engine() -> PathBuf {
    let library = cargo_build(&["--lib"]).into_iter().find_map(|artifact| {
        let mut files =
            artifact.filenames.into_iter().filter(|_| artifact.target.name == "millstream");
        files.find(|file| file.extension() == Some("rlib"))
    });
    library.expect("the engine is a member of the workspace").into_std_path_buf()
}

/// Compiles a program; what the compiler says if it refuses.
fn compile(program: &Path, engine: &Path, out: &Path) -> Option<String> {
    let mut rustc = Command::new(Path::new(env!("CARGO")).with_file_name("rustc"));
    rustc.current_dir(workspace_root()).args(["--edition", "2024", "--emit", "metadata"]);
    rustc.arg("--out-dir").arg(out).arg(program);
    let folder = engine.parent().expect("a library lies in a folder");
    rustc.arg("-L").arg(format!("dependency={}", folder.join("deps").display()));
    rustc.arg("--extern").arg(format!("millstream={}", engine.display()));
    let output = rustc.output().unwrap_or_else(|error| panic!("{rustc:?}: {error}"));
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn programs_that_cannot_work_are_refused_in_the_promised_words() {
    let (engine, out) = (engine(), tempfile::tempdir().unwrap());
    let programs = std::fs::read_dir(workspace_root().join("tests/compile-fail")).unwrap();
    let mut programs: Vec<PathBuf> = programs.map(|entry| entry.unwrap().path()).collect();
    programs.retain(|path| path.extension().is_some_and(|ending| ending == "rs"));
    programs.sort();
    assert!(!programs.is_empty(), "there is no program to compile");
    let mut problems = Vec::new();
    for program in programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let promised =
            std::fs::read_to_string(program.with_extension("stderr")).unwrap_or_default();
        if promised.trim().is_empty() {
            problems.push(format!("{name}: its `.stderr` promises nothing"));
        }
        match compile(&program, &engine, out.path()) {
            None => problems.push(format!("{name}: it compiles")),
            Some(said) => {
                problems.extend(unsaid(&promised, &said).map(|line| {
                    format!("{name}: the compiler does not say\n    {line}\nbut\n{said}")
                }))
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[cfg(test)]
mod can_fail {
    use super::*;

    #[test]
    fn on_lines_that_are_missing_or_in_another_order() {
        let said = "error: a\n  note: b\n";
        assert_eq!(unsaid("error: a\n\nnote: b\n", said), None);
        assert_eq!(unsaid("note: b\nerror: a\n", said), Some("error: a"));
        assert_eq!(unsaid("error: c\n", said), Some("error: c"));
    }

    #[test]
    fn on_a_program_that_compiles() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("good.rs");
        let text = "use millstream::prelude::*;\nfn main() { Environment::local().generate(1, |i| i).print(); }\n";
        std::fs::write(&program, text).unwrap();
        assert_eq!(compile(&program, &engine(), dir.path()), None);
    }
}
