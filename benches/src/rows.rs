//! The rows of the benchmark: how many events, what must come out, what is aimed at.
//!
//! The expected results hold for every engine, parallelism and batch size. Those at Flink's event
//! counts were measured with the Flink harness; the others are confirmed by the models in
//! `tests/checksums.rs`, which share nothing with the loops but the generators.

use crate::workload::{BenchError, Sink};

/// A row: one workload in one configuration.
#[derive(Debug)]
pub struct Row {
    /// How the row is asked for.
    pub id: &'static str,
    /// What the job does, for the list of rows.
    pub about: &'static str,
    /// Source events of a full run: some tenths of a second by the loop.
    pub full: u64,
    /// Source events of a quick run, not so few that starting up is what is measured.
    pub quick: u64,
    /// Results for some event counts, ascending, [`Row::full`] and [`Row::quick`] among them.
    known: &'static [(u64, Sink)],
    /// Whether the source reads W3's lines.
    pub reads_text: bool,
    /// What it is about.
    pub about_what: Measure,
    /// The state backend, and the time between two checkpoints, if it takes any.
    pub state: StateOptions,
    /// The row that does the same without checkpoints, and the share of its rate that they may cost.
    pub plain: Option<(&'static str, f64)>,
    /// The row of the Flink harness that does the same.
    pub flink: Option<Flink>,
}

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// How many records a second.
    Throughput,
    /// How long after its time a record arrives; the row is paced.
    Latency,
    /// What a checkpoint of large state takes, and for how long it holds a task up; the row is paced. A hand-written loop
    /// takes none, so there is none.
    Checkpoints,
}

/// Where a row's state lies, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct StateOptions {
    /// Whether it lies in RocksDB.
    pub rocksdb: bool,
    /// Memory for it in RocksDB, as the option `state-memory` has it.
    pub memory: &'static str,
    /// Milliseconds from the start of a checkpoint to that of the next; 0 for none.
    pub interval_ms: u64,
}

/// In memory, without checkpoints.
const IN_MEMORY: StateOptions = StateOptions { rocksdb: false, memory: "1 GiB", interval_ms: 0 };
/// In memory, with a checkpoint every second.
const EVERY_SECOND: StateOptions = StateOptions { interval_ms: 1000, ..IN_MEMORY };
/// In memory, with a checkpoint every five seconds.
const EVERY_5_SECONDS: StateOptions = StateOptions { interval_ms: 5000, ..IN_MEMORY };
/// In RocksDB, without checkpoints.
#[cfg(feature = "rocksdb")]
const IN_ROCKSDB: StateOptions = StateOptions { rocksdb: true, ..IN_MEMORY };

/// How a row is run by Flink, and what the engine aims at beside it.
#[derive(Debug)]
pub struct Flink {
    /// Arguments of `flink/run.sh`.
    pub args: &'static str,
    /// Source events of a full run.
    pub full: u64,
    /// Source events of a quick run.
    pub quick: u64,
    /// What is aimed at, if anything is.
    pub target: Target,
}

/// What the engine aims at; besides, its peak memory should be at most a quarter of Flink's.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Nothing beside Flink.
    None,
    /// At least so many times Flink's records per second.
    Throughput(f64),
    /// At most so many microseconds.
    Latency {
        /// At the median.
        p50_us: f64,
        /// At 99 of 100.
        p99_us: f64,
    },
    /// Checkpoints that take no longer than Flink's, and never hold a task up for longer than so many microseconds.
    Checkpoints {
        /// The longest.
        held_max_us: f64,
    },
}

/// The largest share of Flink's peak memory that is aimed at.
pub const MEMORY_TARGET: f64 = 0.25;

impl Row {
    /// What the rates of this row count: source events, but words for W3.
    pub fn records(&self, n: u64, sink_records: u64) -> u64 {
        if self.reads_text { sink_records } else { n }
    }

    /// The event count of a run.
    pub fn events(&self, quick: bool) -> u64 {
        if quick { self.quick } else { self.full }
    }

    /// The event counts for which the right result is known, ascending.
    pub fn known_counts(&self) -> impl Iterator<Item = u64> {
        self.known.iter().map(|known| known.0)
    }

    /// The right result for `n` events, where it is known.
    pub fn expected(&self, n: u64) -> Option<Sink> {
        self.known.iter().find(|known| known.0 == n).map(|known| known.1)
    }

    /// Compares a result with the right one; answers whether the right one is known.
    ///
    /// # Errors
    /// The result is wrong.
    pub fn check(&self, engine: &str, n: u64, actual: Sink) -> Result<bool, BenchError> {
        match self.expected(n) {
            Some(expected) if expected != actual => Err(BenchError::WrongResult {
                row: self.id.into(),
                engine: engine.into(),
                n,
                actual,
                expected,
            }),
            expected => Ok(expected.is_some()),
        }
    }
}

/// The row with this id.
///
/// # Errors
/// There is none; the error lists those that there are.
pub fn find(id: &str) -> Result<&'static Row, BenchError> {
    ROWS.iter().find(|row| row.id == id).ok_or_else(|| unknown(id))
}

/// The rows that a comma-separated list asks for, in the order of the table: each item is an id,
/// or the part of several before a dash (`w6` for `w6-100m` and so on). Nothing asks for all.
///
/// # Errors
/// An item asks for no row.
pub fn select(list: &str) -> Result<Vec<&'static Row>, BenchError> {
    let items: Vec<_> = list.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    let is_id = |item: &str| ROWS.iter().any(|row| row.id == item);
    let asks = |item: &str, row: &Row| {
        let is_group = || row.id.strip_prefix(item).is_some_and(|rest| rest.starts_with('-'));
        row.id == item || !is_id(item) && is_group()
    };
    if let Some(item) = items.iter().find(|item| !ROWS.iter().any(|row| asks(item, row))) {
        return Err(unknown(item));
    }
    let wanted = |row: &&Row| items.is_empty() || items.iter().any(|item| asks(item, row));
    Ok(ROWS.iter().filter(wanted).collect())
}

fn unknown(id: &str) -> BenchError {
    let ids: Vec<_> = ROWS.iter().map(|row| row.id).collect();
    BenchError::UnknownRow(id.into(), ids.join(", "))
}

const fn known(n: u64, records: u64, checksum: u64) -> (u64, Sink) {
    (n, Sink { records, checksum })
}

/// What most rows have in common.
const PLAIN: Row = Row {
    id: "",
    about: "",
    full: 0,
    quick: 0,
    known: &[],
    reads_text: false,
    about_what: Measure::Throughput,
    state: IN_MEMORY,
    plain: None,
    flink: None,
};

const W1: &[(u64, Sink)] = &[
    known(1_000_000, 1_000_000, 0x0db8_0b8e_903b_682d),
    known(20_000_000, 20_000_000, 0x374a_9641_9953_715c),
    known(400_000_000, 400_000_000, 0x662d_b786_8d0e_6a5f),
    known(1_000_000_000, 1_000_000_000, 0x1d10_8391_796a_969a),
];

const W2_100K: &[(u64, Sink)] = &[
    known(1_500_000, 1_500_000, 0x154d_89b9_da91_adb6),
    known(20_000_000, 20_000_000, 0xdb85_4fc7_6276_8670),
    known(100_000_000, 100_000_000, 0xec34_29c0_eb32_3910),
    known(400_000_000, 400_000_000, 0xc140_3220_c3af_7ebd),
];

const W6_100M: &[(u64, Sink)] =
    &[known(500_000, 500_000, 0x000b_a22a_b94a), known(2_200_000, 2_200_000, 0x0033_3b73_85dd)];
const W6_1G: &[(u64, Sink)] =
    &[known(500_000, 500_000, 0x001d_1a90_d170), known(4_000_000, 4_000_000, 0x03a3_5b7b_bd0a)];
const W2_10M: &[(u64, Sink)] = &[
    known(1_500_000, 1_500_000, 0xa59c_8f71_283c_d32c),
    known(16_000_000, 16_000_000, 0x71cc_6a2c_e846_de8a),
    known(160_000_000, 160_000_000, 0xb70b_d954_bf8a_aee7),
];

const W3: &[(u64, Sink)] = &[known(900_000, 9_986_625, 0xbb_79a3_bf92)];

/// The latency rows end in W2's sink, with W2's 100,000 keys.
const W5: &[(u64, Sink)] = &[
    known(20_000, 20_000, 0x7c49_966e_036e_3b20),
    known(80_000, 80_000, 0x258f_e01a_d34b_cc99),
    known(200_000, 200_000, 0xd385_34d7_a6ee_4d67),
    known(800_000, 800_000, 0x0e58_8a20_3d04_cee5),
];

/// Every row, in the order of the report.
pub static ROWS: &[Row] = &[
    Row {
        id: "w1-chain",
        about: "random numbers, plus one, in one fused task",
        full: 1_000_000_000,
        quick: 20_000_000,
        known: W1,
        flink: flink("w=w1 ex=chain", 20_000_000, 20_000_000, Target::Throughput(5.0)),
        ..PLAIN
    },
    Row {
        id: "w1-rebalance",
        about: "the same with a round-robin exchange between source and map",
        full: 400_000_000,
        quick: 20_000_000,
        known: W1,
        flink: flink("w=w1 ex=rebalance", 20_000_000, 20_000_000, Target::Throughput(5.0)),
        ..PLAIN
    },
    Row {
        id: "w2-100k",
        about: "running count per key, 100,000 uniform keys",
        full: 100_000_000,
        quick: 20_000_000,
        known: W2_100K,
        flink: flink("w=w2 keys=100000", 20_000_000, 1_500_000, Target::Throughput(12.0)),
        ..PLAIN
    },
    Row {
        id: "w2-10m",
        about: "running count per key, 10,000,000 uniform keys",
        full: 16_000_000,
        quick: 16_000_000,
        known: W2_10M,
        flink: flink("w=w2 keys=10000000", 16_000_000, 16_000_000, Target::Throughput(12.0)),
        ..PLAIN
    },
    Row {
        id: "w2-100k-ckpt",
        about: "w2-100k with exactly-once checkpoints to a local folder every second",
        full: 400_000_000,
        quick: 20_000_000,
        known: W2_100K,
        state: EVERY_SECOND,
        plain: Some(("w2-100k", 0.1)),
        flink: flink("w=w2 keys=100000 ckpt=1000", 20_000_000, 1_500_000, Target::None),
        ..PLAIN
    },
    Row {
        id: "w2-10m-ckpt",
        about: "w2-10m with exactly-once checkpoints to a local folder every second",
        full: 160_000_000,
        quick: 16_000_000,
        known: W2_10M,
        state: EVERY_SECOND,
        plain: Some(("w2-10m", 1.0)),
        flink: flink(
            "w=w2 keys=10000000 ckpt=1000",
            16_000_000,
            16_000_000,
            Target::Throughput(15.0),
        ),
        ..PLAIN
    },
    #[cfg(feature = "rocksdb")]
    Row {
        id: "w2-100k-rocksdb",
        about: "w2-100k with its state in RocksDB",
        full: 100_000_000,
        quick: 20_000_000,
        known: W2_100K,
        state: IN_ROCKSDB,
        flink: flink(
            "w=w2 keys=100000 backend=rocksdb",
            20_000_000,
            1_500_000,
            Target::Throughput(60.0),
        ),
        ..PLAIN
    },
    #[cfg(feature = "rocksdb")]
    Row {
        id: "w2-100k-rocksdb-ckpt",
        about: "w2-100k-rocksdb with exactly-once checkpoints every second",
        full: 400_000_000,
        quick: 20_000_000,
        known: W2_100K,
        state: StateOptions { interval_ms: 1000, ..IN_ROCKSDB },
        plain: Some(("w2-100k-rocksdb", 1.0)),
        flink: flink(
            "w=w2 keys=100000 backend=rocksdb ckpt=1000",
            20_000_000,
            1_500_000,
            Target::None,
        ),
        ..PLAIN
    },
    #[cfg(feature = "rocksdb")]
    Row {
        id: "w2-10m-rocksdb",
        about: "w2-10m with its state in RocksDB, 1 GiB of memory for it",
        full: 1_500_000,
        quick: 1_500_000,
        known: W2_10M,
        state: IN_ROCKSDB,
        flink: flink(
            "w=w2 keys=10000000 backend=rocksdb",
            1_500_000,
            1_500_000,
            Target::Throughput(5.0),
        ),
        ..PLAIN
    },
    #[cfg(feature = "rocksdb")]
    Row {
        id: "w2-10m-rocksdb-128m",
        about: "the same with 128 MiB",
        full: 1_500_000,
        quick: 1_500_000,
        known: W2_10M,
        state: StateOptions { memory: "128 MiB", ..IN_ROCKSDB },
        flink: flink("w=w2 keys=10000000 backend=rocksdb", 1_500_000, 1_500_000, Target::None),
        ..PLAIN
    },
    #[cfg(feature = "rocksdb")]
    Row {
        id: "w2-10m-rocksdb-ckpt",
        about: "w2-10m-rocksdb with exactly-once checkpoints every second",
        full: 16_000_000,
        quick: 1_500_000,
        known: W2_10M,
        state: StateOptions { interval_ms: 1000, ..IN_ROCKSDB },
        flink: flink(
            "w=w2 keys=10000000 backend=rocksdb ckpt=1000",
            1_500_000,
            1_500_000,
            Target::None,
        ),
        ..PLAIN
    },
    Row {
        id: "w3-string",
        about: "running count per word of a text, one String a word; rates are words",
        full: 900_000,
        quick: 900_000,
        known: W3,
        reads_text: true,
        flink: flink("w=w3", 900_000, 900_000, Target::Throughput(3.0)),
        ..PLAIN
    },
    Row {
        id: "w3-text",
        about: "the same with words that are not allocated one by one",
        full: 900_000,
        quick: 900_000,
        known: W3,
        reads_text: true,
        flink: flink("w=w3", 900_000, 900_000, Target::Throughput(6.0)),
        ..PLAIN
    },
    Row {
        id: "q0",
        about: "Nexmark: bids",
        full: 60_000_000,
        quick: 60_000_000,
        known: &[
            known(3_000_000, 2_760_000, 0x1239_5395_8da3),
            known(60_000_000, 55_200_000, 0x0001_9bc0_332f_de1f),
        ],
        flink: flink("w=q0", 60_000_000, 3_000_000, Target::Throughput(2.0)),
        ..PLAIN
    },
    Row {
        id: "q1",
        about: "Nexmark: bids with the price in another currency",
        full: 40_000_000,
        quick: 40_000_000,
        known: &[
            known(3_000_000, 2_760_000, 0x108e_d569_65d1),
            known(40_000_000, 36_800_000, 0xf23e_7d0d_4243),
        ],
        flink: flink("w=q1", 40_000_000, 3_000_000, Target::Throughput(2.0)),
        ..PLAIN
    },
    Row {
        id: "q2",
        about: "Nexmark: auction and price of the bids on some auctions",
        full: 60_000_000,
        quick: 60_000_000,
        known: &[
            known(3_000_000, 21_854, 0x0024_22eb_9691),
            known(60_000_000, 452_626, 0x0370_06f6_4039),
        ],
        flink: flink("w=q2", 60_000_000, 3_000_000, Target::Throughput(2.0)),
        ..PLAIN
    },
    Row {
        id: "q3",
        about: "Nexmark: auctions of a category join their sellers in three states",
        full: 40_000_000,
        quick: 40_000_000,
        known: &[
            known(3_000_000, 18_187, 0x9457_b069_db93_2b85),
            known(40_000_000, 242_016, 0x304c_8d32_a07c_240b),
        ],
        flink: flink("w=q3", 40_000_000, 3_000_000, Target::Throughput(2.0)),
        ..PLAIN
    },
    Row {
        id: "q5",
        about: "Nexmark: the auction with most bids in 10 s, every 2 s",
        full: 24_000_000,
        quick: 6_000_000,
        known: &[
            known(500_000, 7, 0x3355_c240_95d5_f068),
            known(3_000_000, 19, 0x5d15_d4a7_49c8_dff9),
            known(6_000_000, 34, 0xf1c4_ebcd_dfc5_af25),
            known(24_000_000, 124, 0x1c67_35fd_4b59_be6b),
        ],
        flink: flink("w=q5", 6_000_000, 3_000_000, Target::Throughput(12.0)),
        ..PLAIN
    },
    #[cfg(feature = "rocksdb")]
    Row {
        id: "q5-rocksdb-1m",
        about: "q5 with its windows in RocksDB, 1 MiB of memory for them",
        full: 6_000_000,
        quick: 3_000_000,
        known: &[
            known(500_000, 7, 0x3355_c240_95d5_f068),
            known(3_000_000, 19, 0x5d15_d4a7_49c8_dff9),
            known(6_000_000, 34, 0xf1c4_ebcd_dfc5_af25),
        ],
        state: StateOptions { memory: "1 MiB", ..IN_ROCKSDB },
        ..PLAIN
    },
    Row {
        id: "q7",
        about: "Nexmark: the highest bid of every 10 s",
        full: 24_000_000,
        quick: 24_000_000,
        known: &[
            known(3_000_000, 3, 0x92e2_53f3_e3a9_854d),
            known(24_000_000, 24, 0x5a49_947c_2b2f_c8fd),
        ],
        flink: flink("w=q7", 24_000_000, 3_000_000, Target::Throughput(4.0)),
        ..PLAIN
    },
    Row {
        id: "q8",
        about: "Nexmark: persons who opened auctions within 10 s of registering",
        full: 40_000_000,
        quick: 40_000_000,
        known: &[
            known(3_000_000, 179_252, 0x1e95_26aa_5bda_459d),
            known(40_000_000, 2_385_451, 0x3e9a_f0ef_c8ca_7512),
        ],
        flink: flink("w=q8", 40_000_000, 3_000_000, Target::Throughput(3.0)),
        ..PLAIN
    },
    #[cfg(feature = "rocksdb")]
    Row {
        id: "q8-rocksdb-8m",
        about: "q8 with its windows in RocksDB, 8 MiB of memory for them",
        full: 40_000_000,
        quick: 3_000_000,
        known: &[
            known(3_000_000, 179_252, 0x1e95_26aa_5bda_459d),
            known(40_000_000, 2_385_451, 0x3e9a_f0ef_c8ca_7512),
        ],
        state: StateOptions { memory: "8 MiB", ..IN_ROCKSDB },
        ..PLAIN
    },
    Row {
        id: "w5-10k",
        about: "latency of w2-100k at 10,000 events/s",
        full: 80_000,
        quick: 20_000,
        known: W5,
        about_what: Measure::Latency,
        ..PLAIN
    },
    Row {
        id: "w5-100k",
        about: "latency of w2-100k at 100,000 events/s",
        full: 800_000,
        quick: 200_000,
        known: W5,
        about_what: Measure::Latency,
        flink: flink(
            "w=w5 keys=100000 rate=100000",
            800_000,
            200_000,
            Target::Latency { p50_us: 200.0, p99_us: 1000.0 },
        ),
        ..PLAIN
    },
    Row {
        id: "w5-100k-ckpt",
        about: "w5-100k with exactly-once checkpoints every second",
        full: 800_000,
        quick: 200_000,
        known: W5,
        about_what: Measure::Latency,
        state: EVERY_SECOND,
        flink: flink(
            "w=w5 keys=100000 rate=100000 ckpt=1000",
            800_000,
            200_000,
            Target::Latency { p50_us: 300.0, p99_us: 2000.0 },
        ),
        ..PLAIN
    },
    Row {
        id: "w6-100m",
        about: "checkpoints every 5 s while 200,000 keys of 512 bytes are rewritten at 100,000/s",
        full: 2_200_000,
        quick: 500_000,
        known: W6_100M,
        about_what: Measure::Checkpoints,
        state: EVERY_5_SECONDS,
        ..PLAIN
    },
    Row {
        id: "w6-1g",
        about: "the same with 2,000,000 keys",
        full: 4_000_000,
        quick: 500_000,
        known: W6_1G,
        about_what: Measure::Checkpoints,
        state: EVERY_5_SECONDS,
        flink: flink(
            "w=w2blob keys=2000000 size=512 rate=100000 ckpt=5000",
            4_000_000,
            500_000,
            Target::Checkpoints { held_max_us: 5000.0 },
        ),
        ..PLAIN
    },
    Row {
        id: "w6-4g",
        about: "the same with 8,000,000 keys at 400,000/s",
        full: 16_000_000,
        quick: 2_000_000,
        known: &[
            known(2_000_000, 2_000_000, 0x01d1_a93a_ddc0),
            known(16_000_000, 16_000_000, 0x3a36_03dc_a5c9),
        ],
        about_what: Measure::Checkpoints,
        state: EVERY_5_SECONDS,
        ..PLAIN
    },
    #[cfg(feature = "rocksdb")]
    Row {
        id: "w6-100m-rocksdb",
        about: "w6-100m with its state in RocksDB, so with incremental checkpoints",
        full: 2_200_000,
        quick: 500_000,
        known: W6_100M,
        about_what: Measure::Checkpoints,
        state: StateOptions { interval_ms: 5000, ..IN_ROCKSDB },
        ..PLAIN
    },
    #[cfg(feature = "rocksdb")]
    Row {
        id: "w6-1g-rocksdb",
        about: "the same with 2,000,000 keys, in 1 GiB of memory",
        full: 4_000_000,
        quick: 500_000,
        known: W6_1G,
        about_what: Measure::Checkpoints,
        state: StateOptions { interval_ms: 5000, ..IN_ROCKSDB },
        flink: flink(
            "w=w2blob keys=2000000 size=512 rate=100000 ckpt=5000 backend=rocksdb incremental=true",
            4_000_000,
            500_000,
            Target::None,
        ),
        ..PLAIN
    },
    Row {
        id: "hour-tumbling",
        about: "bids per hour and key (auction mod 64)",
        full: 60_000_000,
        quick: 60_000_000,
        known: &[
            known(3_000_000, 64, 0xbeef_a940_2b5d_e880),
            known(60_000_000, 64, 0x1aae_e21b_f577_f8cf),
        ],
        ..PLAIN
    },
    Row {
        id: "hour-sliding",
        about: "bids in the last hour per key, every second",
        full: 60_000_000,
        quick: 60_000_000,
        known: &[
            known(3_000_000, 232_256, 0xd186_5d74_3c8c_7e3a),
            known(60_000_000, 268_736, 0x5338_25a8_06a9_63d9),
        ],
        ..PLAIN
    },
];

const fn flink(args: &'static str, full: u64, quick: u64, target: Target) -> Option<Flink> {
    Some(Flink { args, full, quick, target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loops;

    #[test]
    fn every_event_count_has_a_known_result() {
        for row in ROWS {
            let mut counts = vec![row.full, row.quick];
            counts.extend(row.flink.iter().flat_map(|flink| [flink.full, flink.quick]));
            for n in counts {
                assert!(row.expected(n).is_some(), "{} at {n}", row.id);
            }
            assert!(row.known_counts().is_sorted());
        }
    }

    #[test]
    fn every_row_without_large_state_has_a_loop() {
        for row in ROWS {
            let has_none = row.about_what == Measure::Checkpoints;
            assert_eq!(loops::job(row.id).is_none(), has_none, "{}", row.id);
        }
    }

    #[test]
    fn every_row_has_a_job() {
        assert!(ROWS.iter().all(|row| crate::jobs::job(row.id).is_some()));
    }

    #[test]
    fn rows_are_selected_by_id_and_by_group() {
        let ids = |list| select(list).unwrap().iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids("q5,w1"), ["w1-chain", "w1-rebalance", "q5"]);
        assert_eq!(ids("w5"), ["w5-10k", "w5-100k", "w5-100k-ckpt"]);
        assert_eq!(ids("w5-100k"), ["w5-100k"]);
        assert_eq!(ids("w1-chain"), ["w1-chain"]);
        assert_eq!(ids("").len(), ROWS.len());
        for list in ["w", "w2-1", "q5,nope"] {
            let error = select(list).unwrap_err().to_string();
            assert!(error.contains("rows: w1-chain, "), "{error}");
        }
    }

    #[test]
    fn a_wrong_result_is_an_error() {
        let row = find("q7").unwrap();
        let right = row.expected(3_000_000).unwrap();
        assert!(row.check("loop", 3_000_000, right).unwrap());
        assert!(!row.check("loop", 7, right).unwrap());
        let wrong = Sink { records: 4, ..right };
        assert!(row.check("loop", 3_000_000, wrong).is_err());
    }
}
