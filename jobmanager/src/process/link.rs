//! What a master says, carried out. When a link is dropped its master is gone, however that came about.

use super::event::Event;
use super::shared::Shared;
use crate::job::link::{AttemptRecord, Link};
use millstream_model::Result;
use millstream_proto::message::{JobDetail, JobId, Outcome, TaskManagerId, ToTaskManager};
use std::sync::Arc;

/// See the module's text.
pub(super) struct JobLink {
    job: JobId,
    shared: Arc<Shared>,
}

impl JobLink {
    pub(super) fn new(job: JobId, shared: Arc<Shared>) -> Self {
        JobLink { job, shared }
    }
}

impl Link for JobLink {
    fn send(&self, to: TaskManagerId, message: ToTaskManager) {
        if let ToTaskManager::StartHost(_) = message {
            self.shared.tell(Event::HostStarted { job: self.job, id: to });
        }
        if !self.shared.outboxes.send(to, &message) {
            tracing::debug!(job = %self.job, task_manager = %to, "nobody is there to be told");
        }
    }

    fn request_slots(&self, n_slots: usize, in_use: Vec<TaskManagerId>) {
        self.shared.tell(Event::Requested { job: self.job, n_slots, in_use });
    }

    fn record(&self, attempt: &AttemptRecord) -> Result<()> {
        self.shared.stored(self.shared.records.attempted(self.job, attempt))
    }

    fn leave(&self, detail: JobDetail) {
        self.shared.remember(detail);
    }

    fn ended(&self, outcome: Outcome) {
        self.shared.tell(Event::Ended(Box::new(outcome)));
    }
}

impl Drop for JobLink {
    fn drop(&mut self) {
        self.shared.tell(Event::MasterGone { job: self.job });
    }
}
