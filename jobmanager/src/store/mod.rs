//! What one leader leaves to the next: submissions, attempts, cancels, ends.
//!
//! A [`MetadataStore`] keeps bytes under keys. Every write carries the epoch of its leader, and the store refuses
//! one that is smaller than it has seen: a leader that was replaced without noticing changes nothing any more. And
//! every write says which version it replaces, so that nobody overwrites what he has not seen. What the bytes mean
//! only [`records`] knows; a store on another system is an implementation of this trait and nothing else.

mod file;
mod memory;
pub mod records;

pub use file::FileStore;
pub use memory::MemoryStore;
pub use records::{JobRecord, JobRecords, SubmittedJob};

use millstream_model::{Error, LeaderEpoch};
use millstream_proto::message::JobId;
use std::fmt;
use std::str::FromStr;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// What was submitted as a job.
    Submission(JobId),
    /// The newest attempt of a job.
    Attempt(JobId),
    /// That somebody wants a job to end.
    Cancel(JobId),
    /// How a job ended.
    Outcome(JobId),
}

/// As a name: no part of it comes from outside.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Submission(job) => write!(f, "submission-{job}"),
            Key::Attempt(job) => write!(f, "attempt-{job}"),
            Key::Cancel(job) => write!(f, "cancel-{job}"),
            Key::Outcome(job) => write!(f, "outcome-{job}"),
        }
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let key = match name.split_once('-') {
            Some(("submission", job)) => Key::Submission(job.parse()?),
            Some(("attempt", job)) => Key::Attempt(job.parse()?),
            Some(("cancel", job)) => Key::Cancel(job.parse()?),
            Some(("outcome", job)) => Key::Outcome(job.parse()?),
            _ => return Err(Error::external(format!("`{name}` is no record of a job manager"))),
        };
        Ok(key)
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Grows with every write of this record.
    pub version: u64,
    /// What was written.
    pub bytes: Vec<u8>,
}

/// Why something was not stored.
#[derive(Debug)]
pub enum StoreError {
    /// A leader with this larger epoch has been here: the writer leads no longer.
    Fenced(LeaderEpoch),
    /// The record is not in the version that was to be replaced.
    Changed(Key),
    /// It could not be read or written. After a write nobody knows which of the two versions is there.
    Failed(Error),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced(epoch) => Error::external(format!(
                "nothing was stored: a job manager with the newer epoch {epoch} has taken over"
            )),
            StoreError::Changed(key) => {
                Error::internal(format!("the record `{key}` was changed by somebody else"))
            }
            StoreError::Failed(error) => error,
        }
    }
}

/// See the module's text. When a write returns, it is durable.
pub trait MetadataStore: Send + Sync {
    /// Refuses from now on what leaders before this one write.
    ///
    /// # Errors
    /// If there was a later one, or it cannot be made durable.
    fn fence(&self, epoch: LeaderEpoch) -> Result<(), StoreError>;

    /// A record, if it is there.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    fn read(&self, key: Key) -> Result<Option<Stored>, StoreError>;

    /// All records.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn keys(&self) -> Result<Vec<Key>, StoreError>;

    /// Writes a record in place of the version `replaces`; of none, if it is new. Returns its new version.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn write(
        &self,
        epoch: LeaderEpoch,
        key: Key,
        replaces: Option<u64>,
        bytes: &[u8],
    ) -> Result<u64, StoreError>;

    /// Removes a record that is in the version `replaces`.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn remove(&self, epoch: LeaderEpoch, key: Key, replaces: u64) -> Result<(), StoreError>;
}

/// Whether `epoch` may write where the newest leader was `seen`.
fn pass(seen: LeaderEpoch, epoch: LeaderEpoch) -> Result<(), StoreError> {
    if epoch < seen { Err(StoreError::Fenced(seen)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
