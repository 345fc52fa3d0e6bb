//! A table over a store, with so little memory that most entries are in the store alone: whatever happens, it
//! behaves like a map, and a cut holds exactly what was there at the freeze.

use crate::KeyedTable;
use crate::lsm::model::ModelEngine;
use crate::lsm::{Expiry, LsmFile, MemoryBudget};
use crate::part::{Entries, Part, Written};
use crate::snapshot::Assignment;
use crate::store::{Backend, Store};
use millstream_model::job_graph::OperatorId;
use millstream_model::{SnapshotKind, hash_key};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

type Table = KeyedTable<u16, u32>;
type Model = BTreeMap<u16, u32>;

const ID: OperatorId = OperatorId(7);
const N_KEYS: u16 = 600;

#[derive(Clone, Copy, Debug)]
enum Change {
    Set(u16, u32),
    Add(u16, u32),
    Remove(u16),
    Look(u16),
    Write(u8),
}

fn changes(n: usize) -> impl Strategy<Value = Vec<Change>> {
    let key = || 0..N_KEYS;
    vec(
        prop_oneof![
            4 => (key(), any::<u32>()).prop_map(|(k, v)| Change::Set(k, v)),
            6 => (key(), any::<u32>()).prop_map(|(k, v)| Change::Add(k, v)),
            3 => key().prop_map(Change::Remove),
            2 => key().prop_map(Change::Look),
            2 => any::<u8>().prop_map(Change::Write),
        ],
        0..n,
    )
}

fn hash(key: u16) -> u64 {
    hash_key(&key).unwrap()
}

fn apply(table: &mut Table, change: Change, model: &mut Model) {
    if let Change::Set(key, _) | Change::Add(key, _) | Change::Remove(key) | Change::Look(key) =
        change
    {
        // As a keyed fold does it, which finds what it needs by itself.
        if !matches!(change, Change::Add(..)) {
            table.fetch(hash(key), &key);
        }
    }
    match change {
        Change::Set(key, v) => {
            let old = table.insert(hash(key), key, v);
            assert_eq!(old, model.insert(key, v));
        }
        Change::Add(key, v) => {
            let entry = table.entry(hash(key), |k| *k == key, || (key, 0));
            entry.1 = entry.1.wrapping_add(v);
            let value = model.entry(key).or_default();
            *value = value.wrapping_add(v);
        }
        Change::Remove(key) => {
            let removed = table.remove(hash(key), |k| *k == key).map(|e| e.1);
            assert_eq!(removed, model.remove(&key));
        }
        Change::Look(key) => {
            assert_eq!(table.get(hash(key), |k| *k == key), model.get(&key));
        }
        Change::Write(_) => {}
    }
}

fn content(table: &mut Table) -> Model {
    let keys = table.keys().unwrap();
    let mut found = Model::new();
    for key in keys {
        table.fetch(hash(key), &key);
        let value = *table.get(hash(key), |k| *k == key).expect("a key that is listed is there");
        assert!(found.insert(key, value).is_none(), "listed once");
    }
    found
}

struct World {
    backend: Backend,
    dir: tempfile::TempDir,
    n_opened: AtomicU32,
}

impl World {
    fn new(memory_bytes: usize) -> Self {
        World::with(MemoryBudget::new(memory_bytes))
    }

    fn with(budget: Arc<MemoryBudget>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::new(
            Arc::new(ModelEngine::new(512)),
            budget,
            dir.path().to_owned(),
            "run".into(),
        );
        World { backend, dir, n_opened: AtomicU32::new(0) }
    }

    fn open(&self, files: &[LsmFile]) -> (Table, Arc<Store>) {
        assert!(self.dir.path().exists());
        let attempt = self.n_opened.fetch_add(1, Ordering::Relaxed);
        let store = self.backend.open(0, attempt, files, Expiry::never()).unwrap();
        let mut table = Table::default();
        table.attach(store.space(ID, "part", 128), files.is_empty()).unwrap();
        (table, store)
    }
}

fn write(table: &mut Table, file: &mut Written, budget: usize) -> bool {
    let mut slice = Written::default();
    let done = table.write(&mut slice, budget).unwrap();
    file.append(&mut slice);
    done
}

/// Gives a restored table what the state file holds.
fn fill(table: &mut Table, file: &Written) {
    let assignment =
        Assignment { subtask: 0, parallelism: 1, max_parallelism: 128, writer: 0, n_writers: 1 };
    let shape = table.shape().unwrap();
    let (bytes, assignment, shape) = (&file.bytes, &assignment, &shape);
    table.restore(&Entries { bytes, assignment, shape, version: 0, first: 0 }).unwrap();
}

/// What a savepoint's entries in a tree are as well, so there must be none in a file.
const SAVEPOINT: SnapshotKind = SnapshotKind::Savepoint;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_cut_holds_what_was_there_at_the_freeze(
        rounds in vec((changes(800), changes(400), any::<bool>(), any::<bool>()), 1..4),
        memory_bytes in 200..20_000usize,
    ) {
        let world = World::new(memory_bytes);
        let (mut table, mut store) = world.open(&[]);
        let mut model = Model::new();
        for (before, after, goes_on, is_savepoint) in rounds {
            before.into_iter().for_each(|change| apply(&mut table, change, &mut model));
            let frozen = model.clone();
            table.freeze(if is_savepoint { SAVEPOINT } else { SnapshotKind::Checkpoint });
            let (mut file, mut done) = (Written::default(), false);
            for change in after {
                apply(&mut table, change, &mut model);
                if let Change::Write(budget) = change {
                    done = done || write(&mut table, &mut file, usize::from(budget));
                }
            }
            while !done {
                done = write(&mut table, &mut file, 64);
            }
            assert!(file.n_entries == 0 || !is_savepoint);
            let mut cut = store.cut().unwrap();
            // The task goes on while the cut is carried out.
            for key in 0..100 {
                apply(&mut table, Change::Add(key, 1), &mut model);
                apply(&mut table, Change::Remove(key * 2), &mut model);
            }
            let files = cut.run().unwrap();
            let (mut restored, other) = world.open(&files);
            fill(&mut restored, &file);
            assert_eq!(content(&mut restored), frozen);
            assert_eq!(content(&mut table), model);
            if goes_on {
                (table, store, model) = (restored, other, frozen);
            }
        }
    }

    #[test]
    fn a_checkpoint_that_is_given_up_changes_nothing(
        before in changes(600), between in changes(300), after in changes(300),
    ) {
        let world = World::new(2000);
        let (mut table, store) = world.open(&[]);
        let mut model = Model::new();
        before.into_iter().for_each(|change| apply(&mut table, change, &mut model));
        table.freeze(SnapshotKind::Checkpoint);
        for change in between {
            apply(&mut table, change, &mut model);
            if let Change::Write(budget) = change {
                write(&mut table, &mut Written::default(), usize::from(budget));
            }
        }
        table.thaw();
        after.into_iter().for_each(|change| apply(&mut table, change, &mut model));
        let frozen = model.clone();
        table.freeze(SnapshotKind::Checkpoint);
        let mut file = Written::default();
        while !write(&mut table, &mut file, 128) {}
        let files = store.cut().unwrap().run().unwrap();
        let (mut restored, _other) = world.open(&files);
        fill(&mut restored, &file);
        assert_eq!(content(&mut restored), frozen);
        assert_eq!(content(&mut table), model);
    }
}

/// Changes a few hundred entries, some of which are gone again.
fn change_some(table: &mut Table, turn: u32, model: &mut Model) {
    for key in 0..N_KEYS {
        apply(table, Change::Add(key, turn), model);
        if u32::from(key) % 5 == turn {
            apply(table, Change::Remove(key), model);
        }
    }
}

#[test]
fn nothing_is_forgotten_of_a_checkpoint_that_could_not_be_written() {
    for kind in [SnapshotKind::Checkpoint, SAVEPOINT] {
        let world = World::new(4000);
        let (mut table, store) = world.open(&[]);
        let mut model = Model::new();
        change_some(&mut table, 1, &mut model);
        table.freeze(kind);
        while !write(&mut table, &mut Written::default(), 64) {}
        let mut unfinished = store.cut().unwrap();
        change_some(&mut table, 2, &mut model);
        // The tree takes nothing while it is cut.
        table.freeze(kind);
        let mut file = Written::default();
        let error = table.write(&mut file, 64).unwrap_err().to_string();
        assert!(error.contains("while a checkpoint was being taken"), "{error}");
        table.thaw();
        unfinished.run().unwrap();
        change_some(&mut table, 3, &mut model);
        // Frozen, and nobody ever said that it was given up.
        table.freeze(kind);
        write(&mut table, &mut Written::default(), 64);
        change_some(&mut table, 4, &mut model);
        table.freeze(kind);
        let mut file = Written::default();
        while !write(&mut table, &mut file, 64) {}
        let files = store.cut().unwrap().run().unwrap();
        let (mut restored, _other) = world.open(&files);
        fill(&mut restored, &file);
        assert_eq!(content(&mut restored), model);
        assert_eq!(content(&mut table), model);
    }
}

#[test]
fn what_comes_after_a_barrier_is_not_in_it_whatever_became_of_the_last_one() {
    for kind in [SnapshotKind::Checkpoint, SAVEPOINT] {
        let world = World::new(1 << 20);
        let (mut table, store) = world.open(&[]);
        let mut model = Model::new();
        (0..300).for_each(|key| apply(&mut table, Change::Add(key, 1), &mut model));
        let mut unfinished = store.cut().unwrap();
        table.freeze(kind);
        // Files take what a tree does not.
        let _ = table.write(&mut Written::default(), 1 << 20);
        table.thaw();
        unfinished.run().unwrap();
        (0..300).for_each(|key| apply(&mut table, Change::Add(key, 1), &mut model));
        let frozen = model.clone();
        table.freeze(kind);
        // Into buckets that were empty.
        (300..N_KEYS).for_each(|key| apply(&mut table, Change::Add(key, 1), &mut model));
        (250..N_KEYS).for_each(|key| apply(&mut table, Change::Add(key, 1), &mut model));
        let mut file = Written::default();
        while !write(&mut table, &mut file, 64) {}
        let files = store.cut().unwrap().run().unwrap();
        let (mut restored, _other) = world.open(&files);
        fill(&mut restored, &file);
        assert_eq!(content(&mut restored), frozen);
        assert_eq!(content(&mut table), model);
    }
}

#[test]
fn what_changes_all_the_time_goes_into_the_state_file() {
    let world = World::new(1 << 20);
    let (mut table, store) = world.open(&[]);
    let mut model = Model::new();
    let mut checkpoint = |table: &mut Table, keys: std::ops::Range<u16>, kind| {
        keys.for_each(|key| apply(table, Change::Add(key, 1), &mut model));
        table.freeze(kind);
        let mut file = Written::default();
        while !write(table, &mut file, 64) {}
        let files = store.cut().unwrap().run().unwrap();
        let (mut restored, _other) = world.open(&files);
        let in_tree = content(&mut restored).len();
        fill(&mut restored, &file);
        assert_eq!(content(&mut restored), model);
        (file.n_entries, in_tree)
    };
    assert_eq!(checkpoint(&mut table, 0..400, SnapshotKind::Checkpoint), (400, 0));
    assert_eq!(checkpoint(&mut table, 0..100, SnapshotKind::Checkpoint), (400, 0));
    // What has come to rest is written where it need not be written again.
    assert_eq!(checkpoint(&mut table, 0..20, SnapshotKind::Checkpoint), (0, 400));
    assert_eq!(checkpoint(&mut table, 0..20, SnapshotKind::Checkpoint), (20, 400));
    assert_eq!(checkpoint(&mut table, 100..420, SAVEPOINT), (0, 420));
}

#[test]
fn memory_stays_within_the_budget() {
    let world = World::new(64 << 10);
    let (mut table, _store) = world.open(&[]);
    let mut model = Model::new();
    for i in 0..20_000u32 {
        apply(&mut table, Change::Add((i * 7919 % 60_000) as u16, i), &mut model);
        let limit = world.backend.budget.limit();
        let used = world.backend.budget.used();
        assert!(used <= limit + 192 * 32, "{used} bytes of {limit}");
    }
    assert_eq!(content(&mut table), model);
}

#[test]
fn a_handful_of_entries_stays_however_large_it_is() {
    let world = World::with(MemoryBudget::keeping(8, 1));
    let (mut table, _store) = world.open(&[]);
    let mut model = Model::new();
    let n_here = |table: &Table, n: u16| {
        (0..n).filter(|key| table.get(hash(*key), |known| known == key).is_some()).count()
    };
    for i in 0..80 {
        apply(&mut table, Change::Add((i % 8) as u16, i), &mut model);
    }
    assert_eq!(n_here(&table, 8), 8);
    for i in 0..800 {
        apply(&mut table, Change::Add((i % 100) as u16, i), &mut model);
        let n = n_here(&table, 100);
        assert!((8..=9).contains(&n), "{n} entries stay of {i}");
    }
    assert_eq!(content(&mut table), model);
}
