//! From a file to a stream of records.
//!
//! A data set is one file in an order that matters, so source, parsing and timestamps are one chain of
//! parallelism 1; what comes after it is as parallel as the job. Lines are parsed behind the source rather
//! than in it, because the formats are the data sets' own. A bad line is shown, not numbered: after a restart
//! the count would begin where the reader does.
//!
//! Whatever keeps state has a uid, named after the file: a job reads each file once.

use crate::records::Record;
use millstream::connectors::{FileSource, Paced};
use millstream::prelude::*;
use std::path::Path;

/// The records of a data set's file in the folder `data`, in file order, at most `rate` a second.
pub fn read<R: Record>(
    env: &Environment,
    data: &Path,
    rate: Option<u64>,
    watermarks: Watermarks<R>,
) -> DataStream<R> {
    let path = data.join(R::FILE);
    let file = FileSource::lines(&path).skip_lines(R::N_HEADER_LINES);
    let lines = match rate {
        Some(rate) => env.source(Paced::new(file, rate), Watermarks::none()),
        None => env.source(file, Watermarks::none()),
    };
    let lines = lines.name(R::FILE).uid(R::FILE).parallelism(1);
    let path = path.display().to_string();
    let records = lines.try_map(move |line| {
        R::parse(&line).map_err(|cause| Error::user(format!("`{path}`: {cause}: `{line}`")))
    });
    let records = records.name("parse").parallelism(1);
    if !watermarks.assigns_times() {
        return records;
    }
    records.watermarks(watermarks).uid(format!("times of {}", R::FILE)).parallelism(1)
}
