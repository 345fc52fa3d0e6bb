//! Messages between the processes of a cluster, in their envelopes.

use super::Decoder;
use millstream_model::job_graph::{ChainedOperator, Guarantee, JobGraph, JobVertex, OperatorId};
use millstream_model::settings::{CheckpointConfig, JobSettings, RestartStrategy};
use millstream_model::{Barrier, CheckpointId, Command, Error, LeaderEpoch, SnapshotKind};
use millstream_proto::envelope::{VERSION, open, read, seal};
use millstream_proto::message::{
    AttemptReport, Begin, CheckpointRow, CheckpointState, ClientReply, ClientRequest, Cluster,
    Deployment, ExceptionRow, FromHost, FromTaskManager, Hello, HostReport, HostRun, HostSpec,
    HostStart, JobDetail, JobId, JobOverview, JobPhase, LogStream, MetricSample, MetricValue,
    Outcome, ProgramId, RequestId, Submission, TargetFolder, TaskEvent, TaskManagerId,
    TaskManagerRow, TaskState, ToHost, ToTaskManager, VertexRow,
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

/// What clients are answered.
pub(super) const CLIENT_REPLY: Decoder = Decoder {
    name: "client-reply",
    samples: client_reply,
    takes: takes::<ClientReply>,
    mend: mend_envelope,
};

/// The first word that a host hears on its socket pair.
pub(super) const HOST_START: Decoder = Decoder {
    name: "host-start",
    samples: || sealed(&[submission().start]),
    takes: takes::<HostStart>,
    mend: mend_envelope,
};

/// The others.
pub(super) const TO_HOST: Decoder = Decoder {
    name: "to-host",
    samples: || sealed(&to_host()),
    takes: takes::<ToHost>,
    mend: mend_envelope,
};

/// What a host says there.
pub(super) const FROM_HOST: Decoder = Decoder {
    name: "from-host",
    samples: || sealed(&from_host()),
    takes: takes::<FromHost>,
    mend: mend_envelope,
};

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
pub fn submission() -> Submission {
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

fn to_host() -> Vec<ToHost> {
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
    vec![
        ToHost::Prepare { attempt: 1, begin, part: Some(vec![1]) },
        ToHost::Deploy(deployment),
        ToHost::Aim { attempt: 1, checkpoint: CheckpointId(1), target },
        ToHost::Command { attempt: 1, command: Command::Barrier(barrier) },
        ToHost::Cancel { attempt: 1, tasks: vec![0, 1] },
        ToHost::Close { attempt: 1, tasks: vec![0, 1], again: true },
        ToHost::Go { attempt: 1 },
        ToHost::Report,
        ToHost::Finish,
    ]
}

fn to_task_manager() -> Vec<Vec<u8>> {
    let Submission { program, program_bytes, start, .. } = submission();
    let spec = HostSpec { run: HostRun(7), program, program_bytes, name: "sample".into(), start };
    let stream = LogStream::Out;
    let mut messages = vec![
        ToTaskManager::Welcome { heartbeat_ms: 1000, timeout_ms: 5000, orphan_timeout_ms: 60_000 },
        ToTaskManager::Refused { error: Error::user("another release") },
        ToTaskManager::Heartbeat,
        ToTaskManager::Confirm { number: 12 },
        ToTaskManager::StartHost(Box::new(spec)),
        ToTaskManager::StopHost { job: JOB },
        ToTaskManager::ReadLog { request: 1, job: JOB, stream, from: Some(9), limit: 100 },
    ];
    messages
        .extend(to_host().into_iter().map(|message| ToTaskManager::ToHost { job: JOB, message }));
    sealed(&messages)
}

fn metric() -> MetricSample {
    MetricSample {
        operator: "count".into(),
        name: "records_in".into(),
        subtask: 1,
        value: MetricValue::Distribution { n: 4, p50: 1, p99: 2, max: 3 },
    }
}

fn from_host() -> Vec<FromHost> {
    let error = Error::external("the disk is full").finally();
    let report = HostReport {
        data_address: ([127, 0, 0, 1], 7001).into(),
        attempts: vec![AttemptReport {
            attempt: 1,
            tasks: vec![(0, TaskState::Running), (1, TaskState::Ended), (2, TaskState::Restored)],
            newest_checkpoint: Some(CheckpointId(1)),
        }],
    };
    vec![
        FromHost::Ready { data_address: ([127, 0, 0, 1], 7001).into() },
        FromHost::Prepared { attempt: 1, splits: vec![(0, vec![1, 2])] },
        FromHost::Deployed { attempt: 1 },
        FromHost::Restored { attempt: 1, task: 3 },
        FromHost::DeployFailed { attempt: 1, error: error.clone() },
        FromHost::Task { attempt: 1, event: TaskEvent::Failed { task: 1, error: error.clone() } },
        FromHost::PeerLost { attempt: 1, host: 1, error: error.clone() },
        FromHost::Report(report),
        FromHost::Metrics(vec![metric()]),
        FromHost::Results(Ok(vec![("lengths".into(), vec![vec![1], vec![2, 3]])])),
        FromHost::Results(Err(error.clone())),
        FromHost::Unfit { error },
    ]
}

fn from_task_manager() -> Vec<Vec<u8>> {
    let error = Error::external("it was killed");
    let hello = Hello {
        id: TaskManagerId(9),
        version: "0.1.0".into(),
        hostname: "here".into(),
        pid: 7,
        n_slots: 2,
        epoch: EPOCH,
        hosts: vec![(JOB, HostRun(7))],
        metrics_address: Some("127.0.0.1:7457".into()),
    };
    let numbered = from_host().into_iter().zip(1..).map(|(message, number)| {
        FromTaskManager::FromHost { number, job: JOB, run: HostRun(7), message }
    });
    let others = [
        FromTaskManager::Hello(hello),
        FromTaskManager::HostEnded { number: 99, job: JOB, run: HostRun(7), error },
        FromTaskManager::Log { request: 1, from: 0, total: 3, bytes: Ok(vec![7; 3]) },
        FromTaskManager::Heartbeat,
    ];
    sealed(&numbered.chain(others).collect::<Vec<_>>())
}

fn client() -> Vec<Vec<u8>> {
    let stream = LogStream::Out;
    sealed(&[
        ClientRequest::HasProgram(ProgramId([1; 32])),
        ClientRequest::Submit(Box::new(submission())),
        ClientRequest::Cluster,
        ClientRequest::Job(JOB),
        ClientRequest::Await { job: JOB, timeout_ms: 1000 },
        ClientRequest::Cancel(JOB),
        ClientRequest::Savepoint { job: JOB, dir: "savepoints".into(), stop: None },
        ClientRequest::Log { job: JOB, task_manager: None, stream, from: None, limit: 9 },
    ])
}

fn overview() -> JobOverview {
    JobOverview {
        id: JOB,
        name: "sample".into(),
        state: JobPhase::Failed,
        start_time_ms: 1_600_000_000_000,
        end_time_ms: Some(1_600_000_000_009),
        n_tasks: 2,
        n_running: 0,
        n_slots: 2,
        n_missing_slots: 0,
        n_restarts: 1,
        last_checkpoint: Some(1),
        passed_over: vec!["chk-2-0".into()],
        records: 99,
        error: Some("the disk is full".into()),
    }
}

/// How a job ended, as records hold it too.
pub fn outcome() -> Outcome {
    Outcome {
        overview: overview(),
        error: Some(Error::external("the disk is full").finally()),
        results: vec![("lengths".into(), vec![vec![1], vec![2, 3]])],
        metrics: vec![metric()],
    }
}

/// What was known of a job, as records hold it too.
pub fn detail() -> JobDetail {
    JobDetail {
        overview: overview(),
        graph: graph(),
        vertices: vec![VertexRow {
            index: 0,
            name: "numbers".into(),
            parallelism: 2,
            subtasks: vec![(JobPhase::Failed, Some(TaskManagerId(9))), (JobPhase::Canceled, None)],
        }],
        checkpoints: vec![CheckpointRow {
            id: 1,
            is_savepoint: false,
            state: CheckpointState::Completed,
            trigger_time_ms: 1_600_000_000_001,
            duration_ms: Some(3),
            size_bytes: Some(77),
            acknowledged: (2, 2),
            path: Some("checkpoints/chk-1-0".into()),
            error: None,
        }],
        exceptions: vec![ExceptionRow {
            time_ms: 1_600_000_000_008,
            message: "the disk is full".into(),
            domain: "external".into(),
            operator: Some("numbers".into()),
            subtask: Some(1),
            attempt: 1,
            task_manager: Some(TaskManagerId(9)),
        }],
        metrics: vec![metric()],
    }
}

fn client_reply() -> Vec<Vec<u8>> {
    let row = TaskManagerRow {
        id: TaskManagerId(9),
        hostname: "here".into(),
        pid: 7,
        version: "0.1.0".into(),
        n_slots: 2,
        n_free: 0,
        jobs: vec![JOB],
        last_heartbeat_ms: 1_600_000_000_002,
        metrics_address: None,
    };
    let cluster = Cluster {
        version: "0.1.0".into(),
        epoch: EPOCH.0,
        rest_address: Some("127.0.0.1:7456".into()),
        task_managers: vec![row],
        jobs: vec![overview()],
    };
    let log =
        ClientReply::Log { task_manager: TaskManagerId(9), from: 0, total: 2, bytes: vec![7; 2] };
    sealed(&[
        ClientReply::Yes,
        ClientReply::Refused(Error::user("there is no such job")),
        ClientReply::Submitted(JOB),
        ClientReply::Cluster(Box::new(cluster)),
        ClientReply::Job(Box::new(detail())),
        ClientReply::Ended(Box::new(outcome())),
        ClientReply::Savepoint("savepoints/savepoint-1".into()),
        ClientReply::Submission(Box::new(submission())),
        log,
    ])
}
