//! The text of W3: its lines, and their words.
//!
//! The lines lie behind each other in one string, so that a source hands out slices of it and
//! costs nothing; a word is a maximal run of ASCII letters, and jobs lower-case it where they
//! copy it.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::workload::BenchError;

/// Lines of the King James Bible as its reader prints it: what the expected counts are made for.
pub const LINES: usize = 71_433;

/// Where the text of W3 is expected: in the folder that `MILLSTREAM_DATA` names, by default
/// `../shared/data`. A relative name counts from the root of the workspace.
pub fn path() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let named = std::env::var_os("MILLSTREAM_DATA").filter(|dir| !dir.is_empty());
    root.join(named.unwrap_or_else(|| "../shared/data".into())).join("kjv/kjv-printed.txt.gz")
}

/// The lines of a text, repeated for ever.
#[derive(Clone, Debug)]
pub struct Text {
    text: &'static str,
    lines: Vec<Range<u32>>,
}

impl Text {
    /// Loads W3's lines from [`path`].
    ///
    /// The text is leaked: jobs need lines that live as long as the process.
    ///
    /// # Errors
    /// The file is missing, is not a gzip file of UTF-8 text, or has not [`LINES`] lines.
    pub fn load() -> Result<Self, BenchError> {
        let path = path();
        let error = |reason: String| BenchError::Text { path: path.display().to_string(), reason };
        let file = std::fs::File::open(&path).map_err(|e| error(e.to_string()))?;
        let mut text = String::new();
        GzDecoder::new(file).read_to_string(&mut text).map_err(|e| error(e.to_string()))?;
        let text = Self::from(text);
        match text.lines.len() {
            LINES => Ok(text),
            found => Err(error(format!("{found} lines instead of {LINES}"))),
        }
    }

    /// Line `i`, counted from the first again after the last.
    #[inline]
    pub fn line(&self, i: u64) -> &'static str {
        let line = &self.lines[(i % self.lines.len() as u64) as usize];
        &self.text[line.start as usize..line.end as usize]
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let text: &'static str = text.leak();
        let mut start = 0;
        let lines = text.split_inclusive('\n').map(|line| {
            let end = start + line.trim_end_matches(['\r', '\n']).len() as u32;
            let range = start..end;
            start += line.len() as u32;
            range
        });
        Self { lines: lines.collect(), text }
    }
}

/// The maximal runs of ASCII letters in `line`, as written.
#[inline]
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    let bytes = line.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && !bytes[at].is_ascii_alphabetic() {
            at += 1;
        }
        let start = at;
        while at < bytes.len() && bytes[at].is_ascii_alphabetic() {
            at += 1;
        }
        // Both ends lie beside an ASCII letter, so on a character boundary.
        (start < at).then(|| &line[start..at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_maximal_runs_of_letters() {
        let all = |line| words(line).collect::<Vec<_>>();
        assert_eq!(
            all("  1 In the  beginning, God's—Ärger x"),
            ["In", "the", "beginning", "God", "s", "rger", "x"]
        );
        assert_eq!(all(""), [""; 0]);
        assert_eq!(all("12 3."), [""; 0]);
    }

    #[test]
    fn lines_repeat() {
        let text = Text::from("a b\nc\r\n\nd".to_owned());
        let lines: Vec<_> = (0..6).map(|i| text.line(i)).collect();
        assert_eq!(lines, ["a b", "c", "", "d", "a b", "c"]);
    }
}
