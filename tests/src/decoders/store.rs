//! What a job manager reads of its folder: the records of jobs, and the numbers of leaders.

use super::{Decoder, cluster, folder};
use crossbeam_channel::never;
use millstream_ha::{Election, Standalone};
use millstream_jobmanager::job::link::{AttemptRecord, RunningAttempt};
use millstream_jobmanager::store::{FileStore, JobRecords, MetadataStore, SubmittedJob};
use millstream_model::LeaderEpoch;
use millstream_proto::message::{JobId, TaskManagerId};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

/// A submission on disk; the file has the codec and the version of the record in its body.
pub(super) const RECORD: Decoder = Decoder {
    name: "record",
    samples: || vec![written("submission")],
    takes: |bytes| takes("submission", bytes),
    mend: mend_file,
};

/// The newest attempt of a job.
pub(super) const ATTEMPT: Decoder = Decoder {
    name: "attempt-record",
    samples: || vec![written("attempt")],
    takes: |bytes| takes("attempt", bytes),
    mend: mend_file,
};

/// How a job ended.
pub(super) const OUTCOME: Decoder = Decoder {
    name: "outcome-record",
    samples: || vec![written("outcome")],
    takes: |bytes| takes("outcome", bytes),
    mend: mend_file,
};

/// The number of the newest leader, as the store keeps it.
pub(super) const FENCE: Decoder = Decoder {
    name: "fence",
    samples: || {
        let dir = folder();
        open(dir.path()).expect("an empty folder can be opened");
        vec![read(&dir.path().join("fence"))]
    },
    takes: |bytes| {
        let dir = folder();
        write(&dir.path().join("fence"), bytes);
        FileStore::open(dir.path()).is_ok_and(|store| store.fence(EPOCH).is_ok())
    },
    mend: mend_file,
};

/// The same, as the election keeps it.
pub(super) const EPOCH_FILE: Decoder = Decoder {
    name: "epoch",
    samples: || {
        let dir = folder();
        lead(dir.path()).expect("nobody else leads");
        vec![read(&dir.path().join("epoch"))]
    },
    takes: |bytes| {
        let dir = folder();
        write(&dir.path().join("epoch"), bytes);
        lead(dir.path()).is_ok()
    },
    mend: mend_file,
};

const JOB: JobId = JobId(7);
const EPOCH: LeaderEpoch = LeaderEpoch(3);
/// Before the body: magic, version, length, checksum.
const HEADER: usize = 22;

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("there is room for a file");
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("it was written")
}

fn lead(dir: &Path) -> millstream_model::Result<()> {
    Standalone::new(dir).campaign(&never()).map(drop)
}

/// Opens all records of a folder, as a leader does; how many they are.
fn open(dir: &Path) -> millstream_model::Result<(JobRecords, usize)> {
    let store = Arc::new(FileStore::open(dir)?);
    let (records, found) = JobRecords::open(store, EPOCH)?;
    let n_records = found
        .iter()
        .map(|job| 1 + usize::from(job.attempt.is_some()) + usize::from(job.outcome.is_some()));
    Ok((records, n_records.sum()))
}

/// A folder with all records of a job.
fn filled() -> TempDir {
    let dir = folder();
    let (records, _) = open(dir.path()).expect("an empty folder can be opened");
    let submission = cluster::submission();
    let job = SubmittedJob { id: JOB, submission, submitted_at_ms: 1_600_000_000_000 };
    records.submitted(&job).expect("there is room for a record");
    let id = TaskManagerId(9);
    let running = RunningAttempt { attempt: 1, hosts: vec![id], placement: vec![0, 0] };
    let attempt = AttemptRecord { attempt: 1, slots: vec![id; 2], running: vec![running] };
    records.attempted(JOB, &attempt).expect("there is room for a record");
    let ended = records.ended(&cluster::outcome(), Some(&cluster::detail()));
    ended.expect("there is room for a record");
    dir
}

fn written(kind: &str) -> Vec<u8> {
    read(&filled().path().join("records").join(format!("{kind}-{JOB}")))
}

/// Whether a job is found with this record of it. The submission of others must be there.
fn takes(kind: &str, bytes: &[u8]) -> bool {
    static SUBMISSION: OnceLock<Vec<u8>> = OnceLock::new();
    let dir = folder();
    FileStore::open(dir.path()).expect("it can be made");
    let place = |kind: &str| dir.path().join("records").join(format!("{kind}-{JOB}"));
    let n_expected = if kind == "submission" {
        1
    } else {
        write(&place("submission"), SUBMISSION.get_or_init(|| written("submission")));
        2
    };
    write(&place(kind), bytes);
    open(dir.path()).is_ok_and(|(_, n_records)| n_records == n_expected)
}

fn mend_file(bytes: &[u8]) -> Option<Vec<u8>> {
    let body = bytes.get(HEADER..)?;
    let mut mended = bytes.to_vec();
    mended[10..18].copy_from_slice(&(body.len() as u64).to_le_bytes());
    mended[18..22].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Some(mended)
}
