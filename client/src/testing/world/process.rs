//! One life of a process that runs a job, from its start to its end or crash.
//!
//! The shell of a simulated job. Its master is that of a real one; but what would come on its own from other threads
//! lies in queues until it is told to happen.

use super::World;
use crate::compile;
use crate::environment::Environment;
use crate::local::{
    Attempt, Begin, LocalTasks, Mailboxes, Neighbours, Prepared, Program, assemble, prepare,
};
use crossbeam_channel::{Receiver, Sender, unbounded};
use millstream_jobmanager::job::{self, Checkpoints, Event, Events, Master, NowUs, Request, Tasks};
use millstream_jobmanager::scheduler::{JobState, Scheduler};
use millstream_model::{Error, EventTime, LeaderEpoch, MAX_TIME, Result, SnapshotKind};
use millstream_runtime::context::{Clock, JobContext};
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::task::{Control, Progress, Restore, Snapshots, Task, Wake, Waker};
use millstream_state::store::Backend;
use millstream_taskmanager::host::{HostEvent, TaskEvent};
use millstream_taskmanager::uploads::{SnapshotEvent, Uploads, Writer};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something that could happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A task is stepped.
    Step(usize),
    /// A writer of snapshots does one piece of work.
    Write(usize),
    /// The shell hears what became of a task.
    Hear,
    /// The shell hears what became of a task's part in a checkpoint: the n-th that it has not heard.
    Answer(usize),
    /// The master's alarm goes off: the coordinator's, or that of the next attempt.
    Tick,
}

/// A savepoint that was asked for.
pub struct Savepoint(Receiver<Result<PathBuf>>);

impl Savepoint {
    /// Where it is, or why it could not be taken; `None` as long as that is not known.
    pub fn outcome(&self) -> Option<Result<PathBuf>> {
        self.0.try_recv().ok()
    }
}

/// Whether a task is to be stepped.
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A task's place.
struct Place {
    task: Option<Task>,
    bell: Arc<Bell>,
    /// When to step it although nobody woke it (µs).
    deadline_us: EventTime,
    /// Whether it is to end at its next step.
    is_cancelled: bool,
    is_over: bool,
    /// Whether it waits until the others have restored their state.
    is_held: bool,
    attempt: u32,
    control: Arc<Control>,
}

/// The tasks of a process.
struct Places {
    world: World,
    program: Program,
    job: Arc<JobContext>,
    memory: Arc<MemoryPool>,
    backend: Option<Backend>,
    /// By the task's number; those that are not closed.
    places: BTreeMap<usize, Place>,
    /// What was found with the last attempt of all tasks.
    prepared: Prepared,
    /// What the last attempt began at.
    began_at: Option<(PathBuf, Restore)>,
    /// Of all attempts: what an attempt has begun to write goes on when it is over.
    writers: Vec<Writer>,
    snapshots: (Sender<(u32, SnapshotEvent)>, Receiver<(u32, SnapshotEvent)>),
    /// What became of tasks, with their attempt.
    events: VecDeque<(u32, HostEvent)>,
}

/// See the module's text.
pub struct Process {
    world: World,
    master: Master<Places>,
    answers: Vec<(u32, SnapshotEvent)>,
    failures: Vec<String>,
}

impl Process {
    /// Starts a process that runs what was built in `env`. Its keyed state lies in `backend`, if there is one, whatever
    /// the configuration says; no two processes may call their runs the same.
    ///
    /// # Errors
    /// If the job cannot run as it is, or not from where it is to go on.
    pub fn start(
        world: &World,
        env: &Environment,
        name: &str,
        backend: Option<Backend>,
    ) -> Result<Self> {
        let (graph, config) = env.take_program()?;
        let compiled = compile::compile(&graph, &config, name)?;
        let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
        let now_us = Arc::clone(&clock);
        let now_us: NowUs = Arc::new(move || now_us.now_us());
        let settings = config.job_settings();
        let epoch = LeaderEpoch::default();
        let (checkpoints, begin) =
            Checkpoints::open(&settings, &compiled.graph, epoch, &world.open_storage, &now_us)?;
        let job = Arc::new(JobContext {
            name: name.into(),
            parameters: config.parameters.clone(),
            clock,
            registry: Default::default(),
            alignment: Default::default(),
            batch_size: config.batch_size,
            checkpoints: checkpoints.is_some().then(|| config.mode()),
        });
        let scheduler = Scheduler::new(&compiled.graph).with_restarts(settings.restart);
        let places = Places {
            world: world.clone(),
            job,
            memory: Arc::new(MemoryPool::new(config.network_memory)),
            program: Program { graph, compiled, config },
            backend,
            places: BTreeMap::new(),
            prepared: Prepared::new(),
            began_at: None,
            writers: Vec::new(),
            snapshots: unbounded(),
            events: VecDeque::new(),
        };
        let mut process = Process {
            world: world.clone(),
            master: Master::new(scheduler, checkpoints, begin, places),
            answers: Vec::new(),
            failures: Vec::new(),
        };
        process.master.start(process.now_ms());
        Ok(process)
    }

    /// How the job ended, if it has, and why.
    pub fn ended(&self) -> Option<(JobState, Option<&Error>)> {
        self.master.ended()
    }

    /// Why the job was restarted or ended, in this process.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The checkpoint or savepoint that the last attempt began at, if it did, and the folder it is one of.
    pub fn began_at(&self) -> Option<(&Path, &Restore)> {
        self.master.tasks.began_at.as_ref().map(|(dir, restore)| (&**dir, restore))
    }

    /// How often the job was restarted in this process.
    pub fn attempt(&self) -> u32 {
        self.master.scheduler().attempt()
    }

    /// The name of a task's first operator.
    pub fn name_of(&self, task: usize) -> String {
        let (vertex, subtask) = self.master.scheduler().executions()[task].address();
        let vertex = &self.master.tasks.program.compiled.graph.vertices[vertex];
        format!("{} {}/{}", vertex.operators[0].name, subtask + 1, vertex.parallelism)
    }

    /// What could happen now; nothing more when the job has ended. What is still to be written does not keep a
    /// job from ending.
    pub fn actions(&self, actions: &mut Vec<Action>) {
        actions.clear();
        if self.ended().is_some() {
            return;
        }
        let now_us = self.world.now_us();
        let tasks = &self.master.tasks;
        for (number, place) in &tasks.places {
            let is_ready = place.bell.0.load(Ordering::SeqCst) || place.deadline_us <= now_us;
            let is_ready = is_ready && !place.is_held;
            if !place.is_over && (is_ready || place.is_cancelled) {
                actions.push(Action::Step(*number));
            }
        }
        let works = tasks.writers.iter().enumerate().filter(|(_, writer)| writer.has_work());
        actions.extend(works.map(|(number, _)| Action::Write(number)));
        actions.extend((!tasks.events.is_empty()).then_some(Action::Hear));
        actions.extend((0..self.answers.len()).map(Action::Answer));
        actions.extend((self.wake_at_us() <= now_us).then_some(Action::Tick));
    }

    /// When something could happen although nothing does before: in µs.
    pub fn next_due_us(&self) -> Option<EventTime> {
        let places = self.master.tasks.places.values();
        let tasks = places.filter(|place| !place.is_over).map(|p| p.deadline_us);
        tasks.chain([self.wake_at_us()]).min().filter(|at| *at != MAX_TIME)
    }

    fn wake_at_us(&self) -> EventTime {
        self.master.wake_at_ms().map_or(MAX_TIME, |ms| (ms as EventTime).saturating_mul(1000))
    }

    /// Lets one of the [`actions`](Process::actions) happen.
    pub fn perform(&mut self, action: Action) {
        let now_ms = self.now_ms();
        match action {
            Action::Step(task) => self.master.tasks.step_task(task),
            Action::Write(writer) => self.master.tasks.writers[writer].step(),
            Action::Hear => {
                if let Some((attempt, event)) = self.master.tasks.events.pop_front() {
                    self.master.take(now_ms, attempt, Event::from(event));
                }
            }
            Action::Answer(number) => {
                let (attempt, answer) = self.answers.remove(number);
                self.master.take(now_ms, attempt, Event::Snapshot(answer));
            }
            Action::Tick => self.master.tick(now_ms),
        }
        self.answers.extend(self.master.tasks.snapshots.1.try_iter());
        self.failures.extend(self.master.take_failures().iter().map(Error::to_string));
    }

    /// Loses an answer on its way, if it is a task's acknowledgement.
    pub fn lose_answer(&mut self, number: usize) -> bool {
        let is_taken = matches!(self.answers.get(number), Some((_, SnapshotEvent::Taken { .. })));
        if is_taken {
            self.answers.remove(number);
        }
        is_taken
    }

    /// Lets an answer come twice, if it is a task's acknowledgement.
    pub fn repeat_answer(&mut self, number: usize) -> bool {
        let Some((attempt, SnapshotEvent::Taken { task, checkpoint, snapshot })) =
            self.answers.get(number)
        else {
            return false;
        };
        let (task, checkpoint, snapshot) = (*task, *checkpoint, snapshot.clone());
        let again = SnapshotEvent::Taken { task, checkpoint, snapshot };
        self.answers.push((*attempt, again));
        true
    }

    /// Asks for a savepoint.
    pub fn savepoint(&mut self, dir: impl Into<PathBuf>, kind: SnapshotKind) -> Savepoint {
        let (reply, outcome) = unbounded();
        let request = Request { kind, dir: dir.into(), reply: reply.into() };
        let now_ms = self.now_ms();
        self.master.request(now_ms, request);
        Savepoint(outcome)
    }

    fn now_ms(&self) -> u64 {
        (self.world.now_us() / 1000) as u64
    }
}

impl Tasks for Places {
    fn deploy(&mut self, _: u64, attempt: job::Attempt) -> Events {
        let number = attempt.number;
        let event = match self.run(attempt) {
            Ok(tasks) => Event::Deployed { participants: Box::new(tasks) },
            Err(error) => Event::DeployFailed(error),
        };
        vec![(number, event)]
    }

    fn go(&mut self, _: u64, attempt: u32) -> Events {
        for place in self.places.values_mut().filter(|place| place.attempt == attempt) {
            place.is_held = false;
        }
        Vec::new()
    }

    fn cancel(&mut self, _: u64, tasks: &[usize]) -> Events {
        for task in tasks {
            if let Some(place) = self.places.get_mut(task) {
                place.is_cancelled = true;
            }
        }
        Vec::new()
    }

    fn close(&mut self, _: u64, tasks: &[usize], again: bool) -> Events {
        for place in tasks.iter().filter_map(|task| self.places.remove(task)) {
            place.control.close();
        }
        if again {
            self.job.registry.forget_accumulators(tasks);
        }
        Vec::new()
    }
}

impl Places {
    fn run(&mut self, attempt: job::Attempt) -> Result<LocalTasks> {
        let job::Attempt { number, tasks, begin, own } = attempt;
        self.began_at = match &begin {
            job::Begin::At(restored) => {
                Some((restored.target.dir.clone(), restored.restore.clone()))
            }
            job::Begin::Fresh | job::Begin::Anew => None,
        };
        let begin = Begin::from(begin);
        let n_tasks = self.program.compiled.graph.n_tasks();
        let bells: Vec<Arc<Bell>> =
            (0..n_tasks).map(|_| Arc::new(Bell(AtomicBool::new(true)))).collect();
        let waker = |task: usize| Arc::clone(&bells[task]) as Waker;
        let control = |task: &usize| (*task, Arc::new(Control::new(waker(*task))));
        let controls: BTreeMap<usize, Arc<Control>> = tasks.iter().map(control).collect();
        let wakers = (0..n_tasks).map(waker).collect();
        let own = own.map(|own| own.restore.manifest);
        let (backend, events) = (self.backend.as_ref(), self.snapshots.0.clone());
        let (uploads, writers) =
            Uploads::by_hand(wakers, n_tasks, number, backend, own.as_deref(), events);
        let uploads = Arc::new(uploads);
        let mailboxes = controls.clone();
        let mailboxes = move |task: usize| mailboxes.get(&task).map(Arc::clone);
        let snapshots = self
            .job
            .checkpoints
            .map(|_| (Arc::clone(&uploads) as Arc<dyn Snapshots>, &mailboxes as &Mailboxes));
        let is_part = tasks.len() < n_tasks;
        let part = is_part.then_some(&*tasks);
        prepare(&self.program, &begin, part, &mut self.prepared)?;
        self.world.n_parts.fetch_add(u64::from(is_part), Ordering::SeqCst);
        let neighbours = &Neighbours::none(&tasks);
        let attempt = Attempt { number, begin, snapshots, backend, neighbours };
        let (prepared, memory) = (&self.prepared, &self.memory);
        let tasks = assemble(&self.program, &self.job, &attempt, prepared, &waker, memory)?;
        self.writers.extend(writers);
        for (task, assembled) in tasks {
            let place = Place {
                task: Some(assembled),
                bell: Arc::clone(&bells[task]),
                deadline_us: MAX_TIME,
                is_cancelled: false,
                is_over: false,
                is_held: false,
                attempt: number,
                control: Arc::clone(&controls[&task]),
            };
            self.places.insert(task, place);
        }
        Ok(LocalTasks { uploads: Some(uploads), controls: controls.into_iter().collect() })
    }

    fn step_task(&mut self, number: usize) {
        let Some(place) = self.places.get_mut(&number) else { return };
        let Some(task) = &mut place.task else { return };
        let event = if place.is_cancelled {
            TaskEvent::Cancelled { task: number }
        } else {
            // Before the step: what wakes it meanwhile may come too late for this one.
            place.bell.0.store(false, Ordering::SeqCst);
            place.deadline_us = MAX_TIME;
            match catch_unwind(AssertUnwindSafe(|| task.step())) {
                Ok(Ok(Progress::Busy)) => {
                    place.bell.wake();
                    return;
                }
                Ok(Ok(Progress::Idle(until_us) | Progress::Blocked(until_us))) => {
                    place.deadline_us = until_us;
                    return;
                }
                Ok(Ok(Progress::Restored)) => {
                    place.bell.wake();
                    place.is_held = true;
                    let restored = HostEvent::Restored { task: number };
                    self.events.push_back((place.attempt, restored));
                    return;
                }
                Ok(Ok(Progress::Done)) => {
                    place.task = None;
                    TaskEvent::Finished { task: number }
                }
                Ok(Err(error)) => {
                    let error = error.at(&task.current_place());
                    TaskEvent::Failed { task: number, error }
                }
                Err(payload) => {
                    let error = panic_error(&*payload).at(&task.current_place());
                    TaskEvent::Failed { task: number, error }
                }
            }
        };
        place.is_over = true;
        self.events.push_back((place.attempt, HostEvent::Over(event)));
    }
}

fn panic_error(payload: &(dyn Any + Send)) -> Error {
    let message = payload.downcast_ref::<&str>().copied().unwrap_or("a value that is no text");
    Error::user(format!("panicked: {message}"))
}
