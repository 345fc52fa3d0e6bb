//! The loop of a task host: does what the job manager says, tells what becomes of it.
//!
//! One thread; tasks, uploads and the network have theirs. Nothing here decides: attempts come and go as they are
//! told, several side by side if they are of different tasks, and what belongs to another than those that run is passed over.

use super::{Host, drift};
use crate::local::{AssembledBegin, LocalTasks, Neighbours, Program, Runner};
use crossbeam_channel::{Receiver, Sender, select, tick, unbounded};
use millstream_jobmanager::job::{Participants, Target};
use millstream_model::{CheckpointId, Command, Error, Notice, Result};
use millstream_proto::message::{
    AttemptReport, Begin, Deployment, FromHost, HostReport, MetricSample, MetricValue, NOWHERE,
    SnapshotEvent, TargetFolder, TaskState, ToHost,
};
use millstream_proto::security::{Security, TASK_MANAGER_NAME, TlsFiles};
use millstream_runtime::SystemClock;
use millstream_runtime::exchange::net::{AttemptSpec, Exchange, NetAttempt, NetConfig, TlsConfig};
use millstream_runtime::metrics;
use millstream_state::snapshot::{LocalStorage, Manifest, Restore, read_manifest};
use millstream_taskmanager::host::HostEvent;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often metrics are told.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);

/// Serves as the host of a program's job, until the process is ended.
pub(crate) fn serve(host: &Host, program: Program) -> ! {
    if let Err(error) = drift::check(&host.start.graph, &program.compiled.graph) {
        host.give_up(error);
    }
    match Serving::begin(host, program) {
        Ok(serving) => serving.run(),
        Err(error) => host.give_up(error),
    }
}

/// How hosts of the cluster know each other, if that was configured.
fn tls() -> Result<Option<TlsConfig>> {
    let mut security = Security::default();
    security.read_variables(|name| std::env::var(name).ok())?;
    let config = |files: TlsFiles| TlsConfig {
        certificate: files.cert,
        key: files.key,
        authority: files.ca,
        name: TASK_MANAGER_NAME.into(),
    };
    Ok(security.tls()?.map(config))
}

struct Serving<'a> {
    host: &'a Host,
    runner: Runner,
    exchange: Exchange,
    address: SocketAddr,
    /// Connections that are gone: the attempt, and the other host's number.
    lost: (Sender<(u32, u32, Error)>, Receiver<(u32, u32, Error)>),
    /// Those of which tasks are here that are not closed.
    attempts: BTreeMap<u32, Attempt>,
    /// The newest attempt of each task that was to run, here or elsewhere.
    newest: BTreeMap<usize, u32>,
}

/// An attempt with tasks here.
struct Attempt {
    tasks: LocalTasks,
    net: Arc<NetAttempt>,
    states: BTreeMap<usize, TaskState>,
    newest_checkpoint: Option<CheckpointId>,
}

impl<'a> Serving<'a> {
    fn begin(host: &'a Host, program: Program) -> Result<Self> {
        let mut config = NetConfig::new((host.channel.data_bind(), 0).into());
        config.tls = tls()?;
        let exchange = Exchange::listen(config)?;
        let address = exchange.address();
        let runner = Runner::new(program, Arc::new(SystemClock::default()))?;
        Ok(Serving {
            host,
            runner,
            exchange,
            address,
            lost: unbounded(),
            attempts: BTreeMap::new(),
            newest: BTreeMap::new(),
        })
    }

    fn run(mut self) -> ! {
        self.say(&FromHost::Ready { data_address: self.address });
        let orders = self.host.channel.receiver();
        let metrics = tick(METRICS_INTERVAL);
        loop {
            let (mut order, mut event, mut answer, mut lost) = (None, None, None, None);
            let mut is_measured = false;
            select! {
                recv(orders) -> message => order = message.ok(),
                recv(self.runner.task_events()) -> message => event = message.ok(),
                recv(self.runner.snapshot_events()) -> message => answer = message.ok(),
                recv(self.lost.1) -> message => lost = message.ok(),
                recv(metrics) -> _ => is_measured = true,
            }
            if let Some((attempt, event)) = event {
                self.task_event(attempt, event);
            }
            if let Some((attempt, event)) = answer {
                self.snapshot_event(attempt, event);
            }
            if let Some((attempt, host, error)) = lost {
                self.say(&FromHost::PeerLost { attempt, host, error });
            }
            if is_measured {
                self.say(&FromHost::Metrics(self.samples()));
            }
            if let Some(order) = order {
                self.obey(order);
            }
        }
    }

    fn say(&self, message: &FromHost) {
        if let Err(error) = self.host.channel.send(message) {
            // The channel ends the process when it is gone; what is too long must not be lost silently.
            tracing::error!(%error, "the job manager could not be told");
        }
    }

    fn obey(&mut self, order: ToHost) {
        match order {
            ToHost::Prepare { attempt, begin, part } => {
                let mut splits = BTreeMap::new();
                let prepared = self.begin_at(begin).and_then(|(begin, _)| {
                    self.runner.prepare(&begin, part.as_deref(), &mut splits)
                });
                self.say(&match prepared {
                    Ok(()) => FromHost::Prepared { attempt, splits: splits.into_iter().collect() },
                    Err(error) => FromHost::DeployFailed { attempt, error },
                });
            }
            ToHost::Deploy(deployment) => {
                let attempt = deployment.attempt;
                let deployed = self.deploy(deployment);
                self.say(&match deployed {
                    Ok(()) => FromHost::Deployed { attempt },
                    Err(error) => FromHost::DeployFailed { attempt, error },
                });
            }
            ToHost::Cancel { attempt, tasks } => {
                if let Some(running) = self.attempts.get(&attempt) {
                    self.runner.cancel(&running.own(&tasks));
                }
            }
            ToHost::Close { attempt, tasks, again } => self.close(attempt, &tasks, again),
            ToHost::Aim { attempt, checkpoint, target } => {
                if let Some(running) = self.attempts.get_mut(&attempt)
                    && let Err(error) = running.aim(checkpoint, target)
                {
                    let declined = running.states.keys().next().copied().map(|task| {
                        let event = SnapshotEvent::Declined { task, checkpoint, error };
                        FromHost::Snapshot { attempt, event }
                    });
                    declined.iter().for_each(|declined| self.say(declined));
                }
            }
            ToHost::Command { attempt, command } => {
                if let Some(running) = self.attempts.get_mut(&attempt) {
                    // One that was given up before its barrier was sent, too: its number is not to come again.
                    let heard_of = match command {
                        Command::Barrier(barrier) => Some(barrier.checkpoint),
                        Command::Notice(Notice::Aborted(checkpoint)) => Some(checkpoint),
                        _ => None,
                    };
                    running.newest_checkpoint = running.newest_checkpoint.max(heard_of);
                    running.tasks.tell(command);
                }
            }
            ToHost::Go { attempt } => self.go(attempt),
            ToHost::Report => self.report(),
            ToHost::Finish => {
                // The last samples go first, so that counters are whole.
                self.say(&FromHost::Metrics(self.samples()));
                let results = FromHost::Results(self.results());
                if let Err(error) = self.host.channel.send(&results) {
                    // Most likely they are too long.
                    self.say(&FromHost::Results(Err(error)));
                }
            }
        }
    }

    /// The beginning of an attempt, and the manifest it begins at if that is the job's own.
    fn begin_at(&self, begin: Begin) -> Result<(AssembledBegin, Option<Arc<Manifest>>)> {
        let (target, is_own, allow_non_restored) = match begin {
            Begin::Fresh => return Ok((AssembledBegin::Fresh, None)),
            Begin::Anew => return Ok((AssembledBegin::Anew, None)),
            Begin::At { target, is_own, allow_non_restored } => {
                (target, is_own, allow_non_restored)
            }
        };
        let storage = Arc::new(LocalStorage::new(&target.dir)?);
        let manifest = Arc::new(read_manifest(&*storage, &target.folder)?);
        let own = is_own.then(|| Arc::clone(&manifest));
        Ok((AssembledBegin::At(Restore { storage, manifest, allow_non_restored }), own))
    }

    fn deploy(&mut self, deployment: Deployment) -> Result<()> {
        let number = deployment.attempt;
        let mut tasks: Vec<usize> = (0..deployment.placement.len()).collect();
        tasks.retain(|task| deployment.placement[*task] != NOWHERE);
        // Of other tasks a newer one may be here already: each waits for hosts of its own.
        if tasks.iter().any(|task| self.newest.get(task).is_some_and(|newest| *newest >= number)) {
            return Err(Error::internal("an attempt was deployed that is not newer than the last"));
        }
        self.newest.extend(tasks.iter().map(|task| (*task, number)));
        self.replace(&tasks);
        let (begin, own) = self.begin_at(deployment.begin)?;
        let state = match begin {
            AssembledBegin::At(_) => TaskState::Restoring,
            AssembledBegin::Fresh | AssembledBegin::Anew => TaskState::Running,
        };
        let lost = self.lost.0.clone();
        let net = self.exchange.attempt(AttemptSpec {
            job: self.host.start.job.0,
            attempt: number,
            token: deployment.token.to_vec(),
            me: deployment.me,
            peers: deployment.hosts,
            memory: Arc::clone(&self.runner.memory),
            on_lost: Arc::new(move |host, error| {
                // The loop ends with the process only.
                let _ = lost.send((number, host, error));
            }),
        })?;
        let neighbours = Neighbours::of(deployment.me, &deployment.placement, &net);
        let splits = deployment.splits.into_iter().collect();
        let tasks = self.runner.deploy(number, begin, own.as_deref(), &splits, &neighbours);
        let tasks = match tasks {
            Ok(tasks) => tasks,
            Err(error) => {
                net.close();
                return Err(error);
            }
        };
        let here = neighbours.here().iter();
        let states = here.map(|task| (*task, state.clone())).collect();
        let attempt = Attempt { tasks, net, states, newest_checkpoint: None };
        self.attempts.insert(number, attempt);
        Ok(())
    }

    /// These tasks begin again: whatever they were told before, they are not any more what they were. Whoever has not
    /// been told so by a `Close` had no connection then.
    fn replace(&mut self, tasks: &[usize]) {
        self.runner.cancel(tasks);
        for attempt in self.attempts.keys().copied().collect::<Vec<u32>>() {
            self.close(attempt, tasks, true);
        }
    }

    /// Tasks have answered. With the last of them here the attempt's connections end, which matters to nobody: who exchanged
    /// records with them is closed, too.
    fn close(&mut self, number: u32, tasks: &[usize], again: bool) {
        let Some(attempt) = self.attempts.get_mut(&number) else { return };
        let own = attempt.own(tasks);
        self.runner.close(&own, again);
        own.iter().for_each(|task| drop(attempt.states.remove(task)));
        if attempt.states.is_empty()
            && let Some(attempt) = self.attempts.remove(&number)
        {
            attempt.net.close();
        }
    }

    fn go(&mut self, number: u32) {
        let Some(attempt) = self.attempts.get_mut(&number) else { return };
        for state in attempt.states.values_mut().filter(|s| matches!(s, TaskState::Restored)) {
            *state = TaskState::Running;
        }
        self.runner.go(number);
    }

    fn task_event(&mut self, attempt: u32, event: HostEvent) {
        let Some(running) = self.attempts.get_mut(&attempt) else { return };
        let (task, state) = match &event {
            HostEvent::Restored { task } => (*task, TaskState::Restored),
            HostEvent::Over(event) => (event.task(), TaskState::Over(event.clone())),
        };
        match running.states.get_mut(&task) {
            Some(TaskState::Over(_)) | None => {}
            Some(known) => *known = state,
        }
        self.say(&match event {
            HostEvent::Restored { task } => FromHost::Restored { attempt, task },
            HostEvent::Over(event) => FromHost::Task { attempt, event },
        });
    }

    fn snapshot_event(&mut self, attempt: u32, event: SnapshotEvent) {
        if let SnapshotEvent::Ended { task } = &event
            && let Some(state) =
                self.attempts.get_mut(&attempt).and_then(|a| a.states.get_mut(task))
            && !matches!(state, TaskState::Over(_))
        {
            *state = TaskState::Ended;
        }
        self.say(&FromHost::Snapshot { attempt, event });
    }

    fn report(&self) {
        let report = |(attempt, running): (&u32, &Attempt)| AttemptReport {
            attempt: *attempt,
            tasks: running.states.iter().map(|(task, state)| (*task, state.clone())).collect(),
            newest_checkpoint: running.newest_checkpoint,
        };
        self.say(&FromHost::Report(HostReport {
            data_address: self.address,
            attempts: self.attempts.iter().map(report).collect(),
        }));
    }

    fn samples(&self) -> Vec<MetricSample> {
        let value = |value| match value {
            metrics::MetricValue::Count(n) => MetricValue::Count(n),
            metrics::MetricValue::Level(n) => MetricValue::Level(n),
            metrics::MetricValue::Distribution { n, p50, p99, max } => {
                MetricValue::Distribution { n, p50, p99, max }
            }
        };
        let samples = self.runner.job.registry.snapshot().into_iter();
        samples
            .map(|((operator, name, subtask), v)| MetricSample {
                operator,
                name,
                subtask,
                value: value(v),
            })
            .collect()
    }

    fn results(&self) -> Result<Vec<(String, Vec<Vec<u8>>)>> {
        let mut results = self.runner.job.registry.encode_accumulators()?;
        for collected in &self.runner.program.graph.collected {
            results.push((collected.name.clone(), vec![(collected.gather)()?]));
        }
        Ok(results)
    }
}

impl Attempt {
    /// Those of these tasks that are here, and in this attempt: by now another may have them.
    fn own(&self, tasks: &[usize]) -> Vec<usize> {
        tasks.iter().copied().filter(|task| self.states.contains_key(task)).collect()
    }

    fn aim(&mut self, checkpoint: CheckpointId, folder: TargetFolder) -> Result<()> {
        let storage = Arc::new(LocalStorage::new(&folder.dir)?);
        self.tasks.aim(checkpoint, &Target { storage, folder });
        Ok(())
    }
}
