//! Which job manager is spoken to, and what happens when it does not answer.
//!
//! Of several job managers one leads, and which it is changes. So an address is kept for as long as it answers, and after
//! a failure the next is tried; after each round there is a pause that grows. What was heard of a leader's epoch is
//! said in every request and held against every answer: one that was deposed and does not know it is passed over.
//!
//! What may be asked twice is asked again when no answer came. A savepoint may not: it is asked over a connection
//! made for it, so that a failure to connect says that nothing was asked.

use super::Security;
use super::message::{ClientReply, ClientRequest, LeaderEpoch};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use millstream_model::{Error, Result};
use millstream_proto::security::Bearer;
use millstream_proto::wire::{
    Envelope, JobsClient, MAX_MESSAGE_BYTES, TaskManagersClient, reasons,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Time for an answer that does not wait for a job.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection over which nothing comes is asked for a sign of life, and given up, after so long each.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

pub(super) type Client = JobsClient<InterceptedService<Channel, Bearer>>;
pub(super) type Programs = TaskManagersClient<InterceptedService<Channel, Bearer>>;

/// Why there was no answer.
pub(super) enum Failure {
    /// It would not help to ask again.
    Final(Error),
    /// Nothing was asked.
    Unsent(Error),
    /// It is not known whether it was heard.
    Lost(Error),
}

pub(super) struct Route {
    places: Vec<(String, Endpoint)>,
    bearer: Bearer,
    current: Mutex<Current>,
    /// The newest leader heard of.
    epoch: AtomicU64,
    /// Whether the cluster has ever answered.
    has_answered: AtomicBool,
}

struct Current {
    place: usize,
    channel: Option<Channel>,
}

impl Route {
    pub(super) fn new(addresses: &[String], security: &Security) -> Result<Self> {
        let places = addresses.iter().map(|address| {
            let endpoint = security
                .endpoint(address)?
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .keep_alive_while_idle(true);
            Ok((address.clone(), endpoint))
        });
        let places: Vec<_> = places.collect::<Result<_>>()?;
        if places.is_empty() {
            return Err(Error::user("no job manager was named: use `--cluster HOST:PORT`"));
        }
        Ok(Route {
            places,
            bearer: security.bearer()?,
            current: Mutex::new(Current { place: 0, channel: None }),
            epoch: AtomicU64::new(0),
            has_answered: AtomicBool::new(false),
        })
    }

    pub(super) fn addresses(&self) -> Vec<&str> {
        self.places.iter().map(|(address, _)| address.as_str()).collect()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to any of the addresses.
    pub(super) async fn reach(&self) -> Result<()> {
        let mut rounds = self.rounds(Duration::ZERO, true);
        while let Err(failure) = self.client(false).await {
            rounds.after(failure).await?;
        }
        Ok(())
    }

    pub(super) async fn ask(
        &self,
        request: &ClientRequest,
        patience: Duration,
    ) -> Result<ClientReply> {
        let may_repeat = !matches!(request, ClientRequest::Savepoint { .. });
        let mut rounds = self.rounds(patience, may_repeat);
        loop {
            match self.ask_once(request, !may_repeat).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => rounds.after(failure).await?,
            }
        }
    }

    async fn ask_once(&self, request: &ClientRequest, fresh: bool) -> Result<ClientReply, Failure> {
        let (place, mut client) = self.client(fresh).await?;
        let epoch = LeaderEpoch(self.epoch.load(Ordering::Relaxed));
        let envelope = Envelope::seal(epoch, request).map_err(Failure::Final)?;
        let answer = match time_for(request) {
            Some(time) => timeout(time, client.call(envelope)).await.unwrap_or_else(|_| {
                let seconds = time.as_secs();
                Err(Status::deadline_exceeded(format!("no answer within {seconds} s")))
            }),
            None => client.call(envelope).await,
        };
        self.opened(place, answer.map(tonic::Response::into_inner))
    }

    /// Attempts at one address after the other, for as long as the cluster is worth waiting for.
    pub(super) fn rounds(&self, patience: Duration, may_repeat: bool) -> Rounds<'_> {
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .with_jitter()
            .without_max_times()
            .build();
        Rounds { route: self, since: Instant::now(), patience, may_repeat, delays, n_failures: 0 }
    }

    /// A client for the current address, and which that is.
    pub(super) async fn client(&self, fresh: bool) -> Result<(usize, Client), Failure> {
        let (place, channel) = self.channel(fresh).await?;
        let client = JobsClient::with_interceptor(channel, self.bearer.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok((place, client))
    }

    /// Whom programs can be had from.
    pub(super) async fn programs(&self) -> Result<Programs, Failure> {
        let (_, channel) = self.channel(false).await?;
        Ok(TaskManagersClient::with_interceptor(channel, self.bearer.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    async fn channel(&self, fresh: bool) -> Result<(usize, Channel), Failure> {
        let (place, channel) = {
            let current = self.current();
            (current.place, current.channel.clone().filter(|_| !fresh))
        };
        if let Some(channel) = channel {
            return Ok((place, channel));
        }
        let connected = self.places[place].1.connect().await;
        let channel =
            connected.map_err(|error| Failure::Unsent(Error::external(reasons(&error))))?;
        let mut current = self.current();
        if current.place == place {
            current.channel = Some(channel.clone());
        }
        Ok((place, channel))
    }

    /// What was answered at an address.
    pub(super) fn opened(
        &self,
        place: usize,
        answer: Result<Envelope, Status>,
    ) -> Result<ClientReply, Failure> {
        let (LeaderEpoch(epoch), reply) =
            answer.map_err(failure)?.open().map_err(Failure::Final)?;
        let newest = self.epoch.fetch_max(epoch, Ordering::Relaxed);
        if epoch < newest {
            let address = &self.places[place].0;
            return Err(Failure::Lost(Error::external(format!(
                "the job manager at {address} no longer leads the cluster"
            ))));
        }
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(reply)
    }

    /// Goes on to the next address.
    fn turn(&self) {
        let mut current = self.current();
        current.place = (current.place + 1) % self.places.len();
        current.channel = None;
    }

    fn unreachable(&self, error: Error) -> Error {
        let whom = match &self.addresses()[..] {
            [one] => format!("the job manager at {one} cannot be reached"),
            several => format!("none of the job managers at {} can be reached", several.join(", ")),
        };
        Error::external(format!(
            "{whom} ({error}): is the cluster running, and is this its address? `millstream cluster start` starts \
             one on this machine; `--cluster` or MILLSTREAM_CLUSTER names another"
        ))
    }
}

/// See [`Route::rounds`].
pub(super) struct Rounds<'a> {
    route: &'a Route,
    since: Instant,
    patience: Duration,
    may_repeat: bool,
    delays: ExponentialBackoff,
    n_failures: usize,
}

impl Rounds<'_> {
    /// After a failure: returns when the next attempt should be made, or with an error if none should.
    pub(super) async fn after(&mut self, failure: Failure) -> Result<()> {
        let error = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Lost(error) if !self.may_repeat => {
                return Err(Error::external(
                    "the connection to the cluster broke before it answered; whether it did what it was asked \
                     will show in the job's status",
                )
                .caused_by(error));
            }
            Failure::Unsent(error) | Failure::Lost(error) => error,
        };
        self.route.turn();
        self.n_failures += 1;
        if !self.n_failures.is_multiple_of(self.route.places.len()) {
            return Ok(());
        }
        // A cluster that never answered is more likely a wrong address than one that is being restarted.
        let is_known = self.route.has_answered.load(Ordering::Relaxed);
        if !is_known || self.since.elapsed() >= self.patience {
            return Err(self.route.unreachable(error));
        }
        tracing::debug!(%error, "the cluster does not answer; trying again");
        sleep(self.delays.next().expect("there is always one more")).await;
        Ok(())
    }
}

/// Time for an answer; `None` where the job manager answers when a job's own timeout is over, and a stop that has come so far
/// has waited for its end.
fn time_for(request: &ClientRequest) -> Option<Duration> {
    match request {
        ClientRequest::Savepoint { .. } => None,
        ClientRequest::Await { timeout_ms, .. } => {
            Some(ANSWER_TIMEOUT + Duration::from_millis(*timeout_ms))
        }
        _ => Some(ANSWER_TIMEOUT),
    }
}

pub(super) fn failure(status: Status) -> Failure {
    let text = match std::error::Error::source(&status) {
        Some(cause) => reasons(cause),
        None => status.message().to_string(),
    };
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Failure::Final(Error::user(format!(
            "the cluster does not take this client: {text}; name its token with `--token-file` or MILLSTREAM_TOKEN"
        ))),
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Failure::Final(
            Error::user(format!("the cluster does not understand this client: {text}")),
        ),
        Code::ResourceExhausted => {
            Failure::Final(Error::user(format!("the cluster does not take so much: {text}")))
        }
        _ => Failure::Lost(Error::external(text)),
    }
}
