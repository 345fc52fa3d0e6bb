//! The task manager's process.
//!
//! One loop holds the supervisor and steps it with whatever happens: words of the job manager, words and ends of hosts,
//! time, signals. It never waits for any of them; what it hands on goes into bounded queues, and whoever lets
//! one run full is the one who suffers: a host is ended, a session is left and begun again.
//!
//! Hosts live exactly as long as this process wants, and no longer than it: told to end (SIGTERM, SIGINT) it stops them,
//! tells the job manager and waits for its answer a moment; killed, it takes them along, because their channels
//! close. Its folder belongs to it alone, which a lock makes sure of.

mod folder;
mod metrics;
mod shell;

use crate::hosts::log::Logs;
use crate::hosts::{Ground, HostLimits};
use crate::programs::Programs;
use crate::session::{Identity, JobManagerPrograms, Seeker, Standing};
use folder::Folder;
use metrics::Metrics;
use millstream_model::{Error, Result};
use millstream_proto::message::TaskManagerId;
use millstream_proto::security::Security;
use shell::Shell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Things that happened and were not looked at yet.
const MAX_PENDING: usize = 1024;

/// What a task manager is told at its start.
#[derive(Clone, Debug)]
pub struct TaskManagerConfig {
    /// Addresses of job managers, `HOST:PORT`, tried in turn.
    pub job_managers: Vec<String>,
    /// Slots it offers.
    pub n_slots: usize,
    /// A folder for programs, output and working folders of hosts; of no other process.
    pub dir: PathBuf,
    /// The address that hosts listen on for records.
    pub data_bind: IpAddr,
    /// Where metrics can be read, if at all; port 0 is any that is free.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether they want TLS at an address of this machine, too, where others may have accounts.
    pub metrics_tls: bool,
    /// How connections are secured.
    pub security: Security,
    /// What each host may use.
    pub host_limits: HostLimits,
    /// How much of each of a job's output streams is kept, in bytes.
    pub log_bytes: u64,
    /// How much of programs is kept, in bytes.
    pub program_bytes: u64,
}

impl TaskManagerConfig {
    /// With this folder and otherwise what is usual: everything on this machine, a slot per core.
    pub fn new(dir: PathBuf) -> Self {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        TaskManagerConfig {
            job_managers: vec!["127.0.0.1:7455".to_owned()],
            n_slots: std::thread::available_parallelism().map_or(1, usize::from),
            dir,
            data_bind: localhost,
            metrics_tls: false,
            metrics_listen: Some(SocketAddr::new(localhost, 0)),
            security: Security::default(),
            host_limits: HostLimits::default(),
            log_bytes: 64 << 20,
            program_bytes: 8 << 30,
        }
    }
}

/// Runs a task manager until it is told to end.
///
/// # Errors
/// If it cannot begin with this configuration, or the job manager refuses it.
pub fn run(config: TaskManagerConfig) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("millstream-tm")
        .enable_all()
        .build()
        .map_err(|e| Error::external("the system refused threads").caused_by(e))?;
    let result = runtime.block_on(serve(config));
    // Hosts have ended, or are killed with what is dropped here.
    runtime.shutdown_background();
    result
}

async fn serve(config: TaskManagerConfig) -> Result<()> {
    if config.n_slots == 0 {
        return Err(Error::user("a task manager without slots is of no use: give it at least one"));
    }
    let security = &config.security;
    security.check_listen("hosts", SocketAddr::new(config.data_bind, 0))?;
    let folder = Folder::take(&config.dir)?;
    let programs = Programs::open(&folder.programs(), config.program_bytes)?;
    let metrics = Arc::new(Metrics::new(Arc::clone(&programs)));
    let metrics_address = match config.metrics_listen {
        Some(address) => {
            security.check_listen("the task manager's metrics", address)?;
            let tls = security.page_files(address, config.metrics_tls)?;
            Some(metrics::serve(address, tls, Arc::clone(&metrics)).await?)
        }
        None => None,
    };
    let identity = Identity {
        id: TaskManagerId(random()?),
        hostname: nix::unistd::gethostname()
            .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned()),
        n_slots: config.n_slots,
        metrics_address: metrics_address.map(|address| address.to_string()),
    };
    tracing::info!(id = %identity.id, slots = config.n_slots, ?metrics_address, "a task manager begins");

    let (standing, stands) = watch::channel(Standing::default());
    let (clients, client) = watch::channel(None);
    let (session_events, sessions) = mpsc::channel(MAX_PENDING);
    let seeker =
        Seeker::new(&config.job_managers, security, identity, stands, session_events, clients)?;
    let ground = Ground {
        programs,
        source: JobManagerPrograms::new(client),
        logs: Logs::new(folder.logs(), config.log_bytes),
        dir: folder.hosts(),
        data_bind: config.data_bind,
        settings: settings(security)?,
        limits: config.host_limits.clone(),
    };
    let mut shell = Shell::new(Arc::new(ground), metrics, standing, sessions);
    let seeking = tokio::spawn(seeker.run());
    let ended = shell.run(seeking, told_to_end()?).await;
    drop(folder);
    ended
}

/// What the hosts must know of how connections are secured: not the token, which lets one submit jobs.
fn settings(security: &Security) -> Result<Vec<(String, String)>> {
    let without_token = Security { token: None, ..security.clone() };
    let variables = without_token.to_variables()?.into_iter();
    Ok(variables.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

/// Comes to an end when somebody wants this process to.
fn told_to_end() -> Result<impl Future<Output = &'static str>> {
    let listen = |kind| signal(kind).map_err(Error::from);
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

fn random() -> Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::external("the system gives no random numbers").caused_by(e))?;
    Ok(u128::from_le_bytes(bytes))
}
