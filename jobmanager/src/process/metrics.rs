//! What the process counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) connections_refused: Counter,
    pub(crate) requests_refused: Counter,
    pub(crate) sessions_begun: Counter,
    pub(crate) sessions_ended: Counter,
    pub(crate) task_managers_lost: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) messages_repeated: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) jobs_submitted: Counter,
    pub(crate) jobs_ended: Counter,
    pub(crate) store_writes: Counter,
    pub(crate) store_failures: Counter,
    pub(crate) programs_uploaded: Counter,
    pub(crate) programs_fetched: Counter,
}

impl Metrics {
    /// Name, meaning and value of each.
    pub(crate) fn entries(&self) -> Vec<(&'static str, &'static str, u64)> {
        let entries: [(&str, &str, &Counter); 14] = [
            ("connections_refused", "Connections that were not let in", &self.connections_refused),
            (
                "requests_refused",
                "Requests that were answered with an error",
                &self.requests_refused,
            ),
            ("sessions_begun", "Sessions that task managers began", &self.sessions_begun),
            ("sessions_ended", "Sessions of task managers that ended", &self.sessions_ended),
            ("task_managers_lost", "Task managers that were lost", &self.task_managers_lost),
            ("messages_received", "Messages of task managers", &self.messages_received),
            ("messages_repeated", "Those that had been heard before", &self.messages_repeated),
            ("messages_sent", "Messages to task managers", &self.messages_sent),
            ("jobs_submitted", "Jobs that were submitted", &self.jobs_submitted),
            ("jobs_ended", "Jobs that ended", &self.jobs_ended),
            ("store_writes", "Records that were made durable", &self.store_writes),
            ("store_failures", "Records that could not be made durable", &self.store_failures),
            ("programs_uploaded", "Programs that were stored", &self.programs_uploaded),
            ("programs_fetched", "Programs that were sent", &self.programs_fetched),
        ];
        entries.map(|(name, meaning, counter)| (name, meaning, counter.get())).to_vec()
    }
}
