//! Task managers and their slots: who is there, who has what, who waits.
//!
//! A pure machine, the [`SlotPool`]. A job is given all the slots it asks for or none. While it waits it holds
//! nothing but those in which a part of it goes on, so that two jobs that each have half of what they need cannot wait for each other; when its turn comes
//! it is given the slots it had before, if they are still there. Jobs are served in the order in which they first
//! asked, and nobody overtakes: a large job is not starved by small ones, and one that has run and lost a slot
//! comes before those that never ran.
//!
//! Slots of a task manager whose session broke are not granted any more from that moment on. Whether it is *lost*
//! then, or may come back for a while, is the [`Config`]'s: without a grace a killed process is noticed at once,
//! with one a connection that was merely cut restarts nothing.

mod placement;
mod pool;

pub use placement::Placement;
pub use pool::{Presence, SlotPool, TaskManagerView};

use millstream_model::Error;
use millstream_proto::message::{JobId, TaskManagerId};

/// What a pool goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which of the free slots a job is given.
    pub placement: Placement,
    /// A task manager that says nothing for so long, in ms, is lost.
    pub timeout_ms: u64,
    /// How long after its session broke a task manager may come back, in ms.
    pub reconnect_grace_ms: u64,
    /// How long a task manager may take, in ms, to find a new leader that knows of it.
    pub reattach_timeout_ms: u64,
}

/// What happens to slots.
#[derive(Clone, Debug)]
pub enum Input {
    /// A job of a former leader has these slots: one entry a slot, the task manager it is on.
    Adopted {
        /// The job.
        job: JobId,
        /// Its slots.
        slots: Vec<TaskManagerId>,
    },
    /// A task manager has begun a session, perhaps not its first.
    Joined {
        /// Which.
        id: TaskManagerId,
        /// How many slots it offers.
        n_slots: usize,
    },
    /// A task manager said something.
    Heard {
        /// Which.
        id: TaskManagerId,
    },
    /// The session of a task manager ended.
    Broke {
        /// Which.
        id: TaskManagerId,
        /// How.
        error: Error,
    },
    /// A job asks for slots: as many in all. Those it has are included, where they are still there.
    Requested {
        /// The job.
        job: JobId,
        /// How many.
        n_slots: usize,
        /// Those of its slots that tasks run in: it keeps them while it waits, where they are still there.
        in_use: Vec<TaskManagerId>,
    },
    /// A job is over.
    Released {
        /// The job.
        job: JobId,
    },
    /// Time has passed.
    Tick,
}

/// What is to be told.
#[derive(Debug)]
pub enum Effect {
    /// The job has the slots it asked for: one entry a slot, the task manager it is on.
    Granted {
        /// The job.
        job: JobId,
        /// Its slots.
        slots: Vec<TaskManagerId>,
    },
    /// The job waits; so many slots are missing, for it and those before it. Told again when that changes.
    Missing {
        /// The job.
        job: JobId,
        /// How many.
        n_slots: usize,
    },
    /// A task manager is gone: its session, if there is one, is to end.
    Lost {
        /// Which.
        id: TaskManagerId,
        /// How.
        error: Error,
    },
    /// Send a `Tick` at this time, instead of at any named before.
    WakeAt(u64),
}

#[cfg(test)]
mod tests;
