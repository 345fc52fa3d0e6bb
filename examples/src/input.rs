//! From a file to a stream of records.
//!
//! A data set is one file in an order that matters, so source, parsing and timestamps are one chain of
//! parallelism 1; what comes after it is as parallel as the job. Lines are parsed behind the source rather
//! than in it, because the formats are the data sets' own; counting them there is right as long as one
//! subtask reads one file from its beginning.

use crate::records::Record;
use millstream::connectors::{FileSource, Paced};
use millstream::prelude::*;
use std::marker::PhantomData;
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
    let parse =
        Parse { path: path.display().to_string(), n_lines: R::N_HEADER_LINES, record: PhantomData };
    let lines = lines.name(R::FILE).parallelism(1);
    let records = lines.map_with(parse).name("parse").parallelism(1);
    if watermarks.assigns_times() { records.watermarks(watermarks).parallelism(1) } else { records }
}

/// Parses lines and knows which is which.
struct Parse<R> {
    path: String,
    n_lines: u64,
    record: PhantomData<fn() -> R>,
}

impl<R> Clone for Parse<R> {
    fn clone(&self) -> Self {
        Parse { path: self.path.clone(), ..*self }
    }
}

impl<R: Record> MapFunction<Text> for Parse<R> {
    type Out = R;

    fn map(&mut self, line: Text) -> Result<R> {
        self.n_lines += 1;
        R::parse(&line).map_err(|cause| {
            Error::user(format!("`{}`, line {}: {cause}: `{line}`", self.path, self.n_lines))
        })
    }
}
