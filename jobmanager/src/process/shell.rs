//! The thread that owns what decides: the dispatcher and the slot pool.
//!
//! It takes events in, steps the machines and carries out their effects; it waits for nothing else than its inbox and
//! the time. What may take long (disks, networks, masters) has threads of its own and comes back as an event.
//! Confirmations go out when the inbox has been worked off, one for all that came.

use super::StartJob;
use super::event::{Answer, Event, LogPiece};
use super::peer::{Hearing, Peer};
use super::shared::{Shared, Write};
use crate::dispatcher::{self, Dispatcher};
use crate::job::link::JobInput;
use crate::resource::{self, SlotPool};
use crossbeam_channel::{Receiver, Sender, select};
use millstream_model::{Error, Machine, Result};
use millstream_proto::message::{
    FromHost, FromTaskManager, Hello, JobId, Outcome, TaskManagerId, ToTaskManager,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// How long masters may take to leave, in ms.
const LEAVE_MS: u64 = 5000;

/// Why a leader has ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// It was told to.
    Stopped,
    /// Somebody else leads.
    Lost(Error),
}

/// See the module's text.
pub(super) struct Shell {
    pub(super) shared: Arc<Shared>,
    pub(super) start: StartJob,
    pub(super) writes: Sender<Write>,
    pub(super) pool: SlotPool,
    pub(super) dispatcher: Dispatcher,
    pub(super) peers: HashMap<TaskManagerId, Peer>,
    pub(super) masters: HashMap<JobId, Sender<JobInput>>,
    /// The task managers on which hosts of a job ran.
    pub(super) hosts: HashMap<JobId, BTreeSet<TaskManagerId>>,
    pub(super) waiting: HashMap<JobId, Vec<Answer<Arc<Outcome>>>>,
    pub(super) submitters: HashMap<u64, Answer<Result<JobId>>>,
    pub(super) cancellers: HashMap<u64, Answer<Result<()>>>,
    pub(super) logs: HashMap<u64, (TaskManagerId, Answer<Result<LogPiece>>)>,
    /// Counts whoever waits for an answer.
    pub(super) n_tickets: u64,
    pub(super) dispatcher_wake_ms: Option<u64>,
    pool_wake_ms: Option<u64>,
    heartbeat_at_ms: u64,
    /// Those to whom something is to be confirmed.
    pub(super) unconfirmed: BTreeSet<TaskManagerId>,
    ending: Option<Ending>,
}

impl Shell {
    pub(super) fn new(shared: Arc<Shared>, start: StartJob, writes: Sender<Write>) -> Self {
        let pool = SlotPool::new(shared.config.pool());
        let dispatcher = Dispatcher::new(shared.config.dispatcher());
        Shell {
            shared,
            start,
            writes,
            pool,
            dispatcher,
            peers: HashMap::new(),
            masters: HashMap::new(),
            hosts: HashMap::new(),
            waiting: HashMap::new(),
            submitters: HashMap::new(),
            cancellers: HashMap::new(),
            logs: HashMap::new(),
            n_tickets: 0,
            dispatcher_wake_ms: None,
            pool_wake_ms: None,
            heartbeat_at_ms: 0,
            unconfirmed: BTreeSet::new(),
            ending: None,
        }
    }

    /// Leads until it is told to stop or somebody else does. Jobs are left alone then: their tasks run on.
    pub(super) fn run(
        mut self,
        inbox: &Receiver<Event>,
        lost: &Receiver<Error>,
        stop: &Receiver<()>,
    ) -> Ending {
        loop {
            // Whatever was said before this time is in the inbox now: who is silent has been silent.
            let now_ms = self.now_ms();
            for _ in 0..inbox.len() {
                if let Ok(event) = inbox.try_recv() {
                    self.take(event);
                }
            }
            self.pass(now_ms);
            self.confirm();
            if let Some(ending) = self.ending.take() {
                self.leave(inbox);
                return ending;
            }
            let wait = Duration::from_millis(self.wake_at_ms().saturating_sub(self.now_ms()));
            select! {
                recv(inbox) -> event => {
                    if let Ok(event) = event {
                        self.take(event);
                    }
                }
                recv(lost) -> error => {
                    let error = error.unwrap_or_else(|_| Error::external("the election is over"));
                    self.ending = Some(Ending::Lost(error));
                }
                recv(stop) -> _ => self.ending = Some(Ending::Stopped),
                default(wait) => {}
            }
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    fn wake_at_ms(&self) -> u64 {
        let wakes = [self.pool_wake_ms, self.dispatcher_wake_ms, Some(self.heartbeat_at_ms)];
        wakes.into_iter().flatten().min().unwrap_or(0)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Attached { session, hello, outbox } => {
                // The first word of a session, before anybody can say another.
                let config = &self.shared.config;
                outbox.send(&ToTaskManager::Welcome {
                    heartbeat_ms: config.heartbeat_ms,
                    timeout_ms: config.timeout_ms,
                    orphan_timeout_ms: config.orphan_timeout_ms,
                });
                if let Some(former) = self.shared.outboxes.insert(hello.id, outbox) {
                    former.close(Status::aborted("the task manager has begun another session"));
                }
                self.attach(session, hello);
            }
            Event::Said { from, session, message, permit } => {
                self.hear(from, session, message);
                drop(permit);
            }
            Event::Detached { id, session, error } => {
                let is_current = self.peers.get(&id).is_some_and(|p| p.session == session);
                if is_current {
                    tracing::info!(task_manager = %id, %error, "a session has ended");
                    self.shared.outboxes.remove(id);
                    self.step_pool(resource::Input::Broke { id, error });
                }
            }
            Event::Found(record) => self.step_dispatcher(dispatcher::Input::Found(*record)),
            Event::Requested { job, n_slots, in_use } => {
                if self.masters.contains_key(&job) {
                    self.step_pool(resource::Input::Requested { job, n_slots, in_use });
                }
            }
            Event::HostStarted { job, id } => {
                self.hosts.entry(job).or_default().insert(id);
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.release(job);
                    self.unconfirmed.insert(id);
                }
            }
            Event::Ended(outcome) => self.end(*outcome),
            Event::MasterGone { job } => self.bury(job),
            Event::SubmissionStored(id, result) => {
                self.step_dispatcher(dispatcher::Input::SubmissionStored(id, result));
            }
            Event::CancelStored(id, result) => {
                self.step_dispatcher(dispatcher::Input::CancelStored(id, result));
            }
            Event::OutcomeStored(id, result) => {
                self.step_dispatcher(dispatcher::Input::OutcomeStored(id, result));
            }
            Event::Fenced(epoch) => {
                let error =
                    format!("a job manager with the newer epoch {epoch} has written to the store");
                self.ending = Some(Ending::Lost(Error::external(error)));
            }
            Event::Asked(question) => self.answer(question),
        }
    }

    fn attach(&mut self, session: u64, hello: Hello) {
        let (id, n_slots) = (hello.id, hello.n_slots);
        tracing::info!(
            task_manager = %id, hostname = hello.hostname, pid = hello.pid, n_slots,
            n_hosts = hello.hosts.len(), "a task manager has begun a session"
        );
        self.shared.metrics.sessions_begun.add(1);
        for &(job, _) in &hello.hosts {
            if self.masters.contains_key(&job) {
                self.hosts.entry(job).or_default().insert(id);
            } else {
                self.stop_stray_host(id, job);
            }
        }
        for (job, master) in &self.masters {
            let host = hello.hosts.iter().find(|(of, _)| of == job).map(|(_, run)| *run);
            // A master that is gone is buried with its own event.
            let _ = master.send(JobInput::TaskManagerJoined { id, host });
        }
        let heard_at_ms = self.shared.clock.wall_ms();
        match self.peers.get_mut(&id) {
            Some(peer) => peer.begin(session, hello, heard_at_ms),
            None => drop(self.peers.insert(id, Peer::new(session, hello, heard_at_ms))),
        }
        self.step_pool(resource::Input::Joined { id, n_slots });
    }

    fn stop_stray_host(&self, id: TaskManagerId, job: JobId) {
        tracing::info!(task_manager = %id, %job, "a host of a job that does not run is stopped");
        self.shared.outboxes.send(id, &ToTaskManager::StopHost { job });
    }

    fn hear(&mut self, id: TaskManagerId, session: u64, message: FromTaskManager) {
        let (now_ms, wall_ms) = (self.now_ms(), self.shared.clock.wall_ms());
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // What comes from a session that is over will be said again in the next.
        if peer.session != session || peer.lost_at_ms.is_some() {
            return;
        }
        peer.heard_at_ms = wall_ms;
        self.shared.metrics.messages_received.add(1);
        let (job, input) = match message {
            FromTaskManager::Heartbeat => (None, None),
            FromTaskManager::Hello(_) => {
                tracing::warn!(task_manager = %id, "introduces itself in the middle of a session");
                if let Some(outbox) = self.shared.outboxes.get(id) {
                    outbox
                        .close(Status::invalid_argument("a session has one Hello, its first word"));
                }
                (None, None)
            }
            FromTaskManager::Log { request, from, total, bytes } => {
                if let Some((_, answer)) = self.logs.remove(&request) {
                    let piece =
                        bytes.map(|bytes| LogPiece { task_manager: id, from, total, bytes });
                    let _ = answer.send(piece);
                }
                (None, None)
            }
            FromTaskManager::FromHost { number, job, run, message } => {
                let is_last_word = matches!(message, FromHost::Results(_));
                let is_new = self.is_new(id, number);
                if is_new
                    && is_last_word
                    && self.masters.contains_key(&job)
                    && let Some(peer) = self.peers.get_mut(&id)
                {
                    peer.hold(now_ms, number, job);
                }
                (Some(job), is_new.then_some(JobInput::FromHost { id, run, message }))
            }
            FromTaskManager::HostEnded { number, job, run, error } => {
                let is_new = self.is_new(id, number);
                (Some(job), is_new.then_some(JobInput::HostEnded { id, run, error }))
            }
        };
        self.step_pool(resource::Input::Heard { id });
        let (Some(job), Some(input)) = (job, input) else { return };
        match self.masters.get(&job) {
            Some(master) => drop(master.send(input)),
            None if matches!(input, JobInput::FromHost { .. }) => self.stop_stray_host(id, job),
            None => {}
        }
    }

    fn is_new(&mut self, id: TaskManagerId, number: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        self.unconfirmed.insert(id);
        match peer.hear(number) {
            Hearing::New => true,
            Hearing::Gap(n_missing) => {
                tracing::error!(task_manager = %id, number, n_missing, "messages of a task manager are missing");
                true
            }
            Hearing::Known => {
                self.shared.metrics.messages_repeated.add(1);
                false
            }
        }
    }

    pub(super) fn step_pool(&mut self, input: resource::Input) {
        let mut effects = Vec::new();
        let now_ms = self.now_ms();
        self.pool.step(now_ms, input, &mut effects);
        for effect in effects {
            match effect {
                resource::Effect::Granted { job, slots } => {
                    self.tell(job, JobInput::Granted(slots));
                }
                resource::Effect::Missing { job, n_slots } => {
                    self.tell(job, JobInput::Missing(n_slots));
                }
                resource::Effect::Lost { id, error } => self.lose(now_ms, id, &error),
                resource::Effect::WakeAt(at_ms) => self.pool_wake_ms = Some(at_ms),
            }
        }
    }

    fn tell(&self, job: JobId, input: JobInput) {
        if let Some(master) = self.masters.get(&job) {
            let _ = master.send(input);
        }
    }

    fn lose(&mut self, now_ms: u64, id: TaskManagerId, error: &Error) {
        tracing::warn!(task_manager = %id, %error, "a task manager is lost");
        self.shared.metrics.task_managers_lost.add(1);
        if let Some(outbox) = self.shared.outboxes.remove(id) {
            outbox.close(Status::aborted(error.to_string()));
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.lost_at_ms = Some(now_ms);
        }
        for master in self.masters.values() {
            let _ = master.send(JobInput::TaskManagerLost { id, error: error.clone() });
        }
        let requests: Vec<u64> =
            self.logs.iter().filter(|(_, (of, _))| *of == id).map(|(n, _)| *n).collect();
        for (_, answer) in requests.into_iter().filter_map(|n| self.logs.remove(&n)) {
            let _ = answer.send(Err(error.clone()));
        }
    }

    /// Does what is due at this time.
    fn pass(&mut self, now_ms: u64) {
        if self.pool_wake_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.pool_wake_ms = None;
            self.step_pool(resource::Input::Tick);
        }
        if self.dispatcher_wake_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.dispatcher_wake_ms = None;
            self.step_dispatcher(dispatcher::Input::Tick);
        }
        if self.heartbeat_at_ms <= now_ms {
            self.heartbeat_at_ms = now_ms + self.shared.config.heartbeat_ms;
            for outbox in self.shared.outboxes.all() {
                outbox.send(&ToTaskManager::Heartbeat);
            }
            self.logs.retain(|_, (_, answer)| !answer.is_closed());
            // Their hosts have ended themselves by then; nobody will repeat anything.
            let orphan_timeout_ms = self.shared.config.orphan_timeout_ms;
            self.peers.retain(|_, peer| {
                peer.lost_at_ms
                    .is_none_or(|at_ms| now_ms <= at_ms.saturating_add(orphan_timeout_ms))
            });
            // Confirmations that were held back for long enough.
            self.unconfirmed.extend(self.peers.keys());
        }
    }

    fn confirm(&mut self) {
        let now_ms = self.now_ms();
        for id in std::mem::take(&mut self.unconfirmed) {
            if let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.lost_at_ms.is_none())
                && let Some(number) = peer.confirm(now_ms)
            {
                self.shared.outboxes.send(id, &ToTaskManager::Confirm { number });
            }
        }
    }

    /// Leaves the jobs alone, and waits until their masters have let go.
    fn leave(&mut self, inbox: &Receiver<Event>) {
        for master in self.masters.values() {
            let _ = master.send(JobInput::Abandon);
        }
        let deadline_ms = self.now_ms() + LEAVE_MS;
        while !self.masters.is_empty() {
            let wait = Duration::from_millis(deadline_ms.saturating_sub(self.now_ms()));
            match inbox.recv_timeout(wait) {
                Ok(Event::MasterGone { job }) => drop(self.masters.remove(&job)),
                // An end that was reached is kept: it is stored, although nobody is told any more.
                Ok(Event::Ended(outcome)) => self.end(*outcome),
                Ok(_) => {}
                Err(_) => {
                    let n_masters = self.masters.len();
                    tracing::warn!(n_masters, "masters have not let go of their jobs in time");
                    break;
                }
            }
        }
        for outbox in self.shared.outboxes.all() {
            outbox.close(Status::unavailable("the job manager ends"));
        }
    }
}
