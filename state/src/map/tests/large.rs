//! One key's map that is large: what a change of it costs while a snapshot is written, and what memory it takes.

use super::*;
use crate::codec;

const N: u32 = 20_000;

fn filled(states: &KeyedStates, n: u32) {
    let mut map = of!(states, MAP, &1u16);
    (0..n).for_each(|at| assert_eq!(map.insert(at, at), None));
    assert_eq!(map.len(), n as usize);
}

/// Bytes of a chunk, and what is around it.
const CHUNK_BYTES: usize = 112 * 8 + 64;

#[test]
fn a_change_during_a_snapshot_writes_down_a_chunk_and_not_the_map() {
    let mut states = empty(SET);
    filled(&states, N);
    freeze(&mut states, SnapshotKind::Checkpoint);
    let mut file = Written::default();
    // Of the snapshot itself, next to nothing.
    let (of_cursor, _) = write(&mut states, &mut file, 1);
    assert!(of_cursor < 2 * CHUNK_BYTES, "{of_cursor}");
    *of!(states, MAP, &1u16).get_mut(&77).unwrap() += 1;
    let (changed, done) = write(&mut states, &mut file, 1);
    assert!(changed < 2 * CHUNK_BYTES && !done, "{changed}");
    // A value that is new may make a chunk be split, and the map's head counts it.
    of!(states, MAP, &1u16).insert(N, 5);
    of!(states, MAP, &1u16).remove(&33);
    let (changed, done) = write(&mut states, &mut file, 1);
    assert!(changed < 8 * CHUNK_BYTES && !done, "{changed}");
    // What is not there is not changed by looking.
    assert_eq!(of!(states, MAP, &1u16).get_mut(&(2 * N)), None);
    assert_eq!(of!(states, MAP, &1u16).remove(&(2 * N)), None);
    assert!(write(&mut states, &mut file, 1).0 < 2 * CHUNK_BYTES);
    let mut largest = 0;
    loop {
        let (n_bytes, done) = write(&mut states, &mut file, 4096);
        largest = largest.max(n_bytes);
        if done {
            break;
        }
    }
    assert!(largest < 4096 + 2 * CHUNK_BYTES, "{largest}");
    let mut restored = empty(SET);
    fill(&mut restored, &file, &shape(&mut states), (0, 1));
    assert_eq!(content(&restored)[&1], (0..N).map(|at| (at, at)).collect());
}

#[test]
fn a_map_that_is_cleared_during_a_snapshot_is_written_as_slowly_as_any() {
    let mut states = empty(SET);
    filled(&states, N);
    freeze(&mut states, SnapshotKind::Checkpoint);
    of!(states, MAP, &1u16).clear();
    assert_eq!(content(&states), Model::new());
    filled(&states, 10);
    let (mut file, mut n_slices) = (Written::default(), 0);
    loop {
        let (n_bytes, done) = write(&mut states, &mut file, 4096);
        assert!(n_bytes < 4096 + 2 * CHUNK_BYTES, "{n_bytes}");
        n_slices += 1;
        if done {
            break;
        }
    }
    assert!(n_slices > 20);
    let mut restored = empty(SET);
    fill(&mut restored, &file, &shape(&mut states), (0, 1));
    assert_eq!(content(&restored)[&1], (0..N).map(|at| (at, at)).collect());
    assert_eq!(content(&states)[&1].len(), 10);
}

#[test]
fn a_map_that_has_been_large_is_small_again() {
    let mut states = empty(SET);
    filled(&states, N);
    let n_chunks = |states: &mut KeyedStates| {
        freeze(states, SnapshotKind::Checkpoint);
        let mut file = Written::default();
        write_all(states, &mut file);
        file.n_entries
    };
    let most = n_chunks(&mut states);
    assert!((N as u64 / 112..N as u64 / 40).contains(&most), "{most} chunks of {N} entries");
    (100..N).for_each(|at| assert!(of!(states, MAP, &1u16).remove(&at).is_some()));
    let few = n_chunks(&mut states);
    assert!(few < 12, "{few} chunks of 100 entries");
    (0..100).for_each(|at| assert!(of!(states, MAP, &1u16).remove(&at).is_some()));
    assert_eq!(n_chunks(&mut states), 0);
    assert!(states.keys::<u16, _>(&MAP).is_empty());
}

#[test]
fn large_values_make_chunks_of_few() {
    const TEXTS: MapState<u32, String> = MapState::new("texts");
    const SET: StateSet<u16> = states![TEXTS];
    for text_bytes in [1000, 100_000] {
        let mut states = empty(SET);
        for at in 0..100 {
            of!(states, TEXTS, &1u16).insert(at, "x".repeat(text_bytes));
        }
        freeze(&mut states, SnapshotKind::Checkpoint);
        let (mut file, mut largest) = (Written::default(), 0);
        loop {
            let (n_bytes, done) = write(&mut states, &mut file, 1);
            largest = largest.max(n_bytes);
            if done {
                break;
            }
        }
        assert!(largest < 16_384.max(5 * text_bytes), "{largest} bytes in one entry");
        let map = of!(states, TEXTS, &1u16);
        assert_eq!((map.len(), map.iter().count()), (100, 100));
    }
}

#[test]
fn a_map_larger_than_memory_keeps_to_it() {
    keeps_to_its_memory(&World::new(32 << 10), 8000);
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_map_larger_than_memory_keeps_to_it_in_rocksdb() {
    let budget = MemoryBudget::new(1 << 20);
    let engine = Arc::new(crate::lsm::RocksEngine::new(&budget, 2));
    keeps_to_its_memory(&World::over(engine, budget), 150_000);
}

/// The map takes several times of what there is.
fn keeps_to_its_memory(world: &World, n: u32) {
    let (mut states, store) = world.open(SET, &[]);
    // Chunks are between half full and full, and what they take is known from a few.
    let most = || {
        let (used, limit) = world.used_of();
        assert!(used <= limit + limit / 4 + 4 * CHUNK_BYTES, "{used} bytes of {limit}");
    };
    for at in 0..n {
        assert_eq!(of!(states, MAP, &1u16).insert(at, at), None);
        most();
    }
    assert!(n as usize * 8 > 2 * world.used_of().1);
    for i in 0..n {
        let at = i.wrapping_mul(7919) % n;
        *of!(states, MAP, &1u16).get_mut(&at).unwrap() += 1;
        most();
        assert!(of!(states, MAP, &1u16).get(&(at / 2)).is_some());
        most();
    }
    let (mut n_seen, mut sum) = (0, 0);
    let see = |_: &u32, value: &u32| {
        (n_seen, sum) = (n_seen + 1, sum + u64::from(*value));
        most();
        Ok(())
    };
    of!(states, MAP, &1u16).for_each(see).unwrap();
    let expected = u64::from(n) * u64::from(n - 1) / 2 + u64::from(n);
    assert_eq!((n_seen, sum), (n, expected));
    // All of it at once is more than there is, and counted.
    let map = of!(states, MAP, &1u16);
    assert_eq!(map.iter().map(|(_, value)| u64::from(*value)).sum::<u64>(), expected);
    let (used, limit) = world.used_of();
    assert!(used > 2 * limit, "{used} bytes of {limit}");
    drop(map);
    most();
    // What is gone is gone from the store.
    of!(states, MAP, &1u16).clear();
    assert_eq!(of!(states, MAP, &1u16).len(), 0);
    freeze(&mut states, SnapshotKind::Checkpoint);
    write_all(&mut states, &mut Written::default());
    let mut n_stored = 0;
    let mut count = |_: &[u8], _: &[u8]| {
        n_stored += 1;
        Ok(())
    };
    store.space(ID, "map", 128).scan(&mut count).unwrap();
    assert_eq!(n_stored, 0);
}

#[test]
fn a_map_that_was_written_as_a_whole_is_read() {
    let old: Vec<(u16, Vec<(u32, u32)>)> = [(1, 5000), (2, 3), (3, 0)]
        .map(|(key, n)| (key, (0..n).map(|at| (at, key.into())).collect()))
        .into();
    let mut file = Written::default();
    for entry in &old {
        codec::encode(entry, &mut file.bytes).unwrap();
        file.n_entries += 1;
    }
    let shape = Shape::of::<(u16, Vec<(u32, u32)>)>().unwrap();
    let expected: Model = old
        .into_iter()
        .map(|(key, entries)| (key, entries.into_iter().collect::<BTreeMap<_, _>>()))
        .filter(|(_, entries)| !entries.is_empty())
        .collect();
    let mut states = empty(SET);
    fill(&mut states, &file, &shape, (0, 1));
    assert_eq!(content(&states), expected);
    let world = World::new(16 << 10);
    let (mut states, _store) = world.open(SET, &[]);
    fill(&mut states, &file, &shape, (0, 1));
    assert_eq!(content(&states), expected);
}
