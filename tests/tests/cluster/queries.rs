//! The queries of the data set on one, two and three task managers: where tasks run changes no result.
//!
//! Here over the repository's sample, each query on one of the clusters at least; all of them on all clusters, over
//! the full data set, is a part of `make soak CHAOS=n`.

use std::path::PathBuf;

use millstream_tests::cluster::Cluster;
use millstream_tests::compare::compare_sorted;
use millstream_tests::data::sample_dir;
use millstream_tests::queries::{Query, SAMPLE};

use super::query;

/// Runs these queries at a parallelism that needs every slot.
fn on(n_task_managers: usize, ids: &[&str]) {
    let cluster = Cluster::start(n_task_managers, 2);
    let data = sample_dir();
    let mut problems = Vec::new();
    for id in ids {
        let out: PathBuf = cluster.dir().join(id);
        let ended = cluster.run(query(id, &data, &out, 2 * n_task_managers));
        if !ended.status.success() {
            problems.push(format!("{id} ended with {}:\n{}", ended.status, ended.stderr));
            continue;
        }
        let expected = Query::of(id).expected(&data.join("expected"));
        for (name, file) in expected.expect("the sample answers its queries") {
            if let Err(mismatch) = compare_sorted(&out.join(name), &file) {
                problems.push(format!("{id} on {n_task_managers}, {name}: {mismatch}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn on_one_task_manager() {
    on(1, &["O2", "B2", "B4"]);
}

#[test]
fn on_two_task_managers() {
    on(2, &SAMPLE);
}

#[test]
fn on_three_task_managers() {
    on(3, &["O1", "O3", "O6", "B1"]);
}
