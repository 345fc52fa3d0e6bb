//! The hosts of a job, and the way of its attempts onto them.
//!
//! A pure machine. An attempt goes through fixed stages: slots, host processes, the durable record, what must happen
//! once, tasks. Whatever breaks it off on the way is one failure; and every task of an attempt answers exactly once,
//! also one that never ran, whose host is gone, or whose host does not react: so whoever waits for the answers never
//! waits for ever. Hosts outlive attempts: the next one finds them running.
//!
//! An attempt is of all tasks of the job, or of those that have failed: pipelined regions. So several may be there at once, in
//! the same hosts, each with a number, connections and a secret of its own, and none hears of another. A task that goes on keeps
//! its slot; splits are found with an attempt of all tasks and dealt out again to what comes back.

mod adopting;
mod attempt;
mod ending;
mod words;

use adopting::Adopting;
use attempt::{Attempt, Stage};
use ending::Finishing;
pub(super) use words::{AdoptedAttempt, Effect, Input, Timeouts};

use super::placement::{place, settle, slots_of};
use crate::job::link::{AttemptRecord, RunningAttempt};
use millstream_model::job_graph::JobGraph;
use millstream_model::{Error, LeaderEpoch, Machine, Result};
use millstream_proto::message::{
    Deployment, FromHost, HostRun, NOWHERE, SnapshotEvent, TaskEvent, TaskManagerId, TaskState,
    ToHost,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Rollout {
    n_slots: usize,
    slot_of_task: Vec<usize>,
    region_of_task: Vec<usize>,
    timeouts: Timeouts,
    /// Hosts that run, or are being started.
    hosts: BTreeMap<TaskManagerId, Host>,
    last_run: HostRun,
    /// The task manager of each slot, as far as they were ever granted.
    slots: Vec<TaskManagerId>,
    /// The attempts of which tasks are not closed, oldest first.
    attempts: Vec<Attempt>,
    /// The splits of each source, as they were found with the last attempt of all tasks.
    splits: Vec<(usize, Vec<u8>)>,
    /// While the hosts that another leader has started are looked for.
    adopting: Option<Adopting>,
    n_missing: usize,
    finishing: Option<Finishing>,
}

#[derive(Debug)]
struct Host {
    run: HostRun,
    /// Where it listens, when it is ready.
    address: Option<SocketAddr>,
}

impl Rollout {
    /// The hosts of a job: none yet. Those that a leader of this epoch starts are counted from there on.
    pub(super) fn new(graph: &JobGraph, timeouts: Timeouts, epoch: LeaderEpoch) -> Self {
        let (n_slots, slot_of_task) = slots_of(graph);
        Rollout {
            n_slots,
            slot_of_task,
            region_of_task: graph.regions(),
            timeouts,
            hosts: BTreeMap::new(),
            last_run: HostRun::before_all_of(epoch),
            slots: Vec::new(),
            attempts: Vec::new(),
            splits: Vec::new(),
            adopting: None,
            n_missing: 0,
            finishing: None,
        }
    }

    /// How many slots the job needs, and how many of them it lacks.
    pub(super) fn slots(&self) -> (usize, usize) {
        (self.n_slots, self.n_missing)
    }

    /// Whether it waits for the hosts that another leader has started.
    pub(super) fn is_adopting(&self) -> bool {
        self.adopting.is_some()
    }

    /// Whether this is the host there that the job has, or is about to have.
    pub(super) fn counts_on(&self, id: TaskManagerId, run: HostRun) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.run == run)
    }

    /// The task manager that a task runs on.
    pub(super) fn host_of(&self, task: usize) -> Option<TaskManagerId> {
        let attempt = self.attempts.iter().rev().find(|a| a.tasks.contains(&task))?;
        attempt.hosts.get(*attempt.placement.get(task)? as usize).copied()
    }

    /// When a `Tick` is due.
    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        let attempts = self.attempts.iter().filter_map(Attempt::wake_at_ms).min();
        let adopting = self.adopting.as_ref().map(|adopting| adopting.until_ms);
        let finishing = self.finishing.as_ref().map(|f| f.until_ms);
        [adopting, attempts, finishing].into_iter().flatten().min()
    }

    /// The attempt of this number, if tasks of it are not closed.
    fn attempt(&mut self, number: u32) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.number == number)
    }

    /// All tasks of the regions that have tasks among these.
    fn regions_of(&self, tasks: &[usize]) -> BTreeSet<usize> {
        let regions: BTreeSet<usize> =
            tasks.iter().map(|task| self.region_of_task[*task]).collect();
        let all = self.region_of_task.iter().enumerate();
        all.filter(|(_, region)| regions.contains(region)).map(|(task, _)| task).collect()
    }

    /// The slots in which tasks run, or are about to.
    fn slots_in_use(&self) -> BTreeSet<usize> {
        let placed = self.attempts.iter().filter(|a| !matches!(a.stage, Stage::Slots));
        placed.flat_map(|a| a.tasks.iter().map(|task| self.slot_of_task[*task])).collect()
    }

    fn deploy(&mut self, attempt: Attempt, effects: &mut Vec<Effect>) {
        let in_use = self.slots_in_use();
        let in_use = in_use.into_iter().filter_map(|slot| self.slots.get(slot).copied()).collect();
        self.attempts.push(attempt);
        effects.push(Effect::RequestSlots(self.n_slots, in_use));
    }

    fn granted(&mut self, granted: Vec<TaskManagerId>, effects: &mut Vec<Effect>) {
        self.n_missing = 0;
        let in_use = self.slots_in_use();
        if !self.attempts.iter().any(|a| matches!(a.stage, Stage::Slots)) {
            return;
        }
        self.slots = settle(granted, &self.slots, &in_use);
        for attempt in self.attempts.iter_mut().filter(|a| matches!(a.stage, Stage::Slots)) {
            let slot =
                |(task, slot): (usize, &usize)| attempt.tasks.contains(&task).then_some(*slot);
            let slot_of_task = self.slot_of_task.iter().enumerate().map(slot);
            match place(&self.slots, slot_of_task) {
                Some((hosts, placement)) => {
                    (attempt.hosts, attempt.placement) = (hosts, placement);
                    attempt.stage = Stage::Hosts;
                }
                None => {
                    let error = Error::internal("fewer slots were granted than asked for");
                    effects.push(attempt.break_off(error));
                }
            }
        }
        self.start_and_stop_hosts(effects);
        self.record_if_ready(effects);
    }

    /// Where the job has tasks it needs a host, and nowhere else.
    fn start_and_stop_hosts(&mut self, effects: &mut Vec<Effect>) {
        let needed: BTreeSet<TaskManagerId> =
            self.attempts.iter().flat_map(Attempt::hosts_in_use).collect();
        self.hosts.retain(|id, _| {
            let is_needed = needed.contains(id);
            if !is_needed {
                effects.push(Effect::StopHost(*id));
            }
            is_needed
        });
        for attempt in self.attempts.iter().filter(|a| matches!(a.stage, Stage::Hosts)) {
            for id in &attempt.hosts {
                if !self.hosts.contains_key(id) {
                    self.last_run = self.last_run.next();
                    self.hosts.insert(*id, Host { run: self.last_run, address: None });
                    effects.push(Effect::StartHost(*id, self.last_run));
                }
            }
        }
    }

    fn record_if_ready(&mut self, effects: &mut Vec<Effect>) {
        let hosts = &self.hosts;
        let is_ready = |id: &TaskManagerId| hosts.get(id).is_some_and(|h| h.address.is_some());
        let mut n_ready = 0;
        for attempt in self.attempts.iter_mut().filter(|a| matches!(a.stage, Stage::Hosts)) {
            if attempt.hosts.iter().all(is_ready) {
                attempt.stage = Stage::Record;
                n_ready += 1;
            }
        }
        effects.extend((0..n_ready).map(|_| Effect::Record(self.record())));
    }

    /// What another leader has to know when what is ready is deployed.
    fn record(&self) -> AttemptRecord {
        let placed = |a: &&Attempt| !matches!(a.stage, Stage::Slots | Stage::Hosts | Stage::Broken);
        let running = self.attempts.iter().filter(placed).map(|a| RunningAttempt {
            attempt: a.number,
            hosts: a.hosts.clone(),
            placement: a.placement.clone(),
        });
        let attempt = self.attempts.iter().map(|a| a.number).max().unwrap_or_default();
        AttemptRecord { attempt, slots: self.slots.clone(), running: running.collect() }
    }

    fn recorded(&mut self, recorded: &Result<()>, effects: &mut Vec<Effect>) {
        let n_tasks = self.slot_of_task.len();
        for attempt in self.attempts.iter_mut().filter(|a| matches!(a.stage, Stage::Record)) {
            match (recorded, attempt.hosts.first()) {
                (Ok(()), Some(first)) => {
                    attempt.stage = Stage::Prepare;
                    let tasks = || attempt.tasks.iter().copied().collect();
                    let part = (attempt.tasks.len() < n_tasks).then(tasks);
                    let (attempt, begin) = (attempt.number, attempt.begin.clone());
                    effects.push(Effect::Tell(*first, ToHost::Prepare { attempt, begin, part }));
                }
                (Ok(()), None) => {
                    attempt.stage = Stage::Running;
                    effects.push(Effect::Deployed(attempt.number, Vec::new()));
                }
                (Err(error), _) => effects.push(attempt.break_off(error.clone())),
            }
        }
    }

    fn prepared(&mut self, number: u32, splits: Vec<(usize, Vec<u8>)>, effects: &mut Vec<Effect>) {
        let n_tasks = self.slot_of_task.len();
        let found = self.attempts.iter_mut().find(|attempt| attempt.number == number);
        let Some(attempt) = found.filter(|a| matches!(a.stage, Stage::Prepare)) else { return };
        if attempt.tasks.len() == n_tasks {
            self.splits = splits;
        }
        let addresses: Option<Vec<SocketAddr>> =
            attempt.hosts.iter().map(|id| self.hosts.get(id)?.address).collect();
        let Some(addresses) = addresses else { return };
        attempt.stage = Stage::Deploy((0..attempt.hosts.len() as u32).collect());
        for (me, id) in (0..).zip(&attempt.hosts) {
            attempt.told.insert(me);
            let deployment = Deployment {
                attempt: attempt.number,
                begin: attempt.begin.clone(),
                hosts: addresses.clone(),
                me,
                placement: attempt.placement.clone(),
                token: attempt.token,
                splits: self.splits.clone(),
            };
            effects.push(Effect::Tell(*id, ToHost::Deploy(deployment)));
        }
    }

    fn heard(
        &mut self,
        now_ms: u64,
        (id, run): (TaskManagerId, HostRun),
        message: FromHost,
        effects: &mut Vec<Effect>,
    ) {
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.run == run) else { return };
        match message {
            FromHost::Ready { data_address } => {
                host.address = Some(data_address);
                self.record_if_ready(effects);
            }
            FromHost::Unfit { error } => {
                self.hosts.remove(&id);
                effects.push(Effect::StopHost(id));
                self.host_gone(id, &error.finally(), effects);
            }
            FromHost::Prepared { attempt, splits } => self.prepared(attempt, splits, effects),
            FromHost::Deployed { attempt } => {
                if let Some(attempt) = self.attempt(attempt) {
                    attempt.deployed(id, effects);
                }
            }
            FromHost::DeployFailed { attempt, error } => {
                if let Some(attempt) = self.attempt(attempt) {
                    attempt.deploy_failed(id, error, effects);
                }
            }
            FromHost::Restored { attempt, task } => self.restored(attempt, task, effects),
            FromHost::Task { attempt, event } => self.answered(now_ms, attempt, event, effects),
            FromHost::Snapshot { attempt, event } => self.snapshot(attempt, event, effects),
            FromHost::PeerLost { attempt, host: peer, error } => {
                self.peer_lost(now_ms, (id, peer), attempt, error);
            }
            FromHost::Report(report) => self.reported(id, report, effects),
            FromHost::Results(results) => self.results(id, results, effects),
            FromHost::Metrics(_) => {}
        }
    }

    fn restored(&mut self, number: u32, task: usize, effects: &mut Vec<Effect>) {
        if self.attempt(number).is_none_or(|attempt| !attempt.is_of(task)) {
            return;
        }
        match &mut self.adopting {
            Some(adopting) => adopting.heard(task, TaskState::Restored),
            None => effects.push(Effect::Restored(number, task)),
        }
    }

    fn snapshot(&mut self, number: u32, event: SnapshotEvent, effects: &mut Vec<Effect>) {
        match event {
            SnapshotEvent::Ended { task } if self.adopting.is_some() => {
                let is_known = self.attempt(number).is_some_and(|attempt| attempt.is_of(task));
                if let Some(adopting) = self.adopting.as_mut().filter(|_| is_known) {
                    adopting.heard(task, TaskState::Ended);
                }
            }
            event => effects.push(Effect::Snapshot(number, event)),
        }
    }

    fn answered(&mut self, now_ms: u64, number: u32, event: TaskEvent, effects: &mut Vec<Effect>) {
        let task = event.task();
        let Some(attempt) = self.attempt(number).filter(|attempt| attempt.is_of(task)) else {
            return;
        };
        if !attempt.answer(task) {
            return;
        }
        let is_cancelled = attempt.cancelled.contains_key(&task);
        if let (TaskEvent::Finished { .. }, Some(adopting)) = (&event, &mut self.adopting) {
            // It may be the only one that shows that tasks were released.
            adopting.heard(task, TaskState::Over(event));
            return;
        }
        match &event {
            TaskEvent::Failed { error, .. } if error.is_consequence() && !is_cancelled => {
                let (with_it, error) = (self.regions_of(&[task]), error.clone());
                if let Some(attempt) = self.attempt(number) {
                    attempt.wait_for_cause(now_ms, with_it, error);
                    attempt.held_back.push(event);
                }
            }
            _ => effects.push(Effect::Task(number, event)),
        }
    }

    /// A host has lost another. That matters to regions with tasks on both.
    fn peer_lost(
        &mut self,
        now_ms: u64,
        (id, peer): (TaskManagerId, u32),
        number: u32,
        error: Error,
    ) {
        let Some(attempt) = self.attempt(number) else { return };
        let Some(reporter) = attempt.number_of(id) else { return };
        let (here, there) = (attempt.unanswered(reporter), attempt.tasks_on(peer));
        let (here, there) = (self.regions_of(&here), self.regions_of(&there));
        let torn: BTreeSet<usize> = here.intersection(&there).copied().collect();
        if let Some(attempt) = self.attempt(number) {
            attempt.wait_for_cause(now_ms, torn, error);
        }
    }

    fn joined(&mut self, id: TaskManagerId, host: Option<HostRun>, effects: &mut Vec<Effect>) {
        let waits = self.adopting.as_ref().is_some_and(|a| a.waiting.contains(&id));
        let known = self.hosts.get(&id).map(|host| host.run);
        let gone =
            || Error::external(format!("the process of the job on task manager {id} is gone"));
        match (waits, host) {
            (true, Some(run)) => {
                self.hosts.insert(id, Host { run, address: None });
                effects.push(Effect::Tell(id, ToHost::Report));
            }
            (true, None) => self.host_gone(id, &gone(), effects),
            // The wish for another went with the connection.
            (false, Some(run)) if known.is_some_and(|known| known != run) => {
                effects.extend(known.map(|known| Effect::StartHost(id, known)));
            }
            (false, Some(_)) if known.is_some() => self.came_back(id, effects),
            // It was given up, or belongs to nobody: its tasks were replaced.
            (false, Some(_)) if known.is_none() => effects.push(Effect::StopHost(id)),
            // It was given up without our knowledge.
            (false, None) if self.hosts.remove(&id).is_some() => {
                self.host_gone(id, &gone(), effects);
            }
            _ => {}
        }
    }

    /// A host is the one that is counted on, and had no connection for a while: what it was told then, it has not heard.
    fn came_back(&mut self, id: TaskManagerId, effects: &mut Vec<Effect>) {
        effects.push(Effect::Tell(id, ToHost::Report));
        self.ask_again(id, effects);
        for attempt in self.attempts.iter_mut().filter(|a| a.is_wanted() && a.waits_for(id)) {
            effects.push(Effect::Failed(
                attempt.number,
                attempt.tasks.iter().copied().collect(),
                Error::external(format!(
                    "the connection to task manager {id} broke while the job was deployed"
                )),
            ));
        }
    }
}

impl Machine for Rollout {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        let was_adopting = self.adopting.is_some();
        match input {
            Input::Deploy { attempt, tasks, begin, token } => {
                let placement = vec![NOWHERE; self.slot_of_task.len()];
                self.deploy(Attempt::new(attempt, tasks, begin, token, placement), effects);
            }
            Input::Adopt { record } => self.adopt(now_ms, record, effects),
            Input::Go { attempt } => {
                if let Some(attempt) = self.attempt(attempt) {
                    attempt.goes_on = true;
                    let go = ToHost::Go { attempt: attempt.number };
                    attempt.tell(&go, effects);
                }
            }
            Input::Cancel { tasks } => self.cancel(now_ms, &tasks, effects),
            Input::Close { tasks, again } => self.close(&tasks, again, effects),
            Input::Finish { wants_results } => self.finish(now_ms, wants_results, effects),
            Input::Granted(slots) => self.granted(slots, effects),
            Input::Missing(n) => self.n_missing = n,
            Input::Recorded(recorded) => self.recorded(&recorded, effects),
            Input::Joined { id, host } => self.joined(id, host, effects),
            Input::Lost { id, error } => {
                if self.hosts.remove(&id).is_some() {
                    self.host_gone(id, &error, effects);
                }
            }
            Input::HostEnded { id, run, error } => {
                if self.counts_on(id, run) {
                    self.hosts.remove(&id);
                    self.host_gone(id, &error, effects);
                }
            }
            Input::FromHost { id, run, message } => {
                self.heard(now_ms, (id, run), message, effects);
            }
            Input::Tick => self.tick(now_ms, effects),
        }
        if was_adopting && self.adopting.is_none() {
            self.tell_what_is_to_end(now_ms, effects);
        }
    }
}

#[cfg(test)]
mod tests;
