//! Whole jobs that fail again and again: what they wrote for others to read holds every record exactly once.

use super::recovery::{Failing, N, UNHURRIED, environment};
use super::{Way, until};
use millstream::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The lines of the files that readers look for, each a number.
pub(super) fn written(dir: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    // The folder is made when the job starts.
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("part-") {
            let text = std::fs::read_to_string(path).unwrap();
            numbers.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
        }
    }
    numbers
}

/// Every number below `n`, and each of them once.
#[track_caller]
pub(super) fn assert_each_once(mut numbers: Vec<u64>, n: u64, what: impl std::fmt::Debug) {
    numbers.sort_unstable();
    let wrong = (0..n).zip(&numbers).find(|(expected, found)| expected != *found);
    assert_eq!((numbers.len() as u64, wrong), (n, None), "{what:?}");
}

#[test]
fn files_hold_every_record_once_however_often_the_job_fails() {
    for way in Way::few() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let env = environment(way, &dir.path().join("checkpoints"), &[]);
        let failing = Failing::new(3);
        let n_failed = Arc::clone(&failing.n_failed);
        env.source(Generator::new(N, |i| i).rate(200_000), Watermarks::none())
            .map_with(failing)
            .rebalance()
            .sink(FileSink::lines(&out).roll_at_bytes(10_000));
        env.execute("failing").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert_eq!(n_failed.load(Ordering::SeqCst), 3);
        assert_each_once(written(&out), N, way);
        let n_hidden = std::fs::read_dir(&out).unwrap().count() - n_files(&out, "part-");
        assert_eq!(n_hidden, 0, "{way:?}: nothing is left behind");
        assert!(n_files(&out, "part-") > way.parallelism, "{way:?}: output appears as it goes");
    }
}

fn n_files(dir: &Path, prefix: &str) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(prefix)).count()
}

#[test]
fn files_go_on_after_a_savepoint_with_another_parallelism() {
    for (before, after) in [(1, 1), (1, 4), (4, 3), (3, 1)] {
        let way =
            |parallelism| Way { driver: "cooperative", batch_size: 7, parallelism, chaining: true };
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let write = |env: &Environment, rate, n_failures| {
            env.source(Generator::new(N, |i| i).rate(rate), Watermarks::none())
                .uid("numbers")
                .map_with(Failing::new(n_failures))
                .rebalance()
                .sink(FileSink::lines(&out))
                .uid("files");
        };
        let first = environment(way(before), &dir.path().join("first"), &[]);
        write(&first, UNHURRIED, 0);
        let job = first.execute_async("first").unwrap();
        until("output was committed", || !written(&out).is_empty());
        let savepoint = job.stop_with_savepoint(dir.path().join("savepoints"), false).unwrap();
        job.wait().unwrap();
        let n_before = written(&out).len();

        let savepoint = savepoint.display().to_string();
        let settings = [("restore", savepoint.as_str())];
        let second = environment(way(after), &dir.path().join("second"), &settings);
        write(&second, 400_000, 2);
        second.execute("second").unwrap();
        assert_each_once(written(&out), N, (before, after, n_before));
    }
}

/// What is committed in a log of numbers.
fn logged(dir: &Path) -> Vec<u64> {
    Environment::local().read_log::<u64>(dir).execute_and_collect("read").unwrap()
}

#[test]
fn logs_hold_every_record_once_however_often_the_job_fails() {
    for way in Way::few() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let env = environment(way, &dir.path().join("checkpoints"), &[]);
        env.source(Generator::new(N, |i| i).rate(200_000), Watermarks::none())
            .map_with(Failing::new(3))
            .rebalance()
            .sink(LogSink::new(&log).partitions(3).key(|n: &u64| *n));
        env.execute("failing").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert_each_once(logged(&log), N, way);
    }
}

/// One job writes a log, another follows it, both fail, and the second is stopped and goes on with other subtasks.
#[test]
fn a_chain_of_jobs_through_a_log_is_exactly_once() {
    for (before, after) in [(1, 3), (3, 2)] {
        let way =
            |parallelism| Way { driver: "cooperative", batch_size: 7, parallelism, chaining: true };
        let dir = tempfile::tempdir().unwrap();
        let (log, out) = (dir.path().join("log"), dir.path().join("out"));
        let copy = |env: &Environment| {
            env.source(LogSource::new::<u64>(&log).follow(), Watermarks::none())
                .uid("log")
                .map_with(Failing::new(4))
                .rebalance()
                .sink(FileSink::lines(&out))
                .uid("files");
        };
        let writing = environment(way(2), &dir.path().join("writing"), &[]);
        writing
            .source(Generator::new(N, |i| i).rate(100_000), Watermarks::none())
            .map_with(Failing::new(3))
            .sink(LogSink::new(&log).partitions(4).key(|n: &u64| *n));
        let writer = writing.execute_async("writing").unwrap();
        until("there is a log", || log.join("meta").exists());

        let first = environment(way(before), &dir.path().join("first"), &[]);
        copy(&first);
        let reader = first.execute_async("first").unwrap();
        until("output was committed", || !written(&out).is_empty());
        let mut savepoint = reader.stop_with_savepoint(dir.path().join("savepoints"), false);
        // It may just have failed, as planned.
        while savepoint.is_err() {
            savepoint = reader.stop_with_savepoint(dir.path().join("savepoints"), false);
        }
        reader.wait().unwrap();

        let savepoint = savepoint.unwrap().display().to_string();
        let settings = [("restore", savepoint.as_str())];
        let second = environment(way(after), &dir.path().join("second"), &settings);
        copy(&second);
        let reader = second.execute_async("second").unwrap();
        writer.wait().unwrap();
        until("everything has come through", || written(&out).len() as u64 >= N);
        reader.cancel();
        reader.wait().unwrap();
        assert_each_once(written(&out), N, (before, after));
    }
}
