//! Channels between processes: batches cross between task hosts over TCP, under the credit they have in a process.
//!
//! There is one [`Exchange`] per process, and in it a [`NetAttempt`] per attempt of a job. All channels between two
//! hosts share one connection. A writer does not notice: its [`Sender`](super::Sender) has a second route. A gate
//! does not either: what arrives is put into its queue under the credit the far sender was given, so the reader
//! of a connection never waits for a task, and one that is slow slows its own senders and nobody else.
//!
//! What is pure is apart: [`frame`], [`columns`] and [`hello`] know the bytes, [`credit`] who may send,
//! [`outgoing`] in what order, [`admission`] who may come in. [`shell`] and [`connection`] do what they say.

mod admission;
mod attempt;
mod columns;
mod compress;
mod connection;
mod credit;
mod frame;
mod hello;
mod inlet;
mod link;
mod outgoing;
mod outlet;
#[cfg(any(test, feature = "fuzzing"))]
pub mod received;
mod shell;
mod tls;
mod traffic;
mod wire;

pub use attempt::{AttemptSpec, NetAttempt};
pub use frame::ChannelId;
pub use link::OnLost;
pub use tls::TlsConfig;
pub use traffic::Traffic;

#[cfg(test)]
mod tests;

use hello::MAX_TOKEN;
use millstream_model::{Error, Result};
use shell::Shell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;

/// How a process takes part in the network.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Where to listen; port 0 is any that is free.
    pub listen: SocketAddr,
    /// Whether to make frames smaller: worth it where the network is slower than the processor.
    pub compress: bool,
    /// How to keep others out and unable to read. Without it the network must be trusted.
    pub tls: Option<TlsConfig>,
    /// How long other hosts may take until they begin the same attempt.
    pub patience: Duration,
    /// Threads that serve the network.
    pub n_threads: usize,
}

impl NetConfig {
    /// A process that listens there: no compression, no TLS, ten seconds of patience, and a thread for every
    /// four processors.
    pub fn new(listen: SocketAddr) -> NetConfig {
        let n_processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        NetConfig {
            listen,
            compress: false,
            tls: None,
            patience: Duration::from_secs(10),
            n_threads: (n_processors / 4).clamp(1, 8),
        }
    }
}

/// The network of a process. Dropping it closes every attempt.
pub struct Exchange {
    shell: Arc<Shell>,
    address: SocketAddr,
    runtime: Option<Runtime>,
    /// Ends when no connection is left; the other end is given to each.
    ended: mpsc::Receiver<()>,
    alive: Option<mpsc::Sender<()>>,
}

impl Exchange {
    /// Listens for other hosts.
    ///
    /// # Errors
    /// If the address cannot be listened at, or the certificates cannot be used.
    pub fn listen(config: NetConfig) -> Result<Exchange> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(config.n_threads.max(1))
            .thread_name("millstream-net")
            .enable_all()
            .build()?;
        let (alive, ended) = mpsc::channel(1);
        let listen = config.listen;
        let shell = Shell::new(config, runtime.handle().clone(), alive.downgrade())?;
        let shell = Arc::new(shell);
        let listener = runtime.block_on(tokio::net::TcpListener::bind(listen)).map_err(|e| {
            Error::external(format!("the network exchange cannot listen at {listen}")).caused_by(e)
        })?;
        let address = listener.local_addr()?;
        runtime.spawn(Arc::clone(&shell).listen(listener));
        Ok(Exchange { shell, address, runtime: Some(runtime), ended, alive: Some(alive) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new attempt of a job. Others of it may be here, too, of other tasks.
    ///
    /// # Errors
    /// If it was here before.
    pub fn attempt(&self, spec: AttemptSpec) -> Result<Arc<NetAttempt>> {
        if spec.token.len() > MAX_TOKEN {
            return Err(Error::internal("the secret of a job is too long"));
        }
        let attempt = Arc::new(NetAttempt::new(Arc::clone(&self.shell), spec));
        self.shell.begin(&attempt)?;
        Ok(attempt)
    }
}

impl Drop for Exchange {
    /// What was sent through channels that have ended is given a little time to be carried.
    fn drop(&mut self) {
        self.shell.close();
        self.alive = None;
        let Some(runtime) = self.runtime.take() else { return };
        if Handle::try_current().is_err() {
            let ended = self.ended.recv();
            let _ =
                runtime.block_on(async { tokio::time::timeout(connection::LINGER, ended).await });
        }
        runtime.shutdown_background();
    }
}
