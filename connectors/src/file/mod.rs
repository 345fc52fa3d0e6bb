//! Files: lines, CSV and JSON lines, read and written.
//!
//! A file is a split: it is read by one subtask from its beginning to its end, a block at a time, and has
//! a watermark of its own, so files of one folder may cover different times. Compressed files are
//! decompressed by their reader. Files written appear under their names only when they are complete.

mod csv;
mod input;
mod monitor;
mod sink;
mod source;

pub use self::csv::{AsCsv, CsvRecords};
pub use crate::lines::{AsJson, AsString, AsText, LineFormat};
pub use sink::FileSink;
#[cfg(feature = "fuzzing")]
pub(crate) use sink::n_staged;
pub use source::{
    Fields, FileFormat, FileInput, FileResults, FileSource, FileSplit, LineRecords, Position,
    Records,
};

#[cfg(test)]
mod tests;
