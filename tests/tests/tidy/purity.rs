//! What decides must not look around: no clock, no randomness, and for the machines no threads, no waiting, no I/O.
//! Times and ids are given to them, and that is why they can be tested as tables and run in a simulated world.

use super::source::{Source, mentions};
use super::{Finding, rust_files, settle};

/// Packages without clocks and randomness.
const PURE_PACKAGES: [&str; 3] = ["runtime/model/", "state/", "jobmanager/src/"];

/// The one file in them that reads a clock, for the shells that stand beside the machines.
const CLOCK: &str = "jobmanager/src/clock.rs";

/// Files outside of those packages that decide as a `Machine` does, without being one.
const PURE_FILES: [&str; 1] = ["runtime/src/watermark/valve.rs"];

const CLOCKS_AND_CHANCE: [&str; 5] =
    ["Instant::now", "SystemTime::now", ".elapsed()", "rand", "fastrand"];

const EFFECTS: [&str; 8] = [
    "thread::spawn",
    "async fn",
    ".await",
    "tokio",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
];

/// A machine is pure wherever it lies.
fn holds_a_machine(source: &Source) -> bool {
    source.code().iter().any(|line| mentions(line, "impl") && mentions(line, "Machine for"))
}

fn check(source: &Source) -> Vec<Finding> {
    let machine = holds_a_machine(source) || PURE_FILES.contains(&source.path());
    let package = PURE_PACKAGES.iter().any(|package| source.path().starts_with(package))
        && source.path() != CLOCK;
    let mut findings = Vec::new();
    // An address is data.
    let without_addresses = |line: &str| line.replace("std::net::SocketAddr", "");
    for (index, (line, test)) in source.code().into_iter().zip(source.test_lines()).enumerate() {
        let line = &without_addresses(line);
        let looks = CLOCKS_AND_CHANCE.iter().filter(|_| machine || package);
        // The tests of a machine may well read their cases from a file.
        let acts = EFFECTS.iter().filter(|_| machine && !test);
        let words = looks.chain(acts).filter(|word| mentions(line, word));
        findings
            .extend(words.map(|word| Finding::at(source, index, format!("`{word}` in pure code"))));
    }
    findings
}

#[test]
fn machines_and_the_model_are_pure() {
    let files = rust_files();
    for path in PURE_FILES.into_iter().chain([CLOCK]) {
        assert!(
            files.iter().any(|source| source.path() == path),
            "{path} is in the lists of files but not there"
        );
    }
    settle("pure code is given the time and does no I/O", files.iter().flat_map(check));
}

#[cfg(test)]
mod can_fail {
    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn on_clocks_and_chance_in_a_pure_package() {
        let text = "//! Instant::now\nlet a = Instant::now();\nlet b = std::time::SystemTime::now();\nuse rand::Rng;\n";
        assert_eq!(lines("state/src/ttl.rs", text), [2, 3, 4]);
        assert_eq!(lines("runtime/model/src/time.rs", text), [2, 3, 4]);
        assert_eq!(lines("taskmanager/src/driver.rs", text), NONE);
        assert_eq!(lines("jobmanager/src/process/shell.rs", text), [2, 3, 4]);
        assert_eq!(lines(CLOCK, text), NONE);
        let machine = format!("impl Machine for Clock {{}}\n{text}");
        assert_eq!(lines(CLOCK, &machine), [3, 4, 5]);
    }

    #[test]
    fn on_effects_in_a_machine() {
        let text = "impl<T> Machine for Valve<T> {\n    std::fs::read(p);\n    thread::spawn(f);\n    t.elapsed();\n}\n\
                    #[cfg(test)]\nmod tests {\n    std::fs::read(p);\n    Instant::now();\n}\n";
        assert_eq!(lines("runtime/src/valve.rs", text), [2, 3, 4, 9]);
        assert_eq!(lines("runtime/src/valve.rs", &text.replace("Machine", "Engine")), NONE);
    }
}
