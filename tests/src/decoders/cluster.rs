//! Messages between the processes of a cluster, in their envelopes.

use super::Decoder;
use millstream_model::job_graph::{ChainedOperator, Guarantee, JobGraph, JobVertex, OperatorId};
use millstream_model::settings::{CheckpointConfig, JobSettings, RestartStrategy};
use millstream_model::{Barrier, CheckpointId, Command, Error, LeaderEpoch, SnapshotKind};
use millstream_proto::envelope::{VERSION, open, read, seal};
use millstream_proto::message::{
    Begin, ClientRequest, Deployment, FromHost, FromTaskManager, HostRun, HostSpec, HostStart,
    JobId, MetricSample, MetricValue, ProgramId, RequestId, Submission, TargetFolder, TaskEvent,
    ToHost, ToTaskManager,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a task manager, and through it a host, is told.
pub(super) const TO_TASK_MANAGER: Decoder = Decoder {
    name: "to-task-manager",
    samples: to_task_manager,
    takes: takes::<ToTaskManager>,
    mend: mend_envelope,
};

/// What a task manager says, and through it a host.
pub(super) const FROM_TASK_MANAGER: Decoder = Decoder {
    name: "from-task-manager",
    samples: from_task_manager,
    takes: takes::<FromTaskManager>,
    mend: mend_envelope,
};

/// What clients ask for.
pub(super) const CLIENT: Decoder =
    Decoder { name: "client", samples: client, takes: takes::<ClientRequest>, mend: mend_envelope };

const EPOCH: LeaderEpoch = LeaderEpoch(3);
const JOB: JobId = JobId(7);
/// Before the body: length, version, epoch, checksum.
const ENVELOPE: usize = 18;

/// Both ways in: where the transport has frames, and where envelopes follow each other.
fn takes<M: DeserializeOwned>(bytes: &[u8]) -> bool {
    let mut stream = bytes;
    let mut n_read = 0;
    while let Ok(Some(_)) = read::<M>(&mut stream) {
        n_read += 1;
    }
    let is_whole = open::<M>(bytes).is_ok();
    assert!(!is_whole || n_read == 1, "an envelope is taken whole and not from a stream");
    is_whole
}

fn mend_envelope(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut mended = bytes.to_vec();
    let body = bytes.get(ENVELOPE..)?;
    mended[..4].copy_from_slice(&((bytes.len() - 4) as u32).to_le_bytes());
    mended[4..6].copy_from_slice(&VERSION.to_le_bytes());
    mended[14..18].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Some(mended)
}

fn sealed<M: Serialize>(messages: &[M]) -> Vec<Vec<u8>> {
    let seal = |message| seal(EPOCH, message).expect("a sample is short");
    messages.iter().map(seal).collect()
}

fn graph() -> JobGraph {
    let operator = ChainedOperator {
        node: 0,
        id: OperatorId(0xfeed),
        name: "numbers".into(),
        uid: Some("source".into()),
        kind: "source".into(),
        states: Vec::new(),
        unfused_because: None,
    };
    let vertex = JobVertex {
        operators: vec![operator],
        parallelism: 2,
        max_parallelism: 128,
        slot_sharing_group: "default".into(),
        recovers_apart: true,
    };
    JobGraph {
        name: "sample".into(),
        vertices: vec![vertex],
        edges: Vec::new(),
        bounded: true,
        guarantee: Guarantee::OncePerRun,
    }
}

/// A submission, as records hold it too.
pub(super) fn submission() -> Submission {
    Submission {
        request: RequestId(JOB.0),
        program: ProgramId([1; 32]),
        program_bytes: 1 << 20,
        settings: JobSettings {
            checkpoints: CheckpointConfig::default(),
            checkpoint_dir: Some("checkpoints".into()),
            restore: None,
            claims: false,
            allow_non_restored: false,
            allow_older: false,
            restart: RestartStrategy::None,
            cancel_timeout_ms: 1000,
        },
        start: HostStart {
            job: JOB,
            arguments: vec!["--input".into(), "orders.csv".into()],
            environment: vec![("REGION".into(), "north".into())],
            folder: "jobs".into(),
            nth_execute: 0,
            graph: graph(),
            config: vec![1, 2, 3],
            once: vec![("limit".into(), vec![9])],
        },
    }
}

fn to_task_manager() -> Vec<Vec<u8>> {
    let Submission { program, program_bytes, start, .. } = submission();
    let spec = HostSpec { run: HostRun(7), program, program_bytes, name: "sample".into(), start };
    let target = TargetFolder { dir: "checkpoints".into(), folder: "chk-1-0".into() };
    let begin = Begin::At { target: target.clone(), is_own: true, allow_non_restored: false };
    let deployment = Deployment {
        attempt: 1,
        begin: begin.clone(),
        hosts: vec![([127, 0, 0, 1], 7001).into(), ([127, 0, 0, 1], 7002).into()],
        me: 1,
        placement: vec![0, 1],
        token: [5; 16],
        splits: vec![(0, vec![1, 2])],
    };
    let barrier = Barrier { checkpoint: CheckpointId(1), kind: SnapshotKind::Checkpoint };
    let to_host = [
        ToHost::Prepare { attempt: 1, begin, part: Some(vec![1]) },
        ToHost::Deploy(deployment),
        ToHost::Aim { attempt: 1, checkpoint: CheckpointId(1), target },
        ToHost::Command { attempt: 1, command: Command::Barrier(barrier) },
        ToHost::Cancel { attempt: 1, tasks: vec![0, 1] },
        ToHost::Close { attempt: 1, tasks: vec![0, 1], again: true },
        ToHost::Report,
        ToHost::Finish,
    ];
    let mut messages = vec![
        ToTaskManager::Welcome { heartbeat_ms: 1000, timeout_ms: 5000, orphan_timeout_ms: 60_000 },
        ToTaskManager::Refused { error: Error::user("another release") },
        ToTaskManager::Heartbeat,
        ToTaskManager::Confirm { number: 12 },
        ToTaskManager::StartHost(Box::new(spec)),
        ToTaskManager::StopHost { job: JOB },
    ];
    messages.extend(to_host.map(|message| ToTaskManager::ToHost { job: JOB, message }));
    sealed(&messages)
}

fn from_task_manager() -> Vec<Vec<u8>> {
    let error = Error::external("the disk is full").finally();
    let sample = MetricSample {
        operator: "count".into(),
        name: "records_in".into(),
        subtask: 1,
        value: MetricValue::Distribution { n: 4, p50: 1, p99: 2, max: 3 },
    };
    let from_host = [
        FromHost::Ready { data_address: ([127, 0, 0, 1], 7001).into() },
        FromHost::Deployed { attempt: 1 },
        FromHost::DeployFailed { attempt: 1, error: error.clone() },
        FromHost::Task { attempt: 1, event: TaskEvent::Failed { task: 1, error: error.clone() } },
        FromHost::Metrics(vec![sample]),
        FromHost::Results(vec![("lengths".into(), vec![vec![1], vec![2, 3]])]),
        FromHost::Unfit { error },
    ];
    let numbered = from_host.into_iter().zip(1..).map(|(message, number)| {
        FromTaskManager::FromHost { number, job: JOB, run: HostRun(7), message }
    });
    sealed(&numbered.chain([FromTaskManager::Heartbeat]).collect::<Vec<_>>())
}

fn client() -> Vec<Vec<u8>> {
    sealed(&[
        ClientRequest::Submit(Box::new(submission())),
        ClientRequest::Job(JOB),
        ClientRequest::Cancel(JOB),
        ClientRequest::Savepoint { job: JOB, dir: "savepoints".into(), stop: None },
    ])
}
