//! A job manager's process as task managers and clients find it: over real connections on the loopback.
//!
//! Task managers, clients and masters are played by the test. Everything is waited for, with a deadline that only a
//! failure reaches.

mod clients;
mod encrypted;
mod hostile;
mod sessions;
mod takeover;

pub(crate) use clients::describe_always;

use super::{JobManager, JobManagerConfig, StartJob};
use crate::job::link::{JobInput, JobSpec, Link};
use crate::samples;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use millstream_ha::{Election, Standalone};
use millstream_model::{Error, LeaderEpoch};
use millstream_proto::message::{
    AttemptReport, ClientReply, ClientRequest, FromHost, FromTaskManager, Hello, HostReport,
    HostRun, HostSpec, JobId, ProgramId, TaskManagerId, ToTaskManager,
};
use millstream_proto::wire::{Envelope, JobsClient, ProgramChunk, TaskManagersClient};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

/// Only a failure takes so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const PROGRAM: &[u8] = b"\x7fELF, in a manner of speaking";

/// A job's master, played by the test.
pub(crate) struct Master {
    pub(crate) spec: JobSpec,
    pub(crate) link: Box<dyn Link>,
    inbox: Receiver<JobInput>,
}

impl Master {
    /// The next word of this kind; others are passed over.
    pub(crate) fn hears<T>(&self, mut wanted: impl FnMut(JobInput) -> Option<T>) -> T {
        loop {
            let input = self.inbox.recv_timeout(DEADLINE).expect("the master is told in time");
            if let Some(found) = wanted(input) {
                return found;
            }
        }
    }

    /// Everything up to the word of this kind.
    pub(crate) fn hears_until(&self, wanted: impl Fn(&JobInput) -> bool) -> Vec<JobInput> {
        let mut all = Vec::new();
        loop {
            let input = self.inbox.recv_timeout(DEADLINE).expect("the master is told in time");
            let is_last = wanted(&input);
            all.push(input);
            if is_last {
                return all;
            }
        }
    }

    pub(crate) fn granted(&self) -> Vec<TaskManagerId> {
        self.hears(|input| match input {
            JobInput::Granted(slots) => Some(slots),
            _ => None,
        })
    }

    /// Starts a host there.
    pub(crate) fn start_host(&self, on: TaskManagerId) {
        let submission = &self.spec.submission;
        let host = HostSpec {
            run: HostRun(1),
            program: submission.program,
            program_bytes: submission.program_bytes,
            name: "sample".into(),
            start: submission.start.clone(),
        };
        self.link.send(on, ToTaskManager::StartHost(Box::new(host)));
    }
}

/// A job manager, and the folder it can be started in again.
pub(crate) struct Cluster {
    pub(crate) config: JobManagerConfig,
    manager: Option<JobManager>,
    stop: Option<Sender<()>>,
    masters: Receiver<Master>,
    start: StartJob,
    pub(crate) runtime: Runtime,
    _dir: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        Cluster::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut JobManagerConfig)) -> Cluster {
        let (sender, masters) = unbounded();
        Cluster::with_masters(change, masters, play(sender))
    }

    pub(crate) fn with_masters(
        change: impl FnOnce(&mut JobManagerConfig),
        masters: Receiver<Master>,
        start: StartJob,
    ) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut config = JobManagerConfig::new(dir.path().join("jobmanager"));
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        (config.listen, config.rest_listen) = (anywhere, Some(anywhere));
        (config.heartbeat_ms, config.timeout_ms) = (50, 60_000);
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut cluster =
            Cluster { config, manager: None, stop: None, masters, start, runtime, _dir: dir };
        cluster.start_again();
        cluster
    }

    /// Starts it in the same folder.
    pub(crate) fn start_again(&mut self) {
        let (sender, stop) = bounded(1);
        let mut election = Standalone::new(self.config.dir.join("leader"));
        let leadership = election.campaign(&stop).unwrap().unwrap();
        let manager =
            JobManager::start(self.config.clone(), self.start.clone(), leadership, stop).unwrap();
        (self.manager, self.stop) = (Some(manager), Some(sender));
    }

    /// Stops it; masters have to let go.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
        if let Some(manager) = self.manager.take() {
            manager.wait().unwrap();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.manager.as_ref().unwrap().address()
    }

    pub(crate) fn rest_address(&self) -> SocketAddr {
        self.manager.as_ref().unwrap().rest_address().unwrap()
    }

    pub(crate) fn channel(&self) -> Channel {
        let endpoint = self.config.security.endpoint(&self.address().to_string()).unwrap();
        self.runtime.block_on(endpoint.connect()).unwrap()
    }

    pub(crate) fn call(&self, request: &ClientRequest) -> ClientReply {
        self.try_call(LeaderEpoch(0), request).unwrap()
    }

    pub(crate) fn try_call(
        &self,
        epoch: LeaderEpoch,
        request: &ClientRequest,
    ) -> Result<ClientReply, Status> {
        let mut client = JobsClient::new(self.channel());
        let envelope = Envelope::seal(epoch, request).unwrap();
        let reply = self.runtime.block_on(client.call(envelope))?;
        Ok(reply.into_inner().open::<ClientReply>().unwrap().1)
    }

    /// Uploads a program that says to be this one.
    pub(crate) fn upload_as(&self, id: ProgramId, content: &[u8]) -> ClientReply {
        let piece = |data: &[u8]| ProgramChunk {
            id: id.0.to_vec(),
            total_bytes: content.len() as u64,
            data: data.to_vec(),
        };
        let pieces: Vec<ProgramChunk> = content.chunks(1 << 20).map(piece).collect();
        let mut client = JobsClient::new(self.channel());
        let reply = self.runtime.block_on(client.upload_program(tokio_stream::iter(pieces)));
        reply.unwrap().into_inner().open::<ClientReply>().unwrap().1
    }

    pub(crate) fn upload(&self, content: &[u8]) -> ProgramId {
        let id = ProgramId(Sha256::digest(content).into());
        let reply = self.upload_as(id, content);
        assert!(matches!(reply, ClientReply::Yes), "{reply:?}");
        id
    }

    /// Submits the sample job.
    pub(crate) fn submit(&self, request: u128) -> ClientReply {
        let program = self.upload(PROGRAM);
        let submission = samples::submission(request, program, PROGRAM.len() as u64);
        self.call(&ClientRequest::Submit(Box::new(submission)))
    }

    /// Submits the sample job; its master.
    pub(crate) fn run(&self, request: u128) -> Master {
        let reply = self.submit(request);
        assert!(matches!(reply, ClientReply::Submitted(JobId(id)) if id == request), "{reply:?}");
        self.next_master()
    }

    pub(crate) fn next_master(&self) -> Master {
        self.masters.recv_timeout(DEADLINE).expect("a master is started in time")
    }

    pub(crate) fn has_more_masters(&self) -> bool {
        !self.masters.is_empty()
    }

    /// A task manager with so many slots, which has been welcomed.
    pub(crate) fn attach(&self, id: u128, n_slots: usize, hosts: &[JobId]) -> Session {
        let mut session = self.knock(LeaderEpoch(0), id, n_slots, hosts);
        session.epoch = session.hears(|epoch, message| match message {
            ToTaskManager::Welcome { .. } => Some(epoch),
            _ => None,
        });
        session
    }

    /// Says Hello, and nothing else.
    pub(crate) fn knock(
        &self,
        epoch: LeaderEpoch,
        id: u128,
        n_slots: usize,
        hosts: &[JobId],
    ) -> Session {
        let hello = Hello {
            id: TaskManagerId(id),
            version: "0.1.0".into(),
            hostname: "here".into(),
            pid: 7,
            n_slots,
            epoch,
            hosts: hosts.iter().map(|job| (*job, HostRun(1))).collect(),
            metrics_address: Some("127.0.0.1:1".into()),
        };
        self.begin(Envelope::seal(epoch, &FromTaskManager::Hello(hello)).unwrap(), id)
    }

    /// Begins a session with this message.
    pub(crate) fn begin(&self, first: Envelope, id: u128) -> Session {
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(first).unwrap();
        let (heard_sender, heard) = unbounded();
        let channel = self.channel();
        let listening = self.runtime.spawn(async move {
            let mut client = TaskManagersClient::new(channel);
            let mut stream = match client.attach(UnboundedReceiverStream::new(receiver)).await {
                Ok(response) => response.into_inner(),
                Err(status) => return drop(heard_sender.send(Err(status))),
            };
            loop {
                let word = match stream.message().await {
                    Ok(Some(envelope)) => Ok(envelope.open::<ToTaskManager>().unwrap()),
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let is_over = word.is_err();
                if heard_sender.send(word).is_err() || is_over {
                    return;
                }
            }
        });
        Session { id: TaskManagerId(id), epoch: LeaderEpoch(0), sender, heard, listening }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.take();
    }
}

/// Starts masters by handing them to the test.
fn play(sender: Sender<Master>) -> StartJob {
    Arc::new(move |spec, link| {
        let (inputs, inbox) = unbounded();
        sender
            .send(Master { spec, link, inbox })
            .map_err(|_| Error::internal("nobody plays masters any more"))?;
        Ok(inputs)
    })
}

/// A task manager's session, played by the test.
pub(crate) struct Session {
    pub(crate) id: TaskManagerId,
    /// The leader that welcomed it.
    pub(crate) epoch: LeaderEpoch,
    sender: mpsc::UnboundedSender<Envelope>,
    heard: Receiver<Result<(LeaderEpoch, ToTaskManager), Status>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Session {
    pub(crate) fn say(&self, message: &FromTaskManager) {
        self.say_in(self.epoch, message);
    }

    pub(crate) fn say_in(&self, epoch: LeaderEpoch, message: &FromTaskManager) {
        self.sender.send(Envelope::seal(epoch, message).unwrap()).unwrap();
    }

    /// What a host said, under this number.
    pub(crate) fn says_from_host(&self, number: u64, job: JobId, message: FromHost) {
        self.say(&FromTaskManager::FromHost { number, job, run: HostRun(1), message });
    }

    /// The next word of this kind; others are passed over.
    pub(crate) fn hears<T>(
        &self,
        mut wanted: impl FnMut(LeaderEpoch, ToTaskManager) -> Option<T>,
    ) -> T {
        loop {
            let word = self.heard.recv_timeout(DEADLINE).expect("the task manager is told in time");
            let (epoch, message) = word.expect("the session goes on");
            if let Some(found) = wanted(epoch, message) {
                return found;
            }
        }
    }

    pub(crate) fn hears_confirm(&self, expected: u64) {
        self.hears(|_, message| match message {
            ToTaskManager::Confirm { number } if number >= expected => {
                assert_eq!(number, expected);
                Some(())
            }
            _ => None,
        });
    }

    /// How the other side ended it.
    pub(crate) fn ends(&self) -> Status {
        loop {
            match self.heard.recv_timeout(DEADLINE) {
                Ok(Ok(_)) => {}
                Ok(Err(status)) => return status,
                Err(error) => panic!("the session did not end with a reason: {error}"),
            }
        }
    }

    /// Cuts the connection.
    pub(crate) fn cut(self) {
        self.listening.abort();
    }
}

/// A message of a host that can be told by its number.
pub(crate) fn report(number: u32) -> FromHost {
    FromHost::Report(HostReport {
        data_address: SocketAddr::from(([127, 0, 0, 1], 9)),
        attempts: vec![AttemptReport {
            attempt: number,
            tasks: Vec::new(),
            newest_checkpoint: None,
        }],
    })
}

/// The number of such a message.
pub(crate) fn reported(input: &JobInput) -> Option<u32> {
    match input {
        JobInput::FromHost { message: FromHost::Report(report), .. } => {
            report.attempts.first().map(|report| report.attempt)
        }
        _ => None,
    }
}
