//! Maps against a plain model: whatever is done to them, with or without a store beneath and room for a few chunks, and
//! whenever a snapshot is taken.

mod keys;
mod large;
mod model;
mod ttl;

use crate::descriptor::StateSet;
use crate::lsm::model::ModelEngine;
use crate::lsm::{Expiry, LsmEngine, LsmFile, MemoryBudget};
use crate::part::{Entries, Part, Visitor, Written};
use crate::schema::Shape;
use crate::snapshot::Assignment;
use crate::store::{Backend, Store};
use crate::ttl::Clock;
use crate::{KeyedStates, MapState, states};
use millstream_model::job_graph::OperatorId;
use millstream_model::{Result, SnapshotKind, hash_key};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const MAP: MapState<u32, u32> = MapState::new("map");
const SET: StateSet<u16> = states![MAP];
const ID: OperatorId = OperatorId(7);

/// What maps hold, by key.
type Model = BTreeMap<u16, BTreeMap<u32, u32>>;

/// The handle of a key's map.
macro_rules! of {
    ($states:expr, $state:expr, $key:expr) => {
        $states.of(&$state, $key, hash_key($key).unwrap())
    };
}
use of;

/// Does something with every part.
struct Each<F>(F);

impl<F: FnMut(&str, &mut dyn Part) -> Result<()>> Visitor for Each<F> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        (self.0)(name, part)
    }
}

fn each(states: &mut KeyedStates, f: impl FnMut(&str, &mut dyn Part) -> Result<()>) {
    states.parts(&mut Each(f)).unwrap();
}

fn empty(set: StateSet<u16>) -> KeyedStates {
    KeyedStates::new(set, &(Arc::new(|| 0i64) as Clock)).unwrap()
}

fn freeze(states: &mut KeyedStates, kind: SnapshotKind) {
    each(states, |_, part| {
        part.freeze(kind);
        Ok(())
    });
}

/// Writes a slice of the only part behind `file`; its bytes, and whether that was all.
fn write(states: &mut KeyedStates, file: &mut Written, budget: usize) -> (usize, bool) {
    let (mut slice, mut done) = (Written::default(), false);
    each(states, |_, part| {
        done = part.write(&mut slice, budget)?;
        Ok(())
    });
    let n_bytes = slice.bytes.len();
    file.append(&mut slice);
    (n_bytes, done)
}

fn write_all(states: &mut KeyedStates, file: &mut Written) {
    while !write(states, file, 256).1 {}
}

fn shape(states: &mut KeyedStates) -> Shape {
    let mut shape = None;
    each(states, |_, part| {
        shape = Some(part.shape()?);
        Ok(())
    });
    shape.unwrap()
}

/// Gives states what a file holds, and what of it is theirs.
fn fill(
    states: &mut KeyedStates,
    file: &Written,
    shape: &Shape,
    (subtask, parallelism): (usize, usize),
) {
    let assignment =
        Assignment { subtask, parallelism, max_parallelism: 128, writer: 0, n_writers: 1 };
    let (bytes, assignment) = (&file.bytes, &assignment);
    let entries = Entries { bytes, assignment, shape, version: 0, first: 0 };
    each(states, |_, part| part.restore(&entries));
}

/// Everything that is there, seen in every way there is.
fn content(states: &KeyedStates) -> Model {
    let mut found = Model::new();
    for key in states.keys::<u16, _>(&MAP) {
        let map = of!(states, MAP, &key);
        let entries: BTreeMap<u32, u32> = map.iter().map(|(at, value)| (*at, *value)).collect();
        assert_eq!(map.len(), entries.len());
        assert!(!map.is_empty(), "what is empty is not there");
        drop(map);
        let mut seen = BTreeMap::new();
        let see = |at: &u32, value: &u32| {
            assert!(seen.insert(*at, *value).is_none(), "shown once");
            Ok(())
        };
        of!(states, MAP, &key).for_each(see).unwrap();
        assert_eq!(seen, entries);
        assert!(found.insert(key, entries).is_none(), "listed once");
    }
    found
}

/// Stores with little memory.
struct World {
    backend: Backend,
    n_opened: AtomicU32,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(memory_bytes: usize) -> Self {
        World::over(Arc::new(ModelEngine::new(4096)), MemoryBudget::new(memory_bytes))
    }

    fn over(engine: Arc<dyn LsmEngine>, budget: Arc<MemoryBudget>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::new(engine, budget, dir.path().to_owned(), "run".into());
        World { backend, n_opened: AtomicU32::new(0), _dir: dir }
    }

    fn open(&self, set: StateSet<u16>, files: &[LsmFile]) -> (KeyedStates, Arc<Store>) {
        let mut states = empty(set);
        let store = self.attach(&mut states, files, Expiry::never());
        (states, store)
    }

    fn attach(&self, states: &mut KeyedStates, files: &[LsmFile], expiry: Expiry) -> Arc<Store> {
        let attempt = self.n_opened.fetch_add(1, Ordering::Relaxed);
        let store = self.backend.open(0, attempt, files, expiry).unwrap();
        each(states, |name, part| part.attach(store.space(ID, name, 128), files.is_empty()));
        store
    }

    /// Bytes of memory that are used, and that may be.
    fn used_of(&self) -> (usize, usize) {
        (self.backend.budget.used(), self.backend.budget.limit())
    }
}
