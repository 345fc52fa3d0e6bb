//! The processes of jobs: fetched, started, listened to, ended.
//!
//! One asynchronous function looks after a host for its whole life, from the order to start it to the word that it has
//! ended, which it always gives and always last: by then everything the host has said has been passed on. It decides
//! nothing; which hosts there are is the supervisor's matter.
//!
//! To end a host its channel is closed: it then kills itself. What does not react, for it never looked at its channel
//! or is stopped, is killed after a short time, with all that it started.

pub mod log;
mod process;
mod spawn;

pub use spawn::HostLimits;

use crate::programs::Programs;
use log::Logs;
use millstream_model::{Error, Result};
use millstream_proto::envelope;
use millstream_proto::message::{
    FromHost, HostSpec, HostStart, JobId, LeaderEpoch, ProgramId, ToHost,
};
use process::Process;
use spawn::Launch;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;

/// Messages to a host that it has not taken. It takes them at once, or is stuck.
pub const MAX_UNTAKEN: usize = 8192;
/// How long a host whose channel was closed may take to end itself.
const GRACE: Duration = Duration::from_millis(500);
/// How long the rest of what a host said is waited for when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What a message grows by at most when it is passed on.
const WRAPPING_BYTES: usize = 256;

/// What becomes of a host.
#[derive(Debug)]
pub enum Event {
    /// Its process runs.
    Started,
    /// It said something, in so many bytes.
    Said(usize, FromHost),
    /// It is gone, or could not be started. The last one.
    Ended(Error),
}

/// Where programs come from.
pub trait Source: Send + Sync + 'static {
    /// The pieces of a program.
    type Pieces: Stream<Item = Result<Vec<u8>>> + Send + Unpin;

    /// Begins to bring a program of so many bytes.
    fn open(
        &self,
        id: ProgramId,
        n_bytes: u64,
    ) -> impl Future<Output = Result<Self::Pieces>> + Send;
}

/// What hosts need to run here.
pub struct Ground<S> {
    /// Their programs.
    pub programs: Arc<Programs>,
    /// Where those come from.
    pub source: S,
    /// What they print.
    pub logs: Logs,
    /// Below it each gets a folder of its own.
    pub dir: PathBuf,
    /// The address they listen on for records.
    pub data_bind: IpAddr,
    /// Further variables for them.
    pub settings: Vec<(String, String)>,
    /// What each may use.
    pub limits: HostLimits,
}

/// The ends of a host's life that its owner holds.
pub struct Reins {
    /// What it is to be told. Dropped by the host's side when it can be told nothing any more.
    pub orders: mpsc::Sender<(LeaderEpoch, ToHost)>,
    /// Dropped or sent to: it is to end.
    pub stop: oneshot::Sender<()>,
}

/// Who hears of a host.
#[derive(Clone)]
pub struct Listener {
    /// Its job.
    pub job: JobId,
    /// Which of the job's processes here.
    pub run: u64,
    /// Where it is told to.
    pub events: mpsc::Sender<(JobId, u64, Event)>,
}

impl Listener {
    async fn tell(&self, event: Event) {
        // If nobody listens any more, this process is ending.
        let _ = self.events.send((self.job, self.run, event)).await;
    }
}

/// Begins the life of a host, in a task of its own. `epoch` is the leader's who wants it.
pub fn begin<S: Source>(
    ground: Arc<Ground<S>>,
    spec: Box<HostSpec>,
    epoch: LeaderEpoch,
    listener: Listener,
) -> Reins {
    let (orders, ordered) = mpsc::channel(MAX_UNTAKEN);
    let (stop, mut stopped) = oneshot::channel();
    tokio::spawn(async move {
        let folder = ground.dir.join(format!("{}-{}", listener.job, listener.run));
        let HostSpec { program, program_bytes, start, name, .. } = *spec;
        let lease = tokio::select! {
            biased;
            _ = &mut stopped => Err(Error::external("the host was stopped before it was started")),
            lease = fetch(&ground, program, program_bytes) => lease,
        };
        // The lease is held to the end: a program that runs stays in the cache.
        let error = match lease {
            Err(error) => error,
            Ok(lease) => {
                tracing::info!(job = %listener.job, name, "a host is started");
                let launched = launch(&ground, lease.path(), folder.clone(), &start).await;
                match launched {
                    Err(error) => error,
                    Ok(process) => {
                        let ordered = (epoch, start, ordered);
                        let error = live(process, ordered, &mut stopped, &listener).await;
                        drop(lease);
                        error
                    }
                }
            }
        };
        match tokio::fs::remove_dir_all(&folder).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(job = %listener.job, error = %e, "a host's folder could not be deleted");
            }
            _ => {}
        }
        tracing::info!(job = %listener.job, %error, "a host is gone");
        listener.tell(Event::Ended(error)).await;
    });
    Reins { orders, stop }
}

async fn fetch<S: Source>(
    ground: &Ground<S>,
    program: ProgramId,
    n_bytes: u64,
) -> Result<crate::programs::Lease> {
    ground.programs.get(program, n_bytes, ground.source.open(program, n_bytes)).await
}

async fn launch<S>(
    ground: &Ground<S>,
    program: PathBuf,
    folder: PathBuf,
    start: &HostStart,
) -> Result<Process> {
    tokio::fs::create_dir_all(&folder).await?;
    let log = ground.logs.of(start.job)?;
    let launch = Launch {
        program,
        arguments: start.arguments.clone(),
        environment: start.environment.clone(),
        folder,
        data_bind: ground.data_bind,
        settings: ground.settings.clone(),
        limits: ground.limits.clone(),
    };
    Process::start(launch, log).await
}

/// Looks after a process until it is gone; how it went.
async fn live(
    mut process: Process,
    (epoch, start, ordered): (LeaderEpoch, HostStart, mpsc::Receiver<(LeaderEpoch, ToHost)>),
    stopped: &mut oneshot::Receiver<()>,
    listener: &Listener,
) -> Error {
    let channel = process
        .channel
        .take()
        .map(|channel| channel.set_nonblocking(true).and_then(|()| UnixStream::from_std(channel)));
    let (reader, writer) = match channel {
        Some(Ok(channel)) => channel.into_split(),
        Some(Err(e)) => return Error::external("a host's channel cannot be used").caused_by(e),
        None => return Error::internal("a host's channel was taken before"),
    };
    listener.tell(Event::Started).await;
    // Aborted, it closes the channel in that direction.
    let writer = tokio::spawn(write(writer, epoch, start, ordered));
    let has_spoken = Arc::new(AtomicBool::new(false));
    let (from, speaks) = (listener.clone(), Arc::clone(&has_spoken));
    let mut reader = tokio::spawn(async move { read(reader, &speaks, &from).await });
    let mut heard = None;
    let exit = tokio::select! {
        exit = &mut process.exit => Some(exit),
        _ = stopped => None,
        read = &mut reader => {
            let early = |e| Err(Error::internal("a host's reader ended early").caused_by(e));
            heard = Some(read.unwrap_or_else(early));
            None
        }
    };
    writer.abort();
    let mut was_killed = false;
    let exit = match exit {
        Some(exit) => exit,
        None => match tokio::time::timeout(GRACE, &mut process.exit).await {
            Ok(exit) => exit,
            Err(_) => {
                was_killed = true;
                process.kill();
                (&mut process.exit).await
            }
        },
    };
    if heard.is_none() && tokio::time::timeout(LAST_WORDS, &mut reader).await.is_err() {
        reader.abort();
    }
    let exit = match exit {
        // Its `main` came to an end before it was anybody's host, and would again.
        Ok(exit) if exit.is_by_itself() && !has_spoken.load(Ordering::Relaxed) => {
            return Error::user(format!(
                "the program ended before it came to the `execute` that submitted the job: {exit}"
            ))
            .finally();
        }
        Ok(exit) => exit.to_string(),
        Err(e) => return Error::internal("a host's thread ended early").caused_by(e),
    };
    match heard {
        Some(Err(error)) => Error::external(format!("{exit}; before that")).caused_by(error),
        Some(Ok(())) if was_killed => {
            Error::external("the host closed its control channel, so it was killed")
        }
        _ => Error::external(exit),
    }
}

/// Tells the host what it is told, until nobody tells it anything or it cannot be told.
async fn write(
    mut stream: OwnedWriteHalf,
    epoch: LeaderEpoch,
    start: HostStart,
    mut ordered: mpsc::Receiver<(LeaderEpoch, ToHost)>,
) -> Result<()> {
    stream.write_all(&envelope::seal(epoch, &start)?).await?;
    while let Some((epoch, message)) = ordered.recv().await {
        stream.write_all(&envelope::seal(epoch, &message)?).await?;
    }
    Ok(())
}

/// Passes on what the host says, until it says nothing more.
async fn read(stream: OwnedReadHalf, has_spoken: &AtomicBool, listener: &Listener) -> Result<()> {
    let mut stream = tokio::io::BufReader::new(stream);
    loop {
        let mut sealed = Vec::new();
        (&mut stream).take(4).read_to_end(&mut sealed).await?;
        let Some(length) = sealed.first_chunk::<4>() else {
            return match sealed.len() {
                0 => Ok(()),
                _ => Err(Error::external("the host's last message is cut off")),
            };
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > envelope::MAX_BYTES - WRAPPING_BYTES {
            return Err(Error::external(format!(
                "the host wants to say something of {length} bytes, which is too long for the cluster"
            )));
        }
        (&mut stream).take(length as u64).read_to_end(&mut sealed).await?;
        let (_, message) = envelope::open(&sealed)?;
        has_spoken.store(true, Ordering::Relaxed);
        listener.tell(Event::Said(sealed.len(), message)).await;
    }
}
