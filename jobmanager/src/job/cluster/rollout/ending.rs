//! How tasks, hosts and the job end: told to, or not.

use super::Rollout;
use super::attempt::Stage;
use super::words::{Effect, FINISH_MS};
use millstream_model::{Error, Result};
use millstream_proto::message::{NOWHERE, TaskManagerId, ToHost};
use std::collections::{BTreeMap, BTreeSet};

/// Waiting for what accumulated.
#[derive(Debug)]
pub(super) struct Finishing {
    pub(super) until_ms: u64,
    waiting: BTreeSet<TaskManagerId>,
    results: BTreeMap<String, Vec<Vec<u8>>>,
    /// Why some of that is not known.
    error: Option<Error>,
}

impl Rollout {
    /// A host is gone, and does not answer any more.
    pub(super) fn host_gone(
        &mut self,
        id: TaskManagerId,
        error: &Error,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(finishing) = self.finishing.as_mut().filter(|f| f.waiting.contains(&id)) {
            finishing.error.get_or_insert(error.clone());
        }
        self.finished_on(id, effects);
        if self.adopting.is_some() {
            self.lost_while_adopting(id, error, effects);
            return;
        }
        for attempt in &mut self.attempts {
            let Some(number) = attempt.number_of(id) else { continue };
            if attempt.told.remove(&number) {
                let tasks = attempt.unanswered(number);
                attempt.answer_for(tasks, error, effects);
                attempt.need_not_wait_for(number, effects);
            } else if matches!(attempt.stage, Stage::Hosts | Stage::Record | Stage::Prepare) {
                effects.push(attempt.break_off(error.clone()));
            }
        }
    }

    pub(super) fn cancel(&mut self, now_ms: u64, tasks: &[usize], effects: &mut Vec<Effect>) {
        let is_adopting = self.adopting.is_some();
        // Whoever is found later is told then, and has from then on.
        let until_ms =
            if is_adopting { u64::MAX } else { now_ms.saturating_add(self.timeouts.cancel_ms) };
        for attempt in &mut self.attempts {
            let mine: BTreeSet<usize> =
                tasks.iter().copied().filter(|task| attempt.tasks.contains(task)).collect();
            if mine.is_empty() {
                continue;
            }
            for task in &mine {
                attempt.cancelled.entry(*task).or_insert(until_ms);
            }
            attempt.know_cause(&mine, effects);
            if is_adopting {
                continue;
            }
            if !matches!(attempt.stage, Stage::Running | Stage::Deploy(_)) {
                attempt.stage = Stage::Broken;
            }
            let mine: Vec<usize> = mine.into_iter().collect();
            attempt.tell_cancel(&mine, effects);
            let silent = |task: &usize| !attempt.told.contains(&attempt.placement[*task]);
            let mut silent: Vec<usize> = mine.into_iter().filter(silent).collect();
            silent.retain(|task| attempt.answer(*task));
            attempt.answer_for(silent, &Error::internal("cancelled"), effects);
        }
    }

    pub(super) fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if let Some(adopting) = self.adopting.as_ref().filter(|a| a.until_ms <= now_ms) {
            let after_ms = self.timeouts.reattach_ms;
            for id in adopting.waiting.clone() {
                let error = Error::external(format!(
                    "task manager {id} has not found the new job manager within {after_ms} ms"
                ));
                self.hosts.remove(&id);
                self.host_gone(id, &error, effects);
            }
        } else if self.adopting.is_none() {
            self.end_the_stuck(now_ms, effects);
        }
        for attempt in &mut self.attempts {
            attempt.give_up_cause(now_ms, &self.region_of_task, effects);
        }
        if let Some(mut finishing) = self.finishing.take_if(|f| f.until_ms <= now_ms) {
            let silent: Vec<String> = finishing.waiting.iter().map(ToString::to_string).collect();
            let error = format!("nothing was heard from {} for {FINISH_MS} ms", silent.join(", "));
            finishing.error.get_or_insert(Error::external(error));
            self.end(finishing, effects);
        }
    }

    /// Ends hosts that have not ended tasks in time.
    fn end_the_stuck(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let mut stuck = BTreeSet::new();
        for attempt in &self.attempts {
            let is_stuck =
                |task: &usize| attempt.cancelled.get(task).is_some_and(|at| *at <= now_ms);
            let numbers = attempt.told.iter();
            let numbers = numbers.filter(|n| attempt.unanswered(**n).iter().any(is_stuck));
            stuck.extend(numbers.map(|number| attempt.hosts[*number as usize]));
        }
        let cancel_ms = self.timeouts.cancel_ms;
        for id in stuck {
            let error = Error::external(format!(
                "the process of the job on task manager {id} was ended, because tasks in it had not ended {cancel_ms} ms \
                 after they were told to"
            ));
            effects.push(Effect::StopHost(id));
            self.hosts.remove(&id);
            self.host_gone(id, &error, effects);
        }
    }

    /// Tasks have answered: forgets them, and with the last of them their attempt.
    pub(super) fn close(&mut self, tasks: &[usize], again: bool, effects: &mut Vec<Effect>) {
        for attempt in &mut self.attempts {
            let is_mine = |task: &usize| attempt.tasks.contains(task);
            let mine: Vec<usize> = tasks.iter().copied().filter(is_mine).collect();
            if mine.is_empty() {
                continue;
            }
            for number in &attempt.told {
                let close = ToHost::Close { attempt: attempt.number, tasks: mine.clone(), again };
                effects.push(Effect::Tell(attempt.hosts[*number as usize], close));
            }
            for task in mine {
                attempt.tasks.remove(&task);
                attempt.cancelled.remove(&task);
                attempt.placement[task] = NOWHERE;
            }
        }
        self.attempts.retain(|attempt| !attempt.tasks.is_empty());
        if !self.attempts.iter().any(|attempt| matches!(attempt.stage, Stage::Slots)) {
            // Nobody waits any more.
            self.n_missing = 0;
        }
    }

    /// A host can be reached again: it may not have heard that it was asked what accumulated.
    pub(super) fn ask_again(&self, id: TaskManagerId, effects: &mut Vec<Effect>) {
        if self.finishing.as_ref().is_some_and(|finishing| finishing.waiting.contains(&id)) {
            effects.push(Effect::Tell(id, ToHost::Finish));
        }
    }

    pub(super) fn finish(&mut self, now_ms: u64, wants_results: bool, effects: &mut Vec<Effect>) {
        let ready = self.hosts.iter().filter(|(_, host)| wants_results && host.address.is_some());
        let waiting: BTreeSet<TaskManagerId> = ready.map(|(id, _)| *id).collect();
        effects.extend(waiting.iter().map(|id| Effect::Tell(*id, ToHost::Finish)));
        let (until_ms, results) = (now_ms.saturating_add(FINISH_MS), BTreeMap::new());
        let finishing = Finishing { until_ms, waiting, results, error: None };
        if finishing.waiting.is_empty() {
            self.end(finishing, effects);
        } else {
            self.finishing = Some(finishing);
        }
    }

    /// A host has told what accumulated.
    pub(super) fn results(
        &mut self,
        id: TaskManagerId,
        results: Result<Vec<(String, Vec<Vec<u8>>)>>,
        effects: &mut Vec<Effect>,
    ) {
        // Whoever was asked twice may answer twice.
        let finishing = self.finishing.as_mut().filter(|f| f.waiting.contains(&id));
        match (finishing, results) {
            (Some(finishing), Ok(results)) => {
                for (name, mut values) in results {
                    finishing.results.entry(name).or_default().append(&mut values);
                }
            }
            (Some(finishing), Err(error)) => {
                finishing.error.get_or_insert(error);
            }
            (None, _) => {}
        }
        self.finished_on(id, effects);
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
        let unknown = |error| {
            let what =
                "the job has ended, but what was collected or has accumulated in it is not known";
            Error::external(format!("{what}: {error}"))
        };
        let results = finishing.results.into_iter().collect();
        effects.push(Effect::Finished(results, finishing.error.map(unknown)));
    }
}
