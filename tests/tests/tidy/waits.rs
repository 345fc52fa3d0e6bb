//! Tests wait for conditions, never for time: a sleep that is long enough today is a failure on a busy machine tomorrow,
//! and every run pays for it.

use super::source::{Source, mentions};
use super::{Finding, rust_files, settle};

/// Test files that may sleep, each with its reason. A file that no longer sleeps must leave the list.
const MAY_SLEEP: [(&str, &str); 0] = [];

fn check(source: &Source) -> Vec<Finding> {
    let code = source.code().into_iter().zip(source.test_lines()).enumerate();
    let sleeps = code.filter(|(_, (line, test))| *test && mentions(line, "sleep"));
    sleeps.map(|(index, _)| Finding::at(source, index, "a test that waits for time")).collect()
}

/// What is not excused, and excuses for nothing.
fn judge(findings: Vec<Finding>, excused: &[(&str, &str)]) -> Vec<Finding> {
    let idle =
        excused.iter().filter(|(path, _)| !findings.iter().any(|finding| finding.path == *path));
    let mut judged: Vec<Finding> =
        idle.map(|(path, _)| Finding::file(path, "is excused but does not sleep")).collect();
    let known = |finding: &Finding| excused.iter().any(|(path, _)| finding.path == *path);
    judged.extend(findings.into_iter().filter(|finding| !known(finding)));
    judged
}

#[test]
fn tests_wait_for_conditions() {
    let findings = rust_files().iter().flat_map(check).collect();
    settle("wait for a condition, not for time", judge(findings, &MAY_SLEEP));
}

#[cfg(test)]
mod can_fail {
    use super::*;

    const SLEEPY: &str = "fn a() {\n    thread::sleep(d);\n}\n#[cfg(test)]\nmod tests {\n    use std::thread::sleep;\n}\n";

    #[test]
    fn on_sleep_in_test_code() {
        let lines = |path: &str| -> Vec<usize> {
            check(&Source::new(path, SLEEPY)).into_iter().map(|finding| finding.line).collect()
        };
        assert_eq!(lines("runtime/src/a.rs"), [6]);
        assert_eq!(lines("runtime/tests/a.rs"), [2, 6]);
    }

    #[test]
    fn on_an_excuse_for_nothing() {
        let sleepy = || check(&Source::new("runtime/src/a.rs", SLEEPY));
        assert_eq!(judge(sleepy(), &[("runtime/src/a.rs", "why")]), []);
        let judged = judge(sleepy(), &[("b.rs", "why")]);
        assert_eq!(
            judged.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(),
            ["b.rs", "runtime/src/a.rs"]
        );
    }
}
