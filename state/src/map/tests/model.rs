//! Random histories.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// What happens to maps: a key, and values from one on.
#[derive(Clone, Copy, Debug)]
enum Change {
    Put(u16, u32, u32),
    Add(u16, u32, u32),
    Remove(u16, u32, u32),
    Look(u16, u32, u32),
    Iterate(u16),
    Clear(u16),
    Write(u16),
}

fn changes(n: usize) -> impl Strategy<Value = Vec<Change>> {
    let key = || 0..4u16;
    let range = || (key(), 0..1500u32, prop_oneof![4 => 1..4u32, 2 => 1..400u32]);
    vec(
        prop_oneof![
            6 => range().prop_map(|(k, at, n)| Change::Put(k, at, n)),
            6 => range().prop_map(|(k, at, n)| Change::Add(k, at, n)),
            5 => range().prop_map(|(k, at, n)| Change::Remove(k, at, n)),
            4 => range().prop_map(|(k, at, n)| Change::Look(k, at, n)),
            1 => key().prop_map(Change::Iterate),
            1 => key().prop_map(Change::Clear),
            4 => (0..2000u16).prop_map(Change::Write),
        ],
        0..n,
    )
}

fn apply(states: &KeyedStates, change: Change, model: &mut Model) {
    match change {
        Change::Put(key, from, n) => {
            let mut map = of!(states, MAP, &key);
            let expected = model.entry(key).or_default();
            for at in from..from + n {
                assert_eq!(map.insert(at, n), expected.insert(at, n));
            }
        }
        Change::Add(key, from, n) => {
            let mut map = of!(states, MAP, &key);
            let expected = model.entry(key).or_default();
            for at in from..from + n {
                *map.or_insert_with(at, || 0) += n;
                *expected.entry(at).or_default() += n;
                assert_eq!(map.get_mut(&at), expected.get_mut(&at));
            }
        }
        Change::Remove(key, from, n) => {
            let mut map = of!(states, MAP, &key);
            let expected = model.entry(key).or_default();
            for at in from..from + n {
                assert_eq!(map.remove(&at), expected.remove(&at));
                assert_eq!(map.len(), expected.len());
            }
        }
        Change::Look(key, from, n) => {
            let map = of!(states, MAP, &key);
            let expected = model.entry(key).or_default();
            // References live on while others are read.
            let found: Vec<_> = (from..from + n).map(|at| map.get(&at)).collect();
            assert!((from..from + n).map(|at| expected.get(&at)).eq(found));
            assert_eq!((map.len(), map.is_empty()), (expected.len(), expected.is_empty()));
        }
        Change::Iterate(key) => {
            let mut map = of!(states, MAP, &key);
            let found: BTreeMap<u32, u32> = map.iter().map(|(at, value)| (*at, *value)).collect();
            assert_eq!(&found, model.entry(key).or_default());
            if let Some(at) = found.keys().next() {
                assert_eq!(map.remove(at), model.entry(key).or_default().remove(at));
            }
        }
        Change::Clear(key) => {
            of!(states, MAP, &key).clear();
            model.remove(&key);
        }
        Change::Write(_) => {}
    }
    model.retain(|_, map| !map.is_empty());
}

const SAVEPOINT: SnapshotKind = SnapshotKind::Savepoint;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_snapshot_holds_what_was_there_at_the_freeze(
        before in changes(120), given_up in changes(20), after in changes(60),
    ) {
        let (mut states, mut model) = (empty(SET), Model::new());
        let shape = shape(&mut states);
        before.into_iter().for_each(|change| apply(&states, change, &mut model));
        freeze(&mut states, SnapshotKind::Checkpoint);
        for change in given_up {
            apply(&states, change, &mut model);
            if let Change::Write(budget) = change {
                write(&mut states, &mut Written::default(), usize::from(budget));
            }
        }
        each(&mut states, |_, part| {
            part.thaw();
            Ok(())
        });
        let frozen = model.clone();
        freeze(&mut states, SnapshotKind::Checkpoint);
        let (mut file, mut done) = (Written::default(), false);
        for change in after {
            apply(&states, change, &mut model);
            if let Change::Write(budget) = change {
                done = done || write(&mut states, &mut file, usize::from(budget)).1;
            }
        }
        if !done {
            write_all(&mut states, &mut file);
        }
        assert_eq!(content(&states), model);
        let mut restored = empty(SET);
        fill(&mut restored, &file, &shape, (0, 1));
        assert_eq!(content(&restored), frozen);

        // Four take it, and three take what they write.
        let (mut n_found, mut written) = (0, Vec::new());
        for subtask in 0..4 {
            let mut quarter = empty(SET);
            fill(&mut quarter, &file, &shape, (subtask, 4));
            n_found += content(&quarter).len();
            let mut file = Written::default();
            freeze(&mut quarter, SAVEPOINT);
            write_all(&mut quarter, &mut file);
            written.push(file);
        }
        assert_eq!(n_found, frozen.len());
        let mut found = Model::new();
        for subtask in 0..3 {
            let mut third = empty(SET);
            written.iter().for_each(|file| fill(&mut third, file, &shape, (subtask, 3)));
            found.append(&mut content(&third));
        }
        assert_eq!(found, frozen);
    }

    #[test]
    fn a_cut_holds_what_was_there_at_the_freeze(
        rounds in vec((changes(80), changes(50), any::<bool>(), any::<bool>()), 1..4),
        memory_bytes in 500..60_000usize,
    ) {
        let world = World::new(memory_bytes);
        let (mut states, mut store) = world.open(SET, &[]);
        let shape = shape(&mut states);
        let mut model = Model::new();
        for (before, after, goes_on, is_savepoint) in rounds {
            before.into_iter().for_each(|change| apply(&states, change, &mut model));
            let frozen = model.clone();
            freeze(&mut states, if is_savepoint { SAVEPOINT } else { SnapshotKind::Checkpoint });
            let (mut file, mut done) = (Written::default(), false);
            for change in after {
                apply(&states, change, &mut model);
                if let Change::Write(budget) = change {
                    done = done || write(&mut states, &mut file, usize::from(budget)).1;
                }
            }
            if !done {
                write_all(&mut states, &mut file);
            }
            assert!(file.n_entries == 0 || !is_savepoint);
            let mut cut = store.cut().unwrap();
            // The task goes on while the cut is carried out.
            apply(&states, Change::Add(0, 100, 300), &mut model);
            apply(&states, Change::Remove(1, 0, 300), &mut model);
            apply(&states, Change::Clear(2), &mut model);
            let files = cut.run().unwrap();
            let (mut restored, other) = world.open(SET, &files);
            fill(&mut restored, &file, &shape, (0, 1));
            assert_eq!(content(&restored), frozen);
            assert_eq!(content(&states), model);
            if goes_on {
                (states, store, model) = (restored, other, frozen);
            }
        }
    }
}
