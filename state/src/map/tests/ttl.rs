//! Large maps whose values expire.

use super::*;
use crate::descriptor::Expiring;
use crate::store::{expiry_of, part_prefix};
use crate::ttl::Ttl;
use millstream_model::time::millis;
use std::sync::atomic::AtomicI64;

const N: u32 = 5000;
const TTL: Ttl = Ttl::after(millis(100));
const AGES: Expiring<MapState<u32, u32>> = MapState::new("map").ttl(TTL);
const READ: Expiring<MapState<u32, u32>> = MapState::new("map").ttl(TTL.on_read_too());
const SET: StateSet<u16> = states![AGES];
const READ_SET: StateSet<u16> = states![READ];

/// States with a clock that a test moves.
fn at_zero(set: StateSet<u16>) -> (KeyedStates, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(0));
    let now = Arc::clone(&time);
    (
        KeyedStates::new(set, &(Arc::new(move || now.load(Ordering::Relaxed)) as Clock)).unwrap(),
        time,
    )
}

fn put(states: &KeyedStates, range: std::ops::Range<u32>) {
    for at in range {
        of!(states, AGES, &1u16).insert(at, at);
    }
}

fn seen(states: &KeyedStates) -> Vec<u32> {
    let mut map = of!(states, AGES, &1u16);
    let mut seen: Vec<u32> = map.iter().map(|(at, _)| *at).collect();
    let mut again = Vec::new();
    let see = |at: &u32, _: &u32| {
        again.push(*at);
        Ok(())
    };
    map.for_each(see).unwrap();
    assert_eq!(again, seen);
    seen.sort();
    seen
}

fn n_entries(states: &mut KeyedStates) -> u64 {
    freeze(states, SnapshotKind::Checkpoint);
    let mut file = Written::default();
    write_all(states, &mut file);
    file.n_entries
}

#[test]
fn values_of_large_maps_expire_one_by_one_and_are_removed() {
    let (mut states, time) = at_zero(SET);
    put(&states, 0..N);
    time.store(50, Ordering::Relaxed);
    put(&states, 0..N / 2);
    assert_eq!(seen(&states).len() as u32, N);
    time.store(100, Ordering::Relaxed);
    assert_eq!(seen(&states), (0..N / 2).collect::<Vec<_>>());
    assert_eq!(of!(states, AGES, &1u16).get(&N), None);
    assert_eq!(of!(states, AGES, &1u16).get(&(N - 1)), None);
    assert_eq!(of!(states, AGES, &1u16).remove(&(N - 1)), None);
    time.store(150, Ordering::Relaxed);
    assert!(seen(&states).is_empty());
    // Another key's accesses find all of it.
    for _ in 0..N {
        of!(states, AGES, &2u16).insert(0, 0);
    }
    assert_eq!(states.keys::<u16, _>(&AGES), [2]);
    assert_eq!(n_entries(&mut states), 1, "no chunk is left behind");
    put(&states, 0..N);
    assert_eq!(seen(&states).len() as u32, N);
}

#[test]
fn a_large_map_of_which_much_has_expired_is_small_again() {
    let (mut states, time) = at_zero(SET);
    put(&states, 0..N);
    let many = n_entries(&mut states);
    time.store(50, Ordering::Relaxed);
    put(&states, 0..50);
    time.store(120, Ordering::Relaxed);
    (0..N).for_each(|_| put(&states, 0..1));
    let few = n_entries(&mut states);
    assert!(many > 40 && few < 12, "{many} chunks, then {few}");
    assert_eq!(seen(&states), (0..50).collect::<Vec<_>>());
}

#[test]
fn values_of_large_maps_are_renewed_by_reading() {
    let (states, time) = at_zero(READ_SET);
    for at in 0..N {
        of!(states, READ, &1u16).insert(at, at);
    }
    for now in [90, 180] {
        time.store(now, Ordering::Relaxed);
        assert_eq!(of!(states, READ, &1u16).iter().count() as u32, N);
    }
    time.store(270, Ordering::Relaxed);
    assert_eq!(of!(states, READ, &1u16).get(&7), Some(&7));
    time.store(360, Ordering::Relaxed);
    assert_eq!(of!(states, READ, &1u16).iter().collect::<Vec<_>>(), [(&7, &7)]);
}

#[test]
fn a_large_map_may_begin_and_cease_to_expire() {
    let written = |states: &mut KeyedStates| {
        let mut file = Written::default();
        freeze(states, SnapshotKind::Savepoint);
        write_all(states, &mut file);
        (file, shape(states))
    };
    let mut lasting = empty(super::SET);
    for at in 0..N {
        of!(lasting, MAP, &1u16).insert(at, at);
    }
    let (file, shape) = written(&mut lasting);
    // It begins to: from the restore on.
    let (mut states, time) = at_zero(SET);
    time.store(1000, Ordering::Relaxed);
    fill(&mut states, &file, &shape, (0, 1));
    time.store(1050, Ordering::Relaxed);
    put(&states, 0..N / 2);
    assert_eq!(seen(&states).len() as u32, N);
    let (file, shape) = written(&mut states);
    // As it is, but later: what has expired by then does not come back, and what is left has its time.
    let (mut later, time) = at_zero(SET);
    time.store(1100, Ordering::Relaxed);
    fill(&mut later, &file, &shape, (0, 1));
    assert_eq!(seen(&later).len() as u32, N / 2);
    time.store(1150, Ordering::Relaxed);
    assert!(seen(&later).is_empty());
    // It ceases to, and is counted right.
    let mut lasting = KeyedStates::new(super::SET, &(Arc::new(|| 1100i64) as Clock)).unwrap();
    fill(&mut lasting, &file, &shape, (0, 1));
    assert_eq!(of!(lasting, MAP, &1u16).len() as u32, N / 2);
    assert_eq!(content(&lasting)[&1], (0..N / 2).map(|at| (at, at)).collect());
}

#[test]
fn what_nobody_touches_goes_from_a_store_when_it_is_compacted() {
    goes_when_it_is_compacted(&World::new(64 << 10));
}

#[cfg(feature = "rocksdb")]
#[test]
fn what_nobody_touches_goes_from_rocksdb_when_it_is_compacted() {
    let budget = MemoryBudget::new(1 << 20);
    let engine = Arc::new(crate::lsm::RocksEngine::new(&budget, 2));
    goes_when_it_is_compacted(&World::over(engine, budget));
}

fn goes_when_it_is_compacted(world: &World) {
    let (mut states, time) = at_zero(SET);
    let mut learnt = Vec::new();
    each(&mut states, |name, part| {
        learnt.extend(part.expiry().map(|is_expired| (part_prefix(ID, name), is_expired)));
        Ok(())
    });
    let store = world.attach(&mut states, &[], expiry_of(learnt));
    put(&states, 0..N);
    let n_left = |states: &mut KeyedStates, now: i64| {
        freeze(states, SnapshotKind::Savepoint);
        write_all(states, &mut Written::default());
        store.release();
        time.store(now, Ordering::Relaxed);
        store.compact().unwrap();
        let mut n = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            n += 1;
            Ok(())
        };
        store.space(ID, "map", 128).scan(&mut count).unwrap();
        n
    };
    let many = n_left(&mut states, 99);
    assert!(many > 40, "{many}");
    // One value is younger: the head stays for it, and its chunk.
    put(&states, 4321..4322);
    let few = n_left(&mut states, 100);
    assert!((1..=2).contains(&few), "{few}");
    assert_eq!(seen(&states), [4321]);
    assert_eq!(n_left(&mut states, 199), 0);
    assert!(seen(&states).is_empty());
    // Whatever is left of it is not seen in what comes after.
    put(&states, 0..N);
    assert_eq!(seen(&states).len() as u32, N);
    time.store(300, Ordering::Relaxed);
    put(&states, 0..10);
    assert_eq!(seen(&states), (0..10).collect::<Vec<_>>());
}
