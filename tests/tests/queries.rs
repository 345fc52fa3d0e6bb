//! The queries of the data set's description, run as a user runs them: a process, files in, files out.
//!
//! A result must be the same at every parallelism, so every query runs at 1, 2 and 4; only O8, three million rows, runs
//! once. The repository's sample is always tested. The full set is tested where it is; its expected results for the B
//! queries, which the set states without results, were computed outside of the engine and are in `tests/data/expected`.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millstream_tests::compare::{compare_sorted, expected_file, lines, read};
use millstream_tests::data::{DATA_VARIABLE, DEFAULT, data_dir, sample_dir, skip, workspace_root};
use millstream_tests::program::{Finished, example, run};
use millstream_tests::queries::{QUERIES, Query, SAMPLE};

/// Several times what the slowest query takes in a debug build on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(480);

fn parallelisms(query: &Query) -> &'static [usize] {
    if query.id == "O8" { &[2] } else { &[1, 2, 4] }
}

/// Runs the query and compares all its results; answers what differs.
fn check(
    query: &Query,
    data: &Path,
    expected: &[(&str, PathBuf)],
    parallelism: usize,
) -> Vec<String> {
    let out = tempfile::tempdir().expect("a folder for the results");
    let ended = queries(query.id, data, out.path(), &["--parallelism", &parallelism.to_string()]);
    let case = format!("{} at parallelism {parallelism}", query.id);
    if !ended.status.success() {
        return vec![format!("{case} ended with {}:\n{}", ended.status, ended.stderr)];
    }
    let mut problems = Vec::new();
    for (name, file) in expected {
        if let Err(mismatch) = compare_sorted(&out.path().join(name), file) {
            problems.push(format!("{case}, {name}: {mismatch}"));
        }
    }
    for name in file_names(out.path()) {
        if !query.results.contains(&name.as_str()) {
            problems.push(format!("{case}: {name} is no result of this query"));
        }
    }
    problems
}

fn queries(id: &str, data: &Path, out: &Path, more: &[&str]) -> Finished {
    let mut command: Command = example("queries");
    command.arg(id).arg("--data").arg(data).arg("--out").arg(out).args(more);
    run(&mut command, DEADLINE)
}

fn file_names(dir: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let name = |entry: std::io::Result<DirEntry>| {
        entry.expect("a readable folder").file_name().to_string_lossy().into_owned()
    };
    entries.map(name).collect()
}

fn settle(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// Runs query `id` over the full data set at every parallelism.
fn full(id: &str) {
    let query = Query::of(id);
    let data = data_dir();
    let mut problems = Vec::new();
    for &parallelism in parallelisms(query) {
        let Some(data) = &data else {
            let reason = format!("no data set in {DEFAULT} ({DATA_VARIABLE} names its folder)");
            skip(&format!("{id} at parallelism {parallelism}"), &reason);
            continue;
        };
        match query.expected(&query.expected_dir(data)) {
            Ok(expected) => problems.extend(check(query, data, &expected, parallelism)),
            Err(problem) => problems.push(problem),
        }
    }
    settle(&problems);
}

macro_rules! full_data {
    ($($test:ident $id:literal),* $(,)?) => {
        $(#[test] fn $test() { full($id); })*

        #[test]
        fn every_query_runs_over_the_full_data() {
            assert_eq!(QUERIES.map(|query| query.id), [$($id),*]);
        }
    };
}

full_data! {
    o1_full "O1", o2_full "O2", o3_full "O3", o4_full "O4", o5_full "O5", o6_full "O6", o7_full "O7", o8_full "O8",
    o9_full "O9", b1_full "B1", b2_full "B2", b3_full "B3", b4_full "B4",
}

#[test]
fn sample() {
    let data = sample_dir();
    let mut problems = Vec::new();
    for query in SAMPLE.map(Query::of) {
        match query.expected(&data.join("expected")) {
            Ok(expected) => {
                let runs = parallelisms(query).iter();
                problems.extend(runs.flat_map(|&p| check(query, &data, &expected, p)));
            }
            Err(problem) => problems.push(problem),
        }
    }
    settle(&problems);
}

#[test]
fn every_expected_file_belongs_to_a_tested_query() {
    let mut tested: Vec<&str> =
        SAMPLE.iter().flat_map(|id| Query::of(id).results).copied().collect();
    tested.push("manifest");
    let names = file_names(&sample_dir().join("expected"));
    let stray = names.iter().filter(|name| {
        let Some((stem, _)) = name.split_once(".csv") else { return false };
        !tested.contains(&stem)
    });
    assert_eq!(
        stray.collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "expected results that no test reads"
    );
}

#[test]
fn results_are_not_mixed_with_older_ones() {
    let out = tempfile::tempdir().expect("a folder for the results");
    let (data, out) = (sample_dir(), out.path());
    let older = out.join("O1_carrier_tumbling_1h");
    std::fs::create_dir(&older).expect("a folder of an older run");
    std::fs::write(older.join("part-77"), "an older row\n").expect("a file of an older run");

    let refused = queries("O1", &data, out, &[]);
    assert!(!refused.status.success(), "a folder with results in it was taken without being asked");
    assert!(refused.stderr.contains("--overwrite"), "the remedy is not named:\n{}", refused.stderr);

    let done = queries("O1", &data, out, &["--overwrite"]);
    assert!(done.status.success(), "{}", done.stderr);
    let expected = expected_file(&data.join("expected"), "O1_carrier_tumbling_1h");
    let expected = expected.expect("the sample answers O1");
    compare_sorted(&older, &expected).unwrap_or_else(|mismatch| panic!("{mismatch}"));
}

#[test]
fn a_query_that_does_not_exist_is_refused() {
    let out = tempfile::tempdir().expect("a folder for the results");
    let refused = queries("O99", &sample_dir(), out.path(), &[]);
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("O99"), "the query is not named:\n{}", refused.stderr);
}

/// Runs every operator case of `file` through the harness in the modes that `flags` ask for; each must pass.
fn transcripts(file: &Path, flags: &[&str]) {
    let content = read(file).unwrap_or_else(|problem| panic!("{problem}"));
    let n_cases = lines(&content).len();
    let ended = run(example("transcripts").arg(file).args(flags), DEADLINE);
    let last = ended.stdout.lines().last().unwrap_or_default();
    assert_eq!(last, format!("{n_cases} passed, 0 failed"), "{}\n{}", ended.stdout, ended.stderr);
    assert!(n_cases > 0 && ended.status.success(), "{} after {n_cases} cases", ended.status);
}

/// The cases of the sample, and those where windows go wrong.
fn transcripts_in(flags: &[&str]) {
    transcripts(&sample_dir().join("expected/transcripts.jsonl.gz"), flags);
    transcripts(&workspace_root().join("tests/data/transcripts-more.jsonl.gz"), flags);
}

#[test]
fn transcripts_pass() {
    transcripts_in(&[]);
}

#[test]
fn transcripts_pass_with_a_restore_before_every_step() {
    transcripts_in(&["--snapshot-every-step"]);
}

#[test]
fn transcripts_pass_with_another_parallelism_at_every_step() {
    transcripts_in(&["--rescale"]);
}

/// One step of each case is restored, on RocksDB; `make soak` does it with every step.
#[cfg(feature = "rocksdb")]
#[test]
fn transcripts_pass_on_rocksdb_with_a_restore_before_a_random_step() {
    let seed = std::process::id().to_string();
    println!("seed {seed}");
    let dir = tempfile::tempdir_in(millstream_tests::data::fast_dir()).unwrap();
    let how = ["--snapshot-every-step", "--rescale", "--one-step", &seed];
    let where_to = ["--backend", "rocksdb", "--state-dir", dir.path().to_str().unwrap()];
    transcripts_in(&[&how[..], &where_to[..]].concat());
}
