//! Runs tasks in this process: those of a whole job, or those of a job in a cluster that were placed here.
//!
//! What stays over the attempts of a job (its settings, metrics, the memory for records under way, what keeps the
//! state) is here; tasks are deployed, cancelled and closed as whoever decides says. An attempt may be of some of the tasks, while
//! others go on in the one before.

use super::Program;
use super::assemble::{Attempt, Begin, Mailboxes, Prepared, assemble, prepare};
use super::backend;
use super::neighbours::Neighbours;
use crossbeam_channel::{Receiver, Sender, unbounded};
use millstream_jobmanager::job::{Participants, Target};
use millstream_model::{CheckpointId, Command, Error, Notice, Result};
use millstream_runtime::context::{Clock, JobContext};
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::task::{Control, Snapshots};
use millstream_state::snapshot::Manifest;
use millstream_state::store::Backend;
use millstream_taskmanager::host::{HostEvent, Running, TaskHost};
use millstream_taskmanager::uploads::{self, SnapshotEvent, Uploads};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// See the module's text.
pub(crate) struct Runner {
    pub(crate) program: Program,
    pub(crate) job: Arc<JobContext>,
    pub(crate) memory: Arc<MemoryPool>,
    /// What keeps the state, if that is not memory alone.
    backend: Option<Backend>,
    /// What tasks say of their snapshots, with their attempt.
    snapshots: (Sender<(u32, SnapshotEvent)>, Receiver<(u32, SnapshotEvent)>),
    /// What becomes of tasks, with their attempt.
    events: (Sender<(u32, HostEvent)>, Receiver<(u32, HostEvent)>),
    /// The attempts of which tasks are not closed.
    running: BTreeMap<u32, Attempted>,
}

/// An attempt's tasks.
struct Attempted {
    running: Running,
    /// Those that are not closed.
    open: BTreeSet<usize>,
    /// By the task's number.
    controls: Vec<(usize, Arc<Control>)>,
}

impl Runner {
    /// Runs nothing yet.
    pub(crate) fn new(program: Program, clock: Arc<dyn Clock>) -> Result<Self> {
        let backend = backend::open(&program.config)?;
        let takes_checkpoints = program.config.checkpoint_dir.is_some();
        let job = Arc::new(JobContext {
            name: program.compiled.graph.name.clone(),
            parameters: program.config.parameters.clone(),
            clock,
            registry: Default::default(),
            alignment: Default::default(),
            batch_size: program.config.batch_size,
            checkpoints: takes_checkpoints.then(|| program.config.mode()),
        });
        let memory = Arc::new(MemoryPool::new(program.config.network_memory));
        Ok(Runner {
            program,
            job,
            memory,
            backend,
            snapshots: unbounded(),
            events: unbounded(),
            running: BTreeMap::new(),
        })
    }

    /// Runs what must happen once before any task of an attempt exists, or of a part of one.
    pub(crate) fn prepare(
        &self,
        begin: &Begin,
        part: Option<&[usize]>,
        prepared: &mut Prepared,
    ) -> Result<()> {
        prepare(&self.program, begin, part, prepared)
    }

    /// Runs tasks of an attempt. `own` is what it begins at, if that is the job's own, so that its files may be
    /// named again.
    pub(crate) fn deploy(
        &mut self,
        attempt: u32,
        begin: Begin,
        own: Option<&Manifest>,
        prepared: &Prepared,
        neighbours: &Neighbours<'_>,
    ) -> Result<LocalTasks> {
        let n_tasks = self.program.compiled.graph.n_tasks();
        let open = neighbours.here().clone();
        let host = TaskHost::new(self.program.config.driver(), n_tasks, &open);
        let mut local = LocalTasks { uploads: None, controls: Vec::new() };
        if self.job.checkpoints.is_some() {
            let control = |task| (task, Arc::new(Control::new(host.waker(task))));
            local.controls = open.iter().copied().map(control).collect();
            let wakers = (0..n_tasks).map(|t| host.waker(t)).collect();
            let (backend, events) = (self.backend.as_ref(), self.snapshots.0.clone());
            let uploads = Uploads::start(wakers, open.len(), attempt, backend, own, events)?;
            local.uploads = Some(Arc::new(uploads));
        }
        let uploads = local.uploads.as_ref();
        let controls = local.controls.clone();
        let mailboxes =
            move |task| controls.iter().find(|(t, _)| *t == task).map(|(_, c)| Arc::clone(c));
        let snapshots =
            uploads.map(|u| (Arc::clone(u) as Arc<dyn Snapshots>, &mailboxes as &Mailboxes));
        let backend = self.backend.as_ref();
        let number = attempt;
        let attempt = Attempt { number, begin, snapshots, backend, neighbours };
        let waker = |task| host.waker(task);
        let tasks = assemble(&self.program, &self.job, &attempt, prepared, &waker, &self.memory)?;
        neighbours.connect()?;
        let (clock, events) = (Arc::clone(&self.job.clock), self.events.0.clone());
        let running = host.start(tasks, clock, number, events).map_err(|e| {
            Error::external("the system refused a thread for the job's tasks").caused_by(e)
        })?;
        let controls = local.controls.clone();
        self.running.insert(number, Attempted { running, open, controls });
        Ok(local)
    }

    /// What becomes of the tasks, with their attempt.
    pub(crate) fn task_events(&self) -> &Receiver<(u32, HostEvent)> {
        &self.events.1
    }

    /// What becomes of snapshots, with the attempt.
    pub(crate) fn snapshot_events(&self) -> &Receiver<(u32, SnapshotEvent)> {
        &self.snapshots.1
    }

    /// Lets the tasks of an attempt go on, which have restored their state.
    pub(crate) fn go(&self, attempt: u32) {
        if let Some(attempted) = self.running.get(&attempt) {
            attempted.running.admit(attempted.open.iter().copied());
        }
    }

    /// Ends tasks at their next step.
    pub(crate) fn cancel(&self, tasks: &[usize]) {
        for attempted in self.running.values() {
            attempted.running.cancel(tasks.iter().copied().filter(|t| attempted.open.contains(t)));
        }
    }

    /// Tasks have answered: lets go what is left of them, and waits for the threads that served no others. If they are to
    /// run `again`, what they have accumulated does not count.
    pub(crate) fn close(&mut self, tasks: &[usize], again: bool) {
        for attempted in self.running.values_mut() {
            let is_mine = |task: &usize| attempted.open.contains(task);
            let mine: Vec<usize> = tasks.iter().copied().filter(is_mine).collect();
            attempted.running.drop_tasks(mine.iter().copied());
            let closed = attempted.controls.extract_if(.., |(task, _)| mine.contains(task));
            closed.for_each(|(_, control)| control.close());
            attempted.open.retain(|task| !mine.contains(task));
        }
        let over = self.running.iter().filter(|(_, attempted)| attempted.open.is_empty());
        for number in over.map(|(number, _)| *number).collect::<Vec<u32>>() {
            if let Some(attempted) = self.running.remove(&number) {
                attempted.running.join();
            }
        }
        if again {
            self.job.registry.forget_accumulators(tasks);
        }
    }
}

/// The tasks of an attempt that run here, as far as checkpoints are concerned.
pub(crate) struct LocalTasks {
    pub(crate) uploads: Option<Arc<Uploads>>,
    /// By the task's number.
    pub(crate) controls: Vec<(usize, Arc<Control>)>,
}

impl Participants for LocalTasks {
    fn aim(&mut self, checkpoint: CheckpointId, target: &Target) {
        if let Some(uploads) = &self.uploads {
            let storage = Arc::clone(&target.storage);
            uploads
                .aim(checkpoint, uploads::Target { storage, folder: target.folder.folder.clone() });
        }
    }

    fn tell(&mut self, command: Command) {
        match (command, &self.uploads) {
            (
                Command::Notice(Notice::Complete(checkpoint)) | Command::Release(checkpoint),
                Some(uploads),
            ) => uploads.complete(checkpoint),
            (Command::Notice(Notice::Aborted(checkpoint)), Some(uploads)) => {
                uploads.aborted(checkpoint);
            }
            _ => {}
        }
        self.controls.iter().rev().for_each(|(_, control)| control.send(command));
    }
}
