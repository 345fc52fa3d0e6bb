//! Which task hosts should run here, and what they and the job manager still have to be told.
//!
//! A pure machine. The leader asks for hosts and speaks to them; processes start, speak and end; sessions come and go.
//! Three things make that simple to follow. Every process has a number, its *run*, so that a late word of one that
//! was replaced is told from the present one's. Whatever is said to the leader goes through the
//! [`outbox`], so a session that breaks loses nothing. And the leader always learns that a host ended, with one exception:
//! if it has asked for a new one since, it does not care for the old one any more. It tells them apart by its own numbers,
//! [`HostRun`], which go with every word.
//!
//! Without a leader hosts run on, until it has been gone for too long: then nobody will ever want their work.

pub mod outbox;
#[cfg(test)]
mod tests;

use millstream_model::{Error, Machine};
use millstream_proto::message::{
    FromHost, FromTaskManager, HostRun, HostSpec, JobId, LeaderEpoch, ToHost, ToTaskManager,
};
use outbox::Outbox;
use std::collections::BTreeMap;

/// Messages for a host that is being started. The leader waits for its first word before it says much.
pub const MAX_QUEUED: usize = 1024;

/// How long hosts run on without a leader, until one says otherwise.
const ORPHAN_TIMEOUT_MS: u64 = 600_000;

/// Tells one process from the next for the same job.
pub type Run = u64;

/// What happens.
#[derive(Debug)]
pub enum Input {
    /// The leader said something; its first word in a session is the welcome.
    Leader {
        /// The epoch it said it in.
        epoch: LeaderEpoch,
        /// What.
        message: ToTaskManager,
    },
    /// The session is over.
    Disconnected,
    /// A process runs.
    Started {
        /// For which job.
        job: JobId,
        /// Which.
        run: Run,
    },
    /// A process is gone and has said everything, or could not be started.
    Ended {
        /// For which job.
        job: JobId,
        /// Which.
        run: Run,
        /// How.
        error: Error,
    },
    /// A process said something.
    Said {
        /// For which job.
        job: JobId,
        /// Which.
        run: Run,
        /// How long the message was, in bytes.
        bytes: usize,
        /// What.
        message: FromHost,
    },
    /// Time has passed; due at [`Supervisor::deadline`].
    Tick,
    /// The task manager is to end.
    Shutdown,
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Start a process: answered by `Started` or `Ended`.
    Start {
        /// Which.
        run: Run,
        /// What is to run.
        spec: Box<HostSpec>,
    },
    /// End a process, also one that is being started: answered by `Ended`.
    Stop {
        /// For which job.
        job: JobId,
        /// Which.
        run: Run,
    },
    /// Tell a process.
    Tell {
        /// For which job.
        job: JobId,
        /// Which.
        run: Run,
        /// The epoch of whoever says it.
        epoch: LeaderEpoch,
        /// What.
        message: ToHost,
    },
    /// Say this in the session.
    Say(FromTaskManager),
    /// End the session: its leader is an old one.
    Leave,
    /// For the log.
    Warn(String),
}

/// See the module's text.
#[derive(Debug)]
pub struct Supervisor {
    hosts: BTreeMap<JobId, Host>,
    outbox: Outbox,
    /// The newest leader that was heard.
    epoch: LeaderEpoch,
    /// Since when there is none.
    alone_since_ms: Option<u64>,
    orphan_timeout_ms: u64,
    last_run: Run,
    is_ending: bool,
}

#[derive(Debug)]
struct Host {
    run: Run,
    /// Which of the job's hosts the leader takes it for.
    asked: HostRun,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Starting(Queue),
    Running,
    /// The leader asked for the end, and perhaps for a new one then.
    Stopping(Option<(Box<HostSpec>, Queue)>),
    /// It is ended for a reason that the leader does not know yet.
    Removed(Error),
}

/// What a host is to be told when it runs.
type Queue = Vec<(LeaderEpoch, ToHost)>;

impl Supervisor {
    /// Of a task manager that has just started, at this time.
    pub fn new(now_ms: u64) -> Self {
        Supervisor {
            hosts: BTreeMap::new(),
            outbox: Outbox::default(),
            epoch: LeaderEpoch::default(),
            alone_since_ms: Some(now_ms),
            orphan_timeout_ms: ORPHAN_TIMEOUT_MS,
            last_run: 0,
            is_ending: false,
        }
    }

    /// The newest leader that was heard.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The hosts that are here, or are about to be: for the first word of a session.
    pub fn hosts(&self) -> Vec<(JobId, HostRun)> {
        let wanted = |(job, host): (&JobId, &Host)| match &host.phase {
            Phase::Starting(_) | Phase::Running => Some((*job, host.asked)),
            Phase::Stopping(next) => next.as_ref().map(|(spec, _)| (*job, spec.run)),
            Phase::Removed(_) => None,
        };
        self.hosts.iter().filter_map(wanted).collect()
    }

    /// When it wants a [`Input::Tick`], if nothing else happens.
    pub fn deadline(&self) -> Option<u64> {
        let is_done = |host: &Host| matches!(host.phase, Phase::Stopping(None) | Phase::Removed(_));
        let since = self.alone_since_ms.filter(|_| !self.hosts.values().all(is_done))?;
        Some(since.saturating_add(self.orphan_timeout_ms))
    }

    /// Whether no process is left and the leader, if there is one, knows all about it.
    pub fn is_idle(&self) -> bool {
        self.hosts.is_empty() && (self.alone_since_ms.is_some() || self.outbox.is_empty())
    }

    fn hear(&mut self, epoch: LeaderEpoch, message: ToTaskManager, effects: &mut Vec<Effect>) {
        if epoch < self.epoch {
            let newest = self.epoch;
            effects.push(Effect::Warn(format!(
                "a word of the leader of epoch {epoch} is refused: {newest} was heard"
            )));
            if matches!(message, ToTaskManager::Welcome { .. }) {
                effects.push(Effect::Leave);
            }
            return;
        }
        self.epoch = epoch;
        match message {
            ToTaskManager::Welcome { orphan_timeout_ms, .. } => {
                self.alone_since_ms = None;
                self.orphan_timeout_ms = orphan_timeout_ms;
                self.outbox.connect(effects);
            }
            ToTaskManager::Confirm { number } => self.outbox.confirm(number, effects),
            ToTaskManager::StartHost(spec) => self.start(spec, effects),
            ToTaskManager::StopHost { job } => self.stop_on_request(job, effects),
            ToTaskManager::ToHost { job, message } => self.tell(job, message, effects),
            // Of no consequence for hosts: whoever holds the session looks after them.
            ToTaskManager::Heartbeat
            | ToTaskManager::Refused { .. }
            | ToTaskManager::ReadLog { .. } => {}
        }
    }

    fn start(&mut self, spec: Box<HostSpec>, effects: &mut Vec<Effect>) {
        let job = spec.start.job;
        let is_told = self.hosts.get(&job).is_some_and(|host| host.asked == spec.run);
        match self.hosts.get_mut(&job) {
            _ if self.is_ending && !is_told => {
                let error =
                    Error::external("the task manager is ending and starts no host any more");
                self.outbox.host_ended((job, spec.run), error, effects);
            }
            // Of one that is ending with its task manager, the leader is told.
            Some(_) if self.is_ending => {}
            None => self.launch(spec, Vec::new(), effects),
            Some(host) => match &mut host.phase {
                // It runs, or will; or it is ending, and the leader is told so and may ask for another.
                Phase::Starting(_) | Phase::Running | Phase::Removed(_)
                    if host.asked == spec.run => {}
                Phase::Stopping(Some((next, _))) if next.run == spec.run => {}
                // The leader counts on another, whatever became of its wish to end this one.
                Phase::Starting(_) | Phase::Running => {
                    effects.push(Effect::Stop { job, run: host.run });
                    host.phase = Phase::Stopping(Some((spec, Vec::new())));
                }
                phase => *phase = Phase::Stopping(Some((spec, Vec::new()))),
            },
        }
    }

    fn launch(&mut self, spec: Box<HostSpec>, queue: Queue, effects: &mut Vec<Effect>) {
        self.last_run += 1;
        let host = Host { run: self.last_run, asked: spec.run, phase: Phase::Starting(queue) };
        self.hosts.insert(spec.start.job, host);
        effects.push(Effect::Start { run: self.last_run, spec });
    }

    fn stop_on_request(&mut self, job: JobId, effects: &mut Vec<Effect>) {
        let Some(host) = self.hosts.get_mut(&job) else { return };
        match &mut host.phase {
            Phase::Starting(_) | Phase::Running => {
                host.phase = Phase::Stopping(None);
                effects.push(Effect::Stop { job, run: host.run });
            }
            Phase::Stopping(next) => *next = None,
            Phase::Removed(_) => {}
        }
    }

    /// Ends a host for a reason of our own.
    fn remove(&mut self, job: JobId, error: Error, effects: &mut Vec<Effect>) {
        let Some(host) = self.hosts.get_mut(&job) else { return };
        match &host.phase {
            Phase::Starting(_) | Phase::Running => {
                effects.push(Effect::Stop { job, run: host.run });
                host.phase = Phase::Removed(error);
            }
            // The host that the leader counts on is the next one, which will not be.
            Phase::Stopping(Some((next, _))) => {
                host.asked = next.run;
                host.phase = Phase::Removed(error);
            }
            Phase::Stopping(None) | Phase::Removed(_) => {}
        }
    }

    fn tell(&mut self, job: JobId, message: ToHost, effects: &mut Vec<Effect>) {
        let epoch = self.epoch;
        let Some(host) = self.hosts.get_mut(&job) else {
            let warning = format!("job {job} has no host here; a word for it is passed over");
            return effects.push(Effect::Warn(warning));
        };
        let queue = match &mut host.phase {
            Phase::Running => {
                return effects.push(Effect::Tell { job, run: host.run, epoch, message });
            }
            Phase::Starting(queue) | Phase::Stopping(Some((_, queue))) => queue,
            Phase::Stopping(None) | Phase::Removed(_) => return,
        };
        if queue.len() < MAX_QUEUED {
            return queue.push((epoch, message));
        }
        let error = Error::external(format!(
            "the host was being started and {MAX_QUEUED} messages waited for it: it takes too long"
        ));
        self.remove(job, error, effects);
    }

    fn started(&mut self, job: JobId, run: Run, effects: &mut Vec<Effect>) {
        let Some(host) = self.host_of(job, run) else { return };
        if let Phase::Starting(queue) = &mut host.phase {
            let tell = |(epoch, message)| Effect::Tell { job, run, epoch, message };
            effects.extend(std::mem::take(queue).into_iter().map(tell));
            host.phase = Phase::Running;
        }
    }

    fn ended(&mut self, job: JobId, run: Run, error: Error, effects: &mut Vec<Effect>) {
        if self.host_of(job, run).is_none() {
            return;
        }
        let Some(Host { asked, phase, .. }) = self.hosts.remove(&job) else { return };
        let error = match phase {
            Phase::Stopping(Some((spec, queue))) => return self.launch(spec, queue, effects),
            Phase::Stopping(None) => Error::external("the host was stopped on request"),
            Phase::Removed(reason) => reason,
            Phase::Starting(_) | Phase::Running => error,
        };
        self.outbox.host_ended((job, asked), error, effects);
    }

    fn host_of(&mut self, job: JobId, run: Run) -> Option<&mut Host> {
        self.hosts.get_mut(&job).filter(|host| host.run == run)
    }

    fn remove_all(&mut self, error: &Error, effects: &mut Vec<Effect>) {
        let jobs: Vec<JobId> = self.hosts.keys().copied().collect();
        jobs.into_iter().for_each(|job| self.remove(job, error.clone(), effects));
    }
}

impl Machine for Supervisor {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Leader { epoch, message } => self.hear(epoch, message, effects),
            Input::Disconnected => {
                self.alone_since_ms.get_or_insert(now_ms);
                self.outbox.disconnect();
            }
            Input::Started { job, run } => self.started(job, run, effects),
            Input::Ended { job, run, error } => self.ended(job, run, error, effects),
            Input::Said { job, run, bytes, message } => {
                if let Some(asked) = self.host_of(job, run).map(|host| host.asked)
                    && let Err(error) = self.outbox.host_said((job, asked), bytes, message, effects)
                {
                    self.remove(job, error, effects);
                }
            }
            Input::Tick => {}
            Input::Shutdown => {
                self.is_ending = true;
                let error = Error::external("the task manager was asked to end");
                self.remove_all(&error, effects);
            }
        }
        if self.deadline().is_some_and(|deadline| deadline <= now_ms) {
            let error = Error::external(format!(
                "no job manager was heard for {} ms, so the host was stopped",
                self.orphan_timeout_ms
            ));
            self.remove_all(&error, effects);
        }
    }
}
