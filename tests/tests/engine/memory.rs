//! The memory of records under way: it stays within its limit, and a limit that is far too small slows a job down but
//! never stops it.

use super::{Way, until};
use millstream::prelude::*;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn ways(parallelism: usize) -> [Way; 2] {
    ["cooperative", "threads"].map(|driver| Way {
        driver,
        batch_size: 1024,
        parallelism,
        chaining: true,
    })
}

/// A record may be larger than all the memory there is: each receiver may then have one batch, which is one record.
#[test]
fn records_of_a_megabyte_at_parallelism_64() {
    const N: u64 = 256;
    for way in ways(64) {
        let env = way.environment_with(&[("network-memory", "64 KiB")]);
        let large = env.generate(N, |i| "x".repeat(MIB + i as usize));
        let lengths = large.rebalance().map(|text| text).key_by(|text| text.len()).count();
        lengths.discard();
        let result = env.execute("large").unwrap();
        assert_eq!(result.records(), N, "{way:?}");
        // Two exchanges with 64 receivers each.
        let (receivers, record) = (2 * 64, MIB + KIB);
        let peak = result.peak_network_memory();
        assert!(peak >= MIB, "{way:?}: {peak} bytes were counted");
        assert!(peak <= 64 * KIB + receivers * record, "{way:?}: {peak} bytes were under way");
    }
}

#[test]
fn small_records_at_parallelism_64() {
    for way in ways(64) {
        let way = Way { batch_size: 16, ..way };
        let env = way.environment_with(&[("network-memory", "64 KiB")]);
        let numbers = env.generate(100_000, |i| i).rebalance().map(|i| i).shuffle().map(|i| i);
        numbers.key_by(|i| i % 1_000).count().filter(|(_, n)| *n == 100).rebalance().discard();
        let result = env.execute("small").unwrap();
        // Four exchanges with 64 receivers each. A batch that had to wait is at most one batch of its operator's input,
        // in pairs of eight bytes.
        let (receivers, batch) = (4 * 64, 16 * 16);
        let peak = result.peak_network_memory();
        assert!(peak <= 64 * KIB + receivers * batch, "{way:?}: {peak} bytes were under way");
    }
}

#[test]
fn no_graph_deadlocks_for_want_of_memory() {
    for way in Way::all() {
        let env = way.environment_with(&[("network-memory", "1")]);
        let numbers = env.generate(300, |i| i);
        let there = numbers.clone().rebalance().map(|i| i).shuffle().map(|i| i);
        let back = numbers.broadcast().map(|i| i).parallelism(2).global().map(|i| i);
        let (even, odd) = there.union([back]).partition(|i| i % 2 == 0);
        let all = even.connect(odd).co_map(|i| i, |i| i).key_by(|i| *i).count();
        let results = all.execute_and_collect("tight").unwrap();
        assert_eq!(results.len(), 900, "{way:?}");
        assert!((0..300).all(|i| results.contains(&(i, 3))), "{way:?}");
    }
}

/// A source that nobody reads from stops reading, and goes on when somebody does.
#[test]
fn a_slow_reader_slows_the_source_down() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    for way in ways(1) {
        let env = way.environment_with(&[("network-memory", "16 KiB")]);
        let is_open = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&is_open);
        let wait = AsyncCall::new(move |i: u64| {
            let gate = Arc::clone(&gate);
            std::future::poll_fn(move |context| {
                if gate.load(Ordering::SeqCst) {
                    return std::task::Poll::Ready(Ok(i));
                }
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            })
        });
        let n = 1_000_000;
        env.from_iter(move || 0..n).rebalance().async_map(wait.capacity(1)).discard();
        let job = env.execute_async("slow").unwrap();
        until("something was read", || job.status().records > 0);
        let mut last = 0;
        let mut same = 0;
        until("reading has stopped", || {
            let records = job.status().records;
            same = if records == last { same + 1 } else { 0 };
            last = records;
            same > 10_000
        });
        assert!(last < n / 10, "{way:?}: {last} records were read and none was taken");
        job.cancel();
        job.wait().unwrap();
        is_open.store(true, Ordering::SeqCst);
    }
}
