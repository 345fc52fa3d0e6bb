//! Where clients are served: what RPC and REST have in common.
//!
//! A question goes to the shell, or past it to the master of a job; the answer is awaited here, where waiting costs
//! nothing. A master that is busy writing a manifest keeps nobody waiting for long: then what it said last is shown.

use super::describe;
use super::event::{Answer, End, Event, Everything, LogPiece, LogRange, Question, Stage, Standing};
use super::shared::Shared;
use crate::job::link::{JobInput, Reply};
use crate::job::stopped;
use crate::scheduler::JobState;
use millstream_model::{Error, Result, SnapshotKind};
use millstream_proto::message::{
    ClientReply, ClientRequest, Cluster, Drain, JobDetail, JobId, JobPhase, Outcome, Submission,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// How long a master may take to say how its job is.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long whoever stops a job waits, when it has ended, until that is stored.
const STORING: Duration = Duration::from_secs(60);

/// The longest wait for the end of a job before the client has to ask again.
const MAX_AWAIT_MS: u64 = 60_000;

/// The longest piece of a log.
const MAX_LOG_BYTES: u64 = 4 << 20;

/// The longest name of a job.
const MAX_NAME_BYTES: usize = 1000;

/// See the module's text.
#[derive(Clone)]
pub(crate) struct Desk {
    shared: Arc<Shared>,
    rest_address: Option<SocketAddr>,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, rest_address: Option<SocketAddr>) -> Self {
        Desk { shared, rest_address }
    }

    /// Does what a client wants.
    pub(super) async fn serve(&self, request: ClientRequest) -> ClientReply {
        match self.try_serve(request).await {
            Ok(reply) => reply,
            Err(error) => {
                self.shared.metrics.requests_refused.add(1);
                tracing::info!(%error, "a client's request was refused");
                ClientReply::Refused(error)
            }
        }
    }

    async fn try_serve(&self, request: ClientRequest) -> Result<ClientReply> {
        Ok(match request {
            ClientRequest::HasProgram(id) => {
                let programs = self.shared.programs.clone();
                match blocking(move || programs.size(id)).await? {
                    Some(_) => ClientReply::Yes,
                    None => ClientReply::No,
                }
            }
            ClientRequest::Submit(submission) => {
                ClientReply::Submitted(self.submit(submission).await?)
            }
            ClientRequest::Cluster => ClientReply::Cluster(Box::new(self.cluster().await?)),
            ClientRequest::Job(job) => ClientReply::Job(Box::new(self.detail(job).await?)),
            ClientRequest::Await { job, timeout_ms } => {
                let wait = Duration::from_millis(timeout_ms.min(MAX_AWAIT_MS));
                match self.end_of(job, wait).await? {
                    Some(outcome) => ClientReply::Ended(Box::new(Outcome::clone(&outcome))),
                    None => ClientReply::Job(Box::new(self.detail(job).await?)),
                }
            }
            ClientRequest::Cancel(job) => {
                self.cancel(job).await?;
                ClientReply::Yes
            }
            ClientRequest::Savepoint { job, dir, stop } => {
                ClientReply::Savepoint(self.savepoint(job, dir, stop).await?)
            }
            ClientRequest::Submission(job) => {
                let job = self.find(job).await?.job;
                ClientReply::Submission(Box::new(job.submission.clone()))
            }
            ClientRequest::Log { job, task_manager, stream, from, limit } => {
                let limit = limit.min(MAX_LOG_BYTES);
                let log = LogRange { job, task_manager, stream, from, limit };
                let LogPiece { task_manager, from, total, bytes } = self.log(log).await?;
                ClientReply::Log { task_manager, from, total, bytes }
            }
        })
    }

    async fn submit(&self, submission: Box<Submission>) -> Result<JobId> {
        check_name(&submission.start.graph.name)?;
        let (id, n_bytes) = (submission.program, submission.program_bytes);
        let programs = self.shared.programs.clone();
        match blocking(move || programs.settle(id)).await? {
            Some(size) if size == n_bytes => {}
            Some(size) => {
                return Err(Error::user(format!(
                    "the program {id} has {size} bytes, the submission says {n_bytes}"
                )));
            }
            None => {
                return Err(Error::user(format!("the program {id} is not here: upload it first")));
            }
        }
        self.ask(|answer| Question::Submit { submission, answer }).await?
    }

    async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.shared.tell(Event::Asked(question(answer)));
        answered.await.map_err(|_| Error::external("the job manager is ending: try again"))
    }

    pub(crate) async fn find(&self, job: JobId) -> Result<Standing> {
        self.ask(|answer| Question::Find { job, answer }).await?
    }

    async fn end_of(&self, job: JobId, wait: Duration) -> Result<Option<Arc<Outcome>>> {
        match self.ask(|answer| Question::Await { job, answer }).await?? {
            End::Now(outcome) => Ok(Some(outcome)),
            End::Later(end) => match timeout(wait, end).await {
                Ok(Ok(outcome)) => Ok(Some(outcome)),
                Ok(Err(_)) => Err(Error::external("the job manager is ending: try again")),
                Err(_) => Ok(None),
            },
        }
    }

    async fn log(&self, log: LogRange) -> Result<LogPiece> {
        let asked = self.ask(|answer| Question::ReadLog { log, answer });
        match timeout(self.shared.config.timeout(), asked).await {
            Ok(piece) => piece?,
            Err(_) => Err(Error::external("the task manager does not answer: try again")),
        }
    }

    pub(super) async fn programs_in_use(
        &self,
    ) -> Result<std::collections::BTreeSet<millstream_proto::message::ProgramId>> {
        self.ask(|answer| Question::ProgramsInUse { answer }).await
    }

    async fn tell(&self, job: JobId, input: JobInput) -> Result<()> {
        self.ask(|answer| Question::Tell { job, input, answer }).await?
    }

    /// Ends a job. When this returns, also a job manager that takes over knows that it is to end.
    pub(crate) async fn cancel(&self, job: JobId) -> Result<()> {
        self.ask(|answer| Question::Cancel { job, answer }).await?
    }

    /// Takes a savepoint, and returns when it is complete; if it stops the job, when the job has ended and that is stored.
    pub(crate) async fn savepoint(
        &self,
        job: JobId,
        dir: PathBuf,
        stop: Option<Drain>,
    ) -> Result<PathBuf> {
        let Some(Drain(drain)) = stop else {
            let gone = "the job, or the job manager, ended before the savepoint was complete";
            return self.snapshot(job, dir, SnapshotKind::Savepoint, gone).await;
        };
        // Before it can have ended and be forgotten.
        let end = self.ask(|answer| Question::Await { job, answer }).await??;
        let gone = "the job manager ended, or the job's master, before the job had stopped: see whether it runs, and which \
                    savepoints it has";
        let path = self.snapshot(job, dir, SnapshotKind::Stop { drain }, gone).await?;
        let outcome = match end {
            End::Now(outcome) => Some(outcome),
            End::Later(end) => timeout(STORING, end).await.ok().and_then(|end| end.ok()),
        };
        let Some(outcome) = outcome else {
            return Err(Error::external(format!(
                "the savepoint `{}` is complete and the job has ended, but that is not stored yet: a job manager that takes over now may \
                 find it running. See whether it does",
                path.display()
            )));
        };
        let told = stopped(
            path,
            match outcome.overview.state {
                JobPhase::Finished => JobState::Finished,
                JobPhase::Canceled => JobState::Cancelled,
                _ => JobState::Failed,
            },
        );
        told.map_err(|error| match &outcome.error {
            Some(cause) => error.caused_by(cause.clone()),
            None => error,
        })
    }

    async fn snapshot(
        &self,
        job: JobId,
        dir: PathBuf,
        kind: SnapshotKind,
        gone: &str,
    ) -> Result<PathBuf> {
        let (answer, answered) = oneshot::channel();
        let reply = Reply::new(move |path| drop(answer.send(path)));
        self.tell(job, JobInput::Savepoint { kind, dir, reply }).await?;
        answered.await.unwrap_or_else(|_| Err(Error::external(gone)))
    }

    /// How a job is.
    pub(crate) async fn detail(&self, job: JobId) -> Result<JobDetail> {
        let standing = self.find(job).await?;
        let asked = ask_master(&standing);
        let said = match asked {
            Some(answered) => timeout(PATIENCE, answered).await.ok().and_then(Result::ok),
            None => None,
        };
        Ok(self.settle(&standing, said))
    }

    /// What is shown of a job whose master said this, or nothing.
    fn settle(&self, standing: &Standing, said: Option<JobDetail>) -> JobDetail {
        let job = &standing.job;
        let last = self.shared.remembered(job.id);
        match (&standing.stage, said) {
            // What its master may have said before its last word is older than what is known.
            (Stage::Over(outcome), _) => describe::over(job, last.as_deref(), outcome),
            (_, Some(detail)) => describe::not_over(&self.shared.remember(detail)),
            (_, None) => match last {
                Some(last) => describe::not_over(&last),
                None => describe::detail(job, describe::created(job)),
            },
        }
    }

    /// How all jobs are, and the task managers.
    pub(crate) async fn survey(&self) -> Result<(Everything, Vec<JobDetail>)> {
        let everything = self.ask(|answer| Question::Everything { answer }).await?;
        // All are asked before the first is awaited: together they take as long as the slowest.
        let asked: Vec<_> = everything.jobs.iter().map(ask_master).collect();
        let deadline = sleep(PATIENCE);
        tokio::pin!(deadline);
        let mut details = Vec::with_capacity(asked.len());
        for (standing, asked) in everything.jobs.iter().zip(asked) {
            let said = match asked {
                None => None,
                Some(mut answered) if deadline.is_elapsed() => answered.try_recv().ok(),
                Some(answered) => tokio::select! {
                    biased;
                    said = answered => said.ok(),
                    () = &mut deadline => None,
                },
            };
            details.push(self.settle(standing, said));
        }
        Ok((everything, details))
    }

    /// The cluster at a glance.
    pub(crate) async fn cluster(&self) -> Result<Cluster> {
        let (everything, details) = self.survey().await?;
        let mut jobs: Vec<_> = details.into_iter().map(|detail| detail.overview).collect();
        jobs.sort_by_key(|job| (job.start_time_ms, job.id));
        Ok(Cluster {
            version: env!("CARGO_PKG_VERSION").into(),
            epoch: self.shared.epoch.0,
            rest_address: self.rest_address.map(|address| address.to_string()),
            task_managers: everything.task_managers,
            jobs,
        })
    }

    /// The settings, for people.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        self.shared.config.entries()
    }

    /// What the process counts.
    pub(crate) fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.shared.metrics.entries()
    }

    /// The time of day, in ms since the epoch.
    pub(crate) fn wall_ms(&self) -> i64 {
        self.shared.clock.wall_ms()
    }

    /// The leader's epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.shared.epoch.0
    }
}

/// Asks the master of a job how it is, if it has one.
fn ask_master(standing: &Standing) -> Option<oneshot::Receiver<JobDetail>> {
    let Stage::Running(master) = &standing.stage else { return None };
    let (answer, answered) = oneshot::channel();
    let reply = Reply::new(move |detail| drop(answer.send(detail)));
    master.send(JobInput::Detail(reply)).ok()?;
    Some(answered)
}

/// Runs what waits for a disk where that holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Error::internal("a thread that reads or writes files is gone")))
}

/// Makes sure that a job's name can be shown: it stands in logs and tables, where it must not look like something else.
fn check_name(name: &str) -> Result<()> {
    let n_bytes = name.len();
    if n_bytes > MAX_NAME_BYTES {
        return Err(Error::user(format!(
            "the job's name has {n_bytes} bytes: give it one of at most {MAX_NAME_BYTES}"
        )));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(Error::user(format!(
            "the job's name contains the control character {c:?}: give it one without"
        ))),
        None => Ok(()),
    }
}
