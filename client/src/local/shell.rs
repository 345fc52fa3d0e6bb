//! The shell of a job: performs what its machines decide, feeds back what comes of it, shows progress.
//!
//! Two machines decide: the scheduler (which attempt runs, how the job ends) and, if the job takes checkpoints,
//! their coordinator. Both are stepped here, on one thread, so neither ever sees half of what happened.

use super::Program;
use super::assemble::{Attempt, Begin, assemble};
use super::backend;
use super::checkpoints::{Checkpoints, Request, local_storage};
use super::handle::{JobHandle, Shared};
use crossbeam_channel::{Receiver, Sender, never, select, unbounded};
use millstream_jobmanager::scheduler::{Effect, Input, JobState, Scheduler};
use millstream_model::{Error, Machine, Result};
use millstream_runtime::SystemClock;
use millstream_runtime::context::{Clock, JobContext};
use millstream_runtime::exchange::MemoryPool;
use millstream_runtime::task::{Control, Snapshots};
use millstream_state::store::Backend;
use millstream_taskmanager::host::{Running, TaskEvent, TaskHost};
use millstream_taskmanager::uploads::{SnapshotEvent, Uploads};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the progress bar moves.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What the holder of a job's handle wants.
pub(crate) enum Order {
    Cancel,
    Snapshot(Request),
}

/// Starts a job on a thread of its own.
pub(crate) fn launch(program: Program) -> Result<JobHandle> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (checkpoints, begin) =
        Checkpoints::open(&program.config, &program.compiled.graph, &local_storage(), &clock)?;
    let backend = backend::open(&program.config)?;
    let mode = checkpoints.is_some().then(|| program.config.mode());
    let job = Arc::new(JobContext {
        name: program.compiled.graph.name.clone(),
        parameters: program.config.parameters.clone(),
        clock,
        registry: Default::default(),
        alignment: Default::default(),
        batch_size: program.config.batch_size,
        checkpoints: mode,
    });
    let (inbox, orders) = unbounded();
    let memory = Arc::new(MemoryPool::new(program.config.network_memory));
    let shared = Arc::new(Shared::new(
        program.compiled.graph.clone(),
        Arc::clone(&job),
        Arc::clone(&memory),
    ));
    let handle = JobHandle::new(Arc::clone(&shared), inbox);
    let name = format!("job {}", program.compiled.graph.name);
    let scheduler = Scheduler::new(&program.compiled.graph).with_restarts(program.config.restart());
    let shell = Shell {
        program,
        job,
        memory,
        shared,
        orders,
        scheduler,
        checkpoints,
        begin: Some(begin),
        backend,
        snapshots: unbounded(),
        start: Instant::now(),
        inputs: vec![Input::Start],
        running: None,
        restart_at: None,
        ended: None,
    };
    std::thread::Builder::new()
        .name(name)
        .spawn(move || shell.run())
        .map_err(|e| Error::external("the job's thread could not be started").caused_by(e))?;
    Ok(handle)
}

struct Shell {
    program: Program,
    job: Arc<JobContext>,
    memory: Arc<MemoryPool>,
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    scheduler: Scheduler,
    checkpoints: Option<Checkpoints>,
    /// Where the first attempt begins.
    begin: Option<Begin>,
    /// What keeps the state, if that is not memory alone.
    backend: Option<Backend>,
    /// What tasks say of their snapshots, with their attempt.
    snapshots: (Sender<(u32, SnapshotEvent)>, Receiver<(u32, SnapshotEvent)>),
    start: Instant,
    /// For the scheduler.
    inputs: Vec<Input>,
    running: Option<(Running, Receiver<TaskEvent>)>,
    /// When the job is to run again, if it waits for that.
    restart_at: Option<Instant>,
    ended: Option<(JobState, Option<Error>)>,
}

impl Shell {
    fn run(mut self) {
        let progress = Progress::new(&self.program, &self.job);
        while self.ended.is_none() {
            let mut effects = Vec::new();
            let now_ms = self.now_ms();
            for input in std::mem::take(&mut self.inputs) {
                self.scheduler.step(now_ms, input, &mut effects);
            }
            self.shared.set_state(self.scheduler.state());
            let last = self.checkpoints.as_ref().and_then(Checkpoints::last);
            self.shared.set_progress(self.scheduler.attempt(), last);
            for effect in effects {
                self.perform(effect);
            }
            if self.ended.is_none() && self.inputs.is_empty() {
                self.wait();
                progress.show();
            }
        }
        progress.clear();
        self.stop();
        if let Some(backend) = &self.backend {
            // What is left lies among the system's temporary files, unless the user said otherwise.
            let _ = std::fs::remove_dir_all(&backend.dir);
        }
        let (state, error) = self.ended.take().unwrap_or((JobState::Failed, None));
        self.shared.end(state, error, self.start.elapsed());
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Deploy { tasks, attempt } => {
                if let Err(error) = self.deploy(tasks.len(), attempt) {
                    self.inputs.push(Input::DeployFailed(error));
                }
            }
            Effect::CancelTasks => {
                if let Some((running, _)) = &self.running {
                    running.cancel();
                }
            }
            Effect::RestartAfter { delay_ms, error } => {
                tracing::warn!(%error, delay_ms, "the job failed and will run again");
                self.stop();
                self.restart_at = Some(Instant::now() + Duration::from_millis(delay_ms));
            }
            Effect::JobEnded(state, error) => self.ended = Some((state, error)),
        }
    }

    /// Every task has answered: waits for the threads, and lets checkpoints rest.
    fn stop(&mut self) {
        if let Some((running, _)) = self.running.take() {
            running.join();
            self.take_answers();
            let now_ms = self.now_ms();
            if let Some(checkpoints) = &mut self.checkpoints {
                let inputs = checkpoints.stopped(now_ms);
                self.inputs.extend(inputs);
            }
        }
    }

    fn deploy(&mut self, n_tasks: usize, number: u32) -> Result<()> {
        let begin = match (self.begin.take(), &mut self.checkpoints) {
            (_, Some(checkpoints)) if number > 0 => checkpoints.begin()?,
            (Some(begin), _) => begin,
            (None, _) => Begin::Anew,
        };
        let host = TaskHost::new(self.program.config.driver(), n_tasks);
        let mut controls = Vec::new();
        let mut uploads = None;
        if self.checkpoints.is_some() {
            controls = (0..n_tasks).map(|t| Arc::new(Control::new(host.waker(t)))).collect();
            let wakers = (0..n_tasks).map(|t| host.waker(t)).collect();
            let own = match (&begin, &self.checkpoints) {
                (Begin::At(restore), Some(c)) if c.is_own(restore) => Some(&*restore.manifest),
                _ => None,
            };
            let (backend, events) = (self.backend.as_ref(), self.snapshots.0.clone());
            uploads = Some(Arc::new(Uploads::start(wakers, number, backend, own, events)?));
        }
        let snapshots =
            uploads.as_ref().map(|u| (Arc::clone(u) as Arc<dyn Snapshots>, &controls[..]));
        let backend = self.backend.as_ref();
        let attempt = Attempt { number, begin, snapshots, backend };
        let waker = |task| host.waker(task);
        let tasks = assemble(&self.program, &self.job, &attempt, &waker, &self.memory)?;
        let (events, inbox) = unbounded();
        let running = host.start(tasks, Arc::clone(&self.job.clock), events).map_err(|e| {
            Error::external("the system refused a thread for the job's tasks").caused_by(e)
        })?;
        self.running = Some((running, inbox));
        let now_ms = self.now_ms();
        if let (Some(checkpoints), Some(uploads)) = (&mut self.checkpoints, uploads) {
            let inputs = checkpoints.started(now_ms, number, uploads, controls);
            self.inputs.extend(inputs);
        }
        Ok(())
    }

    /// What has to be done next although nothing happens.
    fn next_due(&self) -> Instant {
        let checkpoint = self.checkpoints.as_ref().and_then(Checkpoints::wake_at_ms);
        let checkpoint =
            checkpoint.and_then(|at| self.start.checked_add(Duration::from_millis(at)));
        let progress = Instant::now() + PROGRESS_INTERVAL;
        [self.restart_at, checkpoint].into_iter().flatten().min().unwrap_or(progress).min(progress)
    }

    /// Waits for something to happen, for a while.
    fn wait(&mut self) {
        if self.restart_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.inputs.push(Input::Restart);
            return;
        }
        let now_ms = self.now_ms();
        if let Some(checkpoints) = &mut self.checkpoints
            && checkpoints.wake_at_ms().is_some_and(|at| at <= now_ms)
        {
            let inputs = checkpoints.tick(now_ms);
            self.inputs.extend(inputs);
            return;
        }
        let patience = self.next_due().saturating_duration_since(Instant::now());
        let (no_events, no_orders) = (never(), never());
        let events = self.running.as_ref().map_or(&no_events, |(_, events)| events);
        let (mut order, mut event, mut is_dropped) = (None, None, false);
        select! {
            recv(self.orders) -> message => match message {
                Ok(message) => order = Some(message),
                Err(_) => is_dropped = true,
            },
            recv(events) -> message => event = message.ok(),
            recv(self.snapshots.1) -> message => {
                if let Ok((attempt, answer)) = message {
                    self.take_answer(attempt, answer);
                }
            },
            default(patience) => {}
        }
        if is_dropped {
            // The handle was dropped: the job runs on without it.
            self.orders = no_orders;
        }
        self.inputs.extend(event.map(as_input));
        match order {
            Some(Order::Cancel) => self.inputs.push(Input::Cancel),
            Some(Order::Snapshot(request)) => self.request(request),
            None => {}
        }
    }

    fn request(&mut self, request: Request) {
        let now_ms = self.now_ms();
        match &mut self.checkpoints {
            Some(checkpoints) => {
                let inputs = checkpoints.request(now_ms, request);
                self.inputs.extend(inputs);
            }
            None => {
                let error = Error::user(
                    "the job takes no checkpoints, so it cannot take a savepoint: set `checkpoint-dir`",
                );
                // Whoever asked may have gone.
                let _ = request.reply.send(Err(error));
            }
        }
    }

    fn take_answer(&mut self, attempt: u32, answer: SnapshotEvent) {
        let now_ms = self.now_ms();
        if let Some(checkpoints) = &mut self.checkpoints {
            let inputs = checkpoints.answered(now_ms, attempt, answer);
            self.inputs.extend(inputs);
        }
    }

    fn take_answers(&mut self) {
        while let Ok((attempt, answer)) = self.snapshots.1.try_recv() {
            self.take_answer(attempt, answer);
        }
    }
}

fn as_input(event: TaskEvent) -> Input {
    match event {
        TaskEvent::Finished { task } => Input::TaskFinished(task),
        TaskEvent::Failed { task, error } => Input::TaskFailed(task, error),
        TaskEvent::Cancelled { task } => Input::TaskCancelled(task),
    }
}

/// A bar for bounded jobs on a terminal; nothing otherwise.
struct Progress {
    bar: Option<indicatif::ProgressBar>,
    job: Arc<JobContext>,
}

impl Progress {
    fn new(program: &Program, job: &Arc<JobContext>) -> Self {
        let shown = program.compiled.graph.bounded && program.config.shows_progress();
        let bar = shown.then(|| {
            let sources = program.graph.nodes.iter().filter_map(|n| n.source.as_ref());
            let total: Option<u64> = sources.map(|s| s.size_hint).sum();
            match total {
                Some(total) => {
                    let style =
                        "{msg} {wide_bar} {human_pos}/{human_len} records, {per_sec}, {eta} left";
                    let bar = indicatif::ProgressBar::new(total);
                    bar.with_style(
                        indicatif::ProgressStyle::with_template(style)
                            .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()),
                    )
                }
                None => {
                    let style = "{spinner} {msg} {human_pos} records, {per_sec}, {elapsed}";
                    indicatif::ProgressBar::new_spinner().with_style(
                        indicatif::ProgressStyle::with_template(style)
                            .unwrap_or_else(|_| indicatif::ProgressStyle::default_spinner()),
                    )
                }
            }
            .with_message(job.name.clone())
        });
        Progress { bar, job: Arc::clone(job) }
    }

    fn show(&self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.job.registry.count(super::handle::RECORDS));
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
