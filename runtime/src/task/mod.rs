//! Tasks: what a driver steps.
//!
//! A task is a head (where records come from) and the chain behind it. A step takes at most one batch of
//! input and never blocks: it answers that it was busy, has nothing to do (until a time, or until woken), or
//! waits for room downstream. Whoever makes progress possible wakes it.

mod head;

pub use head::{Head, OneGateHead, Polled, TwoGateHead};

use crate::chain::Flow;
use crate::context::TaskContext;
use millstream_model::{EventTime, MAX_TIME, Place, Result, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Wakes a task that answered `Idle` or `Blocked`.
pub trait Wake: Send + Sync {
    /// Makes sure the task is stepped again, soon.
    fn wake(&self);
}

/// See [`Wake`].
pub type Waker = Arc<dyn Wake>;

/// A waker for tasks that somebody steps anyway: tests and harnesses.
#[derive(Debug, Default)]
pub struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Step again at once.
    Busy,
    /// Nothing to do until woken, or until this processing time (µs).
    Idle(EventTime),
    /// Waits for room downstream; it will be woken (or stepped at this processing time, µs).
    Blocked(EventTime),
    /// Finished: all input taken, all output sent, operators closed.
    Done,
}

enum Phase {
    New,
    Running,
    /// The end of input is on its way through the chain.
    Ending,
    Done,
}

/// A subtask of a vertex. See the module's text.
pub struct Task {
    head: Box<dyn Head>,
    context: TaskContext,
    /// The operators of the chain, by the index their sites note.
    places: Vec<Place>,
    phase: Phase,
    /// Whether something was pushed since the last flush.
    dirty: bool,
}

impl Task {
    /// A task that runs `head` and the chain it holds.
    pub fn new(head: Box<dyn Head>, context: TaskContext, places: Vec<Place>) -> Self {
        Task { head, context, places, phase: Phase::New, dirty: false }
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

    /// Does one piece of work.
    ///
    /// # Errors
    /// The failure of an operator; the task must not be stepped again.
    pub fn step(&mut self) -> Result<Progress> {
        match self.phase {
            Phase::New => {
                self.head.open()?;
                self.phase = Phase::Running;
            }
            Phase::Done => return Ok(Progress::Done),
            Phase::Running | Phase::Ending => {}
        }
        if self.head.resume()? == Flow::Blocked {
            return Ok(Progress::Blocked(self.next_tick_us()));
        }
        if matches!(self.phase, Phase::Ending) {
            self.head.close()?;
            self.phase = Phase::Done;
            return Ok(Progress::Done);
        }
        if self.context.next_tick() != MAX_TIME {
            let now = self.context.now_ms();
            if self.context.next_tick() <= now {
                self.context.clear_ticks();
                self.dirty = true;
                let flow = self.head.signal(Signal::Tick(now))?;
                return Ok(self.after(flow));
            }
        }
        match self.head.poll()? {
            Polled::Took(flow) => {
                self.dirty = true;
                Ok(self.after(flow))
            }
            Polled::Nothing { until_us } => {
                if std::mem::take(&mut self.dirty) {
                    let flow = self.head.signal(Signal::Flush)?;
                    return Ok(self.after(flow));
                }
                Ok(Progress::Idle(until_us.min(self.next_tick_us())))
            }
            Polled::End => {
                self.phase = Phase::Ending;
                let flow = self.head.end()?;
                Ok(self.after(flow))
            }
        }
    }

    fn next_tick_us(&self) -> EventTime {
        self.context.next_tick().saturating_mul(1000)
    }

    fn after(&self, flow: Flow) -> Progress {
        match flow {
            Flow::Ready => Progress::Busy,
            Flow::Blocked => Progress::Blocked(self.next_tick_us()),
        }
    }
}
