//! The shell of the scheduler: performs its effects, feeds back events, shows progress.

use super::Program;
use super::assemble::assemble;
use super::handle::{JobHandle, Shared};
use millstream_jobmanager::scheduler::{Effect, Input, JobState, Scheduler};
use millstream_model::{Error, Machine, Result};
use millstream_runtime::SystemClock;
use millstream_runtime::context::JobContext;
use millstream_runtime::exchange::MemoryPool;
use millstream_taskmanager::host::{Running, TaskEvent, TaskHost};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the progress bar moves.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Starts a job on a thread of its own.
pub(crate) fn launch(program: Program) -> Result<JobHandle> {
    let job = Arc::new(JobContext {
        name: program.compiled.graph.name.clone(),
        parameters: program.config.parameters.clone(),
        clock: Arc::new(SystemClock::default()),
        registry: Default::default(),
        alignment: Default::default(),
        batch_size: program.config.batch_size,
    });
    let (inbox, inputs) = crossbeam_channel::unbounded();
    let memory = Arc::new(MemoryPool::new(program.config.network_memory));
    let shared = Arc::new(Shared::new(
        program.compiled.graph.clone(),
        Arc::clone(&job),
        Arc::clone(&memory),
    ));
    let handle = JobHandle::new(Arc::clone(&shared), inbox);
    let name = format!("job {}", program.compiled.graph.name);
    let shell = Shell { program, job, memory, shared, inputs, running: None, restart_at: None };
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
    inputs: crossbeam_channel::Receiver<Input>,
    running: Option<(Running, crossbeam_channel::Receiver<TaskEvent>)>,
    /// When the job is to run again, if it waits for that.
    restart_at: Option<Instant>,
}

impl Shell {
    fn run(mut self) {
        let start = Instant::now();
        let mut scheduler = Scheduler::new(&self.program.compiled.graph);
        let progress = Progress::new(&self.program, &self.job);
        let mut effects = Vec::new();
        let mut inputs = vec![Input::Start];
        let mut ended: Option<(JobState, Option<Error>)> = None;
        while ended.is_none() {
            for input in inputs.drain(..) {
                scheduler.step(start.elapsed().as_millis() as u64, input, &mut effects);
            }
            self.shared.set_state(scheduler.state());
            for effect in effects.drain(..) {
                match effect {
                    Effect::Deploy { tasks, attempt: _ } => {
                        if let Err(error) = self.deploy(tasks.len()) {
                            inputs.push(Input::DeployFailed(error));
                        }
                    }
                    Effect::CancelTasks => {
                        if let Some((running, _)) = &self.running {
                            running.cancel();
                        }
                    }
                    Effect::RestartAfter { delay_ms, error } => {
                        tracing::warn!(%error, delay_ms, "the job failed and will run again");
                        if let Some((running, _)) = self.running.take() {
                            running.join();
                        }
                        self.restart_at = Some(Instant::now() + Duration::from_millis(delay_ms));
                    }
                    Effect::JobEnded(state, error) => ended = Some((state, error)),
                }
            }
            if ended.is_none() && inputs.is_empty() {
                inputs.extend(self.next_input());
                progress.show();
            }
        }
        progress.clear();
        if let Some((running, _)) = self.running.take() {
            running.join();
        }
        let (state, error) = ended.unwrap_or((JobState::Failed, None));
        self.shared.end(state, error, start.elapsed());
    }

    fn deploy(&mut self, n_tasks: usize) -> Result<()> {
        let host = TaskHost::new(self.program.config.driver(), n_tasks);
        let tasks = assemble(&self.program, &self.job, &|task| host.waker(task), &self.memory)?;
        let (events, inbox) = crossbeam_channel::unbounded();
        let running = host.start(tasks, Arc::clone(&self.job.clock), events).map_err(|e| {
            Error::external("the system refused a thread for the job's tasks").caused_by(e)
        })?;
        self.running = Some((running, inbox));
        Ok(())
    }

    /// Waits for something to happen, for a while.
    fn next_input(&mut self) -> Option<Input> {
        if self.restart_at.take_if(|at| *at <= Instant::now()).is_some() {
            return Some(Input::Restart);
        }
        let patience = self.restart_at.map_or(PROGRESS_INTERVAL, |at| {
            at.saturating_duration_since(Instant::now()).min(PROGRESS_INTERVAL)
        });
        let never = crossbeam_channel::never();
        let events = self.running.as_ref().map_or(&never, |(_, events)| events);
        crossbeam_channel::select! {
            recv(self.inputs) -> input => match input {
                Ok(input) => Some(input),
                // The handle was dropped: the job runs on without it.
                Err(_) => events.recv_timeout(patience).ok().map(as_input),
            },
            recv(events) -> event => event.ok().map(as_input),
            default(patience) => None,
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
