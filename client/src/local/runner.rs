//! Runs tasks in this process: those of a whole job, or those of a job in a cluster that were placed here.
//!
//! What stays over the attempts of a job (its settings, metrics, the memory for records under way, what keeps the
//! state) is here; an attempt is deployed, cancelled and closed as whoever decides says.

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
use millstream_taskmanager::host::{Running, TaskEvent, TaskHost};
use millstream_taskmanager::uploads::{self, SnapshotEvent, Uploads};
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
    running: Option<(Running, Receiver<TaskEvent>)>,
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
        Ok(Runner { program, job, memory, backend, snapshots: unbounded(), running: None })
    }

    /// Runs what must happen once before any task of an attempt exists.
    pub(crate) fn prepare(&self, begin: &Begin) -> Result<Prepared> {
        prepare(&self.program, begin)
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
        self.job.registry.forget_accumulators();
        let host = TaskHost::new(self.program.config.driver(), n_tasks);
        let mut local = LocalTasks { uploads: None, controls: Vec::new() };
        let here = (0..n_tasks).filter(|task| neighbours.is_here(*task));
        if self.job.checkpoints.is_some() {
            let control = |task| (task, Arc::new(Control::new(host.waker(task))));
            local.controls = here.map(control).collect();
            let wakers = (0..n_tasks).map(|t| host.waker(t)).collect();
            let (backend, events) = (self.backend.as_ref(), self.snapshots.0.clone());
            local.uploads = Some(Arc::new(Uploads::start(wakers, attempt, backend, own, events)?));
        }
        let uploads = local.uploads.as_ref();
        let controls = local.controls.clone();
        let mailboxes =
            move |task| controls.iter().find(|(t, _)| *t == task).map(|(_, c)| Arc::clone(c));
        let snapshots =
            uploads.map(|u| (Arc::clone(u) as Arc<dyn Snapshots>, &mailboxes as &Mailboxes));
        let backend = self.backend.as_ref();
        let attempt = Attempt { number: attempt, begin, snapshots, backend, neighbours };
        let waker = |task| host.waker(task);
        let tasks = assemble(&self.program, &self.job, &attempt, prepared, &waker, &self.memory)?;
        neighbours.connect()?;
        let (events, inbox) = unbounded();
        let running = host.start(tasks, Arc::clone(&self.job.clock), events).map_err(|e| {
            Error::external("the system refused a thread for the job's tasks").caused_by(e)
        })?;
        self.running = Some((running, inbox));
        Ok(local)
    }

    /// What becomes of the tasks that run, if any do.
    pub(crate) fn task_events(&self) -> Option<&Receiver<TaskEvent>> {
        self.running.as_ref().map(|(_, events)| events)
    }

    /// What becomes of snapshots, with the attempt.
    pub(crate) fn snapshot_events(&self) -> &Receiver<(u32, SnapshotEvent)> {
        &self.snapshots.1
    }

    /// Ends all tasks at their next step.
    pub(crate) fn cancel(&self) {
        if let Some((running, _)) = &self.running {
            running.cancel();
        }
    }

    /// Every task has answered: waits for the threads.
    pub(crate) fn close(&mut self) {
        if let Some((running, _)) = self.running.take() {
            running.join();
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(backend) = &self.backend {
            // What is left lies among the system's temporary files, unless the user said otherwise.
            let _ = std::fs::remove_dir_all(&backend.dir);
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
            (Command::Notice(Notice::Complete(checkpoint)), Some(uploads)) => {
                uploads.complete(checkpoint);
            }
            (Command::Notice(Notice::Aborted(checkpoint)), Some(uploads)) => {
                uploads.aborted(checkpoint);
            }
            _ => {}
        }
        self.controls.iter().rev().for_each(|(_, control)| control.send(command));
    }
}
