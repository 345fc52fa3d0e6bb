//! The engine as a program sees it: whole jobs, run in every way they can be run. What a job gives must not depend on who
//! steps its tasks, on batches, on fusion or on parallelism; how it ends must be told truly in all of them.
//!
//! Expected results are computed here, without the engine. Where a result depends on the order of records (what a running
//! count emits with which record), only what does not is compared.

mod damage;
mod endings;
mod enumerators;
mod exactly_once;
#[cfg(feature = "rocksdb")]
mod inspected;
#[cfg(feature = "rocksdb")]
mod little_memory;
mod memory;
mod metrics;
mod operator_state;
mod recovery;
mod regions;
mod rescaled;
mod restores;
mod results;
mod schema;
mod stalls;
mod stopping;
mod ttl;

use millstream::prelude::*;
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How a job is run.
#[derive(Clone, Copy, Debug)]
struct Way {
    driver: &'static str,
    batch_size: usize,
    parallelism: usize,
    chaining: bool,
}

impl Way {
    fn all() -> impl Iterator<Item = Way> {
        let drivers = ["cooperative", "threads"].into_iter();
        drivers
            .flat_map(|driver| [1, 7, 1024].map(|batch_size| (driver, batch_size)))
            .flat_map(|(driver, size)| [1, 2, 5].map(|parallelism| (driver, size, parallelism)))
            .flat_map(|(driver, batch_size, parallelism)| {
                [true, false].map(|chaining| Way { driver, batch_size, parallelism, chaining })
            })
    }

    /// The ways that differ in who steps the tasks and in how many there are.
    fn few() -> impl Iterator<Item = Way> {
        Way::all().filter(|way| way.batch_size == 7 && way.parallelism != 5)
    }

    fn environment(self) -> Environment {
        self.environment_with(&[])
    }

    fn environment_with(self, settings: &[(&str, &str)]) -> Environment {
        let builder = Environment::builder()
            .set("driver", self.driver)
            .set("chaining", &self.chaining.to_string())
            .batch_size(self.batch_size)
            .parallelism(self.parallelism);
        let builder =
            settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        builder.build().expect("these are options")
    }
}

/// Runs what `build` makes in every way: each time it must give these records, in whatever order.
fn gives<T: Data + Ord + Debug>(
    expected: impl IntoIterator<Item = T>,
    build: impl Fn(&Environment) -> DataStream<T>,
) {
    let mut expected: Vec<T> = expected.into_iter().collect();
    expected.sort();
    for way in Way::all() {
        let mut results = match build(&way.environment()).execute_and_collect("job") {
            Ok(results) => results,
            Err(error) => panic!("{way:?}: {error}"),
        };
        results.sort();
        // Thousands of records do not help: the first difference does.
        let pairs =
            expected.iter().map(Some).chain([None]).zip(results.iter().map(Some).chain([None]));
        if let Some((place, pair)) = pairs.enumerate().find(|(_, (e, r))| e != r) {
            panic!(
                "{way:?}: {} records where {} were expected; the first difference is at {place}: {pair:?}",
                results.len(),
                expected.len()
            );
        }
    }
}

/// Waits until something has come about that must come about.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        std::thread::yield_now();
    }
}

/// Records without end.
fn endless(env: &Environment) -> DataStream<u64> {
    env.source(Generator::unbounded(|i| i), Watermarks::none()).name("endless")
}
