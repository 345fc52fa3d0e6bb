//! What is told of a checkpoint whose keyed state lies in trees: as much as of a savepoint of the same state, which has none.

use super::recovery::environment;
use super::restores::{checkpoints, way};
use super::until;
use millstream::prelude::*;
use millstream::state::lsm::{MemoryBudget, RocksEngine};
use millstream::state::snapshot::{LocalStorage, PartKind, tools, trees};
use millstream::state::store::Backend;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const N: u64 = 20_000;
const N_KEYS: u64 = 3_000;
/// Whose state changes for ever, so that a part of it lies in the state file of each checkpoint.
const RESTLESS: u64 = 1 << 40;

const LAST: ValueState<String> = ValueState::new("last");
const ALL: ListState<u64> = ListState::new("all");
const SEEN: MapState<u64, u64> = MapState::new("seen");

/// Keeps what there is to be kept, and is called back when all is over.
#[derive(Clone)]
struct Keeps(Arc<AtomicU64>);

impl KeyedProcessFunction<u64, u64> for Keeps {
    type Out = u64;
    const STATES: StateSet<u64> = states![LAST, ALL, SEEN];

    fn process(
        &mut self,
        i: u64,
        ctx: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        if i >= RESTLESS {
            ctx.state(&LAST).set(i.to_string());
            return Ok(());
        }
        ctx.state(&LAST).set(format!("{i:>30}"));
        ctx.state(&ALL).push(i);
        ctx.state(&SEEN).insert(i % 3, i);
        ctx.timers().at(EventTime::MAX / 2 - i as EventTime);
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Operator, name, entries and bytes of what is dealt out by keys.
fn keyed(inspection: &tools::Inspection) -> Vec<(String, String, u64)> {
    let parts = inspection.parts.iter().filter(|part| part.kind == PartKind::Keyed);
    parts.map(|part| (part.operator_name.clone(), part.name.clone(), part.n_entries)).collect()
}

fn inspect(folder: &Path, work: &Path) -> (tools::Inspection, tools::Inspection) {
    let storage = LocalStorage::new(folder.parent().unwrap()).unwrap();
    let folder = folder.file_name().unwrap().to_str().unwrap();
    let budget = MemoryBudget::new(1 << 20);
    let engine = Arc::new(RocksEngine::new(&budget, 1));
    let backend = Backend::new(engine, budget, work.to_owned(), "inspect".into());
    let plain = tools::inspect(&storage, folder).unwrap();
    (plain, trees::inspect(&storage, folder, &backend).unwrap())
}

#[test]
fn entries_in_trees_are_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        [("state-backend", "rocksdb"), ("state-memory", "64 KiB"), ("checkpoints-retained", "500")];
    let env = environment(way(2), &dir.path().join("checkpoints"), &settings);
    let numbers = env.source(Generator::new(N, |i| i), Watermarks::none());
    let restless = Generator::unbounded(|i| RESTLESS + i % 8).rate(1000);
    let restless = env.source(restless, Watermarks::none());
    let n_kept = Arc::new(AtomicU64::new(0));
    let all = numbers.union([restless]);
    let key = |i: &u64| if *i >= RESTLESS { *i } else { i % N_KEYS };
    all.key_by(key).process(Keeps(Arc::clone(&n_kept))).uid("kept").discard();
    let job = env.execute_async("inspected").unwrap();
    until("all is kept", || n_kept.load(Ordering::SeqCst) == N);
    let savepoint = job.savepoint(dir.path().join("savepoints")).unwrap();
    let first = job.status().last_checkpoint.unwrap_or(0);
    until("a checkpoint has all", || job.status().last_checkpoint > Some(first + 2));
    job.cancel();
    job.wait().unwrap();

    let (_, saved) = inspect(&savepoint, dir.path());
    let newest = checkpoints(&dir.path().join("checkpoints")).pop().unwrap();
    let (plain, counted) = inspect(&newest, dir.path());
    let parts = keyed(&saved);
    let of = |name: &str| parts.iter().find(|part| part.1 == name).map(|part| part.2);
    // Those that never rest, too.
    assert_eq!(of("last"), Some(N_KEYS + 8), "{parts:?}");
    assert_eq!(of("all"), Some(N_KEYS), "{parts:?}");
    assert_eq!(keyed(&counted), parts);
    assert!(counted.counts_trees && counted.to_string().ends_with("are counted.\n"));
    let in_files: u64 = keyed(&plain).iter().map(|part| part.2).sum();
    let all: u64 = parts.iter().map(|part| part.2).sum();
    assert!(in_files < all, "nothing lies in trees");
    assert!(plain.to_string().ends_with("are not counted here.\n"));
}
