//! The tasks of a pipeline under test, whatever its types: stepped in turn on the calling thread, thrown away and
//! made anew from snapshots.

use super::snapshot::{Shelf, Snapshot};
use super::surroundings::{Bell, ManualClock, PATIENCE};
use crate::compile;
use crate::config::Config;
use crate::environment::Environment;
use crate::local::{
    Attempt, Begin, Mailboxes, Neighbours, Prepared, Program, assemble, open_backend, prepare,
};
use millstream_jobmanager::job::{check_fit, vertices};
use millstream_model::{CheckpointId, CheckpointMode, Error, Result};
use millstream_runtime::chain::Notice;
use millstream_runtime::context::{Clock, JobContext};
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::task::{Command, Control, Progress, Task, Waker};
use millstream_state::lsm::MemoryBudget;
use millstream_state::lsm::model::ModelEngine;
use millstream_state::snapshot::{CheckpointStorage, MemoryStorage};
use millstream_state::store::Backend;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory of trees in the modes that have some: next to nothing, so that their caches let go what they can.
const MODEL_MEMORY: usize = 256;
const MODEL_MEMTABLE: usize = 128;

pub(super) struct Pipeline {
    program: Program,
    job: Arc<JobContext>,
    pub(super) clock: Arc<ManualClock>,
    bell: Arc<Bell>,
    memory: Arc<MemoryPool>,
    /// What keeps the state, if that is not memory alone.
    backend: Option<Backend>,
    /// Where snapshots go.
    storage: Arc<dyn CheckpointStorage>,
    shelf: Shelf,
    controls: Vec<Arc<Control>>,
    tasks: Vec<Option<Task>>,
    attempt: u32,
    /// Number of the newest snapshot.
    newest: CheckpointId,
    /// Whether one is under way.
    is_pending: bool,
    /// The one that holds the end of everything.
    last: Option<Snapshot>,
}

impl Pipeline {
    /// The pipeline that was built in `env`. Its keyed state lies where the configuration says, or in trees that are
    /// modelled in memory.
    pub(super) fn new(env: &Environment, is_in_trees: bool) -> Result<Self> {
        let (graph, config) = env.take_program()?;
        let backend = if is_in_trees { Some(modelled()) } else { open_backend(&config)? };
        let compiled = compile::compile(&graph, &config, "harness")?;
        let clock = Arc::new(ManualClock::default());
        let job = Arc::new(JobContext {
            name: "harness".into(),
            parameters: config.parameters.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            registry: Default::default(),
            alignment: Default::default(),
            batch_size: config.batch_size,
            checkpoints: Some(CheckpointMode::ExactlyOnce),
        });
        let storage: Arc<dyn CheckpointStorage> = Arc::new(MemoryStorage::new());
        let mut pipeline = Pipeline {
            shelf: Shelf::new(Arc::clone(&storage), Vec::new(), 0, None, None),
            backend,
            storage,
            program: Program { graph, compiled, config },
            job,
            clock,
            bell: Arc::default(),
            memory: Arc::new(MemoryPool::new(Config::default().network_memory)),
            controls: Vec::new(),
            tasks: Vec::new(),
            attempt: 0,
            newest: CheckpointId(0),
            is_pending: false,
            last: None,
        };
        pipeline.start(Begin::Fresh)?;
        Ok(pipeline)
    }

    fn start(&mut self, begin: Begin) -> Result<()> {
        let waker = Arc::clone(&self.bell) as Waker;
        let n_tasks = self.program.compiled.graph.n_tasks();
        self.tasks.clear();
        let own = match &begin {
            Begin::At(restore) if Arc::ptr_eq(&restore.storage, &self.storage) => {
                Some(&*restore.manifest)
            }
            _ => None,
        };
        let (storage, backend) = (Arc::clone(&self.storage), self.backend.as_ref());
        let wakers = (0..n_tasks).map(|_| Arc::clone(&waker)).collect();
        // What those of an earlier attempt wrote is not looked at any more.
        self.shelf = Shelf::new(storage, wakers, self.attempt, backend, own);
        self.controls = (0..n_tasks).map(|_| Arc::new(Control::new(Arc::clone(&waker)))).collect();
        let controls = self.controls.clone();
        let mailboxes = move |task: usize| controls.get(task).cloned();
        let snapshots = Some((self.shelf.entrance(), &mailboxes as &Mailboxes));
        let all: Vec<usize> = (0..self.program.compiled.graph.n_tasks()).collect();
        let mut prepared = Prepared::new();
        prepare(&self.program, &begin, None, &mut prepared)?;
        let (number, neighbours) = (self.attempt, &Neighbours::none(&all));
        let attempt = Attempt { number, begin, snapshots, backend, neighbours };
        let waker = |_| Arc::clone(&waker);
        let tasks = assemble(&self.program, &self.job, &attempt, &prepared, &waker, &self.memory)?;
        self.attempt += 1;
        self.tasks = tasks.into_iter().map(|(_, task)| Some(task)).collect();
        Ok(())
    }

    pub(super) fn is_finished(&self) -> bool {
        self.tasks.iter().all(Option::is_none)
    }

    pub(super) fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Lets it run until it has nothing to do, and lets it go if it has come to its end.
    pub(super) fn run(&mut self) -> Result<()> {
        self.step_all()?;
        if !self.is_pending && !self.is_finished() && self.shelf.n_ended() == self.tasks.len() {
            self.begin_snapshot()?;
            self.last = Some(self.complete_snapshot()?);
            self.tell(Command::Release(self.newest));
            self.step_all()?;
        }
        Ok(())
    }

    fn step_all(&mut self) -> Result<()> {
        loop {
            let (mut busy, mut waiting) = (false, false);
            for slot in &mut self.tasks {
                let Some(task) = slot else { continue };
                let progress = task.step()?;
                waiting |= task.context().n_calls() > 0;
                match progress {
                    Progress::Busy | Progress::Restored => busy = true,
                    // Its time may have come while it was busy with something else.
                    Progress::Idle(until_us) => busy |= until_us <= self.clock.now_us(),
                    Progress::Blocked(_) => waiting = true,
                    Progress::Done => {
                        *slot = None;
                        busy = true;
                    }
                }
            }
            if busy | self.shelf.work() {
                continue;
            }
            if !waiting {
                return Ok(());
            }
            if !self.bell.wait() {
                return Err(Error::user(format!(
                    "nothing came back within {PATIENCE:?} of a call under way"
                )));
            }
        }
    }

    fn tell(&self, command: Command) {
        self.controls.iter().for_each(|control| control.send(command));
    }

    /// Freezes everything as it is; what was given and not read comes after that.
    pub(super) fn begin_snapshot(&mut self) -> Result<()> {
        self.newest.0 += 1;
        self.is_pending = true;
        self.shelf.begin(self.newest, &self.controls);
        self.step_all()
    }

    /// Writes what was frozen.
    pub(super) fn complete_snapshot(&mut self) -> Result<Snapshot> {
        self.shelf.release();
        self.step_all()?;
        let vertices = vertices(&self.program.compiled.graph);
        let snapshot = self.shelf.complete(vertices, self.tasks.len())?;
        self.is_pending = false;
        self.tell(Command::Notice(Notice::Complete(self.newest)));
        self.step_all()?;
        Ok(snapshot)
    }

    /// Gives up the snapshot under way.
    pub(super) fn abort_snapshot(&mut self) {
        self.is_pending = false;
        self.tell(Command::Notice(Notice::Aborted(self.newest)));
    }

    /// The snapshot of a pipeline that has come to its end.
    pub(super) fn last_snapshot(&self) -> Option<&Snapshot> {
        self.last.as_ref().filter(|_| self.is_finished())
    }

    /// Begins anew from a snapshot, with another parallelism if one is given.
    pub(super) fn restore(
        &mut self,
        snapshot: &Snapshot,
        parallelism: Option<usize>,
    ) -> Result<()> {
        let Program { graph, compiled, config } = &mut self.program;
        if let Some(parallelism) = parallelism {
            config.parallelism = parallelism;
            *compiled = compile::compile(graph, config, "harness")?;
        }
        check_fit(&compiled.graph, &snapshot.0, "the snapshot")?;
        self.newest = self.newest.max(snapshot.0.manifest.id);
        self.is_pending = false;
        self.start(Begin::At(snapshot.0.clone()))
    }
}

/// Trees that are modelled in memory, beneath caches that hold next to nothing.
fn modelled() -> Backend {
    static N_OPENED: AtomicU64 = AtomicU64::new(0);
    Backend::new(
        Arc::new(ModelEngine::new(MODEL_MEMTABLE)),
        MemoryBudget::new(MODEL_MEMORY),
        Path::new("harness-trees").to_owned(),
        format!("harness-{}", N_OPENED.fetch_add(1, Ordering::Relaxed)),
    )
}
