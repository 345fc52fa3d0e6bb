//! What was said to the job manager and not confirmed yet.
//!
//! Everything gets a number and stays until it is confirmed; a new session begins with what is left, under the
//! same numbers, so the other side can tell what it has heard before. Only so much is under way at a
//! time, which bounds the queues of whoever sends it. How things stand (metrics, reports) is of interest only in
//! its newest form: what is waiting of it is replaced.

use super::Effect;
use millstream_model::{Error, Result};
use millstream_proto::message::{FromHost, FromTaskManager, HostRun, JobId};
use std::collections::{BTreeMap, VecDeque};

/// Messages that are under way and not confirmed.
pub const WINDOW: usize = 1024;
/// Messages of one host that nobody has confirmed.
pub const MAX_MESSAGES: usize = 1 << 16;
/// And their length, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Outbox {
    /// In the order of their numbers.
    entries: VecDeque<Entry>,
    /// How many of them were said in this session.
    n_said: usize,
    last_number: u64,
    is_connected: bool,
    held: BTreeMap<JobId, Held>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    job: JobId,
    host: HostRun,
    bytes: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    FromHost(FromHost),
    HostEnded(Error),
}

/// What is held for one host.
#[derive(Debug, Default)]
struct Held {
    n_messages: usize,
    n_bytes: usize,
}

impl Outbox {
    /// Whether everything is confirmed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A session has begun.
    pub(super) fn connect(&mut self, effects: &mut Vec<Effect>) {
        self.is_connected = true;
        self.n_said = 0;
        self.say(effects);
    }

    /// The session is over.
    pub(super) fn disconnect(&mut self) {
        self.is_connected = false;
        self.n_said = 0;
    }

    /// A host said something. An error if nobody has confirmed so much of it that it must be stopped.
    pub(super) fn host_said(
        &mut self,
        (job, host): (JobId, HostRun),
        bytes: usize,
        message: FromHost,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        self.replace(job, &message);
        let held = self.held.entry(job).or_default();
        if held.n_messages >= MAX_MESSAGES || held.n_bytes.saturating_add(bytes) > MAX_BYTES {
            return Err(Error::external(format!(
                "the host said more than the task manager can hold until the job manager takes it: {} messages, {} \
                 bytes",
                held.n_messages, held.n_bytes
            )));
        }
        self.push((job, host), bytes, What::FromHost(message), effects);
        Ok(())
    }

    /// A host is gone.
    pub(super) fn host_ended(
        &mut self,
        host: (JobId, HostRun),
        error: Error,
        effects: &mut Vec<Effect>,
    ) {
        self.push(host, 0, What::HostEnded(error), effects);
    }

    /// Everything up to this number was heard.
    pub(super) fn confirm(&mut self, number: u64, effects: &mut Vec<Effect>) {
        // What was not said cannot have been heard, whatever is claimed.
        while self.n_said > 0
            && self.entries.front().is_some_and(|entry| entry.number <= number)
            && let Some(entry) = self.entries.pop_front()
        {
            self.n_said -= 1;
            self.release(&entry);
        }
        self.say(effects);
    }

    fn push(
        &mut self,
        (job, host): (JobId, HostRun),
        bytes: usize,
        what: What,
        effects: &mut Vec<Effect>,
    ) {
        self.last_number += 1;
        let held = self.held.entry(job).or_default();
        held.n_messages += 1;
        held.n_bytes += bytes;
        self.entries.push_back(Entry { number: self.last_number, job, host, bytes, what });
        self.say(effects);
    }

    /// Takes out what a newer word makes worthless and nobody has been told in this session.
    fn replace(&mut self, job: JobId, message: &FromHost) {
        if !is_state(message) {
            return;
        }
        let kind = std::mem::discriminant(message);
        let is_older = |entry: &Entry| {
            entry.job == job
                && matches!(&entry.what, What::FromHost(old) if std::mem::discriminant(old) == kind)
        };
        if let Some(at) = (self.n_said..self.entries.len()).find(|at| is_older(&self.entries[*at]))
            && let Some(entry) = self.entries.remove(at)
        {
            self.release(&entry);
        }
    }

    fn release(&mut self, entry: &Entry) {
        if let Some(held) = self.held.get_mut(&entry.job) {
            held.n_messages -= 1;
            held.n_bytes -= entry.bytes;
            if held.n_messages == 0 {
                self.held.remove(&entry.job);
            }
        }
    }

    fn say(&mut self, effects: &mut Vec<Effect>) {
        while self.is_connected
            && self.n_said < WINDOW
            && let Some(Entry { number, job, host, what, .. }) = self.entries.get(self.n_said)
        {
            let (number, job, run) = (*number, *job, *host);
            effects.push(Effect::Say(match what {
                What::FromHost(message) => {
                    FromTaskManager::FromHost { number, job, run, message: message.clone() }
                }
                What::HostEnded(error) => {
                    FromTaskManager::HostEnded { number, job, run, error: error.clone() }
                }
            }));
            self.n_said += 1;
        }
    }
}

/// Whether a message tells how things are, and not that something happened.
fn is_state(message: &FromHost) -> bool {
    matches!(message, FromHost::Metrics(_) | FromHost::Report(_))
}
