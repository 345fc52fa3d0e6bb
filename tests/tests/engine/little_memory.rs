//! Windows and joins of far more keys than there is memory for: what lies in the store is found again when it is needed.

use super::Way;
use millstream::prelude::*;

const N_KEYS: u64 = 4_000;
/// Records of each key.
const N_ROUNDS: u64 = 4;

/// Runs what `build` makes with all state in memory, and with room for a few of its keys; both give the same.
fn gives_the_same_with_little_memory<T: Data + Ord + std::fmt::Debug>(
    build: impl Fn(&Environment) -> DataStream<T>,
) -> Vec<T> {
    let way = Way { driver: "cooperative", batch_size: 64, parallelism: 2, chaining: true };
    let run = |settings: &[(&str, &str)]| {
        let env = way.environment_with(settings);
        let mut results = build(&env).execute_and_collect("job").unwrap();
        results.sort();
        results
    };
    let plenty = run(&[]);
    let little = run(&[("state-backend", "rocksdb"), ("state-memory", "16 KiB")]);
    // Thousands of records do not help: the first difference does.
    let difference = plenty.iter().zip(&little).find(|(a, b)| a != b);
    assert!(difference.is_none() && plenty.len() == little.len(), "{difference:?}");
    plenty
}

/// Every key comes again when all others have come.
fn rounds(env: &Environment) -> DataStream<(u64, u64)> {
    let times = Watermarks::bounded(millis(1)).on(|(_, i): &(u64, u64)| *i as EventTime);
    env.source(Generator::new(N_ROUNDS * N_KEYS, |i| (i % N_KEYS, i)), times)
}

#[test]
fn sessions() {
    let gap = millis(N_KEYS + 1);
    let counts = gives_the_same_with_little_memory(|env| {
        rounds(env).key_by(|r| r.0).window(Session::gap(gap)).count()
    });
    assert_eq!(counts.len() as u64, N_KEYS);
    assert!(counts.iter().all(|(_, _, n)| *n == N_ROUNDS));
}

#[test]
fn windows_with_a_trigger_and_windows_of_so_many() {
    let size = millis(N_ROUNDS * N_KEYS);
    gives_the_same_with_little_memory(|env| {
        let windows = rounds(env).key_by(|r| r.0).window(Tumbling::of(size));
        windows.trigger(CountTrigger::of(3)).reduce(|a, b| (a.0, a.1 + b.1))
    });
    let pairs = gives_the_same_with_little_memory(|env| {
        rounds(env).key_by(|r| r.0).count_window(2).reduce(|a, b| (a.0, a.1 * 10_000 + b.1))
    });
    assert_eq!(pairs.len() as u64, N_KEYS * N_ROUNDS / 2);
}

#[test]
fn joins() {
    let reach = N_KEYS as i64;
    let pairs = gives_the_same_with_little_memory(|env| {
        let (left, right) = (rounds(env).key_by(|r| r.0), rounds(env).key_by(|r| r.0));
        left.interval_join(right, -reach, reach).apply(|l, r| (l.0, l.1, r.1))
    });
    // Each with itself, and with those before and after it.
    assert_eq!(pairs.len() as u64, N_KEYS * (3 * N_ROUNDS - 2));
    let versions = gives_the_same_with_little_memory(|env| {
        let (left, right) = (rounds(env).key_by(|r| r.0), rounds(env).key_by(|r| r.0));
        left.temporal_join(right).apply(|l, r| (l, r.copied()))
    });
    assert!(versions.iter().all(|(l, r)| *r == Some(*l)));
}
