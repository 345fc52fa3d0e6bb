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

/// Several times what the slowest query takes in a debug build on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(480);

struct Query {
    id: &'static str,
    results: &'static [&'static str],
}

const QUERIES: [Query; 13] = [
    Query { id: "O1", results: &["O1_carrier_tumbling_1h"] },
    Query { id: "O2", results: &["O2_origin_tumbling_1h_late5m", "O2_late_records"] },
    Query { id: "O3", results: &["O3_interval_join_turnaround"] },
    Query { id: "O4", results: &["O4_host_sessions_30m"] },
    Query { id: "O5", results: &["O5_top5_urls_sliding_10m_1m"] },
    Query { id: "O6", results: &["O6_kjv_word_count"] },
    Query { id: "O7", results: &["O7_wiki_channel_tumbling_5m"] },
    Query { id: "O8", results: &["O8_us_dest_tumbling_6h"] },
    Query { id: "O9", results: &["O9_apache_status_tumbling_1h_bound60s", "O9_late_records"] },
    Query { id: "B1", results: &["B1_firings", "B1_dropped_records"] },
    Query { id: "B2", results: &["B2_asof_join_weather"] },
    Query { id: "B3", results: &["B3_alerts"] },
    Query { id: "B4", results: &["B4_count_windows"] },
];

/// The queries that the repository's sample (flights and the first book of the Bible) can answer.
const SAMPLE: [&str; 7] = ["O1", "O2", "O3", "O6", "B1", "B2", "B4"];

impl Query {
    fn of(id: &str) -> &'static Query {
        QUERIES.iter().find(|query| query.id == id).expect("a query of the list")
    }

    fn parallelisms(&self) -> &'static [usize] {
        if self.id == "O8" { &[2] } else { &[1, 2, 4] }
    }

    /// Each result's name and the file that says what is expected; an error names the first result without a file.
    fn expected(&self, dir: &Path) -> Result<Vec<(&'static str, PathBuf)>, String> {
        let file = |name: &&'static str| {
            let file = expected_file(dir, name);
            file.map(|file| (*name, file))
                .ok_or_else(|| format!("no {name}.csv in {}", dir.display()))
        };
        self.results.iter().map(file).collect()
    }

    /// Runs the query and compares all its results; answers what differs.
    fn check(&self, data: &Path, expected: &[(&str, PathBuf)], parallelism: usize) -> Vec<String> {
        let out = tempfile::tempdir().expect("a folder for the results");
        let ended =
            queries(self.id, data, out.path(), &["--parallelism", &parallelism.to_string()]);
        let case = format!("{} at parallelism {parallelism}", self.id);
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
            if !self.results.contains(&name.as_str()) {
                problems.push(format!("{case}: {name} is no result of this query"));
            }
        }
        problems
    }
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
    for &parallelism in query.parallelisms() {
        let Some(data) = &data else {
            let reason = format!("no data set in {DEFAULT} ({DATA_VARIABLE} names its folder)");
            skip(&format!("{id} at parallelism {parallelism}"), &reason);
            continue;
        };
        let root =
            if id.starts_with('B') { workspace_root().join("tests/data") } else { data.clone() };
        match query.expected(&root.join("expected")) {
            Ok(expected) => problems.extend(query.check(data, &expected, parallelism)),
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
                let runs = query.parallelisms().iter();
                problems.extend(runs.flat_map(|&p| query.check(&data, &expected, p)));
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
