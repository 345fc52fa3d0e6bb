//! Whole jobs that fail again and again: what they wrote for others to read holds every record exactly once.

use super::recovery::{Failing, N, environment};
use super::{Way, until};
use millstream::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The lines of the files that readers look for, each a number.
fn written(dir: &Path) -> Vec<u64> {
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
fn assert_each_once(mut numbers: Vec<u64>, n: u64, what: impl std::fmt::Debug) {
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
        let write = |env: &Environment, n_failures| {
            env.source(Generator::new(N, |i| i).rate(400_000), Watermarks::none())
                .uid("numbers")
                .map_with(Failing::new(n_failures))
                .rebalance()
                .sink(FileSink::lines(&out))
                .uid("files");
        };
        let first = environment(way(before), &dir.path().join("first"), &[]);
        write(&first, 0);
        let job = first.execute_async("first").unwrap();
        until("output was committed", || !written(&out).is_empty());
        let savepoint = job.stop_with_savepoint(dir.path().join("savepoints"), false).unwrap();
        job.wait().unwrap();
        let n_before = written(&out).len();

        let savepoint = savepoint.display().to_string();
        let settings = [("restore", savepoint.as_str())];
        let second = environment(way(after), &dir.path().join("second"), &settings);
        write(&second, 2);
        second.execute("second").unwrap();
        assert_each_once(written(&out), N, (before, after, n_before));
    }
}
