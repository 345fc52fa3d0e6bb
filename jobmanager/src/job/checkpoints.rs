//! The checkpoints of a job: carries out what their coordinator decides.
//!
//! A shell: it writes manifests, tells tasks, deletes files, and feeds back what came of it. What is decided
//! (when one begins, when it is complete, what is given up) is the coordinator's alone.

use super::claimed::Claimed;
use super::marks::Marks;
use super::restoring::Own;
use super::savepoints::{Request, Savepoints};
use super::told::Told;
use super::{Begin, OpenStorage, Restored, restoring};
use crate::checkpoint::{Coordinator, Effect, Input};
use crate::scheduler;
use history::History;
use millstream_model::job_graph::{JobGraph, JobVertex};
use millstream_model::settings::JobSettings;
use millstream_model::{
    CheckpointId, Command, Error, EventTime, LeaderEpoch, Machine, Notice, Result, SnapshotKind,
};
use millstream_proto::message::{CheckpointRow, SnapshotEvent, TargetFolder};
use millstream_state::snapshot::{
    CheckpointStorage, Manifest, Restore, TaskSnapshot, VertexSnapshot, checkpoint_folder,
    write_manifest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

mod history;

/// Where a checkpoint's files go.
#[derive(Clone)]
pub struct Target {
    /// The storage.
    pub storage: Arc<dyn CheckpointStorage>,
    /// What the storage is called elsewhere, and the folder in it.
    pub folder: TargetFolder,
}

/// The tasks of an attempt, as far as checkpoints are concerned: those of them that were not closed.
pub trait Participants: Send {
    /// Says where a checkpoint goes; before its barrier is sent.
    fn aim(&mut self, checkpoint: CheckpointId, target: &Target);
    /// Tells every task; receivers before senders, so that none misses who is gone before it may go.
    fn tell(&mut self, command: Command);
}

/// The clock: microseconds since the epoch.
pub type NowUs = Arc<dyn Fn() -> EventTime + Send + Sync>;

/// An attempt that runs.
struct Run {
    tasks: BTreeSet<usize>,
    participants: Box<dyn Participants>,
    told: Told,
}

impl Run {
    fn new(tasks: Vec<usize>, participants: Box<dyn Participants>) -> Self {
        Run { tasks: tasks.into_iter().collect(), participants, told: Told::default() }
    }

    fn tell(&mut self, command: Command) {
        self.told.note(command);
        self.participants.tell(command);
    }
}

/// See the module's text.
pub struct Checkpoints {
    coordinator: Coordinator<TaskSnapshot>,
    open_storage: OpenStorage,
    now_us: NowUs,
    epoch: LeaderEpoch,
    dir: PathBuf,
    storage: Arc<dyn CheckpointStorage>,
    job: String,
    vertices: Vec<VertexSnapshot>,
    first_id: u64,
    /// Where the job begins if no checkpoint is completed.
    origin: Option<Restored>,
    /// Folders that are spared until a checkpoint is complete, because what is in them could not be read.
    unread: Vec<String>,
    marks: Marks,
    /// What is damaged and was passed over, as allowed, to begin there.
    passed_over: Vec<String>,
    /// What is deleted when there is a checkpoint of the job's own.
    claimed: Option<Claimed>,
    /// What can be restored.
    completed: BTreeMap<CheckpointId, Restored>,
    /// The attempts that run, by number.
    running: BTreeMap<u32, Run>,
    savepoints: Savepoints,
    wake_at_ms: Option<u64>,
    history: History,
}

/// Tasks that another leader has started.
pub struct Adopted {
    /// Their attempt.
    pub attempt: u32,
    /// Their numbers.
    pub tasks: Vec<usize>,
    /// How to reach them.
    pub participants: Box<dyn Participants>,
}

/// The vertices as a manifest has them.
pub fn vertices(graph: &JobGraph) -> Vec<VertexSnapshot> {
    let vertex = |v: &JobVertex| VertexSnapshot {
        operators: v.operators.iter().map(|o| (o.id, o.name.clone(), o.uid.clone())).collect(),
        parallelism: v.parallelism,
        max_parallelism: v.max_parallelism,
    };
    graph.vertices.iter().map(vertex).collect()
}

impl Checkpoints {
    /// The checkpoints of a job, if it is to take any, and where it begins.
    ///
    /// # Errors
    /// If the job cannot begin where its settings say.
    pub fn open(
        settings: &JobSettings,
        graph: &JobGraph,
        epoch: LeaderEpoch,
        open_storage: &OpenStorage,
        now_us: &NowUs,
    ) -> Result<(Option<Self>, Begin)> {
        let Some(dir) = &settings.checkpoint_dir else {
            if settings.checkpoints.interval_ms.is_some() {
                return Err(Error::user(
                    "`checkpoint-interval` is set, but not where checkpoints go: set `checkpoint-dir`",
                ));
            }
            return Ok((
                None,
                restoring::begin_without_checkpoints(settings, graph, open_storage)?,
            ));
        };
        let storage = open_storage(dir)?;
        let found = restoring::begin(settings, graph, &storage, open_storage)?;
        let begin = found.0.clone();
        let checkpoints =
            Checkpoints::found(settings, graph, epoch, (open_storage, now_us), storage, found)?;
        Ok((Some(checkpoints), begin))
    }

    /// The checkpoints of a job that another leader ran, if it takes any. What was begun and is not complete is
    /// deleted.
    ///
    /// # Errors
    /// If the storage fails, or what the job goes back to cannot be read.
    pub fn take_over(
        settings: &JobSettings,
        graph: &JobGraph,
        epoch: LeaderEpoch,
        open_storage: &OpenStorage,
        now_us: &NowUs,
    ) -> Result<Option<Self>> {
        let Some(dir) = &settings.checkpoint_dir else { return Ok(None) };
        let storage = open_storage(dir)?;
        let found = restoring::taken_over(settings, graph, &storage, open_storage)?;
        let mut checkpoints =
            Checkpoints::found(settings, graph, epoch, (open_storage, now_us), storage, found)?;
        // What the job was being stopped with when its leader was lost: whoever wanted that looks for it here.
        if let Some(stop) = checkpoints.origin.as_ref().filter(|origin| origin.is_stop_of(settings))
        {
            checkpoints.history.found(&stop.restore.manifest, &stop.target);
        }
        Ok(Some(checkpoints))
    }

    /// The checkpoints of a job that begins there, and what it has passed over for that.
    fn found(
        settings: &JobSettings,
        graph: &JobGraph,
        epoch: LeaderEpoch,
        open: (&OpenStorage, &NowUs),
        storage: Arc<dyn CheckpointStorage>,
        (begin, passed_over): (Begin, Vec<String>),
    ) -> Result<Self> {
        let own = restoring::retained(settings, &storage, &begin)?;
        // While the files of those that are given up are there.
        let first_id = restoring::next_id(&*storage, &begin)?;
        let is_own = |restored: &&Restored| Arc::ptr_eq(&restored.restore.storage, &storage);
        let begins_at = match &begin {
            Begin::At(restored) => Some(restored).filter(is_own),
            Begin::Fresh | Begin::Anew => None,
        };
        let marks = Marks::found(&storage, epoch, begins_at)?;
        let mut checkpoints =
            Checkpoints::new(settings, graph, (epoch, marks), open, storage, own)?;
        checkpoints.first_id = first_id;
        checkpoints.passed_over = passed_over;
        checkpoints.origin = match begin {
            Begin::At(restored) if !checkpoints.is_own(&restored) => Some(restored),
            _ => None,
        };
        checkpoints.claimed = checkpoints.origin.as_ref().and_then(|o| Claimed::of(settings, o));
        Ok(checkpoints)
    }

    fn new(
        settings: &JobSettings,
        graph: &JobGraph,
        (epoch, marks): (LeaderEpoch, Marks),
        (open_storage, now_us): (&OpenStorage, &NowUs),
        storage: Arc<dyn CheckpointStorage>,
        own: Own,
    ) -> Result<Self> {
        let Own { retained: own, unread } = own;
        let mut coordinator = Coordinator::new(settings.checkpoints.clone(), graph.n_tasks());
        for restored in &own {
            let checkpoint = restored.restore.manifest.id;
            coordinator.step(0, Input::Restored { checkpoint }, &mut Vec::new());
        }
        let kept: Vec<&Manifest> = own.iter().map(|own| &*own.restore.manifest).collect();
        let spared: Vec<&str> = unread.iter().map(String::as_str).collect();
        marks.sweep(&kept, &spared)?;
        let mut history = History::default();
        own.iter().for_each(|own| history.found(&own.restore.manifest, &own.target));
        Ok(Checkpoints {
            coordinator,
            open_storage: Arc::clone(open_storage),
            now_us: Arc::clone(now_us),
            epoch,
            dir: restoring::own_dir(settings),
            storage,
            job: graph.name.clone(),
            vertices: vertices(graph),
            first_id: 1,
            origin: None,
            unread,
            marks,
            passed_over: Vec::new(),
            claimed: None,
            completed: own.into_iter().map(|own| (own.restore.manifest.id, own)).collect(),
            running: BTreeMap::new(),
            savepoints: Savepoints::default(),
            wake_at_ms: None,
            history,
        })
    }

    /// Whether what an attempt begins at is the job's own, and its files may be named again.
    pub fn is_own(&self, restored: &Restored) -> bool {
        Arc::ptr_eq(&restored.restore.storage, &self.storage)
    }

    /// What is damaged and was passed over when the job began at an older checkpoint, as its settings allow.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// The number of the newest checkpoint.
    pub fn last(&self) -> Option<u64> {
        self.coordinator.latest().map(|id| id.0)
    }

    /// What is remembered of the checkpoints, newest first.
    pub fn history(&self) -> Vec<CheckpointRow> {
        self.history.rows()
    }

    /// Where an attempt begins that is not the first.
    ///
    /// # Errors
    /// If a checkpoint that was given up may still be found: what this attempt discards could be what it needs.
    pub fn begin(&mut self) -> Result<Begin> {
        self.sweep().map_err(|e| {
            Error::external("a checkpoint that was given up cannot be deleted").caused_by(e)
        })?;
        let origin = self.origin.as_ref().filter(|origin| {
            // Of a stop that another leader was about.
            self.coordinator.latest() < Some(origin.restore.manifest.id)
        });
        match (origin, self.coordinator.latest()) {
            (Some(origin), _) => Ok(Begin::At(origin.clone())),
            (None, Some(latest)) => match self.completed.get(&latest) {
                Some(restored) => Ok(Begin::At(restored.clone())),
                None => Err(Error::internal("the newest checkpoint is not known")),
            },
            (None, None) => Ok(Begin::Anew),
        }
    }

    /// These tasks run, as an attempt.
    pub fn started(
        &mut self,
        now_ms: u64,
        attempt: u32,
        tasks: Vec<usize>,
        participants: Box<dyn Participants>,
    ) -> Vec<scheduler::Input> {
        self.running.insert(attempt, Run::new(tasks.clone(), participants));
        self.step(now_ms, Input::Started { first_id: self.first_id, attempt, tasks })
    }

    /// Tasks run that another leader has started, as these attempts; `newest` is the newest checkpoint that a task has heard
    /// of. What was completed is told again, what was under way is given up; also to those that restore their state, some of which
    /// may run. If tasks were told to end (`is_released`) the others are told too, and nothing begins any more.
    pub fn adopted<'p>(
        &mut self,
        now_ms: u64,
        attempts: Vec<Adopted>,
        restoring: impl Iterator<Item = &'p mut Box<dyn Participants>>,
        newest: Option<CheckpointId>,
        is_released: bool,
    ) -> Vec<scheduler::Input> {
        for Adopted { attempt, tasks, participants } in attempts {
            self.running.insert(attempt, Run::new(tasks, participants));
        }
        // The savepoint of a stop, if the former leader had stored it, and these tasks have not begun again since.
        let origin = self.origin.as_ref().map(|origin| &origin.restore.manifest);
        let stop = origin.filter(|m| matches!(m.kind, SnapshotKind::Stop { .. }));
        let stop = stop.map(|m| m.id).filter(|stop| newest == Some(*stop));
        let latest = stop.max(self.coordinator.latest());
        // Nothing is left to be done once all ends of these tasks are in one that is complete.
        let last = latest.filter(|_| newest == latest);
        let last = last.and_then(|latest| self.completed.get(&latest));
        let is_last = last.is_some_and(|last| last.restore.manifest.is_finished());
        let is_released = is_released || stop.is_some() || is_last;
        let given_up = newest.filter(|newest| Some(*newest) > latest);
        self.first_id = self.first_id.max(given_up.map_or(0, |newest| newest.0 + 1));
        let commands: Vec<Command> = latest
            .map(|latest| Command::Notice(Notice::Complete(latest)))
            .into_iter()
            .chain(given_up.map(|newest| Command::Notice(Notice::Aborted(newest))))
            .chain(latest.filter(|_| is_released).map(Command::Release))
            .collect();
        commands.iter().for_each(|command| self.tell(*command));
        for participants in restoring {
            commands.iter().for_each(|command| participants.tell(*command));
        }
        if is_released {
            return Vec::new();
        }
        let first_id = self.first_id;
        let running: Vec<(u32, Vec<usize>)> = self
            .running
            .iter()
            .map(|(attempt, run)| (*attempt, run.tasks.iter().copied().collect()))
            .collect();
        let mut inputs = Vec::new();
        for (attempt, tasks) in running {
            inputs.extend(self.step(now_ms, Input::Started { first_id, attempt, tasks }));
        }
        inputs
    }

    /// These tasks are over.
    pub fn stopped(&mut self, now_ms: u64, tasks: &[usize]) -> Vec<scheduler::Input> {
        let inputs = self.step(now_ms, Input::Stopped { tasks: tasks.to_vec() });
        self.running.retain(|_, run| {
            run.tasks.retain(|task| !tasks.contains(task));
            !run.tasks.is_empty()
        });
        inputs
    }

    /// A savepoint is wanted.
    pub fn request(&mut self, now_ms: u64, request: Request) -> Vec<scheduler::Input> {
        let kind = request.kind;
        let Some(request) = self.savepoints.request(request) else { return Vec::new() };
        self.step(now_ms, Input::TriggerSavepoint { request, kind })
    }

    /// The job has ended like this, or has failed and will run again: who stops it with a savepoint hears of it.
    pub fn settle(&mut self, state: scheduler::JobState) {
        self.savepoints.settle(state);
    }

    /// The next moment at which `tick` is to be called.
    pub fn wake_at_ms(&self) -> Option<u64> {
        self.wake_at_ms
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) -> Vec<scheduler::Input> {
        self.wake_at_ms = None;
        self.step(now_ms, Input::Tick)
    }

    /// A task answered.
    pub fn answered(
        &mut self,
        now_ms: u64,
        attempt: u32,
        event: SnapshotEvent,
    ) -> Vec<scheduler::Input> {
        let input = match event {
            SnapshotEvent::Taken { task, checkpoint, snapshot } => {
                self.history.acknowledged(checkpoint);
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

    /// Who runs in this attempt may have missed what was told.
    pub fn tell_again(&mut self, attempt: u32) {
        if let Some(run) = self.running.get_mut(&attempt) {
            run.told.again().for_each(|command| run.participants.tell(command));
        }
    }

    fn tell(&mut self, command: Command) {
        self.running.values_mut().for_each(|run| run.tell(command));
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
                let (now_ms, n_tasks) = ((self.now_us)() / 1000, self.coordinator.n_tasks());
                self.history.begun(checkpoint, barrier.kind, now_ms, n_tasks);
                match self.aim(checkpoint, barrier.kind) {
                    Ok(()) => self.tell(Command::Barrier(barrier)),
                    Err(error) => {
                        let attempts = self.running.iter();
                        let of_first = attempts
                            .filter(|(_, run)| run.tasks.contains(&0))
                            .map(|(attempt, _)| *attempt);
                        inputs.extend(of_first.map(|attempt| Input::Declined {
                            task: 0,
                            checkpoint,
                            attempt,
                            error: error.clone(),
                        }));
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
                self.tell(Command::Notice(Notice::Complete(checkpoint)));
                let is_own = self.completed.get(&checkpoint).is_some_and(|c| self.is_own(c));
                if is_own && !std::mem::take(&mut self.unread).is_empty() {
                    self.clean();
                }
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
                self.history.failed(checkpoint, (self.now_us)() / 1000, None);
                self.completed.remove(&checkpoint);
                let discarded = self.unmark().and_then(|()| self.savepoints.discard(checkpoint));
                if let Err(error) = discarded {
                    tracing::warn!(%checkpoint, %error, "what there is of a failed checkpoint could not be deleted");
                }
                self.clean();
            }
            Effect::Subsume { checkpoint } => {
                self.completed.remove(&checkpoint);
                self.clean();
            }
            Effect::SavepointDone { request, .. } => self.savepoints.done(request),
            Effect::SavepointFailed { request, error } => self.savepoints.failed(request, error),
            Effect::Failed { checkpoint, error } => {
                self.history.failed(checkpoint, (self.now_us)() / 1000, Some(&error));
                tracing::warn!(%checkpoint, %error, "a checkpoint failed; the job runs on");
            }
            Effect::FailJob { error } => {
                for_job.push(scheduler::Input::Fail { error, retry: true });
            }
            Effect::Release(last) | Effect::StopJob(last) => {
                self.tell(Command::Release(last));
                for_job.push(scheduler::Input::Couple);
            }
            Effect::WakeAt(at_ms) => self.wake_at_ms = Some(at_ms),
        }
    }

    /// Where a checkpoint of the job's own goes.
    fn own_target(&self, checkpoint: CheckpointId) -> Target {
        let folder = checkpoint_folder(checkpoint, self.epoch.0);
        let folder = TargetFolder { dir: self.dir.clone(), folder };
        Target { storage: Arc::clone(&self.storage), folder }
    }

    /// Says where a checkpoint goes.
    fn aim(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        let wanted = self.savepoints.aim(checkpoint, kind, &self.open_storage)?;
        let target = wanted.unwrap_or_else(|| self.own_target(checkpoint));
        self.running.values_mut().for_each(|run| run.participants.aim(checkpoint, &target));
        Ok(())
    }

    fn store(
        &mut self,
        checkpoint: CheckpointId,
        kind: SnapshotKind,
        request: Option<u64>,
        tasks: Vec<TaskSnapshot>,
    ) -> Result<()> {
        let wanted = request.and_then(|number| self.savepoints.target(number)).cloned();
        let is_wanted = wanted.is_some();
        let target = wanted.unwrap_or_else(|| self.own_target(checkpoint));
        let completed_at_ms = (self.now_us)() / 1000;
        let manifest = Manifest {
            id: checkpoint,
            epoch: self.epoch.0,
            kind,
            completed_at_ms,
            job: self.job.clone(),
            vertices: self.vertices.clone(),
            tasks,
        };
        write_manifest(&*target.storage, &target.folder.folder, &manifest)?;
        // What it commits must not be committed again from a checkpoint before it.
        match (kind, is_wanted) {
            (SnapshotKind::Stop { .. }, true) => {
                let savepoint = target.folder.dir.join(&target.folder.folder);
                self.marks.stopped(checkpoint, &savepoint)?;
            }
            (_, false) => {
                self.marks.completed(checkpoint)?;
            }
            (_, true) => {}
        }
        self.history.completed(&manifest, &target.folder, completed_at_ms);
        let restore = Restore {
            storage: target.storage,
            manifest: Arc::new(manifest),
            allow_non_restored: false,
        };
        self.completed.insert(checkpoint, Restored { restore, target: target.folder });
        Ok(())
    }

    /// Deletes files that no checkpoint needs. What cannot be deleted now is found at the next start.
    fn clean(&mut self) {
        if let Err(error) = self.sweep() {
            tracing::warn!(%error, "old checkpoints could not be deleted");
        }
    }

    fn unmark(&self) -> Result<()> {
        self.marks.forget_all_but(self.coordinator.latest())
    }

    fn sweep(&mut self) -> Result<()> {
        self.unmark()?;
        let kept: Vec<Arc<Manifest>> = self
            .coordinator
            .retained()
            .filter_map(|id| self.completed.get(&id).map(|r| Arc::clone(&r.restore.manifest)))
            .collect();
        let kept: Vec<&Manifest> = kept.iter().map(|manifest| &**manifest).collect();
        let pending = self.coordinator.pending().map(|id| checkpoint_folder(id, self.epoch.0));
        let spared: Vec<&str> = pending.iter().chain(&self.unread).map(String::as_str).collect();
        self.marks.sweep(&kept, &spared)
    }
}
