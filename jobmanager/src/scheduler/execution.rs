//! One attempt to run one subtask.

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionState {
    /// Not handed out.
    Created,
    /// Handed out; not heard of its end.
    Running,
    /// Took all its input and sent all its output.
    Finished,
    /// Ended on request.
    Cancelled,
    /// Failed.
    Failed,
}

impl ExecutionState {
    /// Whether nothing will happen to it any more.
    pub fn is_terminal(self) -> bool {
        !matches!(self, ExecutionState::Created | ExecutionState::Running)
    }
}

/// A subtask's execution.
#[derive(Clone, Debug)]
pub struct Execution {
    vertex: usize,
    subtask: usize,
    region: usize,
    attempt: u32,
    state: ExecutionState,
}

impl Execution {
    pub(super) fn new(vertex: usize, subtask: usize, region: usize) -> Self {
        Execution { vertex, subtask, region, attempt: 0, state: ExecutionState::Created }
    }

    /// Vertex and subtask.
    pub fn address(&self) -> (usize, usize) {
        (self.vertex, self.subtask)
    }

    /// The pipelined region it belongs to.
    pub fn region(&self) -> usize {
        self.region
    }

    /// The attempt of the job that it was handed out with last.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Where it stands.
    pub fn state(&self) -> ExecutionState {
        self.state
    }

    pub(super) fn deploy(&mut self, attempt: u32) {
        self.attempt = attempt;
        self.state = ExecutionState::Running;
    }

    /// Takes a terminal state; false if it had one.
    pub(super) fn settle(&mut self, state: ExecutionState) -> bool {
        let new = !self.state.is_terminal();
        if new {
            self.state = state;
        }
        new
    }
}
