//! One life of a process that runs a job, from its start to its end or crash.
//!
//! The shell of a simulated job. It performs the same effects as the shell of a real one, with the same
//! `Checkpoints`; but what would come on its own from other threads lies in queues until it is told to happen.

use super::World;
use crate::compile;
use crate::environment::Environment;
use crate::local::{Attempt, Begin, Checkpoints, Program, Request, assemble};
use crossbeam_channel::{Receiver, Sender, unbounded};
use millstream_jobmanager::scheduler::{Effect, Input, JobState, Scheduler};
use millstream_model::{Error, EventTime, MAX_TIME, Machine, Result, SnapshotKind};
use millstream_runtime::context::{Clock, JobContext};
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::task::{Control, Progress, Snapshots, Task, Wake, Waker};
use millstream_state::store::Backend;
use millstream_taskmanager::uploads::{SnapshotEvent, Uploads, Writer};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
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
    /// The coordinator's alarm goes off.
    Tick,
    /// The time before the next attempt is over.
    Restart,
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
    is_over: bool,
}

/// See the module's text.
pub struct Process {
    world: World,
    program: Program,
    job: Arc<JobContext>,
    memory: Arc<MemoryPool>,
    scheduler: Scheduler,
    backend: Option<Backend>,
    checkpoints: Option<Checkpoints>,
    begin: Option<Begin>,
    places: Vec<Place>,
    is_cancelled: bool,
    /// Of all attempts: what an attempt has begun to write goes on when it is over.
    writers: Vec<Writer>,
    snapshots: (Sender<(u32, SnapshotEvent)>, Receiver<(u32, SnapshotEvent)>),
    answers: Vec<(u32, SnapshotEvent)>,
    /// What became of tasks.
    events: VecDeque<Input>,
    restart_at_us: Option<EventTime>,
    failures: Vec<String>,
    ended: Option<(JobState, Option<Error>)>,
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
        let (checkpoints, begin) =
            Checkpoints::open(&config, &compiled.graph, &world.open_storage, &clock)?;
        let job = Arc::new(JobContext {
            name: name.into(),
            parameters: config.parameters.clone(),
            clock,
            registry: Default::default(),
            alignment: Default::default(),
            batch_size: config.batch_size,
            checkpoints: checkpoints.is_some().then(|| config.mode()),
        });
        let mut process = Process {
            world: world.clone(),
            job,
            memory: Arc::new(MemoryPool::new(config.network_memory)),
            scheduler: Scheduler::new(&compiled.graph).with_restarts(config.restart()),
            program: Program { graph, compiled, config },
            backend,
            checkpoints,
            begin: Some(begin),
            places: Vec::new(),
            is_cancelled: false,
            writers: Vec::new(),
            snapshots: unbounded(),
            answers: Vec::new(),
            events: VecDeque::new(),
            restart_at_us: None,
            failures: Vec::new(),
            ended: None,
        };
        process.schedule([Input::Start]);
        Ok(process)
    }

    /// How the job ended, if it has, and why.
    pub fn ended(&self) -> Option<(JobState, Option<&Error>)> {
        self.ended.as_ref().map(|(state, error)| (*state, error.as_ref()))
    }

    /// Why the job was restarted or ended, in this process.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// How often the job was restarted in this process.
    pub fn attempt(&self) -> u32 {
        self.scheduler.attempt()
    }

    /// The name of a task's first operator.
    pub fn name_of(&self, task: usize) -> String {
        let (vertex, subtask) = self.scheduler.executions()[task].address();
        let vertex = &self.program.compiled.graph.vertices[vertex];
        format!("{} {}/{}", vertex.operators[0].name, subtask + 1, vertex.parallelism)
    }

    /// What could happen now; nothing more when the job has ended. What is still to be written does not keep a
    /// job from ending.
    pub fn actions(&self, actions: &mut Vec<Action>) {
        actions.clear();
        if self.ended.is_some() {
            return;
        }
        let now_us = self.world.now_us();
        for (number, place) in self.places.iter().enumerate() {
            let is_ready = place.bell.0.load(Ordering::SeqCst) || place.deadline_us <= now_us;
            if !place.is_over && (is_ready || self.is_cancelled) {
                actions.push(Action::Step(number));
            }
        }
        let works = self.writers.iter().enumerate().filter(|(_, writer)| writer.has_work());
        actions.extend(works.map(|(number, _)| Action::Write(number)));
        actions.extend((!self.events.is_empty()).then_some(Action::Hear));
        actions.extend((0..self.answers.len()).map(Action::Answer));
        actions.extend((self.wake_at_us() <= now_us).then_some(Action::Tick));
        actions.extend(self.restart_at_us.filter(|at| *at <= now_us).map(|_| Action::Restart));
    }

    /// When something could happen although nothing does before: in µs.
    pub fn next_due_us(&self) -> Option<EventTime> {
        let tasks = self.places.iter().filter(|place| !place.is_over).map(|p| p.deadline_us);
        let alarms = [self.wake_at_us(), self.restart_at_us.unwrap_or(MAX_TIME)];
        tasks.chain(alarms).min().filter(|at| *at != MAX_TIME)
    }

    fn wake_at_us(&self) -> EventTime {
        let wake_at_ms = self.checkpoints.as_ref().and_then(Checkpoints::wake_at_ms);
        wake_at_ms.map_or(MAX_TIME, |ms| (ms as EventTime).saturating_mul(1000))
    }

    /// Lets one of the [`actions`](Process::actions) happen.
    pub fn perform(&mut self, action: Action) {
        match action {
            Action::Step(task) => self.step_task(task),
            Action::Write(writer) => self.writers[writer].step(),
            Action::Hear => {
                let event = self.events.pop_front();
                self.schedule(event);
            }
            Action::Answer(number) => {
                let (attempt, answer) = self.answers.remove(number);
                self.answer(attempt, answer);
            }
            Action::Tick => {
                let now_ms = self.now_ms();
                let inputs = self.checkpoints.as_mut().map(|c| c.tick(now_ms));
                self.schedule(inputs.into_iter().flatten());
            }
            Action::Restart => {
                self.restart_at_us = None;
                self.schedule([Input::Restart]);
            }
        }
        self.answers.extend(self.snapshots.1.try_iter());
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
        let request = Request { kind, dir: dir.into(), reply };
        let now_ms = self.now_ms();
        let inputs = self.checkpoints.as_mut().map(|c| c.request(now_ms, request));
        self.schedule(inputs.into_iter().flatten());
        Savepoint(outcome)
    }

    fn now_ms(&self) -> u64 {
        (self.world.now_us() / 1000) as u64
    }

    /// Steps the scheduler until nothing more comes of it.
    fn schedule(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let mut inputs: VecDeque<Input> = inputs.into_iter().collect();
        while let Some(input) = inputs.pop_front() {
            let (now_ms, mut effects) = (self.now_ms(), Vec::new());
            self.scheduler.step(now_ms, input, &mut effects);
            for effect in effects {
                self.perform_effect(effect, &mut inputs);
            }
        }
    }

    fn perform_effect(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Deploy { tasks, attempt } => {
                if let Err(error) = self.deploy(tasks.len(), attempt, inputs) {
                    inputs.push_back(Input::DeployFailed(error));
                }
            }
            Effect::CancelTasks => self.is_cancelled = true,
            Effect::RestartAfter { delay_ms, error } => {
                self.failures.push(error.to_string());
                self.stop(inputs);
                let delay_us = (delay_ms as EventTime).saturating_mul(1000);
                self.restart_at_us = Some(self.world.now_us() + delay_us);
            }
            Effect::JobEnded(state, error) => {
                self.failures.extend(error.as_ref().map(Error::to_string));
                self.stop(inputs);
                self.ended = Some((state, error));
            }
        }
    }

    fn deploy(&mut self, n_tasks: usize, number: u32, inputs: &mut VecDeque<Input>) -> Result<()> {
        let begin = match (self.begin.take(), &mut self.checkpoints) {
            (_, Some(checkpoints)) if number > 0 => checkpoints.begin()?,
            (Some(begin), _) => begin,
            (None, _) => Begin::Anew,
        };
        let bells: Vec<Arc<Bell>> =
            (0..n_tasks).map(|_| Arc::new(Bell(AtomicBool::new(true)))).collect();
        let waker = |task: usize| Arc::clone(&bells[task]) as Waker;
        let controls: Vec<_> = (0..n_tasks).map(|t| Arc::new(Control::new(waker(t)))).collect();
        let wakers = (0..n_tasks).map(waker).collect();
        let own = match (&begin, &self.checkpoints) {
            (Begin::At(restore), Some(c)) if c.is_own(restore) => Some(&*restore.manifest),
            _ => None,
        };
        let (backend, sender) = (self.backend.as_ref(), self.snapshots.0.clone());
        let (uploads, writers) = Uploads::by_hand(wakers, n_tasks, number, backend, own, sender);
        let uploads = Arc::new(uploads);
        let snapshots = self
            .checkpoints
            .is_some()
            .then(|| (Arc::clone(&uploads) as Arc<dyn Snapshots>, &controls[..]));
        let attempt = Attempt { number, begin, snapshots, backend };
        let tasks = assemble(&self.program, &self.job, &attempt, &waker, &self.memory)?;
        self.writers.extend(writers);
        self.is_cancelled = false;
        self.places = tasks
            .into_iter()
            .zip(bells)
            .map(|(task, bell)| Place {
                task: Some(task),
                bell,
                deadline_us: MAX_TIME,
                is_over: false,
            })
            .collect();
        let now_ms = self.now_ms();
        if let Some(checkpoints) = &mut self.checkpoints {
            inputs.extend(checkpoints.started(now_ms, number, uploads, controls));
        }
        Ok(())
    }

    /// Every task has answered.
    fn stop(&mut self, inputs: &mut VecDeque<Input>) {
        if self.places.is_empty() {
            return;
        }
        self.places.clear();
        let now_ms = self.now_ms();
        if let Some(checkpoints) = &mut self.checkpoints {
            inputs.extend(checkpoints.stopped(now_ms));
        }
    }

    fn answer(&mut self, attempt: u32, answer: SnapshotEvent) {
        let now_ms = self.now_ms();
        let inputs = self.checkpoints.as_mut().map(|c| c.answered(now_ms, attempt, answer));
        self.schedule(inputs.into_iter().flatten());
    }

    fn step_task(&mut self, number: usize) {
        let is_cancelled = self.is_cancelled;
        let place = &mut self.places[number];
        let Some(task) = &mut place.task else { return };
        let event = if is_cancelled {
            Input::TaskCancelled(number)
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
                Ok(Ok(Progress::Done)) => {
                    place.task = None;
                    Input::TaskFinished(number)
                }
                Ok(Err(error)) => Input::TaskFailed(number, error.at(&task.current_place())),
                Err(payload) => {
                    let error = panic_error(&*payload).at(&task.current_place());
                    Input::TaskFailed(number, error)
                }
            }
        };
        place.is_over = true;
        self.events.push_back(event);
    }
}

fn panic_error(payload: &(dyn Any + Send)) -> Error {
    let message = payload.downcast_ref::<&str>().copied().unwrap_or("a value that is no text");
    Error::user(format!("panicked: {message}"))
}
