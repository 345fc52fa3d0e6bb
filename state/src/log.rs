//! What a frozen part has written down of itself and not yet handed over.
//!
//! Entries are written in two places, by the cursor and by whoever changes one first, and neither may fail:
//! what was changed was changed rightly, it is the snapshot that fails. So a failure waits here too.
//!
//! How a type is written is not always how it is read, and nothing tells before there is a value; so the
//! first entry of every snapshot is held against the part's shape.

use crate::codec;
use crate::part::Written;
use crate::schema::Shape;
use millstream_model::{Error, Result};
use serde::Serialize;

/// The shape of a part's entries, when it is asked for.
pub type EntryShape = Box<dyn Fn() -> Result<Shape> + Send + Sync>;

/// See the module's text.
pub struct Log {
    written: Written,
    failure: Option<Error>,
    /// Until the first entry was held against it.
    unchecked: Option<EntryShape>,
}

impl Log {
    /// Nothing is written yet; entries are to have this shape.
    pub fn new(shape: EntryShape) -> Self {
        Log { written: Written::default(), failure: None, unchecked: Some(shape) }
    }

    /// Writes an entry.
    pub fn push<T: Serialize>(&mut self, entry: &T) {
        let start = self.written.bytes.len();
        match self.check(entry).and_then(|()| codec::encode(entry, &mut self.written.bytes)) {
            Ok(()) => self.written.n_entries += 1,
            Err(e) => {
                self.written.bytes.truncate(start);
                self.failure.get_or_insert(e);
            }
        }
    }

    #[inline]
    fn check<T: Serialize>(&mut self, entry: &T) -> Result<()> {
        match self.unchecked.take() {
            Some(shape) => shape()?.admits(entry),
            None => Ok(()),
        }
    }

    /// Bytes that wait here.
    pub fn len(&self) -> usize {
        self.written.bytes.len()
    }

    /// Whether no byte waits here.
    pub fn is_empty(&self) -> bool {
        self.written.bytes.is_empty()
    }

    /// Whether an entry could not be written: the snapshot is lost.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Moves what was written behind what is in `out`.
    ///
    /// # Errors
    /// If an entry could not be written.
    pub fn hand_over(&mut self, out: &mut Written) -> Result<()> {
        match self.failure.take() {
            Some(e) => Err(e),
            None => {
                out.append(&mut self.written);
                Ok(())
            }
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("written", &self.written).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize)]
    struct Reading {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        unit: Option<String>,
        value: i64,
    }

    #[test]
    fn the_first_entry_is_held_against_the_shape() {
        let shape: EntryShape = Box::new(Shape::of::<(u8, Reading)>);
        let (mut log, mut out) = (Log::new(shape), Written::default());
        log.push(&(1u8, Reading { unit: None, value: 5 }));
        assert!(log.has_failed() && log.is_empty());
        let error = log.hand_over(&mut out).unwrap_err().to_string();
        assert!(error.contains("skip_serializing_if"), "{error}");
        assert_eq!(out.n_entries, 0);
    }
}
