//! The master of a job whose tasks run in the hosts of task managers.
//!
//! A thread with one inbox. It hands what it hears to the rollout (hosts and attempts) and to the master, until the
//! job has ended; then it gathers what accumulated, and says how the job ended. Between leaders the thread is gone and
//! the tasks are not: it is started again with the record of the attempt, and finds them.

mod detail;
mod placement;
mod rollout;

use super::link::{JobInput, JobSpec, Link};
use super::{
    Adopted, Attempt, Begin, Checkpoints, Event, Events, Master, NowUs, Participants, Request,
    Target, Tasks, local_storage,
};
use crate::clock::Clock;
use crate::scheduler::{JobState, Scheduler};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use detail::Watch;
use millstream_model::{CheckpointId, Command, Error, Machine, Result};
use millstream_proto::message::{
    self, FromHost, HostRun, HostSpec, JobId, NOWHERE, Outcome, TaskManagerId, ToHost,
    ToTaskManager,
};
use rollout::{AdoptedAttempt, Effect, Input, Rollout, Timeouts};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a leader decides for all its jobs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long task managers may take to find a new leader, in ms.
    pub reattach_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { reattach_timeout_ms: 10_000 }
    }
}

/// Starts the master of a job on a thread of its own. What it hears goes into the inbox; the end of that is as
/// [`JobInput::Abandon`].
///
/// # Errors
/// If the system refuses a thread.
pub fn start(spec: JobSpec, link: Box<dyn Link>, settings: Settings) -> Result<Sender<JobInput>> {
    let (sender, inbox) = unbounded();
    std::thread::Builder::new()
        .name(format!("job {}", spec.submission.start.graph.name))
        .spawn(move || run(spec, Arc::from(link), settings, &inbox))
        .map_err(|e| Error::external("a job's thread could not be started").caused_by(e))?;
    Ok(sender)
}

fn run(spec: JobSpec, link: Arc<dyn Link>, settings: Settings, inbox: &Receiver<JobInput>) {
    let clock = Clock::start();
    let watch = Watch::new(&spec, clock);
    let span = tracing::info_span!("job", id = %spec.id, name = ?spec.submission.start.graph.name);
    let _entered = span.enter();
    match open(&spec, &link, clock, settings) {
        Ok(master) => {
            let is_resumed = spec.attempt.is_some();
            Shell { spec, link, master, watch, clock }.run(inbox, is_resumed);
        }
        Err(error) => {
            tracing::warn!(%error, "the job cannot run");
            link.ended(watch.failed_at_start(error));
        }
    }
}

fn open(
    spec: &JobSpec,
    link: &Arc<dyn Link>,
    clock: Clock,
    settings: Settings,
) -> Result<Master<ClusterTasks>> {
    let (graph, job) = (&spec.submission.start.graph, &spec.submission.settings);
    let now_us: NowUs = Arc::new(move || clock.wall_us());
    let storage = local_storage();
    let (checkpoints, begin) = if spec.attempt.is_some() && job.checkpoint_dir.is_some() {
        (Checkpoints::take_over(job, graph, spec.epoch, &storage, &now_us)?, Begin::Anew)
    } else {
        Checkpoints::open(job, graph, spec.epoch, &storage, &now_us)?
    };
    let timeouts =
        Timeouts { cancel_ms: job.cancel_timeout_ms, reattach_ms: settings.reattach_timeout_ms };
    let tasks = ClusterTasks {
        spec: spec.clone(),
        link: Arc::clone(link),
        rollout: Rollout::new(graph, timeouts, spec.epoch),
        clock,
        finished: None,
    };
    let scheduler = Scheduler::new(graph).with_restarts(job.restart.clone());
    Ok(Master::new(scheduler, checkpoints, begin, tasks))
}

/// The tasks of a job in a cluster.
pub(super) struct ClusterTasks {
    spec: JobSpec,
    link: Arc<dyn Link>,
    rollout: Rollout,
    clock: Clock,
    /// What accumulated, once the hosts are gone, and why some of that is not known.
    finished: Option<(Vec<(String, Vec<Vec<u8>>)>, Option<Error>)>,
}

impl ClusterTasks {
    /// Steps the rollout until nothing more comes of it.
    fn step(&mut self, now_ms: u64, input: Input) -> Events {
        let (mut inputs, mut events) = (VecDeque::from([input]), Vec::new());
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.rollout.step(now_ms, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::RequestSlots(n, in_use) => self.link.request_slots(n, in_use),
                    Effect::Record(record) => {
                        inputs.push_back(Input::Recorded(self.link.record(&record)));
                    }
                    Effect::StartHost(id, run) => self.start_host(id, run),
                    Effect::StopHost(id) => {
                        self.link.send(id, ToTaskManager::StopHost { job: self.spec.id });
                    }
                    Effect::Tell(id, message) => {
                        let job = self.spec.id;
                        self.link.send(id, ToTaskManager::ToHost { job, message });
                    }
                    Effect::Deployed(attempt, hosts) => {
                        let participants = self.participants(attempt, hosts);
                        events.push((attempt, Event::Deployed { participants }));
                    }
                    Effect::Restored(attempt, task) => {
                        events.push((attempt, Event::Restored { task }));
                    }
                    Effect::Failed(attempt, tasks, error) => {
                        events.push((attempt, Event::Failed { tasks, error }));
                    }
                    Effect::Reachable(attempt) => events.push((attempt, Event::Reachable)),
                    Effect::Task(attempt, event) => events.push((attempt, Event::Task(event))),
                    Effect::Snapshot(attempt, event) => {
                        events.push((attempt, Event::Snapshot(event)));
                    }
                    Effect::Adopted { attempts, tasks, newest_checkpoint } => {
                        let newest = attempts.iter().map(|a| a.attempt).max().unwrap_or_default();
                        let adopted = |a: AdoptedAttempt| Adopted {
                            attempt: a.attempt,
                            tasks: a.tasks,
                            participants: self.participants(a.attempt, a.hosts),
                        };
                        let attempts = attempts.into_iter().map(adopted).collect();
                        events
                            .push((newest, Event::Adopted { attempts, tasks, newest_checkpoint }));
                    }
                    Effect::Finished(results, error) => self.finished = Some((results, error)),
                }
            }
        }
        events
    }

    fn start_host(&self, id: TaskManagerId, run: HostRun) {
        let submission = &self.spec.submission;
        let mut start = submission.start.clone();
        start.job = self.spec.id;
        let spec = HostSpec {
            run,
            program: submission.program,
            program_bytes: submission.program_bytes,
            name: start.graph.name.clone(),
            start,
        };
        self.link.send(id, ToTaskManager::StartHost(Box::new(spec)));
    }

    fn participants(&self, attempt: u32, hosts: Vec<TaskManagerId>) -> Box<dyn Participants> {
        Box::new(Far { link: Arc::clone(&self.link), job: self.spec.id, attempt, hosts })
    }
}

impl Tasks for ClusterTasks {
    fn deploy(&mut self, now_ms: u64, attempt: Attempt) -> Events {
        let begin = match attempt.begin {
            Begin::Fresh => message::Begin::Fresh,
            Begin::Anew => message::Begin::Anew,
            Begin::At(restored) => message::Begin::At {
                target: restored.target,
                is_own: attempt.own.is_some(),
                allow_non_restored: restored.restore.allow_non_restored,
            },
        };
        let token = draw_token(self.clock);
        let (attempt, tasks) = (attempt.number, attempt.tasks);
        self.step(now_ms, Input::Deploy { attempt, tasks, begin, token })
    }

    fn go(&mut self, now_ms: u64, attempt: u32) -> Events {
        self.step(now_ms, Input::Go { attempt })
    }

    fn cancel(&mut self, now_ms: u64, tasks: &[usize]) -> Events {
        self.step(now_ms, Input::Cancel { tasks: tasks.to_vec() })
    }

    fn close(&mut self, now_ms: u64, tasks: &[usize], again: bool) -> Events {
        self.step(now_ms, Input::Close { tasks: tasks.to_vec(), again })
    }
}

/// What only the hosts of one attempt know.
fn draw_token(clock: Clock) -> [u8; 16] {
    use std::hash::{BuildHasher, RandomState};
    let draw = || RandomState::new().hash_one(clock.wall_us()).to_le_bytes();
    let mut token = [0; 16];
    token[..8].copy_from_slice(&draw());
    token[8..].copy_from_slice(&draw());
    token
}

/// The tasks of an attempt on far hosts, as far as checkpoints are concerned.
struct Far {
    link: Arc<dyn Link>,
    job: JobId,
    attempt: u32,
    hosts: Vec<TaskManagerId>,
}

impl Far {
    fn tell(&self, message: &ToHost) {
        for id in self.hosts.iter().rev() {
            let (job, message) = (self.job, message.clone());
            self.link.send(*id, ToTaskManager::ToHost { job, message });
        }
    }
}

impl Participants for Far {
    fn aim(&mut self, checkpoint: CheckpointId, target: &Target) {
        let (attempt, target) = (self.attempt, target.folder.clone());
        Far::tell(self, &ToHost::Aim { attempt, checkpoint, target });
    }

    fn tell(&mut self, command: Command) {
        Far::tell(self, &ToHost::Command { attempt: self.attempt, command });
    }
}

struct Shell {
    spec: JobSpec,
    link: Arc<dyn Link>,
    master: Master<ClusterTasks>,
    watch: Watch,
    clock: Clock,
}

impl Shell {
    fn run(mut self, inbox: &Receiver<JobInput>, is_resumed: bool) {
        let now_ms = self.now_ms();
        match self.spec.attempt.clone() {
            Some(record) if is_resumed => {
                let mut of_tasks = vec![record.attempt; self.master.scheduler().executions().len()];
                for running in &record.running {
                    let placed = of_tasks.iter_mut().zip(&running.placement);
                    placed
                        .filter(|(_, host)| **host != NOWHERE)
                        .for_each(|(of_task, _)| *of_task = running.attempt);
                }
                self.master.resume(now_ms, record.attempt, of_tasks);
                self.step(now_ms, Input::Adopt { record });
            }
            _ => self.master.start(now_ms),
        }
        while self.master.ended().is_none() {
            self.note();
            if !self.wait(inbox) {
                tracing::info!("the job is left to the next leader");
                return;
            }
        }
        self.note();
        let is_finished = self.master.state() == JobState::Finished;
        let now_ms = self.now_ms();
        self.step(now_ms, Input::Finish { wants_results: is_finished });
        while self.master.tasks.finished.is_none() {
            if !self.wait(inbox) {
                // How it ended is not recorded, so the next leader will find that out again.
                return;
            }
        }
        let (results, unknown) = self.master.tasks.finished.take().unwrap_or_default();
        let error = self.master.ended().and_then(|(_, error)| error.cloned()).or(unknown);
        let outcome: Outcome = self.watch.outcome(&self.master, error, results);
        self.link.leave(self.watch.detail(&self.master));
        self.link.ended(outcome);
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Hands something to the rollout, and what comes of it to the master.
    fn step(&mut self, now_ms: u64, input: Input) {
        for (attempt, event) in self.master.tasks.step(now_ms, input) {
            self.master.take(now_ms, attempt, event);
        }
    }

    fn note(&mut self) {
        self.watch.placed(&self.master);
        let attempt = self.master.scheduler().attempt();
        for error in self.master.take_failures() {
            self.watch.failed(&error, attempt, self.clock.wall_ms());
        }
    }

    /// Waits for something to happen; false if the job is to be left alone.
    fn wait(&mut self, inbox: &Receiver<JobInput>) -> bool {
        let now_ms = self.now_ms();
        let alarms = [self.master.wake_at_ms(), self.master.tasks.rollout.wake_at_ms()];
        let input = match alarms.into_iter().flatten().min() {
            Some(at_ms) => inbox.recv_timeout(Duration::from_millis(at_ms.saturating_sub(now_ms))),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now_ms = self.now_ms();
        match input {
            Ok(JobInput::Abandon) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(input) => self.take(now_ms, input),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if self.master.wake_at_ms().is_some_and(|at| at <= now_ms) {
            self.master.tick(now_ms);
        }
        if self.master.tasks.rollout.wake_at_ms().is_some_and(|at| at <= now_ms) {
            self.step(now_ms, Input::Tick);
        }
        true
    }

    fn take(&mut self, now_ms: u64, input: JobInput) {
        match input {
            JobInput::Granted(slots) => self.step(now_ms, Input::Granted(slots)),
            JobInput::Missing(n) => self.step(now_ms, Input::Missing(n)),
            JobInput::TaskManagerJoined { id, host } => {
                self.step(now_ms, Input::Joined { id, host });
            }
            JobInput::TaskManagerLost { id, error } => self.step(now_ms, Input::Lost { id, error }),
            JobInput::HostEnded { id, run, error } => {
                self.step(now_ms, Input::HostEnded { id, run, error });
            }
            JobInput::FromHost { id, run, message: FromHost::Metrics(samples) } => {
                if self.master.tasks.rollout.counts_on(id, run) {
                    self.watch.measured(id, samples);
                }
            }
            JobInput::FromHost { id, run, message } => {
                self.step(now_ms, Input::FromHost { id, run, message });
            }
            JobInput::Cancel => self.master.cancel(now_ms),
            JobInput::Savepoint { kind, dir, reply } => {
                self.master.request(now_ms, Request { kind, dir, reply });
            }
            JobInput::Detail(reply) => reply.answer(self.watch.detail(&self.master)),
            // Handled by whoever waits.
            JobInput::Abandon => {}
        }
    }
}
