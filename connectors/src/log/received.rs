//! All of a log at once, for [`received`](crate::received).

use super::folder::{
    Folder, Moment, StagedTransaction, Transaction, segment_name, transaction_name,
};
use super::segment::{SegmentReader, SegmentWriter};
use super::sink;
use millstream_model::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads every record of every transaction; how many there are.
pub(crate) fn read_all<T: DeserializeOwned>(dir: &Path) -> Result<usize> {
    let folder = Folder::new(dir);
    folder.known_meta()?;
    let mut n_records = 0;
    for number in 0..folder.n_commits()? {
        for segment in folder.commit(number)?.into_iter().flat_map(|commit| commit.segments) {
            let path = folder.segment(&segment.name);
            let mut reader = SegmentReader::open(&path, segment, 0)?;
            while let Some(bytes) = reader.next()? {
                serde_json::from_slice::<T>(bytes)
                    .map_err(|e| Error::user("a record is of another type").caused_by(e))?;
                n_records += 1;
            }
        }
    }
    Ok(n_records)
}

/// Writes a transaction of these records into a new log.
pub(crate) fn write_sample<T: Serialize>(dir: &Path, records: &[T]) -> Result<()> {
    let folder = Folder::new(dir);
    folder.prepare(Some(1), &[], false)?;
    let at = Moment { epoch: folder.known_meta()?.epoch, checkpoint: 1 };
    let transaction = transaction_name(at.epoch, 0, 0);
    let name = segment_name(&transaction, 0);
    let mut writer = SegmentWriter::create(folder.staged().join(&name), 0, name)?;
    for record in records {
        let json = serde_json::to_vec(record)
            .map_err(|e| Error::internal("a sample is JSON").caused_by(e))?;
        writer.record(&json)?;
    }
    folder.stage(&transaction, &Transaction { at, segments: vec![writer.finish()?] })?;
    folder.commit_staged(&[StagedTransaction { at, name: Some(transaction) }])
}

/// Whether what was staged speaks of a transaction.
pub(crate) fn staged(staged: &[u8]) -> Result<bool> {
    Ok(sink::decode(&[staged.to_vec()])?.iter().any(|staged| staged.name.is_some()))
}
