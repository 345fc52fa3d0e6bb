//! A job that has ended has committed all that it has made. One that is stopped with a savepoint has ended when whoever stops
//! it hears so: he may start another from there.

use super::exactly_once::assert_each_once;
use super::recovery::{N, UNHURRIED};
use super::restores::told;
use super::{Way, until};
use millstream::JobHandle;
use millstream::model::{Batch, CheckpointId};
use millstream::prelude::*;
use millstream::runtime::operator::{Committer, Sink, SinkStart, SinkWriter, Staged};
use millstream::stream::Collected;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A target that takes what is committed, by name, unless it is out of order.
#[derive(Clone, Default)]
struct Target {
    committed: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u64>>>>,
    staged: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u64>>>>,
    /// How many commits will fail.
    n_failures: Arc<AtomicU64>,
    rows: Vec<u64>,
}

impl Target {
    fn numbers(&self) -> Vec<u64> {
        self.committed.lock().unwrap().values().flatten().copied().collect()
    }
}

impl Sink<u64> for Target {
    fn prepare(&self, start: &SinkStart) -> Result<()> {
        match start {
            SinkStart::Recovering(staged) => self.clone().commit(staged),
            _ => Ok(()),
        }
    }

    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<u64>>> {
        Ok(Box::new(self.clone()))
    }

    fn committer(&self) -> Option<Box<dyn Committer>> {
        Some(Box::new(self.clone()))
    }
}

impl SinkWriter<u64> for Target {
    fn write(&mut self, batch: &mut Batch<u64>) -> Result<()> {
        self.rows.append(&mut batch.values);
        Ok(())
    }

    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Vec<Staged>> {
        let name = format!("{checkpoint}").into_bytes();
        self.staged.lock().unwrap().insert(name.clone(), std::mem::take(&mut self.rows));
        Ok(vec![name])
    }
}

impl Committer for Target {
    fn commit(&mut self, staged: &[Staged]) -> Result<()> {
        let fail = |n: u64| n.checked_sub(1);
        if self.n_failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fail).is_ok() {
            return Err(Error::external("the target is out of order"));
        }
        for name in staged {
            let rows = self.staged.lock().unwrap()[name].clone();
            self.committed.lock().unwrap().insert(name.clone(), rows);
        }
        Ok(())
    }
}

/// A job that takes no checkpoint unless it is asked to, and begins at a savepoint if there is one.
fn job(dir: &Path, target: &Target, rate: u64, savepoint: Option<&Path>) -> JobHandle {
    let way = Way { driver: "cooperative", batch_size: 7, parallelism: 1, chaining: true };
    let dir = dir.join("checkpoints").display().to_string();
    let savepoint = savepoint.map(|path| path.display().to_string());
    let mut settings = vec![("checkpoint-dir", &*dir), ("checkpoint-interval", "1h")];
    settings.push(("restart-strategy", "fixed-delay 9 0ms"));
    settings.extend(savepoint.iter().map(|path| ("restore", &**path)));
    let env = way.environment_with(&settings);
    env.source(Generator::new(N, |i| i).rate(rate), Watermarks::none())
        .uid("numbers")
        .sink(target.clone())
        .uid("target");
    env.execute_async("stopped").unwrap()
}

/// Tells at the end how many there were.
#[derive(Clone, Default)]
struct CountToTheEnd(u64);

impl ProcessFunction<u64> for CountToTheEnd {
    type Out = u64;

    fn process(
        &mut self,
        _: u64,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn end(&mut self, _: &mut ProcessContext<'_>, out: &mut Collector<'_, u64>) -> Result<()> {
        out.emit(self.0);
        Ok(())
    }
}

/// One that has read some records, and will not end by itself.
fn under_way(dir: &Path, target: &Target) -> JobHandle {
    let running = job(dir, target, UNHURRIED, None);
    until("some records were read", || running.status().records > 20);
    running
}

#[test]
fn a_job_whose_last_output_is_refused_has_not_ended() {
    let (dir, target) = (tempfile::tempdir().unwrap(), Target::default());
    // Also when it begins again, which commits it.
    target.n_failures.store(3, Ordering::SeqCst);
    let running = job(dir.path(), &target, 1_000_000, None);
    until("it has ended", || running.status().state == JobState::Finished);
    assert_eq!(running.status().n_restarts, 3);
    assert_each_once(target.numbers(), N, "the last commit failed three times");
}

#[test]
fn who_stops_a_job_hears_of_it_when_the_job_has_ended() {
    let (dir, target) = (tempfile::tempdir().unwrap(), Target::default());
    let running = under_way(dir.path(), &target);
    let savepoint = running.stop_with_savepoint(dir.path().join("savepoints"), false).unwrap();
    assert_eq!(running.status().state, JobState::Finished);
    let n = target.numbers().len() as u64;
    assert!(n > 0 && n < N, "{n}");
    job(dir.path(), &target, 1_000_000, Some(&savepoint)).wait().unwrap();
    assert_each_once(target.numbers(), N, n);
}

#[test]
fn a_job_that_fails_while_it_is_stopped_runs_on_and_whoever_stops_it_hears_that() {
    let (dir, target) = (tempfile::tempdir().unwrap(), Target::default());
    let running = under_way(dir.path(), &target);
    target.n_failures.store(1, Ordering::SeqCst);
    let savepoints = dir.path().join("savepoints");
    let error = running.stop_with_savepoint(&savepoints, false).unwrap_err();
    assert!(told(&error).contains("runs again from there"), "{}", told(&error));
    // What belongs before it is committed when it runs again, and what comes after it by the second stop.
    let mut stopped = None;
    until("it stops", || {
        stopped = running.stop_with_savepoint(&savepoints, false).ok();
        stopped.is_some()
    });
    assert_eq!((running.status().state, running.status().n_restarts), (JobState::Finished, 1));
    job(dir.path(), &target, 1_000_000, stopped.as_deref()).wait().unwrap();
    assert_each_once(target.numbers(), N, "the job was stopped twice");
}

#[test]
fn a_job_that_is_drained_ends_with_its_savepoint_also_if_it_fails_before() {
    let (dir, target) = (tempfile::tempdir().unwrap(), Target::default());
    let running = under_way(dir.path(), &target);
    target.n_failures.store(1, Ordering::SeqCst);
    let savepoint = running.stop_with_savepoint(dir.path().join("savepoints"), true).unwrap();
    let status = running.status();
    assert_eq!((status.state, status.n_restarts), (JobState::Finished, 1));
    let n = target.numbers().len() as u64;
    assert!(n > 0 && n < N, "{n}");
    assert_each_once(target.numbers(), n, "what was read before the savepoint");
    // Whoever goes on from there finds nothing to do.
    let restored = job(&dir.path().join("again"), &target, 1_000_000, Some(&savepoint));
    until("it has ended", || restored.status().state == JobState::Finished);
    assert_eq!((restored.status().records, target.numbers().len() as u64), (0, n));
}

/// What a function and windows of a day say at the end, unless the day ends before.
fn counted(env: &Environment) -> (Collected<u64>, Collected<((), TimeWindow, u64)>) {
    let numbers = env.source(Generator::new(N, |i| i).rate(UNHURRIED), Watermarks::none());
    let counts = numbers.clone().process(CountToTheEnd::default()).collect();
    let day = Tumbling::of(Duration::from_secs(24 * 3600)).processing_time();
    (counts, numbers.key_by(|_| ()).window(day).count().collect())
}

#[test]
fn what_is_done_at_the_end_is_done_before_a_savepoint_that_drains() {
    let dir = tempfile::tempdir().unwrap();
    let way = Way { driver: "cooperative", batch_size: 7, parallelism: 1, chaining: true };
    let checkpoints = dir.path().join("checkpoints").display().to_string();
    let env = way.environment_with(&[("checkpoint-dir", &checkpoints)]);
    let (counts, windows) = counted(&env);
    let running = env.execute_async("drained").unwrap();
    until("some records were read", || running.status().records > 20);
    let savepoint = running.stop_with_savepoint(dir.path().join("savepoints"), true).unwrap();
    let n = running.status().records;
    assert!(n < N);
    assert_eq!(counts.take(), [n]);
    // Two, if a day has ended meanwhile.
    assert_eq!(windows.take().into_iter().map(|(.., count)| count).sum::<u64>(), n);
    // It is not done again by whoever goes on from there.
    let env = way.environment_with(&[("restore", &savepoint.display().to_string())]);
    let (counts, _) = counted(&env);
    assert_eq!(env.execute("drained").unwrap().records(), 0);
    assert!(counts.take().is_empty());
}

/// Reads what a source under another name gives, in the place of one that had come to its end.
#[test]
fn a_new_source_in_front_of_what_has_ended_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let way = Way { driver: "cooperative", batch_size: 7, parallelism: 1, chaining: true };
    let checkpoints = dir.path().join("checkpoints").display().to_string();
    let target = Target::default();
    for (name, restore) in [("january", None), ("february", Some(("restore", "latest")))] {
        let mut settings = vec![("checkpoint-dir", &*checkpoints)];
        settings.extend(restore);
        let env = way.environment_with(&settings);
        let numbers = Generator::new(100, move |i| i + 100 * u64::from(name == "february"));
        let numbers = env.source(numbers, Watermarks::none()).uid(name);
        numbers.clone().sink(target.clone()).uid("target");
        let counts = numbers.process(CountToTheEnd::default()).uid("counts").collect();
        env.execute("months").unwrap();
        assert_eq!(counts.take(), [100], "what is done at the end is done for {name}");
    }
    assert_each_once(target.numbers(), 200, "both months");
}
