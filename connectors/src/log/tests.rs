//! Logs as their readers see them: what is there, what is not yet, and what is damaged.

use super::*;
use crate::conformance::{Place, check};
use crate::testing::{Surroundings, crash_everywhere};
use millstream_model::{Batch, CheckpointId, Result};
use millstream_runtime::operator::{Sink, SinkStart, SinkWriter, Staged};
use millstream_runtime::source::{ReadStatus, Source};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A log of numbers in three partitions.
struct Numbers {
    dir: PathBuf,
    /// Removes the folder in the end.
    _temporary: Option<TempDir>,
}

impl Numbers {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Numbers { dir: dir.path().join("log"), _temporary: Some(dir) }
    }
}

type NumberSink = LogSink<ByKey<fn(&u64) -> u64, u64>>;

fn sink(dir: &Path) -> NumberSink {
    LogSink::new(dir).partitions(3).key((|n| *n) as fn(&u64) -> u64)
}

fn read(dir: &Path) -> Result<Vec<u64>> {
    Surroundings::new(0, 1).batch_size(3).read_all(&LogSource::new::<u64>(dir))
}

fn sorted(dir: &Path) -> Vec<u64> {
    let mut records = read(dir).unwrap();
    records.sort_unstable();
    records
}

impl Place for Numbers {
    type Sink = NumberSink;
    fn sink(&self) -> NumberSink {
        sink(&self.dir)
    }
    fn visible(&self) -> Result<Vec<u64>> {
        read(&self.dir)
    }
}

#[test]
fn records_are_visible_exactly_once_in_every_history() {
    check(Numbers::new, 3, 15, 3).unwrap();
}

#[test]
fn a_crash_at_any_failpoint_is_recovered_from() {
    crash_everywhere(
        "log::tests::a_crash_at_any_failpoint_is_recovered_from",
        "log.",
        |dir| Numbers { dir: dir.to_owned(), _temporary: None },
        |_| {},
    );
}

fn writer(sink: &NumberSink) -> Box<dyn SinkWriter<u64>> {
    sink.writer(&Surroundings::new(0, 1).operator).unwrap()
}

/// Stages these records for a checkpoint.
fn stage(writer: &mut dyn SinkWriter<u64>, id: u64, records: &[u64]) -> Vec<Staged> {
    writer.write(&mut Batch::of(records.to_vec())).unwrap();
    writer.stage(CheckpointId(id)).unwrap()
}

/// A log with `0..10` in it.
fn ten() -> Numbers {
    let log = Numbers::new();
    let sink = log.sink();
    sink.prepare(&SinkStart::Fresh).unwrap();
    Surroundings::new(0, 1).write_all(&sink, &[&[0, 1, 2, 3, 4, 5, 6], &[7, 8, 9]]).unwrap();
    log
}

#[test]
fn without_checkpoints_everything_is_committed_at_the_end() {
    let log = ten();
    assert_eq!(sorted(&log.dir), (0..10).collect::<Vec<_>>());
    let partitions: Vec<usize> = LogSource::new::<u64>(&log.dir)
        .discover(1)
        .unwrap()
        .into_iter()
        .map(|split| {
            let (at, mut records) = (Surroundings::new(0, 1), Vec::new());
            let mut reader = LogSource::new::<u64>(&log.dir).open(split, &at.split()).unwrap();
            at.drain(&mut *reader, &mut records).unwrap();
            assert!(records.is_sorted(), "a subtask's records stay in order");
            records.len()
        })
        .collect();
    assert_eq!(partitions.len(), 3);
    assert!(partitions.iter().all(|n| *n < 10), "{partitions:?}");
}

#[test]
fn what_no_longer_may_write_cannot_commit() {
    let log = Numbers::new();
    let sink = log.sink();
    sink.prepare(&SinkStart::Fresh).unwrap();
    let (mut zombie, mut committer) = (writer(&sink), Sink::<u64>::committer(&sink).unwrap());
    let staged = stage(&mut *zombie, 1, &[1, 2]);
    // Another process goes on from that checkpoint.
    let sink = log.sink();
    Sink::<u64>::prepare(&sink, &SinkStart::Recovering(staged.clone())).unwrap();
    assert_eq!(sorted(&log.dir), [1, 2]);
    for staged in [staged, stage(&mut *zombie, 2, &[3])] {
        let error = committer.commit(&staged).unwrap_err().to_string();
        assert!(error.contains("was taken for dead"), "{error}");
    }
    assert!(zombie.finish().is_err());
    let staged = stage(&mut *writer(&sink), 2, &[3]);
    committer.commit(&staged).unwrap();
    assert_eq!(sorted(&log.dir), [1, 2, 3]);
}

#[test]
fn output_from_after_the_checkpoint_is_never_written_twice() {
    let log = Numbers::new();
    let sink = log.sink();
    sink.prepare(&SinkStart::Fresh).unwrap();
    let (mut writer, mut committer) = (writer(&sink), Sink::<u64>::committer(&sink).unwrap());
    let first = stage(&mut *writer, 1, &[1]);
    let second = stage(&mut *writer, 2, &[2]);
    committer.commit(&first).unwrap();
    committer.commit(&second).unwrap();
    let error = Sink::<u64>::prepare(&sink, &SinkStart::Recovering(first)).unwrap_err().to_string();
    assert!(error.contains("goes on behind the checkpoint"), "{error}");
    Sink::<u64>::prepare(&sink, &SinkStart::Recovering(second)).unwrap();
    for start in [SinkStart::Fresh, SinkStart::Recovering(vec![])] {
        let error = sink.prepare(&start).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
        sink.clone().append().prepare(&start).unwrap();
    }
    let other = sink.partitions(4).append();
    let error = other.prepare(&SinkStart::Fresh).unwrap_err().to_string();
    assert!(error.contains("has 3 partitions"), "{error}");
    assert_eq!(sorted(&log.dir), [1, 2]);
}

#[test]
fn a_reader_goes_on_where_it_was_and_waits_for_more() {
    let log = Numbers::new();
    let sink = LogSink::new(&log.dir);
    Sink::<u64>::prepare(&sink, &SinkStart::Fresh).unwrap();
    let at = Surroundings::new(0, 1).batch_size(2);
    let mut writer: Box<dyn SinkWriter<u64>> = sink.writer(&at.operator).unwrap();
    let mut committer = Sink::<u64>::committer(&sink).unwrap();
    let source = LogSource::new::<u64>(&log.dir).follow();
    let mut split = source.discover(1).unwrap().remove(0);
    let mut read = Vec::new();
    for id in 1..5 {
        let staged = stage(&mut *writer, id, &[3 * id, 3 * id + 1, 3 * id + 2]);
        // Another reader after every batch.
        let mut pull = |read: &mut Vec<u64>| {
            let mut reader = source.open(split.clone(), &at.split()).unwrap();
            let mut batch = Batch::default();
            let status = reader.read(&mut batch).unwrap();
            split = reader.split();
            read.append(&mut batch.values);
            status
        };
        assert_eq!(pull(&mut read), ReadStatus::CaughtUp { until_us: 10_000 });
        committer.commit(&staged).unwrap();
        while pull(&mut read) == ReadStatus::More {}
    }
    assert_eq!(read, (3..15).collect::<Vec<_>>());
}

#[test]
fn what_was_written_since_a_savepoint_is_never_written_twice() {
    let log = Numbers::new();
    let sink = log.sink();
    sink.prepare(&SinkStart::Fresh).unwrap();
    let at = |subtask| Surroundings::new(subtask, 2);
    let mut writers = [0, 1].map(|subtask| sink.writer(&at(subtask).operator).unwrap());
    let mut stage_both = |id, records: [&[u64]; 2]| {
        let [first, second] = &mut writers;
        [stage(&mut **first, id, records[0]), stage(&mut **second, id, records[1])]
    };
    // A savepoint, which commits nothing; then a checkpoint, for which only the first subtask has something.
    let savepoint = stage_both(1, [&[1], &[2]]);
    let checkpoint = stage_both(2, [&[3], &[]]);
    let mut committer = Sink::<u64>::committer(&sink).unwrap();
    for (saved, staged) in savepoint.iter().zip(&checkpoint) {
        committer.commit(&[saved.clone(), staged.clone()].concat()).unwrap();
    }
    let error = Sink::<u64>::prepare(&sink, &SinkStart::Recovering(savepoint.concat()));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("is of checkpoint 2"), "{error}");
    let both = [savepoint.concat(), checkpoint.concat()].concat();
    Sink::<u64>::prepare(&sink, &SinkStart::Recovering(both)).unwrap();
    assert_eq!(sorted(&log.dir), [1, 2, 3]);
}

#[test]
fn what_is_missing_when_it_is_committed_is_told() {
    for is_gone in [true, false] {
        let log = Numbers::new();
        let sink = log.sink();
        sink.prepare(&SinkStart::Fresh).unwrap();
        let staged = stage(&mut *writer(&sink), 1, &[0, 1, 2, 3, 4, 5, 6, 7]);
        let segment = file(log.dir.join("staged"), "p1");
        if is_gone {
            fs::remove_file(&segment).unwrap();
        } else {
            fs::write(&segment, "short").unwrap();
        }
        let error = Sink::<u64>::committer(&sink).unwrap().commit(&staged).unwrap_err().to_string();
        assert!(error.contains(segment.file_name().unwrap().to_str().unwrap()), "{error}");
        assert!(sorted(&log.dir).is_empty());
    }
}

#[test]
fn a_commit_that_is_missing_between_others_is_told() {
    let log = Numbers::new();
    let sink = log.sink();
    sink.prepare(&SinkStart::Fresh).unwrap();
    let (mut writer, mut committer) = (writer(&sink), Sink::<u64>::committer(&sink).unwrap());
    let mut staged = Vec::new();
    for id in 1..5 {
        staged = stage(&mut *writer, id, &[id]);
        committer.commit(&staged).unwrap();
    }
    fs::remove_file(file(log.dir.join("commits"), "1")).unwrap();
    let prepared = Sink::<u64>::prepare(&sink, &SinkStart::Recovering(staged));
    for error in [read(&log.dir).unwrap_err(), prepared.unwrap_err()] {
        assert!(error.to_string().contains("00001` is missing"), "{error}");
    }
}

/// The only file in a folder whose name ends so.
fn file(dir: PathBuf, end: &str) -> PathBuf {
    let mut paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.find(|path| path.display().to_string().ends_with(end)).expect("such a file")
}

#[test]
fn damage_is_told() {
    let files: [fn(&Path) -> PathBuf; 3] = [
        |dir| dir.join("meta"),
        |dir| file(dir.join("commits"), "0"),
        |dir| file(dir.join("segments"), "p0"),
    ];
    for which in files {
        let log = ten();
        let path = which(&log.dir);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            fs::write(&path, bad).unwrap();
            let error = read(&log.dir).expect_err("one bit").to_string();
            assert!(error.contains(&path.display().to_string()), "{at}: {error}");
        }
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            let error = read(&log.dir).expect_err("cut off").to_string();
            assert!(error.contains(&path.display().to_string()), "{len}: {error}");
        }
        fs::write(&path, &good).unwrap();
        assert_eq!(sorted(&log.dir).len(), 10);
        fs::remove_file(&path).unwrap();
        assert!(path.ends_with("commits/00000000000000000000") || read(&log.dir).is_err());
    }
    let error = read(Path::new("no/such/log")).unwrap_err().to_string();
    assert!(error.contains("there is no log in `no/such/log`"), "{error}");
    let log = ten();
    let read_as_text = Surroundings::new(0, 1).read_all(&LogSource::new::<String>(&log.dir));
    let error = read_as_text.unwrap_err().to_string();
    assert!(
        error.contains("is no `alloc::string::String`: read it as what was written"),
        "{error}"
    );
}
