//! The queries of the data set's description: what each reads, what it must give, and where that is written.
//!
//! Two kinds of tests run them: those that let them run to their end and those that kill them again and again. Both
//! must mean the same by a right result, so the table is here and not in either of them.

use std::path::{Path, PathBuf};

use crate::compare::expected_file;
use crate::data::workspace_root;

/// A query of the program `queries`.
#[derive(Debug)]
pub struct Query {
    /// How it is asked for.
    pub id: &'static str,
    /// The file in the data folder that it reads event by event (others are tables, or as long as this one).
    pub input: &'static str,
    /// Its results: folders in the output, files among the expected results.
    pub results: &'static [&'static str],
}

const DEPARTURES: &str = "streams/departures.csv.gz";
const NASA: &str = "nasa-http/nasa_19950801.tsv.gz";
const APACHE: &str = "apache-log/apache_logs.gz";
const WIKIPEDIA: &str = "wikiticker/wikiticker-2015-09-12-sampled.json.gz";
const FLIGHTS_2001: &str = "us-flights-2001/flights-3m.csv.gz";
const BIBLE: &str = "kjv/kjv.txt.gz";

/// All of them.
pub const QUERIES: [Query; 13] = [
    Query { id: "O1", input: DEPARTURES, results: &["O1_carrier_tumbling_1h"] },
    Query {
        id: "O2",
        input: DEPARTURES,
        results: &["O2_origin_tumbling_1h_late5m", "O2_late_records"],
    },
    Query { id: "O3", input: DEPARTURES, results: &["O3_interval_join_turnaround"] },
    Query { id: "O4", input: NASA, results: &["O4_host_sessions_30m"] },
    Query { id: "O5", input: NASA, results: &["O5_top5_urls_sliding_10m_1m"] },
    Query { id: "O6", input: BIBLE, results: &["O6_kjv_word_count"] },
    Query { id: "O7", input: WIKIPEDIA, results: &["O7_wiki_channel_tumbling_5m"] },
    Query { id: "O8", input: FLIGHTS_2001, results: &["O8_us_dest_tumbling_6h"] },
    Query {
        id: "O9",
        input: APACHE,
        results: &["O9_apache_status_tumbling_1h_bound60s", "O9_late_records"],
    },
    Query { id: "B1", input: DEPARTURES, results: &["B1_firings", "B1_dropped_records"] },
    Query { id: "B2", input: DEPARTURES, results: &["B2_asof_join_weather"] },
    Query { id: "B3", input: NASA, results: &["B3_alerts"] },
    Query { id: "B4", input: BIBLE, results: &["B4_count_windows"] },
];

/// The queries that the repository's sample (flights and the first book of the Bible) can answer.
pub const SAMPLE: [&str; 7] = ["O1", "O2", "O3", "O6", "B1", "B2", "B4"];

impl Query {
    /// The query with this id.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(id: &str) -> &'static Query {
        QUERIES.iter().find(|query| query.id == id).expect("a query of the list")
    }

    /// Whether its results tell which records came too late.
    pub fn judges_lateness(&self) -> bool {
        self.results.iter().any(|result| result.contains("late") || result.contains("dropped"))
    }

    /// The folder with this query's expected results over the full data set in `data`, which states the B queries
    /// without results.
    pub fn expected_dir(&self, data: &Path) -> PathBuf {
        let root = if self.id.starts_with('B') {
            workspace_root().join("tests/data")
        } else {
            data.into()
        };
        root.join("expected")
    }

    /// Each result's name and the file in `dir` that says what is expected.
    ///
    /// # Errors
    /// The first result without a file.
    pub fn expected(&self, dir: &Path) -> Result<Vec<(&'static str, PathBuf)>, String> {
        let file = |name: &&'static str| {
            let file = expected_file(dir, name);
            file.map(|file| (*name, file))
                .ok_or_else(|| format!("no {name}.csv in {}", dir.display()))
        };
        self.results.iter().map(file).collect()
    }
}
