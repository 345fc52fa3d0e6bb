//! The master of a job: performs what its machines decide, feeds back what comes of it.
//!
//! Both machines are stepped here, on one thread, so neither ever sees half of what happened. What the master hears
//! is handed to it, with the time; so it serves a thread, a cluster and a simulation alike.

use super::checkpoints::{Checkpoints, Participants, Request};
use super::{Begin, Restored};
use crate::scheduler::{Effect, Input, JobState, Scheduler};
use millstream_model::{CheckpointId, Error, Machine};
use millstream_proto::message::{SnapshotEvent, TaskEvent, TaskState};
use std::collections::VecDeque;

/// What becomes of a job's tasks. Of an attempt that is not the newest nothing is heard.
pub enum Event {
    /// All tasks of the attempt run.
    Deployed {
        /// How to reach them.
        participants: Box<dyn Participants>,
    },
    /// They cannot be run: as [`Input::DeployFailed`](crate::scheduler::Input), the job is not restarted.
    DeployFailed(Error),
    /// The attempt has failed as a whole, not in one of its tasks.
    Failed(Error),
    /// What became of a task.
    Task(TaskEvent),
    /// What became of a task's part in a checkpoint.
    Snapshot(SnapshotEvent),
    /// The tasks that another leader has deployed were found.
    Adopted {
        /// How to reach them.
        participants: Box<dyn Participants>,
        /// How things are with each.
        tasks: Vec<(usize, TaskState)>,
        /// The newest checkpoint that one has heard of.
        newest_checkpoint: Option<CheckpointId>,
    },
}

/// Where the tasks of a job run.
pub trait Tasks {
    /// Runs the tasks of an attempt. Each answers with one event, also when it could not be run.
    fn deploy(
        &mut self,
        now_ms: u64,
        attempt: u32,
        begin: Begin,
        own: Option<Restored>,
    ) -> Vec<Event>;
    /// Ends all tasks; each answers with its event.
    fn cancel(&mut self, now_ms: u64) -> Vec<Event>;
    /// Every task has answered: ends what is left of the attempt. What comes of that is the last that is heard of it.
    fn close(&mut self, now_ms: u64) -> Vec<Event>;
}

/// See the module's text.
pub struct Master<T> {
    scheduler: Scheduler,
    checkpoints: Option<Checkpoints>,
    /// Where the first attempt begins, and others if there are no checkpoints.
    begin: Begin,
    /// Where the tasks run.
    pub tasks: T,
    /// Whether there is an attempt that was not closed.
    is_open: bool,
    /// Whether its tasks run.
    is_deployed: bool,
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
            is_open: false,
            is_deployed: false,
            restart_at_ms: None,
            failures: Vec::new(),
            ended: None,
        }
    }

    /// Runs the job.
    pub fn start(&mut self, now_ms: u64) {
        self.schedule(now_ms, [Input::Start]);
    }

    /// Goes on with an attempt that another leader has started: its tasks are looked for by whoever has them.
    pub fn resume(&mut self, now_ms: u64, attempt: u32) {
        self.is_open = true;
        self.schedule(now_ms, [Input::Resume { attempt }]);
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

    /// Whether all tasks of the newest attempt were deployed.
    pub fn is_deployed(&self) -> bool {
        self.is_deployed
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
        [self.restart_at_ms, checkpoint].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
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

    /// Something became of the tasks of this attempt.
    pub fn take(&mut self, now_ms: u64, attempt: u32, event: Event) {
        if attempt == self.scheduler.attempt() {
            let inputs = self.translate(now_ms, event);
            self.schedule(now_ms, inputs);
        } else if let (Event::Snapshot(event), Some(checkpoints)) = (event, &mut self.checkpoints) {
            // What comes too late is deleted.
            let inputs = checkpoints.answered(now_ms, attempt, event);
            self.schedule(now_ms, inputs);
        }
    }

    /// What an event means for the scheduler.
    fn translate(&mut self, now_ms: u64, event: Event) -> Vec<Input> {
        let attempt = self.scheduler.attempt();
        match event {
            Event::Deployed { participants } => {
                self.is_deployed = true;
                match &mut self.checkpoints {
                    Some(checkpoints) => checkpoints.started(now_ms, attempt, participants),
                    None => Vec::new(),
                }
            }
            Event::DeployFailed(error) => {
                self.is_open = false;
                vec![Input::DeployFailed(error)]
            }
            Event::Failed(error) => {
                let retry = !error.is_final();
                vec![Input::Fail { error, retry }]
            }
            Event::Task(event) => vec![as_input(event)],
            Event::Snapshot(event) => match &mut self.checkpoints {
                Some(checkpoints) => checkpoints.answered(now_ms, attempt, event),
                None => Vec::new(),
            },
            Event::Adopted { participants, tasks, newest_checkpoint } => {
                self.is_deployed = true;
                let is_released = tasks
                    .iter()
                    .any(|(_, state)| matches!(state, TaskState::Over(TaskEvent::Finished { .. })));
                let mut inputs = match &mut self.checkpoints {
                    Some(checkpoints) => checkpoints.adopted(
                        now_ms,
                        attempt,
                        participants,
                        newest_checkpoint,
                        is_released,
                    ),
                    None => Vec::new(),
                };
                for (task, state) in tasks {
                    match (state, &mut self.checkpoints) {
                        (TaskState::Over(event), _) => inputs.push(as_input(event)),
                        (TaskState::Ended, Some(checkpoints)) if !is_released => {
                            let ended = SnapshotEvent::Ended { task };
                            inputs.extend(checkpoints.answered(now_ms, attempt, ended));
                        }
                        (TaskState::Ended | TaskState::Running, _) => {}
                    }
                }
                inputs
            }
        }
    }

    /// Steps the scheduler until nothing more comes of it.
    fn schedule(&mut self, now_ms: u64, inputs: impl IntoIterator<Item = Input>) {
        let mut inputs: VecDeque<Input> = inputs.into_iter().collect();
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.scheduler.step(now_ms, input, &mut effects);
            for effect in effects {
                self.perform(now_ms, effect, &mut inputs);
            }
        }
    }

    fn perform(&mut self, now_ms: u64, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Deploy { attempt, .. } => {
                self.is_deployed = false;
                let begin = match &mut self.checkpoints {
                    _ if attempt == 0 => Ok(self.begin.clone()),
                    Some(checkpoints) => checkpoints.begin(),
                    None => Ok(self.begin.again()),
                };
                let begin = match begin {
                    Ok(begin) => begin,
                    Err(error) => {
                        // No task runs, so each is cancelled as soon as that is asked for.
                        self.is_open = false;
                        let retry = !error.is_final();
                        inputs.push_back(Input::Fail { error, retry });
                        return;
                    }
                };
                let own = match (&begin, &self.checkpoints) {
                    (Begin::At(restored), Some(c)) if c.is_own(restored) => Some(restored.clone()),
                    _ => None,
                };
                self.is_open = true;
                let events = self.tasks.deploy(now_ms, attempt, begin, own);
                self.translate_all(now_ms, events, inputs);
            }
            Effect::CancelTasks if !self.is_open => {
                inputs.extend((0..self.scheduler.executions().len()).map(Input::TaskCancelled));
            }
            Effect::CancelTasks => {
                let events = self.tasks.cancel(now_ms);
                self.translate_all(now_ms, events, inputs);
            }
            Effect::RestartAfter { delay_ms, error } => {
                tracing::warn!(%error, delay_ms, "the job failed and will run again");
                self.failures.push(error);
                self.close(now_ms, inputs);
                self.restart_at_ms = Some(now_ms.saturating_add(delay_ms));
            }
            Effect::JobEnded(state, error) => {
                self.failures.extend(error.clone());
                self.close(now_ms, inputs);
                self.ended = Some((state, error));
            }
        }
    }

    /// Every task has answered: ends the attempt, and lets checkpoints rest.
    fn close(&mut self, now_ms: u64, inputs: &mut VecDeque<Input>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let events = self.tasks.close(now_ms);
        self.translate_all(now_ms, events, inputs);
        self.is_deployed = false;
        if let Some(checkpoints) = &mut self.checkpoints {
            inputs.extend(checkpoints.stopped(now_ms));
        }
    }

    fn translate_all(&mut self, now_ms: u64, events: Vec<Event>, inputs: &mut VecDeque<Input>) {
        for event in events {
            inputs.extend(self.translate(now_ms, event));
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
