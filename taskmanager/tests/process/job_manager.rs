//! A job manager that does what a test says: it lets the test hold each session, and serves what it is told to.

use millstream_proto::message::{FromTaskManager, Hello, LeaderEpoch, ProgramId, ToTaskManager};
use millstream_proto::wire::{
    Envelope, MAX_MESSAGE_BYTES, ProgramChunk, ProgramRef, TaskManagers, TaskManagersServer,
    program_id,
};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Many times what anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Looks again and again until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    soon(what, async {
        while !holds() {
            looks.tick().await;
        }
    })
    .await;
}

/// A session as the job manager holds it.
pub(crate) struct Peer {
    inbound: Streaming<Envelope>,
    outbound: mpsc::Sender<Result<Envelope, Status>>,
    pub(crate) epoch: u64,
}

impl Peer {
    pub(crate) async fn say(&self, message: ToTaskManager) {
        let sealed = Envelope::seal(LeaderEpoch(self.epoch), &message).unwrap();
        self.outbound.send(Ok(sealed)).await.unwrap();
    }

    /// The next word that is no heartbeat.
    pub(crate) async fn hear(&mut self) -> FromTaskManager {
        loop {
            match self.try_hear().await.expect("the session goes on") {
                FromTaskManager::Heartbeat => {}
                message => return message,
            }
        }
    }

    /// The next word; `None` when the session is over.
    pub(crate) async fn try_hear(&mut self) -> Option<FromTaskManager> {
        let envelope = soon("a word of the task manager", self.inbound.message()).await;
        Some(envelope.ok()??.open().unwrap().1)
    }

    pub(crate) async fn hello(&mut self) -> Hello {
        match self.hear().await {
            FromTaskManager::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn welcome(&mut self) -> Hello {
        let hello = self.hello().await;
        self.say(ToTaskManager::Welcome {
            heartbeat_ms: 50,
            timeout_ms: 60_000,
            orphan_timeout_ms: 60_000,
        })
        .await;
        hello
    }
}

#[derive(Clone)]
struct Service {
    sessions: mpsc::Sender<Peer>,
    shelf: Arc<Shelf>,
}

#[derive(Default)]
struct Shelf {
    programs: Mutex<HashMap<ProgramId, Vec<u8>>>,
    n_fetches: AtomicUsize,
}

#[tonic::async_trait]
impl TaskManagers for Service {
    type AttachStream = ReceiverStream<Result<Envelope, Status>>;
    type FetchProgramStream = tokio_stream::Iter<std::vec::IntoIter<Result<ProgramChunk, Status>>>;

    async fn attach(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (outbound, stream) = mpsc::channel(100);
        let peer = Peer { inbound: request.into_inner(), outbound, epoch: 1 };
        self.sessions.send(peer).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn fetch_program(
        &self,
        request: Request<ProgramRef>,
    ) -> Result<Response<Self::FetchProgramStream>, Status> {
        let id = request.into_inner().id;
        self.shelf.n_fetches.fetch_add(1, Ordering::SeqCst);
        let programs = self.shelf.programs.lock().unwrap();
        let bytes = programs.get(&program_id(&id).unwrap());
        let bytes = bytes.ok_or_else(|| Status::not_found("no such program"))?;
        let total_bytes = bytes.len() as u64;
        let pieces = bytes.chunks(1 << 20);
        let pieces = pieces
            .map(|piece| Ok(ProgramChunk { id: id.clone(), total_bytes, data: piece.to_vec() }));
        Ok(Response::new(tokio_stream::iter(pieces.collect::<Vec<_>>())))
    }
}

/// See the module's text. It listens on a runtime of its own, which is its process.
pub(crate) struct JobManager {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
    sessions: mpsc::Receiver<Peer>,
    shelf: Arc<Shelf>,
}

impl JobManager {
    pub(crate) async fn begin() -> Self {
        Self::begin_at("127.0.0.1:0".parse().unwrap(), Arc::default()).await
    }

    async fn begin_at(address: SocketAddr, shelf: Arc<Shelf>) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let (bound, is_bound) = tokio::sync::oneshot::channel();
        let (sessions, taken) = mpsc::channel(10);
        let service = Service { sessions, shelf: Arc::clone(&shelf) };
        runtime.spawn(async move {
            // What listened there before may need a moment to go.
            let mut tries = tokio::time::interval(Duration::from_millis(5));
            let listener = loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => tries.tick().await,
                };
            };
            bound.send(listener.local_addr().unwrap()).unwrap();
            let server = TaskManagersServer::new(service)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            let server = tonic::transport::Server::builder().add_service(server);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let address = soon("a job manager listens", is_bound).await.unwrap();
        JobManager { address, runtime: Some(runtime), sessions: taken, shelf }
    }

    /// Ends its process and begins a new one at the same address.
    pub(crate) async fn restart(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        *self = Self::begin_at(self.address, Arc::clone(&self.shelf)).await;
    }

    pub(crate) async fn session(&mut self) -> Peer {
        soon("a session", self.sessions.recv()).await.unwrap()
    }

    pub(crate) fn serve(&self, id: ProgramId, bytes: Vec<u8>) {
        self.shelf.programs.lock().unwrap().insert(id, bytes);
    }

    pub(crate) fn n_fetches(&self) -> usize {
        self.shelf.n_fetches.load(Ordering::SeqCst)
    }
}

impl Drop for JobManager {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
