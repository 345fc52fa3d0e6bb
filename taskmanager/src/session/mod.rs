//! The session with the job manager: found again whenever it breaks.
//!
//! Addresses are tried one after the other, the first times almost at once: a job manager that was started again
//! waits for its task managers, and a refused connection costs next to nothing. A session is a stream in each direction;
//! it is over when either ends, when the other side has said nothing for too long, or when the owner
//! [leaves](Session). What was under way then is lost here and kept by the supervisor.
//!
//! Before the first session, a job manager that does not want us (its answer, a wrong token, another release) is a
//! reason to end, because somebody is to correct it. Later only its own word is: hosts run here.

mod backoff;
mod fetch;

pub use fetch::JobManagerPrograms;

use backoff::Backoff;
use millstream_model::{Domain, Error, Result};
use millstream_proto::message::{
    FromTaskManager, Hello, HostRun, JobId, LeaderEpoch, TaskManagerId, ToTaskManager,
};
use millstream_proto::security::{Bearer, Security};
use millstream_proto::wire::{Envelope, MAX_MESSAGE_BYTES, TaskManagersClient};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Messages to the job manager that are not on their way yet: the supervisor's window, and some.
const MAX_UNSENT: usize = 2 * crate::supervisor::outbox::WINDOW;
/// How long a connection, and then the welcome, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// A session that has lasted so long was a good one.
const LASTING: Duration = Duration::from_secs(1);

/// A connection to a job manager.
pub type Client = TaskManagersClient<InterceptedService<Channel, Bearer>>;

/// What does not change about this task manager.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub id: TaskManagerId,
    /// Where it runs, for people.
    pub hostname: String,
    /// How many slots it offers.
    pub n_slots: usize,
    /// Where its metrics can be read.
    pub metrics_address: Option<String>,
}

/// What does.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The newest leader it has heard.
    pub epoch: LeaderEpoch,
    /// The jobs whose hosts run here.
    pub hosts: Vec<(JobId, HostRun)>,
}

/// What becomes of sessions.
#[derive(Debug)]
pub enum Event {
    /// One has begun; the welcome follows.
    Opened(Session),
    /// The job manager said something.
    Said(LeaderEpoch, ToTaskManager),
    /// It is over.
    Closed,
}

/// The owner's end of a session. Dropped, it is left.
#[derive(Debug)]
pub struct Session {
    outgoing: mpsc::Sender<FromTaskManager>,
    _is_held: oneshot::Sender<()>,
}

impl Session {
    /// Says something, if there is room for it; whether there was.
    pub fn say(&self, message: FromTaskManager) -> bool {
        self.outgoing.try_send(message).is_ok()
    }

    /// Says what takes a while to find out; not at all, if there is no room for it then.
    pub fn say_later(&self, find_out: impl FnOnce() -> FromTaskManager + Send + 'static) {
        let outgoing = self.outgoing.clone();
        // Its end is of no interest: who asked asks again.
        tokio::task::spawn_blocking(move || drop(outgoing.try_send(find_out())));
    }
}

/// Looks for job managers.
pub struct Seeker {
    endpoints: Vec<(String, Endpoint)>,
    bearer: Bearer,
    identity: Identity,
    standing: watch::Receiver<Standing>,
    events: mpsc::Sender<Event>,
    clients: watch::Sender<Option<Client>>,
}

/// Why there is no session (any more).
enum Failure {
    /// Another try may do better.
    Broken(Error),
    /// The job manager does not want us.
    Refused(Error),
}

impl Seeker {
    /// Of job managers at these addresses. Its `events` are taken by whoever steps the supervisor; `clients` shows the
    /// connection of the present session.
    ///
    /// # Errors
    /// If there is no address, or one may not be connected to.
    pub fn new(
        addresses: &[String],
        security: &Security,
        identity: Identity,
        standing: watch::Receiver<Standing>,
        events: mpsc::Sender<Event>,
        clients: watch::Sender<Option<Client>>,
    ) -> Result<Self> {
        if addresses.is_empty() {
            return Err(Error::user("a task manager needs the address of a job manager"));
        }
        let endpoint = |address: &String| {
            let endpoint = security.endpoint(address)?.connect_timeout(CONNECT_TIMEOUT);
            Ok((address.clone(), endpoint))
        };
        let endpoints = addresses.iter().map(endpoint).collect::<Result<_>>()?;
        let bearer = security.bearer()?;
        Ok(Seeker { endpoints, bearer, identity, standing, events, clients })
    }

    /// Has sessions, until a job manager does not want us.
    pub async fn run(self) -> Error {
        let mut backoff = Backoff::new(self.identity.id);
        let mut was_welcome = false;
        for (address, endpoint) in self.endpoints.iter().cycle() {
            let mut is_welcome = false;
            let begin = Instant::now();
            let failure = self.session(endpoint, &mut is_welcome).await;
            self.clients.send_replace(None);
            was_welcome |= is_welcome;
            if is_welcome {
                // One that ends at once, time and again, is no better than none.
                if begin.elapsed() >= LASTING {
                    backoff.reset();
                }
                if self.events.send(Event::Closed).await.is_err() {
                    break;
                }
            }
            match failure {
                Failure::Refused(error) => return error,
                Failure::Broken(error) if !was_welcome && error.domain() == Domain::User => {
                    return error;
                }
                Failure::Broken(error) if is_welcome || backoff.is_new() => {
                    tracing::warn!(address, %error, "no job manager: trying again");
                }
                Failure::Broken(error) => tracing::debug!(address, %error, "no job manager"),
            }
            tokio::time::sleep(backoff.next()).await;
        }
        Error::internal("nobody listens to the job manager any more")
    }

    async fn session(&self, endpoint: &Endpoint, is_welcome: &mut bool) -> Failure {
        match self.try_session(endpoint, is_welcome).await {
            Err(failure) => failure,
            Ok(()) => Failure::Broken(Error::external("the job manager ended the session")),
        }
    }

    async fn try_session(&self, endpoint: &Endpoint, is_welcome: &mut bool) -> Result<(), Failure> {
        let connected = timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
        let channel = match connected {
            Ok(Ok(channel)) => channel,
            Ok(Err(e)) => {
                return Err(broken("no connection to the job manager").caused_by(e).into());
            }
            Err(_) => return Err(broken("a connection to the job manager took too long").into()),
        };
        let mut client = TaskManagersClient::with_interceptor(channel, self.bearer.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let Standing { epoch, hosts } = self.standing.borrow().clone();
        let epoch_said = Arc::new(AtomicU64::new(epoch.0));
        let (outgoing, unsent) = mpsc::channel(MAX_UNSENT);
        let hello = FromTaskManager::Hello(self.hello(epoch, hosts));
        outgoing.try_send(hello).map_err(|_| broken("there is no room for a first word"))?;
        let of_stream = Arc::clone(&epoch_said);
        let outbound = ReceiverStream::new(unsent).filter_map(move |message| {
            let epoch = LeaderEpoch(of_stream.load(Ordering::Relaxed));
            let sealed = Envelope::seal(epoch, &message);
            // Messages of hosts are bounded so that they fit, and no other is that long.
            sealed.inspect_err(|error| tracing::error!(%error, "a message is not sent")).ok()
        });
        let welcome = async {
            let mut inbound = client.attach(outbound).await.map_err(failure_of)?.into_inner();
            let first = inbound.message().await.map_err(failure_of)?;
            let first = first.ok_or_else(|| broken("the job manager said nothing"))?;
            Ok::<_, Failure>((inbound, first.open::<ToTaskManager>()?))
        };
        let welcomed = timeout(WELCOME_TIMEOUT, welcome).await;
        let (mut inbound, (epoch, first)) =
            welcomed.map_err(|_| broken("the job manager did not answer in time"))??;
        let (heartbeat, silence) = match first {
            ToTaskManager::Welcome { heartbeat_ms, timeout_ms, .. } => {
                (Duration::from_millis(heartbeat_ms.max(1)), Duration::from_millis(timeout_ms))
            }
            ToTaskManager::Refused { error } => return Err(Failure::Refused(error)),
            _ => return Err(broken("the job manager's first word is no welcome").into()),
        };
        *is_welcome = true;
        epoch_said.store(epoch.0, Ordering::Relaxed);
        let (is_held, mut left) = oneshot::channel();
        self.clients.send_replace(Some(client));
        self.tell(Event::Opened(Session { outgoing: outgoing.clone(), _is_held: is_held })).await?;
        self.tell(Event::Said(epoch, first)).await?;

        let mut heartbeats = tokio::time::interval(heartbeat);
        let mut deadline = Instant::now() + silence;
        loop {
            let message = tokio::select! {
                message = inbound.message() => message.map_err(failure_of)?,
                _ = heartbeats.tick() => {
                    // What is full says more than a heartbeat.
                    let _ = outgoing.try_send(FromTaskManager::Heartbeat);
                    continue;
                }
                _ = &mut left => return Err(broken("the session was left").into()),
                () = tokio::time::sleep_until(deadline) => {
                    let text = format!("the job manager has said nothing for {silence:?}");
                    return Err(Error::external(text).into());
                }
            };
            let Some(message) = message else { return Ok(()) };
            deadline = Instant::now() + silence;
            let (epoch, message) = message.open::<ToTaskManager>()?;
            epoch_said.fetch_max(epoch.0, Ordering::Relaxed);
            match message {
                ToTaskManager::Heartbeat => {}
                ToTaskManager::Refused { error } => return Err(Failure::Refused(error)),
                message => self.tell(Event::Said(epoch, message)).await?,
            }
        }
    }

    async fn tell(&self, event: Event) -> Result<(), Failure> {
        let sent = self.events.send(event).await;
        sent.map_err(|_| broken("nobody listens to the job manager any more").into())
    }

    fn hello(&self, epoch: LeaderEpoch, hosts: Vec<(JobId, HostRun)>) -> Hello {
        Hello {
            id: self.identity.id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.identity.hostname.clone(),
            pid: std::process::id(),
            n_slots: self.identity.n_slots,
            epoch,
            hosts,
            metrics_address: self.identity.metrics_address.clone(),
        }
    }
}

fn broken(text: &str) -> Error {
    Error::external(text)
}

/// What a status of the transport means for us: only some are a matter of configuration.
fn failure_of(status: Status) -> Failure {
    let error = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
            Error::user(format!("the job manager refuses this task manager: {}", status.message()))
        }
        _ => Error::external("the session with the job manager broke").caused_by(status),
    };
    Failure::Broken(error)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Broken(error)
    }
}
