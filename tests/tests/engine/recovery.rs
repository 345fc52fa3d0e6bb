//! Jobs that fail and go on from their checkpoints: their results are as if nothing had happened.

use super::exactly_once::written;
use super::{Way, endless, until};
use millstream::prelude::*;
use millstream::stream::Collected;
use millstream_tests::crash::BACKENDS;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const N: u64 = 60_000;
pub(super) const N_KEYS: u64 = 501;

/// Records a second of a job that is to be stopped: with so few, `N` of them last twice as long as anybody here waits. A job
/// that only has some milliseconds more than its first checkpoint takes has ended before it is stopped, on a busy machine.
pub(super) const UNHURRIED: u64 = 500;

/// An environment that takes checkpoints into `dir`.
pub(super) fn environment(way: Way, dir: &Path, more: &[(&str, &str)]) -> Environment {
    let dir = dir.display().to_string();
    let mut settings = vec![
        ("checkpoint-dir", dir.as_str()),
        ("checkpoint-interval", "5ms"),
        ("restart-strategy", "fixed-delay 100 0ms"),
    ];
    settings.extend(more);
    way.environment_with(&settings)
}

/// The ways in which barriers travel and every record counts once.
const MODES: [(&str, &str); 4] = [
    ("checkpoint-mode", "exactly-once"),
    ("checkpoint-mode", "unaligned"),
    ("checkpoint-aligned-timeout", "0ms"),
    ("checkpoint-aligned-timeout", "1ms"),
];

/// Where state can lie in this build; little memory for the one that can do without.
fn backends() -> impl Iterator<Item = [(&'static str, &'static str); 2]> {
    BACKENDS.iter().map(|name| [("state-backend", *name), ("state-memory", "16 KiB")])
}

/// Fails so often, every so many records, in whichever subtask that happens to be.
#[derive(Clone)]
pub(super) struct Failing {
    every: u64,
    n_failures: u64,
    n_seen: Arc<AtomicU64>,
    pub(super) n_failed: Arc<AtomicU64>,
}

impl Failing {
    pub(super) fn new(n_failures: u64) -> Self {
        Failing::among(N, n_failures)
    }

    /// Among so many records.
    pub(super) fn among(n: u64, n_failures: u64) -> Self {
        let every = n / (n_failures + 1);
        Failing { every, n_failures, n_seen: Arc::default(), n_failed: Arc::default() }
    }
}

impl MapFunction<u64> for Failing {
    type Out = u64;
    fn map(&mut self, n: u64) -> Result<u64> {
        let n_seen = self.n_seen.fetch_add(1, Ordering::SeqCst) + 1;
        let n_failed = self.n_failed.load(Ordering::SeqCst);
        if n_failed < self.n_failures
            && n_seen >= (n_failed + 1) * self.every
            && self
                .n_failed
                .compare_exchange(n_failed, n_failed + 1, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        {
            return Err(Error::user("as planned"));
        }
        Ok(n)
    }
}

/// The last running count of each key: what the state holds at the end.
pub(super) fn last_counts(counts: Vec<(u64, u64)>) -> BTreeMap<u64, u64> {
    let mut last = BTreeMap::new();
    for (key, n) in counts {
        let highest = last.entry(key).or_insert(0);
        *highest = n.max(*highest);
    }
    last
}

fn expected_counts() -> BTreeMap<u64, u64> {
    (0..N_KEYS).map(|key| (key, (N - key).div_ceil(N_KEYS))).collect()
}

#[test]
fn state_counts_every_record_once_however_often_the_job_fails() {
    for (way, backend) in Way::few().flat_map(|way| backends().map(move |b| (way, b))) {
        let dir = tempfile::tempdir().unwrap();
        let env = environment(way, dir.path(), &backend);
        let failing = Failing::new(3);
        let n_failed = Arc::clone(&failing.n_failed);
        let counts = env
            .source(Generator::new(N, |i| i).rate(200_000), Watermarks::none())
            .map_with(failing)
            .key_by(|i| i % N_KEYS)
            .count()
            .uid("counts")
            .collect();
        env.execute("failing").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert_eq!(n_failed.load(Ordering::SeqCst), 3);
        assert_eq!(last_counts(counts.take()), expected_counts(), "{way:?} {backend:?}");
    }
}

/// The files in a folder and below whose paths end so.
#[cfg(feature = "rocksdb")]
fn files(dir: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let (folders, there): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| files(folder, ending));
    below
        .chain(there.into_iter().filter(|path| path.display().to_string().ends_with(ending)))
        .collect()
}

/// Fails once, as soon as there is a complete checkpoint with tables; and sees to it that nobody can read those.
#[cfg(feature = "rocksdb")]
#[derive(Clone)]
struct LosesTables {
    checkpoints: std::path::PathBuf,
    n_lost: Arc<AtomicU64>,
    /// The first number that was seen after that.
    first: Arc<AtomicU64>,
}

#[cfg(feature = "rocksdb")]
impl MapFunction<u64> for LosesTables {
    type Out = u64;
    fn map(&mut self, n: u64) -> Result<u64> {
        if self.n_lost.load(Ordering::SeqCst) > 0 {
            self.first.fetch_min(n, Ordering::SeqCst);
            return Ok(n);
        }
        // Those of a checkpoint that is not complete yet are not what a restart goes back to.
        let is_whole = |manifest: &std::path::PathBuf| {
            manifest.parent().is_some_and(|folder| !files(folder, ".sst").is_empty())
        };
        if n.is_multiple_of(64) && files(&self.checkpoints, "manifest").iter().any(is_whole) {
            // A new file in the place of the old one: a link to that is still what it was.
            for table in files(&self.checkpoints, ".sst") {
                let lost = table.with_extension("lost");
                std::fs::write(&lost, "nothing").and_then(|()| std::fs::rename(&lost, &table)).ok();
                self.n_lost.fetch_add(1, Ordering::SeqCst);
            }
            if self.n_lost.load(Ordering::SeqCst) > 0 {
                return Err(Error::user("as planned"));
            }
        }
        Ok(n)
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn tables_that_are_still_here_are_not_read_from_storage() {
    let way = Way { driver: "cooperative", batch_size: 64, parallelism: 1, chaining: true };
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = dir.path().join("checkpoints");
    let little = [("state-backend", "rocksdb"), ("state-memory", "16 KiB")];
    let env = environment(way, &checkpoints, &little);
    let (n_lost, first) = (Arc::default(), Arc::new(AtomicU64::new(u64::MAX)));
    let losing =
        LosesTables { checkpoints, n_lost: Arc::clone(&n_lost), first: Arc::clone(&first) };
    let counts = env
        .source(Generator::new(N, |i| i).rate(20_000), Watermarks::none())
        .map_with(losing)
        .key_by(|i| i % N_KEYS)
        .count()
        .collect();
    env.execute("losing").unwrap();
    assert!(n_lost.load(Ordering::SeqCst) > 0, "there were no tables to be lost");
    let first = first.load(Ordering::SeqCst);
    assert!(first > 0 && first < N, "it went on from a checkpoint: at {first}");
    assert_eq!(last_counts(counts.take()), expected_counts());
}

/// Counts numbers until the job is stopped with a savepoint; then another job goes on from it.
fn stop_and_go_on(
    (before, after): (usize, usize),
    (first, second): ([(&str, &str); 2], [(&str, &str); 2]),
) {
    let way =
        |parallelism| Way { driver: "cooperative", batch_size: 7, parallelism, chaining: true };
    let dir = tempfile::tempdir().unwrap();
    let numbers = || Generator::new(N, |i| i);
    let count = |env: &Environment, numbers| {
        env.source(numbers, Watermarks::none())
            .uid("numbers")
            .key_by(|i| i % N_KEYS)
            .count()
            .uid("counts")
            .collect()
    };
    let env = environment(way(before), &dir.path().join("first"), &first);
    let counts = count(&env, numbers().rate(UNHURRIED));
    let job = env.execute_async("first").unwrap();
    until("some records were read", || job.status().records > 100);
    let savepoint = job.stop_with_savepoint(dir.path().join("savepoints"), false).unwrap();
    job.wait().unwrap();
    let counted: u64 = last_counts(counts.take()).values().sum();
    assert!(counted > 100 && counted < N, "{counted} of {N}");

    let savepoint = savepoint.display().to_string();
    let [a, b] = second;
    let second =
        environment(way(after), &dir.path().join("second"), &[a, b, ("restore", &savepoint)]);
    let counts = count(&second, numbers());
    second.execute("second").unwrap();
    let counts = counts.take();
    assert_eq!(counts.len() as u64, N - counted, "{before} -> {after}");
    // A key may have had all of its records before.
    let expected = expected_counts();
    for (key, n) in last_counts(counts) {
        assert_eq!(n, expected[&key], "key {key}, {before} -> {after}");
    }
}

/// Takes its time, so that records queue up before it.
fn slow(n: u64) -> u64 {
    (0..200).fold(n, |n, i| std::hint::black_box(n.rotate_left(i % 7))).rotate_right(598 % 64)
}

/// Two exchanges, with late records and windows between them: every number once, in a window of ten, and the
/// late ones apart.
fn windows(env: &Environment, failing: Failing) -> (Collected<(u64, i64, u64)>, Collected<u64>) {
    const LATE: OutputTag<u64> = OutputTag::new("late");
    let times = Watermarks::bounded(millis(3)).on(|i: &u64| *i as EventTime);
    // Every hundredth is late by far.
    let is_late = |i: u64| i > 6000 && i % 100 == 99;
    let numbers = Generator::new(N, move |i| if is_late(i) { i - 5000 } else { i });
    let sums = env
        .source(numbers.rate(250_000), times)
        .uid("numbers")
        .parallelism(1)
        .rebalance()
        .map_with(failing)
        .key_by(|i| i % N_KEYS)
        .window(Tumbling::of(millis(1000)))
        .late_to(&LATE)
        .aggregate_with(Count, |key, n, ctx, out| {
            out.emit((slow(*key), ctx.window().start, *n));
            Ok(())
        })
        .uid("windows");
    let late = sums.side_output(&LATE).collect();
    (sums.collect(), late)
}

#[test]
fn a_barrier_that_overtakes_loses_nothing_and_judges_nothing_anew() {
    let run = |settings: &[(&str, &str)], failing: Failing, way: Way| {
        let dir = tempfile::tempdir().unwrap();
        let env = environment(way, dir.path(), settings);
        let (sums, late) = windows(&env, failing);
        env.execute("windows").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        // The sinks keep what they were given before a failure, too: of each window the last result counts.
        let sums: BTreeMap<_, _> =
            sums.take().into_iter().map(|(key, start, n)| ((key, start), n)).collect();
        let mut late = late.take();
        late.sort_unstable();
        late.dedup();
        (sums, late)
    };
    for way in Way::few() {
        let undisturbed = run(&[], Failing::new(0), way);
        let total: u64 = undisturbed.0.values().sum();
        assert_eq!(total + undisturbed.1.len() as u64, N);
        for mode in MODES {
            let disturbed = run(&[mode], Failing::new(3), way);
            assert_eq!(disturbed.0, undisturbed.0, "{way:?} {mode:?}");
            assert_eq!(disturbed.1, undisturbed.1, "{way:?} {mode:?}");
        }
    }
}

#[test]
fn a_job_stopped_with_a_savepoint_goes_on_from_it() {
    for parallelism in [(1, 1), (2, 2), (1, 4), (4, 3)] {
        for first in backends() {
            for second in backends() {
                stop_and_go_on(parallelism, (first, second));
            }
        }
    }
}

#[test]
fn a_cancelled_job_goes_on_from_its_last_checkpoint_with_another_parallelism() {
    for (backend, mode) in backends().flat_map(|b| MODES.map(|m| (b, m))) {
        let dir = tempfile::tempdir().unwrap();
        let way = |parallelism| Way {
            driver: "cooperative",
            batch_size: 1024,
            parallelism,
            chaining: true,
        };
        let job = |parallelism, rate, more: &[(&str, &str)]| {
            let mut settings = vec![mode];
            settings.extend(more);
            let env = environment(way(parallelism), dir.path(), &settings);
            let numbers = Generator::new(N, |i| i).rate(rate);
            let counts = env
                .source(numbers, Watermarks::none())
                .uid("numbers")
                .key_by(|i| i % N_KEYS)
                .count()
                .uid("counts")
                .collect();
            (env, counts)
        };
        let [name, memory] = backend;
        let (env, counts) = job(1, UNHURRIED, &backend);
        let running = env.execute_async("counting").unwrap();
        until("a checkpoint was completed", || running.status().last_checkpoint.is_some());
        running.cancel();
        running.wait().unwrap();
        let n_before = counts.take().len() as u64;
        for parallelism in [4, 3] {
            let (env, _) = job(parallelism, UNHURRIED, &[name, memory, ("restore", "latest")]);
            let running = env.execute_async("counting").unwrap();
            let first = running.status().last_checkpoint;
            until("a checkpoint was completed", || running.status().last_checkpoint > first);
            running.cancel();
            running.wait().unwrap();
        }
        let (env, counts) = job(2, 1_000_000, &[name, memory, ("restore", "latest")]);
        env.execute("counting").unwrap();
        let counts = counts.take();
        assert!(counts.len() as u64 <= N && n_before <= N);
        let expected = expected_counts();
        for (key, n) in last_counts(counts) {
            assert_eq!(n, expected[&key], "key {key}");
        }
    }
}

/// Key groups belong to the keyed operator, not to what is fused with it.
#[test]
fn few_key_groups_stay_few_whatever_is_fused() {
    for (before, after) in [((2, true), (3, false)), ((3, false), (2, true))] {
        let way = |(parallelism, chaining)| Way {
            driver: "cooperative",
            batch_size: 7,
            parallelism,
            chaining,
        };
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let count = |env: &Environment, rate| {
            let numbers = env.source(Generator::new(N, |i| i).rate(rate), Watermarks::none());
            let keyed = numbers.uid("numbers").key_by(|i| i % N_KEYS);
            let counts = keyed.count().uid("counts").max_parallelism(5);
            // The sink has state too, and is no keyed operator.
            counts.map(|(key, n)| key * N + n).sink(FileSink::lines(&out)).uid("files");
        };
        let env = environment(way(before), &dir.path().join("first"), &[]);
        count(&env, UNHURRIED);
        let job = env.execute_async("first").unwrap();
        until("some records were read", || job.status().records > 100);
        let savepoint = job.stop_with_savepoint(dir.path().join("savepoints"), false).unwrap();
        job.wait().unwrap();
        let savepoint = savepoint.display().to_string();
        let settings = [("restore", savepoint.as_str())];
        let env = environment(way(after), &dir.path().join("second"), &settings);
        count(&env, 1_000_000);
        env.execute("second").unwrap();
        let counts = written(&out);
        assert_eq!(counts.len() as u64, N, "{before:?} -> {after:?}");
        let counts = counts.into_iter().map(|count| (count / N, count % N)).collect();
        assert_eq!(last_counts(counts), expected_counts(), "{before:?} -> {after:?}");
    }
}

/// Runs a job with checkpoints in `dir` for a while; where the savepoint is that it was stopped with, and how many
/// records it had counted then.
fn stopped(dir: &Path) -> (std::path::PathBuf, u64) {
    let env = environment(TWO, &dir.join("checkpoints"), &[]);
    let counts = counting(&env, UNHURRIED);
    let job = env.execute_async("first").unwrap();
    until("a checkpoint was taken", || job.status().last_checkpoint.is_some());
    let savepoint = job.stop_with_savepoint(dir.join("savepoints"), false).unwrap();
    job.wait().unwrap();
    let names = names_in(&dir.join("checkpoints"));
    assert!(names.iter().any(|name| name.starts_with("chk-")), "no checkpoint before: {names:?}");
    (savepoint, counts.take().len() as u64)
}

const TWO: Way = Way { driver: "cooperative", batch_size: 7, parallelism: 2, chaining: true };

pub(super) fn counting(env: &Environment, rate: u64) -> Collected<(u64, u64)> {
    env.source(Generator::new(N, |i| i).rate(rate), Watermarks::none())
        .uid("numbers")
        .key_by(|i| i % N_KEYS)
        .count()
        .uid("counts")
        .collect()
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn the_newest_is_the_savepoint_that_the_job_was_stopped_with() {
    let dir = tempfile::tempdir().unwrap();
    let (_, counted) = stopped(dir.path());
    let env = environment(TWO, &dir.path().join("checkpoints"), &[("restore", "latest")]);
    let counts = counting(&env, 1_000_000);
    env.execute("second").unwrap();
    assert_eq!(counts.take().len() as u64, N - counted);
    // It is not in the way of the checkpoints that came after it.
    let names = names_in(&dir.path().join("checkpoints"));
    assert!(names.iter().all(|name| !name.starts_with("stopped-")), "{names:?}");
}

#[test]
fn a_savepoint_that_is_gone_is_not_replaced_by_an_older_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (savepoint, counted) = stopped(dir.path());
    let elsewhere = dir.path().join("elsewhere");
    std::fs::rename(&savepoint, &elsewhere).unwrap();
    let env = environment(TWO, &dir.path().join("checkpoints"), &[("restore", "latest")]);
    let counts = counting(&env, 1_000_000);
    let error = env.execute("second").unwrap_err().to_string();
    assert!(error.contains(&savepoint.display().to_string()), "{error}");
    assert!(counts.take().is_empty());

    std::fs::rename(&elsewhere, &savepoint).unwrap();
    let env = environment(TWO, &dir.path().join("checkpoints"), &[("restore", "latest")]);
    let counts = counting(&env, 1_000_000);
    env.execute("third").unwrap();
    assert_eq!(counts.take().len() as u64, N - counted);
}

#[test]
fn a_savepoint_is_the_users_unless_the_job_claims_it() {
    let way = Way { driver: "cooperative", batch_size: 1024, parallelism: 2, chaining: true };
    for backend in backends() {
        let dir = tempfile::tempdir().unwrap();
        let count = |env: &Environment, n: u64, rate: u64| {
            let numbers = Generator::new(n, |i| i).rate(rate);
            let keyed = env.source(numbers, Watermarks::none()).uid("numbers").key_by(|i| i % 7);
            keyed.count().uid("counts").discard();
        };
        let env = environment(way, &dir.path().join("first"), &backend);
        count(&env, N, UNHURRIED);
        let job = env.execute_async("first").unwrap();
        let savepoint = job.savepoint(dir.path().join("savepoints")).unwrap();
        job.cancel();
        job.wait().unwrap();
        let place = savepoint.display().to_string();
        for (name, mode) in [("second", "no-claim"), ("third", "claim")] {
            let [a, b] = backend;
            let settings = [a, b, ("restore", place.as_str()), ("restore-mode", mode)];
            let env = environment(way, &dir.path().join(name), &settings);
            count(&env, N, 1_000_000);
            env.execute(name).unwrap();
            assert_eq!(savepoint.join("manifest").exists(), mode == "no-claim");
        }
        let left = std::fs::read_dir(&savepoint).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing is left of what was claimed");
    }
}

#[test]
fn without_a_folder_there_is_no_savepoint() {
    let env = Environment::local();
    endless(&env).discard();
    let job = env.execute_async("endless").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let error = job.savepoint(dir.path()).unwrap_err().to_string();
    assert!(error.contains("set `checkpoint-dir`"), "{error}");
    job.cancel();
    job.wait().unwrap();
}

#[test]
fn a_job_fails_for_good_when_it_fails_too_often() {
    // With the failures that each bears.
    let strategies = [
        ("none", 0),
        ("fixed-delay 2 1ms", 2),
        ("failure-rate 2 1h 1ms", 2),
        ("failure-rate 1 1h 0s", 1),
    ];
    for (strategy, n_borne) in strategies {
        for n_failures in [n_borne, n_borne + 1] {
            let dir = tempfile::tempdir().unwrap();
            let env = environment(TWO, dir.path(), &[("restart-strategy", strategy)]);
            let failing = Failing::new(n_failures);
            let numbers = env.source(Generator::new(N, |i| i).rate(500_000), Watermarks::none());
            let counts = numbers.map_with(failing).key_by(|i| i % N_KEYS).count().collect();
            let ended = env.execute("failing");
            let what = format!("{strategy} with {n_failures} failures");
            match ended {
                Ok(_) => {
                    assert_eq!(n_failures, n_borne, "{what}");
                    assert_eq!(last_counts(counts.take()), expected_counts(), "{what}");
                }
                Err(error) => {
                    assert_eq!(n_failures, n_borne + 1, "{what}: {error}");
                    assert!(error.to_string().contains("as planned"), "{what}: {error}");
                }
            }
        }
    }
}
