//! Tasks that exchange no records fail and come back apart: the others never notice, and each result is there once.

use super::exactly_once::{assert_each_once, written};
use super::recovery::environment;
use super::{Way, until};
use millstream::prelude::*;
use millstream::runtime::context::OperatorContext;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// So many records are long on their way: there is time for checkpoints and failures.
const N: u64 = 12_000;
const PER_SECOND: u64 = 12_000;

/// Passes records on, notes where it was opened, and fails when it is told to: in one subtask, so many records after.
#[derive(Clone)]
struct Watched {
    /// Subtask and attempt of each that was opened.
    opened: Arc<Mutex<Vec<(usize, u32)>>>,
    fails_in: usize,
    after: u64,
    n_failures: u64,
    n_failed: Arc<AtomicU64>,
    /// Whether all subtasks come back together: then none fails before all are there.
    is_coupled: bool,
    subtask: usize,
    parallelism: usize,
    attempt: u32,
    n_seen: u64,
}

impl Watched {
    fn new(fails_in: usize, n_failures: u64) -> Self {
        Watched {
            opened: Arc::default(),
            fails_in,
            after: 500,
            n_failures,
            n_failed: Arc::default(),
            is_coupled: false,
            subtask: 0,
            parallelism: 0,
            attempt: 0,
            n_seen: 0,
        }
    }

    fn coupled(self) -> Self {
        Watched { is_coupled: true, ..self }
    }

    fn are_there(&self) -> bool {
        let opened = self.opened.lock().unwrap();
        (0..self.parallelism).all(|subtask| opened.contains(&(subtask, self.attempt)))
    }

    /// How often each subtask was opened, and the last attempt of each.
    fn openings(&self, parallelism: usize) -> Vec<(usize, u32)> {
        let opened = self.opened.lock().unwrap();
        let of = |subtask| opened.iter().filter(move |(s, _)| *s == subtask);
        (0..parallelism)
            .map(|s| (of(s).count(), of(s).map(|(_, attempt)| *attempt).max().unwrap_or(0)))
            .collect()
    }
}

impl MapFunction<u64> for Watched {
    type Out = u64;

    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        self.subtask = context.subtask();
        (self.parallelism, self.attempt) = (context.parallelism(), context.attempt());
        self.opened.lock().unwrap().push((self.subtask, context.attempt()));
        Ok(())
    }

    fn map(&mut self, n: u64) -> Result<u64> {
        self.n_seen += 1;
        if self.subtask == self.fails_in
            && self.n_seen >= self.after
            && self.n_failed.load(Ordering::SeqCst) < self.n_failures
            && (!self.is_coupled || self.are_there())
        {
            self.n_failed.fetch_add(1, Ordering::SeqCst);
            return Err(Error::user("as planned"));
        }
        Ok(n)
    }
}

fn ways() -> impl Iterator<Item = Way> {
    Way::all().filter(|way| way.batch_size == 7 && way.parallelism == 5)
}

#[test]
fn a_subtask_that_sends_to_nobody_comes_back_alone() {
    for way in ways() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let env = environment(way, &dir.path().join("checkpoints"), &[]);
        let watched = Watched::new(3, 3);
        let stream = env.source(Generator::new(N, |i| i).rate(PER_SECOND), Watermarks::none());
        stream.map_with(watched.clone()).sink(FileSink::lines(&out)).uid("out");
        env.execute("apart").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert_each_once(written(&out), N, way);
        assert_eq!(watched.openings(5), [(1, 0), (1, 0), (1, 0), (4, 3), (1, 0)], "{way:?}");
        let hidden = std::fs::read_dir(&out).unwrap().flatten();
        let hidden = hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
        assert_eq!(hidden.count(), 0, "{way:?}: something is left");
    }
}

/// From the beginning, because there is nothing else to go on from.
#[test]
fn without_checkpoints_too() {
    for way in ways() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let env = way.environment_with(&[("restart-strategy", "fixed-delay 2 0ms")]);
        let watched = Watched::new(1, 2);
        let stream = env.source(Generator::new(N, |i| i), Watermarks::none());
        stream.map_with(watched.clone()).sink(FileSink::lines(&out)).uid("out");
        env.execute("apart").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert_each_once(written(&out), N, way);
        let others: Vec<usize> = watched.openings(5).iter().map(|(n, _)| *n).collect();
        assert_eq!(others, [1, 3, 1, 1, 1], "{way:?}");
    }
}

/// Two pipelines of one job; the one that fails is keyed, so all of it comes back.
#[test]
fn a_pipeline_beside_another_is_not_disturbed() {
    for way in ways() {
        let dir = tempfile::tempdir().unwrap();
        let (counts, plain) = (dir.path().join("counts"), dir.path().join("plain"));
        let env = environment(way, &dir.path().join("checkpoints"), &[]);
        let (failing, steady) = (Watched::new(0, 2).coupled(), Watched::new(usize::MAX, 0));
        let source = || env.source(Generator::new(N, |i| i).rate(PER_SECOND), Watermarks::none());
        source()
            .map_with(failing.clone())
            .key_by(|i| i % 11)
            .reduce(|_, last| last)
            .uid("last")
            .sink(FileSink::lines(&counts))
            .uid("counts");
        source().map_with(steady.clone()).sink(FileSink::lines(&plain)).uid("plain");
        env.execute("two").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert_each_once(written(&counts), N, way);
        assert_each_once(written(&plain), N, way);
        assert_eq!(steady.openings(5), [(1, 0); 5], "{way:?}");
        assert_eq!(failing.openings(5), [(3, 2); 5], "{way:?}");
    }
}

/// A log has one epoch for all who write it.
#[test]
fn a_sink_that_is_recovered_as_a_whole_takes_its_subtasks_along() {
    for way in ways() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let env = environment(way, &dir.path().join("checkpoints"), &[]);
        let watched = Watched::new(3, 2).coupled();
        let stream = env.source(Generator::new(N, |i| i).rate(PER_SECOND), Watermarks::none());
        stream.map_with(watched.clone()).write_log(&log).uid("log");
        env.execute("together").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        let env = Environment::local();
        let read = env.read_log::<u64>(&log).execute_and_collect("read").unwrap();
        assert_each_once(read, N, way);
        assert_eq!(watched.openings(5), [(3, 2); 5], "{way:?}");
    }
}

/// What a part has accumulated counts once, like what it has written.
#[test]
fn what_a_part_accumulates_counts_once() {
    #[derive(Clone)]
    struct Counting(Watched, Option<AccumulatorHandle<u64>>);
    impl MapFunction<u64> for Counting {
        type Out = u64;
        fn open(&mut self, context: &OperatorContext) -> Result<()> {
            self.1 = Some(context.accumulator("seen"));
            self.0.open(context)
        }
        fn map(&mut self, n: u64) -> Result<u64> {
            if let Some(seen) = &self.1 {
                *seen.get() += 1;
            }
            self.0.map(n)
        }
    }
    for way in ways() {
        let env = way.environment_with(&[("restart-strategy", "fixed-delay 1 0ms")]);
        let stream = env.source(Generator::new(N, |i| i), Watermarks::none());
        stream.map_with(Counting(Watched::new(2, 1), None)).discard();
        let result = env.execute("accumulating").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert_eq!(result.accumulator::<u64>("seen"), Some(N), "{way:?}");
    }
}

/// What is stopped while a part of it comes back again and again goes on from there with another parallelism.
#[test]
fn a_savepoint_holds_all_parts() {
    for way in ways() {
        let dir = tempfile::tempdir().unwrap();
        let (out, checkpoints) = (dir.path().join("out"), dir.path().join("checkpoints"));
        let is_slow = Arc::new(AtomicBool::new(true));
        let build = |env: &Environment, watched: &Watched| {
            let is_slow = Arc::clone(&is_slow);
            let generator = Generator::new(N, |i| i);
            let stream = match is_slow.load(Ordering::SeqCst) {
                true => env.source(generator.rate(PER_SECOND / 20), Watermarks::none()),
                false => env.source(generator, Watermarks::none()),
            };
            let stream = stream.uid("numbers").map_with(watched.clone());
            stream.sink(FileSink::lines(&out)).uid("out");
        };
        let env = environment(way, &checkpoints, &[]);
        let watched = Watched { after: 20, ..Watched::new(3, 2) };
        build(&env, &watched);
        let job = env.execute_async("apart").unwrap();
        until("it failed twice", || watched.n_failed.load(Ordering::SeqCst) == 2);
        let stopped = until_stopped(&job, &dir.path().join("savepoints"));
        job.wait().unwrap();
        assert_eq!(watched.openings(5)[0], (1, 0), "{way:?}");

        is_slow.store(false, Ordering::SeqCst);
        let restore = stopped.display().to_string();
        let fewer = Way { parallelism: 2, ..way };
        let env = environment(fewer, &checkpoints, &[("restore", restore.as_str())]);
        build(&env, &Watched::new(1, 2));
        env.execute("apart").unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert_each_once(written(&out), N, way);
    }
}

/// Stops a job with a savepoint; again, if it was just failing.
fn until_stopped(job: &millstream::JobHandle, dir: &std::path::Path) -> std::path::PathBuf {
    let mut stopped = None;
    until("it stops", || {
        stopped = job.stop_with_savepoint(dir, false).ok();
        stopped.is_some()
    });
    stopped.unwrap()
}
