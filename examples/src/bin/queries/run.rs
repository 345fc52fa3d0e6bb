//! What all queries share: where records come from and where rows go.

use millstream::connectors::FileSink;
use millstream::prelude::*;
use millstream_examples::input::read;
use millstream_examples::records::Record;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// One run of a query.
pub(crate) struct Run {
    pub(crate) env: Environment,
    pub(crate) data: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) rate: Option<u64>,
}

impl Run {
    /// A stream of events, at the rate that was asked for.
    pub(crate) fn events<R: Record>(&self, watermarks: Watermarks<R>) -> DataStream<R> {
        read(&self.env, &self.data, self.rate, watermarks)
    }

    /// A table: read as fast as it can be.
    pub(crate) fn table<R: Record>(&self, watermarks: Watermarks<R>) -> DataStream<R> {
        read(&self.env, &self.data, None, watermarks)
    }

    /// Writes the rows of a result, each as `show` does.
    pub(crate) fn write<T: Data>(
        &self,
        rows: DataStream<T>,
        result: &str,
        show: impl Fn(&T, &mut String) -> fmt::Result + Clone + Send + Sync + 'static,
    ) {
        // Foreign files beside the parts are no reason to refuse: the folder above was checked.
        let sink = FileSink::formatted(self.out.join(result), show).overwrite();
        rows.sink(sink).name(result).uid(result);
    }
}

/// Makes sure that `out` holds no results of another run: they would be mixed with ours.
pub(crate) fn clear(
    out: &Path,
    results: impl Iterator<Item = &'static str>,
    overwrite: bool,
) -> Result<()> {
    let failed = |what: &str, path: &Path, e| {
        Error::external(format!("`{}` cannot be {what}", path.display())).caused_by(e)
    };
    fs::create_dir_all(out).map_err(|e| failed("made a folder", out, e))?;
    let mut entries = fs::read_dir(out).map_err(|e| failed("listed", out, e))?;
    if !overwrite && entries.next().is_some() {
        return Err(Error::user(format!(
            "the output folder `{}` is not empty: choose another one, or replace the results of earlier runs with `--overwrite`",
            out.display()
        )));
    }
    for dir in results.map(|result| out.join(result)).filter(|dir| dir.is_dir()) {
        for entry in fs::read_dir(&dir).map_err(|e| failed("listed", &dir, e))? {
            let path = entry.map_err(|e| failed("listed", &dir, e))?.path();
            if is_part(&path) {
                fs::remove_file(&path).map_err(|e| failed("removed", &path, e))?;
            }
        }
        // A folder with anything else in it stays.
        let _ = fs::remove_dir(&dir);
    }
    Ok(())
}

/// Whether a file is one that a sink left: `part-…` when it is complete, `.part-…` before, a number behind.
fn is_part(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = name.strip_prefix('.').unwrap_or(&name).strip_prefix("part-");
    part.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}
