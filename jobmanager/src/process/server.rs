//! A leader at work, from its first to its last moment.
//!
//! The order matters at both ends. What former leaders left is taken up before anybody can connect, so that no task
//! manager meets a leader that does not know its jobs. At the end masters let go first, then sessions are closed, then
//! what is to be written is, and only then the place is given up.

use super::desk::Desk;
use super::door;
use super::event::Event;
use super::rpc::{Services, peer};
use super::shared::{Shared, start_writer};
use super::shell::{Ending, Shell};
use super::{JobManagerConfig, StartJob};
use crate::programs::ProgramStore;
use crate::rest;
use crate::store::{FileStore, JobRecords};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use crossbeam_channel::{Receiver, unbounded};
use millstream_ha::Leadership;
use millstream_model::{Error, Result};
use millstream_proto::security::Hall;
use millstream_proto::wire::{JobsServer, MAX_MESSAGE_BYTES, TaskManagersServer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::service::{InterceptorLayer, Routes};

/// How often masters are asked how their jobs are, when nobody else asks.
const SURVEY: Duration = Duration::from_secs(3);

/// How long connections may take to end.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// The most requests at a time in one connection.
const MAX_STREAMS: u32 = 256;

/// A job manager that leads. See the module's text.
pub struct JobManager {
    /// Where task managers and clients connect to.
    address: SocketAddr,
    rest_address: Option<SocketAddr>,
    shell: JoinHandle<Ending>,
    writer: JoinHandle<()>,
    runtime: Runtime,
}

impl JobManager {
    /// Begins to lead. When it returns, clients and task managers can connect. It ends when something comes
    /// through `stop`, or its other end is gone.
    ///
    /// # Errors
    /// If an address is in use, or what a former leader left cannot be read.
    pub fn start(
        config: JobManagerConfig,
        start: StartJob,
        leadership: Leadership,
        stop: Receiver<()>,
    ) -> Result<Self> {
        config.check()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()
            .map_err(|e| Error::external("cannot start threads for the network").caused_by(e))?;
        let listener = runtime.block_on(listen(config.listen))?;
        let rest =
            config.rest_listen.map(|address| runtime.block_on(listen(address))).transpose()?;
        let local = |listener: &TcpListener| {
            listener.local_addr().map_err(|e| Error::external("a socket is gone").caused_by(e))
        };
        let address = local(&listener)?;
        let rest_address = rest.as_ref().map(local).transpose()?;

        let epoch = leadership.epoch();
        let store = FileStore::open(&config.dir.join("metadata"))?;
        let (records, found) = JobRecords::open(Arc::new(store), epoch)?;
        let programs = ProgramStore::open(&config.dir.join("programs"), config.programs())?;
        let (inbox, events) = unbounded();
        let mut details = Vec::new();
        for mut record in found {
            details.extend(record.detail.take());
            // Its other end is `events`.
            let _ = inbox.send(Event::Found(Box::new(record)));
        }
        let shared = Arc::new(Shared::new(config, inbox, records, programs));
        for detail in details {
            shared.remember(*detail);
        }
        let desk = Desk::new(shared.clone(), rest_address);
        let (writes, to_write) = unbounded();
        let writer = start_writer(shared.clone(), to_write)?;
        let shell = Shell::new(shared.clone(), start, writes);
        let lead = move || {
            let ending = shell.run(&events, leadership.lost(), &stop);
            drop(leadership);
            ending
        };
        serve_rpc(&runtime, listener, &shared, desk.clone())?;
        if let Some(rest) = rest {
            serve_rest(&runtime, rest, &shared, desk.clone())?;
        }
        runtime.spawn(survey(desk));
        tracing::info!(%address, ?rest_address, %epoch, "the job manager leads");
        let shell = std::thread::Builder::new()
            .name("job manager".into())
            .spawn(lead)
            .map_err(|e| Error::external("cannot start a thread").caused_by(e))?;
        Ok(JobManager { address, rest_address, shell, writer, runtime })
    }

    /// Where task managers and clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the REST interface listens, if it does.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.rest_address
    }

    /// Waits until it has ended.
    pub(super) fn join(self) -> Ending {
        let lost = || Ending::Lost(Error::internal("the job manager's thread is gone"));
        let ending = self.shell.join().unwrap_or_else(|_| lost());
        // Everything is given to it before the shell ends.
        let _ = self.writer.join();
        self.runtime.shutdown_timeout(SHUTDOWN);
        ending
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If it ended because it does not lead any more.
    pub fn wait(self) -> Result<()> {
        match self.join() {
            Ending::Stopped => Ok(()),
            Ending::Lost(error) => Err(error),
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Error::external(format!(
            "cannot listen at {address}: is another job manager running? Stop it, or use another port"
        ))
        .caused_by(e)
    })
}

fn serve_rpc(
    runtime: &Runtime,
    listener: TcpListener,
    shared: &Arc<Shared>,
    desk: Desk,
) -> Result<()> {
    let config = &shared.config;
    let guard = InterceptorLayer::new(config.security.guard()?);
    let services = Services::new(shared.clone(), desk);
    let jobs = JobsServer::new(services.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let task_managers = TaskManagersServer::new(services)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let metrics = shared.metrics.clone();
    let refusals = from_fn(move |request: Request, next: Next| {
        let metrics = metrics.clone();
        async move {
            let (peer, path) = (peer(request.extensions()), request.uri().path().to_owned());
            let response: Response = next.run(request).await;
            if let Some(code) = response.headers().get("grpc-status").filter(|code| *code != "0") {
                metrics.requests_refused.add(1);
                let reason = response.headers().get("grpc-message");
                tracing::warn!(%peer, path, ?code, ?reason, "a request was refused");
            }
            response
        }
    });
    let routes = Routes::new(jobs).add_service(task_managers).into_axum_router();
    let routes = Routes::from(routes.layer(guard).layer(refusals));
    let is_tls = config.security.tls()?.is_some();
    let mut server = config
        .security
        .server()?
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(config.heartbeat()))
        .http2_keepalive_timeout(Some(config.timeout()))
        .http2_max_header_list_size(64 << 10);
    let inside = runtime.enter();
    let incoming = door::open(listener, config.max_connections, is_tls, shared.metrics.clone());
    drop(inside);
    runtime.spawn(async move {
        if let Err(error) = server.add_routes(routes).serve_with_incoming(incoming).await {
            tracing::error!(%error, "the RPC server has ended");
        }
    });
    Ok(())
}

fn serve_rest(
    runtime: &Runtime,
    listener: TcpListener,
    shared: &Arc<Shared>,
    desk: Desk,
) -> Result<()> {
    let (config, metrics) = (&shared.config, shared.metrics.clone());
    let gone = |e| Error::external("a socket is gone").caused_by(e);
    let address = listener.local_addr().map_err(gone)?;
    let tls = config
        .security
        .page_files(address, config.rest_tls)?
        .map(|files| files.pages())
        .transpose()?;
    let caller = match (&config.security.token, &tls) {
        (None, None) => rest::Caller::Anybody,
        _ => rest::Caller::Known,
    };
    let refused = Arc::new(move || metrics.connections_refused.add(1));
    let inside = runtime.enter();
    let hall = Hall::open(listener, config.max_connections, tls, refused).map_err(gone)?;
    drop(inside);
    runtime.spawn(rest::serve(hall, rest::Rest::new(desk, config.security.guard()?, caller)));
    Ok(())
}

async fn survey(desk: Desk) {
    let mut ticks = tokio::time::interval(SURVEY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if desk.survey().await.is_err() {
            return;
        }
    }
}
