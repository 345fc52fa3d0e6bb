//! The job manager's process: what the machines of this package decide, carried out in a cluster.
//!
//! One thread, the shell, owns the dispatcher and the slot pool. Each job has a master on a thread of its own; a thread
//! writes metadata; a tokio runtime serves the network. They tell each other things and never wait for each other.
//! The process leads from the moment its [`Election`] says so until it is told to stop or somebody else leads. Either
//! way it leaves its jobs alone: their tasks run on, and the next leader takes them over.

mod config;
mod describe;
mod desk;
mod door;
mod event;
mod jobs;
mod link;
mod metrics;
mod outbox;
mod peer;
mod rpc;
mod server;
mod session;
mod shared;
mod shell;

#[cfg(test)]
pub(crate) mod tests;

pub use config::JobManagerConfig;
pub(crate) use describe::phase;
pub(crate) use desk::Desk;
pub use server::JobManager;

use crate::job::link::{JobInput, JobSpec, Link};
use crossbeam_channel::{Receiver, Sender, bounded};
use millstream_ha::{Election, Standalone};
use millstream_model::{Error, Result};
use shell::Ending;
use std::sync::Arc;

/// How the master of a job is started: it runs until it has said its last word, or is told to abandon the job.
pub type StartJob = Arc<dyn Fn(JobSpec, Box<dyn Link>) -> Result<Sender<JobInput>> + Send + Sync>;

/// Runs a job manager until it is told to stop, by SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start, or cannot go on.
pub fn run(config: JobManagerConfig, start: StartJob) -> Result<()> {
    config.check()?;
    let stop = stop_signals()?;
    let mut election = Standalone::new(config.dir.join("leader"));
    while let Some(leadership) = election.campaign(&stop)? {
        let manager = JobManager::start(config.clone(), start.clone(), leadership, stop.clone())?;
        match manager.join() {
            Ending::Stopped => break,
            Ending::Lost(error) => {
                tracing::error!(%error, "this job manager does not lead any more")
            }
        }
    }
    Ok(())
}

/// Says something when the process is to stop.
fn stop_signals() -> Result<Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e| Error::external("cannot wait for signals").caused_by(e);
    let (sender, stop) = bounded(1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        let of = |kind| signal(kind).map_err(failed);
        (of(SignalKind::terminate())?, of(SignalKind::interrupt())?)
    };
    let wait = move || {
        runtime.block_on(async {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                tracing::info!(signal = name, "the job manager ends; its jobs run on");
                // It has been told already, if there is no room.
                let _ = sender.try_send(());
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(failed)?;
    Ok(stop)
}
