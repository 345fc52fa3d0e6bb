//! What must be true of a history's end, judged from what lies on disk and in storage alone.

use super::disk::{Disk, Row};
use super::job::Job;
use super::model::Expected;
use millstream::prelude::EventTime;
use millstream::state::snapshot::{
    CheckpointStorage, Manifest, MemoryStorage, completed, read_manifest,
};
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What is wrong with the visible output: with exactly-once it must be that of the model, else nothing of that may lack.
pub(super) fn output(job: &Job, disk: &Disk, exactly_once: bool) -> Vec<String> {
    let expected = Expected::of(job);
    let mut wrong = Vec::new();
    for (sink, expected) in [("main", expected.main), ("late", expected.late)] {
        let mut visible = disk.visible(sink);
        visible.sort_unstable();
        wrong.extend(if exactly_once {
            differs(sink, &expected, &visible)
        } else {
            lacks(sink, &expected, &visible)
        });
    }
    wrong
}

fn differs(sink: &str, expected: &[Row], visible: &[Row]) -> Option<String> {
    let count = |rows: &[Row]| {
        let mut counts: BTreeMap<Row, i64> = BTreeMap::new();
        rows.iter().for_each(|row| *counts.entry(*row).or_default() += 1);
        counts
    };
    let (should, is) = (count(expected), count(visible));
    let rows: BTreeSet<&Row> = should.keys().chain(is.keys()).collect();
    let of = |counts: &BTreeMap<Row, i64>, row: &Row| counts.get(row).copied().unwrap_or(0);
    let wrong: Vec<String> = rows
        .into_iter()
        .filter(|row| of(&should, row) != of(&is, row))
        .map(|row| format!("{row:?} {} times instead of {}", of(&is, row), of(&should, row)))
        .collect();
    (!wrong.is_empty()).then(|| format!("in {sink}: {}", wrong[..wrong.len().min(8)].join(", ")))
}

/// By totals per key and time: a record that counts twice makes them larger.
fn lacks(sink: &str, expected: &[Row], visible: &[Row]) -> Option<String> {
    let total = |rows: &[Row]| {
        let mut totals: BTreeMap<(u64, EventTime), u64> = BTreeMap::new();
        rows.iter()
            .for_each(|(key, time, value)| *totals.entry((*key, *time)).or_default() += value);
        totals
    };
    let is = total(visible);
    let lacking = |(at, total): (&(u64, EventTime), &u64)| {
        let is = is.get(at).copied().unwrap_or(0);
        (is < *total).then(|| format!("in {sink}: of {at:?} there is {is} instead of {total}"))
    };
    total(expected).iter().find_map(lacking)
}

/// What lies in storage and on disk although nobody needs it, after a job has finished and was looked at again.
pub(super) fn leaks(storage: &MemoryStorage, disk: &Disk, n_retained: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let folders = completed(storage).unwrap_or_default();
    let manifests: Vec<_> =
        folders.iter().filter_map(|folder| read_manifest(storage, folder).ok()).collect();
    if !manifests.last().is_some_and(Manifest::is_finished) {
        wrong.push("the job has finished, but its newest checkpoint has not".into());
    }
    if folders.len() > n_retained {
        wrong.push(format!("{folders:?} are kept instead of {n_retained}"));
    }
    let files = manifests.iter().flat_map(Manifest::files).map(|file| file.path.clone());
    let own = folders.iter().map(|folder| format!("{folder}/manifest"));
    let mark = folders.last().map(|folder| format!("completed-{folder}"));
    let needed: BTreeSet<String> = files.chain(own).chain(mark).collect();
    let there: BTreeSet<String> = storage.list("").unwrap_or_default().into_iter().collect();
    wrong.extend(there.difference(&needed).map(|path| format!("nobody needs {path}")));
    wrong.extend(needed.difference(&there).map(|path| format!("{path} is not there")));
    wrong.extend(disk.staged().into_iter().map(|name| format!("{name} is staged for ever")));
    wrong
}
