//! A job in a simulated world: everything that runs in an embedded job, stepped one action at a time.
//!
//! What runs is the program's own: the graph it builds, its tasks, gates and chains, the scheduler and the
//! coordinator, the writers of snapshots. What is missing is whatever a seed could not repeat: threads, clocks,
//! disks. A [`Process`] says which [`Action`]s could happen next, as they could on threads (a task's turn, a block
//! on its way to storage, an answer on its way back, an alarm), and does the one that it is told. So whoever
//! chooses, chooses the history; and dropping a process at any point is a crash at that point.
//!
//! The choice, the faults and the checks are not here: they belong to the tests.

mod process;

pub use process::{Action, Process, Savepoint};

use super::surroundings::ManualClock;
use millstream_jobmanager::job::OpenStorage;
use millstream_model::{EventTime, Result};
use millstream_runtime::context::Clock;
use millstream_state::snapshot::CheckpointStorage;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What outlives a process: time, and the storages of checkpoints.
#[derive(Clone)]
pub struct World {
    clock: Arc<ManualClock>,
    open_storage: OpenStorage,
    n_parts: Arc<AtomicU64>,
}

impl World {
    /// A world at time 0, in which `open_storage` gives the storage that a folder (`checkpoint-dir`, that of a
    /// savepoint) stands for.
    pub fn new(
        open_storage: impl Fn(&Path) -> Result<Arc<dyn CheckpointStorage>> + Send + Sync + 'static,
    ) -> Self {
        let open_storage = Arc::new(open_storage);
        World { clock: Arc::default(), open_storage, n_parts: Arc::default() }
    }

    /// How often a part of a job came back while the rest went on.
    pub fn n_parts(&self) -> u64 {
        self.n_parts.load(Ordering::SeqCst)
    }

    /// What time it is, in µs.
    pub fn now_us(&self) -> EventTime {
        self.clock.now_us()
    }

    /// Lets time pass until this moment, unless it has.
    pub fn advance_to(&self, time_us: EventTime) {
        self.clock.0.fetch_max(time_us, Ordering::SeqCst);
    }
}
