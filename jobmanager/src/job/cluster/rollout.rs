//! The hosts of a job, and the way of an attempt onto them.
//!
//! A pure machine. An attempt goes through fixed stages: slots, host processes, the durable record, what must happen
//! once, tasks. Whatever breaks it off on the way is one failure; and every task of an attempt answers exactly once,
//! also one that never ran, whose host is gone, or whose host does not react: so whoever waits for the answers never
//! waits for ever. Hosts outlive attempts: the next one finds them running.

mod attempt;
mod words;

use attempt::{Attempt, Found, Stage};
use words::FINISH_MS;
pub(super) use words::{Effect, Input, Timeouts};

use super::placement::{place, slots_of};
use crate::job::link::AttemptRecord;
use millstream_model::job_graph::JobGraph;
use millstream_model::{Error, LeaderEpoch, Machine, Result};
use millstream_proto::message::{
    Begin, Deployment, FromHost, HostReport, HostRun, TaskEvent, TaskManagerId, TaskState, ToHost,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Rollout {
    n_slots: usize,
    slot_of_task: Vec<usize>,
    timeouts: Timeouts,
    /// Hosts that run, or are being started.
    hosts: BTreeMap<TaskManagerId, Host>,
    last_run: HostRun,
    attempt: Option<Attempt>,
    n_missing: usize,
    finishing: Option<Finishing>,
}

#[derive(Debug)]
struct Host {
    run: HostRun,
    /// Where it listens, when it is ready.
    address: Option<SocketAddr>,
}

#[derive(Debug)]
struct Finishing {
    until_ms: u64,
    waiting: BTreeSet<TaskManagerId>,
    results: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Rollout {
    /// The hosts of a job: none yet. Those that a leader of this epoch starts are counted from there on.
    pub(super) fn new(graph: &JobGraph, timeouts: Timeouts, epoch: LeaderEpoch) -> Self {
        let (n_slots, slot_of_task) = slots_of(graph);
        Rollout {
            n_slots,
            slot_of_task,
            timeouts,
            hosts: BTreeMap::new(),
            last_run: HostRun::before_all_of(epoch),
            attempt: None,
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
        matches!(self.attempt, Some(Attempt { stage: Stage::Adopt { .. }, .. }))
    }

    /// Whether this is the host there that the job has, or is about to have.
    pub(super) fn counts_on(&self, id: TaskManagerId, run: HostRun) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.run == run)
    }

    /// The task manager that a task of the attempt runs on.
    pub(super) fn host_of(&self, task: usize) -> Option<TaskManagerId> {
        let attempt = self.attempt.as_ref()?;
        attempt.hosts.get(*attempt.placement.get(task)? as usize).copied()
    }

    /// When a `Tick` is due.
    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        let attempt = self.attempt.as_ref();
        let adopting = attempt.and_then(|a| match a.stage {
            Stage::Adopt { until_ms, .. } => Some(until_ms),
            _ => None,
        });
        let cancelled =
            attempt.filter(|a| a.answered.contains(&false)).and_then(|a| a.cancelled_until_ms);
        let lost_peer = attempt.and_then(|a| a.lost_peer.as_ref()).map(|(until_ms, _)| *until_ms);
        let finishing = self.finishing.as_ref().map(|f| f.until_ms);
        [adopting, cancelled, lost_peer, finishing].into_iter().flatten().min()
    }

    fn deploy(&mut self, number: u32, begin: Begin, token: [u8; 16], effects: &mut Vec<Effect>) {
        self.attempt = Some(Attempt {
            number,
            stage: Stage::Slots,
            begin,
            token,
            slots: Vec::new(),
            hosts: Vec::new(),
            placement: vec![u32::MAX; self.slot_of_task.len()],
            told: BTreeSet::new(),
            answered: vec![false; self.slot_of_task.len()],
            lost_peer: None,
            held_back: Vec::new(),
            cancelled_until_ms: None,
        });
        effects.push(Effect::RequestSlots(self.n_slots));
    }

    fn granted(&mut self, slots: Vec<TaskManagerId>, effects: &mut Vec<Effect>) {
        self.n_missing = 0;
        let Some(attempt) = self.attempt.as_mut().filter(|a| matches!(a.stage, Stage::Slots))
        else {
            return;
        };
        let Some((hosts, placement)) = place(&slots, &self.slot_of_task) else {
            attempt.stage = Stage::Broken;
            effects
                .push(Effect::Failed(Error::internal("fewer slots were granted than asked for")));
            return;
        };
        (attempt.slots, attempt.hosts, attempt.placement) = (slots, hosts, placement);
        attempt.stage = Stage::Hosts;
        // Where the job has no slot any more it needs no host.
        self.hosts.retain(|id, _| {
            let is_needed = attempt.hosts.contains(id);
            if !is_needed {
                effects.push(Effect::StopHost(*id));
            }
            is_needed
        });
        for id in &attempt.hosts {
            if !self.hosts.contains_key(id) {
                self.last_run = self.last_run.next();
                self.hosts.insert(*id, Host { run: self.last_run, address: None });
                effects.push(Effect::StartHost(*id, self.last_run));
            }
        }
        self.record_if_ready(effects);
    }

    fn record_if_ready(&mut self, effects: &mut Vec<Effect>) {
        let Some(attempt) = &mut self.attempt else { return };
        let is_ready = |id| self.hosts.get(id).is_some_and(|host| host.address.is_some());
        if matches!(attempt.stage, Stage::Hosts) && attempt.hosts.iter().all(is_ready) {
            attempt.stage = Stage::Record;
            effects.push(Effect::Record(AttemptRecord {
                attempt: attempt.number,
                slots: attempt.slots.clone(),
                hosts: attempt.hosts.clone(),
                placement: attempt.placement.clone(),
            }));
        }
    }

    fn recorded(&mut self, recorded: Result<()>, effects: &mut Vec<Effect>) {
        let Some(attempt) = self.attempt.as_mut().filter(|a| matches!(a.stage, Stage::Record))
        else {
            return;
        };
        match (recorded, attempt.hosts.first()) {
            (Ok(()), Some(first)) => {
                attempt.stage = Stage::Prepare;
                let (attempt, begin) = (attempt.number, attempt.begin.clone());
                effects.push(Effect::Tell(*first, ToHost::Prepare { attempt, begin }));
            }
            (Ok(()), None) => {
                attempt.stage = Stage::Running;
                effects.push(Effect::Deployed(Vec::new()));
            }
            (Err(error), _) => {
                attempt.stage = Stage::Broken;
                effects.push(Effect::Failed(error));
            }
        }
    }

    fn prepared(&mut self, splits: Vec<(usize, Vec<u8>)>, effects: &mut Vec<Effect>) {
        let Some(attempt) = self.attempt.as_mut().filter(|a| matches!(a.stage, Stage::Prepare))
        else {
            return;
        };
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
                splits: splits.clone(),
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
        let newest = self.attempt.as_ref().map(|a| a.number);
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
            FromHost::Prepared { attempt, splits } if Some(attempt) == newest => {
                self.prepared(splits, effects);
            }
            FromHost::Deployed { attempt } if Some(attempt) == newest => self.deployed(id, effects),
            FromHost::DeployFailed { attempt, error } if Some(attempt) == newest => {
                self.deploy_failed(id, error, effects);
            }
            FromHost::Task { attempt, event } if Some(attempt) == newest => {
                self.answered(now_ms, event, effects);
            }
            FromHost::Snapshot { attempt, event } => effects.push(Effect::Snapshot(attempt, event)),
            FromHost::PeerLost { attempt, error, .. } if Some(attempt) == newest => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.wait_for_cause(now_ms, error);
                }
            }
            FromHost::Report(report) => self.reported(id, report, effects),
            FromHost::Results(results) => {
                if let Some(finishing) = &mut self.finishing {
                    for (name, mut values) in results {
                        finishing.results.entry(name).or_default().append(&mut values);
                    }
                }
                self.finished_on(id, effects);
            }
            FromHost::Prepared { .. }
            | FromHost::Deployed { .. }
            | FromHost::DeployFailed { .. }
            | FromHost::Task { .. }
            | FromHost::PeerLost { .. }
            | FromHost::Metrics(_) => {}
        }
    }

    fn answered(&mut self, now_ms: u64, event: TaskEvent, effects: &mut Vec<Effect>) {
        let Some(attempt) = &mut self.attempt else { return };
        let (TaskEvent::Finished { task }
        | TaskEvent::Failed { task, .. }
        | TaskEvent::Cancelled { task }) = &event;
        if !attempt.answer(*task) {
            return;
        }
        match &event {
            TaskEvent::Failed { error, .. }
                if error.is_consequence() && attempt.wait_for_cause(now_ms, error.clone()) =>
            {
                attempt.held_back.push(event);
            }
            _ => effects.push(Effect::Task(event)),
        }
    }

    fn deployed(&mut self, id: TaskManagerId, effects: &mut Vec<Effect>) {
        let Some(attempt) = &mut self.attempt else { return };
        let number = attempt.number_of(id);
        if let (Stage::Deploy(waiting), Some(number)) = (&mut attempt.stage, number) {
            waiting.remove(&number);
            if waiting.is_empty() {
                attempt.stage = Stage::Running;
                if attempt.cancelled_until_ms.is_none() {
                    effects.push(Effect::Deployed(attempt.hosts.clone()));
                }
            }
        }
    }

    fn deploy_failed(&mut self, id: TaskManagerId, error: Error, effects: &mut Vec<Effect>) {
        let Some(attempt) = &mut self.attempt else { return };
        if let Some(number) = attempt.number_of(id) {
            attempt.told.remove(&number);
            attempt.stage = Stage::Broken;
            match attempt.cancelled_until_ms {
                Some(_) => {
                    let tasks = attempt.unanswered(number);
                    attempt.answer_for(tasks, &error, effects);
                }
                None => effects.push(Effect::Failed(error)),
            }
        }
    }

    /// A host is gone, and does not answer any more.
    fn host_gone(&mut self, id: TaskManagerId, error: &Error, effects: &mut Vec<Effect>) {
        self.finished_on(id, effects);
        let Some(attempt) = &mut self.attempt else { return };
        let Some(number) = attempt.number_of(id) else { return };
        if let Stage::Adopt { waiting, found, .. } = &mut attempt.stage {
            if waiting.remove(&id) {
                let tasks = attempt.placement.iter().enumerate().filter(|(_, h)| **h == number);
                let lost = |(task, _)| {
                    (task, TaskState::Over(TaskEvent::Failed { task, error: error.clone() }))
                };
                found.tasks.extend(tasks.map(lost));
            } else if attempt.told.remove(&number) {
                // It had reported, and is gone before the others have.
                for (task, state) in &mut found.tasks {
                    if attempt.placement[*task] == number && !matches!(state, TaskState::Over(_)) {
                        let (task, error) = (*task, error.clone());
                        *state = TaskState::Over(TaskEvent::Failed { task, error });
                    }
                }
            }
            self.adopt_if_found(effects);
        } else if attempt.told.remove(&number) {
            let tasks = attempt.unanswered(number);
            attempt.answer_for(tasks, error, effects);
        } else if !matches!(attempt.stage, Stage::Running | Stage::Broken) {
            attempt.stage = Stage::Broken;
            effects.push(Effect::Failed(error.clone()));
        }
    }

    fn cancel(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let until_ms = now_ms.saturating_add(self.timeouts.cancel_ms);
        let Some(attempt) = &mut self.attempt else { return };
        attempt.cancelled_until_ms.get_or_insert(until_ms);
        attempt.lost_peer = None;
        effects.extend(attempt.held_back.drain(..).map(Effect::Task));
        if matches!(attempt.stage, Stage::Adopt { .. }) {
            // Whoever is found later is told then.
            return;
        }
        if !matches!(attempt.stage, Stage::Running | Stage::Deploy(_)) {
            attempt.stage = Stage::Broken;
        }
        attempt.tell_cancel(effects);
        let silent: Vec<usize> = (0..attempt.answered.len())
            .filter(|t| !attempt.answered[*t] && !attempt.told.contains(&attempt.placement[*t]))
            .collect();
        attempt.answer_for(silent, &Error::internal("cancelled"), effects);
    }

    fn joined(&mut self, id: TaskManagerId, host: Option<HostRun>, effects: &mut Vec<Effect>) {
        let waits = match &self.attempt {
            Some(Attempt { stage: Stage::Adopt { waiting, .. }, .. }) => waiting.contains(&id),
            _ => false,
        };
        let known = self.hosts.get(&id).map(|host| host.run);
        match (waits, host) {
            (true, Some(run)) => {
                self.hosts.insert(id, Host { run, address: None });
                effects.push(Effect::Tell(id, ToHost::Report));
            }
            (true, None) => {
                let error =
                    Error::external(format!("the process of the job on task manager {id} is gone"));
                self.host_gone(id, &error, effects);
            }
            // The wish for another went with the connection.
            (false, Some(run)) if known.is_some_and(|known| known != run) => {
                effects.extend(known.map(|known| Effect::StartHost(id, known)));
            }
            (false, Some(_)) if known.is_some() => self.came_back(id, effects),
            // It was given up, or belongs to nobody: its tasks were replaced.
            (false, Some(_)) if known.is_none() => effects.push(Effect::StopHost(id)),
            // It was given up without our knowledge.
            (false, None) if self.hosts.remove(&id).is_some() => {
                let error =
                    Error::external(format!("the process of the job on task manager {id} is gone"));
                self.host_gone(id, &error, effects);
            }
            _ => {}
        }
    }

    /// A host is the one that is counted on, and had no connection for a while: what it was told then, it has not heard.
    fn came_back(&mut self, id: TaskManagerId, effects: &mut Vec<Effect>) {
        let Some(attempt) = &mut self.attempt else { return };
        let number = attempt.number_of(id);
        let is_waited_for = match &attempt.stage {
            Stage::Prepare => attempt.hosts.first() == Some(&id),
            Stage::Deploy(waiting) => number.is_some_and(|number| waiting.contains(&number)),
            _ => false,
        };
        if is_waited_for && attempt.cancelled_until_ms.is_none() {
            effects.push(Effect::Failed(Error::external(format!(
                "the connection to task manager {id} broke while the job was deployed"
            ))));
        }
    }

    fn reported(&mut self, id: TaskManagerId, report: HostReport, effects: &mut Vec<Effect>) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.address = Some(report.data_address);
        }
        let Some(attempt) = &mut self.attempt else { return };
        let Some(number) = attempt.number_of(id) else { return };
        let is_current = report.attempt == Some(attempt.number);
        let Stage::Adopt { waiting, found, .. } = &mut attempt.stage else { return };
        if !is_current {
            // It never heard of the attempt: the former leader was gone before.
            let error = Error::external("the job manager ended while it deployed the job");
            self.host_gone(id, &error, effects);
            return;
        }
        if waiting.remove(&id) {
            attempt.told.insert(number);
            found.newest_checkpoint = found.newest_checkpoint.max(report.newest_checkpoint);
            found.tasks.extend(report.tasks);
        }
        self.adopt_if_found(effects);
    }

    fn adopt_if_found(&mut self, effects: &mut Vec<Effect>) {
        let Some(attempt) = &mut self.attempt else { return };
        let Stage::Adopt { waiting, found, .. } = &mut attempt.stage else { return };
        if !waiting.is_empty() {
            return;
        }
        let Found { tasks, newest_checkpoint } = std::mem::take(found);
        attempt.stage = Stage::Running;
        for (task, state) in &tasks {
            if matches!(state, TaskState::Over(_)) {
                attempt.answer(*task);
            }
        }
        let hosts = attempt.hosts.clone();
        effects.push(Effect::Adopted { hosts, tasks, newest_checkpoint });
        if attempt.cancelled_until_ms.is_some() {
            attempt.tell_cancel(effects);
        }
    }

    fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if let Some(attempt) = &self.attempt {
            if let Stage::Adopt { waiting, until_ms, .. } = &attempt.stage
                && *until_ms <= now_ms
            {
                let after_ms = self.timeouts.reattach_ms;
                for id in waiting.clone() {
                    let error = Error::external(format!(
                        "task manager {id} has not found the new job manager within {after_ms} ms"
                    ));
                    self.hosts.remove(&id);
                    self.host_gone(id, &error, effects);
                }
            } else if attempt.cancelled_until_ms.is_some_and(|at| at <= now_ms) {
                let stuck: Vec<TaskManagerId> = attempt
                    .told
                    .iter()
                    .filter(|number| !attempt.unanswered(**number).is_empty())
                    .map(|number| attempt.hosts[*number as usize])
                    .collect();
                for id in stuck {
                    effects.push(Effect::StopHost(id));
                    self.hosts.remove(&id);
                    self.host_gone(id, &Error::internal("cancelled"), effects);
                }
            }
        }
        if let Some(attempt) = &mut self.attempt
            && let Some((_, error)) = attempt.lost_peer.take_if(|(until_ms, _)| *until_ms <= now_ms)
        {
            if attempt.held_back.is_empty() {
                effects.push(Effect::Failed(error));
            }
            effects.extend(attempt.held_back.drain(..).map(Effect::Task));
        }
        if let Some(finishing) = self.finishing.take_if(|f| f.until_ms <= now_ms) {
            self.end(finishing, effects);
        }
    }

    fn close(&mut self, effects: &mut Vec<Effect>) {
        if let Some(attempt) = self.attempt.take() {
            for number in &attempt.told {
                let id = attempt.hosts[*number as usize];
                effects.push(Effect::Tell(id, ToHost::Close { attempt: attempt.number }));
            }
        }
    }

    fn finish(&mut self, now_ms: u64, wants_results: bool, effects: &mut Vec<Effect>) {
        let ready = self.hosts.iter().filter(|(_, host)| wants_results && host.address.is_some());
        let waiting: BTreeSet<TaskManagerId> = ready.map(|(id, _)| *id).collect();
        effects.extend(waiting.iter().map(|id| Effect::Tell(*id, ToHost::Finish)));
        let (until_ms, results) = (now_ms.saturating_add(FINISH_MS), BTreeMap::new());
        let finishing = Finishing { until_ms, waiting, results };
        if finishing.waiting.is_empty() {
            self.end(finishing, effects);
        } else {
            self.finishing = Some(finishing);
        }
    }

    fn finished_on(&mut self, id: TaskManagerId, effects: &mut Vec<Effect>) {
        if let Some(finishing) = &mut self.finishing {
            finishing.waiting.remove(&id);
        }
        if let Some(finishing) = self.finishing.take_if(|f| f.waiting.is_empty()) {
            self.end(finishing, effects);
        }
    }

    fn end(&mut self, finishing: Finishing, effects: &mut Vec<Effect>) {
        let hosts = std::mem::take(&mut self.hosts);
        effects.extend(hosts.into_keys().map(Effect::StopHost));
        effects.push(Effect::Finished(finishing.results.into_iter().collect()));
    }
}

impl Machine for Rollout {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Deploy { attempt, begin, token } => self.deploy(attempt, begin, token, effects),
            Input::Adopt { record } => {
                let n_tasks = self.slot_of_task.len();
                self.attempt = Some(Attempt {
                    number: record.attempt,
                    stage: Stage::Adopt {
                        waiting: record.hosts.iter().copied().collect(),
                        until_ms: now_ms.saturating_add(self.timeouts.reattach_ms),
                        found: Found::default(),
                    },
                    begin: Begin::Anew,
                    token: [0; 16],
                    slots: record.slots,
                    hosts: record.hosts,
                    placement: record.placement,
                    told: BTreeSet::new(),
                    answered: vec![false; n_tasks],
                    lost_peer: None,
                    held_back: Vec::new(),
                    cancelled_until_ms: None,
                });
                self.adopt_if_found(effects);
            }
            Input::Cancel => self.cancel(now_ms, effects),
            Input::Close => self.close(effects),
            Input::Finish { wants_results } => self.finish(now_ms, wants_results, effects),
            Input::Granted(slots) => self.granted(slots, effects),
            Input::Missing(n) => self.n_missing = n,
            Input::Recorded(recorded) => self.recorded(recorded, effects),
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
    }
}

#[cfg(test)]
mod tests;
