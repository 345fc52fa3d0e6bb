//! Records that cannot be read, and what becomes of them.
//!
//! The choice is the user's: fail (the default), pass over and count, or go on with both kinds as a stream
//! of `Result`s. Nothing is ever dropped without being counted.

use millstream_model::{Error, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::metrics::Counter;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The counter of malformed records that were passed over, in the metrics of the source.
pub const MALFORMED: &str = "malformed_lines";

/// Most characters of a bad record that an error shows.
const SHOWN_CHARS: usize = 120;

/// What to do with a record that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The job fails with file, line number and cause.
    #[default]
    Fail,
    /// The record is passed over and counted in the metric [`malformed_lines`](MALFORMED).
    Skip,
}

/// A record that cannot be read: a record itself, so that it can flow to a side output or a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRecord {
    /// The file or address it came from, if it came from one.
    pub origin: Option<String>,
    /// Number of its first line there, from 1.
    pub line_number: Option<u64>,
    /// The record as it was read; what is no UTF-8 is replaced by `�`.
    pub text: String,
    /// What is wrong with it.
    pub cause: String,
}

impl BadRecord {
    /// The error that ends a job.
    pub(crate) fn into_error(self) -> Error {
        Error::user(format!(
            "{self}; correct it, pass over such lines with `.on_error(OnError::Skip)`, or read them as `Result`s with `.results()`"
        ))
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, self.line_number) {
            (Some(origin), Some(line)) => write!(f, "`{origin}`, line {line}: ")?,
            (Some(origin), None) => write!(f, "`{origin}`: ")?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        write!(f, "{}: `", self.cause)?;
        match self.text.char_indices().nth(SHOWN_CHARS) {
            Some((end, _)) => write!(f, "{}…`", &self.text[..end]),
            None => write!(f, "{}`", self.text),
        }
    }
}

impl std::error::Error for BadRecord {}

/// Parses one line of a stream and keeps what cannot be parsed: for a `map` whose two kinds of results are
/// then taken apart.
///
/// ```
/// use millstream_connectors::parse_with;
///
/// assert_eq!(parse_with("17", str::parse::<u32>), Ok(17));
/// let bad = parse_with("seventeen", str::parse::<u32>).unwrap_err();
/// assert_eq!(bad.to_string(), "invalid digit found in string: `seventeen`");
/// ```
///
/// # Errors
/// The line with what `parse` has to say against it.
pub fn parse_with<T, E: fmt::Display>(
    line: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, BadRecord> {
    parse(line).map_err(|e| BadRecord {
        origin: None,
        line_number: None,
        text: line.to_owned(),
        cause: e.to_string(),
    })
}

/// What a reader makes of records and bad records.
pub(crate) trait Policy<T>: Send {
    /// What it emits.
    type Out;
    /// Takes a record.
    fn take(&mut self, record: Result<T, BadRecord>, out: &mut Vec<Self::Out>) -> Result<()>;
}

/// Emits records; fails or counts.
pub(crate) struct Plain {
    on_error: OnError,
    skipped: Counter,
}

impl Plain {
    pub(crate) fn new(on_error: OnError, operator: &OperatorContext) -> Self {
        Plain { on_error, skipped: operator.counter(MALFORMED) }
    }
}

impl<T> Policy<T> for Plain {
    type Out = T;

    #[inline]
    fn take(&mut self, record: Result<T, BadRecord>, out: &mut Vec<T>) -> Result<()> {
        match (record, self.on_error) {
            (Ok(record), _) => out.push(record),
            (Err(bad), OnError::Fail) => return Err(bad.into_error()),
            (Err(bad), OnError::Skip) => {
                self.skipped.inc();
                tracing::debug!(%bad, "passed over");
            }
        }
        Ok(())
    }
}

/// Emits both kinds.
pub(crate) struct AsResults;

impl<T> Policy<T> for AsResults {
    type Out = Result<T, BadRecord>;

    #[inline]
    fn take(&mut self, record: Result<T, BadRecord>, out: &mut Vec<Self::Out>) -> Result<()> {
        out.push(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_records_are_shown_in_part() {
        let text = "ä".repeat(SHOWN_CHARS + 1);
        let bad = BadRecord { origin: None, line_number: Some(7), text, cause: "odd".into() };
        assert_eq!(bad.to_string(), format!("line 7: odd: `{}…`", "ä".repeat(SHOWN_CHARS)));
    }
}
