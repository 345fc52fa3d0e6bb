//! What connectors make of files and of what checkpoints hold for them, for those who try what becomes of wrong ones.
//!
//! Only fuzz targets and tests build this (feature `fuzzing`). Bytes go the way that a job's go, up to where records would be
//! given to it; a file that can be read is also gone on with in its middle, as after a restore.

use crate::file::{self, FileFormat, FileInput, Position, Records};
use crate::lines::{AsJson, AsText};
use crate::log;
use crate::malformed::BadRecord;
use millstream_model::Result;
use std::fmt::Debug;
use std::path::Path;

/// Rows of some variety.
type Row = (u64, Option<i16>, String, f64);

/// Reads a file of lines; how many records it has, all of which are good.
///
/// # Errors
/// If one is not, or the file cannot be read.
pub fn lines(file: &Path) -> Result<usize> {
    records(&AsText, file)
}

/// The same with JSON in each line.
///
/// # Errors
/// As [`lines`].
pub fn json_lines(file: &Path) -> Result<usize> {
    records(&AsJson::<Row>::default(), file)
}

/// The same with comma-separated values.
///
/// # Errors
/// As [`lines`].
pub fn csv(file: &Path) -> Result<usize> {
    records(&file::AsCsv::<Row>::default(), file)
}

/// Reads a file, and once more from its middle on.
fn records<F: FileFormat>(format: &F, file: &Path) -> Result<usize>
where
    F::Record: PartialEq + Debug,
{
    let (all, places) = read(format, file, Position::default())?;
    if let Some(place) = places.get(all.len() / 2) {
        let (rest, _) = read(format, file, place.clone())?;
        assert!(rest[..] == all[all.len() / 2 + 1..], "the rest of a file is another at {place:?}");
    }
    Ok(all.len())
}

/// The records of a file from here on, and the places behind each.
fn read<F: FileFormat>(
    format: &F,
    file: &Path,
    position: Position,
) -> Result<(Vec<F::Record>, Vec<Position>)> {
    let mut records = format.records(FileInput::open(file, position)?)?;
    let (mut found, mut places) = (Vec::new(), Vec::new());
    while let Some(record) = records.next()? {
        found.push(record.map_err(BadRecord::into_error)?);
        places.push(records.position());
    }
    Ok((found, places))
}

/// Reads all of a log; how many records it has.
///
/// # Errors
/// If it is damaged.
pub fn log(dir: &Path) -> Result<usize> {
    log::received::read_all::<Row>(dir)
}

/// Makes a log with a transaction of two records: its folder holds a sample of each kind of file there is.
///
/// # Errors
/// If the folder cannot be written.
pub fn sample_log(dir: &Path) -> Result<()> {
    log::received::write_sample(dir, &[(1u64, None, "a"), (2, Some(-7), "b, \"c\"")].map(row))
}

fn row((number, small, text): (u64, Option<i16>, &str)) -> Row {
    (number, small, text.to_owned(), number as f64 / 3.0)
}

/// What a subtask of a file sink has staged: how many files it speaks of.
///
/// # Errors
/// If it is not what a file sink stages.
pub fn staged_files(staged: &[u8]) -> Result<usize> {
    file::n_staged(staged)
}

/// What a subtask of a log sink has staged; whether it speaks of a transaction.
///
/// # Errors
/// If it is not what a log sink stages.
pub fn staged_log(staged: &[u8]) -> Result<bool> {
    log::received::staged(staged)
}
