//! `SOAK.md`: what long runs have shown, a row a run, a table per kind of run.
//!
//! The file is written by programs and read by people, and several kinds share it. So a row is added under the heading
//! of its kind and everything else stays as it is.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::data::workspace_root;

/// A number on the command line, if one is given.
///
/// # Errors
/// It is none.
pub fn number(argument: Option<String>, default: u64) -> Result<u64, String> {
    match argument {
        Some(text) => text.parse().map_err(|_| format!("`{text}` is not a number")),
        None => Ok(default),
    }
}

/// How a run ends that found so many violations, or could not be made; what is wrong goes to standard error.
pub fn exit_code(n_violations: Result<usize, String>) -> ExitCode {
    match n_violations {
        Ok(0) => return ExitCode::SUCCESS,
        Ok(n) => eprintln!("{n} violations"),
        Err(problem) => eprintln!("error: {problem}"),
    }
    ExitCode::FAILURE
}

/// A kind of run: the heading of its table, and the table's columns.
#[derive(Debug)]
pub struct Kind {
    /// The heading, without marks.
    pub heading: &'static str,
    /// The columns after the first, which is the commit.
    pub columns: &'static [&'static str],
}

impl Kind {
    /// Adds a row: the commit that is checked out, then `cells`.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn add(&self, cells: &[String]) -> io::Result<PathBuf> {
        let path = workspace_root().join("SOAK.md");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => HEAD.to_owned(),
            text => text?,
        };
        let row = std::iter::once(commit()).chain(cells.iter().cloned()).collect::<Vec<_>>();
        std::fs::write(&path, self.added(&text, &row))?;
        Ok(path)
    }

    fn added(&self, text: &str, row: &[String]) -> String {
        let heading = format!("## {}", self.heading);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let start = match lines.iter().position(|line| *line == heading) {
            Some(at) => at,
            None => {
                let names = std::iter::once("commit").chain(self.columns.iter().copied());
                let rule = vec!["---".to_owned(); self.columns.len() + 1];
                lines.extend([String::new(), heading, String::new()]);
                lines.push(shown(&names.map(str::to_owned).collect::<Vec<_>>()));
                lines.push(shown(&rule).replace(' ', ""));
                lines.len() - 4
            }
        };
        let end = lines[start + 1..].iter().position(|line| line.starts_with("## "));
        let end = end.map_or(lines.len(), |at| start + 1 + at);
        let last = lines[start..end].iter().rposition(|line| line.starts_with('|'));
        let at = last.map_or(end, |last| start + last + 1);
        lines.insert(at, shown(row));
        lines.join("\n") + "\n"
    }
}

const HEAD: &str = "# Long runs\n\n\
                    What was run for longer than `make test` does, and what it showed. The programs add the rows.\n";

fn shown(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// The commit that is checked out, with a `+` if files were changed since.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(workspace_root()).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    // This file itself is not what was run.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!SOAK.md"]);
    if changed.is_some_and(|files| files.is_empty()) { commit } else { commit + "+" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASHES: Kind = Kind { heading: "Crashes", columns: &["runs"] };
    const WORLD: Kind = Kind { heading: "Simulation", columns: &["seeds", "violations"] };

    #[test]
    fn rows_go_to_the_end_of_their_table() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let text = CRASHES.added("# Long runs\n", &row(&["c1", "20"]));
        let text = WORLD.added(&text, &row(&["c1", "1..9", "0"]));
        let text = CRASHES.added(&text, &row(&["c2", "30"]));
        assert_eq!(
            text,
            "# Long runs\n\n## Crashes\n\n| commit | runs |\n|---|---|\n| c1 | 20 |\n| c2 | 30 |\n\n\
             ## Simulation\n\n| commit | seeds | violations |\n|---|---|---|\n| c1 | 1..9 | 0 |\n"
        );
    }
}
