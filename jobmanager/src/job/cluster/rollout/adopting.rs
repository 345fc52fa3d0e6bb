//! Hosts that another leader has started, and the tasks in them.
//!
//! Every host of the record reports, or is given up after a while. What a report lacks has ended, or was never begun: to
//! whoever decides that is a failure like any other. A host that had no connection for a while reports, too: what it has and
//! should not have any more is ended then.

use super::Rollout;
use super::attempt::{Attempt, Stage};
use super::words::{AdoptedAttempt, Effect};
use crate::job::link::AttemptRecord;
use millstream_model::{CheckpointId, Error};
use millstream_proto::message::{
    AttemptReport, Begin, HostReport, NOWHERE, TaskEvent, TaskManagerId, TaskState, ToHost,
};
use std::collections::{BTreeMap, BTreeSet};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Adopting {
    pub(super) waiting: BTreeSet<TaskManagerId>,
    pub(super) until_ms: u64,
    /// How things are with each task, as far as that is known.
    found: BTreeMap<usize, TaskState>,
    newest_checkpoint: Option<CheckpointId>,
}

impl Adopting {
    /// A task has come further since its host has reported, or before.
    pub(super) fn heard(&mut self, task: usize, state: TaskState) {
        if !matches!(self.found.get(&task), Some(TaskState::Over(_))) {
            self.found.insert(task, state);
        }
    }

    /// These tasks are lost, unless they were over.
    fn lose(&mut self, tasks: impl IntoIterator<Item = usize>, error: &Error) {
        for task in tasks {
            if !matches!(self.found.get(&task), Some(TaskState::Over(_))) {
                let failed = TaskEvent::Failed { task, error: error.clone() };
                self.found.insert(task, TaskState::Over(failed));
            }
        }
    }
}

impl Rollout {
    pub(super) fn adopt(&mut self, now_ms: u64, record: AttemptRecord, effects: &mut Vec<Effect>) {
        let n_tasks = self.slot_of_task.len();
        self.slots = record.slots;
        let mut found = BTreeMap::new();
        let mut in_attempts = BTreeSet::new();
        for running in record.running {
            let placement = running.placement;
            let is_here = |task: &usize| placement.get(*task).is_some_and(|host| *host != NOWHERE);
            let tasks: Vec<usize> = (0..n_tasks).filter(is_here).collect();
            in_attempts.extend(tasks.iter().copied());
            let mut attempt = Attempt::new(running.attempt, tasks, Begin::Anew, [0; 16], placement);
            (attempt.stage, attempt.hosts) = (Stage::Running, running.hosts);
            self.attempts.push(attempt);
        }
        for task in (0..n_tasks).filter(|task| !in_attempts.contains(task)) {
            let error =
                Error::external("the job manager ended while it restarted a part of the job");
            found.insert(task, TaskState::Over(TaskEvent::Failed { task, error }));
        }
        self.adopting = Some(Adopting {
            waiting: self.attempts.iter().flat_map(Attempt::hosts_in_use).collect(),
            until_ms: now_ms.saturating_add(self.timeouts.reattach_ms),
            found,
            newest_checkpoint: None,
        });
        self.adopt_if_found(effects);
    }

    pub(super) fn reported(
        &mut self,
        id: TaskManagerId,
        report: HostReport,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.address = Some(report.data_address);
        }
        let Some(adopting) = &mut self.adopting else {
            self.heal(id, report, effects);
            return;
        };
        if !adopting.waiting.remove(&id) {
            return;
        }
        for attempt in &mut self.attempts {
            let Some(number) = attempt.number_of(id) else { continue };
            let reported = report.attempts.iter().find(|r| r.attempt == attempt.number);
            let Some(reported) = reported else {
                // It never heard of the attempt: the former leader was gone before.
                let error = Error::external("the job manager ended while it deployed the job");
                adopting.lose(attempt.tasks_on(number), &error);
                continue;
            };
            attempt.told.insert(number);
            adopting.newest_checkpoint = adopting.newest_checkpoint.max(reported.newest_checkpoint);
            adopting.found.extend(reported.tasks.iter().cloned());
            let is_missing = |task: &usize| !reported.tasks.iter().any(|(found, _)| found == task);
            let error =
                Error::external("the job manager ended while it restarted a part of the job");
            adopting.lose(attempt.tasks_on(number).into_iter().filter(is_missing), &error);
        }
        self.adopt_if_found(effects);
    }

    /// What a host was told while it had no connection, it has not heard: says again what is to end there, and what is over. What
    /// is told of checkpoints is for whoever tells it.
    fn heal(&self, id: TaskManagerId, report: HostReport, effects: &mut Vec<Effect>) {
        for AttemptReport { attempt, tasks, .. } in report.attempts {
            let known = self.attempts.iter().find(|known| known.number == attempt);
            let is_known = |task: &usize| known.is_some_and(|known| known.tasks.contains(task));
            let (known_tasks, over): (Vec<usize>, Vec<usize>) =
                tasks.iter().map(|(task, _)| *task).partition(is_known);
            let mut to_end = known_tasks;
            to_end.retain(|task| known.is_some_and(|known| known.cancelled.contains_key(task)));
            to_end.extend(&over);
            if !to_end.is_empty() {
                effects.push(Effect::Tell(id, ToHost::Cancel { attempt, tasks: to_end }));
            }
            if !over.is_empty() {
                let close = ToHost::Close { attempt, tasks: over, again: true };
                effects.push(Effect::Tell(id, close));
            }
            let waits = |(_, state): &(usize, TaskState)| matches!(state, TaskState::Restored);
            if known.is_some_and(|known| known.goes_on) && tasks.iter().any(waits) {
                effects.push(Effect::Tell(id, ToHost::Go { attempt }));
            }
            if known.is_some() {
                effects.push(Effect::Reachable(attempt));
            }
        }
    }

    /// A host is gone, before or after it has reported.
    pub(super) fn lost_while_adopting(
        &mut self,
        id: TaskManagerId,
        error: &Error,
        effects: &mut Vec<Effect>,
    ) {
        let Some(adopting) = &mut self.adopting else { return };
        adopting.waiting.remove(&id);
        for attempt in &mut self.attempts {
            if let Some(number) = attempt.number_of(id) {
                attempt.told.remove(&number);
                adopting.lose(attempt.tasks_on(number), error);
            }
        }
        self.adopt_if_found(effects);
    }

    fn adopt_if_found(&mut self, effects: &mut Vec<Effect>) {
        let Some(adopting) = self.adopting.take_if(|a| a.waiting.is_empty()) else { return };
        let Adopting { found, newest_checkpoint, .. } = adopting;
        let mut attempts = Vec::new();
        for attempt in &mut self.attempts {
            for task in
                found.iter().filter(|(_, s)| matches!(s, TaskState::Over(_))).map(|(t, _)| t)
            {
                attempt.answer(*task);
            }
            attempts.push(AdoptedAttempt {
                attempt: attempt.number,
                hosts: attempt.hosts.clone(),
                tasks: attempt.tasks.iter().copied().collect(),
            });
        }
        let tasks = found.into_iter().collect();
        effects.push(Effect::Adopted { attempts, tasks, newest_checkpoint });
    }

    /// Hosts were found: tells them what was to end meanwhile.
    pub(super) fn tell_what_is_to_end(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let until_ms = now_ms.saturating_add(self.timeouts.cancel_ms);
        for attempt in self.attempts.iter_mut().filter(|a| !a.cancelled.is_empty()) {
            attempt.cancelled.values_mut().for_each(|at_ms| *at_ms = until_ms);
            let cancelled: Vec<usize> = attempt.cancelled.keys().copied().collect();
            attempt.tell_cancel(&cancelled, effects);
        }
    }
}
