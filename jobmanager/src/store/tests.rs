//! Both stores keep the same promises; what a file store adds is that it outlives its process and notices damage.

use super::*;
use crate::job::link::AttemptRecord;
use crate::samples;
use std::path::Path;
use std::sync::Arc;

const FIRST: LeaderEpoch = LeaderEpoch(1);
const SECOND: LeaderEpoch = LeaderEpoch(2);
const KEY: Key = Key::Attempt(JobId(7));

fn on_both(test: impl Fn(Arc<dyn MetadataStore>)) {
    test(Arc::new(MemoryStore::default()));
    let dir = tempfile::tempdir().unwrap();
    test(Arc::new(FileStore::open(&dir.path().join("store")).unwrap()));
}

#[test]
fn a_write_names_the_version_it_replaces() {
    on_both(|store| {
        assert!(store.read(KEY).unwrap().is_none());
        assert_eq!(store.write(FIRST, KEY, None, b"a").unwrap(), 1);
        let again = store.write(FIRST, KEY, None, b"b");
        assert!(matches!(again, Err(StoreError::Changed(KEY))), "{again:?}");
        assert_eq!(store.write(FIRST, KEY, Some(1), b"b").unwrap(), 2);
        let late = store.write(FIRST, KEY, Some(1), b"c");
        assert!(matches!(late, Err(StoreError::Changed(KEY))), "{late:?}");
        assert!(store.remove(FIRST, KEY, 1).is_err());
        assert_eq!(store.read(KEY).unwrap(), Some(Stored { version: 2, bytes: b"b".to_vec() }));
        assert_eq!(store.keys().unwrap(), [KEY]);
        store.remove(FIRST, KEY, 2).unwrap();
        assert!(store.keys().unwrap().is_empty());
    });
}

#[test]
fn a_leader_that_was_replaced_changes_nothing() {
    on_both(|store| {
        store.write(FIRST, KEY, None, b"first").unwrap();
        store.fence(SECOND).unwrap();
        let fenced = |result: Result<(), StoreError>| match result {
            Err(StoreError::Fenced(SECOND)) => {}
            other => panic!("{other:?}"),
        };
        fenced(store.write(FIRST, KEY, Some(1), b"late").map(drop));
        fenced(store.remove(FIRST, KEY, 1));
        fenced(store.fence(FIRST));
        assert_eq!(store.read(KEY).unwrap().unwrap().bytes, b"first");
        // A write alone is a fence, too.
        let third = LeaderEpoch(3);
        store.write(third, KEY, Some(1), b"third").unwrap();
        assert!(matches!(store.fence(SECOND), Err(StoreError::Fenced(epoch)) if epoch == third));
    });
}

#[test]
fn names_of_records_are_read_as_they_are_written() {
    let job = JobId(3);
    for key in [
        Key::Submission(JobId(1)),
        Key::Attempt(JobId(u128::MAX)),
        Key::Cancel(job),
        Key::Outcome(job),
    ] {
        assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
    }
    for wrong in ["", "submission", "submission-", "submission-../x", "fence-0"] {
        assert!(wrong.parse::<Key>().is_err(), "{wrong}");
    }
}

fn attempt(number: u32) -> AttemptRecord {
    AttemptRecord { attempt: number, slots: Vec::new(), running: Vec::new() }
}

#[test]
fn the_next_leader_finds_what_the_last_one_wrote() {
    on_both(|store| {
        let (records, found) = JobRecords::open(store.clone(), FIRST).unwrap();
        assert!(found.is_empty());
        for (id, at_ms) in [(1, 30), (2, 20), (3, 10)] {
            records.submitted(&samples::submitted(JobId(id), at_ms)).unwrap();
        }
        records.attempted(JobId(1), &attempt(0)).unwrap();
        records.attempted(JobId(1), &attempt(1)).unwrap();
        records.cancelled(JobId(1)).unwrap();
        records.cancelled(JobId(1)).unwrap();
        records.cancelled(JobId(3)).unwrap();
        records.ended(&samples::outcome(JobId(2)), None).unwrap();
        records.forget(JobId(3)).unwrap();
        records.forget(JobId(3)).unwrap();

        let (_, found) = JobRecords::open(store.clone(), SECOND).unwrap();
        let ids: Vec<_> = found.iter().map(|record| record.job.id).collect();
        assert_eq!(ids, [JobId(2), JobId(1)], "in the order of their submission");
        assert_eq!(*found[1].job, samples::submitted(JobId(1), 30));
        assert_eq!(found[1].attempt, Some(attempt(1)));
        assert!(found[0].outcome.is_some() && found[1].outcome.is_none());
        assert!(!found[0].is_cancelled && found[1].is_cancelled);

        let late = records.attempted(JobId(1), &attempt(9));
        assert!(matches!(late, Err(StoreError::Fenced(SECOND))), "{late:?}");
        let error = Error::from(late.unwrap_err()).to_string();
        assert!(error.contains("newer epoch 2"), "{error}");
    });
}

#[test]
fn what_remains_of_a_forgotten_job_is_swept() {
    on_both(|store| {
        let (records, _) = JobRecords::open(store.clone(), FIRST).unwrap();
        // A crash after the first of its removals.
        records.attempted(JobId(1), &attempt(0)).unwrap();
        records.cancelled(JobId(1)).unwrap();
        records.ended(&samples::outcome(JobId(1)), None).unwrap();
        let (_, found) = JobRecords::open(store.clone(), SECOND).unwrap();
        assert!(found.is_empty());
        assert!(store.keys().unwrap().is_empty());
    });
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let open = |epoch| {
        let store = Arc::new(FileStore::open(dir.path()).unwrap());
        JobRecords::open(store, epoch).map(|(records, _)| records)
    };
    let records = open(FIRST).unwrap();
    records.submitted(&samples::submitted(JobId(1), 5)).unwrap();
    records.ended(&samples::outcome(JobId(1)), None).unwrap();
    let mut n_damaged = 0;
    for path in files(dir.path()).iter().filter(|path| !path.ends_with("lock")) {
        let whole = std::fs::read(path).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() - 3;
        bytes[middle] ^= 64;
        std::fs::write(path, &bytes).unwrap();
        let error = open(SECOND).map(drop).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        std::fs::write(path, &whole).unwrap();
        n_damaged += 1;
    }
    assert_eq!(n_damaged, 3, "submission, outcome, fence");
    std::fs::write(dir.path().join("records/notes.txt"), b"").unwrap();
    let error = open(SECOND).map(drop).unwrap_err().to_string();
    assert!(error.contains("notes.txt"), "{error}");
}
