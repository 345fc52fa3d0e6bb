//! What a job goes on from, and what it refuses to: damage, states and operators that are no more, records that were
//! under way when a barrier overtook them.

use super::recovery::{N, N_KEYS, UNHURRIED, counting, environment, last_counts};
use super::{Way, until};
use millstream::prelude::*;
use millstream::stream::Collected;
use millstream_state::snapshot::{LocalStorage, completed, tools};
use millstream_tests::crash::BACKENDS;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) fn way(parallelism: usize) -> Way {
    Way { driver: "cooperative", batch_size: 7, parallelism, chaining: true }
}

/// All that an error says, with what caused it.
pub(super) fn told(error: &Error) -> String {
    let error: &dyn std::error::Error = error;
    let all = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    all.collect::<Vec<_>>().join(": ")
}

/// The number of the newest checkpoint; 0 if there is none.
fn newest(dir: &Path) -> u64 {
    let newest = checkpoints(dir).pop();
    let folder = newest.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    folder.map_or(0, |folder| folder.split('-').nth(1).unwrap().parse().unwrap())
}

/// Runs a job until it has completed a few checkpoints more, and cancels it.
pub(super) fn run_for_a_while(env: &Environment, dir: &Path, n_checkpoints: u64) {
    let first = newest(dir);
    let job = env.execute_async("restored").unwrap();
    until("checkpoints were completed", || {
        job.status().last_checkpoint.is_some_and(|last| last >= first + n_checkpoints)
    });
    job.cancel();
    job.wait().unwrap();
}

fn expected(key: u64) -> u64 {
    (N - key).div_ceil(N_KEYS)
}

/// The folders of all checkpoints, oldest first.
pub(super) fn checkpoints(dir: &Path) -> Vec<PathBuf> {
    let folders = completed(&LocalStorage::new(dir).unwrap()).unwrap();
    folders.into_iter().map(|folder| dir.join(folder)).collect()
}

pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn older_checkpoints_are_there_when_the_newest_is_found_to_be_damaged() {
    for backend in BACKENDS {
        let dir = tempfile::tempdir().unwrap();
        let job = |rate, more: &[(&str, &str)]| {
            let mut settings = vec![
                ("state-backend", *backend),
                ("checkpoints-retained", "3"),
                ("restart-strategy", "none"),
            ];
            settings.extend(more);
            let env = environment(way(2), dir.path(), &settings);
            let counts = counting(&env, rate);
            (env, counts)
        };
        run_for_a_while(&job(UNHURRIED, &[]).0, dir.path(), 4);
        let before = checkpoints(dir.path());
        assert_eq!(before.len(), 3);
        let newest = before.last().unwrap();
        let folder = newest.file_name().unwrap().to_str().unwrap();
        let inspected = tools::inspect(&LocalStorage::new(dir.path()).unwrap(), folder).unwrap();
        assert_eq!(inspected.shared.0 > 0, *backend == "rocksdb");
        assert_eq!(inspected.to_string().contains("files of trees"), *backend == "rocksdb");
        let of_task = |path: &PathBuf| !path.ends_with("manifest");
        // A file of the tree, where there is one.
        let largest = |path: &PathBuf| (path.display().to_string().contains(".tree"), path.clone());
        let damaged = files(newest).into_iter().filter(of_task).max_by_key(largest).unwrap();
        let mut bytes = std::fs::read(&damaged).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();

        let (env, _) = job(1_000_000, &[("restore", "latest")]);
        let error = env.execute("restored").unwrap_err();
        let (told, name) = (told(&error), damaged.display().to_string());
        assert!(told.contains(&name), "{backend}: {name} in {told}");
        assert_eq!(checkpoints(dir.path()), before, "{backend}");

        let (env, counts) = job(1_000_000, &[("restore", "latest"), ("allow-older", "true")]);
        let job = env.execute_async("restored").unwrap();
        assert_eq!(job.status().passed_over, [newest.display().to_string()]);
        job.wait().unwrap();
        let last: BTreeMap<u64, u64> = counts.take().into_iter().collect();
        assert!(!last.is_empty());
        assert!(last.iter().all(|(key, n)| *n == expected(*key)), "{backend}");
    }
}

/// Called as users may call a state, and as parts of the engine must not be called.
const KEPT: ValueState<u64> = ValueState::new("input");
const DROPPED: ValueState<u64> = ValueState::new("dropped");

/// Counts in one state, or in two.
#[derive(Clone)]
struct Counting<const BOTH: bool>;

impl KeyedProcessFunction<u64, u64> for Counting<true> {
    type Out = (u64, u64, u64);
    const STATES: StateSet<u64> = states![KEPT, DROPPED];
    fn process(
        &mut self,
        _: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let count = |state: &'static ValueState<u64>| {
            let mut count = ctx.state(state);
            let count = count.or_default();
            *count += 1;
            *count
        };
        let counts = (count(&KEPT), count(&DROPPED));
        out.emit((*ctx.key(), counts.0, counts.1));
        Ok(())
    }
}

impl KeyedProcessFunction<u64, u64> for Counting<false> {
    type Out = (u64, u64, u64);
    const STATES: StateSet<u64> = states![KEPT];
    fn process(
        &mut self,
        _: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let mut count = ctx.state(&KEPT);
        let count = count.or_default();
        *count += 1;
        out.emit((*ctx.key(), *count, 0));
        Ok(())
    }
}

#[test]
fn a_state_may_go_when_that_is_allowed_and_does_not_come_back() {
    for (backend, parallelism) in BACKENDS.iter().flat_map(|b| [(b, 2), (b, 3)]) {
        let dir = tempfile::tempdir().unwrap();
        let env = |parallelism, more: &[(&str, &str)]| {
            let mut settings = vec![("state-backend", *backend), ("restart-strategy", "none")];
            settings.extend(more);
            environment(way(parallelism), dir.path(), &settings)
        };
        let numbers = |env: &Environment, rate| {
            let numbers = Generator::new(N, |i| i).rate(rate);
            env.source(numbers, Watermarks::none()).uid("numbers").key_by(|i| i % N_KEYS)
        };
        let first = env(2, &[]);
        numbers(&first, UNHURRIED).process(Counting::<true>).uid("counts").discard();
        run_for_a_while(&first, dir.path(), 3);

        let second = env(parallelism, &[("restore", "latest")]);
        numbers(&second, UNHURRIED).process(Counting::<false>).uid("counts").discard();
        let error = second.execute("restored").unwrap_err().to_string();
        assert!(error.contains("a state `dropped`"), "{backend}: {error}");
        assert!(error.contains("allow-non-restored"), "{backend}: {error}");

        let allowed = [("restore", "latest"), ("allow-non-restored", "true")];
        let second = env(parallelism, &allowed);
        numbers(&second, UNHURRIED).process(Counting::<false>).uid("counts").discard();
        run_for_a_while(&second, dir.path(), 3);

        let third = env(parallelism, &[("restore", "latest")]);
        let counted = numbers(&third, 1_000_000).process(Counting::<true>).uid("counts");
        let counted: Collected<(u64, u64, u64)> = counted.collect();
        third.execute("restored").unwrap();
        let mut rows: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for (key, kept, dropped) in counted.take() {
            rows.entry(key).or_default().push((kept, dropped));
        }
        assert!(!rows.is_empty(), "{backend}");
        for (key, rows) in rows {
            let last = *rows.last().unwrap();
            assert_eq!(last, (expected(key), rows.len() as u64), "{backend} key {key}");
        }
    }
}

#[test]
fn an_operator_may_go_when_that_is_allowed() {
    for backend in BACKENDS {
        let dir = tempfile::tempdir().unwrap();
        let job = |has_both: bool, rate, more: &[(&str, &str)]| {
            let mut settings = vec![("state-backend", *backend), ("restart-strategy", "none")];
            settings.extend(more);
            let env = environment(way(2), dir.path(), &settings);
            let numbers = Generator::new(N, |i| i).rate(rate);
            let keyed = env.source(numbers, Watermarks::none()).uid("numbers");
            if has_both {
                keyed.clone().key_by(|i| i % 3).count().uid("others").name("others").discard();
            }
            let counts = keyed.key_by(|i| i % N_KEYS).count().uid("counts").collect();
            (env, counts)
        };
        run_for_a_while(&job(true, UNHURRIED, &[]).0, dir.path(), 3);
        let (env, _) = job(false, 1_000_000, &[("restore", "latest")]);
        let error = env.execute("restored").unwrap_err().to_string();
        assert!(error.contains("uid `others`"), "{backend}: {error}");
        let allowed = [("restore", "latest"), ("allow-non-restored", "true")];
        let (env, counts) = job(false, 1_000_000, &allowed);
        env.execute("restored").unwrap();
        let last: BTreeMap<u64, u64> = counts.take().into_iter().collect();
        assert!(!last.is_empty());
        assert!(last.iter().all(|(key, n)| *n == expected(*key)), "{backend}");
    }
}

/// Runs the counting job for a while with some settings, and tells why it does not go on with others.
fn refused(first: &[(&str, &str)], second: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let env = environment(way(2), dir.path(), first);
    drop(counting(&env, UNHURRIED));
    run_for_a_while(&env, dir.path(), 3);
    let settings = [second, &[("restore", "latest"), ("restart-strategy", "none")]].concat();
    let env = environment(way(2), dir.path(), &settings);
    drop(counting(&env, 1_000_000));
    told(&env.execute("restored").unwrap_err())
}

#[test]
fn key_groups_may_not_change() {
    for backend in BACKENDS {
        let backend = ("state-backend", *backend);
        let told =
            refused(&[backend, ("max-parallelism", "64")], &[backend, ("max-parallelism", "32")]);
        let parts =
            ["operator `count` had a max parallelism of 64", "and has 32 now", "set it back"];
        for part in parts {
            assert!(told.contains(part), "{backend:?}: `{part}` is not in {told}");
        }
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_checkpoint_in_trees_is_of_their_backend_and_of_their_shapes() {
    let (memory, rocksdb) = (("state-backend", "memory"), ("state-backend", "rocksdb"));
    // So little memory that something lies in trees.
    let refused = refused(&[rocksdb, ("state-memory", "4 KiB")], &[memory]);
    assert!(refused.contains("was taken with another `state-backend`"), "{refused}");
    assert!(refused.contains("savepoint"), "{refused}");

    let dir = tempfile::tempdir().unwrap();
    let env = |more: &[(&str, &str)]| {
        let settings = [&[rocksdb, ("state-memory", "4 KiB"), ("restart-strategy", "none")], more];
        environment(way(2), dir.path(), &settings.concat())
    };
    let numbers = |env: &Environment, rate| {
        let numbers = Generator::new(N, |i| i).rate(rate);
        env.source(numbers, Watermarks::none()).uid("numbers").key_by(|i| i % N_KEYS)
    };
    let first = env(&[]);
    numbers(&first, UNHURRIED).map_with_state(|n: &mut u32, i| (i, *n)).uid("counts").discard();
    run_for_a_while(&first, dir.path(), 3);
    let second = env(&[("restore", "latest")]);
    numbers(&second, 1000).map_with_state(|n: &mut String, i| (i, n.len())).uid("counts").discard();
    let told = told(&second.execute("restored").unwrap_err());
    for part in
        ["go on from a savepoint", "Written (version 0):", "u32", "Now (version 0):", "String"]
    {
        assert!(told.contains(part), "`{part}` is not in {told}");
    }
}

/// More entries than there are channels here: those of each begin with where it stood.
const N_STANDS: u64 = 16;

/// Entries of the newest checkpoint for what was under way from or to one of these operators.
fn n_under_way(dir: &Path, operators: &[&str]) -> u64 {
    let storage = LocalStorage::new(dir).unwrap();
    let newest = completed(&storage).unwrap().pop();
    // It may be gone when it is looked at.
    let inspected = newest.and_then(|folder| tools::inspect(&storage, &folder).ok());
    let parts = inspected.into_iter().flat_map(|inspected| inspected.parts);
    let is_of = |name: &str| operators.contains(&name);
    parts
        .filter(|part| part.name.starts_with("under way: ") && is_of(&part.operator_name))
        .map(|part| part.n_entries)
        .sum()
}

#[test]
fn records_under_way_are_found_again_whatever_is_fused_and_whichever_mode_it_is() {
    // What is slow, so that records queue up before it; with one subtask the first map is fused with its source.
    #[derive(Clone, Copy, PartialEq)]
    enum Slow {
        Map,
        Count,
        Nothing,
    }
    let job = |dir: &Path, parallelism, slow: Slow, more: &[(&str, &str)]| {
        let mut settings = vec![("restart-strategy", "none"), ("checkpoints-retained", "1")];
        settings.extend(more);
        let env = environment(way(parallelism), dir, &settings);
        let wait = |is_slow: bool| {
            let n_turns = if is_slow { 20_000 } else { 0 };
            (0..n_turns).for_each(|turn| {
                std::hint::black_box(turn);
            });
        };
        let counts = env
            .source(Generator::new(N, |i| i), Watermarks::none())
            .uid("numbers")
            .parallelism(1)
            .map(move |i| {
                wait(slow == Slow::Map);
                i
            })
            .uid("map")
            .key_by(|i| i % N_KEYS)
            .count()
            .uid("counts")
            .map(move |count| {
                wait(slow == Slow::Count);
                count
            })
            .uid("shown")
            .collect();
        (env, counts)
    };
    let save = |parallelism, slow| {
        let queued: &[&str] = if slow == Slow::Map { &["numbers", "map"] } else { &["counts"] };
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let (env, _) = job(dir.path(), parallelism, slow, &[("checkpoint-mode", "unaligned")]);
            let running = env.execute_async("restored").unwrap();
            until("records were under way at a checkpoint", || {
                n_under_way(dir.path(), queued) > N_STANDS
            });
            running.cancel();
            running.wait().unwrap();
            // Another one may have been completed since.
            if n_under_way(dir.path(), queued) > N_STANDS {
                return dir;
            }
        }
        panic!("no record was ever under way at the last checkpoint");
    };
    for (before, after, slow) in
        [(1, 2, Slow::Count), (2, 3, Slow::Count), (2, 2, Slow::Map), (2, 1, Slow::Map)]
    {
        for mode in ["exactly-once", "unaligned"] {
            let dir = save(before, slow);
            let settings = [("restore", "latest"), ("checkpoint-mode", mode)];
            let (env, counts) = job(dir.path(), after, Slow::Nothing, &settings);
            let ended = env.execute("restored");
            if after == 1 {
                let error = ended.unwrap_err().to_string();
                assert!(error.contains("fused with what comes before it"), "{error}");
                continue;
            }
            ended.unwrap_or_else(|e| panic!("{before} -> {after}, {mode}: {e}"));
            let last = last_counts(counts.take());
            assert_eq!(last.len() as u64, N_KEYS);
            assert!(
                last.iter().all(|(key, n)| *n == expected(*key)),
                "{before} -> {after}, {mode}"
            );
        }
    }
}
