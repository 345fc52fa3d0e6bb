//! Records as text: what line-based sinks write.
//!
//! A batch is encoded into one buffer that is used again, so a record costs no allocation.

use millstream_model::{Error, Result};
use serde::Serialize;
use std::fmt::{self, Display, Write};

/// Turns records into lines. One clone per subtask.
pub trait Encode<T>: Clone + Send + Sync + 'static {
    /// Appends the lines of some records, each with its `\n`.
    ///
    /// # Errors
    /// If a record cannot be written in this form.
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()>;
}

/// Appends one record to a text, without a line end. A closure `|record: &T, out: &mut String| write!(out, …)`
/// is one.
pub trait Show<T>: Clone + Send + Sync + 'static {
    /// Appends the record.
    ///
    /// # Errors
    /// If the record's own formatting fails.
    fn show(&self, record: &T, out: &mut String) -> fmt::Result;
}

/// Shows records by their `Display`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByDisplay;

impl<T: Display> Show<T> for ByDisplay {
    #[inline]
    fn show(&self, record: &T, out: &mut String) -> fmt::Result {
        write!(out, "{record}")
    }
}

impl<T, F: Fn(&T, &mut String) -> fmt::Result + Clone + Send + Sync + 'static> Show<T> for F {
    #[inline]
    fn show(&self, record: &T, out: &mut String) -> fmt::Result {
        self(record, out)
    }
}

pub(crate) fn not_shown(_: fmt::Error) -> Error {
    Error::user("a record's formatting failed: its `Display` or the formatter returned an error")
}

/// A line a record, as it is shown.
#[derive(Clone, Debug, Default)]
pub struct ToLines<S> {
    show: S,
    text: String,
}

impl<S> ToLines<S> {
    /// Lines as `show` writes them.
    pub fn new(show: S) -> Self {
        ToLines { show, text: String::new() }
    }
}

impl<T, S: Show<T>> Encode<T> for ToLines<S> {
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()> {
        self.text.clear();
        for record in records {
            self.show.show(record, &mut self.text).map_err(not_shown)?;
            self.text.push('\n');
        }
        out.extend_from_slice(self.text.as_bytes());
        Ok(())
    }
}

/// Comma-separated values, quoted where needed.
#[derive(Clone, Debug)]
pub struct ToCsv {
    pub(crate) delimiter: u8,
    pub(crate) header: bool,
}

impl Default for ToCsv {
    fn default() -> Self {
        ToCsv { delimiter: b',', header: false }
    }
}

impl<T: Serialize> Encode<T> for ToCsv {
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()> {
        // Only the first records of a file have a header before them.
        let header = std::mem::take(&mut self.header);
        let mut writer = csv::WriterBuilder::new()
            .delimiter(self.delimiter)
            .has_headers(header)
            .from_writer(out);
        let written = records.iter().try_for_each(|record| writer.serialize(record));
        written
            .and_then(|()| Ok(writer.flush()?))
            .map_err(|e| Error::user("a record cannot be written as CSV").caused_by(e))
    }
}

/// A JSON value a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToJson;

impl<T: Serialize> Encode<T> for ToJson {
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()> {
        for record in records {
            serde_json::to_writer(&mut *out, record)
                .map_err(|e| Error::user("a record cannot be written as JSON").caused_by(e))?;
            out.push(b'\n');
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn encoded<T, E: Encode<T>>(mut encode: E, batches: &[&[T]]) -> String {
        let mut out = Vec::new();
        for batch in batches {
            encode.encode(batch, &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        n: Option<u32>,
    }

    const ROWS: [Row; 2] = [Row { name: "a, \"b\"", n: Some(1) }, Row { name: "", n: None }];

    #[test]
    fn lines_are_shown_by_display_or_by_a_closure() {
        assert_eq!(encoded(ToLines::new(ByDisplay), &[&[1, 2], &[3]]), "1\n2\n3\n");
        let show = |r: &Row, out: &mut String| write!(out, "{}={:?}", r.name, r.n);
        assert_eq!(encoded(ToLines::new(show), &[&ROWS]), "a, \"b\"=Some(1)\n=None\n");
    }

    #[test]
    fn csv_is_quoted_and_has_at_most_one_header() {
        assert_eq!(encoded(ToCsv::default(), &[&ROWS, &ROWS[1..]]), "\"a, \"\"b\"\"\",1\n,\n,\n");
        let with_header = ToCsv { delimiter: b';', header: true };
        assert_eq!(
            encoded(with_header, &[&ROWS[..1], &ROWS[1..]]),
            "name;n\n\"a, \"\"b\"\"\";1\n;\n"
        );
        assert_eq!(encoded(ToCsv::default(), &[&[("x", 1.5), ("y", -2.0)]]), "x,1.5\ny,-2.0\n");
    }

    #[test]
    fn json_is_a_value_a_line() {
        assert_eq!(
            encoded(ToJson, &[&ROWS]),
            "{\"name\":\"a, \\\"b\\\"\",\"n\":1}\n{\"name\":\"\",\"n\":null}\n"
        );
    }

    #[test]
    fn what_a_form_cannot_hold_is_an_error() {
        let error = ToCsv::default().encode(&[BTreeMap::from([(1, 2)])], &mut Vec::new());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("a record cannot be written as CSV: "), "{error}");
        let error = ToJson.encode(&[BTreeMap::from([((1, 2), 3)])], &mut Vec::new());
        assert_eq!(
            error.unwrap_err().to_string(),
            "a record cannot be written as JSON: key must be a string"
        );
        let error =
            ToLines::new(|_: &u8, _: &mut String| Err(fmt::Error)).encode(&[1], &mut Vec::new());
        assert_eq!(
            error.unwrap_err().to_string(),
            "a record's formatting failed: its `Display` or the formatter returned an error"
        );
    }
}
