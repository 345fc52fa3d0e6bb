//! The plans of the examples, as `--explain` prints them: what is fused and why not, partitioning, state, guarantee.
//!
//! A plan is golden text in `examples/explain`, so whoever changes how jobs are compiled sees what becomes of real ones.
//! `UPDATE_GOLDEN=1` writes the plans anew. The folders a query is given do not exist: a plan touches nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use millstream_tests::data::workspace_root;
use millstream_tests::program::{example, run};

const DEADLINE: Duration = Duration::from_secs(60);

const QUERIES: [&str; 13] =
    ["O1", "O2", "O3", "O4", "O5", "O6", "O7", "O8", "O9", "B1", "B2", "B3", "B4"];

/// The programs with other plans than queries: name of the plan, program, arguments.
const EXAMPLES: [(&str, &str, &[&str]); 6] = [
    ("enrichment", "enrichment", &[]),
    ("flights", "flights", &[]),
    ("fraud", "fraud", &[]),
    ("weblog", "weblog", &[]),
    ("wordcount", "wordcount", &[]),
    ("wordcount-two-phase", "wordcount", &["--two-phase"]),
];

/// A plan and how to get it.
struct Case {
    name: String,
    program: &'static str,
    arguments: Vec<&'static str>,
}

fn cases() -> Vec<Case> {
    let queries = QUERIES.map(|id| Case {
        name: format!("queries-{id}"),
        program: "queries",
        arguments: vec![id, "--data", "no-data", "--out", "no-results"],
    });
    let examples = EXAMPLES.map(|(name, program, arguments)| Case {
        name: name.to_string(),
        program,
        arguments: arguments.to_vec(),
    });
    queries.into_iter().chain(examples).collect()
}

/// What `--explain` prints.
fn plan(case: &Case, format: &str) -> String {
    let empty = tempfile::tempdir().expect("a folder to run in");
    let mut command = example(case.program);
    command.current_dir(empty.path()).args(&case.arguments).args(["--parallelism", "2", format]);
    let ended = run(&mut command, DEADLINE);
    assert!(ended.status.success(), "{command:?} ended with {}:\n{}", ended.status, ended.stderr);
    let left = std::fs::read_dir(empty.path()).expect("a readable folder").count();
    assert_eq!(left, 0, "{command:?} wrote something");
    ended.stdout
}

fn golden_dir() -> PathBuf {
    workspace_root().join("examples/explain")
}

#[test]
fn plans_are_the_golden_ones() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut changed = Vec::new();
    for case in cases() {
        let (plan, path) =
            (plan(&case, "--explain"), golden_dir().join(format!("{}.txt", case.name)));
        if update {
            std::fs::create_dir_all(golden_dir()).expect("a writable repository");
            std::fs::write(&path, &plan).expect("a writable repository");
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != plan {
            changed.push(format!("{}:\n{plan}", case.name));
        }
    }
    assert!(
        changed.is_empty(),
        "other plans than in examples/explain (UPDATE_GOLDEN=1 writes them):\n\n{}",
        changed.join("\n")
    );
}

#[test]
fn every_golden_plan_is_tested() {
    let tested: BTreeSet<String> =
        cases().iter().map(|case| format!("{}.txt", case.name)).collect();
    let entries = std::fs::read_dir(golden_dir()).expect("the repository has plans");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("a readable folder").file_name().to_string_lossy().into_owned()
    };
    assert_eq!(entries.map(name).collect::<BTreeSet<_>>(), tested);
}

#[test]
fn plans_for_tools() {
    let case = &cases()[0];
    assert!(plan(case, "--explain=dot").starts_with("digraph \"O1\" {"));
    let json = plan(case, "--explain=json");
    assert!(json.starts_with('{') && json.contains("\"vertices\""), "{json}");
}
