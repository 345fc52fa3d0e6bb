//! One attempt of a job on this host: its channels to and from other hosts.
//!
//! First the channels are named, then it starts: a connection per pair of hosts, made by the one with the lower
//! number. So when anything arrives, everything it may be for is there. What becomes of the hosts is told
//! through [`OnLost`], once for each, until the attempt is closed.

use super::frame::ChannelId;
use super::inlet::{Arrivals, Returning};
use super::link::{Channels, Link, OnLost};
use super::outlet::{Outgoing, Outlet};
use super::shell::Shell;
use super::traffic::{Counters, Traffic};
use crate::exchange::{MemoryPool, Sender};
use crate::task::Waker;
use millstream_model::{Data, Error, Result};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

/// Bytes of a channel that may be on their way to this host.
const MAX_WINDOW: usize = 1 << 20;

/// Who takes part in an attempt.
pub struct AttemptSpec {
    /// The job.
    pub job: u128,
    /// Number of the attempt; a higher one replaces it.
    pub attempt: u32,
    /// The secret that all hosts of the job know; at most 256 bytes.
    pub token: Vec<u8>,
    /// Number of this host.
    pub me: u32,
    /// Where every host listens, by its number.
    pub peers: Vec<SocketAddr>,
    /// The memory that records under way may take in this process. Half of it is for what arrives.
    pub memory: Arc<MemoryPool>,
    /// Told of every host that is lost, on a thread of the network: it must not wait.
    pub on_lost: OnLost,
}

/// See the module's text.
pub struct NetAttempt {
    pub(super) shell: Arc<Shell>,
    pub(super) job: u128,
    pub(super) number: u32,
    pub(super) token: Vec<u8>,
    pub(super) me: u32,
    memory: Arc<MemoryPool>,
    traffic: Arc<Counters>,
    /// By number of the host.
    links: Vec<Arc<Link>>,
    state: Mutex<State>,
}

enum State {
    /// With the channels so far, by number of the host.
    New(Vec<Channels>),
    /// With what waits for a connection.
    Started(Vec<AbortHandle>),
    Closed,
}

impl NetAttempt {
    pub(super) fn new(shell: Arc<Shell>, spec: AttemptSpec) -> NetAttempt {
        let AttemptSpec { job, attempt: number, token, me, peers, memory, on_lost } = spec;
        let traffic: Arc<Counters> = Arc::default();
        let link = |(host, address)| {
            let (memory, traffic) = (Arc::clone(&memory), Arc::clone(&traffic));
            Arc::new(Link::new(host, address, memory, traffic, Arc::clone(&on_lost)))
        };
        let links: Vec<_> = (0..).zip(peers).map(link).collect();
        let channels = links.iter().map(|_| Channels::default()).collect();
        let state = Mutex::new(State::New(channels));
        NetAttempt { shell, job, number, token, me, memory, traffic, links, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link to another host.
    pub(super) fn link(&self, host: u32) -> Result<&Arc<Link>> {
        let link = self.links.get(host as usize).filter(|_| host != self.me);
        link.ok_or_else(|| Error::internal(format!("no link goes to host {host}")))
    }

    /// Notes a channel to or from a host.
    fn register(
        &self,
        host: u32,
        channel: ChannelId,
        add: impl FnOnce(&mut Channels) -> bool,
    ) -> Result<()> {
        let mut state = self.state();
        let State::New(channels) = &mut *state else {
            return Err(Error::internal("a channel comes too late: the attempt has started"));
        };
        if channels.get_mut(host as usize).is_some_and(add) {
            Ok(())
        } else {
            Err(Error::internal(format!("a channel was named twice: {channel}")))
        }
    }

    /// The sending end of a channel to another host; `waker` wakes the sending task.
    ///
    /// # Errors
    /// If the host is not known, the channel is there already, or the attempt has started.
    pub fn sender<T: Data>(
        &self,
        to_host: u32,
        channel: ChannelId,
        waker: Waker,
    ) -> Result<Sender<T>> {
        let link = Arc::clone(self.link(to_host)?);
        let outlet = Arc::new(Outlet::new(waker));
        self.register(to_host, channel, |channels| {
            channels.outlets.insert(channel, Arc::clone(&outlet)).is_none()
        })?;
        let outgoing = Outgoing::new(link, outlet, channel, self.shell.config.compress);
        Ok(Sender::remote(Box::new(outgoing)))
    }

    /// Lets what arrives through a channel from another host into a gate: through this one of the senders that
    /// [`connect`](crate::exchange::connect) made with it, whose waker is never woken.
    ///
    /// # Errors
    /// As [`Self::sender`].
    pub fn inlet<T: Data>(
        &self,
        from_host: u32,
        channel: ChannelId,
        sender: Sender<T>,
    ) -> Result<()> {
        let returning = Arc::new(Returning::new(self.link(from_host)?, channel));
        let inlet = sender.into_inlet(Arc::clone(&returning) as Arc<_>)?;
        let arrivals = Arc::new(Arrivals::new(inlet, returning));
        self.register(from_host, channel, |channels| {
            channels.inlets.insert(channel, arrivals).is_none()
        })
    }

    /// Begins, with the channels there are: makes connections, and lets in those that others make.
    ///
    /// # Errors
    /// If it was started before, or has ended.
    pub fn start(self: &Arc<Self>) -> Result<()> {
        let mut state = self.state();
        let State::New(channels) = std::mem::replace(&mut *state, State::Closed) else {
            return Err(Error::internal("an attempt was started twice, or after its end"));
        };
        let n_inlets: usize = channels.iter().map(|channels| channels.inlets.len()).sum();
        let window = (self.memory.limit() / 2 / n_inlets.max(1)).clamp(1, MAX_WINDOW) as u64;
        let mut waiting = Vec::new();
        for (link, channels) in self.links.iter().zip(channels) {
            let is_used = !channels.outlets.is_empty() || !channels.inlets.is_empty();
            link.start(channels, window)?;
            if is_used {
                waiting.push(self.shell.expect(self, link));
            }
        }
        *state = State::Started(waiting);
        drop(state);
        self.shell.admit(self);
        Ok(())
    }

    /// What it has sent and received so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic.read()
    }

    /// Ends the attempt: nobody is told of a loss any more. What was sent through channels that have ended is
    /// still carried, everything else is dropped.
    pub fn close(&self) {
        if let State::Started(waiting) = std::mem::replace(&mut *self.state(), State::Closed) {
            waiting.iter().for_each(AbortHandle::abort);
        }
        self.shell.forget(self);
        self.links.iter().for_each(|link| link.close());
    }
}
