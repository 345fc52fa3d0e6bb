//! One checkpoint under way: what tasks have answered, and whether it can still be given up.

use super::Effect;
use millstream_model::{Barrier, CheckpointId};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Pending<A> {
    pub(super) barrier: Barrier,
    /// Who asked for it.
    pub(super) request: Option<u64>,
    /// When all tasks must have acknowledged.
    pub(super) deadline_ms: u64,
    stage: Stage<A>,
}

#[derive(Debug)]
enum Stage<A> {
    /// What the tasks stored, and whether they had ended.
    Collecting(Vec<Option<(A, bool)>>),
    /// Every task acknowledged; whether all had ended.
    Storing { covers_ends: bool },
    /// The same, but the job went on from an older one.
    Disowned,
}

impl<A> Pending<A> {
    pub(super) fn new(
        barrier: Barrier,
        request: Option<u64>,
        deadline_ms: u64,
        n_tasks: usize,
    ) -> Self {
        let answers = std::iter::repeat_with(|| None).take(n_tasks).collect();
        Pending { barrier, request, deadline_ms, stage: Stage::Collecting(answers) }
    }

    pub(super) fn id(&self) -> CheckpointId {
        self.barrier.checkpoint
    }

    pub(super) fn is_collecting(&self) -> bool {
        matches!(self.stage, Stage::Collecting(_))
    }

    /// Whether the answer of the storage is about this one.
    pub(super) fn awaits(&self, checkpoint: CheckpointId) -> bool {
        self.id() == checkpoint && !self.is_collecting()
    }

    /// Whether every task had ended before it.
    pub(super) fn covers_ends(&self) -> bool {
        matches!(self.stage, Stage::Storing { covers_ends: true })
    }

    pub(super) fn is_disowned(&self) -> bool {
        matches!(self.stage, Stage::Disowned)
    }

    /// It must not count, however the storage answers. Gives who is to be told.
    pub(super) fn disown(&mut self) -> Option<u64> {
        self.stage = Stage::Disowned;
        self.request.take()
    }

    /// The tasks that have not acknowledged.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        let answers: &[_] =
            if let Stage::Collecting(answers) = &self.stage { answers } else { &[] };
        answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(task, _)| task)
    }

    /// Takes a task's answer, the first one; with the last that was missing, everything is to be stored.
    pub(super) fn acknowledge(
        &mut self,
        task: usize,
        snapshot: A,
        ended: bool,
    ) -> Option<Effect<A>> {
        let Stage::Collecting(answers) = &mut self.stage else { return None };
        answers.get_mut(task)?.get_or_insert((snapshot, ended));
        if answers.iter().any(Option::is_none) {
            return None;
        }
        let (snapshots, ends): (Vec<A>, Vec<bool>) =
            std::mem::take(answers).into_iter().flatten().unzip();
        self.stage = Stage::Storing { covers_ends: !ends.contains(&false) };
        Some(Effect::Store {
            checkpoint: self.id(),
            kind: self.barrier.kind,
            request: self.request,
            snapshots,
        })
    }
}
