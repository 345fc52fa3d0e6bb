//! The master of a job: performs what its machines decide, feeds back what comes of it.
//!
//! Both machines are stepped here, on one thread, so neither ever sees half of what happened. What the master hears
//! is handed to it, with the time; so it serves a thread, a cluster and a simulation alike.

use super::Begin;
use super::checkpoints::{Adopted, Checkpoints, Participants};
use super::savepoints::Request;
use super::tasks::{Attempt, Event, Events, Tasks};
use crate::scheduler::{Effect, Input, JobState, Scheduler};
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Error, Machine};
use millstream_proto::message::{SnapshotEvent, TaskEvent, TaskState};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An attempt whose tasks restore their state.
struct Restoring {
    /// Those that have not.
    unrestored: BTreeSet<usize>,
    /// How to reach them all. Checkpoints have no part in them before they go on.
    participants: Option<Box<dyn Participants>>,
    /// When it is told that it takes long.
    patient_until_ms: u64,
}

impl Restoring {
    fn new(now_ms: u64, unrestored: BTreeSet<usize>) -> Self {
        let patient_until_ms = now_ms.saturating_add(PATIENCE_MS);
        Restoring { unrestored, participants: None, patient_until_ms }
    }
}

/// How long tasks restore their state until those that are not done are named in the log, each time.
const PATIENCE_MS: u64 = 60_000;

/// See the module's text.
pub struct Master<T> {
    scheduler: Scheduler,
    checkpoints: Option<Checkpoints>,
    /// Where the first attempt begins, and others if there are no checkpoints.
    begin: Begin,
    /// Where the tasks run.
    pub tasks: T,
    /// Tasks that were to be run, and are not closed.
    open: BTreeSet<usize>,
    /// Those of them that do not run yet.
    undeployed: BTreeSet<usize>,
    /// Attempts of which no task goes on before all have restored their state.
    restoring: BTreeMap<u32, Restoring>,
    /// Tasks that said that they have come to their end before all of their attempt were known to run, by attempt.
    ended_early: BTreeSet<(u32, usize)>,
    /// Savepoints that are wanted when tasks have restored their state.
    requests: Vec<Request>,
    /// When the job is to run again, if it waits for that.
    restart_at_ms: Option<u64>,
    failures: Vec<Error>,
    ended: Option<(JobState, Option<Error>)>,
}

impl<T: Tasks> Master<T> {
    /// A master that has not started.
    pub fn new(
        scheduler: Scheduler,
        checkpoints: Option<Checkpoints>,
        begin: Begin,
        tasks: T,
    ) -> Self {
        Master {
            scheduler,
            checkpoints,
            begin,
            tasks,
            open: BTreeSet::new(),
            undeployed: BTreeSet::new(),
            restoring: BTreeMap::new(),
            ended_early: BTreeSet::new(),
            requests: Vec::new(),
            restart_at_ms: None,
            failures: Vec::new(),
            ended: None,
        }
    }

    /// Runs the job.
    pub fn start(&mut self, now_ms: u64) {
        self.schedule(now_ms, [Input::Start]);
    }

    /// Goes on with what another leader has started: the newest attempt, and the one that each task runs in. The tasks
    /// are looked for by whoever has them.
    pub fn resume(&mut self, now_ms: u64, attempt: u32, of_tasks: Vec<u32>) {
        self.open = (0..self.scheduler.executions().len()).collect();
        self.undeployed = self.open.clone();
        self.schedule(now_ms, [Input::Resume { attempt, of_tasks }]);
    }

    /// Where the job stands.
    pub fn state(&self) -> JobState {
        self.scheduler.state()
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// The checkpoints, if the job takes any.
    pub fn checkpoints(&self) -> Option<&Checkpoints> {
        self.checkpoints.as_ref()
    }

    /// Whether all tasks run, or have run.
    pub fn is_deployed(&self) -> bool {
        self.undeployed.is_empty()
            && self.restoring.is_empty()
            && self.open.len() == self.scheduler.executions().len()
    }

    /// Whether a task runs, or has run.
    pub fn runs(&self, task: usize) -> bool {
        self.is_there(task) && !self.is_of_restoring(task)
    }

    /// Whether all tasks are there, and some restore their state.
    fn is_restoring(&self) -> bool {
        !self.restoring.is_empty() && self.undeployed.is_empty()
    }

    /// Whether a task restores its state, or waits until others have.
    pub fn restores(&self, task: usize) -> bool {
        self.is_there(task) && self.is_of_restoring(task)
    }

    fn is_there(&self, task: usize) -> bool {
        self.open.contains(&task) && !self.undeployed.contains(&task)
    }

    fn is_of_restoring(&self, task: usize) -> bool {
        let attempt = self.scheduler.executions().get(task).map(|e| e.attempt());
        attempt.is_some_and(|attempt| self.restoring.contains_key(&attempt))
    }

    /// Why the job was restarted or ended, since this was last asked.
    pub fn take_failures(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.failures)
    }

    /// How the job ended, if it has, and why.
    pub fn ended(&self) -> Option<(JobState, Option<&Error>)> {
        self.ended.as_ref().map(|(state, error)| (*state, error.as_ref()))
    }

    /// The next moment at which [`tick`](Master::tick) is to be called.
    pub fn wake_at_ms(&self) -> Option<u64> {
        let checkpoint = self.checkpoints.as_ref().and_then(Checkpoints::wake_at_ms);
        let restoring = self.restoring.values().map(|r| r.patient_until_ms).min();
        [self.restart_at_ms, checkpoint, restoring].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        for (attempt, restoring) in &mut self.restoring {
            if restoring.patient_until_ms <= now_ms {
                let tasks = &restoring.unrestored;
                if restoring.participants.is_some() && !tasks.is_empty() {
                    tracing::warn!(
                        attempt,
                        ?tasks,
                        "tasks have not restored their state; the others wait for them"
                    );
                }
                restoring.patient_until_ms = now_ms.saturating_add(PATIENCE_MS);
            }
        }
        if self.restart_at_ms.take_if(|at| *at <= now_ms).is_some() {
            self.schedule(now_ms, [Input::Restart]);
        }
        if let Some(checkpoints) = &mut self.checkpoints
            && checkpoints.wake_at_ms().is_some_and(|at| at <= now_ms)
        {
            let inputs = checkpoints.tick(now_ms);
            self.schedule(now_ms, inputs);
        }
    }

    /// Somebody wants the job to end.
    pub fn cancel(&mut self, now_ms: u64) {
        self.restart_at_ms = None;
        self.schedule(now_ms, [Input::Cancel]);
    }

    /// The job fails as a whole; whether another attempt may do better.
    pub fn fail(&mut self, now_ms: u64, error: Error, retry: bool) {
        self.schedule(now_ms, [Input::Fail { error, retry }]);
    }

    /// Somebody wants a savepoint.
    pub fn request(&mut self, now_ms: u64, request: Request) {
        if self.checkpoints.is_some() && self.is_restoring() {
            // Its time comes when they go on, or do not.
            self.requests.push(request);
            return;
        }
        match &mut self.checkpoints {
            Some(checkpoints) => {
                let inputs = checkpoints.request(now_ms, request);
                self.schedule(now_ms, inputs);
            }
            None => request.reply.answer(Err(Error::user(
                "the job takes no checkpoints, so it cannot take a savepoint: set `checkpoint-dir`",
            ))),
        }
    }

    /// Something became of tasks of this attempt.
    pub fn take(&mut self, now_ms: u64, attempt: u32, event: Event) {
        let inputs = self.translate(now_ms, attempt, event);
        self.schedule(now_ms, inputs);
    }

    /// The tasks that run in an attempt, or are to.
    fn tasks_of(&self, attempt: u32) -> Vec<usize> {
        let is_open = |task: &usize| self.open.contains(task);
        let executions = self.scheduler.executions().iter().enumerate();
        let of_attempt = executions.filter(|(_, e)| e.attempt() == attempt);
        of_attempt.map(|(task, _)| task).filter(is_open).collect()
    }

    fn is_current(&self, attempt: u32, task: usize) -> bool {
        self.scheduler.executions().get(task).is_some_and(|e| e.attempt() == attempt)
    }

    /// Lets an attempt go on whose tasks have all restored their state.
    fn go_if_restored(&mut self, now_ms: u64, attempt: u32) -> Vec<Input> {
        let tasks = self.tasks_of(attempt);
        let Some(restoring) = self.restoring.get(&attempt) else { return Vec::new() };
        if tasks.is_empty() {
            self.restoring.remove(&attempt);
            return Vec::new();
        }
        let is_deployed = tasks.iter().all(|task| !self.undeployed.contains(task));
        let has_restored = restoring.unrestored.is_empty() || is_planted(Bug::GoBeforeRestored);
        if !is_deployed || !has_restored {
            return Vec::new();
        }
        let participants = self.restoring.remove(&attempt).and_then(|r| r.participants);
        let mut inputs = VecDeque::new();
        let events = self.tasks.go(now_ms, attempt);
        self.translate_all(now_ms, events, &mut inputs);
        if let Some(participants) = participants {
            inputs.extend(self.started(now_ms, attempt, tasks, participants));
        }
        inputs.into()
    }

    /// Notes which attempts were found restoring their state, and gives the others. What has failed in them has not restored
    /// its own, so nobody goes on before that is closed.
    fn adopt_restoring(
        &mut self,
        now_ms: u64,
        attempts: Vec<Adopted>,
        tasks: &[(usize, TaskState)],
    ) -> Vec<Adopted> {
        let of = |task: usize| self.scheduler.executions().get(task).map(|e| e.attempt());
        let restores =
            |state: &TaskState| matches!(state, TaskState::Restoring | TaskState::Restored);
        let numbers: BTreeSet<u32> =
            tasks.iter().filter(|(_, s)| restores(s)).filter_map(|(task, _)| of(*task)).collect();
        let has_restored = |state: &TaskState| match state {
            TaskState::Restoring => false,
            TaskState::Over(event) => matches!(event, TaskEvent::Finished { .. }),
            TaskState::Restored | TaskState::Running | TaskState::Ended => true,
        };
        for number in numbers {
            let of_attempt = tasks.iter().filter(|(task, _)| of(*task) == Some(number));
            let unrestored = of_attempt.filter(|(_, s)| !has_restored(s)).map(|(task, _)| *task);
            let restoring = Restoring::new(now_ms, unrestored.collect());
            self.restoring.insert(number, restoring);
        }
        let mut others = Vec::new();
        for adopted in attempts {
            match self.restoring.get_mut(&adopted.attempt) {
                Some(restoring) => restoring.participants = Some(adopted.participants),
                None => others.push(adopted),
            }
        }
        others
    }

    /// The tasks of an attempt go on: checkpoints are of them, too.
    fn started(
        &mut self,
        now_ms: u64,
        attempt: u32,
        tasks: Vec<usize>,
        participants: Box<dyn Participants>,
    ) -> Vec<Input> {
        let early = std::mem::take(&mut self.ended_early);
        let (early, others) = early.into_iter().partition(|(of, _)| *of == attempt);
        self.ended_early = others;
        let Some(checkpoints) = &mut self.checkpoints else { return Vec::new() };
        let mut inputs = checkpoints.started(now_ms, attempt, tasks.clone(), participants);
        let early: BTreeSet<(u32, usize)> = early;
        for (_, task) in early.into_iter().filter(|(_, task)| tasks.contains(task)) {
            let ended = SnapshotEvent::Ended { task };
            inputs.extend(checkpoints.answered(now_ms, attempt, ended));
        }
        inputs
    }

    /// What an event means for the scheduler.
    fn translate(&mut self, now_ms: u64, attempt: u32, event: Event) -> Vec<Input> {
        match event {
            Event::Deployed { participants } => {
                let tasks = self.tasks_of(attempt);
                self.undeployed.retain(|task| !tasks.contains(task));
                if let Some(restoring) = self.restoring.get_mut(&attempt) {
                    restoring.participants = Some(participants);
                    restoring.patient_until_ms = now_ms.saturating_add(PATIENCE_MS);
                    return self.go_if_restored(now_ms, attempt);
                }
                self.started(now_ms, attempt, tasks, participants)
            }
            Event::Restored { task } => {
                if let Some(restoring) = self.restoring.get_mut(&attempt) {
                    restoring.unrestored.remove(&task);
                }
                self.go_if_restored(now_ms, attempt)
            }
            Event::DeployFailed(error) => {
                self.restoring.remove(&attempt);
                let tasks = self.tasks_of(attempt);
                for task in &tasks {
                    self.open.remove(task);
                    self.undeployed.remove(task);
                }
                vec![Input::DeployFailed { tasks, error }]
            }
            Event::Failed { mut tasks, error } => {
                let of_attempt = self.tasks_of(attempt);
                tasks.retain(|task| of_attempt.contains(task));
                if tasks.is_empty() {
                    return Vec::new();
                }
                let retry = !error.is_final();
                vec![Input::FailTasks { tasks, error, retry }]
            }
            Event::Reachable => {
                if let Some(checkpoints) = &mut self.checkpoints {
                    checkpoints.tell_again(attempt);
                }
                Vec::new()
            }
            Event::Task(event) if self.is_current(attempt, event.task()) => vec![as_input(event)],
            Event::Task(_) => Vec::new(),
            Event::Snapshot(SnapshotEvent::Ended { task })
                if self.undeployed.contains(&task) && self.is_current(attempt, task) =>
            {
                self.ended_early.insert((attempt, task));
                Vec::new()
            }
            // What comes too late is deleted.
            Event::Snapshot(event) => match &mut self.checkpoints {
                Some(checkpoints) => checkpoints.answered(now_ms, attempt, event),
                None => Vec::new(),
            },
            Event::Adopted { attempts, tasks, newest_checkpoint } => {
                self.undeployed.clear();
                let is_released = tasks
                    .iter()
                    .any(|(_, state)| matches!(state, TaskState::Over(TaskEvent::Finished { .. })));
                let attempts = self.adopt_restoring(now_ms, attempts, &tasks);
                let restoring = self.restoring.values_mut().filter_map(|r| r.participants.as_mut());
                let mut inputs = match &mut self.checkpoints {
                    Some(checkpoints) => checkpoints.adopted(
                        now_ms,
                        attempts,
                        restoring,
                        newest_checkpoint,
                        is_released,
                    ),
                    None => Vec::new(),
                };
                let mut ended = Vec::new();
                for (task, state) in tasks {
                    let attempt = self.scheduler.executions().get(task).map_or(0, |e| e.attempt());
                    let is_ending = self.scheduler.state() == JobState::Cancelling;
                    match (state, &mut self.checkpoints) {
                        // Somebody wants the job to end, so it needs no restart; what was lost with the former leader least of all.
                        (TaskState::Over(TaskEvent::Failed { task, error }), _) if is_ending => {
                            self.failures.push(error);
                            inputs.push(Input::TaskCancelled(task));
                        }
                        // The former leader ended it because something had failed, and nobody may know of that any more.
                        (TaskState::Over(TaskEvent::Cancelled { task }), _) if !is_ending => {
                            inputs.push(Input::TaskFailed(
                                task,
                                Error::external("the job manager ended while it restarted the job"),
                            ));
                        }
                        (TaskState::Over(event), _) => inputs.push(as_input(event)),
                        (TaskState::Ended, Some(_)) if !is_released => ended.push((attempt, task)),
                        _ => {}
                    }
                }
                for attempt in self.restoring.keys().copied().collect::<Vec<u32>>() {
                    inputs.extend(self.go_if_restored(now_ms, attempt));
                }
                // When checkpoints know of their attempts.
                for (attempt, task) in ended {
                    if let Some(checkpoints) = &mut self.checkpoints {
                        let ended = SnapshotEvent::Ended { task };
                        inputs.extend(checkpoints.answered(now_ms, attempt, ended));
                    }
                }
                inputs
            }
        }
    }

    /// Steps the scheduler until nothing more comes of it.
    fn schedule(&mut self, now_ms: u64, inputs: impl IntoIterator<Item = Input>) {
        let mut inputs: VecDeque<Input> = inputs.into_iter().collect();
        loop {
            while let Some(input) = inputs.pop_front() {
                let mut effects = Vec::new();
                self.scheduler.step(now_ms, input, &mut effects);
                for effect in effects {
                    self.perform(now_ms, effect, &mut inputs);
                }
            }
            if self.requests.is_empty() || self.is_restoring() {
                return;
            }
            let Some(checkpoints) = &mut self.checkpoints else { return };
            for request in std::mem::take(&mut self.requests) {
                inputs.extend(checkpoints.request(now_ms, request));
            }
        }
    }

    fn perform(&mut self, now_ms: u64, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Deploy { tasks, attempt } => self.deploy(now_ms, attempt, tasks, inputs),
            Effect::CancelTasks(tasks) => {
                let (open, others): (Vec<usize>, Vec<usize>) =
                    tasks.into_iter().partition(|task| self.open.contains(task));
                inputs.extend(others.into_iter().map(Input::TaskCancelled));
                let events = self.tasks.cancel(now_ms, &open);
                self.translate_all(now_ms, events, inputs);
            }
            Effect::CloseTasks(tasks) => self.close(now_ms, tasks, true, inputs),
            Effect::AlsoFailed(error) => {
                tracing::warn!(%error, "more of the job failed and will run again");
                self.failures.push(error);
            }
            Effect::RestartAfter { delay_ms, error } => {
                tracing::warn!(%error, delay_ms, "the job failed and will run again");
                self.failures.push(error);
                self.restart_at_ms = Some(now_ms.saturating_add(delay_ms));
                self.settle(JobState::Restarting);
            }
            Effect::JobEnded(state, error) => {
                self.failures.extend(error.clone());
                let all = self.open.iter().copied().collect();
                self.close(now_ms, all, false, inputs);
                self.settle(state);
                self.ended = Some((state, error));
            }
        }
    }

    fn settle(&mut self, state: JobState) {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.settle(state);
        }
    }

    fn deploy(
        &mut self,
        now_ms: u64,
        attempt: u32,
        tasks: Vec<usize>,
        inputs: &mut VecDeque<Input>,
    ) {
        let begin = match &mut self.checkpoints {
            _ if attempt == 0 => Ok(self.begin.clone()),
            Some(checkpoints) => checkpoints.begin(),
            None => Ok(self.begin.again()),
        };
        let begin = match begin {
            Ok(begin) => begin,
            Err(error) => {
                // None of them is open, so each is cancelled as soon as that is asked for.
                let retry = !error.is_final();
                inputs.push_back(Input::FailTasks { tasks, error, retry });
                return;
            }
        };
        let own = match (&begin, &self.checkpoints) {
            (Begin::At(restored), Some(c)) if c.is_own(restored) => Some(restored.clone()),
            _ => None,
        };
        self.open.extend(&tasks);
        self.undeployed.extend(&tasks);
        if let Begin::At(_) = begin {
            let unrestored = tasks.iter().copied().collect();
            self.restoring.insert(attempt, Restoring::new(now_ms, unrestored));
        }
        let attempt = Attempt { number: attempt, tasks, begin, own };
        let events = self.tasks.deploy(now_ms, attempt);
        self.translate_all(now_ms, events, inputs);
    }

    /// Tasks have answered: ends what is left of them, and lets checkpoints rest.
    fn close(
        &mut self,
        now_ms: u64,
        mut tasks: Vec<usize>,
        again: bool,
        inputs: &mut VecDeque<Input>,
    ) {
        tasks.retain(|task| self.open.contains(task));
        if tasks.is_empty() {
            return;
        }
        let events = self.tasks.close(now_ms, &tasks, again);
        self.translate_all(now_ms, events, inputs);
        for task in &tasks {
            self.open.remove(task);
            self.undeployed.remove(task);
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            inputs.extend(checkpoints.stopped(now_ms, &tasks));
        }
        // Who only waited for these goes on.
        for attempt in self.restoring.keys().copied().collect::<Vec<u32>>() {
            if let Some(restoring) = self.restoring.get_mut(&attempt) {
                restoring.unrestored.retain(|task| !tasks.contains(task));
            }
            inputs.extend(self.go_if_restored(now_ms, attempt));
        }
    }

    fn translate_all(&mut self, now_ms: u64, events: Events, inputs: &mut VecDeque<Input>) {
        for (attempt, event) in events {
            inputs.extend(self.translate(now_ms, attempt, event));
        }
    }
}

fn as_input(event: TaskEvent) -> Input {
    match event {
        TaskEvent::Finished { task } => Input::TaskFinished(task),
        TaskEvent::Failed { task, error } => Input::TaskFailed(task, error),
        TaskEvent::Cancelled { task } => Input::TaskCancelled(task),
    }
}
