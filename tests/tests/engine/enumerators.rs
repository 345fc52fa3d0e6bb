//! Sources whose splits are not all known at the start: every split is read once, whatever happens to the job.

use super::exactly_once::{assert_each_once, written};
use super::recovery::{Failing, UNHURRIED, environment};
use super::{Way, gives, until};
use millstream::model::Batch;
use millstream::prelude::*;
use millstream::runtime::source::{
    Assignments, Enumeration, EnumeratorContext, ReadStatus, Source, SplitContext, SplitEnumerator,
    SplitReader,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The numbers below `n`, a hundred to a split; splits are found one by one, with or without an end.
#[derive(Clone)]
struct Hundreds {
    n: u64,
    is_bounded: bool,
}

const NEXT: OperatorListState<u64> = OperatorListState::split("next");

struct Finder(Hundreds);

impl SplitEnumerator<(u64, u64)> for Finder {
    fn states(&self) -> OperatorStateSet {
        operator_states![NEXT]
    }

    fn poll(
        &mut self,
        context: &EnumeratorContext<'_>,
        out: &mut Assignments<(u64, u64)>,
    ) -> Result<Enumeration> {
        let mut next = context.state(&NEXT);
        let from = next.pop().unwrap_or(0);
        let to = (from + 100).min(self.0.n);
        if from < to {
            out.assign((from, to));
        }
        next.push(to);
        Ok(match self.0.is_bounded {
            _ if to < self.0.n => Enumeration::More,
            true => Enumeration::End,
            false => Enumeration::Wait { until_us: EventTime::MAX },
        })
    }
}

struct Range(u64, u64);

impl SplitReader<u64, (u64, u64)> for Range {
    fn read(&mut self, out: &mut Batch<u64>) -> Result<ReadStatus> {
        let end = (self.0 + 7).min(self.1);
        out.values.extend(self.0..end);
        self.0 = end;
        Ok(if end == self.1 { ReadStatus::End } else { ReadStatus::More })
    }

    fn split(&self) -> (u64, u64) {
        (self.0, self.1)
    }
}

impl Source for Hundreds {
    type Out = u64;
    type Split = (u64, u64);

    fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    fn discover(&self, _: usize) -> Result<Vec<(u64, u64)>> {
        Err(Error::internal("a source with an enumerator has its splits from there"))
    }

    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator<(u64, u64)>>> {
        Some(Box::new(Finder(self.clone())))
    }

    fn open(
        &self,
        (from, to): (u64, u64),
        _: &SplitContext,
    ) -> Result<Box<dyn SplitReader<u64, (u64, u64)>>> {
        Ok(Box::new(Range(from, to)))
    }
}

#[test]
fn a_bounded_enumerator_ends_the_job_when_everything_is_read() {
    for n in [0, 1, 2_345] {
        gives(0..n, |env| env.source(Hundreds { n, is_bounded: true }, Watermarks::none()));
    }
}

#[test]
fn event_time_passes_through_readers_with_and_without_splits() {
    // The third reader of five never has one, and time is at its end all the same.
    gives([(0, 100), (100, 100), (200, 3)], |env| {
        let times = Watermarks::bounded(millis(7)).on(|n: &u64| *n as EventTime);
        env.source(Hundreds { n: 203, is_bounded: true }, times)
            .key_by(|_| ())
            .window(Tumbling::of(millis(100)))
            .aggregate_with(Count, |_, n, ctx, out| {
                out.emit((ctx.window().start, *n));
                Ok(())
            })
    });
}

/// Where barriers overtake, where they wait, and where nobody waits for them.
const MODES: [(&str, &str); 3] = [
    ("checkpoint-mode", "exactly-once"),
    ("checkpoint-mode", "unaligned"),
    ("checkpoint-aligned-timeout", "0ms"),
];

#[test]
fn every_split_is_read_once_however_often_the_job_fails() {
    const N: u64 = 20_000;
    for (way, mode) in Way::few().flat_map(|way| MODES.map(|mode| (way, mode))) {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let env = environment(way, &dir.path().join("checkpoints"), &[mode]);
        let failing = Failing::among(N, 3);
        let n_failed = Arc::clone(&failing.n_failed);
        // The enumerator has ended long before the readers have.
        let numbers = Paced::new(Hundreds { n: N, is_bounded: true }, 100_000);
        env.source(numbers, Watermarks::none())
            .uid("numbers")
            .map_with(failing)
            .rebalance()
            .sink(FileSink::lines(&out))
            .uid("files");
        env.execute("failing").unwrap_or_else(|e| panic!("{way:?} {mode:?}: {e}"));
        assert_eq!(n_failed.load(Ordering::SeqCst), 3);
        assert_each_once(written(&out), N, (way, mode));
    }
}

/// A folder into which files of numbers are moved.
struct Incoming {
    dir: PathBuf,
    n_files: u64,
}

const LINES_PER_FILE: u64 = 500;

impl Incoming {
    fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        Incoming { dir: dir.to_owned(), n_files: 0 }
    }

    /// Files appear whole, in folders that may be new, with numbers that follow those of the file before.
    fn add(&mut self, n_files: u64) {
        for file in self.n_files..self.n_files + n_files {
            let first = file * LINES_PER_FILE;
            let lines: String = (first..first + LINES_PER_FILE).map(|n| format!("{n}\n")).collect();
            let folder = self.dir.join(format!("{}", file % 3));
            std::fs::create_dir_all(&folder).unwrap();
            let (hidden, path) = (folder.join(".new"), folder.join(format!("{file:05}")));
            std::fs::write(&hidden, lines).unwrap();
            std::fs::rename(hidden, path).unwrap();
        }
        self.n_files += n_files;
    }

    fn n(&self) -> u64 {
        self.n_files * LINES_PER_FILE
    }

    /// Copies the numbers in all files, also those that come, into committed ones.
    fn copy(&self, env: &Environment, rate: u64, failing: Failing, out: &Path) {
        let lines = FileSource::json_lines::<u64>(&self.dir);
        let lines = Paced::new(lines.monitor_continuously(Duration::from_millis(2)), rate);
        env.source(lines, Watermarks::none())
            .name("incoming")
            .uid("incoming")
            .map_with(failing)
            .rebalance()
            .sink(FileSink::lines(out))
            .uid("files");
    }
}

#[test]
fn a_watched_folder_is_read_once_however_often_the_job_fails() {
    const ROUNDS: u64 = 12;
    for way in Way::few() {
        let dir = tempfile::tempdir().unwrap();
        let (mut incoming, out) = (Incoming::new(&dir.path().join("in")), dir.path().join("out"));
        incoming.add(2);
        let env = environment(way, &dir.path().join("checkpoints"), &[]);
        let failing = Failing::among(ROUNDS * 2 * LINES_PER_FILE, 4);
        let n_failed = Arc::clone(&failing.n_failed);
        incoming.copy(&env, 1_000_000, failing, &out);
        let job = env.execute_async("watching").unwrap();
        for _ in 1..ROUNDS {
            // Some files come while others are read, some while nothing is left to be read.
            let n_before = incoming.n();
            until("what is there was committed", || written(&out).len() as u64 >= n_before);
            incoming.add(1);
            until("the new file is being read", || written(&out).len() as u64 > n_before);
            incoming.add(1);
        }
        let n = incoming.n();
        until("everything was committed", || written(&out).len() as u64 >= n);
        // What is there is not found again.
        let found = job.status().last_checkpoint;
        until("another checkpoint was taken", || job.status().last_checkpoint > found);
        job.cancel();
        job.wait().unwrap();
        assert_eq!(n_failed.load(Ordering::SeqCst), 4, "{way:?}");
        assert_each_once(written(&out), n, way);
    }
}

#[test]
fn a_watched_folder_goes_on_with_another_parallelism() {
    let dir = tempfile::tempdir().unwrap();
    let (mut incoming, out) = (Incoming::new(&dir.path().join("in")), dir.path().join("out"));
    let way =
        |parallelism| Way { driver: "cooperative", batch_size: 7, parallelism, chaining: true };
    let mut restored = String::new();
    for (round, parallelism) in [1, 3, 2].into_iter().enumerate() {
        incoming.add(10);
        let settings = [("restore", restored.as_str())];
        let settings = if restored.is_empty() { &[] } else { &settings[..] };
        let checkpoints = dir.path().join(format!("checkpoints-{round}"));
        let env = environment(way(parallelism), &checkpoints, settings);
        let (is_last, n_before) = (round == 2, written(&out).len() as u64);
        // A stop comes in the middle of files, some of which nobody has begun.
        let rate = if is_last { 1_000_000 } else { UNHURRIED };
        incoming.copy(&env, rate, Failing::among(incoming.n(), if is_last { 2 } else { 0 }), &out);
        let job = env.execute_async("watching").unwrap();
        until("something was committed", || written(&out).len() as u64 > n_before);
        if !is_last {
            incoming.add(2);
            let savepoint = job.stop_with_savepoint(dir.path().join("savepoints"), false).unwrap();
            job.wait().unwrap();
            assert!((written(&out).len() as u64) < incoming.n());
            restored = savepoint.display().to_string();
            continue;
        }
        let n = incoming.n();
        until("everything was committed", || written(&out).len() as u64 >= n);
        job.cancel();
        job.wait().unwrap();
    }
    assert_each_once(written(&out), incoming.n(), restored);
}

#[test]
fn a_drained_stop_brings_event_time_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let way = Way { driver: "cooperative", batch_size: 7, parallelism: 2, chaining: true };
    let env = environment(way, &dir.path().join("checkpoints"), &[]);
    let times = Watermarks::bounded(millis(7)).on(|n: &u64| *n as EventTime);
    let counts = env
        .source(Hundreds { n: 1_000, is_bounded: false }, times)
        .key_by(|_| ())
        .window(Tumbling::of(millis(1_000_000)))
        .count()
        .collect();
    let job = env.execute_async("draining").unwrap();
    until("everything was read", || job.status().records >= 1_000);
    job.stop_with_savepoint(dir.path().join("savepoints"), true).unwrap();
    job.wait().unwrap();
    assert_eq!(counts.take().into_iter().map(|(.., n)| n).collect::<Vec<_>>(), [1_000]);
}

#[test]
fn a_job_whose_source_began_without_an_enumerator_is_not_restored_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut incoming = Incoming::new(&dir.path().join("in"));
    incoming.add(4);
    let way = Way { driver: "cooperative", batch_size: 7, parallelism: 1, chaining: true };
    let env = environment(way, &dir.path().join("first"), &[]);
    let lines = FileSource::json_lines::<u64>(&incoming.dir);
    env.source(Paced::new(lines, UNHURRIED), Watermarks::none()).uid("incoming").discard();
    let job = env.execute_async("once").unwrap();
    until("something was read", || job.status().records > 10);
    let savepoint = job.stop_with_savepoint(dir.path().join("savepoints"), false).unwrap();
    job.wait().unwrap();
    let savepoint = savepoint.display().to_string();
    let more = [("restore", savepoint.as_str()), ("allow-non-restored", "true")];
    let env = environment(way, &dir.path().join("second"), &more);
    incoming.copy(&env, UNHURRIED, Failing::new(0), &dir.path().join("out"));
    let error = env.execute("watching").unwrap_err().to_string();
    assert!(error.contains("found its splits once"), "{error}");
}

#[test]
fn a_plan_shows_who_finds_the_splits() {
    let way = Way { driver: "cooperative", batch_size: 7, parallelism: 3, chaining: true };
    let env = way.environment();
    env.source(FileSource::lines("in").monitor_continuously(secs(1)), Watermarks::none())
        .map(|line| line.len() as u64)
        .discard();
    env.read_lines("once").name("lines").uid("lines").discard().parallelism(1);
    let plan = env.explain("watching", ExplainFormat::Text).unwrap();
    let expected = "\
Job `watching`: 3 vertices, 5 tasks
Input: unbounded
Guarantee: every record once in a run that finishes (no checkpoints)

[0] parallelism 1
    source: splits (enumerator)

[1] parallelism 3
    ⇐ [0] custom
    source
    map, fused
    discard (sink), fused

[2] parallelism 1
    lines (source), uid `lines`
    discard (sink), fused
";
    assert_eq!(plan, expected);
}

#[test]
fn what_is_set_for_the_source_holds_for_its_enumerator() {
    let way = Way { driver: "cooperative", batch_size: 7, parallelism: 3, chaining: true };
    let env = way.environment();
    env.source(Hundreds { n: 1, is_bounded: true }, Watermarks::none())
        .name("numbers")
        .uid("n")
        .slot_sharing_group("apart")
        .parallelism(2)
        .discard();
    let plan = env.explain("job", ExplainFormat::Text).unwrap();
    for line in [
        "[0] parallelism 1, slot-sharing group `apart`",
        "numbers: splits (enumerator), uid `n: splits`",
        "[1] parallelism 2, slot-sharing group `apart`",
        "numbers (source), uid `n`",
    ] {
        assert!(plan.contains(line), "no `{line}` in\n{plan}");
    }
}
