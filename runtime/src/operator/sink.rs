//! Sinks: where records leave.
//!
//! A sink that takes part in checkpoints works in two steps. Its writer *stages* output that nobody can see
//! yet, and hands over what it takes to show it at every barrier; when the checkpoint is complete, and not
//! before, the committer makes it visible. Between the two the staged output is part of the snapshot. The
//! order of calls, for a checkpoint `n`:
//!
//! 1. `write`, any number of times, then `stage(n)`: everything written so far belongs to `n`.
//! 2. `commit` of everything staged for `n` and before, after `n` is complete. It may be called again with the
//!    same: after a failure nobody knows whether the last call got through, so it must be idempotent.
//! 3. If `n` is given up its staged output simply belongs to `n + 1`.
//! 4. After a failure: [`Sink::prepare`] with everything that was staged in the checkpoint that is restored, once,
//!    before any writer exists. It commits exactly that and discards everything else that was staged. It may
//!    come again with the same, if the recovery itself fails.
//!
//! Where a sink [recovers apart](Sink::recovers_apart) and only some of its subtasks have failed, step 4 is about these alone:
//! the others may be in the middle of any step.
//!
//! A writer may count on a checkpoint's number being greater than all that were completed before, not on its
//! being new: one that was never completed may come again, in another attempt, after `prepare`. It may stage
//! something even if nothing was written: then a `prepare` with nothing says that there is no checkpoint.
//! Committers of one attempt share no order; an attempt that is taken for dead may still call its own, and a
//! sink that several processes can write refuses it (a fence taken in `prepare` and checked in `commit`).
//!
//! Without checkpoints, and for sinks without a committer, `finish` at the end of the input is all there is, or before a savepoint
//! that ends event time; then `stage` follows.

use crate::chain::{ChainVisitor, Flow, Notice, Push, Site, Stateful};
use crate::context::OperatorContext;
use millstream_model::{Barrier, Batch, CheckpointId, Result, Signal};
use millstream_state::{Items, Visitor};

/// What it takes to make a piece of staged output visible, in a sink's own encoding.
pub type Staged = Vec<u8>;

/// Writes records out. One per subtask.
pub trait SinkWriter<T>: Send {
    /// Called once before the first record.
    ///
    /// # Errors
    /// If the target cannot be opened.
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// Writes the records of a batch, in order, and leaves it empty.
    ///
    /// # Errors
    /// If writing fails; the error ends the job.
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()>;
    /// Nothing more comes right now: makes visible what a reader may see.
    ///
    /// # Errors
    /// If writing fails.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    /// Everything written so far belongs to this checkpoint: puts it where it survives a crash, unseen, and
    /// tells what it takes to show it. A writer without a committer flushes instead.
    ///
    /// # Errors
    /// If writing fails.
    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Vec<Staged>> {
        let _ = checkpoint;
        self.flush()?;
        Ok(Vec::new())
    }
    /// Called once after the last record (see the module's text), if there are no checkpoints or no committer: makes the output
    /// final. Not called when the job fails.
    ///
    /// # Errors
    /// If writing fails.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Makes staged output visible. One per subtask.
pub trait Committer: Send {
    /// Makes staged output visible, if it is not visible already.
    ///
    /// # Errors
    /// If that fails; the error ends the job, and the recovery commits again.
    fn commit(&mut self, staged: &[Staged]) -> Result<()>;
}

/// Where a run of a job begins, as its sinks see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkStart {
    /// At the beginning, for the first time: output of other runs is in the way.
    Fresh,
    /// After a failure or a stop: there is output of this job. The checkpoint that is restored holds this as
    /// staged (nothing if no checkpoint was ever completed): it must become visible; everything else that
    /// was staged or begun is discarded.
    Recovering(Vec<Staged>),
    /// Some subtasks have failed, and the others go on. Only for a sink that [recovers apart](Sink::recovers_apart).
    RecoveringPart {
        /// The subtasks that begin again.
        subtasks: Vec<usize>,
        /// What the checkpoint that they begin at holds as staged, by all subtasks, as in `Recovering`. What is of those that
        /// go on is theirs to commit.
        staged: Vec<Staged>,
    },
}

/// Where a stream's records go: makes the writers. Shared by all subtasks.
pub trait Sink<T>: Send + Sync + 'static {
    /// Called once per attempt, before any writer is made: checks and prepares what all subtasks share.
    ///
    /// # Errors
    /// If the target cannot be used (an output directory that is not empty, say).
    fn prepare(&self, start: &SinkStart) -> Result<()> {
        let _ = start;
        Ok(())
    }
    /// Whether some of its subtasks can be recovered while others write: [`prepare`](Sink::prepare) then gets
    /// [`SinkStart::RecoveringPart`], if only some have failed, and leaves alone what is the others'. If not, all subtasks
    /// fail and begin again together, with whatever sends records to them.
    fn recovers_apart(&self) -> bool {
        false
    }
    /// The writer of one subtask.
    ///
    /// # Errors
    /// If it cannot be made.
    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>>;
    /// The committer of one subtask; `None` if output is visible as soon as it is written.
    fn committer(&self) -> Option<Box<dyn Committer>> {
        None
    }
    /// The default name of its operator.
    fn name(&self) -> String {
        "sink".into()
    }
    /// How many subtasks may write at most; `None` for any number.
    fn max_parallelism(&self) -> Option<usize> {
        None
    }
}

/// The name of the part that holds what is staged.
pub const STAGED_PART: &str = "staged";

/// The link at the end of a chain that ends in a sink.
pub struct SinkLink<T> {
    writer: Box<dyn SinkWriter<T>>,
    /// Only with checkpoints.
    committer: Option<Box<dyn Committer>>,
    /// Whether the output was made final.
    has_ended: bool,
    /// Whether that was before a restore, and nothing has come since.
    ended_before: bool,
    /// What is staged and not committed, with the checkpoint it was staged for.
    staged: Items<(CheckpointId, Staged)>,
    context: OperatorContext,
    site: Site,
}

impl<T> SinkLink<T> {
    /// The link into `writer`; what is staged is committed by `committer`, if the job takes checkpoints.
    pub fn new(
        writer: Box<dyn SinkWriter<T>>,
        committer: Option<Box<dyn Committer>>,
        context: OperatorContext,
        site: Site,
    ) -> Self {
        SinkLink {
            writer,
            committer,
            has_ended: false,
            ended_before: false,
            staged: Items::split(),
            context,
            site,
        }
    }
}

impl<T> SinkLink<T> {
    fn stage(&mut self, barrier: Barrier) -> Result<()> {
        let checkpoint = barrier.checkpoint;
        let staged = self.writer.stage(checkpoint)?;
        if self.committer.is_some() {
            self.staged.values.extend(staged.into_iter().map(|staged| (checkpoint, staged)));
            millstream_state::Part::freeze(&mut self.staged, barrier.kind);
        }
        Ok(())
    }

    /// With a committer, what is left is staged for the last checkpoint, which comes after the end.
    fn end(&mut self) -> Result<()> {
        if self.committer.is_none()
            && !self.ended_before
            && !std::mem::replace(&mut self.has_ended, true)
        {
            self.writer.finish()?;
        }
        Ok(())
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let Some(committer) = &mut self.committer else { return Ok(()) };
        let due: Vec<Staged> = self
            .staged
            .values
            .iter()
            .filter(|(staged_for, _)| *staged_for <= checkpoint)
            .map(|(_, staged)| staged.clone())
            .collect();
        if !due.is_empty() {
            committer.commit(&due)?;
            self.staged.values.retain(|(staged_for, _)| *staged_for > checkpoint);
        }
        Ok(())
    }
}

impl<T> Stateful for SinkLink<T> {
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        if self.committer.is_some() {
            visitor.part(STAGED_PART, &mut self.staged)?;
        }
        Ok(())
    }

    fn ended(&mut self) {
        self.ended_before = true;
    }

    fn has_ended(&self) -> bool {
        self.has_ended || self.ended_before
    }

    /// What was staged has been committed before any task was made.
    fn restored(&mut self) -> Result<()> {
        self.staged.values.clear();
        Ok(())
    }

    fn notify(&mut self, notice: Notice) -> Result<()> {
        match notice {
            Notice::Complete(checkpoint) => self.commit(checkpoint),
            Notice::Aborted(_) => Ok(()),
        }
    }
}

impl<T: Send> Push<T> for SinkLink<T> {
    fn open(&mut self) -> Result<()> {
        self.site.enter();
        self.site.locate(self.writer.open(&self.context))
    }

    fn push(&mut self, batch: &mut Batch<T>) -> Result<Flow> {
        if !batch.is_empty() {
            self.ended_before = false;
            self.site.enter();
            self.site.locate(self.writer.write(batch))?;
        }
        batch.clear();
        Ok(Flow::Ready)
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.site.enter();
        let done = match signal {
            Signal::Flush => self.writer.flush(),
            // Nothing comes after it.
            Signal::Barrier(barrier) if barrier.kind.drains() => {
                self.end().and_then(|()| self.stage(barrier))
            }
            Signal::Barrier(barrier) => self.stage(barrier),
            Signal::End => self.end(),
            Signal::Tick(_) | Signal::Idle | Signal::Active => Ok(()),
        };
        self.site.locate(done)?;
        Ok(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        let site = self.site.clone();
        visitor.operator(&site, self)
    }
}
