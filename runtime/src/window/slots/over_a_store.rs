//! Slots over a store with next to no memory.

use super::{Reader, Slots};
use millstream_model::job_graph::OperatorId;
use millstream_model::{EventTime, SnapshotKind, hash_key};
use millstream_state::Part;
use millstream_state::lsm::model::ModelEngine;
use millstream_state::lsm::{Expiry, MemoryBudget};
use millstream_state::store::{Backend, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

const KEYS: u64 = 3000;
const STARTS: [EventTime; 3] = [-10, 0, 10];

fn over_a_store() -> (Slots<u64, u64>, Arc<Store>) {
    let backend = Backend::new(
        Arc::new(ModelEngine::new(1024)),
        MemoryBudget::new(8192),
        "trees".into(),
        "run".into(),
    );
    let store = backend.open(0, 0, &[], Expiry::never()).unwrap();
    let mut slots = Slots::default();
    let space = store.space(OperatorId(3), "windows", 128);
    slots.as_part(|n| n, |n| n).attach(space, true).unwrap();
    (slots, store)
}

fn add(slots: &mut Slots<u64, u64>, start: EventTime, key: u64, n: u64) {
    let hash = hash_key(&key).unwrap();
    let slot = slots.open(start);
    slots.fetch(start, slot, hash, || key);
    slots[slot].entry(hash, |k| *k == key, || (key, 0)).value += n;
    slots.make_room(0);
}

/// All that there is of a window, wherever it lies.
fn content(slots: &Slots<u64, u64>, start: EventTime) -> BTreeMap<u64, u64> {
    let slot = slots.get(start).unwrap();
    let in_memory = slots[slot].iter().map(|entry| (entry.key, entry.value));
    let mut all: BTreeMap<u64, u64> = in_memory.collect();
    let mut stored = Reader::new(start, slots.spilled_groups(start).copied().collect());
    while stored.entry(slots).is_some() {
        let entry = stored.pass().unwrap();
        assert_eq!(all.insert(entry.key, entry.value), None, "it lies in two places");
    }
    all
}

fn n_in_memory(slots: &Slots<u64, u64>) -> usize {
    STARTS.iter().filter_map(|start| slots.get(*start)).map(|slot| slots[slot].len()).sum()
}

#[test]
fn what_there_is_no_room_for_lies_in_the_store_and_is_found_there() {
    let (mut slots, _store) = over_a_store();
    for round in 0..3 {
        for key in 0..KEYS {
            for start in STARTS {
                add(&mut slots, start, key, key + round);
            }
        }
        assert!(n_in_memory(&slots) < 500, "{} are in memory", n_in_memory(&slots));
    }
    for start in STARTS {
        let expected = (0..KEYS).map(|key| (key, 3 * key + 3)).collect();
        assert_eq!(content(&slots, start), expected);
        assert!(slots.is_spilled(start));
    }
    slots.close(0);
    assert!(slots.any_spilled() && !slots.is_spilled(0));
    assert!(content(&slots, 10).len() == KEYS as usize);
    slots.close_all();
    assert!(!slots.any_spilled());
    // What begins there anew begins with nothing.
    add(&mut slots, 0, 1, 5);
    assert_eq!(content(&slots, 0), BTreeMap::from([(1, 5)]));
}

#[test]
fn nothing_is_put_or_taken_between_a_freeze_and_the_cut() {
    let (mut slots, store) = over_a_store();
    for key in 0..KEYS {
        add(&mut slots, 0, key, 1);
    }
    slots.as_part(|n: &u64| n, |n| n).freeze(SnapshotKind::Checkpoint);
    let n_before = n_in_memory(&slots);
    for key in 0..KEYS {
        add(&mut slots, 0, key, 1);
    }
    assert_eq!(n_in_memory(&slots), KEYS as usize, "{n_before} were there before");
    let mut written = millstream_state::Written::default();
    while !slots.as_part(|n: &u64| n, |n| n).write(&mut written, 4096).unwrap() {}
    assert_eq!(written.n_entries, n_before as u64);
    let mut cut = store.cut().unwrap();
    assert!(!cut.run().unwrap().is_empty());
    // Not all that has become too much goes at once.
    (0..4).for_each(|key| add(&mut slots, 0, key, 1));
    assert!(n_in_memory(&slots) < 500);
    let expected = (0..KEYS).map(|key| (key, 2 + u64::from(key < 4))).collect();
    assert_eq!(content(&slots, 0), expected);
}
