//! What the tools say.

use super::*;
use crate::snapshot::tools::{inspect, list, verify};

#[test]
fn snapshots_are_listed_with_what_is_wrong() {
    let storage = MemoryStorage::new();
    let first = store(&storage, 9, 1, &[]).unwrap();
    store(&storage, 10, 1, &first.tasks[0].shared).unwrap();
    store_in(&storage, "", 3, 1, &[]).unwrap();
    store(&storage, 2, 1, &[]).unwrap();
    storage.truncate("chk-2-1/manifest", 0);
    storage.publish("chk-11-1/0-0.state", b"").unwrap();
    let listed = list(&storage).unwrap();
    let folders: Vec<&str> = listed.iter().map(|listed| listed.folder.as_str()).collect();
    assert_eq!(folders, ["", "chk-9-1", "chk-10-1", "chk-2-1"]);
    let error = listed[3].summary.as_ref().unwrap_err().to_string();
    assert!(error.contains("chk-2-1/manifest"), "{error}");
    let ninth = listed[1].summary.as_ref().unwrap();
    assert_eq!((ninth.id, ninth.epoch, ninth.n_files), (CheckpointId(9), 1, 4));
    assert_eq!(ninth.completed_at_ms, 1_700_000_000_009);
    let lengths = first.files().map(|file| file.bytes).sum::<u64>();
    assert_eq!(ninth.n_bytes, lengths);
    // Both subtasks name the older table; it is one file.
    let tenth = listed[2].summary.as_ref().unwrap();
    assert_eq!((tenth.n_files, tenth.n_bytes), (5, lengths + first.tasks[0].shared[0].bytes));
}

#[test]
fn all_problems_are_found_at_once() {
    let storage = MemoryStorage::new();
    store(&storage, 1, 1, &[]).unwrap();
    assert!(verify(&storage, "chk-1-1").is_empty());
    storage.flip_bit("chk-1-1/0-0.state", 8 * 50);
    storage.lose("chk-1-1/0-0.table");
    storage.truncate("chk-1-1/0-1.table", 3);
    let problems = verify(&storage, "chk-1-1");
    let files: Vec<&str> = problems.iter().map(|problem| problem.file.as_str()).collect();
    assert_eq!(files, ["chk-1-1/0-0.state", "chk-1-1/0-0.table", "chk-1-1/0-1.table"]);
    for problem in &problems {
        assert!(problem.to_string().contains(&problem.file), "{problem}");
    }
}

#[test]
fn a_file_that_holds_something_else_than_the_manifest_says_is_a_problem() {
    let storage = MemoryStorage::new();
    let mut manifest = store(&storage, 1, 1, &[]).unwrap();
    for task in &mut manifest.tasks {
        task.shared.clear();
    }
    manifest.tasks[0].operators[0].parts[0].n_entries = 7;
    manifest.tasks[1].operators.pop();
    write_manifest(&storage, "a", &manifest).unwrap();
    let problems = verify(&storage, "a");
    let said: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("chk-1-1/0-0.state` holds 6 entries of `counts` instead of 7"),
        "{said:?}"
    );
    assert!(said[1].contains("chk-1-1/0-1.state` holds entries of part 2"), "{said:?}");
}

#[test]
fn a_snapshot_is_shown_as_a_table() {
    let storage = MemoryStorage::new();
    let mut manifest = store(&storage, 1, 1, &[]).unwrap();
    manifest.tasks[1].operators[0].parts[0].version = 3;
    manifest.kind = SnapshotKind::Savepoint;
    write_manifest(&storage, "a", &manifest).unwrap();
    let shown = inspect(&storage, "a").unwrap().to_string();
    let expected = "\
savepoint 1 of `flights`, epoch 1: 4 files, 302 bytes
operator          name   state    kind   version  subtasks  entries  bytes
0000000000000001  count  counts   keyed  0,3             2       12     12
0000000000000001  count  offsets  split  0               2        0      0
ffffffffffffffff  left   waiting  keyed  0               2        6      6
Keyed state lies also in 2 files of trees (28 bytes), whose entries are not counted here.
";
    assert_eq!(shown, expected);
}
