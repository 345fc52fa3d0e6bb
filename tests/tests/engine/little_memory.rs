//! Windows, joins and timers of far more keys than there is memory for: what lies in the store is found again when it is
//! needed, also after failures.

use super::Way;
use super::recovery::{Failing, environment};
use millstream::model::sabotage::{Bug, plant};
use millstream::prelude::*;
use millstream::testing::{Harness, Mode};
use std::sync::atomic::Ordering;

const N_KEYS: u64 = 2_000;
/// Records of each key.
const N_ROUNDS: u64 = 4;
const N: u64 = N_KEYS * N_ROUNDS;

const WAY: Way = Way { driver: "cooperative", batch_size: 64, parallelism: 2, chaining: true };
const LITTLE: [(&str, &str); 2] = [("state-backend", "rocksdb"), ("state-memory", "16 KiB")];

/// What a record takes downstream.
const SLOWLY: std::time::Duration = std::time::Duration::from_micros(20);

/// What a job reads.
struct Records<'e> {
    env: &'e Environment,
    failing: Option<Failing>,
}

impl Records<'_> {
    /// Numbers, one a millisecond; a few of them come too late.
    fn numbers(&self, is_late: fn(u64) -> bool) -> DataStream<u64> {
        let times = Watermarks::bounded(millis(1)).on(move |i: &u64| {
            let time = *i as EventTime;
            if is_late(*i) { time - N_KEYS as EventTime } else { time }
        });
        let numbers = Generator::new(N, |i| i);
        match &self.failing {
            None => self.env.source(numbers, times).parallelism(1),
            Some(failing) => {
                let numbers = self.env.source(numbers.rate(20_000), times).parallelism(1);
                numbers.map_with(failing.clone()).parallelism(1)
            }
        }
    }

    /// In one subtask up to here: what is late must not depend on who is how fast.
    fn keyed(&self, numbers: DataStream<u64>) -> KeyedStream<u64, (u64, u64)> {
        numbers.map(|i| (i % N_KEYS, i)).parallelism(1).key_by(|r| r.0)
    }

    /// Every key comes again when all others have come.
    fn rounds(&self) -> KeyedStream<u64, (u64, u64)> {
        self.keyed(self.numbers(|_| false))
    }

    /// The same, and every seventh record is one round late.
    fn late_rounds(&self) -> KeyedStream<u64, (u64, u64)> {
        self.keyed(self.numbers(|i| i % 7 == 3))
    }
}

/// Runs what `build` makes with all state in memory, with room for a few of its keys, and the same with failures: all give
/// the same.
fn gives_the_same_with_little_memory<T: Data + Ord + Clone + std::fmt::Debug>(
    build: impl Fn(&Records<'_>) -> DataStream<T>,
) -> Vec<T> {
    let run = |settings: &[(&str, &str)]| {
        let env = WAY.environment_with(settings);
        let records = Records { env: &env, failing: None };
        let mut results = build(&records).execute_and_collect("job").unwrap();
        results.sort();
        results
    };
    let plenty = run(&[]);
    assert_same(&plenty, &run(&LITTLE));

    let dir = tempfile::tempdir().unwrap();
    // And with little room behind it and somebody slow there, so that windows stop while they fire.
    let settings = [LITTLE[0], LITTLE[1], ("network-memory", "64 KiB")];
    let env = environment(WAY, &dir.path().join("checkpoints"), &settings);
    let failing = Failing::among(N, 3);
    let records = Records { env: &env, failing: Some(failing.clone()) };
    let log = dir.path().join("log");
    let slowly = |record| {
        let start = std::time::Instant::now();
        while start.elapsed() < SLOWLY {
            std::hint::spin_loop();
        }
        record
    };
    build(&records).rebalance().map(slowly).sink(LogSink::new(&log));
    env.execute("failing").unwrap();
    assert_eq!(failing.n_failed.load(Ordering::SeqCst), 3);
    let mut results = Environment::local().read_log::<T>(&log).execute_and_collect("read").unwrap();
    results.sort();
    assert_same(&plenty, &results);
    plenty
}

/// Thousands of records do not help: the first difference does.
#[track_caller]
fn assert_same<T: PartialEq + std::fmt::Debug>(expected: &[T], found: &[T]) {
    let difference = expected.iter().zip(found).find(|(a, b)| a != b);
    let lengths = (expected.len(), found.len());
    assert!(difference.is_none() && lengths.0 == lengths.1, "{difference:?} {lengths:?}");
}

#[test]
fn sessions() {
    let gap = millis(N_KEYS + 1);
    let counts = gives_the_same_with_little_memory(|records| {
        records.rounds().window(Session::gap(gap)).count()
    });
    assert_eq!(counts.len() as u64, N_KEYS);
    assert!(counts.iter().all(|(_, _, n)| *n == N_ROUNDS));
    let counts = gives_the_same_with_little_memory(|records| {
        let sessions = records.late_rounds().window(Session::gap(millis(N_KEYS / 2)));
        sessions.allowed_lateness(millis(N_KEYS * 2)).count()
    });
    assert!(counts.len() as u64 > N / 2);
}

#[test]
fn windows_with_a_trigger_and_windows_of_so_many() {
    let size = millis(N);
    gives_the_same_with_little_memory(|records| {
        let windows = records.rounds().window(Tumbling::of(size));
        windows.trigger(CountTrigger::of(3)).reduce(|a, b| (a.0, a.1 + b.1))
    });
    let pairs = gives_the_same_with_little_memory(|records| {
        records.rounds().count_window(2).reduce(|a, b| (a.0, a.1 * 10_000 + b.1))
    });
    assert_eq!(pairs.len() as u64, N / 2);
}

#[test]
fn windows_that_are_the_same_for_all_keys() {
    let size = millis(2 * N_KEYS);
    let counts = gives_the_same_with_little_memory(|records| {
        records.rounds().window(Tumbling::of(size)).count()
    });
    assert_eq!(counts.len() as u64, N / 2);
    assert!(counts.iter().all(|(_, _, n)| *n == 2));
    // Some fire again because of records that are late.
    let last = gives_the_same_with_little_memory(|records| {
        let windows = records.late_rounds().window(Tumbling::of(size));
        windows.allowed_lateness(millis(N_KEYS)).reduce(|a, b| (a.0, a.1 * 7 + b.1))
    });
    assert!(last.len() as u64 > N / 2);
}

#[test]
fn windows_that_overlap() {
    let (size, slide) = (millis(2 * N_KEYS), millis(N_KEYS / 2));
    for lateness in [millis(0), millis(N_KEYS)] {
        let windows = |records: &Records<'_>| {
            let windows = records.late_rounds().window(Sliding::of(size, slide));
            windows.allowed_lateness(lateness)
        };
        // With an inverse, without one, and without a way to merge.
        gives_the_same_with_little_memory(|records| windows(records).count());
        gives_the_same_with_little_memory(|records| windows(records).max(|r| r.1));
        gives_the_same_with_little_memory(|records| {
            windows(records).reduce(|a, b| (a.0, a.1 * 7 + b.1))
        });
    }
}

#[test]
fn joins() {
    let reach = N_KEYS as i64;
    let pairs = gives_the_same_with_little_memory(|records| {
        let joined = records.rounds().interval_join(records.rounds(), -reach, reach);
        joined.apply(|l, r| (l.0, l.1, r.1))
    });
    // Each with itself, and with those before and after it.
    assert_eq!(pairs.len() as u64, N_KEYS * (3 * N_ROUNDS - 2));
    let versions = gives_the_same_with_little_memory(|records| {
        records.rounds().temporal_join(records.rounds()).apply(|l, r| (l, r.copied()))
    });
    assert!(versions.iter().all(|(l, r)| *r == Some(*l)));
}

/// Calls back some rounds after each record, but for every fifth key only after its last.
#[derive(Clone)]
struct CallsBack;

const LAST: ValueState<EventTime> = ValueState::new("last");

impl KeyedProcessFunction<u64, (u64, u64)> for CallsBack {
    type Out = (u64, EventTime);
    const STATES: StateSet<u64> = states![LAST];

    fn process(
        &mut self,
        (key, _): (u64, u64),
        ctx: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let at = ctx.timestamp() + (N_KEYS * (1 + key % 3)) as EventTime;
        let mut last = ctx.state(&LAST);
        if let Some(last) = last.get().filter(|_| key % 5 == 0) {
            ctx.timers().delete(*last);
        }
        last.set(at);
        ctx.timers().at(at);
        ctx.timers().at(at);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        out.emit((*ctx.key(), timer.time));
        Ok(())
    }
}

#[test]
fn timers() {
    let calls = gives_the_same_with_little_memory(|records| records.rounds().process(CallsBack));
    // The next record of a key comes before the watermark reaches what the one before it has set.
    let n_called = |key: u64| if key.is_multiple_of(5) { 1 } else { N_ROUNDS };
    assert_eq!(calls.len() as u64, (0..N_KEYS).map(n_called).sum::<u64>());
}

/// Counts what it has seen of each number, in one map; now and then it forgets some, and once all.
#[derive(Clone)]
struct Remembers;

const SEEN: MapState<u64, u64> = MapState::new("seen");

impl KeyedProcessFunction<u64, (u64, u64)> for Remembers {
    type Out = (u64, u64, usize, u64);
    const STATES: StateSet<u64> = states![SEEN];

    fn process(
        &mut self,
        (number, i): (u64, u64),
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let mut seen = ctx.state(&SEEN);
        *seen.or_insert_with(number, || 0) += 1;
        if i % 16 == 5 {
            seen.remove(&(number / 2));
        }
        let mut sum = 0;
        if i % 1000 == 998 {
            seen.for_each(|_, n| {
                sum += n;
                Ok(())
            })?;
            assert_eq!(seen.iter().map(|(_, n)| n).sum::<u64>(), sum);
        }
        if i == N / 4 * 3 {
            seen.clear();
        }
        out.emit((i, seen.get(&number).copied().unwrap_or(0), seen.len(), sum));
        Ok(())
    }
}

#[test]
fn a_map_of_one_key() {
    let seen = gives_the_same_with_little_memory(|records| {
        let numbers = records.numbers(|_| false).map(|i| (i % N_KEYS, i)).parallelism(1);
        // Nearly all under one key: its map has more than ten times the memory there is.
        numbers.key_by(|r| u64::from(r.0 % 8 == 7)).process(Remembers)
    });
    assert_eq!(seen.len() as u64, N);
    let largest = seen.iter().map(|seen| seen.2).max();
    assert!(largest.is_some_and(|n| n > 1500), "{largest:?}");
}

/// Counts each key ten times, and once more while a snapshot of that is written; tells the counts that a pipeline goes on from.
fn counts_in_snapshot() -> Vec<u64> {
    const N_KEYS: u64 = 200;
    let setup = || Mode::Plain.set(LITTLE[0].0, LITTLE[0].1).set("state-memory", "1 KiB");
    let build = |input: DataStream<u64>| input.key_by(|i| i % N_KEYS).count();
    let mut harness = Harness::in_mode(setup(), build).unwrap();
    (0..10 * N_KEYS).for_each(|i| harness.element(i, 0).unwrap());
    let meanwhile = |harness: &mut Harness<u64, (u64, u64)>| {
        (0..N_KEYS).try_for_each(|i| harness.element(i, 0))
    };
    let snapshot = harness.snapshot_while(meanwhile).unwrap();
    harness.take();
    // What came meanwhile is read again.
    harness.restore(&snapshot).unwrap();
    harness.settle().unwrap();
    harness.take().into_iter().map(|(_, n)| n - 1).collect()
}

#[test]
fn what_is_written_after_a_barrier_is_not_in_the_tree_that_is_cut() {
    let counts = counts_in_snapshot();
    assert!(counts.len() == 200 && counts.iter().all(|n| *n == 10), "{counts:?}");
    // The same without what prevents it: then something would have been seen.
    let _planted = plant(Bug::WriteAfterBarrier);
    assert!(counts_in_snapshot().contains(&11));
}

/// Set for the process that does what is measured.
const HOARD: &str = "MILLSTREAM_TEST_HOARD";

/// Keeps a value of two KiB of every key.
#[derive(Clone)]
struct Hoards;

const HOARDED: ValueState<Vec<u8>> = ValueState::new("hoarded");

impl KeyedProcessFunction<u64, u64> for Hoards {
    type Out = u64;
    const STATES: StateSet<u64> = states![HOARDED];

    fn process(
        &mut self,
        i: u64,
        ctx: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        ctx.state(&HOARDED).set(vec![i as u8; 2048]);
        Ok(())
    }
}

/// The most memory that this process ever had, in bytes.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Runs in a process of its own, so that nobody else's memory counts.
#[test]
fn a_process_keeps_to_the_memory_for_its_state() {
    const BUDGET: u64 = 8 << 20;
    // What RocksDB takes for itself it has taken when there is a little more than memory for.
    const SOME: u64 = 16 << 20;
    const MUCH: u64 = 64 << 20;
    if let Ok(hoard) = std::env::var(HOARD) {
        let (backend, n_keys) = hoard.split_once(' ').unwrap();
        let n_keys: u64 = n_keys.parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let memory = format!("{BUDGET}");
        let settings = [
            ("state-backend", backend),
            ("state-memory", memory.as_str()),
            ("checkpoint-interval", "500ms"),
        ];
        let env = environment(WAY, dir.path(), &settings);
        // Every key twice: the second time what was there is taken back.
        env.generate(2 * n_keys, |i| i).key_by(move |i| i % n_keys).process(Hoards).discard();
        env.execute("hoard").unwrap();
        println!("peak {}", peak_bytes());
        return;
    }
    let peak = |backend: &str, bytes: u64| -> u64 {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "engine::little_memory::a_process_keeps_to_the_memory_for_its_state";
        command.args(["--exact", name, "--nocapture"]);
        let out = command.env(HOARD, format!("{backend} {}", bytes / 2048)).output().unwrap();
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let told = out.lines().find_map(|line| line.strip_prefix("peak ")).map(str::parse);
        told.unwrap_or_else(|| panic!("{out}")).unwrap()
    };
    let grown = |backend| peak(backend, MUCH).saturating_sub(peak(backend, SOME));
    let (in_memory, in_trees) = (grown("memory"), grown("rocksdb"));
    assert!(in_memory > (MUCH - SOME) / 4 * 3, "it is not the state that is measured: {in_memory}");
    assert!(
        in_trees < (MUCH - SOME) / 2,
        "{in_trees} bytes more, and {BUDGET} is all there may be"
    );
}
