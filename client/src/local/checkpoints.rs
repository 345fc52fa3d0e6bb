//! The checkpoints of a job that runs in this process: carries out what their coordinator decides.
//!
//! A shell: it writes manifests, tells tasks, deletes files, and feeds back what came of it. What is decided
//! (when one begins, when it is complete, what is given up) is the coordinator's alone.

use super::assemble::Begin;
use super::claimed::Claimed;
use super::{restoring, stopped};
use crate::config::Config;
use crossbeam_channel::Sender;
use millstream_jobmanager::checkpoint::{Coordinator, Effect, Input};
use millstream_jobmanager::scheduler;
use millstream_model::job_graph::JobGraph;
use millstream_model::{CheckpointId, Error, Machine, Result, SnapshotKind};
use millstream_runtime::chain::Notice;
use millstream_runtime::context::Clock;
use millstream_runtime::task::{Command, Control, Restore};
use millstream_state::snapshot::{
    CheckpointStorage, LocalStorage, Manifest, TaskSnapshot, VertexSnapshot, checkpoint_folder,
    sweep, write_manifest,
};
use millstream_taskmanager::uploads::{SnapshotEvent, Target, Uploads};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Gives the storage that a folder stands for.
pub(crate) type OpenStorage =
    Arc<dyn Fn(&Path) -> Result<Arc<dyn CheckpointStorage>> + Send + Sync>;

/// Folders are folders.
pub(super) fn local_storage() -> OpenStorage {
    Arc::new(|dir| Ok(Arc::new(LocalStorage::new(dir)?)))
}

/// Every job in a process of its own is its own leader.
pub(super) const EPOCH: u64 = 0;

/// What somebody wants of a job's checkpoints.
pub(crate) struct Request {
    pub(crate) kind: SnapshotKind,
    /// The folder to put a savepoint into.
    pub(crate) dir: PathBuf,
    pub(crate) reply: Sender<Result<PathBuf>>,
}

/// See the module's text.
pub(crate) struct Checkpoints {
    coordinator: Coordinator<TaskSnapshot>,
    open_storage: OpenStorage,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn CheckpointStorage>,
    job: String,
    vertices: Vec<VertexSnapshot>,
    first_id: u64,
    /// Where the job begins if no checkpoint is completed.
    origin: Option<Restore>,
    /// What is deleted when there is a checkpoint of the job's own.
    claimed: Option<Claimed>,
    /// What can be restored.
    completed: BTreeMap<CheckpointId, Restore>,
    /// Number of the attempt that runs.
    attempt: u32,
    running: Option<Attempt>,
    requests: BTreeMap<u64, Requested>,
    next_request: u64,
    wake_at_ms: Option<u64>,
}

struct Attempt {
    uploads: Arc<Uploads>,
    controls: Vec<Arc<Control>>,
}

struct Requested {
    request: Request,
    /// Once it was begun.
    target: Option<(CheckpointId, Target)>,
}

/// The vertices as a manifest has them.
pub(crate) fn vertices(graph: &JobGraph) -> Vec<VertexSnapshot> {
    let vertex = |v: &millstream_model::job_graph::JobVertex| VertexSnapshot {
        operators: v.operators.iter().map(|o| (o.id, o.name.clone(), o.uid.clone())).collect(),
        parallelism: v.parallelism,
        max_parallelism: v.max_parallelism,
    };
    graph.vertices.iter().map(vertex).collect()
}

impl Checkpoints {
    /// The checkpoints of a job, if it is to take any, and where it begins.
    pub(crate) fn open(
        config: &Config,
        graph: &JobGraph,
        open_storage: &OpenStorage,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Option<Self>, Begin)> {
        let Some(dir) = &config.checkpoint_dir else {
            if config.checkpoints.interval_ms.is_some() {
                return Err(Error::user(
                    "`checkpoint-interval` is set, but not where checkpoints go: set `checkpoint-dir`",
                ));
            }
            return Ok((None, restoring::begin_without_checkpoints(config, graph, open_storage)?));
        };
        let storage = open_storage(dir)?;
        let (begin, own) = restoring::begin(config, graph, &storage, open_storage)?;
        let mut coordinator = Coordinator::new(config.checkpoints.clone(), graph.n_tasks());
        let mut completed = BTreeMap::new();
        let mut kept = Vec::new();
        if let Some(own) = &own {
            let id = own.manifest.id;
            stopped::forget_before(&*storage, id)?;
            coordinator.step(0, Input::Restored { checkpoint: id }, &mut Vec::new());
            completed.insert(id, own.clone());
            kept.push(&*own.manifest);
        }
        let first_id = restoring::next_id(&*storage, &begin)?;
        sweep(&*storage, &kept, &[])?;
        let origin = match &begin {
            Begin::At(restore) if own.is_none() => Some(restore.clone()),
            _ => None,
        };
        let claimed = origin.as_ref().and_then(|o| Claimed::of(config, &o.storage));
        let checkpoints = Checkpoints {
            coordinator,
            open_storage: Arc::clone(open_storage),
            clock: Arc::clone(clock),
            storage,
            job: graph.name.clone(),
            vertices: vertices(graph),
            first_id,
            origin,
            claimed,
            completed,
            attempt: 0,
            running: None,
            requests: BTreeMap::new(),
            next_request: 0,
            wake_at_ms: None,
        };
        Ok((Some(checkpoints), begin))
    }

    /// Whether what an attempt begins at is the job's own, and its files may be named again.
    pub(crate) fn is_own(&self, restore: &Restore) -> bool {
        Arc::ptr_eq(&restore.storage, &self.storage)
    }

    /// The number of the newest checkpoint.
    pub(super) fn last(&self) -> Option<u64> {
        self.coordinator.latest().map(|id| id.0)
    }

    /// Where an attempt begins that is not the first.
    pub(crate) fn begin(&self) -> Result<Begin> {
        match self.coordinator.latest() {
            Some(latest) => match self.completed.get(&latest) {
                Some(restore) => Ok(Begin::At(restore.clone())),
                None => Err(Error::internal("the newest checkpoint is not known")),
            },
            None => Ok(self.origin.clone().map_or(Begin::Anew, Begin::At)),
        }
    }

    /// An attempt runs.
    pub(crate) fn started(
        &mut self,
        now_ms: u64,
        attempt: u32,
        uploads: Arc<Uploads>,
        controls: Vec<Arc<Control>>,
    ) -> Vec<scheduler::Input> {
        self.attempt = attempt;
        self.running = Some(Attempt { uploads, controls });
        self.step(now_ms, Input::Started { first_id: self.first_id, attempt })
    }

    /// The attempt is over.
    pub(crate) fn stopped(&mut self, now_ms: u64) -> Vec<scheduler::Input> {
        let inputs = self.step(now_ms, Input::Stopped);
        self.running = None;
        inputs
    }

    /// A savepoint is wanted.
    pub(crate) fn request(&mut self, now_ms: u64, request: Request) -> Vec<scheduler::Input> {
        let number = self.next_request;
        self.next_request += 1;
        let kind = request.kind;
        self.requests.insert(number, Requested { request, target: None });
        self.step(now_ms, Input::TriggerSavepoint { request: number, kind })
    }

    /// The next moment at which `tick` is to be called.
    pub(crate) fn wake_at_ms(&self) -> Option<u64> {
        self.wake_at_ms
    }

    pub(crate) fn tick(&mut self, now_ms: u64) -> Vec<scheduler::Input> {
        self.wake_at_ms = None;
        self.step(now_ms, Input::Tick)
    }

    /// A task answered.
    pub(crate) fn answered(
        &mut self,
        now_ms: u64,
        attempt: u32,
        event: SnapshotEvent,
    ) -> Vec<scheduler::Input> {
        let input = match event {
            SnapshotEvent::Taken { task, checkpoint, snapshot } => {
                let ended = snapshot.ended;
                Input::Acked { task, checkpoint, attempt, snapshot, ended }
            }
            SnapshotEvent::Declined { task, checkpoint, error } => {
                Input::Declined { task, checkpoint, attempt, error }
            }
            SnapshotEvent::Ended { task } => Input::TaskEnded { task, attempt },
        };
        self.step(now_ms, input)
    }

    /// Steps the coordinator until nothing more comes of it.
    fn step(&mut self, now_ms: u64, input: Input<TaskSnapshot>) -> Vec<scheduler::Input> {
        let (mut inputs, mut for_job) = (vec![input], Vec::new());
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            self.coordinator.step(now_ms, input, &mut effects);
            for effect in effects {
                self.perform(effect, &mut inputs, &mut for_job);
            }
        }
        for_job
    }

    /// Tells every task; receivers before senders, so that none misses who is gone before it may go.
    fn tell(&self, command: Command) {
        if let Some(attempt) = &self.running {
            attempt.controls.iter().rev().for_each(|control| control.send(command));
        }
    }

    fn perform(
        &mut self,
        effect: Effect<TaskSnapshot>,
        inputs: &mut Vec<Input<TaskSnapshot>>,
        for_job: &mut Vec<scheduler::Input>,
    ) {
        match effect {
            Effect::Trigger { barrier, .. } => {
                let checkpoint = barrier.checkpoint;
                self.first_id = self.first_id.max(checkpoint.0 + 1);
                match self.aim(checkpoint, barrier.kind) {
                    Ok(()) => self.tell(Command::Barrier(barrier)),
                    Err(error) => {
                        let attempt = self.attempt;
                        inputs.push(Input::Declined { task: 0, checkpoint, attempt, error });
                    }
                }
            }
            Effect::Store { checkpoint, kind, request, snapshots } => {
                inputs.push(match self.store(checkpoint, kind, request, snapshots) {
                    Ok(()) => Input::Stored { checkpoint },
                    Err(error) => Input::StoreFailed { checkpoint, error },
                });
            }
            Effect::NotifyComplete(checkpoint) => {
                if let Some(attempt) = &self.running {
                    attempt.uploads.complete(checkpoint);
                }
                self.tell(Command::Notice(Notice::Complete(checkpoint)));
                if let Some(claimed) = self.claimed.take()
                    && let Err(error) = claimed.delete()
                {
                    tracing::warn!(%error, "what the job was restored from could not be deleted");
                }
            }
            Effect::NotifyAborted(checkpoint) => {
                self.tell(Command::Notice(Notice::Aborted(checkpoint)));
            }
            Effect::Discard { checkpoint } => {
                self.completed.remove(&checkpoint);
                unmarked(stopped::forget(&*self.storage, checkpoint));
                self.clean();
            }
            Effect::Subsume { checkpoint } => {
                self.completed.remove(&checkpoint);
                self.clean();
            }
            Effect::SavepointDone { request, .. } => {
                if let Some(Requested { request, target: Some((_, target)) }) =
                    self.requests.remove(&request)
                {
                    // Whoever asked may have gone.
                    let _ = request.reply.send(Ok(request.dir.join(target.folder)));
                }
            }
            Effect::SavepointFailed { request, error } => {
                if let Some(Requested { request, .. }) = self.requests.remove(&request) {
                    let _ = request.reply.send(Err(error));
                }
            }
            Effect::Failed { checkpoint, error } => {
                tracing::warn!(%checkpoint, %error, "a checkpoint failed; the job runs on");
            }
            Effect::FailJob { error } => {
                for_job.push(scheduler::Input::Fail { error, retry: true });
            }
            Effect::Release | Effect::StopJob => self.tell(Command::Release),
            Effect::WakeAt(at_ms) => self.wake_at_ms = Some(at_ms),
        }
    }

    /// Says where a checkpoint goes.
    fn aim(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        let Some(attempt) = &self.running else { return Ok(()) };
        let mut target = Target {
            storage: Arc::clone(&self.storage),
            folder: checkpoint_folder(checkpoint, EPOCH),
        };
        // Requests are taken in order.
        let requested = self.requests.values_mut().find(|requested| requested.target.is_none());
        if let Some(requested) = requested.filter(|r| r.request.kind == kind && kind.is_savepoint())
        {
            target = Target {
                storage: (self.open_storage)(&requested.request.dir)?,
                folder: format!("savepoint-{checkpoint}"),
            };
            requested.target = Some((checkpoint, target.clone()));
        }
        attempt.uploads.aim(checkpoint, target);
        Ok(())
    }

    fn store(
        &mut self,
        checkpoint: CheckpointId,
        kind: SnapshotKind,
        request: Option<u64>,
        tasks: Vec<TaskSnapshot>,
    ) -> Result<()> {
        let requested = request.and_then(|number| self.requests.get(&number));
        let target = requested.and_then(|r| r.target.clone()).map(|(_, target)| target);
        let target = target.unwrap_or_else(|| Target {
            storage: Arc::clone(&self.storage),
            folder: checkpoint_folder(checkpoint, EPOCH),
        });
        let manifest = Manifest {
            id: checkpoint,
            epoch: EPOCH,
            kind,
            completed_at_ms: self.clock.now_us() / 1000,
            job: self.job.clone(),
            vertices: self.vertices.clone(),
            tasks,
        };
        write_manifest(&*target.storage, &target.folder, &manifest)?;
        match (kind, requested) {
            // What it commits must not be committed again from a checkpoint before it.
            (SnapshotKind::Stop { .. }, Some(requested)) => {
                let savepoint = requested.request.dir.join(&target.folder);
                stopped::mark(&*self.storage, checkpoint, &savepoint)?;
            }
            (SnapshotKind::Checkpoint, _) => {
                unmarked(stopped::forget_before(&*self.storage, checkpoint));
            }
            _ => {}
        }
        let restore = Restore {
            storage: target.storage,
            manifest: Arc::new(manifest),
            allow_non_restored: false,
        };
        self.completed.insert(checkpoint, restore);
        Ok(())
    }

    /// Deletes files that no checkpoint needs. What cannot be deleted now is found at the next start.
    fn clean(&mut self) {
        let kept: Vec<Arc<Manifest>> = self
            .coordinator
            .retained()
            .filter_map(|id| self.completed.get(&id).map(|r| Arc::clone(&r.manifest)))
            .collect();
        let kept: Vec<&Manifest> = kept.iter().map(|manifest| &**manifest).collect();
        let pending = self.coordinator.pending().map(|id| checkpoint_folder(id, EPOCH));
        let pending: Vec<&str> = pending.iter().map(String::as_str).collect();
        if let Err(error) = sweep(&*self.storage, &kept, &pending) {
            tracing::warn!(%error, "old checkpoints could not be deleted");
        }
    }
}

/// Tells that the mark of a stop could not be deleted.
fn unmarked(deleted: Result<()>) {
    if let Err(error) = deleted {
        tracing::warn!(%error, "the mark of an earlier stop could not be deleted");
    }
}

/// The storage and folder that a path to a checkpoint or savepoint names.
pub(super) fn locate(
    path: &Path,
    open_storage: &OpenStorage,
) -> Result<(Arc<dyn CheckpointStorage>, String)> {
    let (Some(root), Some(folder)) = (path.parent(), path.file_name().and_then(|f| f.to_str()))
    else {
        return Err(Error::user(format!(
            "`{}` is not the folder of a checkpoint or savepoint",
            path.display()
        )));
    };
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    Ok((open_storage(root)?, folder.to_owned()))
}
