//! Jobs as tests need them.

use crate::store::SubmittedJob;
use millstream_model::job_graph::{ChainedOperator, Guarantee, JobGraph, JobVertex, OperatorId};
use millstream_model::settings::{CheckpointConfig, JobSettings, RestartStrategy};
use millstream_proto::message::{
    HostStart, JobId, JobOverview, JobPhase, Outcome, ProgramId, RequestId, Submission,
};

/// A source that ends, of two subtasks.
pub(crate) fn graph() -> JobGraph {
    let source = ChainedOperator {
        node: 0,
        id: OperatorId(0xfeed),
        name: "numbers".into(),
        uid: None,
        kind: "source".into(),
        states: Vec::new(),
        unfused_because: None,
    };
    let vertex = JobVertex {
        operators: vec![source],
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

/// A job of the program `program`, asked for by this request.
pub(crate) fn submission(request: u128, program: ProgramId, program_bytes: u64) -> Submission {
    Submission {
        request: RequestId(request),
        program,
        program_bytes,
        settings: JobSettings {
            checkpoints: CheckpointConfig::default(),
            checkpoint_dir: None,
            restore: None,
            claims: false,
            allow_non_restored: false,
            allow_older: false,
            restart: RestartStrategy::None,
            cancel_timeout_ms: 1000,
        },
        start: HostStart {
            job: JobId(0),
            arguments: vec!["--input".into(), "a".into()],
            environment: Vec::new(),
            folder: "/tmp".into(),
            nth_execute: 0,
            graph: graph(),
            config: Vec::new(),
            once: Vec::new(),
        },
    }
}

/// A job that was submitted then.
pub(crate) fn submitted(id: JobId, at_ms: i64) -> SubmittedJob {
    let submission = submission(id.0, ProgramId([1; 32]), 10);
    SubmittedJob { id, submission, submitted_at_ms: at_ms }
}

/// A job at a glance.
pub(crate) fn overview(id: JobId, state: JobPhase) -> JobOverview {
    JobOverview {
        id,
        name: "sample".into(),
        state,
        start_time_ms: 5,
        end_time_ms: state.is_terminal().then_some(9),
        n_tasks: 2,
        n_running: 0,
        n_slots: 2,
        n_missing_slots: 0,
        n_restarts: 0,
        last_checkpoint: None,
        passed_over: Vec::new(),
        records: 0,
        error: None,
    }
}

/// The end of a job that finished.
pub(crate) fn outcome(id: JobId) -> Outcome {
    Outcome {
        overview: overview(id, JobPhase::Finished),
        error: None,
        results: Vec::new(),
        metrics: Vec::new(),
    }
}
