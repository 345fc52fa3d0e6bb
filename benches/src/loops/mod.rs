//! Hand-written loops: what two threads can do without any framework.
//!
//! Each does exactly what its row says, on the exact events and with the same sink, and nothing
//! else: no snapshots, no restart, no other parallelism than two. They are the yardstick of the
//! engine. Rows without keys are two threads that share nothing; the others use `exchange`.
//!
//! One thing they do grant: an event is made in full before a query looks at it (see `emitted`).

mod exchange;
mod hour;
mod q3;
mod q5;
mod q7;
mod q8;
mod stateless;
mod table;
mod w2;
mod w3;
mod w5;
mod windows;

use crate::nexmark::{Event, Generator};
use crate::workload::{BenchError, Job};

/// Threads of every loop.
pub const THREADS: usize = 2;

/// Every loop, by the id of its row.
const LOOPS: &[(&str, Job)] = &[
    ("w1-chain", stateless::w1_chain),
    ("w1-rebalance", stateless::w1_rebalance),
    ("w2-100k", w2::run::<100_000>),
    ("w2-10m", w2::run::<10_000_000>),
    ("w2-100k-ckpt", w2::run::<100_000>),
    ("w2-10m-ckpt", w2::run::<10_000_000>),
    ("w2-100k-rocksdb", w2::run::<100_000>),
    ("w2-100k-rocksdb-ckpt", w2::run::<100_000>),
    ("w2-10m-rocksdb", w2::run::<10_000_000>),
    ("w2-10m-rocksdb-128m", w2::run::<10_000_000>),
    ("w2-10m-rocksdb-ckpt", w2::run::<10_000_000>),
    ("w3-string", w3::string),
    ("w3-text", w3::packed),
    ("q0", stateless::q0),
    ("q1", stateless::q1),
    ("q2", stateless::q2),
    ("q3", q3::run),
    ("q5", q5::run),
    #[cfg(feature = "rocksdb")]
    ("q5-rocksdb-1m", q5::run),
    ("q7", q7::run),
    ("q8", q8::run),
    #[cfg(feature = "rocksdb")]
    ("q8-rocksdb-8m", q8::run),
    ("w5-10k", w5::run::<10_000>),
    ("w5-100k", w5::run::<100_000>),
    ("w5-100k-ckpt", w5::run::<100_000>),
    ("hour-tumbling", hour::tumbling),
    ("hour-sliding", hour::sliding),
];

/// The loop of a row.
pub fn job(row: &str) -> Option<Job> {
    LOOPS.iter().find(|entry| entry.0 == row).map(|entry| entry.1)
}

/// Refuses any other parallelism than the loops have.
///
/// # Errors
/// `parallelism` is not [`THREADS`].
pub fn check_parallelism(parallelism: usize) -> Result<(), BenchError> {
    if parallelism == THREADS { Ok(()) } else { Err(BenchError::LoopParallelism(parallelism)) }
}

/// Event `i` as a source emits it: made in full, whatever of it the job goes on to use.
///
/// Without this the compiler reaches through a query's filter into the generator and makes only
/// what passes: q3 would be measured on 8 % of its input, and be four times as fast.
#[inline(always)]
fn emitted(generator: &Generator, i: u64) -> Event {
    let event = generator.event(i);
    std::hint::black_box(&event);
    event
}
