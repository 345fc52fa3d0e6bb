//! Words that must not be in the repository: marks of unfinished work, places on somebody's machine, and the hosts
//! packages come from (those are configuration of whoever builds).

use super::{Finding, settle, text_files};

/// Marks of unfinished work. Split, so that this file does not find itself.
const UNFINISHED: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("un", "implemented!("),
    concat!("#[", "ignore"),
    concat!("not ", "implemented"),
    concat!("not yet ", "implemented"),
];

const HOSTS: [&str; 5] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("npm", "js.org"),
    concat!("npm", "js.com"),
];

/// First folders of a path that exists on one machine only.
const MACHINE_ROOTS: [&str; 4] = ["home", "root", "Users", "work"];

/// Endings of files that say what to do, rather than about what was done.
const CODE: [&str; 6] = ["rs", "toml", "sh", "java", "py", "js"];

/// Code by its ending; scripts and makefiles have none.
fn is_code(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    match file.trim_start_matches('.').rsplit_once('.') {
        Some((_, ending)) => CODE.contains(&ending),
        None => true,
    }
}

fn unfinished(line: &str) -> Option<&'static str> {
    UNFINISHED.into_iter().find(|mark| line.contains(mark))
}

fn registry_host(line: &str) -> Option<&'static str> {
    HOSTS.into_iter().find(|host| line.contains(host))
}

/// An absolute path below one of [`MACHINE_ROOTS`].
fn machine_path(line: &str) -> Option<&'static str> {
    MACHINE_ROOTS.into_iter().find(|root| {
        line.match_indices(&format!("/{root}/")).any(|(at, _)| {
            // After a name, a dot or a variable it is the middle of a longer path.
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "_.-})*".contains(c))
        })
    })
}

fn check(
    files: &[(String, String)],
    applies: impl Fn(&str) -> bool,
    found: fn(&str) -> Option<&'static str>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| applies(path)) {
        for (index, line) in text.lines().enumerate() {
            let finding = found(line).map(|what| Finding {
                path: path.clone(),
                line: index + 1,
                what: what.to_owned(),
            });
            findings.extend(finding);
        }
    }
    findings
}

#[test]
fn nothing_is_left_unfinished() {
    settle("finish it, or leave it out", check(&text_files(), is_code, unfinished));
}

#[test]
fn nothing_names_a_machine() {
    settle("a path that exists on one machine only", check(&text_files(), |_| true, machine_path));
}

#[test]
fn nothing_names_a_registry() {
    let lock = |path: &str| path.ends_with("Cargo.lock");
    settle(
        "where packages come from is not ours to say",
        check(&text_files(), |path| !lock(path), registry_host),
    );
}

#[cfg(test)]
mod can_fail {
    use super::*;

    #[test]
    fn on_unfinished_work() {
        for mark in UNFINISHED {
            assert!(unfinished(&format!("    // {mark} later")).is_some(), "{mark}");
        }
        assert_eq!(unfinished("let todos = mastodon;"), None);
        assert!(
            is_code("Makefile")
                && is_code(".ci/run")
                && is_code("state/src/lib.rs")
                && is_code("Cargo.toml")
        );
        assert!(
            !is_code("README.md")
                && !is_code("tests/data/expected/B1_firings.csv")
                && !is_code(".config/a.json")
        );
    }

    #[test]
    fn on_machine_paths() {
        for root in MACHINE_ROOTS {
            assert!(machine_path(&format!("data is in /{root}/me")).is_some());
            assert!(machine_path(&format!("--data=\"/{root}/me\"")).is_some());
            assert_eq!(
                machine_path(&format!("see docs/{root}/me, ${{TOP}}/{root}/me, ../{root}/me")),
                None
            );
        }
    }

    #[test]
    fn on_registry_hosts() {
        assert!(
            HOSTS.iter().all(|host| registry_host(&format!("https://static.{host}/x")).is_some())
        );
        assert_eq!(registry_host("https://doc.rust-lang.org/std"), None);
    }

    #[test]
    fn with_path_and_line() {
        let files = [("a.rs".to_owned(), format!("fn a() {{\n    {}a)\n", UNFINISHED[2]))];
        assert_eq!(
            check(&files, is_code, unfinished)[0].to_string(),
            format!("a.rs:2: {}", UNFINISHED[2])
        );
        assert_eq!(check(&files, |_| false, unfinished), []);
    }
}
