//! Programs that change while their state stays: what a savepoint holds in the shape of an earlier release is
//! read as the types of this one, or refused with both shapes shown.
//!
//! Two releases of a program are two modules with a type of the same name. The job of the first fills its state
//! and is stopped with a savepoint; the job of the second goes on from it and shows what it finds.

use super::{Way, until};
use millstream::prelude::*;
use millstream::state::schema::{Schema, Shape, StateSchema, Stored};
use millstream_tests::crash::BACKENDS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

const N: u64 = 20_000;
const N_KEYS: u64 = 8;

/// What a release keeps of every key.
trait Kept: Data + Clone + PartialEq + Debug {
    const STATE: ValueState<Self> = ValueState::new("kept");
    fn of(key: u64) -> Self;
}

/// Keeps a value of every key from its first record on, and shows with every record what was kept before it.
struct Keeper<V>(PhantomData<fn() -> V>);

impl<V> Clone for Keeper<V> {
    fn clone(&self) -> Self {
        Keeper(PhantomData)
    }
}

impl<K: Key + Copy + Into<u64>, V: Kept> KeyedProcessFunction<K, u64> for Keeper<V> {
    type Out = (u64, Option<V>);
    const STATES: StateSet<K> = states![V::STATE];

    fn process(
        &mut self,
        _: u64,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let key = (*ctx.key()).into();
        let mut kept = ctx.state(&V::STATE);
        out.emit((key, kept.get().cloned()));
        kept.or_insert_with(|| V::of(key));
        Ok(())
    }
}

fn environment(dir: &Path, backend: &str, more: &[(&str, &str)]) -> Environment {
    let way = Way { driver: "cooperative", batch_size: 7, parallelism: 2, chaining: true };
    let dir = dir.display().to_string();
    let mut settings = vec![
        ("checkpoint-dir", dir.as_str()),
        ("restart-strategy", "none"),
        ("state-backend", backend),
        ("state-memory", "4 KiB"),
    ];
    settings.extend(more);
    way.environment_with(&settings)
}

/// Runs the first release until all keys are kept, and stops it with a savepoint.
fn save<K, O, F>(dir: &Path, backend: &str, key: fn(&u64) -> K, release: F) -> Result<PathBuf>
where
    K: Key,
    O: Data,
    F: KeyedProcessFunction<K, u64, Out = O> + Sync,
{
    let env = environment(&dir.join("first"), backend, &[]);
    // So few a second that they last longer than anybody here waits.
    env.source(Generator::new(N, |i| i).rate(300), Watermarks::none())
        .uid("numbers")
        .key_by(key)
        .process(release)
        .uid("keeper")
        .discard();
    let job = env.execute_async("first")?;
    until("every key had a record", || job.status().records > 10 * N_KEYS);
    let savepoint = job.stop_with_savepoint(dir.join("savepoints"), false);
    if savepoint.is_err() {
        job.cancel();
    }
    job.wait()?;
    savepoint
}

/// Runs the second release from a savepoint: what it shows.
fn go_on<K, O, F>(
    (dir, backend): (&Path, &str),
    savepoint: &Path,
    key: fn(&u64) -> K,
    release: F,
) -> Result<Vec<O>>
where
    K: Key,
    O: Data,
    F: KeyedProcessFunction<K, u64, Out = O> + Sync,
{
    let savepoint = savepoint.display().to_string();
    let env = environment(&dir.join("second"), backend, &[("restore", &savepoint)]);
    env.source(Generator::new(N, |i| i).rate(1_000_000), Watermarks::none())
        .uid("numbers")
        .key_by(key)
        .process(release)
        .uid("keeper")
        .execute_and_collect("second")
}

fn key(n: &u64) -> u64 {
    n % N_KEYS
}

/// What the second release finds of the first one's state.
fn found<Old: Kept, New: Kept>(backend: &str) -> Result<BTreeMap<u64, New>> {
    let dir = tempfile::tempdir().unwrap();
    let savepoint = save(dir.path(), backend, key, Keeper::<Old>(PhantomData)).unwrap();
    let shown = go_on((dir.path(), backend), &savepoint, key, Keeper::<New>(PhantomData))?;
    let mut found = BTreeMap::new();
    for (key, kept) in shown {
        let kept = kept.expect("every key was kept before the savepoint");
        if let Some(before) = found.insert(key, kept.clone()) {
            assert_eq!(before, kept, "key {key}");
        }
    }
    assert_eq!(found.len() as u64, N_KEYS);
    Ok(found)
}

fn refusal<Old: Kept, New: Kept>(backend: &str) -> String {
    found::<Old, New>(backend).expect_err("this is no compatible change").to_string()
}

mod first {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Account {
        pub(super) owner: String,
        pub(super) balance: i32,
        pub(super) note: String,
        pub(super) tier: Tier,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Tier {
        Basic,
        Paid { cents: u16 },
    }

    impl Kept for Account {
        fn of(key: u64) -> Self {
            let tier =
                if key.is_multiple_of(2) { Tier::Basic } else { Tier::Paid { cents: key as u16 } };
            Account {
                owner: format!("user {key}"),
                balance: -(key as i32),
                note: "to be forgotten".into(),
                tier,
            }
        }
    }

    impl Kept for u64 {
        fn of(key: u64) -> Self {
            key * 60
        }
    }
}

mod second {
    use super::*;

    /// A field is gone, two are new, two are wider or have another name, and their order has changed.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Account {
        pub(super) tier: Tier,
        #[serde(default = "one")]
        pub(super) n_cards: u32,
        pub(super) balance: i64,
        #[serde(alias = "owner")]
        pub(super) holder: String,
        pub(super) closed: Option<String>,
    }

    fn one() -> u32 {
        1
    }

    /// A variant is new, and stands before the others.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Tier {
        Trial,
        Paid { cents: u32 },
        Basic,
    }

    impl Kept for Account {
        fn of(_: u64) -> Self {
            Account {
                tier: Tier::Trial,
                n_cards: 0,
                balance: 0,
                holder: String::new(),
                closed: None,
            }
        }
    }

    /// Minutes, which were seconds before.
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Minutes(pub(super) u64);

    impl Kept for Minutes {
        const STATE: ValueState<Self> = ValueState::new("kept").schema(
            Schema::recorded()
                .version(1)
                .migrate(|old: &mut Stored<'_>| Ok(Minutes(old.read::<u64>()? / 60))),
        );
        fn of(_: u64) -> Self {
            Minutes(u64::MAX)
        }
    }

    impl Kept for String {
        fn of(_: u64) -> Self {
            "new".into()
        }
    }
}

#[test]
fn fields_and_variants_are_found_again_by_name() {
    let found = |backend: &&str| found::<first::Account, second::Account>(backend).unwrap();
    for (key, account) in BACKENDS.iter().flat_map(found) {
        let tier = if key.is_multiple_of(2) {
            second::Tier::Basic
        } else {
            second::Tier::Paid { cents: key as u32 }
        };
        let expected = second::Account {
            tier,
            n_cards: 1,
            balance: -(key as i64),
            holder: format!("user {key}"),
            closed: None,
        };
        assert_eq!(account, expected);
    }
}

#[test]
fn what_names_do_not_say_is_migrated_by_the_program() {
    let found = |backend: &&str| found::<u64, second::Minutes>(backend).unwrap();
    for (key, minutes) in BACKENDS.iter().flat_map(found) {
        assert_eq!(minutes, second::Minutes(key));
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_both_shapes() {
    for backend in BACKENDS {
        let refusal = refusal::<first::Account, String>(backend);
        let parts =
            ["operator `process", "state `kept`", "balance: i32", "Now (version 0):\nString"];
        for part in parts {
            assert!(refusal.contains(part), "{backend}: `{part}` is not in: {refusal}");
        }
    }
}

#[test]
fn a_key_may_not_change() {
    for backend in BACKENDS {
        let dir = tempfile::tempdir().unwrap();
        let savepoint = save(dir.path(), backend, key, Keeper::<u64>(PhantomData)).unwrap();
        let narrow = |n: &u64| (n % N_KEYS) as u32;
        let release = Keeper::<u64>(PhantomData);
        let refused = go_on((dir.path(), backend), &savepoint, narrow, release);
        let refusal = refused.unwrap_err().to_string();
        assert!(refusal.contains("Written:\nu64\nNow:\nu32"), "{backend}: {refusal}");
    }
}

/// Keeps the values of every key in a list and in a map.
struct Collecting<V>(PhantomData<fn() -> V>);

impl<V> Clone for Collecting<V> {
    fn clone(&self) -> Self {
        Collecting(PhantomData)
    }
}

impl<V: Kept> Collecting<V> {
    const LIST: ListState<V> = ListState::new("list");
    const MAP: MapState<u16, V> = MapState::new("map");
}

impl<V: Kept> KeyedProcessFunction<u64, u64> for Collecting<V> {
    type Out = (u64, Vec<V>, Vec<V>);
    const STATES: StateSet<u64> = states![Self::LIST, Self::MAP];

    fn process(
        &mut self,
        _: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let (mut list, mut map) = (ctx.state(&Self::LIST), ctx.state(&Self::MAP));
        let key = *ctx.key();
        let in_map = [0, 1].iter().filter_map(|at| map.get(at).cloned()).collect();
        out.emit((key, list.get().to_vec(), in_map));
        if list.get().is_empty() {
            list.set(vec![V::of(key), V::of(key + 1)]);
            map.insert(0, V::of(key));
            map.insert(1, V::of(key + 1));
        }
        Ok(())
    }
}

#[test]
fn elements_of_lists_and_values_of_maps_migrate_as_values_do() {
    let shown = |backend: &&str| {
        let dir = tempfile::tempdir().unwrap();
        let first = Collecting::<first::Account>(PhantomData);
        let savepoint = save(dir.path(), backend, key, first).unwrap();
        let second = Collecting::<second::Account>(PhantomData);
        let shown = go_on((dir.path(), backend), &savepoint, key, second).unwrap();
        assert!(!shown.is_empty());
        shown
    };
    for (key, list, map) in BACKENDS.iter().flat_map(shown) {
        let holders = |kept: &[second::Account]| -> Vec<String> {
            kept.iter().map(|account| account.holder.clone()).collect()
        };
        let expected = [format!("user {key}"), format!("user {}", key + 1)];
        assert_eq!(holders(&list), expected);
        assert_eq!(holders(&map), expected);
    }
}

/// Refuses every text that is not of its kind, so that none can be made up to record it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Code<const DECLARED: bool>(u64);

impl<const DECLARED: bool> TryFrom<String> for Code<DECLARED> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let code = text.strip_prefix("code-").and_then(|code| code.parse().ok());
        code.map(Code).ok_or_else(|| format!("`{text}` is not a code"))
    }
}

impl<const DECLARED: bool> From<Code<DECLARED>> for String {
    fn from(code: Code<DECLARED>) -> String {
        format!("code-{}", code.0)
    }
}

impl<const DECLARED: bool> StateSchema for Code<DECLARED> {
    fn shape() -> Shape {
        Shape::Text
    }
}

impl<const DECLARED: bool> Kept for Code<DECLARED> {
    const STATE: ValueState<Self> = if DECLARED {
        ValueState::new("kept").schema(Schema::declared())
    } else {
        ValueState::new("kept")
    };
    fn of(key: u64) -> Self {
        Code(key)
    }
}

#[test]
fn what_cannot_be_recorded_is_refused_when_there_are_checkpoints() {
    fn job(env: &Environment) -> DataStream<(u64, Option<Code<false>>)> {
        let numbers = env.from_iter(|| 0..3u64);
        numbers.key_by(|n| *n).process(Keeper::<Code<false>>(PhantomData)).name("keeper")
    }
    let dir = tempfile::tempdir().unwrap();
    let refused = job(&environment(dir.path(), "memory", &[])).execute_and_collect("job");
    let refusal = refused.unwrap_err().to_string();
    for part in ["operator `keeper`", "state `kept`", "Code<false>", "implement `StateSchema`"] {
        assert!(refusal.contains(part), "`{part}` is not in: {refusal}");
    }
    // Without checkpoints nobody asks.
    assert_eq!(job(&Environment::local()).execute_and_collect("job").unwrap().len(), 3);
}

#[test]
fn what_says_its_shape_itself_is_kept() {
    for (key, code) in BACKENDS.iter().flat_map(|b| found::<Code<true>, Code<true>>(b).unwrap()) {
        assert_eq!(code, Code(key));
    }
}

/// Written without the field that it is read with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sparse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    key: u64,
}

impl Kept for Sparse {
    fn of(key: u64) -> Self {
        Sparse { note: None, key }
    }
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let failed = save(dir.path(), "memory", key, Keeper::<Sparse>(PhantomData));
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("skip_serializing_if"), "{error}");
}
