//! The file source: which files, which format, and what becomes of lines that are none.
//!
//! The files are those that are there when the job starts, or also those that come later; reading one is the same
//! in both cases.

use super::csv::AsCsv;
use super::input::{Input, Origin, find};
use super::monitor::Monitor;
use crate::lines::{AsJson, AsString, AsText, LineBuffer, LineFormat, LineParser};
use crate::malformed::{AsResults, BadRecord, OnError, Plain, Policy};
use millstream_model::{Batch, Data, Result};
use millstream_runtime::source::{ReadStatus, Source, SplitContext, SplitEnumerator, SplitReader};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes that are looked at for an estimate.
const SAMPLE: u64 = 1024 * 1024;

/// Reads the records of files.
///
/// The path is a file, a folder (all files in it and in the folders in it) or a pattern with `*` and `?`;
/// names that start with a dot are passed over by the latter two. Files compressed with gzip are seen by
/// their content. A line, or a record of CSV, has at most 64 MiB; a longer one fails the job, whatever is done with malformed
/// records, because nobody can say where the next one begins.
///
/// ```
/// # use millstream_connectors::{FileSource, OnError};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Flight { carrier: String, delay: i32 }
///
/// let lines = FileSource::lines("access.log.gz");
/// let flights = FileSource::csv::<Flight>("flights/*.csv").delimiter(b';').on_error(OnError::Skip);
/// ```
#[derive(Clone, Debug)]
pub struct FileSource<F> {
    path: PathBuf,
    pub(super) format: F,
    skip_lines: u64,
    on_error: OnError,
    monitored_every: Option<Duration>,
}

/// A file to be read, and where in it to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSplit {
    /// Where it is.
    pub path: PathBuf,
    /// How long it was when it was last opened. It may have grown since; one that has shrunk is another file.
    pub size_bytes: u64,
    /// A checksum over some of what it held then; one of which that is no longer so is another file.
    #[serde(default)]
    pub sample: Option<u32>,
    /// The next record.
    pub position: Position,
}

impl FileSplit {
    /// All of the file at `path`.
    pub(super) fn whole(path: PathBuf) -> Self {
        FileSplit { path, size_bytes: 0, sample: None, position: Position::default() }
    }
}

/// A place between two records of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Offset in uncompressed bytes.
    pub offset: u64,
    /// Lines before it.
    pub n_lines: u64,
    /// What the beginning of the file said about the fields of its records, if it does.
    pub fields: Fields,
}

/// What is known of the fields of a file's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fields {
    /// Nothing, or nothing yet.
    #[default]
    Unknown,
    /// How many there are.
    Count(u64),
    /// Their names.
    Names(Vec<Vec<u8>>),
}

impl<F> FileSource<F> {
    fn new(path: impl Into<PathBuf>, format: F) -> Self {
        let path = path.into();
        FileSource { path, format, skip_lines: 0, on_error: OnError::Fail, monitored_every: None }
    }
}

impl FileSource<AsText> {
    /// Each line as a [`Text`](millstream_model::Text), without its end (`\n` or `\r\n`). Empty lines are
    /// lines.
    pub fn lines(path: impl Into<PathBuf>) -> Self {
        FileSource::new(path, AsText)
    }

    /// Each line as a `String`.
    #[must_use]
    pub fn strings(self) -> FileSource<AsString> {
        let FileSource { path, format: AsText, skip_lines, on_error, monitored_every } = self;
        FileSource { path, format: AsString, skip_lines, on_error, monitored_every }
    }

    /// Each record of comma-separated values as a `T`: a struct by the names in the header, a tuple by
    /// position. Lines that are empty hold no record.
    pub fn csv<T: Data>(path: impl Into<PathBuf>) -> FileSource<AsCsv<T>> {
        FileSource::new(path, AsCsv::default())
    }

    /// Each line as a `T` in JSON. Lines that are blank hold no record.
    pub fn json_lines<T: Data>(path: impl Into<PathBuf>) -> FileSource<AsJson<T>> {
        FileSource::new(path, AsJson::default())
    }

    /// As [`csv`](Self::csv), malformed records included: see [`results`](FileSource::results).
    pub fn csv_results<T: Data>(path: impl Into<PathBuf>) -> FileResults<AsCsv<T>> {
        FileSource::csv(path).results()
    }

    /// As [`json_lines`](Self::json_lines), malformed lines included: see [`results`](FileSource::results).
    pub fn json_lines_results<T: Data>(path: impl Into<PathBuf>) -> FileResults<AsJson<T>> {
        FileSource::json_lines(path).results()
    }
}

impl<F: FileFormat> FileSource<F> {
    /// Leaves out the first lines of every file.
    #[must_use]
    pub fn skip_lines(mut self, n: u64) -> Self {
        self.skip_lines = n;
        self
    }

    /// What to do with malformed records; the default is to fail.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Goes on looking, every so often, and reads the files that have come, without end.
    ///
    /// A file counts once, by its path, whatever becomes of it later; those of one look are begun in order of their names.
    /// A file must appear whole: write it under a hidden name (one that begins with a dot) or elsewhere on the same
    /// file system, and move it to where it is looked for. What is appended to it later may be read or not. A folder must be
    /// there when the job starts; a pattern may match nothing yet. Keep a file until a checkpoint is complete that was taken after it
    /// was read: a restart opens it again.
    ///
    /// With watermarks, every file has its own, as always, and all that have come are open side by side; without, a subtask reads one
    /// after the other. A subtask that has no file holds event time back until it counts
    /// as idle (`idle_after`), and a file that comes when event time has moved on may bring records that are late.
    ///
    /// Every path that was found is remembered in the job's checkpoints, so a folder that gets thousands of files a day for
    /// years is better read by a job per month. To be restored, a job must name the folder as it did before: `data` and
    /// `./data` are two paths.
    ///
    /// ```
    /// # use millstream_connectors::FileSource;
    /// # use std::time::Duration;
    /// let lines = FileSource::lines("incoming/*.log.gz").monitor_continuously(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn monitor_continuously(mut self, every: Duration) -> Self {
        self.monitored_every = Some(every);
        self
    }

    /// Emits every record as a `Result`: those that cannot be read as the [`BadRecord`] they are, so that
    /// they can be sent to a side output.
    #[must_use]
    pub fn results(self) -> FileResults<F> {
        FileResults(self)
    }

    fn find(&self) -> Result<Vec<FileSplit>> {
        Ok(find(&self.path)?.into_iter().map(FileSplit::whole).collect())
    }

    fn monitor(&self) -> Option<Box<dyn SplitEnumerator<FileSplit>>> {
        let every = self.monitored_every?;
        Some(Box::new(Monitor::new(self.path.clone(), every)))
    }

    fn reader<P: Policy<F::Record> + 'static>(
        &self,
        split: FileSplit,
        context: &SplitContext,
        policy: P,
    ) -> Result<Box<dyn SplitReader<P::Out, FileSplit>>> {
        let (format, skip_lines) = (self.format.clone(), self.skip_lines);
        let batch_size = context.batch_size;
        Ok(Box::new(FileReader { format, skip_lines, records: None, split, policy, batch_size }))
    }

    /// Lines of the whole, judged by the beginning of the first file; `None` if that cannot be read.
    fn estimate(&self) -> Option<u64> {
        if self.monitored_every.is_some() {
            return None;
        }
        let files = find(&self.path).ok()?;
        let sizes = files.iter().map(|path| path.metadata().map_or(0, |meta| meta.len()));
        let total: u64 = sizes.sum();
        let (_, input) = Input::open(files.first()?, 0, None).ok()?;
        let mut sample = Vec::new();
        let mut input = input.take(SAMPLE);
        input.read_to_end(&mut sample).ok()?;
        let n_lines = memchr::memchr_iter(b'\n', &sample).count() as u64;
        let n_stored = input.get_ref().n_stored().max(1);
        Some((u128::from(n_lines) * u128::from(total) / u128::from(n_stored)) as u64)
    }
}

impl<F: FileFormat> Source for FileSource<F> {
    type Out = F::Record;
    type Split = FileSplit;

    fn is_bounded(&self) -> bool {
        self.monitored_every.is_none()
    }
    fn discover(&self, _: usize) -> Result<Vec<FileSplit>> {
        self.find()
    }
    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator<FileSplit>>> {
        self.monitor()
    }
    fn open(
        &self,
        split: FileSplit,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<F::Record, FileSplit>>> {
        self.reader(split, context, Plain::new(self.on_error, &context.operator))
    }
    fn reads_in_turn(&self) -> bool {
        true
    }
    fn size_hint(&self) -> Option<u64> {
        self.estimate()
    }
}

/// A file source that emits malformed records too. See [`FileSource::results`].
#[derive(Clone, Debug)]
pub struct FileResults<F>(FileSource<F>);

impl<F: FileFormat> Source for FileResults<F> {
    type Out = Result<F::Record, BadRecord>;
    type Split = FileSplit;

    fn is_bounded(&self) -> bool {
        self.0.monitored_every.is_none()
    }
    fn discover(&self, _: usize) -> Result<Vec<FileSplit>> {
        self.0.find()
    }
    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator<FileSplit>>> {
        self.0.monitor()
    }
    fn open(
        &self,
        split: FileSplit,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<Self::Out, FileSplit>>> {
        self.0.reader(split, context, AsResults)
    }
    fn reads_in_turn(&self) -> bool {
        true
    }
    fn size_hint(&self) -> Option<u64> {
        self.0.estimate()
    }
}

/// A file that was opened at a position, and how many lines from its beginning to leave out.
pub struct FileInput {
    pub(super) origin: Origin,
    pub(super) input: Input,
    pub(super) position: Position,
    pub(super) skip_lines: u64,
}

#[cfg(feature = "fuzzing")]
impl FileInput {
    /// Opens a file.
    pub(crate) fn open(path: &std::path::Path, position: Position) -> Result<Self> {
        let (origin, input) = Input::open(path, position.offset, None)?;
        Ok(FileInput { origin, input, position, skip_lines: 0 })
    }
}

/// What a file's bytes mean.
pub trait FileFormat: Clone + Send + Sync + 'static {
    /// A record.
    type Record: Data;
    /// Goes through the records of one file.
    type Records: Records<Record = Self::Record>;
    /// The records of a file.
    ///
    /// # Errors
    /// If not even the first can be looked for.
    fn records(&self, input: FileInput) -> Result<Self::Records>;
}

/// The records of one file.
pub trait Records: Send + 'static {
    /// A record.
    type Record;
    /// The next record, good or bad; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read any further.
    fn next(&mut self) -> Result<Option<Result<Self::Record, BadRecord>>>;
    /// Whether enough was read to let others have their turn.
    fn is_due(&mut self) -> bool;
    /// The place behind the last record that was given.
    fn position(&self) -> Position;
}

/// Opens its file when it is first read.
struct FileReader<F: FileFormat, P> {
    format: F,
    skip_lines: u64,
    records: Option<F::Records>,
    /// Where it began.
    split: FileSplit,
    policy: P,
    batch_size: usize,
}

impl<F: FileFormat, P> FileReader<F, P> {
    fn open(&mut self) -> Result<F::Records> {
        let position = self.split.position.clone();
        let known = self.split.sample.map(|sample| (self.split.size_bytes, sample));
        let (origin, input) = Input::open(&self.split.path, position.offset, known)?;
        if input.size_bytes < self.split.size_bytes {
            return Err(origin.shrank(self.split.size_bytes, input.size_bytes));
        }
        (self.split.size_bytes, self.split.sample) = (input.size_bytes, Some(input.sample));
        self.format.records(FileInput { origin, input, position, skip_lines: self.skip_lines })
    }
}

impl<F: FileFormat, P: Policy<F::Record>> SplitReader<P::Out, FileSplit> for FileReader<F, P> {
    fn read(&mut self, out: &mut Batch<P::Out>) -> Result<ReadStatus> {
        if self.records.is_none() {
            self.records = Some(self.open()?);
        }
        let Some(records) = &mut self.records else { return Ok(ReadStatus::More) };
        for _ in 0..self.batch_size {
            match records.next()? {
                Some(record) => self.policy.take(record, &mut out.values)?,
                None => {
                    // The file is closed; whoever asks again is told the same.
                    self.split.position = records.position();
                    self.records = None;
                    return Ok(ReadStatus::End);
                }
            }
            if records.is_due() {
                break;
            }
        }
        Ok(ReadStatus::More)
    }

    fn split(&self) -> FileSplit {
        let position = self.records.as_ref().map(Records::position);
        let position = position.unwrap_or_else(|| self.split.position.clone());
        FileSplit { position, ..self.split.clone() }
    }
}

impl<F: LineFormat> FileFormat for F {
    type Record = F::Record;
    type Records = LineRecords<F>;
    fn records(&self, file: FileInput) -> Result<LineRecords<F>> {
        let FileInput { origin, input, position, skip_lines } = file;
        let (start, n_lines) = (input.start, position.n_lines);
        let (buffer, parser) = (LineBuffer::default(), LineParser::new(self.clone(), n_lines));
        let (chunk_start, chunk_len) = (start, 0);
        let n_chunks = 0;
        Ok(LineRecords {
            origin,
            input,
            buffer,
            parser,
            chunk_start,
            chunk_len,
            skip_lines,
            n_chunks,
        })
    }
}

/// Chunks that may be gone through in one read: one block's worth.
const CHUNKS_PER_READ: u32 = 32;

/// The lines of a file.
pub struct LineRecords<F> {
    origin: Origin,
    input: Input,
    buffer: LineBuffer,
    parser: LineParser<F>,
    /// Where in the file the chunk being parsed begins, and how long it is.
    chunk_start: u64,
    chunk_len: u64,
    skip_lines: u64,
    n_chunks: u32,
}

impl<F: LineFormat> LineRecords<F> {
    /// Makes the parser go through the next chunk; false at the end.
    fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(chunk) = self.buffer.chunk() {
                self.n_chunks += 1;
                self.chunk_start += self.chunk_len;
                self.chunk_len = chunk.len() as u64;
                self.parser.feed(chunk);
                return Ok(true);
            }
            if self.buffer.is_ended() {
                return Ok(false);
            }
            let read = self.buffer.space().and_then(|space| self.input.read(space));
            let n = read.map_err(|e| self.origin.failure(self.parser.line_number(), e))?;
            self.buffer.filled(n);
        }
    }
}

impl<F: LineFormat> Records for LineRecords<F> {
    type Record = F::Record;

    #[inline]
    fn next(&mut self) -> Result<Option<Result<F::Record, BadRecord>>> {
        loop {
            while self.parser.line_number() < self.skip_lines && self.parser.skip_line() {}
            if self.parser.line_number() >= self.skip_lines
                && let Some(record) = self.parser.record(&self.origin.name)
            {
                return Ok(Some(record));
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    #[inline]
    fn is_due(&mut self) -> bool {
        let due = self.n_chunks >= CHUNKS_PER_READ;
        if due {
            self.n_chunks = 0;
        }
        due
    }

    fn position(&self) -> Position {
        let offset = self.chunk_start + self.parser.n_parsed() as u64;
        Position { offset, n_lines: self.parser.line_number(), fields: Fields::Unknown }
    }
}
