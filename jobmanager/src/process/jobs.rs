//! The shell's dealings with jobs and with those who ask for them.

use super::describe;
use super::event::{Answer, End, Everything, LogPiece, LogRange, Question, Stage, Standing};
use super::link::JobLink;
use super::shared::Write;
use super::shell::Shell;
use crate::dispatcher::{self, Effect};
use crate::job::link::{AttemptRecord, JobInput, JobSpec};
use crate::resource::{self, Presence};
use crate::store::SubmittedJob;
use crossbeam_channel::Sender;
use millstream_model::{Error, Machine, Result};
use millstream_proto::message::{
    JobId, JobPhase, Outcome, TaskManagerId, TaskManagerRow, ToTaskManager,
};
use std::sync::Arc;
use tokio::sync::oneshot;

impl Shell {
    pub(super) fn step_dispatcher(&mut self, input: dispatcher::Input) {
        let mut effects = Vec::new();
        self.dispatcher.step(self.now_ms(), input, &mut effects);
        for effect in effects {
            match effect {
                Effect::StoreSubmission(job) => self.write(Write::Submission(job)),
                Effect::StoreCancel(job) => self.write(Write::Cancel(job)),
                Effect::StoreOutcome(outcome) => self.write(Write::Outcome(outcome)),
                Effect::Start { job, attempt } => self.start(&job, attempt),
                Effect::Submitted { client, job } => {
                    if let Some(answer) = self.submitters.remove(&client) {
                        let _ = answer.send(Ok(job));
                    }
                }
                Effect::Refused { client, error } => {
                    if let Some(answer) = self.submitters.remove(&client) {
                        let _ = answer.send(Err(error));
                    } else if let Some(answer) = self.cancellers.remove(&client) {
                        let _ = answer.send(Err(error));
                    }
                }
                Effect::Cancel(job) => {
                    tracing::info!(%job, "a job is told to end");
                    // One that is just ending needs not be told.
                    let _ = self.tell_master(job, JobInput::Cancel);
                }
                Effect::Cancelled { client } => {
                    if let Some(answer) = self.cancellers.remove(&client) {
                        let _ = answer.send(Ok(()));
                    }
                }
                Effect::Told(outcome) => self.announce(outcome),
                Effect::Forget(job) => {
                    self.hosts.remove(&job);
                    self.shared.forget(job);
                    self.write(Write::Forget(job));
                }
                Effect::WakeAt(at_ms) => self.dispatcher_wake_ms = Some(at_ms),
            }
        }
    }

    fn write(&self, write: Write) {
        // The thread that writes ends after this one.
        let _ = self.writes.send(write);
    }

    fn start(&mut self, job: &Arc<SubmittedJob>, attempt: Option<AttemptRecord>) {
        let id = job.id;
        let name = &job.submission.start.graph.name;
        tracing::info!(job = %id, name, is_taken_over = attempt.is_some(), "a job is started");
        if let Some(AttemptRecord { slots, running, .. }) = &attempt {
            let hosts = running.iter().flat_map(|attempt| attempt.hosts.iter().copied());
            self.hosts.entry(id).or_default().extend(hosts);
            self.step_pool(resource::Input::Adopted { job: id, slots: slots.clone() });
        }
        let spec = JobSpec {
            id,
            submission: job.submission.clone(),
            submitted_at_ms: job.submitted_at_ms,
            epoch: self.shared.epoch,
            attempt,
        };
        let link = Box::new(JobLink::new(id, self.shared.clone()));
        match (self.start)(spec, link) {
            Ok(master) => drop(self.masters.insert(id, master)),
            Err(error) => self.fail(id, error),
        }
    }

    /// The job's master has said its last word.
    pub(super) fn end(&mut self, outcome: Outcome) {
        let id = outcome.overview.id;
        if self.masters.remove(&id).is_some() {
            self.over(outcome);
        } else {
            tracing::error!(job = %id, "a job that does not run has ended");
        }
    }

    fn over(&mut self, outcome: Outcome) {
        let job = outcome.overview.id;
        self.step_pool(resource::Input::Released { job });
        self.step_dispatcher(dispatcher::Input::Ended(outcome));
    }

    /// The job's master is gone. That is as it should be if it has said its last word.
    pub(super) fn bury(&mut self, id: JobId) {
        if self.masters.remove(&id).is_some() {
            self.fail(id, Error::internal("the master of the job ended without a word"));
        }
    }

    fn fail(&mut self, id: JobId, error: Error) {
        tracing::error!(job = %id, %error, "the master of a job cannot go on");
        for &host in self.hosts.get(&id).into_iter().flatten() {
            self.shared.outboxes.send(host, &ToTaskManager::StopHost { job: id });
        }
        let Some((job, _)) = self.dispatcher.job(id) else { return };
        let last = self.shared.remembered(id);
        let outcome = describe::failed(job, last.as_deref(), error, self.shared.clock.wall_ms());
        self.over(outcome);
    }

    fn announce(&mut self, outcome: Arc<Outcome>) {
        let id = outcome.overview.id;
        tracing::info!(job = %id, state = ?outcome.overview.state, "a job is over");
        self.shared.metrics.jobs_ended.add(1);
        for answer in self.waiting.remove(&id).into_iter().flatten() {
            let _ = answer.send(outcome.clone());
        }
        self.peers.values_mut().for_each(|peer| peer.release(id));
        self.unconfirmed.extend(self.peers.keys());
    }

    pub(super) fn answer(&mut self, question: Question) {
        match question {
            Question::Submit { submission, answer } => {
                self.shared.metrics.jobs_submitted.add(1);
                let client = self.ticket();
                self.submitters.insert(client, answer);
                let at_ms = self.shared.clock.wall_ms();
                let submission = *submission;
                self.step_dispatcher(dispatcher::Input::Submit { client, submission, at_ms });
            }
            Question::Cancel { job, answer } => match self.master(job) {
                Ok(_) => {
                    let client = self.ticket();
                    self.cancellers.insert(client, answer);
                    self.step_dispatcher(dispatcher::Input::Cancel { client, job });
                }
                // Who asks again, because he has not heard the answer, has what he wanted.
                Err(error) => drop(answer.send(match self.dispatcher.job(job) {
                    Some((_, dispatcher::Stage::Over(outcome)))
                        if outcome.overview.state == JobPhase::Canceled =>
                    {
                        Ok(())
                    }
                    _ => Err(error),
                })),
            },
            Question::Await { job, answer } => {
                let end = match self.dispatcher.job(job) {
                    None => Err(unknown(job)),
                    Some((_, dispatcher::Stage::Over(outcome))) => Ok(End::Now(outcome.clone())),
                    Some(_) => {
                        let (sender, receiver) = oneshot::channel();
                        let waiting = self.waiting.entry(job).or_default();
                        waiting.retain(|waiting| !waiting.is_closed());
                        waiting.push(sender);
                        Ok(End::Later(receiver))
                    }
                };
                let _ = answer.send(end);
            }
            Question::Find { job, answer } => {
                let standing = match self.dispatcher.job(job) {
                    Some((job, stage)) => Ok(self.standing(job, stage)),
                    None => Err(unknown(job)),
                };
                let _ = answer.send(standing);
            }
            Question::Tell { job, input, answer } => {
                let _ = answer.send(self.tell_master(job, input));
            }
            Question::Everything { answer } => {
                let jobs = self.dispatcher.jobs().map(|(job, stage)| self.standing(job, stage));
                let everything =
                    Everything { task_managers: self.task_managers(), jobs: jobs.collect() };
                let _ = answer.send(everything);
            }
            Question::ProgramsInUse { answer } => {
                let programs = self.dispatcher.jobs().map(|(job, _)| job.submission.program);
                let _ = answer.send(programs.collect());
            }
            Question::ReadLog { log, answer } => self.read_log(log, answer),
        }
    }

    fn ticket(&mut self) -> u64 {
        self.n_tickets += 1;
        self.n_tickets
    }

    fn standing(&self, job: &Arc<SubmittedJob>, stage: &dispatcher::Stage) -> Standing {
        let stage = match (stage, self.masters.get(&job.id)) {
            (dispatcher::Stage::Over(outcome), _) => Stage::Over(outcome.clone()),
            (dispatcher::Stage::Ending { .. }, _) => Stage::Ending,
            (dispatcher::Stage::Running, Some(master)) => Stage::Running(master.clone()),
            (dispatcher::Stage::Running | dispatcher::Stage::Submitting { .. }, _) => {
                Stage::Submitting
            }
        };
        Standing { job: job.clone(), stage }
    }

    fn tell_master(&self, job: JobId, input: JobInput) -> Result<()> {
        self.master(job)?.send(input).map_err(|_| ending(job))
    }

    fn master(&self, job: JobId) -> Result<Sender<JobInput>> {
        let Some((submitted, stage)) = self.dispatcher.job(job) else { return Err(unknown(job)) };
        match self.standing(submitted, stage).stage {
            Stage::Running(master) => Ok(master),
            Stage::Submitting => Err(Error::external(format!("the job {job} is just starting"))),
            Stage::Ending => Err(ending(job)),
            Stage::Over(outcome) => Err(Error::user(format!(
                "the job {job} is over: it is {}",
                describe::phase(outcome.overview.state)
            ))),
        }
    }

    fn task_managers(&self) -> Vec<TaskManagerRow> {
        let row = |view: resource::TaskManagerView| {
            let peer = self.peers.get(&view.id)?;
            if let Presence::Awaited { .. } = view.presence {
                return None;
            }
            Some(TaskManagerRow {
                id: view.id,
                hostname: peer.hello.hostname.clone(),
                pid: peer.hello.pid,
                version: peer.hello.version.clone(),
                n_slots: view.n_slots,
                n_free: view.n_free,
                jobs: view.jobs,
                last_heartbeat_ms: peer.heard_at_ms,
                metrics_address: peer.hello.metrics_address.clone(),
            })
        };
        self.pool.task_managers().filter_map(row).collect()
    }

    fn read_log(&mut self, log: LogRange, answer: Answer<Result<LogPiece>>) {
        let id = match self.log_place(&log) {
            Ok(id) => id,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let request = self.ticket();
        let LogRange { job, stream, from, limit, .. } = log;
        let message = ToTaskManager::ReadLog { request, job, stream, from, limit };
        if self.shared.outboxes.send(id, &message) {
            self.logs.insert(request, (id, answer));
        } else {
            let error = format!("task manager {id}, where the job {job} ran, is gone");
            let _ = answer.send(Err(Error::external(error)));
        }
    }

    fn log_place(&self, log: &LogRange) -> Result<TaskManagerId> {
        let job = log.job;
        if self.dispatcher.job(job).is_none() {
            return Err(unknown(job));
        }
        let hosts = self.hosts.get(&job);
        let mut places = hosts.into_iter().flatten().copied();
        match (log.task_manager, places.next(), places.next()) {
            (Some(id), ..) if hosts.is_some_and(|hosts| hosts.contains(&id)) => Ok(id),
            (Some(id), ..) => Err(Error::user(format!(
                "no host of the job {job} runs or ran on task manager {id}"
            ))),
            (None, Some(id), None) => Ok(id),
            (None, None, _) => Err(Error::user(format!(
                "the job {job} has printed nothing: no host of it ran yet"
            ))),
            (None, Some(_), Some(_)) => {
                let all: Vec<_> = hosts.into_iter().flatten().map(ToString::to_string).collect();
                Err(Error::user(format!(
                    "hosts of the job {job} ran on several task managers; name one of them: {}",
                    all.join(", ")
                )))
            }
        }
    }
}

fn ending(job: JobId) -> Error {
    Error::external(format!("the job {job} is just ending"))
}

fn unknown(job: JobId) -> Error {
    Error::user(format!("there is no job {job}; `millstream list` shows those there are"))
}
