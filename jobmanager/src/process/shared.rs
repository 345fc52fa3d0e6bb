//! What all threads of the process have in common, and the thread that writes to the store.

use super::config::JobManagerConfig;
use super::event::Event;
use super::metrics::Metrics;
use super::outbox::Outboxes;
use crate::clock::Clock;
use crate::programs::ProgramStore;
use crate::store::{JobRecords, StoreError, SubmittedJob};
use crossbeam_channel::{Receiver, Sender};
use millstream_model::{Error, LeaderEpoch, Result};
use millstream_proto::message::{JobDetail, JobId, Outcome};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// See the module's text.
pub(super) struct Shared {
    pub(super) config: JobManagerConfig,
    pub(super) epoch: LeaderEpoch,
    pub(super) clock: Clock,
    pub(super) inbox: Sender<Event>,
    pub(super) outboxes: Outboxes,
    pub(super) records: JobRecords,
    pub(super) programs: ProgramStore,
    pub(super) metrics: Arc<Metrics>,
    /// What masters said last of their jobs: for when they do not answer in time, and when they are gone.
    details: Mutex<HashMap<JobId, Arc<JobDetail>>>,
}

impl Shared {
    pub(super) fn new(
        config: JobManagerConfig,
        inbox: Sender<Event>,
        records: JobRecords,
        programs: ProgramStore,
    ) -> Self {
        Shared {
            config,
            epoch: records.epoch(),
            clock: Clock::start(),
            inbox,
            outboxes: Outboxes::default(),
            records,
            programs,
            metrics: Arc::default(),
            details: Mutex::default(),
        }
    }

    /// Tells the shell something. Where it has ended nobody hears it any more.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.inbox.send(event);
    }

    /// Counts what became of a write. A newer leader ends this one.
    pub(super) fn stored(&self, result: Result<(), StoreError>) -> Result<()> {
        match &result {
            Ok(()) => self.metrics.store_writes.add(1),
            Err(error) => {
                self.metrics.store_failures.add(1);
                if let StoreError::Fenced(epoch) = error {
                    self.tell(Event::Fenced(*epoch));
                }
            }
        }
        result.map_err(Error::from)
    }

    pub(super) fn remember(&self, detail: JobDetail) -> Arc<JobDetail> {
        let detail = Arc::new(detail);
        self.details().insert(detail.overview.id, detail.clone());
        detail
    }

    pub(super) fn remembered(&self, job: JobId) -> Option<Arc<JobDetail>> {
        self.details().get(&job).cloned()
    }

    pub(super) fn forget(&self, job: JobId) {
        self.details().remove(&job);
    }

    fn details(&self) -> MutexGuard<'_, HashMap<JobId, Arc<JobDetail>>> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum Write {
    Submission(Arc<SubmittedJob>),
    Cancel(JobId),
    Outcome(Arc<Outcome>),
    Forget(JobId),
}

/// Writes in the order given, so that the shell never waits for a disk. Ends when nobody can give more.
pub(super) fn start_writer(shared: Arc<Shared>, writes: Receiver<Write>) -> Result<JoinHandle<()>> {
    let run = move || {
        for write in writes {
            match write {
                Write::Submission(job) => {
                    let result = shared.stored(shared.records.submitted(&job));
                    shared.tell(Event::SubmissionStored(job.id, result));
                }
                Write::Cancel(job) => {
                    let result = shared.stored(shared.records.cancelled(job));
                    shared.tell(Event::CancelStored(job, result));
                }
                Write::Outcome(outcome) => {
                    let id = outcome.overview.id;
                    // Its metrics are in the outcome.
                    let detail = shared.remembered(id).map(|detail| JobDetail {
                        metrics: Vec::new(),
                        ..JobDetail::clone(&detail)
                    });
                    let result = shared.stored(shared.records.ended(&outcome, detail.as_ref()));
                    if let Err(error) = &result {
                        tracing::warn!(job = %id, %error, "the end of a job could not be stored; it is tried again");
                    }
                    shared.tell(Event::OutcomeStored(id, result));
                }
                Write::Forget(job) => {
                    if let Err(error) = shared.stored(shared.records.forget(job)) {
                        tracing::warn!(%job, %error, "records of a job could not be removed");
                    }
                }
            }
        }
    };
    thread::Builder::new()
        .name("metadata".into())
        .spawn(run)
        .map_err(|e| Error::external("cannot start a thread").caused_by(e))
}
