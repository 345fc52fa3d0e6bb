//! The file source as its user sees it: records, and the words of its errors.

use crate::lines::MAX_RECORD;
use crate::testing::Surroundings;
use crate::{BadRecord, FileSource, OnError};
use flate2::Compression;
use flate2::write::GzEncoder;
use millstream_runtime::source::{ReadStatus, Source};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flight {
    carrier: String,
    delay: Option<i32>,
}

fn flight(carrier: &str, delay: impl Into<Option<i32>>) -> Flight {
    Flight { carrier: carrier.into(), delay: delay.into() }
}

/// A folder with one file, and the file's path.
fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in");
    fs::write(&path, content).unwrap();
    (dir, path)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn read<S: Source>(source: &S) -> Vec<S::Out> {
    Surroundings::new(0, 1).read_all(source).unwrap()
}

/// The error's text, with `FILE` for the path.
fn refused<S: Source>(source: &S, path: &Path) -> String {
    let error = Surroundings::new(0, 1).read_all(source).err().expect("must be refused");
    error.to_string().replace(&path.display().to_string(), "FILE")
}

#[test]
fn plain_and_compressed_lines_are_the_same() {
    let text: String = (0..50_000).map(|i| format!("{i} bottles of beer on the wall\n")).collect();
    let (head, tail) = text.split_at(777_777);
    let multi_member = [gzip(head.as_bytes()), gzip(tail.as_bytes())].concat();
    for content in [text.clone().into_bytes(), gzip(text.as_bytes()), multi_member] {
        let (_dir, path) = file(content);
        let lines = read(&FileSource::lines(&path));
        assert!(lines.iter().map(|line| &**line).eq(text.lines()));
        assert_eq!(read(&FileSource::lines(&path).strings()).len(), 50_000);
        let estimate = FileSource::lines(&path).size_hint().unwrap();
        assert!((25_000..100_000).contains(&estimate), "{estimate}");
    }
}

#[test]
fn empty_lines_stay_and_the_last_needs_no_end() {
    let (_dir, path) = file("\na\r\n\n last");
    assert_eq!(read(&FileSource::lines(&path)), ["", "a", "", " last"]);
    assert_eq!(read(&FileSource::lines(&path).skip_lines(2)), ["", " last"]);
    assert_eq!(read(&FileSource::lines(&path).skip_lines(9)), [""; 0]);
    for (content, expected) in
        [("", &[][..]), ("\u{feff}", &[]), ("\u{feff}a\n\u{feff}b", &["a", "\u{feff}b"])]
    {
        let (_dir, path) = file(content);
        assert_eq!(read(&FileSource::lines(&path)), expected);
    }
}

#[test]
fn a_read_takes_about_a_block() {
    let (_dir, path) = file(
        "x".repeat(100_000).as_bytes().iter().chain(b"\n").copied().collect::<Vec<_>>().repeat(50),
    );
    let at = Surroundings::new(0, 1);
    let mut reader = at.open(&FileSource::lines(&path)).unwrap().remove(0);
    let mut batch = Default::default();
    reader.read(&mut batch).unwrap();
    assert!((1..50).contains(&batch.len()), "{} of 100 kB at once", batch.len());
}

#[test]
fn a_folder_is_its_files_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("b", "3\n"), ("a", "1\n2"), (".hidden", "0\n")] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let source = FileSource::json_lines::<u32>(dir.path());
    assert_eq!(source.discover(4).unwrap().len(), 2);
    assert_eq!(read(&source), [1, 2, 3]);
}

#[test]
fn csv_is_read_by_name_or_by_position() {
    let (_dir, path) = file("delay,carrier\n5,AA\n,\"U\nA\"\n\n-3,\"\"\n");
    let flights = read(&FileSource::csv::<Flight>(&path));
    assert_eq!(flights, [flight("AA", 5), flight("U\nA", None), flight("", -3)]);
    let (_dir, path) = file("# comment\nAA;5\nUA;\n");
    let source = FileSource::csv::<(String, Option<i32>)>(&path).delimiter(b';').skip_lines(1);
    assert_eq!(read(&source.without_headers()), [("AA".into(), Some(5)), ("UA".into(), None)]);
}

#[test]
fn json_lines_are_read() {
    let (_dir, path) =
        file("{\"carrier\":\"ÄÄ\",\"delay\":null}\n\n{\"delay\":1,\"carrier\":\"b\"}");
    assert_eq!(
        read(&FileSource::json_lines::<Flight>(&path)),
        [flight("ÄÄ", None), flight("b", 1)]
    );
}

const REMEDY: &str = "; correct it, pass over such lines with `.on_error(OnError::Skip)`, or read them as `Result`s with `.results()`";

#[test]
fn malformed_csv_is_named() {
    let with_header = |rows: &str| {
        let (_dir, path) = file(format!("carrier,delay\nAA,1\n{rows}"));
        refused(&FileSource::csv::<Flight>(&path), &path)
    };
    for (rows, expected) in [
        ("UA,x\n", "`FILE`, line 3: field `delay`: invalid digit found in string: `UA,x`"),
        (
            "\n\"a\nb\",x\n",
            "`FILE`, line 4: field `delay`: invalid digit found in string: `\"a\nb\",x`",
        ),
        ("\r\n\r\nUA\r\n", "`FILE`, line 5: 1 field where the header has 2: `UA`"),
        ("a,1,\"q\"\"\"\n", "`FILE`, line 3: 3 fields where the header has 2: `a,1,\"q\"\"\"`"),
    ] {
        assert_eq!(with_header(rows), format!("{expected}{REMEDY}"));
    }
    let (_dir, path) = file("carier,delay\nAA,1\n");
    assert_eq!(
        refused(&FileSource::csv::<Flight>(&path), &path),
        format!(
            "`FILE`, line 2: missing field `carrier` (the header has `carier`, `delay`): `AA,1`{REMEDY}"
        )
    );
    let (_dir, path) = file("skipped\n1\n2\n300\n");
    assert_eq!(
        refused(&FileSource::csv::<(u8,)>(&path).skip_lines(1).without_headers(), &path),
        format!("`FILE`, line 4: field 1: number too large to fit in target type: `300`{REMEDY}")
    );
    let (_dir, path) = file(b"carrier,delay\nA\xff,1\n");
    assert_eq!(
        refused(&FileSource::csv::<Flight>(&path), &path),
        format!(
            "`FILE`, line 2: field `carrier`: invalid utf-8 sequence of 1 bytes from index 1: `A\u{fffd},1`{REMEDY}"
        )
    );
}

#[test]
fn a_bad_record_is_found_again_in_a_large_file() {
    let mut text = String::from("\u{feff}carrier,delay\r\n");
    for i in 0..30_000 {
        text.push_str(&format!("\"carrier\n{i}\",7\r\n"));
    }
    text.push_str("the last,");
    text.push_str(&"long ".repeat(100_000));
    let (_dir, path) = file(&text);
    let error = refused(&FileSource::csv::<Flight>(&path), &path);
    let begin = "`FILE`, line 60002: field `delay`: invalid digit found in string: `";
    assert!(error.starts_with(begin), "{error}");
    let text = text.replace("29999\",7", "29999\",x");
    fs::write(&path, text).unwrap();
    assert_eq!(
        refused(&FileSource::csv::<Flight>(&path), &path),
        format!(
            "`FILE`, line 60000: field `delay`: invalid digit found in string: `\"carrier\n29999\",x`{REMEDY}"
        )
    );
}

#[test]
fn malformed_lines_are_named() {
    let (_dir, path) = file("1\n2\n\nx\n");
    assert_eq!(
        refused(&FileSource::json_lines::<u32>(&path), &path),
        format!("`FILE`, line 4: expected value (column 1): `x`{REMEDY}")
    );
    let (_dir, path) = file(b"ok\nna\xefve\n");
    assert_eq!(
        refused(&FileSource::lines(&path), &path),
        format!(
            "`FILE`, line 2: not valid UTF-8 at byte 3, convert the input first (from Latin-1, say: `iconv -f latin1 -t utf8`): `na\u{fffd}ve`{REMEDY}"
        )
    );
}

#[test]
fn malformed_records_are_counted_or_handed_on() {
    let (_dir, path) = file("carrier,delay\nAA,1\nUA,x\nDL\nWN,\n");
    let at = Surroundings::new(0, 1);
    let skipping = FileSource::csv::<Flight>(&path).on_error(OnError::Skip);
    assert_eq!(at.read_all(&skipping).unwrap(), [flight("AA", 1), flight("WN", None)]);
    assert_eq!(at.count("malformed_lines"), 2);

    let results = read(&FileSource::csv_results::<Flight>(&path));
    let bad = |line, text: &str, cause: &str| BadRecord {
        origin: Some(path.display().to_string()),
        line_number: Some(line),
        text: text.into(),
        cause: cause.into(),
    };
    assert_eq!(
        results,
        [
            Ok(flight("AA", 1)),
            Err(bad(3, "UA,x", "field `delay`: invalid digit found in string")),
            Err(bad(4, "DL", "1 field where the header has 2")),
            Ok(flight("WN", None)),
        ]
    );
    let (_dir, path) = file(b"1\nb\xff");
    let results = read(&FileSource::json_lines_results::<u32>(&path));
    assert_eq!(
        (results[0].clone(), results[1].as_ref().unwrap_err().line_number),
        (Ok(1), Some(2))
    );
}

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nothing.csv");
    assert_eq!(
        refused(&FileSource::lines(&path), &path),
        "there is no file `FILE`: check the path"
    );
    let pattern = dir.path().join("*.csv");
    assert_eq!(
        refused(&FileSource::lines(&pattern), &pattern),
        "no file matches `FILE`: check the pattern (`*` and `?` do not match `/` or a leading dot)"
    );
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        refused(&FileSource::lines("no/such/file"), &here),
        "there is no file `no/such/file`: check the path (it was looked for in `FILE`)"
    );
}

#[test]
fn damaged_gzip_is_named() {
    let text: String = (0..100_000).map(|i| format!("{i}\n")).collect();
    let good = gzip(text.as_bytes());
    let (_dir, path) = file(&good[..good.len() / 2]);
    let error = refused(&FileSource::lines(&path), &path);
    assert!(error.starts_with("`FILE`, after line "), "{error}");
    let reason =
        ": the compressed data ends too early: `gzip -t` checks it; get or make the file again: ";
    assert!(error.contains(reason), "{error}");
    let mut damaged = good.clone();
    damaged[good.len() - 8..].fill(7);
    let (_dir, path) = file(&damaged);
    for error in [
        refused(&FileSource::lines(&path), &path),
        refused(&FileSource::csv::<(u32,)>(&path).without_headers(), &path),
    ] {
        assert_eq!(
            error,
            "`FILE`, after line 100000: the compressed data is damaged: `gzip -t` checks it; get or make the file again: corrupt gzip stream does not have a matching checksum"
        );
    }
}

#[test]
fn a_record_without_an_end_does_not_take_all_memory() {
    let endless = vec![b'x'; MAX_RECORD + 1];
    // Compressed, it is read in other pieces.
    for encode in [|text: &[u8]| text.to_vec(), |text: &[u8]| gzip(text)] {
        let (_dir, path) = file(encode(&[b"first\n", &*endless].concat()));
        assert_eq!(
            refused(&FileSource::lines(&path), &path),
            "`FILE`, after line 1: a line of more than 64 MiB: is it a file of this format?"
        );
        let (_dir, path) = file(encode(&[&endless[..MAX_RECORD - 1], b"\nlast\n"].concat()));
        let lines = read(&FileSource::lines(&path));
        assert_eq!((lines[0].len(), &*lines[1]), (MAX_RECORD - 1, "last"));
    }
    let lines = "CC,3\n".repeat(MAX_RECORD / 5 + 200_000);
    let (_dir, path) = file(gzip(&[b"carrier,delay\nAA,1\n\"BB,2\n", lines.as_bytes()].concat()));
    assert_eq!(
        refused(&FileSource::csv::<Flight>(&path), &path),
        "`FILE`, after line 2: a record, which may have a quote that is not closed, of more than 64 MiB: \
         is it a file of this format?"
    );
}

/// Reads a source, closing and opening every file again after each batch of `n`.
fn read_in_pieces<S: Source>(source: &S, n: usize) -> Vec<S::Out> {
    let at = Surroundings::new(0, 1).batch_size(n);
    let mut all = Vec::new();
    for mut split in source.discover(1).unwrap() {
        loop {
            let mut reader = source.open(split, &at.split()).unwrap();
            let mut batch = millstream_model::Batch::default();
            let status = reader.read(&mut batch).unwrap();
            all.append(&mut batch.values);
            split = reader.split();
            if status == ReadStatus::End {
                break;
            }
        }
    }
    all
}

#[test]
fn reading_goes_on_right_behind_the_last_record() {
    let lines = "\u{feff}# skipped\nä\n\r\nb\r\n\n\nlast";
    let rows = "# skipped\ncarrier,delay\r\nAA,1\r\n\"U\nA\",\r\n\r\nDL,x\nWN\n\n-,3,4\nB6,2";
    for encode in [|text: &str| text.as_bytes().to_vec(), |text: &str| gzip(text.as_bytes())] {
        for n in 1..4 {
            let (_dir, path) = file(encode(lines));
            let source = FileSource::lines(&path).skip_lines(1);
            assert_eq!(read_in_pieces(&source, n), read(&source), "by {n}");
            let (_dir, path) = file(encode(rows));
            let source = FileSource::csv_results::<Flight>(&path);
            assert_eq!(read_in_pieces(&source, n), read(&source), "by {n}");
            let source = FileSource::csv::<Flight>(&path).skip_lines(1).results();
            let whole = read(&source);
            assert_eq!((whole.len(), whole.iter().filter(|r| r.is_err()).count()), (6, 3));
            assert_eq!(read_in_pieces(&source, n), whole, "by {n}");
            let source = FileSource::csv::<(String, String)>(&path).skip_lines(1).without_headers();
            let source = source.results();
            assert_eq!(read_in_pieces(&source, n), read(&source), "by {n}");
            let (_dir, path) = file(encode("1\n\n2\nx\n 3\n\n"));
            let source = FileSource::json_lines_results::<u32>(&path);
            assert_eq!(read_in_pieces(&source, n), read(&source), "by {n}");
        }
    }
}

/// Reads half of a file, puts another in its place, and goes on: what comes of it.
fn go_on_in(before: &[u8], after: &[u8]) -> Result<usize, String> {
    let (dir, path) = file(before);
    let (source, at) = (FileSource::lines(&path), Surroundings::new(0, 1).batch_size(50));
    let mut reader = at.open(&source).unwrap().remove(0);
    reader.read(&mut Default::default()).unwrap();
    let split = reader.split();
    // A file of its own, which is moved there: neither its times nor its place on the disk are those of the first.
    let other = dir.path().join("other");
    fs::write(&other, after).unwrap();
    fs::rename(&other, &path).unwrap();
    let mut reader = source.open(split, &at.split()).unwrap();
    let mut batch = millstream_model::Batch::default();
    while reader.read(&mut batch).map_err(|e| e.to_string())? != ReadStatus::End {}
    Ok(batch.len())
}

#[test]
fn a_file_of_the_same_length_is_another_file_if_it_holds_something_else() {
    let numbers =
        |from: u64, n: u64| -> String { (from..from + n).map(|i| format!("{i:07}\n")).collect() };
    for n in [100, 1000, 100_000] {
        let text = numbers(1, n);
        let replaced = |text: &str| {
            let error = go_on_in(numbers(1, n).as_bytes(), text.as_bytes()).unwrap_err();
            assert!(error.contains("is another file than the checkpoint knows"), "{error}");
        };
        replaced(&numbers(2, n));
        // The same lines in another order: all but what it begins and ends with.
        let (first, last) = (numbers(1, 10), numbers(n - 9, 10));
        let middle: String = (11..n - 9).rev().map(|i| format!("{i:07}\n")).collect();
        replaced(&format!("{first}{middle}{last}"));
        replaced(&format!("{}{}", numbers(2, n), numbers(n, 5)));
        // It may come back, and it may have grown.
        assert_eq!(go_on_in(text.as_bytes(), text.as_bytes()), Ok(n as usize - 50));
        let grown = format!("{text}more\n");
        assert_eq!(go_on_in(text.as_bytes(), grown.as_bytes()), Ok(n as usize - 49));
    }
    let (one, other) = (gzip(numbers(1, 1000).as_bytes()), gzip(numbers(1001, 1000).as_bytes()));
    let n = one.len().max(other.len());
    // Both as long as the longer one: what comes behind the data is no matter here.
    let padded = |mut bytes: Vec<u8>| {
        bytes.resize(n, 0);
        bytes
    };
    let error = go_on_in(&padded(one.clone()), &padded(other)).unwrap_err();
    assert!(error.contains("is another file than the checkpoint knows"), "{error}");
    assert_eq!(go_on_in(&one, &one), Ok(950));
}

#[test]
fn a_file_that_shrank_is_another_file() {
    for encode in [|text: &str| text.as_bytes().to_vec(), |text: &str| gzip(text.as_bytes())] {
        let (_dir, path) = file(encode(&"line\n".repeat(100)));
        let (source, at) = (FileSource::lines(&path), Surroundings::new(0, 1).batch_size(50));
        let mut reader = at.open(&source).unwrap().remove(0);
        reader.read(&mut Default::default()).unwrap();
        let split = reader.split();
        fs::write(&path, encode(&"line\n".repeat(20))).unwrap();
        let mut reader = source.open(split, &at.split()).unwrap();
        let error = reader.read(&mut Default::default()).unwrap_err().to_string();
        assert!(error.contains("is another file than the checkpoint knows"), "{error}");
    }
}
