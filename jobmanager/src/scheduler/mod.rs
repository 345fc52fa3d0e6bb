//! The scheduler of one job: which attempt of which subtask should run, and how the job ends.
//!
//! A pure machine. Its execution graph has one execution per subtask; a job is over when every execution
//! is, and how it ended is decided by the first thing that went wrong.

mod execution;

pub use execution::{Execution, ExecutionState};

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
    /// It is to end, its output so far kept.
    Cancel,
    /// The host cannot run its tasks.
    DeployFailed(Error),
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
    /// Run these tasks (vertex, subtask), in the order of their numbers.
    Deploy(Vec<(usize, usize)>),
    /// End all tasks that run.
    CancelTasks,
    /// The job is over: finished or cancelled (`None`), or failed with its first error.
    JobEnded(JobState, Option<Error>),
}

/// See the module's text.
#[derive(Debug)]
pub struct Scheduler {
    state: JobState,
    executions: Vec<Execution>,
    failure: Option<Error>,
}

impl Scheduler {
    /// The scheduler of a job that has not started.
    pub fn new(graph: &JobGraph) -> Self {
        let executions = graph
            .vertices
            .iter()
            .enumerate()
            .flat_map(|(vertex, v)| {
                (0..v.parallelism).map(move |subtask| Execution::new(vertex, subtask))
            })
            .collect();
        Scheduler { state: JobState::Created, executions, failure: None }
    }

    /// Where the job stands.
    pub fn state(&self) -> JobState {
        self.state
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

    fn end_if_over(&mut self, effects: &mut Vec<Effect>) {
        if self.state.is_terminal() || !self.executions.iter().all(|e| e.state().is_terminal()) {
            return;
        }
        self.state = match self.state {
            JobState::Failing => JobState::Failed,
            // Asked to stop, but every task had come to its own end: then it finished.
            JobState::Cancelling
                if self.executions.iter().any(|e| e.state() == ExecutionState::Cancelled) =>
            {
                JobState::Cancelled
            }
            _ => JobState::Finished,
        };
        effects.push(Effect::JobEnded(self.state, self.failure.take()));
    }
}

impl Machine for Scheduler {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, _now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Start if self.state == JobState::Created => {
                self.state = JobState::Running;
                for e in &mut self.executions {
                    e.deploy();
                }
                effects
                    .push(Effect::Deploy(self.executions.iter().map(Execution::address).collect()));
                self.end_if_over(effects);
            }
            Input::Cancel if self.state == JobState::Created => {
                self.state = JobState::Cancelled;
                effects.push(Effect::JobEnded(self.state, None));
            }
            Input::Cancel if self.state == JobState::Running => {
                self.state = JobState::Cancelling;
                effects.push(Effect::CancelTasks);
            }
            Input::DeployFailed(error) if !self.state.is_terminal() => {
                self.state = JobState::Failed;
                effects.push(Effect::JobEnded(self.state, Some(error)));
            }
            Input::TaskFailed(task, error) => {
                if matches!(self.state, JobState::Running | JobState::Cancelling) {
                    self.state = JobState::Failing;
                    self.failure = Some(error);
                    effects.push(Effect::CancelTasks);
                }
                self.settle(task, ExecutionState::Failed, effects);
            }
            Input::TaskFinished(task) => self.settle(task, ExecutionState::Finished, effects),
            Input::TaskCancelled(task) => self.settle(task, ExecutionState::Cancelled, effects),
            Input::Start | Input::Cancel | Input::DeployFailed(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
