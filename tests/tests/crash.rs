//! What `make crash` does for long, for some seconds: queries over the sample, killed at random moments and at chosen ones.
//!
//! The seed is the time unless `SEED` is set; what fails says which it was.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream::state::snapshot::{LocalStorage, latest, read_manifest};
use millstream_tests::crash::Case;
use millstream_tests::data::sample_dir;
use millstream_tests::program::{example, run};
use millstream_tests::queries::{Query, SAMPLE};

pub(crate) fn seed() -> u64 {
    match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
    }
}

pub(crate) fn case(id: &str) -> Case {
    let data = sample_dir();
    Case::new(Query::of(id), &data, &data.join("expected"), 1500).expect("a query of the sample")
}

#[test]
fn killed_queries_lose_nothing_and_repeat_nothing() {
    let seed = seed();
    for (id, seed) in ["B1", "O3", "B4"].into_iter().zip(seed..) {
        let outcome = case(id).killed(seed);
        assert!(outcome.violation.is_none(), "SEED={seed}: {outcome}");
        assert!(outcome.n_kills >= 2, "SEED={seed}: {outcome}");
    }
}

#[test]
fn queries_that_die_between_two_steps_go_on() {
    let seed = seed();
    for (name, n) in [("manifest.before-publish", 2), ("manifest.after-publish", 1)] {
        let outcome = case("O2").aborted(seed, name, n, n > 1);
        assert!(outcome.violation.is_none(), "SEED={seed}: {outcome}");
        assert!(outcome.reached, "SEED={seed}: {outcome}");
    }
}

/// The operators of a job that have state but no uid, by the checkpoint that ended it.
fn nameless(id: &str, dir: &Path) -> Vec<String> {
    let checkpoints = dir.join("checkpoints");
    let mut command = example("queries");
    command.arg(id).arg("--data").arg(sample_dir()).arg("--out").arg(dir.join("out"));
    command.arg("--checkpoint-dir").arg(&checkpoints).args(["--parallelism", "2"]);
    let ended = run(&mut command, Duration::from_secs(120));
    assert!(ended.status.success(), "{id} ended with {}:\n{}", ended.status, ended.stderr);
    let storage = LocalStorage::new(&checkpoints).expect("a folder of checkpoints");
    let last = latest(&storage, false).expect("a readable folder").expect("a checkpoint");
    let manifest = read_manifest(&storage, &last.folder).expect("a manifest");
    let tasks = manifest.tasks.iter();
    let stateful: Vec<_> = tasks.flat_map(|task| &task.operators).map(|o| o.id).collect();
    assert!(!stateful.is_empty(), "{id} has no state");
    let operators = manifest.vertices.iter().flat_map(|vertex| &vertex.operators);
    operators
        .filter(|(operator, _, uid)| uid.is_none() && stateful.contains(operator))
        .map(|(_, name, _)| format!("{id}: {name}"))
        .collect()
}

/// So that a query that is edited finds its state again.
#[test]
fn whatever_keeps_state_in_a_query_has_a_uid() {
    let dir = tempfile::tempdir().expect("a folder");
    let found: Vec<_> = SAMPLE.iter().flat_map(|id| nameless(id, &dir.path().join(id))).collect();
    assert_eq!(found, Vec::<String>::new());
}
