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
    /// Whether the row is paced, and about latency instead of throughput.
    pub measures_latency: bool,
    /// The row of the Flink harness that does the same.
    pub flink: Option<Flink>,
}

/// How a row is run by Flink, and what the engine aims at beside it.
#[derive(Debug)]
pub struct Flink {
    /// Arguments of `flink/run.sh`.
    pub args: &'static str,
    /// Source events of a full run.
    pub full: u64,
    /// Source events of a quick run.
    pub quick: u64,
    /// What is aimed at.
    pub target: Target,
}

/// What the engine aims at; besides, its peak memory should be at most a quarter of Flink's.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// At least so many times Flink's records per second.
    Throughput(f64),
    /// At most so many microseconds.
    Latency {
        /// At the median.
        p50_us: f64,
        /// At 99 of 100.
        p99_us: f64,
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
/// or the part of one before the dash (`w2` for `w2-100k` and `w2-10m`). Nothing asks for all.
///
/// # Errors
/// An item asks for no row.
pub fn select(list: &str) -> Result<Vec<&'static Row>, BenchError> {
    let items: Vec<_> = list.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    let asks = |item: &str, row: &Row| {
        row.id.strip_prefix(item).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
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
    measures_latency: false,
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
        known: &[
            known(1_500_000, 1_500_000, 0xa59c_8f71_283c_d32c),
            known(16_000_000, 16_000_000, 0x71cc_6a2c_e846_de8a),
        ],
        flink: flink("w=w2 keys=10000000", 16_000_000, 16_000_000, Target::Throughput(12.0)),
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
    Row {
        id: "w5-10k",
        about: "latency of w2-100k at 10,000 events/s",
        full: 80_000,
        quick: 20_000,
        known: W5,
        measures_latency: true,
        ..PLAIN
    },
    Row {
        id: "w5-100k",
        about: "latency of w2-100k at 100,000 events/s",
        full: 800_000,
        quick: 200_000,
        known: W5,
        measures_latency: true,
        flink: flink(
            "w=w5 keys=100000 rate=100000",
            800_000,
            200_000,
            Target::Latency { p50_us: 200.0, p99_us: 1000.0 },
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
    fn every_row_has_a_loop() {
        assert!(ROWS.iter().all(|row| loops::job(row.id).is_some()));
    }

    #[test]
    fn rows_are_selected_by_id_and_by_group() {
        let ids = |list| select(list).unwrap().iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids("q5,w2"), ["w2-100k", "w2-10m", "q5"]);
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
