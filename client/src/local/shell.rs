//! The thread of a job that runs in this process: hands its master what happens, and shows progress.

use super::Program;
use super::assemble::Begin;
use super::assemble::Prepared;
use super::neighbours::Neighbours;
use super::runner::{LocalTasks, Runner};
use super::shared::{LocalJob, Shared};
use crate::job::{JobHandle, RECORDS};
use crossbeam_channel::{Receiver, never, select, unbounded};
use millstream_jobmanager::job::{
    Attempt, Checkpoints, Event, Events, Master, NowUs, Request, Tasks, local_storage,
};
use millstream_jobmanager::scheduler::{JobState, Scheduler};
use millstream_model::{Error, LeaderEpoch, Result};
use millstream_runtime::SystemClock;
use millstream_runtime::context::{Clock, JobContext};
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
    let (graph, settings) = (&program.compiled.graph, program.config.job_settings());
    // Every job in a process of its own is its own leader.
    let epoch = LeaderEpoch::default();
    let now_us = { Arc::clone(&clock) };
    let now_us: NowUs = Arc::new(move || now_us.now_us());
    let (checkpoints, begin) =
        Checkpoints::open(&settings, graph, epoch, &local_storage(), &now_us)?;
    let scheduler = Scheduler::new(graph).with_restarts(settings.restart);
    let runner = Runner::new(program, clock)?;
    let (inbox, orders) = unbounded();
    let graph = runner.program.compiled.graph.clone();
    let name = format!("job {}", graph.name);
    let (job, memory) = (Arc::clone(&runner.job), Arc::clone(&runner.memory));
    let shared = Arc::new(Shared::new(graph, job, memory));
    shared.set_passed_over(checkpoints.as_ref().map_or(&[], Checkpoints::passed_over));
    let handle = JobHandle::new(LocalJob { shared: Arc::clone(&shared), inbox });
    let master = Master::new(
        scheduler,
        checkpoints,
        begin,
        Embedded { runner, prepared: Prepared::new(), shared: Arc::clone(&shared) },
    );
    let shell = Shell { master, shared, orders, start: Instant::now() };
    std::thread::Builder::new()
        .name(name)
        .spawn(move || shell.run())
        .map_err(|e| Error::external("the job's thread could not be started").caused_by(e))?;
    Ok(handle)
}

/// All tasks of a job, in this process.
struct Embedded {
    runner: Runner,
    /// What was found with the last attempt of all tasks.
    prepared: Prepared,
    shared: Arc<Shared>,
}

impl Embedded {
    fn run(&mut self, attempt: Attempt) -> Result<LocalTasks> {
        let own = attempt.own.map(|own| own.restore.manifest);
        let begin = Begin::from(attempt.begin);
        let is_part = attempt.tasks.len() < self.runner.program.compiled.graph.n_tasks();
        let part = is_part.then_some(&*attempt.tasks);
        self.runner.prepare(&begin, part, &mut self.prepared)?;
        let neighbours = Neighbours::none(&attempt.tasks);
        let (number, prepared) = (attempt.number, &self.prepared);
        self.runner.deploy(number, begin, own.as_deref(), prepared, &neighbours)
    }
}

impl Tasks for Embedded {
    fn deploy(&mut self, _: u64, attempt: Attempt) -> Events {
        // Before a task can do what shows that it runs.
        self.shared.set_state(JobState::Running);
        let number = attempt.number;
        let event = match self.run(attempt) {
            Ok(tasks) => Event::Deployed { participants: Box::new(tasks) },
            Err(error) => Event::DeployFailed(error),
        };
        vec![(number, event)]
    }

    fn go(&mut self, _: u64, attempt: u32) -> Events {
        self.runner.go(attempt);
        Vec::new()
    }

    fn cancel(&mut self, _: u64, tasks: &[usize]) -> Events {
        self.runner.cancel(tasks);
        Vec::new()
    }

    fn close(&mut self, _: u64, tasks: &[usize], again: bool) -> Events {
        self.runner.close(tasks, again);
        let answers: Vec<_> = self.runner.snapshot_events().try_iter().collect();
        let heard = |(attempt, answer)| (attempt, Event::Snapshot(answer));
        answers.into_iter().map(heard).collect()
    }
}

struct Shell {
    master: Master<Embedded>,
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    start: Instant,
}

impl Shell {
    fn run(mut self) {
        let progress = Progress::new(&self.master.tasks.runner);
        self.master.start(self.now_ms());
        while self.master.ended().is_none() {
            self.shared.set_state(self.master.state());
            let last = self.master.checkpoints().and_then(Checkpoints::last);
            self.shared.set_progress(self.master.scheduler().attempt(), last);
            self.wait();
            progress.show();
        }
        progress.clear();
        let Shell { master, shared, start, .. } = self;
        let (state, error) = match master.ended() {
            Some((state, error)) => (state, error.cloned()),
            None => (JobState::Failed, None),
        };
        // The threads are gone before the end is told.
        drop(master);
        shared.end(state, error, start.elapsed());
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// What has to be done next although nothing happens.
    fn next_due(&self) -> Instant {
        let alarm = self.master.wake_at_ms();
        let alarm = alarm.and_then(|at| self.start.checked_add(Duration::from_millis(at)));
        let progress = Instant::now() + PROGRESS_INTERVAL;
        alarm.map_or(progress, |alarm| alarm.min(progress))
    }

    /// Waits for something to happen, for a while.
    fn wait(&mut self) {
        let now_ms = self.now_ms();
        if self.master.wake_at_ms().is_some_and(|at| at <= now_ms) {
            self.master.tick(now_ms);
            return;
        }
        let patience = self.next_due().saturating_duration_since(Instant::now());
        let runner = &self.master.tasks.runner;
        let (mut order, mut event, mut is_dropped) = (None, None, false);
        select! {
            recv(self.orders) -> message => match message {
                Ok(message) => order = Some(message),
                Err(_) => is_dropped = true,
            },
            recv(runner.task_events()) -> message => {
                event = message.ok().map(|(attempt, e)| (attempt, Event::from(e)));
            },
            recv(runner.snapshot_events()) -> message => {
                event = message.ok().map(|(attempt, e)| (attempt, Event::Snapshot(e)));
            },
            default(patience) => {}
        }
        if is_dropped {
            // The handle was dropped: the job runs on without it.
            self.orders = never();
        }
        let now_ms = self.now_ms();
        if let Some((attempt, event)) = event {
            self.master.take(now_ms, attempt, event);
        }
        match order {
            Some(Order::Cancel) => self.master.cancel(now_ms),
            Some(Order::Snapshot(request)) => self.master.request(now_ms, request),
            None => {}
        }
    }
}

/// A bar for bounded jobs on a terminal; nothing otherwise.
struct Progress {
    bar: Option<indicatif::ProgressBar>,
    job: Arc<JobContext>,
}

impl Progress {
    fn new(runner: &Runner) -> Self {
        let (program, job) = (&runner.program, &runner.job);
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
            bar.set_position(self.job.registry.count(RECORDS));
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
