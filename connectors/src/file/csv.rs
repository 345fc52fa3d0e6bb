//! Comma-separated values, read into structs or tuples.
//!
//! Records are cut by the `csv` crate (a quoted field may hold line ends, so lines are not enough), and
//! deserialised one by one from a buffer that is used again. The bytes given to it are kept for a while, so
//! that a bad record can be shown as it stands in the file, with the line it really begins on.

use super::input::{Input, Origin};
use super::source::{Fields, FileFormat, FileInput, FileSource, Position, Records};
use crate::lines::{MAX_RECORD, too_long};
use crate::malformed::BadRecord;
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use memchr::memchr_iter;
use millstream_model::{Data, Result};
use std::io::{self, BufRead, BufReader, Read};
use std::marker::PhantomData;

/// Bytes that are asked of a file at a time, and that may be gone through in one read.
const BLOCK: usize = 64 * 1024;

/// Comma-separated values, each record a `T`.
#[derive(Debug)]
pub struct AsCsv<T> {
    delimiter: u8,
    has_headers: bool,
    record: PhantomData<fn() -> T>,
}

impl<T> Default for AsCsv<T> {
    fn default() -> Self {
        AsCsv { delimiter: b',', has_headers: true, record: PhantomData }
    }
}

impl<T> Clone for AsCsv<T> {
    fn clone(&self) -> Self {
        AsCsv { record: PhantomData, ..*self }
    }
}

impl<T: Data> FileSource<AsCsv<T>> {
    /// The first line of a file is a record already; fields are taken by position.
    #[must_use]
    pub fn without_headers(mut self) -> Self {
        self.format.has_headers = false;
        self
    }

    /// What stands between two fields; the default is a comma.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.format.delimiter = delimiter;
        self
    }
}

impl<T: Data> FileFormat for AsCsv<T> {
    type Record = T;
    type Records = CsvRecords<T>;

    fn records(&self, file: FileInput) -> Result<CsvRecords<T>> {
        let FileInput { origin, input, position, skip_lines } = file;
        let input = Trail::new(input, position.n_lines, skip_lines);
        let input = input.map_err(|e| origin.failure(position.n_lines, e))?;
        let reader = ReaderBuilder::new()
            .delimiter(self.delimiter)
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(BLOCK)
            .from_reader(input);
        let (headers, n_fields) = match position.fields {
            Fields::Unknown => (None, None),
            Fields::Count(n) => (None, Some(n)),
            Fields::Names(names) => {
                (Some(ByteRecord::from(names.clone())), Some(names.len() as u64))
            }
        };
        Ok(CsvRecords {
            origin,
            reader,
            headers,
            has_headers: self.has_headers,
            n_fields,
            record: ByteRecord::new(),
            due_at: BLOCK as u64,
            records: PhantomData,
        })
    }
}

/// The records of a CSV file.
pub struct CsvRecords<T> {
    origin: Origin,
    reader: Reader<Trail>,
    /// Read with the first record.
    headers: Option<ByteRecord>,
    has_headers: bool,
    /// As many as the header has, or the first record.
    n_fields: Option<u64>,
    record: ByteRecord,
    /// The position at which others get their turn.
    due_at: u64,
    records: PhantomData<fn() -> T>,
}

impl<T: Data> Records for CsvRecords<T> {
    type Record = T;

    fn next(&mut self) -> Result<Option<Result<T, BadRecord>>> {
        if self.has_headers && self.headers.is_none() {
            self.begin();
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {
                    self.n_fields = Some(self.record.len() as u64);
                    self.headers = Some(self.record.clone());
                }
                Ok(false) => return Ok(None),
                Err(e) => return self.refuse(e).map(|bad| Some(Err(bad))),
            }
        }
        self.begin();
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(e) => return self.refuse(e).map(|bad| Some(Err(bad))),
        }
        let n_fields = self.record.len() as u64;
        let expected = *self.n_fields.get_or_insert(n_fields);
        if n_fields != expected {
            let first = if self.has_headers { "header" } else { "first record" };
            let cause = format!("{} where the {first} has {expected}", count(n_fields));
            return Ok(Some(Err(self.bad(cause))));
        }
        match self.record.deserialize(self.headers.as_ref()) {
            Ok(record) => Ok(Some(Ok(record))),
            Err(e) => self.refuse(e).map(|bad| Some(Err(bad))),
        }
    }

    fn is_due(&mut self) -> bool {
        let at = self.reader.position().byte();
        let due = at >= self.due_at;
        if due {
            self.due_at = at + BLOCK as u64;
        }
        due
    }

    fn position(&self) -> Position {
        let fields = match (&self.headers, self.n_fields) {
            (Some(headers), _) => Fields::Names(headers.iter().map(<[u8]>::to_vec).collect()),
            (None, Some(n)) => Fields::Count(n),
            (None, None) => Fields::Unknown,
        };
        let (trail, at) = (self.reader.get_ref(), self.reader.position().byte());
        Position { offset: trail.base + at, n_lines: trail.n_lines_before(at), fields }
    }
}

impl<T> CsvRecords<T> {
    /// A record begins here.
    fn begin(&mut self) {
        let (at, line) = (self.reader.position().byte(), self.reader.position().line());
        self.reader.get_mut().record_start = (at, line);
    }

    /// What an error says of the record just read; fails if it is the file that cannot be read.
    #[cold]
    fn refuse(&self, error: csv::Error) -> Result<BadRecord> {
        let shown = error.to_string();
        let cause = match error.into_kind() {
            ErrorKind::Io(cause) => {
                let trail = self.reader.get_ref();
                // Of a record without an end it matters where it begins.
                let is_endless = cause.kind() == io::ErrorKind::FileTooLarge;
                let n_lines =
                    if is_endless { trail.n_lines_before_record() } else { trail.n_lines() };
                return Err(self.origin.failure(n_lines, cause));
            }
            ErrorKind::Deserialize { err, .. } => self.explain(&err),
            _ => shown,
        };
        Ok(self.bad(cause))
    }

    /// The record just read, with what is wrong with it.
    #[cold]
    fn bad(&self, cause: String) -> BadRecord {
        let start = self.record.position().map_or(0, |position| position.byte());
        let (line_number, text) = self.reader.get_ref().show(start, self.reader.position().byte());
        BadRecord {
            origin: Some(self.origin.name.clone()),
            line_number: Some(line_number),
            text,
            cause,
        }
    }

    fn explain(&self, error: &csv::DeserializeError) -> String {
        let name = |field: u64| match &self.headers {
            Some(headers) => headers.get(field as usize).map(String::from_utf8_lossy),
            None => None,
        };
        let what = error.kind().to_string();
        match (error.field(), &self.headers) {
            (Some(field), _) => match name(field) {
                Some(name) => format!("field `{name}`: {what}"),
                None => format!("field {}: {what}", field + 1),
            },
            // A field that is missing may just be spelt differently.
            (None, Some(headers)) if what.starts_with("missing field") => {
                let names: Vec<_> = headers.iter().map(String::from_utf8_lossy).collect();
                format!("{what} (the header has `{}`)", names.join("`, `"))
            }
            _ => what,
        }
    }
}

fn count(n: u64) -> String {
    if n == 1 { "1 field".into() } else { format!("{n} fields") }
}

/// The input, and its last one or two blocks for looking back.
struct Trail {
    input: BufReader<Input>,
    recent: Vec<u8>,
    /// How much of `recent` is the block before the last.
    n_before: usize,
    /// Position of `recent`, and the number of the line it begins in.
    start: u64,
    line: u64,
    /// Where in the file position 0 is.
    base: u64,
    /// Position of the record being read, and its line, counted from 1 where position 0 is.
    record_start: (u64, u64),
    /// Lines of the file before position 0.
    n_skipped: u64,
}

impl Trail {
    /// The input, which begins behind `n_lines` lines, without those of the first `skip_lines` that are left.
    fn new(input: Input, n_lines: u64, skip_lines: u64) -> io::Result<Self> {
        let mut base = input.start;
        let mut input = BufReader::with_capacity(BLOCK, input);
        for _ in n_lines..skip_lines {
            base += input.skip_until(b'\n')? as u64;
        }
        let line = n_lines.max(skip_lines) + 1;
        let recent = Vec::new();
        Ok(Trail {
            input,
            recent,
            n_before: 0,
            start: 0,
            line,
            base,
            record_start: (0, 1),
            n_skipped: line - 1,
        })
    }

    /// Lines of the file that end before a position.
    fn n_lines_before(&self, position: u64) -> u64 {
        let n = usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let recent = &self.recent[..n.min(self.recent.len())];
        self.line - 1 + memchr_iter(b'\n', recent).count() as u64
    }

    /// Lines of the file before the record being read.
    fn n_lines_before_record(&self) -> u64 {
        self.n_skipped + self.record_start.1 - 1
    }

    /// Complete lines read so far.
    fn n_lines(&self) -> u64 {
        self.line - 1 + memchr_iter(b'\n', &self.recent).count() as u64
    }

    /// What stands from `start` to `end`, without line ends around it, and the number of its first line.
    fn show(&self, start: u64, end: u64) -> (u64, String) {
        let at = |position: u64| {
            usize::try_from(position.saturating_sub(self.start))
                .map_or(0, |at| at.min(self.recent.len()))
        };
        // A record longer than what was kept is shown from where that begins.
        let (before, record) = self.recent[..at(end)].split_at(at(start));
        let record_start = record.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(0);
        let (ends, record) = record.split_at(record_start);
        let n_lines = memchr_iter(b'\n', before).count() + memchr_iter(b'\n', ends).count();
        let text = String::from_utf8_lossy(record);
        (self.line + n_lines as u64, text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl Read for Trail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unfinished = self.start + self.recent.len() as u64 - self.record_start.0;
        if unfinished > MAX_RECORD as u64 {
            return Err(too_long("a record, which may have a quote that is not closed,"));
        }
        let n = self.input.read(buffer)?;
        self.line += memchr_iter(b'\n', &self.recent[..self.n_before]).count() as u64;
        self.start += self.n_before as u64;
        self.recent.drain(..self.n_before);
        self.n_before = self.recent.len();
        self.recent.extend_from_slice(&buffer[..n]);
        Ok(n)
    }
}
