//! The file sink: a folder with one file per subtask.
//!
//! A subtask writes `.part-<n>.inprogress` and gives it its name `part-<n>` when it is complete and on the
//! disk, so whoever reads `part-*` never sees half a file, not even after a crash. A subtask without
//! records leaves no file.

use super::input::unreadable;
use crate::encode::{ByDisplay, Encode, ToCsv, ToJson, ToLines};
use millstream_model::{Batch, Error, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::operator::{Sink, SinkStart, SinkWriter};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes that are given to a file at a time.
const BLOCK: usize = 256 * 1024;

/// Writes records into the files `part-0`, `part-1`, … of a folder.
///
/// ```
/// # use millstream_connectors::FileSink;
/// use std::fmt::Write;
///
/// let lines = FileSink::lines("out/words");
/// let rows = FileSink::csv("out/flights").with_header().overwrite();
/// let pairs = FileSink::formatted("out/counts", |(word, n): &(String, u64), out| write!(out, "{word},{n}"));
/// ```
#[derive(Clone, Debug)]
pub struct FileSink<E> {
    dir: PathBuf,
    overwrite: bool,
    encode: E,
}

impl<E> FileSink<E> {
    fn new(dir: impl Into<PathBuf>, encode: E) -> Self {
        FileSink { dir: dir.into(), overwrite: false, encode }
    }

    /// Accepts a folder that is not empty and removes the files of earlier runs from it: `part-*`,
    /// complete or not, and nothing else.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }
}

impl FileSink<ToLines<ByDisplay>> {
    /// A line a record, by its `Display`.
    pub fn lines(dir: impl Into<PathBuf>) -> Self {
        FileSink::new(dir, ToLines::new(ByDisplay))
    }

    /// A line a record, by `show`, which appends a record to the text it is given.
    pub fn formatted<T, F>(dir: impl Into<PathBuf>, show: F) -> FileSink<ToLines<F>>
    where
        F: Fn(&T, &mut String) -> std::fmt::Result + Clone + Send + Sync + 'static,
    {
        FileSink::new(dir, ToLines::new(show))
    }

    /// Comma-separated values, without a header.
    pub fn csv(dir: impl Into<PathBuf>) -> FileSink<ToCsv> {
        FileSink::new(dir, ToCsv::default())
    }

    /// A JSON value a line.
    pub fn json(dir: impl Into<PathBuf>) -> FileSink<ToJson> {
        FileSink::new(dir, ToJson)
    }
}

impl FileSink<ToCsv> {
    /// Begins every file with the names of the fields.
    #[must_use]
    pub fn with_header(mut self) -> Self {
        self.encode.header = true;
        self
    }

    /// What stands between two fields; the default is a comma.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.encode.delimiter = delimiter;
        self
    }
}

/// Whether a file is a sink's, complete or not.
fn is_part(name: &str) -> bool {
    let part = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    let complete = name.strip_prefix("part-").is_some_and(part);
    let rest = name.strip_prefix(".part-").and_then(|rest| rest.strip_suffix(".inprogress"));
    complete || rest.is_some_and(part)
}

/// Makes sure that `dir` is there and holds no results of another run.
fn prepare(dir: &Path, overwrite: bool) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| unreadable(dir, "cannot be made a folder", e))?;
    let listed = |e| unreadable(dir, "cannot be listed", e);
    for entry in fs::read_dir(dir).map_err(listed)? {
        let name = entry.map_err(listed)?.file_name();
        let name = name.to_string_lossy();
        if !overwrite {
            return Err(Error::user(format!(
                "the output folder `{}` is not empty (it holds `{name}`): choose another one, empty it, or replace what earlier runs wrote with `overwrite`",
                dir.display()
            )));
        }
        if is_part(&name) {
            let path = dir.join(&*name);
            fs::remove_file(&path).map_err(|e| unreadable(&path, "cannot be removed", e))?;
        }
    }
    Ok(())
}

impl<T, E: Encode<T>> Sink<T> for FileSink<E> {
    fn prepare(&self, start: &SinkStart) -> Result<()> {
        let goes_on = matches!(start, SinkStart::Recovering(_));
        prepare(&self.dir, self.overwrite || goes_on)
    }

    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        let part = Part::new(&self.dir, context.subtask());
        Ok(Box::new(FileWriter { encode: self.encode.clone(), buffer: Vec::new(), part }))
    }

    fn name(&self) -> String {
        format!("files in {}", self.dir.display())
    }
}

/// One subtask's file.
struct Part {
    dir: PathBuf,
    unfinished: PathBuf,
    complete: PathBuf,
    /// Opened with the first bytes.
    file: Option<File>,
}

impl Part {
    fn new(dir: &Path, subtask: usize) -> Self {
        Part {
            dir: dir.to_owned(),
            unfinished: dir.join(format!(".part-{subtask}.inprogress")),
            complete: dir.join(format!("part-{subtask}")),
            file: None,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::create(&self.unfinished)?),
        };
        file.write_all(bytes)
    }

    /// Puts the file under its name; on the disk before anybody can see it.
    fn publish(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_all()?;
            fs::rename(&self.unfinished, &self.complete)?;
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }
}

struct FileWriter<E> {
    encode: E,
    buffer: Vec<u8>,
    part: Part,
}

impl<E> FileWriter<E> {
    fn write_buffer(&mut self) -> Result<()> {
        let written = self.part.write(&self.buffer);
        self.buffer.clear();
        written.map_err(|e| unreadable(&self.part.unfinished, "cannot be written", e))
    }
}

impl<T, E: Encode<T>> SinkWriter<T> for FileWriter<E> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.encode.encode(&batch.values, &mut self.buffer)?;
        batch.clear();
        if self.buffer.len() >= BLOCK { self.write_buffer() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.write_buffer()?;
        }
        self.part.publish().map_err(|e| unreadable(&self.part.complete, "cannot be completed", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Surroundings;
    use std::collections::BTreeMap;

    fn content(dir: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|e| {
                let name = e.file_name().into_string().unwrap();
                (name, fs::read_to_string(e.path()).unwrap())
            })
            .collect()
    }

    fn files<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, String> {
        files.map(|(name, text)| (name.into(), text.into())).into()
    }

    #[test]
    fn each_subtask_with_records_leaves_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a/b");
        let sink = FileSink::lines(&dir);
        Sink::<u32>::prepare(&sink, &SinkStart::Fresh).unwrap();
        Surroundings::new(0, 3).write_all(&sink, &[&[1, 2], &[3]]).unwrap();
        Surroundings::new(1, 3).write_all::<u32, _>(&sink, &[]).unwrap();
        Surroundings::new(2, 3).write_all(&sink, &[&[4]]).unwrap();
        assert_eq!(content(&dir), files([("part-0", "1\n2\n3\n"), ("part-2", "4\n")]));
    }

    #[test]
    fn a_file_is_seen_only_when_complete() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::csv(dir.path());
        let at = Surroundings::new(7, 8);
        let mut writer = sink.writer(&at.operator).unwrap();
        let long = "x".repeat(BLOCK);
        writer.write(&mut Batch::of(vec![(1, long.clone())])).unwrap();
        writer.write(&mut Batch::of(vec![(2, "y".into())])).unwrap();
        let names = |dir| content(dir).into_keys().collect::<Vec<_>>();
        assert_eq!(names(dir.path()), [".part-7.inprogress"]);
        writer.finish().unwrap();
        assert_eq!(content(dir.path()), files([("part-7", &format!("1,{long}\n2,y\n"))]));
    }

    #[test]
    fn formats() {
        let dir = tempfile::tempdir().unwrap();
        let at = Surroundings::new(0, 1);
        let written = |sink: &dyn Fn(&Path)| {
            sink(dir.path());
            fs::read_to_string(dir.path().join("part-0")).unwrap()
        };
        let rows: &[(u32, &str)] = &[(1, "a"), (2, "b")];
        let row = |(n, s): &(u32, &str), out: &mut String| {
            use std::fmt::Write;
            write!(out, "{n}:{s}")
        };
        let formatted = |dir: &Path| at.write_all(&FileSink::formatted(dir, row), &[rows]).unwrap();
        assert_eq!(written(&formatted), "1:a\n2:b\n");
        let csv = |dir: &Path| at.write_all(&FileSink::csv(dir).delimiter(b'\t'), &[rows]).unwrap();
        assert_eq!(written(&csv), "1\ta\n2\tb\n");
        let json = |dir: &Path| at.write_all(&FileSink::json(dir), &[rows]).unwrap();
        assert_eq!(written(&json), "[1,\"a\"]\n[2,\"b\"]\n");
    }

    #[test]
    fn results_of_another_run_are_not_touched_unless_asked() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::lines(dir.path());
        fs::write(dir.path().join("part-0"), "old").unwrap();
        let error = Sink::<u8>::prepare(&sink, &SinkStart::Fresh).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the output folder `{}` is not empty (it holds `part-0`): choose another one, empty it, or replace what earlier runs wrote with `overwrite`",
                dir.path().display()
            )
        );
        for name in ["part-11", ".part-3.inprogress", "part-x", "notes.txt", ".part-.inprogress"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        Sink::<u8>::prepare(&sink.overwrite(), &SinkStart::Fresh).unwrap();
        let kept = files([("part-x", ""), ("notes.txt", ""), (".part-.inprogress", "")]);
        assert_eq!(content(dir.path()), kept);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        fs::write(&file, "").unwrap();
        let error = Sink::<u8>::prepare(&FileSink::lines(&file), &SinkStart::Fresh)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("`{}` cannot be made a folder: ", file.display())),
            "{error}"
        );
    }
}
