//! Freezing, for every kind of part: whatever happens between two slices, a snapshot holds exactly what was
//! there at the freeze, every entry once.

use crate::part::{Entries, Part, Written};
use crate::schema::Shape;
use crate::snapshot::{Assignment, PartKind};
use crate::timers::Due;
use crate::{DenseTable, KeyedTable, TimerQueue};
use millstream_model::{Data, Key, Result, SnapshotKind, hash_key};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// As a window operator makes parts of its tables.
impl<K: Key, V: Data> Part for DenseTable<K, V> {
    fn kind(&self) -> PartKind {
        PartKind::Keyed
    }

    fn shape(&self) -> Result<Shape> {
        Shape::of::<(K, V)>()
    }

    fn freeze(&mut self, _: SnapshotKind) {
        let shape = Box::new(Shape::of::<(K, V)>);
        self.freeze_with(shape, Box::new(|key, value, log| log.push(&(key, value))));
    }

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        self.write_slice(out, budget)
    }

    fn thaw(&mut self) {
        self.unfreeze();
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        entries.check_key::<K>(0)?;
        entries.each(|_, (key, value): (K, V)| {
            let hash = hash_key(&key)?;
            if entries.assignment.owns(hash) {
                self.append(hash, (key, value));
            }
            Ok(())
        })
    }
}

/// What happens to a table: a key and what is done with it.
#[derive(Clone, Copy, Debug)]
enum Change {
    Set(u16, u32),
    Add(u16, u32),
    Remove(u16),
    Write(u8),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let key = 0..400u16;
    vec(
        prop_oneof![
            4 => (key.clone(), any::<u32>()).prop_map(|(k, v)| Change::Set(k, v)),
            4 => (key.clone(), any::<u32>()).prop_map(|(k, v)| Change::Add(k, v)),
            3 => key.prop_map(Change::Remove),
            2 => any::<u8>().prop_map(Change::Write),
        ],
        0..600,
    )
}

type Model = BTreeMap<u16, u32>;

/// A table under test.
trait Table: Part + Default {
    fn apply(&mut self, change: Change, model: &mut Model);
    fn content(&self) -> Model;
}

fn hash(key: u16) -> u64 {
    hash_key(&key).unwrap()
}

macro_rules! table {
    ($table:ident, $value:ident => $read:expr) => {
        impl Table for $table<u16, u32> {
            fn apply(&mut self, change: Change, model: &mut Model) {
                match change {
                    Change::Set(key, v) => {
                        match self.get_mut(hash(key), |k| *k == key) {
                            Some(value) => *value = v,
                            None => {
                                self.entry(hash(key), |k| *k == key, || (key, v));
                            }
                        }
                        model.insert(key, v);
                    }
                    Change::Add(key, v) => {
                        let $value = self.entry(hash(key), |k| *k == key, || (key, 0));
                        *$read = $read.wrapping_add(v);
                        let value = model.entry(key).or_default();
                        *value = value.wrapping_add(v);
                    }
                    Change::Remove(key) => {
                        let removed = self.remove(hash(key), |k| *k == key);
                        assert_eq!(removed.is_some(), model.remove(&key).is_some());
                    }
                    Change::Write(_) => {}
                }
            }
            fn content(&self) -> Model {
                (0..400)
                    .filter_map(|key| Some((key, *self.get(hash(key), |k| *k == key)?)))
                    .collect()
            }
        }
    };
}

table!(KeyedTable, entry => &mut entry.1);
table!(DenseTable, entry => &mut entry.value);

fn here() -> Assignment {
    Assignment { subtask: 0, parallelism: 1, max_parallelism: 128, writer: 0, n_writers: 1 }
}

fn restored<P: Part + Default>(written: &Written) -> P {
    let mut part = P::default();
    let shape = part.shape().unwrap();
    let entries =
        Entries { bytes: &written.bytes, assignment: &here(), shape: &shape, version: 0, first: 0 };
    part.restore(&entries).unwrap();
    part
}

fn check<T: Table>(before: Vec<Change>, after: Vec<Change>) {
    let (mut table, mut model) = (T::default(), Model::new());
    before.into_iter().for_each(|change| table.apply(change, &mut model));
    let frozen = model.clone();
    table.freeze(SnapshotKind::Checkpoint);
    let (mut written, mut done) = (Written::default(), false);
    for change in after {
        table.apply(change, &mut model);
        if let Change::Write(budget) = change {
            let mut slice = Written::default();
            done = done || table.write(&mut slice, usize::from(budget)).unwrap();
            written.append(&mut slice);
        }
    }
    while !done {
        let mut slice = Written::default();
        done = table.write(&mut slice, 64).unwrap();
        written.append(&mut slice);
    }
    assert_eq!(written.n_entries, frozen.len() as u64, "every entry once");
    assert_eq!(restored::<T>(&written).content(), frozen);
    assert_eq!(table.content(), model);
}

proptest! {
    #[test]
    fn a_keyed_table(before in changes(), after in changes()) {
        check::<KeyedTable<u16, u32>>(before, after);
    }

    #[test]
    fn a_dense_table(before in changes(), after in changes()) {
        check::<DenseTable<u16, u32>>(before, after);
    }

    #[test]
    fn timers(before in changes(), after in changes(), until in 0..40i64) {
        let mut queue = TimerQueue::<u16>::default();
        let mut model = std::collections::BTreeSet::new();
        let mut apply = |queue: &mut TimerQueue<u16>, change| match change {
            Change::Set(key, v) | Change::Add(key, v) => {
                let time = i64::from(v % 40);
                assert_eq!(queue.set(time, hash(key), &key, &()), model.insert((time, key)));
                model.clone()
            }
            Change::Remove(key) => {
                for time in 0..40 {
                    let found = queue.delete(time, hash(key), &key, &());
                    assert_eq!(found, model.remove(&(time, key)));
                }
                model.clone()
            }
            Change::Write(0..32) => {
                while let Some(Due { time, key, .. }) = queue.pop_due(until) {
                    assert!(model.remove(&(time, key)));
                }
                model.clone()
            }
            Change::Write(_) => model.clone(),
        };
        let mut frozen = Default::default();
        for change in before {
            frozen = apply(&mut queue, change);
        }
        queue.freeze(SnapshotKind::Checkpoint);
        let (mut written, mut done) = (Written::default(), false);
        for change in after {
            apply(&mut queue, change);
            if let Change::Write(budget) = change {
                let mut slice = Written::default();
                done = done || queue.write(&mut slice, usize::from(budget)).unwrap();
                written.append(&mut slice);
            }
        }
        while !done {
            let mut slice = Written::default();
            done = queue.write(&mut slice, 64).unwrap();
            written.append(&mut slice);
        }
        assert_eq!(written.n_entries, frozen.len() as u64);
        let mut back = restored::<TimerQueue<u16>>(&written);
        let mut popped = std::collections::BTreeSet::new();
        while let Some(Due { time, key, .. }) = back.pop_due(1000) {
            popped.insert((time, key));
        }
        assert_eq!(popped, frozen);
    }
}

#[test]
fn a_thawed_table_forgets_the_snapshot() {
    let mut table = KeyedTable::<u16, u32>::default();
    table.insert(hash(1), 1, 10);
    table.freeze(SnapshotKind::Checkpoint);
    *table.get_mut(hash(1), |k| *k == 1).unwrap() = 11;
    table.thaw();
    let mut slice = Written::default();
    assert!(table.write(&mut slice, 1).unwrap());
    assert_eq!(slice.n_entries, 0);
    table.freeze(SnapshotKind::Checkpoint);
    assert!(table.write(&mut slice, 1 << 20).unwrap());
    assert_eq!(restored::<KeyedTable<u16, u32>>(&slice).content(), Model::from([(1, 11)]));
}
