//! The records of a job manager, as they lie in its folder.

use super::{Decoder, cluster};
use millstream_jobmanager::job::link::{AttemptRecord, RunningAttempt};
use millstream_jobmanager::store::{FileStore, JobRecords, SubmittedJob};
use millstream_model::LeaderEpoch;
use millstream_proto::message::{JobId, TaskManagerId};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A submission on disk; the file has the codec and the version of the record in its body.
pub(super) const RECORD: Decoder = Decoder { name: "record", samples, takes, mend: mend_file };

const JOB: JobId = JobId(7);
const EPOCH: LeaderEpoch = LeaderEpoch(3);
/// Before the body: magic, version, length, checksum.
const HEADER: usize = 22;

/// Opens all records of a folder, as a leader does.
fn open(dir: &Path) -> millstream_model::Result<(JobRecords, usize)> {
    let store = Arc::new(FileStore::open(dir)?);
    JobRecords::open(store, EPOCH).map(|(records, found)| (records, found.len()))
}

fn place(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("records").join(format!("submission-{JOB}"))
}

fn takes(bytes: &[u8]) -> bool {
    let dir = TempDir::new().expect("there is room for a folder");
    FileStore::open(dir.path()).expect("it can be made");
    std::fs::write(place(&dir), bytes).expect("there is room for a file");
    open(dir.path()).is_ok_and(|(_, n_jobs)| n_jobs == 1)
}

fn mend_file(bytes: &[u8]) -> Option<Vec<u8>> {
    let body = bytes.get(HEADER..)?;
    let mut mended = bytes.to_vec();
    mended[10..18].copy_from_slice(&(body.len() as u64).to_le_bytes());
    mended[18..22].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Some(mended)
}

fn samples() -> Vec<Vec<u8>> {
    let dir = TempDir::new().expect("there is room for a folder");
    let (records, _) = open(dir.path()).expect("an empty folder can be opened");
    let submission = cluster::submission();
    let job = SubmittedJob { id: JOB, submission, submitted_at_ms: 1_600_000_000_000 };
    records.submitted(&job).expect("there is room for a record");
    let id = TaskManagerId(9);
    let running = RunningAttempt { attempt: 1, hosts: vec![id], placement: vec![0, 0] };
    let attempt = AttemptRecord { attempt: 1, slots: vec![id; 2], running: vec![running] };
    records.attempted(JOB, &attempt).expect("there is room for a record");
    vec![std::fs::read(place(&dir)).expect("it was written")]
}
