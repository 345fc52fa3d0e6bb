//! Jobs that do not come to their own end: failures, panics, cancellation. What is told must be the cause, not one of its
//! consequences, and no thread may be left behind.

use super::{Way, endless, until};
use millstream::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Runs what `build` makes in every way; each time it must fail in the operator called `guilty`, with this message.
fn fails(message: &str, build: impl Fn(&Environment)) {
    for way in Way::all() {
        let env = way.environment();
        build(&env);
        let error = match env.execute("job") {
            Ok(_) => panic!("{way:?}: it did not fail"),
            Err(error) => error,
        };
        let place = error.place().unwrap_or_else(|| panic!("{way:?}: no place: {error}"));
        assert_eq!((place.operator.as_str(), error.message()), ("guilty", message), "{way:?}");
        assert!(place.subtask < place.parallelism, "{way:?}: {error}");
    }
}

fn check(i: u64) -> Result<u64> {
    if i == 777 { Err(Error::user("777 is no number")) } else { Ok(i) }
}

#[test]
fn an_error_names_its_operator() {
    let message = "777 is no number";
    fails(message, |env| {
        endless(env).rebalance().try_map(check).name("guilty").rebalance().discard();
    });
    fails(message, |env| {
        let numbers = endless(env).map(|i| i).try_filter(|i| check(*i).map(|_| true));
        numbers.name("guilty").map(|i| i).key_by(|i| i % 9).count().discard();
    });
    fails(message, |env| {
        let numbers = endless(env).try_flat_map(|i| Ok([check(i)?, i])).name("guilty");
        numbers.clone().discard();
        numbers.rebalance().discard();
    });
    fails(message, |env| {
        let words = env.from_collection(vec!["a".to_string()]);
        let both = endless(env).connect(words);
        let left = |i, out: &mut Collector<'_, u64>| {
            out.emit(check(i)?);
            Ok(())
        };
        both.co_process(left, |_, _| Ok(())).name("guilty").discard();
    });
    fails(message, |env| {
        let call = AsyncCall::new(|i| async move { check(i) });
        endless(env).async_map(call).name("guilty").key_by(|i| i % 9).count().discard();
    });
}

#[test]
fn a_panic_names_its_operator() {
    let message = "panicked: 777 is no number";
    let check = |i: u64| check(i).unwrap_or_else(|error| panic!("{}", error.message()));
    fails(message, |env| {
        endless(env).rebalance().map(check).name("guilty").rebalance().discard();
    });
    fails(message, |env| {
        endless(env).filter(move |i| check(*i) == *i).name("guilty").map(|i| i).discard();
    });
    fails(message, |env| {
        let sums = endless(env).key_by(|i| i % 9).reduce(move |a, b| a / 2 + check(b));
        sums.name("guilty").discard();
    });
    fails(message, |env| {
        let call = AsyncCall::new(move |i| async move { Ok(check(i)) });
        endless(env).async_map(call).name("guilty").discard();
    });
}

/// The upstream operators of one that fails are blocked or about to send: what they see is not what is told.
#[test]
fn the_first_cause_is_told() {
    for round in 0..50 {
        for way in Way::few() {
            let env = way.environment_with(&[("network-memory", "4 KiB")]);
            let numbers = endless(&env).rebalance().map(|i| i).rebalance().map(|i| i).rebalance();
            numbers.try_map(check).name("guilty").rebalance().map(|i| i).discard();
            let error = env.execute("job").unwrap_err();
            assert_eq!(error.message(), "777 is no number", "round {round}, {way:?}: {error}");
        }
    }
}

#[test]
fn a_job_without_end_can_be_cancelled() {
    for round in 0..20 {
        for way in Way::few() {
            let env = way.environment_with(&[("network-memory", "4 KiB")]);
            let seen = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&seen);
            let counts = endless(&env).rebalance().map(|i| i).key_by(|i| i % 10).count();
            let counts = counts.rebalance().inspect(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            counts.discard();
            let job = env.execute_async("endless").unwrap();
            until("records have come through", || seen.load(Ordering::Relaxed) > 100);
            assert_eq!(job.status().state, JobState::Running, "round {round}, {way:?}");
            job.cancel();
            // Asking twice asks for nothing more.
            job.cancel();
            let result = job.wait().unwrap_or_else(|e| panic!("round {round}, {way:?}: {e}"));
            assert_eq!(result.state(), JobState::Cancelled, "round {round}, {way:?}");
            assert!(result.records() > 100);
        }
    }
}

#[test]
fn a_job_that_is_stuck_can_be_cancelled() {
    for way in Way::few() {
        let env = way.environment_with(&[("network-memory", "4 KiB")]);
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let never = AsyncCall::new(move |_: u64| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<u64>>()
        });
        endless(&env).rebalance().async_map(never.capacity(3)).parallelism(1).discard();
        let job = env.execute_async("stuck").unwrap();
        until("no call is left", || asked.load(Ordering::Relaxed) == 3);
        job.cancel();
        assert_eq!(job.wait().unwrap().state(), JobState::Cancelled, "{way:?}");
    }
}

#[test]
fn cancelling_what_has_ended_changes_nothing() {
    for way in Way::few() {
        let env = way.environment();
        env.generate(100, |i| i).discard();
        let job = env.execute_async("short").unwrap();
        until("it has ended", || job.status().state.is_terminal());
        job.cancel();
        assert_eq!(job.wait().unwrap().state(), JobState::Finished, "{way:?}");
    }
}

#[test]
fn a_job_runs_on_without_its_handle() {
    for way in Way::few() {
        let env = way.environment();
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        let last = env.from_iter(|| 0..10_000u64).rebalance().filter(|i| *i == 9_999);
        last.inspect(move |_| done.store(true, Ordering::Relaxed)).discard();
        drop(env.execute_async("alone").unwrap());
        until("it has read everything", || is_done.load(Ordering::Relaxed));
    }
}

/// Whoever reads `part-*` reads results of jobs that ended well.
#[test]
fn output_of_a_job_that_fails_is_not_published() {
    for way in Way::few() {
        let dir = tempfile::tempdir().unwrap();
        let env = way.environment();
        let numbers = env.generate(10_000, |i| i).rebalance();
        numbers
            .try_map(|i| if i < 9_999 { Ok(i) } else { Err("too many".into()) })
            .write_lines(dir.path());
        assert_eq!(env.execute("too many").unwrap_err().message(), "too many");
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let files: Vec<_> = files.map(|name| name.to_string_lossy().into_owned()).collect();
        // A subtask other than the failing one may have come to its end: only the failing one must not have.
        assert!(
            files.iter().filter(|name| name.starts_with("part-")).count() < way.parallelism,
            "{way:?}: {files:?}"
        );
    }
}

/// Counts what it sees in an accumulator, and fails once, in its middle.
#[derive(Clone)]
struct FailsOnce {
    seen: Option<AccumulatorHandle<u64>>,
    has_failed: Arc<AtomicBool>,
}

impl MapFunction<u64> for FailsOnce {
    type Out = u64;

    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        self.seen = Some(context.accumulator("seen"));
        Ok(())
    }

    fn map(&mut self, i: u64) -> Result<u64> {
        if i == 777 && !self.has_failed.swap(true, Ordering::SeqCst) {
            return Err(Error::external("only once"));
        }
        if let Some(seen) = &self.seen {
            *seen.get() += 1;
        }
        Ok(i)
    }
}

#[test]
fn what_a_failed_attempt_accumulated_is_forgotten() {
    for way in Way::all() {
        let env = way.environment_with(&[("restart-strategy", "fixed-delay 1 0ms")]);
        let fails_once = FailsOnce { seen: None, has_failed: Arc::default() };
        env.generate(1000, |i| i).rebalance().map_with(fails_once).discard();
        let result = env.execute("accumulates").unwrap();
        assert_eq!(result.accumulator::<u64>("seen"), Some(1000), "{way:?}");
    }
}
