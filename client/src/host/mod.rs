//! The program as a task host: what `main` becomes when a task manager has started it.
//!
//! The program runs as it did on the client, up to the `execute` that submitted the job; there it finds that it is a
//! host, compares the graph it has built with the one that was submitted, and serves the job manager until its
//! process is ended. So code never travels: the program is the code, and the same call of `execute` means the same
//! job.

mod drift;
mod passed_over;
mod serve;

use crate::config::Config;
use millstream_model::{Error, Result};
use millstream_proto::message::{FromHost, HostStart};
use millstream_state::codec;
use millstream_taskmanager::channel::HostChannel;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) use passed_over::PassedOver;
pub(crate) use serve::serve;

/// How long a last word may take to be written.
const LAST_WORD: Duration = Duration::from_secs(5);

/// A process that a task manager has started.
pub(crate) struct Host {
    channel: HostChannel,
    start: HostStart,
    /// The engine's settings, as the client had them.
    config: Config,
    /// Calls of `execute` so far.
    n_executes: AtomicU32,
}

static HOST: OnceLock<Result<Option<Host>>> = OnceLock::new();

/// The host that this process is, if it is one. The first call makes it one: from then on it does not outlive its
/// task manager.
pub(crate) fn host() -> Result<Option<&'static Host>> {
    match HOST.get_or_init(Host::begin) {
        Ok(host) => Ok(host.as_ref()),
        Err(error) => Err(error.clone()),
    }
}

impl Host {
    fn begin() -> Result<Option<Self>> {
        let Some((channel, start)) = HostChannel::from_environment()? else { return Ok(None) };
        // Relative paths mean what they meant where the job was submitted, if this machine has that folder.
        if start.folder.is_dir() {
            std::env::set_current_dir(&start.folder)?;
        }
        let config = codec::decode_all(&start.config)?;
        Ok(Some(Host { channel, start, config, n_executes: AtomicU32::new(0) }))
    }

    /// The engine's settings, as the client had them.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// A value that the client has computed once.
    pub(crate) fn once(&self, name: &str) -> Result<&[u8]> {
        let found = self.start.once.iter().find(|(n, _)| n == name);
        found.map(|(_, bytes)| &bytes[..]).ok_or_else(|| {
            Error::user(format!(
                "the value `{name}` was not computed when the job was submitted: call `once` with it also there, \
                 before `execute`"
            ))
        })
    }

    /// Whether this call of `execute` is the one that submitted the job. The calls before it are passed over.
    pub(crate) fn is_called(&self) -> bool {
        self.n_executes.fetch_add(1, Ordering::SeqCst) == self.start.nth_execute
    }

    /// Says why this process cannot be the host it should be, and ends it.
    pub(crate) fn give_up(&self, error: Error) -> ! {
        tracing::error!(%error, "this program cannot run the tasks of its job");
        // If nobody hears it, the end of the process says enough.
        let _ = self.channel.send(&FromHost::Unfit { error });
        self.channel.flush(LAST_WORD);
        std::process::exit(1)
    }
}
