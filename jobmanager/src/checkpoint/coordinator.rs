//! The coordinator of one job's checkpoints: when one begins, when it is complete, what is given up.
//!
//! A pure machine. What exactly-once rests on is an order of effects: `Store` goes out when every task has
//! acknowledged, and only the `Stored` that comes back makes `NotifyComplete`. Until the manifest is being
//! stored a checkpoint can be given up; from then on nobody but the storage knows whether it exists, so
//! neither a timeout nor a failing job takes it back, and whoever restarts the job waits until
//! [`Coordinator::is_storing`] is over before choosing what to restore.
//!
//! A plain savepoint is not the job's: it is not restored from by itself and commits nothing, since a job
//! that later goes back to its last checkpoint would repeat what the savepoint had committed. A savepoint
//! that stops the job does commit, and is what the job restores from if stopping fails.
//!
//! Tasks may fail and come back in parts (their pipelined regions). A checkpoint is of all tasks or of none, so what is
//! pending when some go is given up, and the next begins when they are back; the others hear of it and go on.
//!
//! Effects are to be carried out in their order; in particular a task hears of a completed checkpoint
//! before the barrier of the next reaches it, because that barrier may refer to files of the former.

use super::pending::Pending;
use super::{CheckpointConfig, Effect, Input};
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Barrier, CheckpointId, Error, Machine, SnapshotKind};
use std::collections::{BTreeSet, VecDeque};

/// A failed last checkpoint is tried again after this time, or the interval if that is shorter.
const RETRY_MS: u64 = 1000;

/// How many given up checkpoints are remembered, so that what comes too late for them is deleted. What is
/// still later is left to the sweep at the next start.
pub(super) const MAX_ABORTED: usize = 1024;

/// See the module's text.
#[derive(Debug)]
pub struct Coordinator<A> {
    config: CheckpointConfig,
    pub(super) n_tasks: usize,
    phase: Phase,
    next_id: u64,
    pending: Option<Pending<A>>,
    requests: VecDeque<(u64, SnapshotKind)>,
    retained: BTreeSet<CheckpointId>,
    /// The newest completed savepoint that was to stop the job.
    stopped_with: Option<CheckpointId>,
    pub(super) aborted: BTreeSet<CheckpointId>,
    n_failed_in_a_row: u32,
    wake_at_ms: Option<u64>,
}

#[derive(Debug)]
enum Phase {
    /// The tasks do not run.
    Down,
    Running(Run),
    /// The tasks run, but will not for long; nothing begins any more.
    Over,
}

/// The tasks that run.
#[derive(Debug)]
struct Run {
    /// The attempt that each belongs to; `None` for one that does not run.
    attempts: Vec<Option<u32>>,
    ended: Vec<bool>,
    /// When the last one that was not a savepoint began; at first, when the job started.
    last_begun_ms: u64,
    /// When the last one of any kind was over.
    last_over_ms: Option<u64>,
    /// Whether a checkpoint was begun after all tasks had ended.
    is_final_begun: bool,
}

impl Run {
    /// Whether all tasks run.
    fn is_whole(&self) -> bool {
        self.attempts.iter().all(Option::is_some)
    }

    fn has_ended(&self) -> bool {
        !self.ended.contains(&false)
    }

    /// When the next one is due that nobody asked for.
    fn due_ms(&self, config: &CheckpointConfig) -> Option<u64> {
        if self.has_ended() && !self.is_final_begun {
            return Some(0);
        }
        let interval_ms = match config.interval_ms {
            interval_ms if self.has_ended() => interval_ms.unwrap_or(RETRY_MS).min(RETRY_MS),
            interval_ms => interval_ms?,
        };
        let rested_ms = self.last_over_ms.map_or(0, |t| t.saturating_add(config.min_pause_ms));
        Some(self.last_begun_ms.saturating_add(interval_ms).max(rested_ms))
    }
}

impl<A> Coordinator<A> {
    /// The coordinator of a job with so many tasks, which do not run yet.
    pub fn new(config: CheckpointConfig, n_tasks: usize) -> Self {
        Coordinator {
            config,
            n_tasks,
            phase: Phase::Down,
            next_id: 0,
            pending: None,
            requests: VecDeque::new(),
            retained: BTreeSet::new(),
            stopped_with: None,
            aborted: BTreeSet::new(),
            n_failed_in_a_row: 0,
            wake_at_ms: None,
        }
    }

    /// What a job that failed restores from: the newest snapshot whose output may have been committed. `None`:
    /// from whatever it was started with.
    pub fn latest(&self) -> Option<CheckpointId> {
        self.retained.last().copied().max(self.stopped_with)
    }

    /// The completed checkpoints that are kept, oldest first.
    pub fn retained(&self) -> impl Iterator<Item = CheckpointId> {
        self.retained.iter().copied()
    }

    /// How many tasks take part.
    pub fn n_tasks(&self) -> usize {
        self.n_tasks
    }

    /// The checkpoint under way.
    pub fn pending(&self) -> Option<CheckpointId> {
        self.pending.as_ref().map(Pending::id)
    }

    /// Whether a manifest is being stored. Nothing may be restored meanwhile: it could be taken from before
    /// a checkpoint that turns out to be complete.
    pub fn is_storing(&self) -> bool {
        self.pending.as_ref().is_some_and(|p| !p.is_collecting())
    }

    fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    fn is_current(&self, checkpoint: CheckpointId, task: usize, attempt: u32) -> bool {
        matches!(&self.phase, Phase::Running(run) if run.attempts.get(task) == Some(&Some(attempt)))
            && self.pending() == Some(checkpoint)
    }

    fn start(
        &mut self,
        now_ms: u64,
        first_id: u64,
        (attempt, tasks): (u32, Vec<usize>),
        effects: &mut Vec<Effect<A>>,
    ) {
        self.stop(&tasks, effects);
        if let Some(pending) = self.pending.as_mut().filter(|p| !p.is_disowned()) {
            // What these tasks were restored from is older: the two must not both be.
            let checkpoint = pending.id();
            refuse(pending.disown(), "the job was restored from before it", effects);
            if self.is_running() {
                effects.push(Effect::NotifyAborted(checkpoint));
            }
        }
        self.next_id = self.next_id.max(first_id);
        let mut run = match std::mem::replace(&mut self.phase, Phase::Down) {
            Phase::Running(run) => run,
            _ => Run {
                attempts: vec![None; self.n_tasks],
                ended: vec![false; self.n_tasks],
                last_begun_ms: now_ms,
                last_over_ms: None,
                is_final_begun: false,
            },
        };
        for task in tasks {
            if let (Some(of_task), Some(ended)) =
                (run.attempts.get_mut(task), run.ended.get_mut(task))
            {
                (*of_task, *ended) = (Some(attempt), false);
            }
        }
        self.phase = Phase::Running(run);
    }

    /// These tasks answer no more.
    fn stop(&mut self, tasks: &[usize], effects: &mut Vec<Effect<A>>) {
        let Phase::Running(run) = &mut self.phase else {
            self.phase = Phase::Down;
            return;
        };
        let mut were_running = false;
        for task in tasks {
            if let Some(attempt) = run.attempts.get_mut(*task) {
                were_running |= attempt.take().is_some();
            }
        }
        if !were_running {
            return;
        }
        // What was begun after all had ended did not cover the end of those that begin again.
        run.is_final_begun = false;
        let is_down = run.attempts.iter().all(Option::is_none);
        if is_down {
            self.phase = Phase::Down;
        }
        if let Some(pending) = self.pending.take_if(|p| p.is_collecting()) {
            if !is_down {
                effects.push(Effect::NotifyAborted(pending.id()));
            }
            self.discard(pending.id(), effects);
            refuse(pending.request, "the job failed or ended before it was complete", effects);
        }
        self.refuse_requests("the job failed or ended before it began", effects);
    }

    /// Nothing begins any more.
    fn retire(&mut self, why: &str, effects: &mut Vec<Effect<A>>) {
        self.phase = Phase::Over;
        self.refuse_requests(why, effects);
    }

    fn refuse_requests(&mut self, why: &str, effects: &mut Vec<Effect<A>>) {
        for (request, _) in self.requests.drain(..) {
            refuse(Some(request), why, effects);
        }
    }

    fn discard(&mut self, checkpoint: CheckpointId, effects: &mut Vec<Effect<A>>) {
        effects.push(Effect::Discard { checkpoint });
        self.aborted.insert(checkpoint);
        if self.aborted.len() > MAX_ABORTED {
            self.aborted.pop_first();
        }
    }

    /// Something of a checkpoint became durable that does not count.
    fn take_late(&mut self, checkpoint: CheckpointId, effects: &mut Vec<Effect<A>>) {
        // Of a completed one it is a repetition, and its files are in use.
        if self.aborted.contains(&checkpoint) {
            effects.push(Effect::Discard { checkpoint });
        }
    }

    fn complete(&mut self, now_ms: u64, pending: Pending<A>, effects: &mut Vec<Effect<A>>) {
        let id = pending.id();
        let kind = pending.barrier.kind;
        let is_running = self.is_running();
        if let Phase::Running(run) = &mut self.phase {
            run.last_over_ms = Some(now_ms);
            if kind != SnapshotKind::Savepoint {
                effects.push(Effect::NotifyComplete(id));
            }
        }
        match kind {
            SnapshotKind::Savepoint => {}
            SnapshotKind::Stop { .. } => self.stopped_with = Some(id),
            SnapshotKind::Checkpoint => {
                self.n_failed_in_a_row = 0;
                self.retain(id, effects);
            }
        }
        let stops = matches!(kind, SnapshotKind::Stop { .. });
        if stops && !is_running {
            let error = Error::external(format!(
                "the job failed while it was stopping; savepoint {id} is complete, but not all that \
                 belongs before it is committed. Stop the job again"
            ));
            effects
                .extend(pending.request.map(|request| Effect::SavepointFailed { request, error }));
        } else if let Some(request) = pending.request {
            effects.push(Effect::SavepointDone { request, checkpoint: id });
        }
        if is_running && stops {
            effects.push(Effect::StopJob(id));
            self.retire("the job has stopped", effects);
        } else if is_running && pending.covers_ends() && kind == SnapshotKind::Checkpoint {
            effects.push(Effect::Release(id));
            self.retire("the job has finished", effects);
        }
    }

    fn retain(&mut self, id: CheckpointId, effects: &mut Vec<Effect<A>>) {
        self.retained.insert(id);
        while self.retained.len() > self.config.retained.max(1) {
            effects
                .extend(self.retained.pop_first().map(|checkpoint| Effect::Subsume { checkpoint }));
        }
    }

    /// A checkpoint that was pending will not be.
    fn fail(
        &mut self,
        now_ms: u64,
        pending: Pending<A>,
        error: Error,
        effects: &mut Vec<Effect<A>>,
    ) {
        let checkpoint = pending.id();
        if let Phase::Running(run) = &mut self.phase {
            run.last_over_ms = Some(now_ms);
            effects.push(Effect::NotifyAborted(checkpoint));
        }
        self.discard(checkpoint, effects);
        if let Some(request) = pending.request {
            effects.push(Effect::SavepointFailed { request, error });
            return;
        }
        if self.is_running() {
            self.n_failed_in_a_row += 1;
            if let Some(tolerable) = self.config.tolerable_failures
                && self.n_failed_in_a_row > tolerable
            {
                let message = format!(
                    "{} checkpoints failed in a row, tolerated are {tolerable}; the last was {checkpoint}",
                    std::mem::take(&mut self.n_failed_in_a_row),
                );
                let error = Error::external(message).caused_by(error);
                effects.push(Effect::FailJob { error });
                self.retire("the job fails", effects);
                return;
            }
        }
        effects.push(Effect::Failed { checkpoint, error });
    }

    fn expire(&mut self, now_ms: u64, effects: &mut Vec<Effect<A>>) {
        let is_late = |p: &mut Pending<A>| p.is_collecting() && now_ms >= p.deadline_ms;
        if let Some(pending) = self.pending.take_if(is_late) {
            let missing: Vec<_> = pending.missing().map(|task| task.to_string()).collect();
            let error = Error::external(format!(
                "checkpoint {} was not complete after {} ms: no answer from {} of {} tasks ({})",
                pending.id(),
                self.config.timeout_ms,
                missing.len(),
                self.n_tasks,
                missing.join(", "),
            ));
            self.fail(now_ms, pending, error, effects);
        }
    }

    fn begin_if_due(&mut self, now_ms: u64, effects: &mut Vec<Effect<A>>) {
        let Phase::Running(run) = &mut self.phase else { return };
        if self.pending.is_some() || !run.is_whole() {
            return;
        }
        let (kind, request) = match self.requests.pop_front() {
            Some((request, kind)) => (kind, Some(request)),
            None if run.due_ms(&self.config).is_some_and(|due_ms| due_ms <= now_ms) => {
                (SnapshotKind::Checkpoint, None)
            }
            None => return,
        };
        if kind == SnapshotKind::Checkpoint {
            run.last_begun_ms = now_ms;
            run.is_final_begun = run.has_ended();
        }
        let barrier = Barrier { checkpoint: CheckpointId(self.next_id), kind };
        self.next_id += 1;
        effects.push(Effect::Trigger { barrier });
        let deadline_ms = now_ms.saturating_add(self.config.timeout_ms);
        self.pending = Some(Pending::new(barrier, request, deadline_ms, self.n_tasks));
    }

    fn ask_to_be_woken(&mut self, effects: &mut Vec<Effect<A>>) {
        let wanted = match (&self.phase, &self.pending) {
            (Phase::Running(_), Some(p)) if p.is_collecting() => Some(p.deadline_ms),
            (Phase::Running(run), None) if run.is_whole() => run.due_ms(&self.config),
            _ => None,
        };
        if wanted != self.wake_at_ms {
            effects.extend(wanted.map(Effect::WakeAt));
            self.wake_at_ms = wanted;
        }
    }
}

fn refuse<A>(request: Option<u64>, why: &str, effects: &mut Vec<Effect<A>>) {
    let refusal = |request| {
        let error = Error::external(format!("no savepoint: {why}"));
        Effect::SavepointFailed { request, error }
    };
    effects.extend(request.map(refusal));
}

impl<A> Machine for Coordinator<A> {
    type Input = Input<A>;
    type Effect = Effect<A>;

    fn step(&mut self, now_ms: u64, input: Input<A>, effects: &mut Vec<Effect<A>>) {
        match input {
            Input::Restored { checkpoint } => {
                self.retained.insert(checkpoint);
                self.next_id = self.next_id.max(checkpoint.0 + 1);
            }
            Input::Started { first_id, attempt, tasks } => {
                self.start(now_ms, first_id, (attempt, tasks), effects);
            }
            Input::Stopped { tasks } => self.stop(&tasks, effects),
            Input::Tick => {
                self.wake_at_ms = None;
                self.expire(now_ms, effects);
            }
            Input::TriggerSavepoint { request, kind } => match &self.phase {
                Phase::Running(run) if run.is_whole() => {
                    self.requests.push_back((request, kind));
                }
                Phase::Running(_) => {
                    let why = "a part of the job has failed and is being restarted: ask again";
                    refuse(Some(request), why, effects);
                }
                _ => refuse(Some(request), "the job is not running", effects),
            },
            Input::Acked { task, checkpoint, attempt, snapshot, ended } => {
                if self.is_current(checkpoint, task, attempt) {
                    let pending = self.pending.as_mut();
                    let store = pending.and_then(|p| p.acknowledge(task, snapshot, ended));
                    if store.is_some() && is_planted(Bug::NotifyBeforeStored) {
                        effects.push(Effect::NotifyComplete(checkpoint));
                    }
                    effects.extend(store);
                } else {
                    self.take_late(checkpoint, effects);
                }
            }
            Input::Declined { task, checkpoint, attempt, error } => {
                if self.is_current(checkpoint, task, attempt)
                    && let Some(pending) = self.pending.take_if(|p| p.is_collecting())
                {
                    self.fail(now_ms, pending, error, effects);
                }
            }
            Input::TaskEnded { task, attempt } => {
                if let Phase::Running(run) = &mut self.phase
                    && run.attempts.get(task) == Some(&Some(attempt))
                    && let Some(ended) = run.ended.get_mut(task)
                {
                    *ended = true;
                }
            }
            Input::Stored { checkpoint } => match self.pending.take_if(|p| p.awaits(checkpoint)) {
                Some(pending) if pending.is_disowned() => self.discard(checkpoint, effects),
                Some(pending) => self.complete(now_ms, pending, effects),
                None => self.take_late(checkpoint, effects),
            },
            Input::StoreFailed { checkpoint, error } => {
                match self.pending.take_if(|p| p.awaits(checkpoint)) {
                    Some(pending) if pending.is_disowned() => self.discard(checkpoint, effects),
                    Some(pending) => self.fail(now_ms, pending, error, effects),
                    None => {}
                }
            }
        }
        self.begin_if_due(now_ms, effects);
        self.ask_to_be_woken(effects);
    }
}
