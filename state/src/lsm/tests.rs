//! What every tree must do, run against each of them, with a map as the reference.

use super::model::{Damage, ModelEngine};
use super::*;
use millstream_model::Error;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

/// An engine and places for its trees.
struct Lab {
    make: fn() -> Box<dyn LsmEngine>,
    engine: Box<dyn LsmEngine>,
    dir: TempDir,
    n_places: Cell<u32>,
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

impl Lab {
    fn new(make: fn() -> Box<dyn LsmEngine>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Lab { make, engine: make(), dir, n_places: Cell::new(0) }
    }

    fn place(&self) -> std::path::PathBuf {
        self.n_places.set(self.n_places.get() + 1);
        self.dir.path().join(self.n_places.get().to_string())
    }

    fn open_as(&self, instance: &str, files: &[LsmFile], expiry: Expiry) -> Result<Box<dyn Lsm>> {
        self.engine.open(Open { dir: &self.place(), instance, files, expiry })
    }

    fn open(&self, files: &[LsmFile]) -> Box<dyn Lsm> {
        let instance = format!("instance-{}", self.n_places.get());
        self.open_as(&instance, files, Expiry::never()).unwrap()
    }

    fn checkpoint(&self, tree: &mut dyn Lsm) -> Vec<LsmFile> {
        tree.cut(&self.place()).unwrap().run().unwrap()
    }
}

fn put_all(tree: &mut dyn Lsm, entries: &Map) {
    tree.write(&mut entries.iter().map(|(key, value)| Op::Put(key, value))).unwrap();
}

fn put(tree: &mut dyn Lsm, key: &str, value: &str) {
    tree.write(&mut [Op::Put(key.as_bytes(), value.as_bytes())].into_iter()).unwrap();
}

fn get(tree: &dyn Lsm, key: &str) -> Option<String> {
    let mut value = b"left over".to_vec();
    let found = tree.get(key.as_bytes(), &mut value).unwrap();
    assert!(found || value.is_empty());
    found.then(|| String::from_utf8(value).unwrap())
}

fn scan(tree: &dyn Lsm, from: &[u8], to: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    tree.scan(from, to, &mut |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    entries
}

fn all(tree: &dyn Lsm) -> Map {
    scan(tree, &[], None).into_iter().collect()
}

/// Xorshift: the same numbers for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// One of 3,000 keys in three groups.
    fn key(&mut self) -> Vec<u8> {
        let (group, key) = (self.below(3) as u8, self.below(1000) as u16);
        let mut bytes = vec![group];
        bytes.extend(key.to_be_bytes());
        bytes
    }

    fn value(&mut self) -> Vec<u8> {
        let (length, byte) = (self.below(400) as usize, self.below(256) as u8);
        vec![byte; length]
    }
}

fn entries(dice: &mut Dice, n: usize) -> Map {
    (0..n).map(|_| (dice.key(), dice.value())).collect()
}

enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

fn change(dice: &mut Dice) -> Change {
    match dice.below(40) {
        0 => {
            let from = dice.key();
            let mut to = from.clone();
            // Sometimes nothing, sometimes backwards.
            to[2] = to[2].wrapping_add(dice.below(60) as u8);
            Change::DeleteRange(from, to)
        }
        1..10 => Change::Delete(dice.key()),
        _ => Change::Put(dice.key(), dice.value()),
    }
}

fn apply(change: &Change, map: &mut Map) {
    match change {
        Change::Put(key, value) => drop(map.insert(key.clone(), value.clone())),
        Change::Delete(key) => drop(map.remove(key)),
        Change::DeleteRange(from, to) => map.retain(|key, _| key < from || key >= to),
    }
}

fn random_operations_give_what_a_map_gives(lab: Lab) {
    let seed = 0x9e37_79b9_7f4a_7c15;
    let mut dice = Dice(seed);
    let (mut tree, mut map) = (lab.open(&[]), Map::new());
    for round in 0..400 {
        let changes: Vec<Change> = (0..dice.below(60)).map(|_| change(&mut dice)).collect();
        changes.iter().for_each(|change| apply(change, &mut map));
        tree.write(&mut changes.iter().map(|change| match change {
            Change::Put(key, value) => Op::Put(key, value),
            Change::Delete(key) => Op::Delete(key),
            Change::DeleteRange(from, to) => Op::DeleteRange(from, to),
        }))
        .unwrap();

        let sorted = dice.below(2) == 0;
        let mut keys: Vec<Vec<u8>> = (0..dice.below(30)).map(|_| dice.key()).collect();
        if sorted {
            keys.sort();
        }
        let (mut read, mut value) = (Vec::new(), Vec::new());
        let refs: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        tree.multi_get(&refs, sorted, &mut |index, value| {
            assert_eq!(index, read.len());
            read.push(value.map(<[u8]>::to_vec));
            Ok(())
        })
        .unwrap();
        assert_eq!(read.len(), keys.len());
        for (key, read) in keys.iter().zip(read) {
            assert_eq!(read.as_ref(), map.get(key), "round {round}, seed {seed}");
            let found = tree.get(key, &mut value).unwrap();
            assert_eq!(found.then_some(&value), map.get(key), "round {round}, seed {seed}");
        }
        let (from, to) = (dice.key(), dice.key());
        if from < to {
            let expected = map.range(from.clone()..to.clone());
            let expected: Vec<_> = expected.map(|(k, v)| (k.clone(), v.clone())).collect();
            assert_eq!(scan(&*tree, &from, Some(&to)), expected, "round {round}, seed {seed}");
        } else {
            assert_eq!(scan(&*tree, &from, Some(&to)), [], "round {round}, seed {seed}");
        }
        match dice.below(40) {
            0 => tree = lab.open(&lab.checkpoint(&mut *tree)),
            1 => tree.compact().unwrap(),
            2 => drop(lab.checkpoint(&mut *tree)),
            _ => {}
        }
    }
    assert!(map.len() > 500, "there was little to compare");
    assert_eq!(all(&*tree), map, "seed {seed}");
}

fn a_scan_ends_where_it_is_told_to(lab: Lab) {
    let mut tree = lab.open(&[]);
    ["a", "b1", "b2", "b3", "c"].iter().for_each(|key| put(&mut *tree, key, "x"));
    let mut seen = Vec::new();
    let end = end_of_prefix(b"b").unwrap();
    tree.scan(b"b", Some(&end), &mut |key, _| {
        seen.push(key.to_vec());
        Ok(if key == b"b2" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .unwrap();
    assert_eq!(seen, [b"b1", b"b2"]);
    let failed = tree.scan(b"", None, &mut |_, _| Err(Error::user("enough")));
    assert_eq!(failed.unwrap_err().message(), "enough");
}

fn a_checkpoint_holds_what_was_written_before_it(lab: Lab) {
    let mut dice = Dice(7);
    let mut tree = lab.open(&[]);
    let before = entries(&mut dice, 2000);
    put_all(&mut *tree, &before);
    let files = lab.checkpoint(&mut *tree);

    tree.write(&mut [Op::DeleteRange(&[0], &[2])].into_iter()).unwrap();
    put_all(&mut *tree, &entries(&mut dice, 2000));
    tree.compact().unwrap();
    assert_ne!(all(&*tree), before);
    drop(tree);

    let mut restored = lab.open(&files);
    assert_eq!(all(&*restored), before);
    // It is a tree like any other, and writing to it leaves the checkpoint alone.
    put(&mut *restored, "k", "v");
    restored.compact().unwrap();
    let again = lab.checkpoint(&mut *restored);
    assert_eq!(all(&*lab.open(&files)), before);
    assert_eq!(get(&*lab.open(&again), "k").unwrap(), "v");
    assert_eq!(all(&*lab.open(&again)).len(), before.len() + 1);
}

fn an_empty_tree_has_a_checkpoint_too(lab: Lab) {
    let files = lab.checkpoint(&mut *lab.open(&[]));
    assert!(!files.is_empty());
    assert_eq!(all(&*lab.open(&files)), Map::new());
}

fn nothing_is_written_until_the_checkpoint_is_done(lab: Lab) {
    let mut tree = lab.open(&[]);
    put(&mut *tree, "k", "before");
    let cut = tree.cut(&lab.place()).unwrap();
    let write = |tree: &mut dyn Lsm| tree.write(&mut [Op::Put(b"k", b"after")].into_iter());
    assert!(write(&mut *tree).unwrap_err().to_string().contains("while a checkpoint"));
    assert!(tree.cut(&lab.place()).is_err());
    assert!(tree.compact().is_err());
    assert_eq!(get(&*tree, "k").unwrap(), "before");
    let files = std::thread::spawn(|| cut.run()).join().unwrap().unwrap();
    write(&mut *tree).unwrap();
    assert_eq!(get(&*lab.open(&files), "k").unwrap(), "before");

    // One that is given up lets go of the tree too.
    drop(tree.cut(&lab.place()).unwrap());
    put(&mut *tree, "k", "later");
    assert_eq!(get(&*tree, "k").unwrap(), "later");
}

fn expired_entries_go_when_they_are_compacted(lab: Lab) {
    let now_ms = Arc::new(AtomicI64::new(100));
    let now = Arc::clone(&now_ms);
    let expiry = Expiry::of(move |key, value| match value.first_chunk() {
        Some(time) if key.starts_with(b"t") => {
            i64::from_le_bytes(*time) <= now.load(Ordering::Relaxed)
        }
        Some(_) => false,
        // What is not understood is not deleted.
        None => panic!("too short"),
    });
    let mut tree = lab.open_as("one", &[], expiry).unwrap();
    let value = |time: i64| [&time.to_le_bytes()[..], b"value"].concat();
    let map: Map = [
        (b"t-early".to_vec(), value(199)),
        (b"t-late".to_vec(), value(201)),
        (b"t-short".to_vec(), vec![1]),
        (b"u-early".to_vec(), value(199)),
    ]
    .into();
    put_all(&mut *tree, &map);
    tree.compact().unwrap();
    assert_eq!(all(&*tree), map);

    now_ms.store(200, Ordering::Relaxed);
    tree.compact().unwrap();
    let mut left = map;
    left.remove(&b"t-early"[..]);
    assert_eq!(all(&*tree), left);
}

/// Remembers what was stored under a name, and which name got a second content.
#[derive(Default)]
struct Storage {
    tables: BTreeMap<String, Arc<[u8]>>,
    conflicts: BTreeSet<String>,
}

impl Storage {
    /// Stores what is new, and says how much was not.
    fn store(&mut self, files: &[LsmFile]) -> (usize, usize) {
        let (mut n_new, mut n_old) = (0, 0);
        for file in files.iter().filter(|file| file.immutable) {
            let content = file.read().unwrap();
            match self.tables.get(&file.name) {
                None => {
                    self.tables.insert(file.name.clone(), content);
                    n_new += 1;
                }
                Some(old) if **old == *content => n_old += 1,
                Some(_) => drop(self.conflicts.insert(file.name.clone())),
            }
        }
        (n_new, n_old)
    }
}

fn a_second_checkpoint_brings_only_what_is_new(lab: Lab) {
    let (mut tree, mut storage, mut dice) = (lab.open(&[]), Storage::default(), Dice(3));
    put_all(&mut *tree, &entries(&mut dice, 3000));
    tree.compact().unwrap();
    let (n_new, n_old) = storage.store(&lab.checkpoint(&mut *tree));
    assert!(n_new > 0 && n_old == 0, "{n_new} new, {n_old} old");
    put(&mut *tree, "k", "v");
    let first = lab.checkpoint(&mut *tree);
    assert_eq!(storage.store(&first), (1, n_new));
    assert_eq!(storage.store(&lab.checkpoint(&mut *tree)), (0, n_new + 1));

    // So it is after a restore: the names are those of old.
    let mut restored = lab.open(&first);
    assert_eq!(storage.store(&lab.checkpoint(&mut *restored)), (0, n_new + 1));
    put(&mut *restored, "l", "w");
    // One more small table; two of them may have become one.
    let (n_newer, n_old) = storage.store(&lab.checkpoint(&mut *restored));
    assert!(n_newer == 1 && n_old >= n_new, "{n_newer} new, {n_old} old");
    assert_eq!(storage.conflicts.len(), 0);
}

/// Goes on twice from the same checkpoint, differently, and gives the names that got two contents.
fn fork(lab: &Lab, instances: [&str; 3]) -> BTreeSet<String> {
    let (mut storage, mut dice) = (Storage::default(), Dice(5));
    let mut tree = lab.open_as(instances[0], &[], Expiry::never()).unwrap();
    put_all(&mut *tree, &entries(&mut dice, 100));
    let forked = lab.checkpoint(&mut *tree);
    storage.store(&forked);
    drop(tree);
    for instance in &instances[1..] {
        let mut tree = lab.open_as(instance, &forked, Expiry::never()).unwrap();
        for _ in 0..5 {
            put_all(&mut *tree, &entries(&mut dice, 100));
            storage.store(&lab.checkpoint(&mut *tree));
        }
    }
    storage.conflicts
}

fn a_name_never_gets_a_second_content(lab: Lab) {
    assert_eq!(fork(&lab, ["a", "b", "c"]), BTreeSet::new());
    // What instances are for: without them it goes wrong.
    assert!(!fork(&lab, ["d", "e", "e"]).is_empty());
}

fn a_job_of_its_own_gives_restored_files_names_of_its_own(lab: Lab) {
    let (mut tree, mut dice) = (lab.open(&[]), Dice(11));
    let map = entries(&mut dice, 1000);
    put_all(&mut *tree, &map);
    let mut files = lab.checkpoint(&mut *tree);
    for file in files.iter_mut().filter(|file| file.immutable) {
        file.name = format!("mine/{}", file.local_name());
    }
    let mut restored = lab.open_as("mine", &files, Expiry::never()).unwrap();
    assert_eq!(all(&*restored), map);
    put(&mut *restored, "k", "v");
    let next = lab.checkpoint(&mut *restored);
    let tables: Vec<&LsmFile> = next.iter().filter(|file| file.immutable).collect();
    assert!(tables.len() > 1 && tables.iter().all(|file| file.name.starts_with("mine/")));
    assert_eq!(all(&*lab.open(&next)).len(), map.len() + 1);
}

fn damaged_files_are_noticed(lab: Lab) {
    let (mut tree, mut dice) = (lab.open(&[]), Dice(13));
    put_all(&mut *tree, &entries(&mut dice, 1000));
    let files = lab.checkpoint(&mut *tree);
    let table = files.iter().position(|file| file.immutable).unwrap();
    let name = files[table].name.clone();
    let local = files[table].local_name().to_owned();
    let content = files[table].read().unwrap();
    let with = |content: Option<&[u8]>| {
        let mut files = files.clone();
        match content {
            None => drop(files.remove(table)),
            Some(content) => files[table].content = Content::Memory(content.into()),
        }
        // Not the engine that wrote it: that has the blocks in its cache.
        let (dir, expiry) = (lab.place(), Expiry::never());
        let tree = (lab.make)().open(Open { dir: &dir, instance: "x", files: &files, expiry })?;
        tree.scan(&[], None, &mut |_, _| Ok(ControlFlow::Continue(())))
    };
    with(Some(&content)).unwrap();
    for short in [&content[..content.len() - 1], &[]] {
        assert!(with(Some(short)).unwrap_err().to_string().contains(&name));
    }
    assert!(with(None).unwrap_err().to_string().contains(&local));
    let mut flipped = content.to_vec();
    flipped[content.len() / 3] ^= 4;
    assert!(with(Some(&flipped)).unwrap_err().to_string().contains(&local));

    let none: Vec<LsmFile> = files.iter().filter(|file| file.immutable).cloned().collect();
    assert!(lab.open_as("x", &none, Expiry::never()).is_err());
    let mut gone = files.clone();
    gone[table].content = Content::File(lab.place());
    assert!(lab.open_as("x", &gone, Expiry::never()).err().unwrap().to_string().contains(&name));
    let twice = [&files[..], &[LsmFile { name: format!("y/{local}"), ..files[table].clone() }]];
    assert!(lab.open_as("x", &twice.concat(), Expiry::never()).is_err());
}

fn names_of_instances_are_plain(lab: Lab) {
    for instance in ["", "a/b", "..", "ä"] {
        assert!(lab.open_as(instance, &[], Expiry::never()).is_err(), "{instance}");
    }
}

fn its_size_is_known(lab: Lab) {
    let (mut tree, mut dice) = (lab.open(&[]), Dice(17));
    let map = entries(&mut dice, 2000);
    put_all(&mut *tree, &map);
    assert!(tree.size().unwrap().memory_bytes > 0);
    tree.compact().unwrap();
    let size = tree.size().unwrap();
    assert_eq!(size.n_keys, map.len() as u64);
    let files = lab.checkpoint(&mut *tree);
    let tables = files.iter().filter(|file| file.immutable);
    assert_eq!(size.n_files, tables.clone().count() as u64);
    assert_eq!(size.file_bytes, tables.map(|file| file.bytes).sum::<u64>());
}

/// All of them, for one engine.
macro_rules! trees {
    ($name:ident, $engine:expr, [$($test:ident),* $(,)?]) => {
        mod $name {
            use super::*;

            $(#[test]
            fn $test() {
                super::$test(Lab::new(|| Box::new($engine)));
            })*
        }
    };
}

macro_rules! all_trees {
    ($name:ident, $engine:expr) => {
        trees!(
            $name,
            $engine,
            [
                random_operations_give_what_a_map_gives,
                a_scan_ends_where_it_is_told_to,
                a_checkpoint_holds_what_was_written_before_it,
                an_empty_tree_has_a_checkpoint_too,
                nothing_is_written_until_the_checkpoint_is_done,
                expired_entries_go_when_they_are_compacted,
                a_second_checkpoint_brings_only_what_is_new,
                a_name_never_gets_a_second_content,
                a_job_of_its_own_gives_restored_files_names_of_its_own,
                damaged_files_are_noticed,
                names_of_instances_are_plain,
                its_size_is_known,
            ]
        );
    };
}

all_trees!(model, ModelEngine::new(20_000));
#[cfg(feature = "rocksdb")]
all_trees!(rocks, RocksEngine::new(&MemoryBudget::new(8 << 20), 2));

/// A tree of the model that has several runs, and a checkpoint of it.
fn modelled(engine: &ModelEngine) -> (Box<dyn Lsm>, Vec<LsmFile>) {
    let (mut tree, mut dice) = (reopened(engine, &[]).unwrap(), Dice(19));
    put_all(&mut *tree, &entries(&mut dice, 3000));
    put(&mut *tree, "k", "v");
    let files = tree.cut(Path::new("nowhere")).unwrap().run().unwrap();
    (tree, files)
}

fn reopened(engine: &ModelEngine, files: &[LsmFile]) -> Result<Box<dyn Lsm>> {
    let (dir, expiry) = (Path::new("nowhere"), Expiry::never());
    engine.open(Open { dir, instance: "i", files, expiry })
}

#[test]
fn the_model_does_the_same_every_time() {
    let (_, once) = modelled(&ModelEngine::new(10_000));
    let (_, again) = modelled(&ModelEngine::new(10_000));
    assert!(once.len() > 2, "several runs were expected");
    assert_eq!(once, again);
    assert_ne!(once, modelled(&ModelEngine::new(11_000)).1);
}

#[test]
fn the_model_fails_as_a_damaged_disk_does() {
    for damage in [Damage::Lost, Damage::Flipped] {
        let engine = ModelEngine::new(10_000);
        let (mut tree, good) = modelled(&engine);
        let name = good.iter().find(|file| file.immutable).unwrap().name.clone();
        let named = |e: Error| assert!(e.to_string().contains(&name), "{e}");
        engine.damage(&name, damage);
        named(tree.scan(b"", None, &mut |_, _| panic!("an entry")).unwrap_err());
        named(tree.get(b"neither", &mut Vec::new()).unwrap_err());
        named(reopened(&engine, &good).err().unwrap());
        let cut = tree.cut(Path::new("nowhere")).unwrap().run();
        match damage {
            Damage::Lost => named(cut.unwrap_err()),
            Damage::Flipped => {
                let bad = cut.unwrap();
                assert_ne!(bad, good);
                named(reopened(&ModelEngine::new(10_000), &bad).err().unwrap());
            }
        }
    }
}

#[test]
fn what_is_written_during_a_cut_is_in_it_if_it_is_admitted() {
    let engine = ModelEngine::new(10_000);
    let (mut tree, _) = modelled(&engine);
    engine.admit_writes_during_cuts();
    let cut = tree.cut(Path::new("nowhere")).unwrap();
    put(&mut *tree, "k", "too late");
    let restored = reopened(&engine, &cut.run().unwrap()).unwrap();
    assert_eq!(get(&*restored, "k").unwrap(), "too late");
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_wants_a_folder_of_its_own() {
    let engine = RocksEngine::new(&MemoryBudget::new(8 << 20), 2);
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        engine.open(Open { dir: dir.path(), instance: "i", files: &[], expiry: Expiry::never() })
    };
    drop(open().unwrap());
    assert!(open().err().unwrap().to_string().contains("is not empty"));
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_writes_no_log() {
    let lab = Lab::new(|| Box::new(RocksEngine::new(&MemoryBudget::new(8 << 20), 2)));
    let mut tree = lab.open(&[]);
    put(&mut *tree, "k", "v");
    let files = std::fs::read_dir(lab.dir.path().join("1")).unwrap().map(|file| file.unwrap());
    let logs = files.filter(|file| file.path().extension().is_some_and(|end| end == "log"));
    let sizes: Vec<u64> = logs.map(|log| log.metadata().unwrap().len()).collect();
    assert_eq!(sizes, [0]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_keeps_to_its_budget() {
    let budget = MemoryBudget::new(16 << 20);
    let engine = RocksEngine::new(&budget, 2);
    let dir = tempfile::tempdir().unwrap();
    let open = |instance: &str| {
        let dir = dir.path().join(instance);
        engine.open(Open { dir: &dir, instance, files: &[], expiry: Expiry::never() }).unwrap()
    };
    let mut trees = [open("a"), open("b")];
    let empty = engine.memory_bytes();
    trees[0].write(&mut [Op::Put(&[], &[0; 600 << 10])].into_iter()).unwrap();
    assert!(engine.memory_bytes() > empty + (500 << 10), "what is written does not count");
    trees[0].write(&mut [Op::Delete(&[])].into_iter()).unwrap();

    let mut most = 0;
    for n in 0..1500u64 {
        for tree in &mut trees {
            // 16 MiB in each, ten times what memory may hold of it, which does not compress away.
            let mut dice = Dice(n + 1);
            let value: Vec<u8> = (0..11_000).map(|_| dice.below(256) as u8).collect();
            let key = dice.below(u64::MAX).to_be_bytes();
            tree.write(&mut [Op::Put(&key, &value)].into_iter()).unwrap();
            assert!(tree.get(&key, &mut Vec::new()).unwrap());
        }
        most = most.max(engine.memory_bytes());
    }
    let files: u64 = trees.iter().map(|tree| tree.size().unwrap().file_bytes).sum();
    assert!(files > 24 << 20, "{files} bytes in files are too few to tell");
    trees.iter().for_each(|tree| assert_eq!(all(&**tree).len(), 1500));
    let limit = budget.block_cache_bytes() + budget.memtable_bytes();
    assert!(engine.memory_bytes() > limit / 2, "what was read does not count");
    most = most.max(engine.memory_bytes());
    assert!(most <= limit + limit / 16, "{most} bytes of {limit}");
}

#[test]
fn a_prefix_ends_before_the_next() {
    assert_eq!(end_of_prefix(b"a").unwrap(), b"b");
    assert_eq!(end_of_prefix(&[1, 255, 255]).unwrap(), [2]);
    assert_eq!(end_of_prefix(&[255, 255]), None);
    assert_eq!(end_of_prefix(&[]), None);
}
