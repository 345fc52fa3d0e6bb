//! Tasks: what a driver steps.
//!
//! A task is a head (where records come from) and the chain behind it. A step takes at most one batch of
//! input and never blocks: it answers that it was busy, has nothing to do (until a time, or until woken), or
//! waits for room downstream. Whoever makes progress possible wakes it.
//!
//! A task that takes part in checkpoints does not end with its input: it waits until a checkpoint holds what it
//! did at its end, and is released when everybody's end is held.

mod control;
mod head;
mod measures;
mod progress;
mod restore;
mod snapshot;
mod store;
mod visits;

pub use control::Control;
pub use head::{Head, OneGateHead, Polled, TwoGateHead};
pub use measures::{
    ALIGNMENT, BACKPRESSURED, BATCHES_IN, BATCHES_OUT, BUSY, BYTES_OUT, IDLE, Measures, RECORDS_IN,
    RECORDS_OUT, STATE_BYTES, Sent, Taken, WATERMARK,
};
pub use millstream_model::Command;
pub use progress::{NoWake, Progress, Wake, Waker};
pub use restore::Restore;
pub use snapshot::{SnapshotStream, Snapshots};

use crate::chain::{Flow, Notice};
use crate::context::TaskContext;
use crate::metrics::Times;
use measures::Measure;
use millstream_model::job_graph::OperatorId;
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{
    Barrier, CheckpointId, Error, EventTime, MAX_TIME, Place, Result, Signal, SnapshotKind,
};
use millstream_state::snapshot::OperatorSnapshot;
use millstream_state::store::{Backend, Store};
use snapshot::{Slicing, Snapshot, Thaw};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use visits::{HasEnded, Tell, Turn};

/// The metric of a task, under its first operator: how long a checkpoint holds it up at a time, in microseconds. Each
/// barrier (everything is frozen and the barrier sent on) and each slice that is written counts once.
pub const CHECKPOINT_HOLD: &str = "checkpoint_hold_us";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    /// The end of input is on its way through the chain.
    Ending,
    /// Everything is done, but a checkpoint must hold it.
    Ended,
    Done,
}

/// What a task needs to take part in checkpoints.
pub struct Checkpointing {
    /// Number of the task.
    pub task: usize,
    /// Index of its vertex.
    pub vertex: usize,
    /// Where it is told what to do.
    pub control: Arc<Control>,
    /// Where its snapshots go.
    pub snapshots: Arc<dyn Snapshots>,
    /// How long a barrier may wait before it overtakes, in µs, where it may.
    pub aligned_timeout_us: Option<EventTime>,
}

/// A subtask of a vertex. See the module's text.
pub struct Task {
    head: Box<dyn Head>,
    context: TaskContext,
    /// The operators of the chain, by the index their sites note.
    places: Vec<Place>,
    ids: Vec<OperatorId>,
    phase: Phase,
    /// Whether something was pushed since the last flush.
    dirty: bool,
    checkpointing: Option<Checkpointing>,
    restore: Option<Restore>,
    /// What the store is opened by, and the store, if any state lies in one.
    backend: Option<(Backend, usize)>,
    store: Option<Arc<Store>>,
    /// The parts of the operators, once they are known.
    described: Option<Vec<OperatorSnapshot>>,
    snapshot: Option<Snapshot>,
    /// The barrier of a snapshot that was given up is still in the chain: what it freezes is to be let go.
    is_thawing: bool,
    /// A barrier that this task lets into its stream when it can, or takes when its input has ended.
    trigger: Option<Barrier>,
    /// The newest checkpoint it took part in.
    newest: Option<CheckpointId>,
    /// The stop this source has come to: it reads nothing more unless that is given up.
    stop: Option<Barrier>,
    /// The savepoint that it has brought event time to its end for.
    drained: Option<CheckpointId>,
    /// Whether it has done all that it will ever do, but for the end: before a restore, or before a savepoint that drains.
    is_over: bool,
    measures: Measures,
    /// The barrier that some inputs have brought, and since when (µs).
    aligning: Option<(CheckpointId, EventTime)>,
    /// Since when the barrier of this checkpoint has been waiting here (µs).
    waiting: Option<(CheckpointId, EventTime)>,
}

impl Task {
    /// A task that runs `head` and the chain it holds.
    pub fn new(
        head: Box<dyn Head>,
        context: TaskContext,
        places: Vec<Place>,
        ids: Vec<OperatorId>,
    ) -> Self {
        let operator = places.first().map_or("", |place| place.operator.as_str());
        let measures = Measures::new(&context, operator);
        Task {
            head,
            context,
            places,
            ids,
            phase: Phase::New,
            dirty: false,
            checkpointing: None,
            restore: None,
            backend: None,
            store: None,
            described: None,
            snapshot: None,
            is_thawing: false,
            trigger: None,
            newest: None,
            stop: None,
            drained: None,
            is_over: false,
            measures,
            aligning: None,
            waiting: None,
        }
    }

    /// Makes it take part in checkpoints.
    #[must_use]
    pub fn checkpointed(mut self, checkpointing: Checkpointing) -> Self {
        self.checkpointing = Some(checkpointing);
        self
    }

    /// Makes it start from a checkpoint.
    #[must_use]
    pub fn restored_from(mut self, restore: Restore) -> Self {
        self.restore = Some(restore);
        self
    }

    /// Makes its keyed state lie in a store: that of the task with this number.
    #[must_use]
    pub fn stored_in(mut self, backend: Backend, task: usize) -> Self {
        self.backend = Some((backend, task));
        self
    }

    /// Makes sure that all of its state can be kept in a checkpoint, before there is one.
    ///
    /// # Errors
    /// If a state is of a type that cannot.
    pub fn check_state(&mut self) -> Result<()> {
        if self.checkpointing.is_some() {
            self.described = Some(snapshot::describe(&mut *self.head, &self.ids)?);
        }
        Ok(())
    }

    /// The place of the operator whose code ran last: where a panic happened.
    pub fn current_place(&self) -> Place {
        let index = self.context.current().load(Ordering::Relaxed);
        self.places.get(index).cloned().unwrap_or_default()
    }

    /// The task's surroundings.
    pub fn context(&self) -> &TaskContext {
        &self.context
    }

    /// What its time goes into: for whoever steps it to tell.
    pub fn times(&mut self) -> &mut Times {
        &mut self.measures.times
    }

    /// Does one piece of work.
    ///
    /// # Errors
    /// The failure of an operator; the task must not be stepped again.
    pub fn step(&mut self) -> Result<Progress> {
        match self.phase {
            Phase::New => {
                let is_restored = self.restore.is_some();
                self.start()?;
                if is_restored {
                    return Ok(Progress::Restored);
                }
            }
            Phase::Done => return Ok(Progress::Done),
            Phase::Running | Phase::Ending | Phase::Ended => {}
        }
        // Nothing excuses what fails in here: a commit above all.
        match self.obey() {
            Ok(true) => return Ok(Progress::Done),
            Err(error) if !is_planted(Bug::ExcuseCommit) => return Err(error),
            _ => {}
        }
        self.advance().or_else(|error| {
            // Who sends to it may have been released, and gone, after it last looked for its own release.
            if matches!(self.obey(), Ok(true)) { Ok(Progress::Done) } else { Err(error) }
        })
    }

    fn advance(&mut self) -> Result<Progress> {
        self.turn_overdue()?;
        let is_slicing = self.write_slice();
        let flow = self.head.resume()?;
        if flow == Flow::Ready {
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.has_passed = true;
            }
            if std::mem::take(&mut self.is_thawing) {
                self.head.visit(&mut Thaw)?;
            }
        }
        let progress = if flow == Flow::Blocked {
            Progress::Blocked(self.next_tick_us())
        } else {
            self.go_on()?
        };
        Ok(match progress {
            // There is always another slice to write.
            Progress::Idle(_) | Progress::Blocked(_) if is_slicing => Progress::Busy,
            Progress::Idle(until_us) => Progress::Idle(until_us.min(self.overdue_us())),
            Progress::Blocked(until_us) => Progress::Blocked(until_us.min(self.overdue_us())),
            progress => progress,
        })
    }

    /// When the barrier that waits here has waited for too long.
    fn overdue_us(&self) -> EventTime {
        let timeout_us = self.checkpointing.as_ref().and_then(|c| c.aligned_timeout_us);
        match (self.waiting, timeout_us) {
            (Some((_, since_us)), Some(timeout_us)) => since_us.saturating_add(timeout_us),
            _ => MAX_TIME,
        }
    }

    /// Lets a barrier overtake that has waited here for too long: for other inputs, or for room downstream.
    fn turn_overdue(&mut self) -> Result<()> {
        if self.checkpointing.as_ref().is_none_or(|c| c.aligned_timeout_us.is_none()) {
            return Ok(());
        }
        let held_back = self.snapshot.as_ref().filter(|s| !s.has_passed).map(|s| s.barrier);
        let Some(barrier) = self.head.waiting_for().or(held_back) else {
            self.waiting = None;
            return Ok(());
        };
        let now_us = self.context.job().clock.now_us();
        if self.waiting.is_none_or(|(checkpoint, _)| checkpoint != barrier.checkpoint) {
            self.waiting = Some((barrier.checkpoint, now_us));
        }
        if self.overdue_us() <= now_us {
            // Once is enough: what cannot overtake goes on waiting.
            self.waiting = Some((barrier.checkpoint, MAX_TIME));
            self.head.turn(barrier);
            self.head.visit(&mut Turn(barrier))?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        self.head.visit(&mut Measure(&self.measures))?;
        // A checkpoint that cannot be restored now cannot be restored the next time either.
        self.fill().map_err(Error::finally)?;
        self.head.open()?;
        self.phase = Phase::Running;
        Ok(())
    }

    /// Opens the store, and fills the state from the checkpoint, as far as there are any.
    fn fill(&mut self) -> Result<()> {
        let subtask = restore::Subtask {
            ids: &self.ids,
            subtask: self.context.subtask(),
            parallelism: self.context.parallelism(),
            max_parallelism: self.context.max_parallelism(),
        };
        let restore = self.restore.take();
        match &self.backend {
            Some((backend, task)) => {
                let number = (*task, self.context.attempt());
                let restore = restore.as_ref();
                self.store = store::open(backend, number, &mut *self.head, restore, &subtask)?;
                if let Some(store) = &self.store {
                    let waker = self.context.waker().clone();
                    store.when_cut(move || waker.wake());
                }
            }
            None => store::refuse_trees(restore.as_ref(), &subtask)?,
        }
        if let Some(restore) = restore {
            self.is_over = restore::fill(&restore, &mut *self.head, &subtask)?;
        }
        Ok(())
    }

    /// Takes one piece of input, or whatever else is to be done by a task that is not blocked.
    fn go_on(&mut self) -> Result<Progress> {
        match self.phase {
            Phase::Ending if self.checkpointing.is_none() => return self.close(),
            Phase::Ending => {
                self.phase = Phase::Ended;
                if let Some(c) = &self.checkpointing {
                    c.snapshots.ended(c.task);
                }
                return Ok(Progress::Busy);
            }
            Phase::Ended => {
                return match self.trigger.take() {
                    Some(barrier) => self.begin(barrier),
                    None => Ok(Progress::Idle(MAX_TIME)),
                };
            }
            _ => {}
        }
        if self.next_tick_us() != MAX_TIME {
            let now = self.context.now_ms();
            if self.context.next_tick() <= now {
                self.context.clear_ticks();
                self.dirty = true;
                let flow = self.head.signal(Signal::Tick(now))?;
                return Ok(self.after(flow));
            }
        }
        if let Some(barrier) = self.trigger
            && (self.head.is_source() || self.drained == Some(barrier.checkpoint))
            && !self.head.has_unsent()
        {
            return self.begin_or_drain(barrier);
        }
        if self.stop.is_some() {
            return self.rest(MAX_TIME);
        }
        match self.head.poll()? {
            Polled::Took(flow) => {
                self.dirty = true;
                self.look_whether_over()?;
                self.note_waiting();
                Ok(self.after(flow))
            }
            Polled::Barrier(barrier) => {
                let waited = self.aligning.take().filter(|(c, _)| *c == barrier.checkpoint);
                let us = waited.map_or(0, |(_, since_us)| self.now_us().saturating_sub(since_us));
                self.measures.aligned(us);
                self.begin_or_drain(barrier)
            }
            Polled::Nothing { until_us } => self.rest(until_us),
            Polled::End => {
                self.phase = Phase::Ending;
                let flow = self.head.end()?;
                Ok(self.after(flow))
            }
        }
    }

    /// There is nothing to take: sends on what is buffered, and then waits.
    fn rest(&mut self, until_us: EventTime) -> Result<Progress> {
        if std::mem::take(&mut self.dirty) {
            let flow = self.head.signal(Signal::Flush)?;
            return Ok(self.after(flow));
        }
        Ok(Progress::Idle(until_us.min(self.next_tick_us())))
    }

    fn close(&mut self) -> Result<Progress> {
        self.head.close()?;
        self.phase = Phase::Done;
        Ok(Progress::Done)
    }

    /// Does what it was told; whether that was to end.
    fn obey(&mut self) -> Result<bool> {
        while let Some(command) = self.checkpointing.as_ref().and_then(|c| c.control.take()) {
            match command {
                // The barrier may have come through the inputs before this was heard of.
                Command::Barrier(barrier) if self.newest >= Some(barrier.checkpoint) => {}
                Command::Barrier(barrier) => self.trigger = Some(barrier),
                Command::Notice(notice) => {
                    if let Notice::Aborted(checkpoint) = notice {
                        self.check_drained(checkpoint)?;
                        let is_given_up = |b: &Barrier| b.checkpoint <= checkpoint;
                        self.trigger.take_if(|b| is_given_up(b));
                        self.stop.take_if(|b| is_given_up(b));
                        self.head.cancel(checkpoint);
                        if let Some(snapshot) = self.snapshot.take_if(|s| is_given_up(&s.barrier)) {
                            self.is_thawing = !snapshot.has_passed;
                            self.head.visit(&mut Thaw)?;
                        }
                    }
                    self.head.visit(&mut Tell(notice))?;
                }
                Command::Release(checkpoint) => {
                    self.head.visit(&mut Tell(Notice::Complete(checkpoint)))?;
                    self.close()?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Notes since when inputs wait for a barrier, if they do.
    fn note_waiting(&mut self) {
        if self.checkpointing.is_some()
            && let Some(barrier) = self.head.waiting_for()
            && self.aligning.is_none_or(|(checkpoint, _)| checkpoint != barrier.checkpoint)
        {
            self.aligning = Some((barrier.checkpoint, self.now_us()));
        }
    }

    /// Notes how long a checkpoint has held this task up.
    fn note_hold(&mut self, since_us: EventTime) {
        self.measures.held(self.now_us().saturating_sub(since_us));
    }

    fn now_us(&self) -> EventTime {
        self.context.job().clock.now_us()
    }

    /// Before some barriers whoever reads brings event time to its end: then it is asked again.
    fn begin_or_drain(&mut self, barrier: Barrier) -> Result<Progress> {
        if barrier.kind.drains() && self.head.is_reader() && self.drained.is_none() {
            self.drained = Some(barrier.checkpoint);
            self.trigger = Some(barrier);
            let flow = self.head.drain()?;
            return Ok(self.after(flow));
        }
        self.begin(barrier)
    }

    /// What has seen the end of event time cannot go on as if it had not.
    fn check_drained(&self, given_up: CheckpointId) -> Result<()> {
        match self.drained {
            Some(savepoint) if savepoint <= given_up => Err(Error::external(format!(
                "event time was brought to its end for savepoint {savepoint}, which failed: the job goes back to its newest \
                 checkpoint"
            ))),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, barrier: Barrier) -> Result<Progress> {
        let since_us = self.now_us();
        let progress = self.take_checkpoint(barrier);
        self.note_hold(since_us);
        progress
    }

    /// Who was restored as ended, and gets records all the same, has not.
    fn look_whether_over(&mut self) -> Result<()> {
        if self.is_over && self.drained.is_none() {
            let mut all = HasEnded(true);
            self.head.visit(&mut all)?;
            self.is_over = all.0;
        }
        Ok(())
    }

    /// Takes a checkpoint: everything so far belongs to it.
    fn take_checkpoint(&mut self, barrier: Barrier) -> Result<Progress> {
        self.trigger.take_if(|trigger| trigger.checkpoint <= barrier.checkpoint);
        self.newest = self.newest.max(Some(barrier.checkpoint));
        if self.head.is_reader() && matches!(barrier.kind, SnapshotKind::Stop { .. }) {
            self.stop = Some(barrier);
        }
        if self.drained.is_some_and(|drained| drained < barrier.checkpoint) {
            // None is begun behind one that has drained, unless that was given up and nobody could say so here.
            self.check_drained(barrier.checkpoint)?;
        }
        if barrier.kind.drains() && self.phase != Phase::Ended {
            self.drained = Some(barrier.checkpoint);
            self.is_over = true;
        }
        // One that is still being written was given up by whoever sent the next one.
        if self.snapshot.take().is_some() {
            self.head.visit(&mut Thaw)?;
        }
        let described = match self.described.take() {
            Some(described) => Ok(described),
            None => snapshot::describe(&mut *self.head, &self.ids),
        };
        let flow = self.head.barrier(barrier)?;
        self.look_whether_over()?;
        let Some(checkpointing) = &self.checkpointing else { return Ok(self.after(flow)) };
        let stream = checkpointing.snapshots.begin(checkpointing.task, barrier);
        match described {
            Ok(described) => {
                self.described = Some(described.clone());
                let ended = self.is_over || self.phase == Phase::Ended;
                let mut snapshot = Snapshot::new(barrier, ended, stream, described);
                snapshot.has_passed = flow == Flow::Ready;
                snapshot.may_have_more = self.phase != Phase::Ended;
                self.snapshot = Some(snapshot);
            }
            Err(error) => {
                stream.fail(error);
                self.is_thawing = flow == Flow::Blocked;
                self.head.visit(&mut Thaw)?;
            }
        }
        self.dirty = true;
        Ok(self.after(flow))
    }

    /// Writes a slice of the snapshot, if there is one to be written; whether there is more.
    fn write_slice(&mut self) -> bool {
        if !self.snapshot.as_ref().is_some_and(Snapshot::is_ready) {
            return false;
        }
        // The cut of one that was given up may not be done; the task is woken when it is.
        if self.store.as_ref().is_some_and(|store| store.is_cutting()) {
            return false;
        }
        let since_us = self.now_us();
        let has_more = self.write_ready_slice();
        self.note_hold(since_us);
        has_more
    }

    fn write_ready_slice(&mut self) -> bool {
        let Some(snapshot) = &mut self.snapshot else { return false };
        match snapshot.write_slice(&mut *self.head) {
            Ok(Slicing::More) => return true,
            Ok(Slicing::Waiting) => {}
            Ok(Slicing::Done) => {
                let cut = self.store.as_ref().map(|store| store.cut()).transpose();
                if let (Some(snapshot), Some(c)) = (self.snapshot.take(), &self.checkpointing) {
                    match cut {
                        Ok(cut) => {
                            self.measures.wrote(snapshot.n_bytes());
                            snapshot.finish(c.vertex, self.context.subtask(), cut);
                        }
                        Err(error) => self.fail_snapshot(snapshot, error),
                    }
                }
            }
            Err(error) => {
                if let Some(snapshot) = self.snapshot.take() {
                    self.fail_snapshot(snapshot, error);
                }
            }
        }
        false
    }

    fn fail_snapshot(&mut self, snapshot: Snapshot, error: Error) {
        snapshot.fail(error);
        // Thawing cannot fail.
        let _ = self.head.visit(&mut Thaw);
    }

    /// When its operators want to hear of time. When they are over they do not.
    fn next_tick_us(&self) -> EventTime {
        if self.is_over { MAX_TIME } else { self.context.next_tick().saturating_mul(1000) }
    }

    fn after(&self, flow: Flow) -> Progress {
        match flow {
            Flow::Ready => Progress::Busy,
            Flow::Blocked => Progress::Blocked(self.next_tick_us()),
        }
    }
}
