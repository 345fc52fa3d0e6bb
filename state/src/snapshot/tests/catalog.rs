//! Which checkpoint is the newest, what happens when it is damaged, and what is swept.

use super::*;
use crate::snapshot::memory::Fault;

fn folder(storage: &dyn CheckpointStorage) -> Option<String> {
    latest(storage, false).unwrap().map(|latest| latest.folder)
}

#[test]
fn the_newest_is_found_by_number_and_epoch() {
    let storage = MemoryStorage::new();
    assert_eq!(folder(&storage), None);
    for (id, epoch) in [(9, 7), (10, 1), (10, 2), (3, 9)] {
        store(&storage, id, epoch, &[]).unwrap();
    }
    // Not complete, no checkpoints, and not of ours.
    for path in ["chk-11-1/0-0.state", "chk-11-1/manifest.tmp0", "savepoint/manifest"] {
        storage.publish(path, b"").unwrap();
    }
    for path in ["chk-011-1/manifest", "chk-12/manifest", "chk-12-1/old/manifest"] {
        storage.publish(path, b"").unwrap();
    }
    assert_eq!(completed(&storage).unwrap(), ["chk-3-9", "chk-9-7", "chk-10-1", "chk-10-2"]);
    let newest = latest(&storage, false).unwrap().unwrap();
    assert_eq!(newest.folder, "chk-10-2");
    assert_eq!((newest.manifest.id, newest.manifest.epoch), (CheckpointId(10), 2));
    assert!(newest.skipped.is_empty());
}

#[test]
fn a_damaged_one_is_an_error_unless_older_ones_are_allowed() {
    let storage = MemoryStorage::new();
    for id in 1..=3 {
        store(&storage, id, 1, &[]).unwrap();
    }
    storage.truncate("chk-3-1/manifest", 40);
    let error = latest(&storage, false).unwrap_err().to_string();
    assert!(error.contains("chk-3-1/manifest"), "{error}");
    // Of an older one, everything has to be there.
    storage.flip_bit("chk-2-1/0-1.table", 0);
    let found = latest(&storage, true).unwrap().unwrap();
    assert_eq!(found.folder, "chk-1-1");
    let [(third, of_third), (second, of_second)] = &found.skipped[..] else {
        panic!("{:?}", found.skipped)
    };
    assert_eq!((third.as_str(), second.as_str()), ("chk-3-1", "chk-2-1"));
    assert!(of_third.to_string().contains("chk-3-1/manifest"), "{of_third}");
    assert!(of_second.to_string().contains("chk-2-1/0-1.table"), "{of_second}");
    // If there is none left, that is not a beginning.
    storage.lose("chk-1-1/0-0.state");
    let error = latest(&storage, true).unwrap_err().to_string();
    assert!(error.contains("chk-3-1"), "{error}");
}

#[test]
fn a_manifest_of_another_version_is_refused() {
    let storage = MemoryStorage::new();
    store(&storage, 1, 1, &[]).unwrap();
    storage.damage("chk-1-1/manifest", |bytes| bytes[8] = 9);
    let error = read_manifest(&storage, "chk-1-1").unwrap_err().to_string();
    assert!(error.contains("version 9") && error.contains("version 1"), "{error}");
}

/// Even if its digest is right.
#[test]
fn a_manifest_of_another_length_than_it_says_is_refused() {
    for difference in [-1i64, 1, i64::MAX] {
        let storage = MemoryStorage::new();
        store(&storage, 1, 1, &[]).unwrap();
        storage.damage("chk-1-1/manifest", |bytes| {
            let len = (bytes.len() as i64 - 34).wrapping_add(difference);
            bytes[10..18].copy_from_slice(&len.to_le_bytes());
            bytes.truncate(bytes.len() - 16);
            bytes.extend(xxhash_rust::xxh3::xxh3_128(bytes).to_le_bytes());
        });
        let error = read_manifest(&storage, "chk-1-1").unwrap_err().to_string();
        assert!(error.contains("chk-1-1/manifest` has "), "{error}");
    }
}

#[test]
fn a_manifest_in_the_wrong_folder_is_refused() {
    let storage = MemoryStorage::new();
    let manifest = store(&storage, 1, 1, &[]).unwrap();
    let bytes = storage.bytes("chk-1-1/manifest").unwrap();
    for folder in ["chk-2-1", "my-savepoint", ""] {
        storage.publish(&manifest::manifest_path(folder), &bytes).unwrap();
        let error = read_manifest(&storage, folder).unwrap_err().to_string();
        assert!(error.contains("of another folder, `chk-1-1`"), "{error}");
    }
    // It cannot be written there either.
    let error = write_manifest(&storage, "chk-3-1", &manifest).unwrap_err().to_string();
    assert!(error.contains("of another folder"), "{error}");
    assert_eq!(storage.bytes("chk-3-1/manifest"), None);
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let storage = MemoryStorage::new();
    let mut manifest = store(&storage, 1, 1, &[]).unwrap();
    let nested = (0..200).fold(Shape::Unit, |shape, _| Shape::Option(Box::new(shape)));
    manifest.tasks[0].operators[0].parts[0].shape = nested;
    let error = write_manifest(&storage, "savepoint", &manifest).unwrap_err().to_string();
    assert!(error.contains("nest the types"), "{error}");
    assert_eq!(storage.bytes("savepoint/manifest"), None);
}

#[test]
fn the_manifest_is_text_in_an_envelope() {
    let storage = MemoryStorage::new();
    let manifest = store(&storage, 1, 1, &[]).unwrap();
    let bytes = storage.bytes("chk-1-1/manifest").unwrap();
    let json = &bytes[18..bytes.len() - 16];
    assert_eq!(bytes[..10], *b"MSMANIF\0\x01\0");
    assert_eq!(bytes[10..18], (json.len() as u64).to_le_bytes());
    let text = std::str::from_utf8(json).unwrap();
    let begin = r#"{"folder":"chk-1-1","manifest":{"id":1,"epoch":1,"kind":"Checkpoint","completed_at_ms":1700000000001,"job":"flights","vertices":[{"operators":[[1,"count",null],[18446744073709551615,"join","left"]],"parallelism":2,"max_parallelism":128}],"tasks":[{"vertex":0,"subtask":0,"ended":false,"operators":[{"id":1,"parts":[{"name":"counts","kind":"Keyed","version":0,"shape":{"Tuple":["Text",{"Int":{"bits":64,"signed":true}}]},"n_entries":6,"n_bytes":6}"#;
    assert!(text.starts_with(begin), "{text}");
    assert_eq!(read_manifest(&storage, "chk-1-1").unwrap(), manifest);
}

#[test]
fn what_no_checkpoint_names_is_swept() {
    let storage = MemoryStorage::new();
    let first = store(&storage, 1, 1, &[]).unwrap();
    let table = first.tasks[0].shared[0].clone();
    let second = store(&storage, 2, 1, std::slice::from_ref(&table)).unwrap();
    store_in(&storage, "savepoint", 1, 1, &[]).unwrap();
    for path in
        ["chk-3-1/0-0.state", "chk-3-2/0-0.state", "chk-2-1/0-9.state.tmp0", "notes/chk-1-1/a"]
    {
        storage.publish(path, b"").unwrap();
    }
    let swept = sweep(&storage, &[&first, &second], &["chk-3-2"], 2).unwrap();
    assert_eq!(swept, ["chk-2-1/0-9.state.tmp0", "chk-3-1/0-0.state"]);
    let swept = sweep(&storage, &[&second], &["chk-3-2"], 2).unwrap();
    // The manifest goes first; the table stays, as the second checkpoint names it.
    assert_eq!(
        swept,
        ["chk-1-1/manifest", "chk-1-1/0-0.state", "chk-1-1/0-1.state", "chk-1-1/0-1.table"]
    );
    for folder in ["chk-2-1", "savepoint"] {
        let problems = super::super::tools::verify(&storage, folder);
        assert!(problems.is_empty(), "{problems:?}");
    }
    let left = [
        "chk-1-1/0-0.table",
        "chk-2-1/0-0.state",
        "chk-2-1/0-0.table",
        "chk-2-1/0-1.state",
        "chk-2-1/0-1.table",
        "chk-2-1/manifest",
        "chk-3-2/0-0.state",
    ];
    assert_eq!(storage.list("chk-").unwrap(), left);
    assert_eq!(sweep(&storage, &[&second], &["chk-3-2"], 2).unwrap(), [""; 0]);
}

/// Whatever operation fails: what counts as a checkpoint is whole, and the next sweep leaves nothing else.
#[test]
fn a_failure_at_any_step_leaves_whole_checkpoints_only() {
    let story = |storage: &MemoryStorage| -> Result<()> {
        let first = store(storage, 1, 1, &[])?;
        let second = store(storage, 2, 1, &first.tasks[0].shared)?;
        sweep(storage, &[&second], &[], 2).map(drop)
    };
    let storage = MemoryStorage::new();
    story(&storage).unwrap();
    let n_operations = storage.n_operations();
    for fault in [Fault::Refused, Fault::AnswerLost] {
        for n in 0..n_operations {
            let storage = MemoryStorage::new();
            storage.fail_at(n, fault);
            story(&storage).unwrap_err();
            storage.crash();
            for folder in completed(&storage).unwrap() {
                restore(&storage, &folder).unwrap();
            }
            let newest = latest(&storage, false).unwrap();
            let keep: Vec<&Manifest> = newest.iter().map(|newest| &newest.manifest).collect();
            sweep(&storage, &keep, &[], 2).unwrap();
            let mut named: Vec<String> = Vec::new();
            if let Some(newest) = &newest {
                named.extend(newest.manifest.files().map(|file| file.path.clone()));
                named.push(format!("{}/manifest", newest.folder));
            }
            named.sort_unstable();
            named.dedup();
            assert_eq!(storage.list("").unwrap(), named, "{fault:?} of operation {n}");
        }
    }
}
