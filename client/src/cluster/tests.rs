//! Connections with a job manager of a few lines, over loopback.

use super::message::{ClientReply, ClientRequest, Cluster, JobId, LeaderEpoch, Outcome, ProgramId};
use super::{Connection, Security, UploadProgress};
use crate::cluster::message::{JobOverview, JobPhase};
use millstream_model::{Error, Result};
use millstream_proto::wire::{
    CHUNK_BYTES, Envelope, Jobs, JobsServer, MAX_MESSAGE_BYTES, ProgramChunk, program_id,
};
use sha2::{Digest, Sha256};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

type Answer = Box<dyn FnMut(ClientRequest) -> Result<(u64, ClientReply), Status> + Send>;

/// Answers with the epoch and the reply that its script gives; takes programs.
#[derive(Clone)]
struct Scripted {
    answer: Arc<Mutex<Answer>>,
    programs: Arc<Mutex<Vec<(ProgramId, Vec<u8>)>>>,
}

#[tonic::async_trait]
impl Jobs for Scripted {
    async fn call(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let (_, request) = request
            .into_inner()
            .open()
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (epoch, reply) = (self.answer.lock().unwrap())(request)?;
        Ok(Response::new(Envelope::seal(LeaderEpoch(epoch), &reply).unwrap()))
    }

    async fn upload_program(
        &self,
        request: Request<Streaming<ProgramChunk>>,
    ) -> Result<Response<Envelope>, Status> {
        let mut chunks = request.into_inner();
        let (mut id, mut bytes) = (None, Vec::new());
        while let Some(chunk) = chunks.message().await? {
            assert!(chunk.data.len() <= CHUNK_BYTES);
            assert_eq!(id.is_none(), !chunk.id.is_empty());
            id.get_or_insert_with(|| program_id(&chunk.id).unwrap());
            bytes.extend(chunk.data);
        }
        self.programs.lock().unwrap().push((id.unwrap(), bytes));
        Ok(Response::new(Envelope::seal(LeaderEpoch(1), &ClientReply::Yes).unwrap()))
    }
}

/// A job manager on a port of its own, as long as it lives.
struct Served {
    address: String,
    jobs: Scripted,
    runtime: Option<Runtime>,
}

impl Served {
    fn start(
        security: &Security,
        answer: impl FnMut(ClientRequest) -> Result<(u64, ClientReply), Status> + Send + 'static,
    ) -> Self {
        Served::at("127.0.0.1:0", security, answer)
    }

    fn at(
        address: &str,
        security: &Security,
        answer: impl FnMut(ClientRequest) -> Result<(u64, ClientReply), Status> + Send + 'static,
    ) -> Self {
        let jobs =
            Scripted { answer: Arc::new(Mutex::new(Box::new(answer))), programs: Arc::default() };
        let runtime = Runtime::new().unwrap();
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = JobsServer::new(jobs.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let service = InterceptedService::new(service, security.guard().unwrap());
        let router = security.server().unwrap().add_service(service);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            router.serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        Served { address, jobs, runtime: Some(runtime) }
    }

    fn open(&self) -> Connection {
        Connection::open(std::slice::from_ref(&self.address), &Security::default()).unwrap()
    }

    fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(10));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn cluster() -> ClientReply {
    ClientReply::Cluster(Box::new(Cluster {
        version: "1".into(),
        epoch: 1,
        rest_address: None,
        task_managers: Vec::new(),
        jobs: Vec::new(),
    }))
}

/// An address where nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn what_is_refused_is_an_error_with_its_reason() {
    let served = Served::start(&Security::default(), |request| {
        Ok(match request {
            ClientRequest::Cluster => (1, cluster()),
            _ => (1, ClientReply::Refused(Error::user("there is no such job"))),
        })
    });
    let connection = served.open();
    assert!(matches!(connection.call(ClientRequest::Cluster), Ok(ClientReply::Cluster(_))));
    let refused = connection.call(ClientRequest::Cancel(JobId(1))).unwrap_err();
    assert_eq!(refused.to_string(), "there is no such job");
    assert!(matches!(connection.ask(ClientRequest::Cancel(JobId(1))), Ok(ClientReply::Refused(_))));
}

#[test]
fn a_cluster_that_is_not_there_is_an_error_at_once_that_says_what_to_do() {
    let address = nobody();
    let error = Connection::open(std::slice::from_ref(&address), &Security::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("the job manager at {address} cannot be reached (")),
        "{error}"
    );
    assert!(error.contains("millstream cluster start"), "{error}");
    let both = [address.clone(), nobody()];
    let error = Connection::open(&both, &Security::default()).unwrap_err().to_string();
    assert!(error.starts_with("none of the job managers at "), "{error}");
}

#[test]
fn the_address_that_answers_is_found_and_a_deposed_leader_passed_over() {
    let mut epochs = [5, 5].into_iter();
    let leader = Served::start(&Security::default(), move |_| {
        let epoch = epochs.next();
        epoch.map(|epoch| (epoch, cluster())).ok_or_else(|| Status::unavailable("not the leader"))
    });
    let mut n_deposed = 0;
    let deposed = Served::start(&Security::default(), move |_| {
        n_deposed += 1;
        // Once with an old epoch, then as the new leader.
        Ok((if n_deposed == 1 { 4 } else { 6 }, cluster()))
    });
    let addresses = [nobody(), leader.address.clone(), deposed.address.clone()];
    let connection = Connection::open(&addresses, &Security::default()).unwrap();
    for _ in 0..3 {
        connection.call(ClientRequest::Cluster).unwrap();
    }
}

#[test]
fn a_job_manager_that_comes_back_is_waited_for_but_a_savepoint_is_asked_once() {
    let mut first = Served::start(&Security::default(), |_| Ok((1, cluster())));
    let connection = first.open();
    connection.call(ClientRequest::Cluster).unwrap();
    first.stop();
    let asking = {
        let connection = connection.clone();
        std::thread::spawn(move || connection.call(ClientRequest::Cluster))
    };
    let (sender, asked) = crossbeam_channel::unbounded();
    let _second = Served::at(&first.address, &Security::default(), move |request| {
        sender.send(()).unwrap();
        match request {
            ClientRequest::Cluster => Ok((2, cluster())),
            _ => Err(Status::unavailable("it went away in the middle of it")),
        }
    });
    asking.join().unwrap().unwrap();
    asked.recv().unwrap();
    let savepoint = ClientRequest::Savepoint { job: JobId(1), dir: "s".into(), stop: None };
    let error = connection.call(savepoint).unwrap_err().to_string();
    assert!(error.contains("in the job's status") && error.contains("went away"), "{error}");
    assert_eq!(asked.len(), 1, "it was asked again");
}

#[test]
fn a_program_is_sent_once_in_pieces_under_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    let bytes: Vec<u8> = (0..CHUNK_BYTES * 2 + 17).map(|i| (i * 31 % 251) as u8).collect();
    std::fs::write(&path, &bytes).unwrap();
    let expected = ProgramId(Sha256::digest(&bytes).into());
    let programs: Arc<Mutex<Vec<ProgramId>>> = Arc::default();
    let known = programs.clone();
    let served = Served::start(&Security::default(), move |request| match request {
        ClientRequest::HasProgram(id) if known.lock().unwrap().contains(&id) => {
            Ok((1, ClientReply::Yes))
        }
        _ => Ok((1, ClientReply::No)),
    });
    let connection = served.open();
    let total = bytes.len() as u64;
    let mut seen = Vec::new();
    assert_eq!(connection.upload(&path, |step| seen.push(step)).unwrap(), (expected, total));
    assert!(seen.contains(&UploadProgress::Reading { done: total, total }));
    assert!(seen.contains(&UploadProgress::Sending { done: total, total }));
    assert_eq!(*served.jobs.programs.lock().unwrap(), [(expected, bytes)]);

    programs.lock().unwrap().push(expected);
    seen.clear();
    connection.upload(&path, |step| seen.push(step)).unwrap();
    assert_eq!(seen.last(), Some(&UploadProgress::Reading { done: total, total }));
    assert_eq!(served.jobs.programs.lock().unwrap().len(), 1);

    let not_a_program = connection.upload(dir.path(), |_| {}).unwrap_err().to_string();
    assert!(not_a_program.ends_with("is not a program"), "{not_a_program}");
}

#[test]
fn waiting_ends_with_the_job_and_works_inside_of_another_runtime() {
    let overview = JobOverview {
        id: JobId(3),
        name: "words".into(),
        state: JobPhase::Failed,
        start_time_ms: 0,
        end_time_ms: Some(1),
        n_tasks: 1,
        n_running: 0,
        n_slots: 1,
        n_missing_slots: 0,
        n_restarts: 0,
        last_checkpoint: None,
        passed_over: Vec::new(),
        records: 7,
        error: Some("it broke".into()),
    };
    let served = Served::start(&Security::default(), move |request| {
        assert!(matches!(request, ClientRequest::Await { job: JobId(3), .. }));
        let outcome = Outcome {
            overview: overview.clone(),
            error: Some(Error::user("it broke")),
            results: Vec::new(),
            metrics: Vec::new(),
        };
        Ok((1, ClientReply::Ended(Box::new(outcome))))
    });
    let runtime = Runtime::new().unwrap();
    let outcome = runtime.block_on(async {
        let connection = served.open();
        connection.wait(JobId(3), |_| {}).unwrap()
    });
    assert_eq!(outcome.error.unwrap().to_string(), "it broke");
}

#[test]
fn a_wrong_token_is_not_tried_again() {
    let security = Security { token: Some("right".into()), ..Security::default() };
    let served = Served::start(&security, |_| Ok((1, cluster())));
    let open = |token: Option<&str>| {
        let security = Security { token: token.map(String::from), ..Security::default() };
        Connection::open(std::slice::from_ref(&served.address), &security).unwrap()
    };
    open(Some("right")).call(ClientRequest::Cluster).unwrap();
    for wrong in [None, Some("wrong")] {
        let error = open(wrong).call(ClientRequest::Cluster).unwrap_err().to_string();
        assert!(error.starts_with("the cluster does not take this client: "), "{error}");
        assert!(error.contains("MILLSTREAM_TOKEN"), "{error}");
    }
}
