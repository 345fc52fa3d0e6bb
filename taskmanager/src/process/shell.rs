//! The loop around the supervisor: everything that happens goes in, everything it wants is done.

use super::metrics::Metrics;
use crate::hosts::{self, Ground, Listener, Reins, Source};
use crate::session::{self, Session, Standing};
use crate::supervisor::{Effect, Input, Run, Supervisor};
use millstream_model::{Error, Machine, Result};
use millstream_proto::message::{
    FromHost, FromTaskManager, HostSpec, JobId, LeaderEpoch, ToHost, ToTaskManager,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long an end may take: hosts are killed after half a second, and the job manager answers or does not.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Things that hosts said and were not looked at yet: then they wait.
const MAX_PENDING: usize = 1024;

/// See the module's text.
pub(super) struct Shell<S> {
    ground: Arc<Ground<S>>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
    effects: Vec<Effect>,
    begin: Instant,
    hosts: HashMap<(JobId, Run), Reins>,
    host_events: mpsc::Sender<(JobId, Run, hosts::Event)>,
    from_hosts: mpsc::Receiver<(JobId, Run, hosts::Event)>,
    session: Option<Session>,
    from_sessions: mpsc::Receiver<session::Event>,
    standing: watch::Sender<Standing>,
}

impl<S: Source> Shell<S> {
    pub(super) fn new(
        ground: Arc<Ground<S>>,
        metrics: Arc<Metrics>,
        standing: watch::Sender<Standing>,
        from_sessions: mpsc::Receiver<session::Event>,
    ) -> Self {
        let (host_events, from_hosts) = mpsc::channel(MAX_PENDING);
        Shell {
            ground,
            metrics,
            supervisor: Supervisor::new(0),
            effects: Vec::new(),
            begin: Instant::now(),
            hosts: HashMap::new(),
            host_events,
            from_hosts,
            session: None,
            from_sessions,
            standing,
        }
    }

    /// Until it is told to end, or the job manager refuses us.
    pub(super) async fn run(
        &mut self,
        mut seeking: JoinHandle<Error>,
        told_to_end: impl Future<Output = &'static str>,
    ) -> Result<()> {
        tokio::pin!(told_to_end);
        let mut end_by: Option<Instant> = None;
        let mut refused = None;
        loop {
            let deadline =
                self.supervisor.deadline().map(|ms| self.begin + Duration::from_millis(ms));
            let deadline = [deadline, end_by].into_iter().flatten().min();
            // Timers are as good as a millisecond: due is what is due by the supervisor's clock, too.
            let tick = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at + Duration::from_millis(1)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = self.from_sessions.recv() => self.on_session(event),
                Some((job, run, event)) = self.from_hosts.recv() => self.on_host(job, run, event),
                () = tick => self.step(Input::Tick),
                signal = &mut told_to_end, if end_by.is_none() => {
                    tracing::info!(signal, "the task manager ends");
                    end_by = Some(Instant::now() + END_TIMEOUT);
                    self.step(Input::Shutdown);
                }
                error = &mut seeking, if refused.is_none() => {
                    let early = |e| Error::internal("the session ended early").caused_by(e);
                    refused = Some(error.unwrap_or_else(early));
                    end_by = end_by.or(Some(Instant::now() + END_TIMEOUT));
                    self.session = None;
                    self.step(Input::Disconnected);
                    self.step(Input::Shutdown);
                }
            }
            if let Some(end_by) = end_by
                && (self.supervisor.is_idle() || end_by <= Instant::now())
            {
                if !self.hosts.is_empty() {
                    tracing::warn!(
                        n = self.hosts.len(),
                        "hosts that did not end are left to be killed"
                    );
                }
                return refused.map_or(Ok(()), Err);
            }
        }
    }

    fn on_session(&mut self, event: session::Event) {
        match event {
            session::Event::Opened(session) => {
                self.metrics.count_session();
                self.session = Some(session);
            }
            session::Event::Said(
                _,
                ToTaskManager::ReadLog { request, job, stream, from, limit },
            ) => {
                let ground = Arc::clone(&self.ground);
                let Some(session) = &self.session else { return };
                session.say_later(move || {
                    let (from, total, bytes) = match ground.logs.read(job, stream, from, limit) {
                        Ok((from, total, bytes)) => (from, total, Ok(bytes)),
                        Err(error) => (0, 0, Err(error)),
                    };
                    FromTaskManager::Log { request, from, total, bytes }
                });
            }
            session::Event::Said(epoch, message) => self.step(Input::Leader { epoch, message }),
            session::Event::Closed => {
                self.session = None;
                self.metrics.session_ended();
                self.step(Input::Disconnected);
            }
        }
    }

    fn on_host(&mut self, job: JobId, run: Run, event: hosts::Event) {
        match event {
            hosts::Event::Started => {
                self.metrics.count_start();
                self.step(Input::Started { job, run });
            }
            hosts::Event::Said(bytes, message) => {
                if let FromHost::Metrics(samples) = &message {
                    self.metrics.take(job, run, samples.clone());
                }
                self.step(Input::Said { job, run, bytes, message });
            }
            hosts::Event::Ended(error) => {
                self.hosts.remove(&(job, run));
                self.metrics.end(job, run);
                self.step(Input::Ended { job, run, error });
            }
        }
    }

    fn step(&mut self, input: Input) {
        let now_ms = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut effects = std::mem::take(&mut self.effects);
        self.supervisor.step(now_ms, input, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Start { run, spec } => self.start(run, spec),
                Effect::Stop { job, run } => {
                    if let Some(reins) = self.hosts.remove(&(job, run)) {
                        // Who has ended meanwhile need not be stopped.
                        let _ = reins.stop.send(());
                    }
                }
                Effect::Tell { job, run, epoch, message } => self.tell(job, run, epoch, message),
                Effect::Say(message) => self.say(message),
                Effect::Leave => self.session = None,
                Effect::Warn(warning) => tracing::warn!("{warning}"),
            }
        }
        self.effects = effects;
        let (epoch, hosts) = (self.supervisor.epoch(), self.supervisor.hosts());
        self.standing.send_if_modified(|standing| {
            let is_new = (standing.epoch, &standing.hosts) != (epoch, &hosts);
            *standing = Standing { epoch, hosts };
            is_new
        });
    }

    fn start(&mut self, run: Run, spec: Box<HostSpec>) {
        let job = spec.start.job;
        self.metrics.begin(job, run, spec.name.clone());
        let listener = Listener { job, run, events: self.host_events.clone() };
        let epoch = self.supervisor.epoch();
        let reins = hosts::begin(Arc::clone(&self.ground), spec, epoch, listener);
        self.hosts.insert((job, run), reins);
    }

    fn tell(&mut self, job: JobId, run: Run, epoch: LeaderEpoch, message: ToHost) {
        let Some(reins) = self.hosts.get(&(job, run)) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = reins.orders.try_send((epoch, message)) {
            tracing::error!(%job, "a host does not take what it is told, and is ended");
            // Dropped reins stop it; its end is told as any other.
            self.hosts.remove(&(job, run));
        }
    }

    fn say(&mut self, message: FromTaskManager) {
        if let Some(session) = &self.session
            && !session.say(message)
        {
            tracing::warn!("the job manager does not take what it is told: the session is left");
            self.session = None;
        }
    }
}
