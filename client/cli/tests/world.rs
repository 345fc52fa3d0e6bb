//! A job manager that follows a script, and the command run against it as a process.

use millstream::cluster::Security;
use millstream::cluster::message::{
    ClientReply, ClientRequest, Cluster, JobDetail, JobId, JobOverview, JobPhase, LeaderEpoch,
    Outcome,
};
use millstream::model::job_graph::{Guarantee, JobGraph};
use millstream::model::{Error, Result};
use millstream_proto::wire::{
    Envelope, Jobs, JobsServer, ProgramChunk, ProgramRef, TaskManagers, TaskManagersServer,
};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

type Answer = Box<dyn FnMut(ClientRequest) -> ClientReply + Send>;

#[derive(Clone)]
struct Scripted {
    answer: Arc<Mutex<Answer>>,
    program: Vec<u8>,
}

#[tonic::async_trait]
impl Jobs for Scripted {
    async fn call(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let (_, request) = request.into_inner().open().unwrap();
        let reply = (self.answer.lock().unwrap())(request);
        Ok(Response::new(Envelope::seal(LeaderEpoch(1), &reply).unwrap()))
    }

    async fn upload_program(
        &self,
        _request: Request<Streaming<ProgramChunk>>,
    ) -> Result<Response<Envelope>, Status> {
        Err(Status::unimplemented("the command uploads nothing"))
    }
}

#[tonic::async_trait]
impl TaskManagers for Scripted {
    type AttachStream = ReceiverStream<Result<Envelope, Status>>;
    type FetchProgramStream = ReceiverStream<Result<ProgramChunk, Status>>;

    async fn attach(
        &self,
        _request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        Err(Status::unimplemented("the command is no task manager"))
    }

    async fn fetch_program(
        &self,
        request: Request<ProgramRef>,
    ) -> Result<Response<Self::FetchProgramStream>, Status> {
        let (id, data) = (request.into_inner().id, self.program.clone());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.send(Ok(ProgramChunk { id, total_bytes: data.len() as u64, data })).await.unwrap();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// A job manager on a port of its own, as long as it lives.
pub(crate) struct JobManager {
    pub(crate) address: String,
    runtime: Option<Runtime>,
}

impl JobManager {
    pub(crate) fn start(answer: impl FnMut(ClientRequest) -> ClientReply + Send + 'static) -> Self {
        JobManager::with(&Security::default(), Vec::new(), answer)
    }

    pub(crate) fn with(
        security: &Security,
        program: Vec<u8>,
        answer: impl FnMut(ClientRequest) -> ClientReply + Send + 'static,
    ) -> Self {
        let scripted = Scripted { answer: Arc::new(Mutex::new(Box::new(answer))), program };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let guard = security.guard().unwrap();
        let jobs = InterceptedService::new(JobsServer::new(scripted.clone()), guard.clone());
        let programs = InterceptedService::new(TaskManagersServer::new(scripted), guard);
        let router = security.server().unwrap().add_service(jobs).add_service(programs);
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            router.serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        JobManager { address, runtime: Some(runtime) }
    }

    /// Runs the command against it.
    pub(crate) fn run(&self, arguments: &str) -> Ran {
        self.run_in(Path::new("."), arguments)
    }

    pub(crate) fn run_in(&self, dir: &Path, arguments: &str) -> Ran {
        let mut command = millstream(arguments);
        Ran::of(command.current_dir(dir).env("MILLSTREAM_CLUSTER", &self.address))
    }
}

impl Drop for JobManager {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The command, in an environment without settings of ours.
pub(crate) fn millstream(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLSTREAM_") {
            command.env_remove(name);
        }
    }
    command.args(arguments.split_whitespace());
    command
}

/// How the command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        Ran {
            code: status.code(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// `flights`, id ab00…; `words`, abc0…; in these states.
pub(crate) fn jobs(states: [JobPhase; 2]) -> Vec<JobOverview> {
    let job = |id, name: &str, state: JobPhase| JobOverview {
        id: JobId(id),
        name: name.into(),
        state,
        start_time_ms: 1_750_000_000_000,
        end_time_ms: state.is_terminal().then_some(1_750_000_001_000),
        n_tasks: 4,
        n_running: 4,
        n_slots: 2,
        n_missing_slots: 0,
        n_restarts: 0,
        last_checkpoint: Some(7),
        passed_over: Vec::new(),
        records: 120,
        error: None,
    };
    vec![job(0xab << 120, "flights", states[0]), job(0xabc << 116, "words", states[1])]
}

pub(crate) fn cluster(jobs: Vec<JobOverview>) -> ClientReply {
    ClientReply::Cluster(Box::new(Cluster {
        version: "0.1.0".into(),
        epoch: 1,
        rest_address: None,
        task_managers: Vec::new(),
        jobs,
    }))
}

pub(crate) fn detail(overview: &JobOverview) -> ClientReply {
    ClientReply::Job(Box::new(JobDetail {
        overview: overview.clone(),
        graph: graph(),
        vertices: Vec::new(),
        checkpoints: Vec::new(),
        exceptions: Vec::new(),
        metrics: Vec::new(),
    }))
}

pub(crate) fn graph() -> JobGraph {
    JobGraph {
        name: "words".into(),
        vertices: Vec::new(),
        edges: Vec::new(),
        bounded: true,
        guarantee: Guarantee::AtLeastOnce,
    }
}

pub(crate) fn ended(overview: &JobOverview, error: Option<Error>) -> ClientReply {
    let (results, metrics) = (Vec::new(), Vec::new());
    ClientReply::Ended(Box::new(Outcome { overview: overview.clone(), error, results, metrics }))
}
