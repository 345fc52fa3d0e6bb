//! What a reader of the folder sees, run by run.

use super::*;
use crate::conformance::{Place, check};
use crate::testing::{Surroundings, crash_everywhere};
use millstream_model::{Batch, CheckpointId};
use millstream_runtime::operator::Staged;
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
    let long = "x".repeat(writer::BLOCK);
    writer.write(&mut Batch::of(vec![(1, long.clone())])).unwrap();
    writer.write(&mut Batch::of(vec![(2, "y".into())])).unwrap();
    let names = |dir| content(dir).into_keys().collect::<Vec<_>>();
    assert_eq!(names(dir.path()), [".part-7-0.inprogress"]);
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
    let error =
        Sink::<u8>::prepare(&FileSink::lines(&file), &SinkStart::Fresh).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("`{}` cannot be made a folder: ", file.display())),
        "{error}"
    );
}

/// What readers of `part-*` find.
fn committed(dir: &Path) -> BTreeMap<String, String> {
    content(dir).into_iter().filter(|(name, _)| name.starts_with("part-")).collect()
}

/// A folder to write numbers into.
struct Folder {
    dir: PathBuf,
    rolling: Rolling,
    /// Removes the folder in the end.
    _temporary: Option<tempfile::TempDir>,
}

impl Folder {
    fn new(rolling: Rolling) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Folder { dir: dir.path().to_owned(), rolling, _temporary: Some(dir) }
    }
}

impl Place for Folder {
    type Sink = FileSink<ToLines<ByDisplay>>;
    fn sink(&self) -> Self::Sink {
        FileSink { rolling: self.rolling, ..FileSink::lines(&self.dir) }
    }
    fn visible(&self) -> Result<Vec<u64>> {
        let text: String = committed(&self.dir).into_values().collect();
        Ok(text.lines().map(|line| line.parse().unwrap()).collect())
    }
}

#[test]
fn records_are_visible_exactly_once_in_every_history() {
    let rolling = Rolling { at_bytes: Some(5), after_ms: None };
    check(|| Folder::new(rolling), 3, 15, 7).unwrap();
    check(|| Folder::new(Rolling::default()), 3, 15, 8).unwrap();
}

#[test]
fn a_crash_at_any_failpoint_is_recovered_from() {
    let rolling = Rolling { at_bytes: Some(4), after_ms: None };
    crash_everywhere(
        "file::sink::tests::a_crash_at_any_failpoint_is_recovered_from",
        "file.",
        |dir| Folder { dir: dir.to_owned(), rolling, _temporary: None },
        |dir| {
            let sink = FileSink::lines(dir);
            Sink::<u64>::prepare(&sink, &SinkStart::Fresh).unwrap();
            Surroundings::new(0, 1).write_all(&sink, &[&[1]]).unwrap();
        },
    );
}

/// A writer of subtask 3, into which batches were written.
fn written<'a>(
    sink: &FileSink<ToLines<ByDisplay>>,
    at: &Surroundings,
    batches: impl IntoIterator<Item = &'a [u64]>,
) -> Box<dyn SinkWriter<u64>> {
    let mut writer = Sink::<u64>::writer(sink, &at.operator).unwrap();
    for batch in batches {
        writer.write(&mut Batch::of(batch.to_vec())).unwrap();
    }
    writer
}

#[test]
fn a_checkpoint_with_records_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, at) = (FileSink::csv(dir.path()).with_header(), Surroundings::new(3, 8));
    #[derive(serde::Serialize)]
    struct Row {
        n: u64,
    }
    let mut writer = sink.writer(&at.operator).unwrap();
    let mut committer = Sink::<Row>::committer(&sink).unwrap();
    for (id, rows) in [(1, &[10, 11][..]), (2, &[]), (5, &[12])] {
        if !rows.is_empty() {
            let rows: Vec<Row> = rows.iter().map(|n| Row { n: *n }).collect();
            writer.write(&mut Batch::of(rows)).unwrap();
        }
        let staged = writer.stage(CheckpointId(id)).unwrap();
        committer.commit(&staged).unwrap();
        committer.commit(&staged).unwrap();
    }
    // Every file has its header.
    let expected = [("part-1-3-0", "n\n10\n11\n"), ("part-5-3-0", "n\n12\n")];
    assert_eq!(content(dir.path()), files(expected));
}

#[test]
fn files_roll_by_size_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let at = Surroundings::new(3, 8);
    let sink = FileSink::lines(dir.path()).roll_at_bytes(6);
    let mut writer = written(&sink, &at, [&[1, 2][..], &[3], &[4], &[5, 6, 7]]);
    assert_eq!(committed(dir.path()), files([]));
    let staged = writer.stage(CheckpointId(9)).unwrap();
    assert_eq!(committed(dir.path()), files([]));
    Sink::<u64>::committer(&sink).unwrap().commit(&staged).unwrap();
    let by_size = [("part-9-3-0", "1\n2\n3\n"), ("part-9-3-1", "4\n5\n6\n7\n")];
    assert_eq!(content(dir.path()), files(by_size));

    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path()).roll_after(Duration::from_millis(2));
    let mut writer = written(&sink, &at, [&[1][..]]);
    at.clock.0.store(1999, Ordering::SeqCst);
    writer.write(&mut Batch::of(vec![2])).unwrap();
    at.clock.0.store(2000, Ordering::SeqCst);
    writer.flush().unwrap();
    writer.write(&mut Batch::of(vec![3])).unwrap();
    writer.finish().unwrap();
    assert_eq!(content(dir.path()), files([("part-3-0", "1\n2\n"), ("part-3-1", "3\n")]));
}

#[test]
fn only_what_is_hidden_and_of_the_sink_is_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let others =
        ["part-0", "part-1-2-3", "part-x", ".part-1-2-3.bak", ".part-1-2.pending", "notes"];
    let hidden = [".part-1-2-3.pending", ".part-3.inprogress", ".part-3-0.inprogress"];
    for name in others.iter().chain(&hidden) {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let sink = FileSink::lines(dir.path());
    let names = || content(dir.path()).into_keys().collect::<Vec<_>>();
    Sink::<u64>::prepare(&sink, &SinkStart::Recovering(vec!["1".into()])).unwrap();
    let mut kept = others;
    kept.sort_unstable();
    assert_eq!(names(), kept);
    // Without a checkpoint the job begins again, and output of other runs is in the way.
    let start = SinkStart::Recovering(vec![]);
    let error = Sink::<u64>::prepare(&sink, &start).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    Sink::<u64>::prepare(&sink.overwrite(), &start).unwrap();
    assert_eq!(names(), [".part-1-2-3.bak", ".part-1-2.pending", "notes", "part-x"]);
}

#[test]
fn output_from_after_the_checkpoint_is_never_written_twice() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path());
    fs::write(dir.path().join("part-7-0-0"), "").unwrap();
    let recover = |staged: &str| {
        Sink::<u64>::prepare(&sink, &SinkStart::Recovering(vec!["2".into(), staged.into()]))
    };
    recover("7").unwrap();
    let error = recover("6").unwrap_err().to_string();
    assert!(error.contains("part-7-0-0` is there already: the job was restored from"), "{error}");
}

#[test]
fn attempts_without_checkpoints_replace_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path());
    Sink::<u64>::prepare(&sink, &SinkStart::Fresh).unwrap();
    Surroundings::new(1, 2).write_all(&sink, &[&[1]]).unwrap();
    Sink::<u64>::prepare(&sink, &SinkStart::Recovering(vec![])).unwrap();
    assert_eq!(content(dir.path()), files([]));
}

#[test]
fn a_folder_that_is_not_the_one_of_the_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, at) = (FileSink::lines(dir.path()), Surroundings::new(3, 8));
    let staged = written(&sink, &at, [&[1, 2][..]]).stage(CheckpointId(1)).unwrap();
    let recover = |staged: &[Staged]| {
        let error = Sink::<u64>::prepare(&sink, &SinkStart::Recovering(staged.to_vec()));
        error.unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR")
    };
    let pending = dir.path().join(".part-1-3-0.pending");
    fs::write(&pending, "1\n").unwrap();
    let error = recover(&staged);
    assert!(error.starts_with("`DIR/.part-1-3-0.pending` is 2 bytes long, and 4 were"), "{error}");
    fs::write(dir.path().join("part-1-3-0"), "1\n").unwrap();
    assert!(
        recover(&staged).starts_with("`DIR/part-1-3-0` is there already"),
        "{}",
        recover(&staged)
    );
    fs::remove_file(&pending).unwrap();
    assert!(recover(&staged).starts_with("`DIR/part-1-3-0` is 2 bytes long"));
    fs::remove_file(dir.path().join("part-1-3-0")).unwrap();
    assert!(recover(&staged).starts_with("`DIR/.part-1-3-0.pending` is gone"));
    for foreign in ["", "x", "1\n4 ../part-1-3-0", "1\n4 part-1", "1\nx part-1-3-0"] {
        let error = recover(&[foreign.into()]);
        assert!(error.contains("is not what a file sink stages"), "{error}");
    }
    // Output from after the checkpoint is not written over.
    fs::write(dir.path().join("part-1-3-0"), "later").unwrap();
    let error = written(&sink, &at, [&[1, 2][..]]).stage(CheckpointId(1)).unwrap_err().to_string();
    assert!(error.contains("is there already: the job was restored from an older"), "{error}");
}

#[test]
fn two_writers_of_one_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, at) = (FileSink::lines(dir.path()), Surroundings::new(3, 8));
    let block = vec![7; writer::BLOCK];
    let _first = written(&sink, &at, [&block[..]]);
    let error = written(&sink, &at, []).write(&mut Batch::of(block)).unwrap_err().to_string();
    assert!(error.contains("is being written already"), "{error}");
}
