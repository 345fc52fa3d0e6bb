//! The scheduler of one job: which attempt of which subtask should run, and how the job ends.
//!
//! A pure machine. Its execution graph has one execution per subtask; a job is over when every execution
//! is, and how it ended is decided by the first thing that went wrong. A failure ends all executions; then,
//! if the strategy says so, the job is run again as a whole, as a new attempt.

mod execution;

pub use execution::{Execution, ExecutionState};

use crate::restart::{RestartStrategy, Restarts};
use millstream_model::job_graph::JobGraph;
use millstream_model::{Error, Machine};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Not started.
    Created,
    /// Its tasks run.
    Running,
    /// Somebody asked it to stop; its tasks are ending.
    Cancelling,
    /// A task failed; the others are ending.
    Failing,
    /// A task failed; the others are ending or have ended, and the job will run again.
    Restarting,
    /// Every task finished.
    Finished,
    /// Ended on request.
    Cancelled,
    /// Ended by a failure.
    Failed,
}

impl JobState {
    /// Whether nothing will happen any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Finished | JobState::Cancelled | JobState::Failed)
    }
}

/// What happens to a job.
#[derive(Debug)]
pub enum Input {
    /// It is to run.
    Start,
    /// It runs already, as this attempt: another leader has started it.
    Resume {
        /// The attempt.
        attempt: u32,
    },
    /// It is to end, its output so far kept.
    Cancel,
    /// The host cannot run its tasks. The job is not restarted.
    DeployFailed(Error),
    /// It failed as a whole, not in one of its tasks.
    Fail {
        /// Why.
        error: Error,
        /// Whether another attempt may do better: not if its checkpoint is damaged.
        retry: bool,
    },
    /// The time before the next attempt is over.
    Restart,
    /// A task finished.
    TaskFinished(usize),
    /// A task failed.
    TaskFailed(usize, Error),
    /// A task was cancelled.
    TaskCancelled(usize),
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Run tasks.
    Deploy {
        /// Which (vertex, subtask), in the order of their numbers.
        tasks: Vec<(usize, usize)>,
        /// How often they were run before.
        attempt: u32,
    },
    /// End all tasks that run.
    CancelTasks,
    /// No task runs any more; in so many ms the job is to run again: send [`Input::Restart`] then.
    RestartAfter {
        /// The time.
        delay_ms: u64,
        /// What made it necessary.
        error: Error,
    },
    /// The job is over: finished or cancelled (`None`), or failed with its first error.
    JobEnded(JobState, Option<Error>),
}

/// See the module's text.
#[derive(Debug)]
pub struct Scheduler {
    state: JobState,
    attempt: u32,
    executions: Vec<Execution>,
    restarts: Restarts,
    failure: Option<Failure>,
}

/// The failure for which tasks are ending.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// After how long the job runs again, if it does.
    restart_after_ms: Option<u64>,
}

impl Scheduler {
    /// The scheduler of a job that has not started, and is not restarted.
    pub fn new(graph: &JobGraph) -> Self {
        let executions = graph
            .vertices
            .iter()
            .enumerate()
            .flat_map(|(vertex, v)| {
                (0..v.parallelism).map(move |subtask| Execution::new(vertex, subtask))
            })
            .collect();
        Scheduler {
            state: JobState::Created,
            attempt: 0,
            executions,
            restarts: Restarts::default(),
            failure: None,
        }
    }

    /// Restarts the job when it fails.
    #[must_use]
    pub fn with_restarts(mut self, strategy: RestartStrategy) -> Self {
        self.restarts = Restarts::new(strategy);
        self
    }

    /// Where the job stands.
    pub fn state(&self) -> JobState {
        self.state
    }

    /// How often the job was restarted.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Every subtask, by task number.
    pub fn executions(&self) -> &[Execution] {
        &self.executions
    }

    fn settle(&mut self, task: usize, state: ExecutionState, effects: &mut Vec<Effect>) {
        // A number the shell made up, or a second answer of one task, changes nothing.
        let Some(execution) = self.executions.get_mut(task) else { return };
        if execution.settle(state) {
            self.end_if_over(effects);
        }
    }

    fn is_down(&self) -> bool {
        self.executions.iter().all(|e| e.state().is_terminal())
    }

    fn deploy(&mut self, effects: &mut Vec<Effect>) {
        self.state = JobState::Running;
        for e in &mut self.executions {
            e.deploy();
        }
        let tasks = self.executions.iter().map(Execution::address).collect();
        effects.push(Effect::Deploy { tasks, attempt: self.attempt });
        self.end_if_over(effects);
    }

    fn fail(&mut self, now_ms: u64, error: Error, retry: bool, effects: &mut Vec<Effect>) {
        let restart_after_ms = match self.state {
            JobState::Running if retry => self.restarts.failed(now_ms),
            JobState::Running | JobState::Cancelling => None,
            // What no attempt can heal comes before what the next one could.
            JobState::Restarting if !retry => None,
            _ => return,
        };
        let tasks_run = matches!(self.state, JobState::Running | JobState::Cancelling);
        self.state =
            if restart_after_ms.is_some() { JobState::Restarting } else { JobState::Failing };
        self.failure = Some(Failure { error, restart_after_ms });
        if tasks_run {
            effects.push(Effect::CancelTasks);
        }
    }

    fn end_if_over(&mut self, effects: &mut Vec<Effect>) {
        if self.state.is_terminal() || !self.is_down() {
            return;
        }
        let failure = self.failure.take();
        self.state = match self.state {
            JobState::Restarting => {
                // Without a failure it was said before: the time until then is running.
                effects.extend(failure.map(|Failure { error, restart_after_ms }| {
                    Effect::RestartAfter { delay_ms: restart_after_ms.unwrap_or(0), error }
                }));
                return;
            }
            JobState::Failing => JobState::Failed,
            // Asked to stop, but every task had come to its own end: then it finished.
            JobState::Cancelling
                if self.executions.iter().any(|e| e.state() != ExecutionState::Finished) =>
            {
                JobState::Cancelled
            }
            _ => JobState::Finished,
        };
        effects.push(Effect::JobEnded(self.state, failure.map(|f| f.error)));
    }
}

impl Machine for Scheduler {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        match (input, self.state) {
            (Input::Start, JobState::Created) => self.deploy(effects),
            (Input::Resume { attempt }, JobState::Created) => {
                self.attempt = attempt;
                self.state = JobState::Running;
                self.executions.iter_mut().for_each(Execution::deploy);
                self.end_if_over(effects);
            }
            (Input::Restart, JobState::Restarting) if self.is_down() => {
                self.attempt += 1;
                self.deploy(effects);
            }
            (Input::Cancel, JobState::Created) => {
                self.state = JobState::Cancelled;
                effects.push(Effect::JobEnded(self.state, None));
            }
            (Input::Cancel, JobState::Running) => {
                self.state = JobState::Cancelling;
                effects.push(Effect::CancelTasks);
            }
            (Input::Cancel, JobState::Restarting) => {
                // The failure would have been forgotten after the restart too.
                self.state = JobState::Cancelling;
                self.failure = None;
                self.end_if_over(effects);
            }
            (Input::DeployFailed(error), _) | (Input::Fail { error, .. }, JobState::Created)
                if !self.state.is_terminal() =>
            {
                self.state = JobState::Failed;
                effects.push(Effect::JobEnded(self.state, Some(error)));
            }
            (Input::Fail { error, retry }, _) => {
                self.fail(now_ms, error, retry, effects);
                self.end_if_over(effects);
            }
            (Input::TaskFailed(task, error), _) => {
                let retry = !error.is_final();
                self.fail(now_ms, error, retry, effects);
                self.settle(task, ExecutionState::Failed, effects);
            }
            (Input::TaskFinished(task), _) => self.settle(task, ExecutionState::Finished, effects),
            (Input::TaskCancelled(task), _) => {
                self.settle(task, ExecutionState::Cancelled, effects);
            }
            (
                Input::Start
                | Input::Resume { .. }
                | Input::Restart
                | Input::Cancel
                | Input::DeployFailed(_),
                _,
            ) => {}
        }
    }
}

#[cfg(test)]
mod tests;
