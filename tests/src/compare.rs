//! Results against expected results, byte for byte.
//!
//! A result is a multiset of lines spread over `part-*` files, so both sides are sorted bytewise before they meet. What
//! differs is shown as a reader wants it: how many lines are missing, how many are too many, and the first of each.

use std::cmp::Ordering;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// How many lines of each kind a [`Mismatch`] shows.
const N_SHOWN: usize = 5;

/// Why a result is not the expected one.
#[derive(Debug)]
pub enum Mismatch {
    /// A file could not be read.
    Unreadable(PathBuf, io::Error),
    /// The lines differ.
    Lines(Difference),
}

/// The lines by which two sorted multisets differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// How many lines were expected.
    pub n_expected: usize,
    /// How many lines there are.
    pub n_actual: usize,
    /// How many expected lines are not there.
    pub n_missing: usize,
    /// How many lines are there that were not expected.
    pub n_unexpected: usize,
    /// The first missing lines.
    pub missing: Vec<String>,
    /// The first unexpected lines.
    pub unexpected: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Unreadable(path, error) => {
                write!(f, "cannot read {}: {error}", path.display())
            }
            Mismatch::Lines(difference) => difference.fmt(f),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines where {} were expected", self.n_actual, self.n_expected)?;
        let kinds = [
            ("missing", '-', self.n_missing, &self.missing),
            ("unexpected", '+', self.n_unexpected, &self.unexpected),
        ];
        for (kind, sign, n, shown) in kinds {
            if n > 0 {
                write!(f, "\n{n} {kind}:")?;
                shown.iter().try_for_each(|line| write!(f, "\n  {sign} {line}"))?;
                if n > shown.len() {
                    write!(f, "\n  {sign} … and {} more", n - shown.len())?;
                }
            }
        }
        Ok(())
    }
}

/// Compares the lines of all `part-*` files in `parts_dir` with those of the CSV file `expected` (plain or `.gz`) after
/// its header. Answers how many lines there are. A `parts_dir` that does not exist is a result without lines.
pub fn compare_sorted(parts_dir: &Path, expected: &Path) -> Result<usize, Mismatch> {
    let parts = part_files(parts_dir)?;
    let parts = parts.iter().map(|part| read(part)).collect::<Result<Vec<_>, _>>()?;
    let actual: Vec<&[u8]> = parts.iter().flat_map(|part| lines(part)).collect();
    match compare_lines(&read(expected)?, actual) {
        Ok(n) => Ok(n),
        Err(difference) => Err(Mismatch::Lines(difference)),
    }
}

/// Compares lines, in whatever order, with those of the CSV text `expected` after its header. Answers how many there
/// are.
///
/// # Errors
/// The lines by which they differ.
pub fn compare_lines(expected: &[u8], mut actual: Vec<&[u8]>) -> Result<usize, Difference> {
    let mut wanted = lines(expected);
    if !wanted.is_empty() {
        wanted.remove(0);
    }
    // A published result without rows may end in an empty line of its own.
    while wanted.last().is_some_and(|line| line.is_empty()) {
        wanted.pop();
    }
    wanted.sort_unstable();
    actual.sort_unstable();
    if wanted == actual { Ok(actual.len()) } else { Err(difference(&wanted, &actual)) }
}

/// Compares the lines of all `part-*` files in two folders. Answers how many there are.
///
/// # Errors
/// A folder cannot be read, or the lines differ.
pub fn compare_folders(expected: &Path, actual: &Path) -> Result<usize, Mismatch> {
    let content = |dir: &Path| -> Result<Vec<Vec<u8>>, Mismatch> {
        part_files(dir)?.iter().map(|part| read(part)).collect()
    };
    let mut wanted = b"header\n".to_vec();
    for line in content(expected)?.iter().flat_map(|part| lines(part)) {
        wanted.extend_from_slice(line);
        wanted.push(b'\n');
    }
    let actual = content(actual)?;
    let actual = actual.iter().flat_map(|part| lines(part)).collect();
    compare_lines(&wanted, actual).map_err(Mismatch::Lines)
}

/// The file of `dir` with the expected lines of result `name`: `name.csv` or `name.csv.gz`.
pub fn expected_file(dir: &Path, name: &str) -> Option<PathBuf> {
    ["csv", "csv.gz"]
        .iter()
        .map(|ending| dir.join(format!("{name}.{ending}")))
        .find(|p| p.is_file())
}

/// The content of `path`, decompressed when its name ends in `.gz`.
pub fn read(path: &Path) -> Result<Vec<u8>, Mismatch> {
    let unreadable = |error| Mismatch::Unreadable(path.to_owned(), error);
    let mut file = File::open(path).map_err(unreadable)?;
    let mut content = Vec::new();
    if path.extension().is_some_and(|ending| ending == "gz") {
        MultiGzDecoder::new(file).read_to_end(&mut content).map_err(unreadable)?;
    } else {
        file.read_to_end(&mut content).map_err(unreadable)?;
    }
    Ok(content)
}

/// The lines of `content`, without their ends; the last may lack one.
pub fn lines(content: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = content.split(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    lines
}

/// The files `part-*` of `dir`; none if there is no such folder.
///
/// # Errors
/// The folder cannot be read.
pub fn part_files(dir: &Path) -> Result<Vec<PathBuf>, Mismatch> {
    let unreadable = |error| Mismatch::Unreadable(dir.to_owned(), error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut parts = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_string_lossy().starts_with("part-") {
            parts.push(entry.path());
        }
    }
    Ok(parts)
}

fn difference(expected: &[&[u8]], actual: &[&[u8]]) -> Difference {
    let mut found =
        Difference { n_expected: expected.len(), n_actual: actual.len(), ..Difference::default() };
    let note = |n: &mut usize, shown: &mut Vec<String>, line: &[u8]| {
        *n += 1;
        if shown.len() < N_SHOWN {
            shown.push(String::from_utf8_lossy(line).into_owned());
        }
    };
    let (mut e, mut a) = (expected.iter().peekable(), actual.iter().peekable());
    loop {
        let order = match (e.peek(), a.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(wanted), Some(line)) => wanted.cmp(line),
        };
        match order {
            Ordering::Less => {
                e.next().inspect(|line| note(&mut found.n_missing, &mut found.missing, line));
            }
            Ordering::Greater => {
                a.next().inspect(|line| note(&mut found.n_unexpected, &mut found.unexpected, line));
            }
            Ordering::Equal => {
                e.next();
                a.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    struct Case {
        dir: tempfile::TempDir,
    }

    impl Case {
        fn new(parts: &[(&str, &str)]) -> Case {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("out")).unwrap();
            for (name, content) in parts {
                std::fs::write(dir.path().join("out").join(name), content).unwrap();
            }
            Case { dir }
        }

        fn against(&self, expected: &str) -> Result<usize, Mismatch> {
            let file = self.dir.path().join("expected.csv");
            std::fs::write(&file, expected).unwrap();
            compare_sorted(&self.dir.path().join("out"), &file)
        }
    }

    #[test]
    fn order_and_parts_do_not_matter() {
        let case = Case::new(&[("part-1", "b,2\na,1\n"), ("part-0", "c,3"), ("notes", "x\n")]);
        assert_eq!(case.against("key,n\na,1\nb,2\nc,3\n").unwrap(), 3);
    }

    #[test]
    fn multiplicity_matters() {
        let case = Case::new(&[("part-0", "a\na\n"), ("part-1", "b\n")]);
        let Err(Mismatch::Lines(found)) = case.against("key\na\nb\nb\n") else {
            panic!("a line too few and a line too many");
        };
        assert_eq!((found.n_missing, found.n_unexpected), (1, 1));
        assert_eq!((found.missing, found.unexpected), (vec!["b".into()], vec!["a".into()]));
    }

    #[test]
    fn the_first_differences_are_shown() {
        let wanted: String = (0..9).map(|i| format!("row {i}\n")).collect();
        let case = Case::new(&[("part-0", "row 8\nrow 9\n")]);
        let shown = case.against(&format!("header\n{wanted}")).unwrap_err().to_string();
        assert_eq!(
            shown,
            "2 lines where 9 were expected\n8 missing:\n  - row 0\n  - row 1\n  - row 2\n  - row 3\n  - row 4\n  \
             - … and 3 more\n1 unexpected:\n  + row 9"
        );
    }

    #[test]
    fn no_folder_is_a_result_without_lines() {
        let case = Case::new(&[]);
        std::fs::remove_dir(case.dir.path().join("out")).unwrap();
        assert_eq!(case.against("header\n").unwrap(), 0);
        assert!(case.against("header\nrow\n").is_err());
    }

    #[test]
    fn compressed_expectations_are_read_and_damaged_ones_reported() {
        let case = Case::new(&[("part-0", "row\n")]);
        let file = case.dir.path().join("O0.csv.gz");
        let mut encoder = GzEncoder::new(File::create(&file).unwrap(), Compression::fast());
        encoder.write_all(b"header\nrow\n").unwrap();
        encoder.finish().unwrap();
        assert_eq!(expected_file(case.dir.path(), "O0"), Some(file.clone()));
        assert_eq!(compare_sorted(&case.dir.path().join("out"), &file).unwrap(), 1);

        std::fs::write(&file, b"not gzip").unwrap();
        let problem = compare_sorted(&case.dir.path().join("out"), &file).unwrap_err();
        assert!(problem.to_string().contains("O0.csv.gz"), "{problem}");
    }
}
