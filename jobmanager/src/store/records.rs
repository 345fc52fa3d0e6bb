//! The records of jobs, as a leader writes and finds them.
//!
//! A job is there when its submission is; it is over when its outcome is. So a submission is written first and
//! removed first: whatever a crash cuts in two, no job that ended runs again, and what remains of a forgotten one
//! is swept when the next leader looks.

use super::{Key, MetadataStore, StoreError};
use crate::job::link::AttemptRecord;
use millstream_model::{Error, LeaderEpoch, Result};
use millstream_proto::message::{JobDetail, JobId, Outcome, Submission};
use millstream_state::codec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// A job as it was submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubmittedJob {
    /// Its id.
    pub id: JobId,
    /// What was submitted.
    pub submission: Submission,
    /// When, in ms since the epoch.
    pub submitted_at_ms: i64,
}

/// All that is known of a job.
#[derive(Clone, Debug)]
pub struct JobRecord {
    /// What was submitted.
    pub job: Arc<SubmittedJob>,
    /// Its newest attempt, if one was begun.
    pub attempt: Option<AttemptRecord>,
    /// Whether somebody wants it to end.
    pub is_cancelled: bool,
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
    /// What was known of it then.
    pub detail: Option<Box<JobDetail>>,
}

impl JobRecord {
    /// Of a job of which no more is known than that it was submitted.
    pub fn of(job: SubmittedJob) -> Self {
        JobRecord {
            job: Arc::new(job),
            attempt: None,
            is_cancelled: false,
            outcome: None,
            detail: None,
        }
    }
}

/// The number of the form in which records are written. One of another form is refused, because what it says could be
/// something else.
const VERSION: u8 = 3;

/// How a job ended, and what was known of it then: its checkpoints and failures.
type Ended = (Outcome, Option<Box<JobDetail>>);

/// One leader's access to the records.
pub struct JobRecords {
    store: Arc<dyn MetadataStore>,
    epoch: LeaderEpoch,
    /// The versions this leader knows of; of records it does not know, the store is asked.
    versions: Mutex<HashMap<Key, u64>>,
}

impl JobRecords {
    /// Takes the store over for a leader; also what there is, the jobs in the order of their submission.
    ///
    /// # Errors
    /// If there was a later leader, or a record cannot be read.
    pub fn open(
        store: Arc<dyn MetadataStore>,
        epoch: LeaderEpoch,
    ) -> Result<(Self, Vec<JobRecord>)> {
        store.fence(epoch)?;
        let records = JobRecords { store, epoch, versions: Mutex::default() };
        let mut jobs = BTreeMap::new();
        let (submissions, others): (Vec<_>, Vec<_>) =
            records.store.keys()?.into_iter().partition(|key| matches!(key, Key::Submission(_)));
        for key in submissions {
            if let Some(job) = records.read::<SubmittedJob>(key)? {
                let id = job.id;
                jobs.insert(id, JobRecord::of(job));
            }
        }
        for key in others {
            let (Key::Submission(id) | Key::Attempt(id) | Key::Cancel(id) | Key::Outcome(id)) = key;
            match (key, jobs.get_mut(&id)) {
                (Key::Attempt(_), Some(job)) => job.attempt = records.read(key)?,
                (Key::Cancel(_), Some(job)) => {
                    job.is_cancelled = records.read::<()>(key)?.is_some()
                }
                (Key::Outcome(_), Some(job)) => {
                    if let Some((outcome, detail)) = records.read::<Ended>(key)? {
                        (job.outcome, job.detail) = (Some(outcome), detail);
                    }
                }
                // What remains of a job that was being forgotten.
                _ => records.remove(key)?,
            }
        }
        let mut jobs: Vec<JobRecord> = jobs.into_values().collect();
        jobs.sort_by_key(|record| (record.job.submitted_at_ms, record.job.id));
        Ok((records, jobs))
    }

    /// The leader that writes here.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Records a submission.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn submitted(&self, job: &SubmittedJob) -> Result<(), StoreError> {
        self.write(Key::Submission(job.id), job)
    }

    /// Records the newest attempt of a job.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn attempted(&self, job: JobId, attempt: &AttemptRecord) -> Result<(), StoreError> {
        self.write(Key::Attempt(job), attempt)
    }

    /// Records that somebody wants a job to end.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn cancelled(&self, job: JobId) -> Result<(), StoreError> {
        self.write(Key::Cancel(job), &())
    }

    /// Records how a job ended, and what was known of it then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn ended(&self, outcome: &Outcome, detail: Option<&JobDetail>) -> Result<(), StoreError> {
        self.write(Key::Outcome(outcome.overview.id), &(outcome, detail))
    }

    /// Removes all records of a job.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn forget(&self, job: JobId) -> Result<(), StoreError> {
        [Key::Submission(job), Key::Attempt(job), Key::Cancel(job), Key::Outcome(job)]
            .into_iter()
            .try_for_each(|key| self.remove(key))
    }

    fn read<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>, StoreError> {
        let Some(stored) = self.store.read(key)? else { return Ok(None) };
        let damaged = |cause: &dyn std::fmt::Display| {
            let message = format!("the record `{key}` cannot be read: {cause}");
            StoreError::Failed(Error::external(message).finally())
        };
        let value = match &*stored.bytes {
            [codec::FORMAT, VERSION, bytes @ ..] => {
                codec::decode_all(bytes).map_err(|e| damaged(&e.message()))?
            }
            [codec::FORMAT, version, ..] => {
                let other = "it was written by another release";
                return Err(damaged(&format_args!(
                    "{other} (form {version}; this one has {VERSION})"
                )));
            }
            [format, ..] => return Err(damaged(&format_args!("codec {format} is unknown"))),
            [] => return Err(damaged(&"it is empty")),
        };
        self.know(key, Some(stored.version));
        Ok(Some(value))
    }

    fn write<T: Serialize>(&self, key: Key, value: &T) -> Result<(), StoreError> {
        let mut bytes = vec![codec::FORMAT, VERSION];
        codec::encode(value, &mut bytes).map_err(StoreError::Failed)?;
        let replaces = self.version(key)?;
        // Unless it succeeds, the store is asked again the next time.
        self.know(key, None);
        let version = self.store.write(self.epoch, key, replaces, &bytes)?;
        self.know(key, Some(version));
        Ok(())
    }

    fn remove(&self, key: Key) -> Result<(), StoreError> {
        let version = self.version(key)?;
        self.know(key, None);
        version.map_or(Ok(()), |version| self.store.remove(self.epoch, key, version))
    }

    fn version(&self, key: Key) -> Result<Option<u64>, StoreError> {
        let known = self.versions().get(&key).copied();
        match known {
            Some(version) => Ok(Some(version)),
            None => Ok(self.store.read(key)?.map(|stored| stored.version)),
        }
    }

    fn know(&self, key: Key, version: Option<u64>) {
        match version {
            Some(version) => self.versions().insert(key, version),
            None => self.versions().remove(&key),
        };
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, HashMap<Key, u64>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
