//! The scheduler of one job: which attempt of which subtask should run, and how the job ends.
//!
//! A pure machine. Its execution graph has one execution per subtask; a job is over when every execution
//! is, and how it ended is decided by the first thing that went wrong.
//!
//! A failure ends the executions of its *pipelined region* (those that it exchanged records with, directly or not) and
//! of no other; then, if the strategy says so, these run again, as a new attempt. What fails meanwhile joins them, so there is
//! one attempt to come at most, and it takes along all that is down: a task manager that is lost with tasks of several
//! regions costs one restart. Attempts are numbered over the whole job, and every execution has the number of the one that
//! it runs in.
//!
//! Regions part ways only as long as each can go back alone. When tasks are let go because a checkpoint covers the end
//! of all, or a savepoint stops them, there is no checkpoint to come that those behind could take part in: from then on
//! they are *coupled*, and a failure takes everything, as it does where the regions were not told apart from the beginning.

mod execution;

pub use execution::{Execution, ExecutionState};

use crate::restart::{RestartStrategy, Restarts};
use millstream_model::job_graph::JobGraph;
use millstream_model::{Error, Machine};
use std::collections::BTreeSet;

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
    /// A task failed; those of its region are ending or have ended, and will run again.
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
    /// It runs already: another leader has started it.
    Resume {
        /// The newest attempt.
        attempt: u32,
        /// The attempt that each task runs in, by the task's number.
        of_tasks: Vec<u32>,
    },
    /// It is to end, its output so far kept.
    Cancel,
    /// The host cannot run these tasks. The job is not restarted if they have never run.
    DeployFailed {
        /// By number.
        tasks: Vec<usize>,
        /// Why.
        error: Error,
    },
    /// It failed as a whole, not in one of its tasks.
    Fail {
        /// Why.
        error: Error,
        /// Whether another attempt may do better: not if its checkpoint is damaged.
        retry: bool,
    },
    /// So did these tasks: they may run or not, and have yet to answer.
    FailTasks {
        /// By number.
        tasks: Vec<usize>,
        /// Why.
        error: Error,
        /// Whether another attempt may do better.
        retry: bool,
    },
    /// No region can go back alone any more, until all have.
    Couple,
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
        /// Which, by their numbers, in order.
        tasks: Vec<usize>,
        /// How many attempts there were before.
        attempt: u32,
    },
    /// End these tasks.
    CancelTasks(Vec<usize>),
    /// All of these tasks have answered: what is left of them may go.
    CloseTasks(Vec<usize>),
    /// While tasks are down others have failed, for this, and joined them.
    AlsoFailed(Error),
    /// In so many ms they are to run again: send [`Input::Restart`] then.
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
    /// The tasks that are to run again, if some are.
    down: BTreeSet<usize>,
    /// Those of them that are still counted on to answer.
    open: BTreeSet<usize>,
    /// Whether the time before the next attempt was over before all had answered.
    is_due: bool,
    is_coupled: bool,
}

/// The failure for which tasks are ending.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// After how long they run again, if they do.
    restart_after_ms: Option<u64>,
}

impl Scheduler {
    /// The scheduler of a job that has not started, and is not restarted.
    pub fn new(graph: &JobGraph) -> Self {
        let executions = graph.tasks().zip(graph.regions());
        Scheduler {
            state: JobState::Created,
            attempt: 0,
            executions: executions
                .map(|((vertex, subtask), region)| Execution::new(vertex, subtask, region))
                .collect(),
            restarts: Restarts::default(),
            failure: None,
            down: BTreeSet::new(),
            open: BTreeSet::new(),
            is_due: false,
            is_coupled: false,
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

    /// How often tasks of the job were restarted.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Every subtask, by task number.
    pub fn executions(&self) -> &[Execution] {
        &self.executions
    }

    /// All tasks of the regions that these are in.
    fn regions_of(&self, tasks: &[usize]) -> BTreeSet<usize> {
        let of_tasks = tasks.iter().filter_map(|task| self.executions.get(*task));
        let regions: BTreeSet<usize> = of_tasks.map(Execution::region).collect();
        let all = self.executions.iter().enumerate();
        let chosen = all.filter(|(_, e)| self.is_coupled || regions.contains(&e.region()));
        chosen.map(|(task, _)| task).collect()
    }

    fn all(&self) -> BTreeSet<usize> {
        (0..self.executions.len()).collect()
    }

    fn settle(&mut self, task: usize, state: ExecutionState, effects: &mut Vec<Effect>) {
        // A number the shell made up, or a second answer of one task, changes nothing.
        let Some(execution) = self.executions.get_mut(task) else { return };
        if execution.settle(state) {
            self.go_on(effects);
        }
    }

    fn are_down(&self, tasks: &BTreeSet<usize>) -> bool {
        tasks.iter().all(|task| self.executions[*task].state().is_terminal())
    }

    fn deploy(&mut self, tasks: BTreeSet<usize>, effects: &mut Vec<Effect>) {
        self.state = JobState::Running;
        for task in &tasks {
            self.executions[*task].deploy(self.attempt);
        }
        if tasks.len() == self.executions.len() {
            self.is_coupled = false;
        }
        let tasks = tasks.into_iter().collect();
        effects.push(Effect::Deploy { tasks, attempt: self.attempt });
        self.go_on(effects);
    }

    /// Tasks have failed, or the job as a whole, that is: all of them.
    fn fail(
        &mut self,
        now_ms: u64,
        tasks: BTreeSet<usize>,
        error: Error,
        retry: bool,
        effects: &mut Vec<Effect>,
    ) {
        // A number the shell made up changes nothing.
        if tasks.is_empty() {
            return;
        }
        let restart_after_ms = match self.state {
            JobState::Running if retry => self.restarts.failed(now_ms),
            // They join those that are down already.
            JobState::Restarting if retry => {
                if !tasks.is_subset(&self.down) {
                    effects.push(Effect::AlsoFailed(error));
                    self.take_down(tasks, effects);
                }
                return;
            }
            // What no attempt can heal comes before what the next one could.
            JobState::Running | JobState::Restarting | JobState::Cancelling => None,
            _ => return,
        };
        self.failure = Some(Failure { error, restart_after_ms });
        if restart_after_ms.is_some() {
            self.state = JobState::Restarting;
            self.take_down(tasks, effects);
        } else {
            self.state = JobState::Failing;
            self.take_down(self.all(), effects);
        }
    }

    fn take_down(&mut self, tasks: BTreeSet<usize>, effects: &mut Vec<Effect>) {
        let new: Vec<usize> = tasks.difference(&self.down).copied().collect();
        self.open.extend(&new);
        self.down.extend(&new);
        if !new.is_empty() {
            effects.push(Effect::CancelTasks(new));
        }
    }

    fn ended(&mut self, state: JobState, error: Option<Error>, effects: &mut Vec<Effect>) {
        self.state = state;
        effects.push(Effect::JobEnded(state, error));
    }

    /// What comes of it that a task has answered.
    fn go_on(&mut self, effects: &mut Vec<Effect>) {
        if self.state.is_terminal() {
            return;
        }
        if self.state == JobState::Restarting {
            if self.are_down(&self.down) {
                let open = std::mem::take(&mut self.open);
                if !open.is_empty() {
                    effects.push(Effect::CloseTasks(open.into_iter().collect()));
                }
                // Without a failure it was said before: the time until then is running, or over.
                if let Some(Failure { error, restart_after_ms }) = self.failure.take() {
                    let delay_ms = restart_after_ms.unwrap_or(0);
                    effects.push(Effect::RestartAfter { delay_ms, error });
                } else if std::mem::take(&mut self.is_due) {
                    self.run_again(effects);
                }
            }
            return;
        }
        if !self.executions.iter().all(|e| e.state().is_terminal()) {
            return;
        }
        let error = self.failure.take().map(|f| f.error);
        let all_finished = self.executions.iter().all(|e| e.state() == ExecutionState::Finished);
        let state = match self.state {
            JobState::Failing => JobState::Failed,
            // Asked to stop, but every task had come to its own end: then it finished.
            JobState::Cancelling if !all_finished => JobState::Cancelled,
            _ => JobState::Finished,
        };
        self.ended(state, error, effects);
    }

    fn run_again(&mut self, effects: &mut Vec<Effect>) {
        self.attempt += 1;
        let tasks = std::mem::take(&mut self.down);
        self.deploy(tasks, effects);
    }
}

impl Machine for Scheduler {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        match (input, self.state) {
            (Input::Start, JobState::Created) => self.deploy(self.all(), effects),
            (Input::Resume { attempt, of_tasks }, JobState::Created) => {
                self.attempt = attempt;
                self.state = JobState::Running;
                // What the former leader knew of their beginning is not known here.
                self.is_coupled = true;
                for (task, execution) in self.executions.iter_mut().enumerate() {
                    execution.deploy(of_tasks.get(task).copied().unwrap_or(attempt));
                }
                self.go_on(effects);
            }
            (Input::Restart, JobState::Restarting) if self.failure.is_none() => {
                if self.are_down(&self.down) {
                    self.run_again(effects);
                } else {
                    self.is_due = true;
                }
            }
            (Input::Cancel, JobState::Created) => self.ended(JobState::Cancelled, None, effects),
            (Input::Cancel, JobState::Running | JobState::Restarting) => {
                self.state = JobState::Cancelling;
                // A failure would have been forgotten after the restart too.
                self.failure = None;
                self.take_down(self.all(), effects);
                self.go_on(effects);
            }
            (Input::Fail { error, .. }, JobState::Created) => {
                self.ended(JobState::Failed, Some(error), effects);
            }
            (Input::DeployFailed { tasks, error }, _) if !self.state.is_terminal() => {
                for task in tasks {
                    self.executions[task].settle(ExecutionState::Failed);
                    self.open.remove(&task);
                    self.down.insert(task);
                }
                let retry = self.attempt > 0 && !error.is_final();
                match self.state {
                    JobState::Failing => {}
                    _ => self.fail(now_ms, self.all(), error, retry, effects),
                }
                self.go_on(effects);
            }
            (Input::Fail { error, retry }, _) => {
                self.fail(now_ms, self.all(), error, retry, effects);
                self.go_on(effects);
            }
            (Input::FailTasks { tasks, error, retry }, _) => {
                self.fail(now_ms, self.regions_of(&tasks), error, retry, effects);
                self.go_on(effects);
            }
            (Input::Couple, _) => {
                self.is_coupled = true;
                if self.state == JobState::Restarting {
                    self.take_down(self.all(), effects);
                    self.go_on(effects);
                }
            }
            (Input::TaskFailed(task, error), _) => {
                let retry = !error.is_final();
                self.fail(now_ms, self.regions_of(&[task]), error, retry, effects);
                self.settle(task, ExecutionState::Failed, effects);
                self.go_on(effects);
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
                | Input::DeployFailed { .. },
                _,
            ) => {}
        }
    }
}

#[cfg(test)]
mod tests;
