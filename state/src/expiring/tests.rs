//! Handles by a clock that the tests move, restores, and how what has expired is removed.

use crate::lsm::model::ModelEngine;
use crate::lsm::{LsmEngine, MemoryBudget};
use crate::part::{Entries, Part, Visitor, Written};
use crate::schema::Shape;
use crate::snapshot::Assignment;
use crate::store::{Backend, Store, expiry_of, part_prefix};
use crate::ttl::Clock;
use crate::{
    Aggregate, AggregatingState, Expiring, KeyedStates, ListState, MapState, ReducingState,
    StateSet, Ttl, ValueState, states,
};
use millstream_model::job_graph::OperatorId;
use millstream_model::time::millis;
use millstream_model::{Result, SnapshotKind, hash_key};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const TTL: Ttl = Ttl::after(millis(100));

#[derive(Clone)]
struct Sum;

impl Aggregate<u32> for Sum {
    type Acc = u32;
    type Out = u32;
    fn create(&self) -> u32 {
        0
    }
    fn add(&self, acc: &mut u32, value: u32) {
        *acc += value;
    }
    fn merge(&self, acc: &mut u32, other: &u32) {
        *acc += other;
    }
    fn result(&self, acc: &u32) -> u32 {
        *acc
    }
}

const VALUE: Expiring<ValueState<u32>> = ValueState::new("value").ttl(TTL);
const READ: Expiring<ValueState<u32>> = ValueState::new("read").ttl(TTL.on_read_too());
const LIST: Expiring<ListState<u32>> = ListState::new("list").ttl(TTL);
const MAP: Expiring<MapState<u32, u32>> = MapState::new("map").ttl(TTL);
const MOST: Expiring<ReducingState<u32>> =
    ReducingState::new("most", |a: &mut u32, b| *a = (*a).max(b)).ttl(TTL);
const SUM: Expiring<AggregatingState<u32, Sum>> = AggregatingState::new("sum", Sum).ttl(TTL);
const STATES: StateSet<u32> = states![VALUE, READ, LIST, MAP, MOST, SUM];

/// States with a clock that a test moves.
fn at_zero(set: StateSet<u32>) -> (KeyedStates, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(0));
    let now = Arc::clone(&time);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    (KeyedStates::new(set, &clock).unwrap(), time)
}

macro_rules! of {
    ($states:expr, $state:expr) => {
        of!($states, $state, 1u32)
    };
    ($states:expr, $state:expr, $key:expr) => {
        $states.of(&$state, &$key, hash_key(&$key).unwrap())
    };
}

#[test]
fn a_value_expires_a_while_after_it_was_written_last() {
    let (states, time) = at_zero(STATES);
    of!(states, VALUE).set(7);
    time.store(60, Ordering::Relaxed);
    *of!(states, VALUE).get_mut().unwrap() += 1;
    time.store(159, Ordering::Relaxed);
    // Reading does not renew it.
    assert_eq!(of!(states, VALUE).get(), Some(&8));
    time.store(160, Ordering::Relaxed);
    assert_eq!(of!(states, VALUE).get(), None);
    assert_eq!(of!(states, VALUE).take(), None);
    assert_eq!(*of!(states, VALUE).or_insert_with(|| 3), 3);
}

#[test]
fn a_value_may_be_renewed_by_reading() {
    let (states, time) = at_zero(STATES);
    of!(states, READ).set(7);
    for now in [90, 180, 270] {
        time.store(now, Ordering::Relaxed);
        assert_eq!(of!(states, READ).get(), Some(&7));
    }
    time.store(370, Ordering::Relaxed);
    assert_eq!(of!(states, READ).get(), None);
}

#[test]
fn elements_of_lists_and_values_of_maps_expire_one_by_one() {
    let (states, time) = at_zero(STATES);
    for now in [0, 50, 100] {
        time.store(now, Ordering::Relaxed);
        of!(states, LIST).push(now as u32);
        of!(states, MAP).insert(now as u32, 1);
    }
    let list = |states: &KeyedStates| of!(states, LIST).iter().copied().collect::<Vec<_>>();
    let map = |states: &KeyedStates| {
        let mut keys: Vec<u32> = of!(states, MAP).iter().map(|(key, _)| *key).collect();
        keys.sort();
        keys
    };
    assert_eq!((list(&states), map(&states)), (vec![50, 100], vec![50, 100]));
    assert_eq!(of!(states, MAP).get(&0), None);
    assert_eq!(of!(states, MAP).insert(0, 2), None);
    *of!(states, MAP).get_mut(&50).unwrap() += 1;
    time.store(150, Ordering::Relaxed);
    assert_eq!((list(&states), map(&states)), (vec![100], vec![0, 50, 100]));
    assert_eq!(of!(states, MAP).remove(&50), Some(2));
    time.store(250, Ordering::Relaxed);
    assert_eq!((list(&states), map(&states)), (vec![], vec![]));
}

#[test]
fn what_is_folded_begins_anew_when_it_has_expired() {
    let (states, time) = at_zero(STATES);
    for (now, most, sum) in [(0, 9, 9), (99, 9, 11), (199, 2, 2)] {
        time.store(now, Ordering::Relaxed);
        let value = if now == 0 { 9 } else { 2 };
        of!(states, MOST).add(value);
        of!(states, SUM).add(value);
        assert_eq!(of!(states, MOST).get(), Some(&most));
        assert_eq!(of!(states, SUM).get(), Some(sum));
    }
    time.store(299, Ordering::Relaxed);
    assert_eq!((of!(states, MOST).get(), of!(states, SUM).get()), (None, None));
}

#[test]
fn what_has_expired_is_removed_by_and_by() {
    let (states, time) = at_zero(STATES);
    const N: u32 = 10_000;
    for key in 0..N {
        of!(states, VALUE, key).set(key);
        of!(states, LIST, key).push(key);
    }
    // One large map under one key.
    for n in 0..N {
        of!(states, MAP, 0u32).insert(n, n);
    }
    time.store(100, Ordering::Relaxed);
    for _ in 0..N {
        of!(states, VALUE, N).set(0);
        of!(states, LIST, N).push(0);
        of!(states, MAP, N).insert(0, 0);
    }
    assert_eq!(states.keys::<u32, _>(&VALUE), [N]);
    assert_eq!(states.keys::<u32, _>(&LIST), [N]);
    assert_eq!(states.keys::<u32, _>(&MAP), [N]);
}

/// Writes the only part, or reads it.
enum Carry<'a> {
    Write(&'a mut Written, &'a mut Option<Shape>),
    Read(&'a Written, &'a Shape),
}

impl Visitor for Carry<'_> {
    fn part(&mut self, _: &str, part: &mut dyn Part) -> Result<()> {
        match self {
            Carry::Write(written, shape) => {
                **shape = Some(part.shape()?);
                part.freeze(SnapshotKind::Checkpoint);
                while !part.write(written, 64)? {}
                Ok(())
            }
            Carry::Read(written, shape) => {
                let assignment = Assignment {
                    subtask: 0,
                    parallelism: 1,
                    max_parallelism: 128,
                    writer: 0,
                    n_writers: 1,
                };
                let bytes = &written.bytes;
                part.restore(&Entries {
                    bytes,
                    assignment: &assignment,
                    shape,
                    version: 0,
                    first: 0,
                })
            }
        }
    }
}

fn carry(from: &mut KeyedStates, to: &mut KeyedStates) {
    let (mut written, mut shape) = (Written::default(), None);
    from.parts(&mut Carry::Write(&mut written, &mut shape)).unwrap();
    to.parts(&mut Carry::Read(&written, &shape.unwrap())).unwrap();
}

#[test]
fn the_time_that_is_left_survives_a_restore() {
    const SET: StateSet<u32> = states![MAP];
    let (mut before, time) = at_zero(SET);
    of!(before, MAP).insert(1, 1);
    time.store(50, Ordering::Relaxed);
    of!(before, MAP).insert(2, 2);
    let (mut after, time) = at_zero(SET);
    time.store(120, Ordering::Relaxed);
    carry(&mut before, &mut after);
    assert_eq!(of!(after, MAP).iter().collect::<Vec<_>>(), [(&2, &2)]);
    time.store(150, Ordering::Relaxed);
    assert_eq!(of!(after, MAP).iter().count(), 0);
}

#[test]
fn a_state_may_begin_and_cease_to_expire() {
    const LASTING: ListState<u32> = ListState::new("list");
    const LASTING_SET: StateSet<u32> = states![LASTING];
    const SET: StateSet<u32> = states![LIST];
    let (mut lasting, _) = at_zero(LASTING_SET);
    of!(lasting, LASTING).push(1);
    // It begins to: from the restore on.
    let (mut expiring, time) = at_zero(SET);
    time.store(1000, Ordering::Relaxed);
    carry(&mut lasting, &mut expiring);
    time.store(1050, Ordering::Relaxed);
    of!(expiring, LIST).push(2);
    time.store(1099, Ordering::Relaxed);
    assert_eq!(of!(expiring, LIST).iter().collect::<Vec<_>>(), [&1, &2]);
    // It ceases to: what has expired by then does not come back.
    let (mut lasting, time) = at_zero(LASTING_SET);
    time.store(1100, Ordering::Relaxed);
    carry(&mut expiring, &mut lasting);
    assert_eq!(of!(lasting, LASTING).get(), [2]);
}

const ID: OperatorId = OperatorId(7);

/// Puts a store beneath all states.
struct Attach<'a>(&'a Arc<Store>);

impl Visitor for Attach<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        part.attach(self.0.space(ID, name, 128), true)?;
        Ok(())
    }
}

/// Learns of all states what expires.
#[derive(Default)]
struct Learn(Vec<([u8; 8], crate::part::IsExpired)>);

impl Visitor for Learn {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        self.0.extend(part.expiry().map(|is_expired| (part_prefix(ID, name), is_expired)));
        Ok(())
    }
}

/// Writes everything into the store.
struct Flush;

impl Visitor for Flush {
    fn part(&mut self, _: &str, part: &mut dyn Part) -> Result<()> {
        part.freeze(SnapshotKind::Checkpoint);
        while !part.write(&mut Written::default(), 1 << 20)? {}
        Ok(())
    }
}

const FOREVER: ValueState<u32> = ValueState::new("forever");

/// Values that nobody touches any more, beneath tables that have yet to find them.
fn go_when_they_are_compacted(engine: Arc<dyn LsmEngine>) {
    const SET: StateSet<u32> = states![VALUE, READ, LIST, MAP, MOST, SUM, FOREVER];
    let dir = tempfile::tempdir().unwrap();
    let budget = MemoryBudget::new(1 << 20);
    let backend = Backend::new(engine, budget, dir.path().to_owned(), "run".into());
    let (mut states, time) = at_zero(SET);
    let mut learnt = Learn::default();
    states.parts(&mut learnt).unwrap();
    assert_eq!(learnt.0.len(), 6, "all but one expire");
    let store = backend.open(0, 0, &[], expiry_of(learnt.0)).unwrap();
    states.parts(&mut Attach(&store)).unwrap();
    let states = &mut states;

    // Key 1 is written at 0 only; of key 2, an element of the list and one of the map are younger.
    for key in [1u32, 2] {
        of!(states, VALUE, key).set(7);
        of!(states, READ, key).set(7);
        of!(states, MOST, key).add(7);
        of!(states, SUM, key).add(7);
        of!(states, FOREVER, key).set(7);
        of!(states, LIST, key).push(7);
        of!(states, MAP, key).insert(7, 7);
    }
    time.store(50, Ordering::Relaxed);
    of!(states, LIST, 2u32).push(8);
    of!(states, MAP, 2u32).insert(8, 8);
    states.parts(&mut Flush).unwrap();
    store.release();

    let n_entries = |name: &str| {
        let mut n = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            n += 1;
            Ok(())
        };
        store.space(ID, name, 128).scan(&mut count).unwrap();
        n
    };
    let names = ["value", "read", "most", "sum", "list", "map", "forever"];
    let at = |now: i64| {
        time.store(now, Ordering::Relaxed);
        store.compact().unwrap();
        names.map(n_entries)
    };
    assert_eq!(at(99), [2, 2, 2, 2, 2, 2, 2]);
    assert_eq!(at(100), [0, 0, 0, 0, 1, 1, 2]);
    assert_eq!(at(150), [0, 0, 0, 0, 0, 0, 2]);
}

#[test]
fn what_nobody_touches_goes_from_a_store_when_it_is_compacted() {
    go_when_they_are_compacted(Arc::new(ModelEngine::new(1 << 20)));
}

#[cfg(feature = "rocksdb")]
#[test]
fn what_nobody_touches_goes_from_rocksdb_when_it_is_compacted() {
    let budget = MemoryBudget::new(8 << 20);
    go_when_they_are_compacted(Arc::new(crate::lsm::RocksEngine::new(&budget, 2)));
}
