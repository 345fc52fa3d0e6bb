//! How things look in JSON: Flink's names, where Flink has the thing. Times are in ms since the epoch, `-1` where there
//! is none yet.

use crate::process::phase;
use millstream_model::job_graph::JobGraph;
use millstream_proto::message::{
    CheckpointRow, CheckpointState, Cluster, JobDetail, JobOverview, JobPhase, MetricSample,
    MetricValue, TaskManagerRow, VertexRow,
};
use serde_json::{Map, Value, json};

/// The states a task can be counted under.
const PHASES: [JobPhase; 10] = [
    JobPhase::Created,
    JobPhase::Initializing,
    JobPhase::Running,
    JobPhase::Reconciling,
    JobPhase::Failing,
    JobPhase::Restarting,
    JobPhase::Cancelling,
    JobPhase::Finished,
    JobPhase::Canceled,
    JobPhase::Failed,
];

pub(super) fn overview(cluster: &Cluster) -> Value {
    let n_jobs =
        |states: &[JobPhase]| cluster.jobs.iter().filter(|job| states.contains(&job.state)).count();
    let n_over = n_jobs(&[JobPhase::Finished, JobPhase::Canceled, JobPhase::Failed]);
    json!({
        "taskmanagers": cluster.task_managers.len(),
        "slots-total": cluster.task_managers.iter().map(|row| row.n_slots).sum::<usize>(),
        "slots-available": cluster.task_managers.iter().map(|row| row.n_free).sum::<usize>(),
        "jobs-running": cluster.jobs.len() - n_over,
        "jobs-finished": n_jobs(&[JobPhase::Finished]),
        "jobs-cancelled": n_jobs(&[JobPhase::Canceled]),
        "jobs-failed": n_jobs(&[JobPhase::Failed]),
        "millstream-version": cluster.version,
        "leader-epoch": cluster.epoch,
    })
}

fn duration_ms(job: &JobOverview, now_ms: i64) -> i64 {
    (job.end_time_ms.unwrap_or(now_ms) - job.start_time_ms).max(0)
}

/// How many subtasks are in each state.
fn counts<'a>(vertices: impl Iterator<Item = &'a VertexRow>) -> Map<String, Value> {
    let mut counts: Vec<usize> = vec![0; PHASES.len()];
    for (state, _) in vertices.flat_map(|vertex| &vertex.subtasks) {
        if let Some(index) = PHASES.iter().position(|phase| phase == state) {
            counts[index] += 1;
        }
    }
    let name = |state: &JobPhase| phase(*state).to_ascii_lowercase();
    PHASES.iter().map(name).zip(counts.into_iter().map(Value::from)).collect()
}

pub(super) fn job_overview(detail: &JobDetail, now_ms: i64) -> Value {
    let job = &detail.overview;
    let mut tasks = counts(detail.vertices.iter());
    tasks.insert("total".into(), job.n_tasks.into());
    json!({
        "jid": job.id.to_string(),
        "name": job.name,
        "state": phase(job.state),
        "start-time": job.start_time_ms,
        "end-time": job.end_time_ms.unwrap_or(-1),
        "duration": duration_ms(job, now_ms),
        "tasks": tasks,
        "slots": job.n_slots,
        "missing-slots": job.n_missing_slots,
        "restarts": job.n_restarts,
        "last-checkpoint": job.last_checkpoint,
        "passed-over": job.passed_over,
        "records": job.records,
        "error": job.error,
    })
}

pub(super) fn job(detail: &JobDetail, now_ms: i64) -> Value {
    let mut job = job_overview(detail, now_ms);
    let vertices: Vec<_> =
        detail.vertices.iter().map(|row| vertex_summary(detail, row, now_ms)).collect();
    job["now"] = now_ms.into();
    job["isStoppable"] = (!detail.overview.state.is_terminal()).into();
    job["guarantee"] = detail.graph.guarantee.to_string().into();
    job["bounded"] = detail.graph.bounded.into();
    job["vertices"] = vertices.into();
    job["status-counts"] = counts(detail.vertices.iter()).into();
    job["plan"] = plan(detail);
    job
}

/// The id of a vertex: that of its first operator, which survives an edit of the program.
pub(super) fn vertex_id(graph: &JobGraph, index: usize) -> String {
    let head = graph.vertices.get(index).and_then(|vertex| vertex.operators.first());
    head.map_or_else(|| index.to_string(), |operator| operator.id.to_string())
}

/// The state of a vertex: the worst of its subtasks', or running if any runs.
fn vertex_state(vertex: &VertexRow) -> JobPhase {
    let has = |wanted: JobPhase| vertex.subtasks.iter().any(|(state, _)| *state == wanted);
    let all_finished = vertex.subtasks.iter().all(|(state, _)| *state == JobPhase::Finished);
    let order = [
        JobPhase::Failed,
        JobPhase::Failing,
        JobPhase::Restarting,
        JobPhase::Cancelling,
        JobPhase::Canceled,
        JobPhase::Reconciling,
        JobPhase::Initializing,
        JobPhase::Running,
    ];
    match order.into_iter().find(|state| has(*state)) {
        Some(state) => state,
        None if all_finished => JobPhase::Finished,
        // Some have finished and none runs: the others have yet to.
        None => JobPhase::Created,
    }
}

fn vertex_summary(detail: &JobDetail, vertex: &VertexRow, now_ms: i64) -> Value {
    let job = &detail.overview;
    let max_parallelism =
        detail.graph.vertices.get(vertex.index).map_or(0, |vertex| vertex.max_parallelism);
    json!({
        "id": vertex_id(&detail.graph, vertex.index),
        "name": vertex.name,
        "parallelism": vertex.parallelism,
        "maxParallelism": max_parallelism,
        "status": phase(vertex_state(vertex)),
        "start-time": job.start_time_ms,
        "end-time": job.end_time_ms.unwrap_or(-1),
        "duration": duration_ms(job, now_ms),
        "tasks": counts(std::iter::once(vertex)),
    })
}

pub(super) fn vertex(detail: &JobDetail, index: usize, now_ms: i64) -> Value {
    let row = detail.vertices.iter().find(|row| row.index == index);
    let subtasks = row.into_iter().flat_map(|row| row.subtasks.iter().enumerate());
    let subtasks = subtasks.map(|(subtask, (state, task_manager))| {
        json!({
            "subtask": subtask,
            "status": phase(*state),
            "taskmanager-id": task_manager.map(|id| id.to_string()),
        })
    });
    let names: Vec<&str> = detail
        .graph
        .vertices
        .get(index)
        .into_iter()
        .flat_map(|vertex| vertex.operators.iter().map(|operator| operator.name.as_str()))
        .collect();
    let samples = detail.metrics.iter().filter(|sample| names.contains(&sample.operator.as_str()));
    let graph = &detail.graph;
    let parallelism = graph.vertices.get(index).map_or(0, |vertex| vertex.parallelism);
    json!({
        "id": vertex_id(graph, index),
        "name": graph.vertices.get(index).map(|vertex| vertex.name()),
        "parallelism": parallelism,
        "now": now_ms,
        "subtasks": subtasks.collect::<Vec<_>>(),
        "metrics": samples.map(sample).collect::<Vec<_>>(),
    })
}

fn sample(sample: &MetricSample) -> Value {
    let value = match sample.value {
        MetricValue::Count(n) => json!(n),
        MetricValue::Level(n) => json!(n),
        MetricValue::Distribution { n, p50, p99, max } => {
            json!({ "count": n, "p50": p50, "p99": p99, "max": max })
        }
    };
    json!({
        "operator": sample.operator,
        "name": sample.name,
        "subtask": sample.subtask,
        "value": value,
    })
}

pub(super) fn plan(detail: &JobDetail) -> Value {
    let graph = &detail.graph;
    let node = |(index, vertex): (usize, &millstream_model::job_graph::JobVertex)| {
        let inputs = graph.inputs_of(index).map(|(_, edge)| {
            json!({
                "num": edge.input,
                "id": vertex_id(graph, edge.from),
                "ship_strategy": edge.ship.to_string().to_uppercase(),
                "tag": edge.tag,
            })
        });
        let operators = vertex.operators.iter().map(|operator| {
            json!({
                "id": operator.id.to_string(),
                "name": operator.name,
                "uid": operator.uid,
                "kind": operator.kind,
                "states": operator.states,
            })
        });
        json!({
            "id": vertex_id(graph, index),
            "description": vertex.name(),
            "parallelism": vertex.parallelism,
            "slot-sharing-group": vertex.slot_sharing_group,
            "operators": operators.collect::<Vec<_>>(),
            "inputs": inputs.collect::<Vec<_>>(),
        })
    };
    json!({
        "jid": detail.overview.id.to_string(),
        "name": graph.name,
        "nodes": graph.vertices.iter().enumerate().map(node).collect::<Vec<_>>(),
    })
}

fn checkpoint(row: &CheckpointRow) -> Value {
    let status = match row.state {
        CheckpointState::InProgress => "IN_PROGRESS",
        CheckpointState::Completed => "COMPLETED",
        CheckpointState::Failed => "FAILED",
    };
    json!({
        "id": row.id,
        "status": status,
        "is_savepoint": row.is_savepoint,
        "trigger_timestamp": row.trigger_time_ms,
        "end_to_end_duration": row.duration_ms,
        "state_size": row.size_bytes,
        "num_subtasks": row.acknowledged.1,
        "num_acknowledged_subtasks": row.acknowledged.0,
        "external_path": row.path,
        "failure_message": row.error,
    })
}

pub(super) fn checkpoints(detail: &JobDetail) -> Value {
    let rows = &detail.checkpoints;
    let n = |state: CheckpointState| rows.iter().filter(|row| row.state == state).count();
    let newest = |is_savepoint: bool, state: CheckpointState| {
        rows.iter()
            .find(|row| row.is_savepoint == is_savepoint && row.state == state)
            .map(checkpoint)
    };
    let failed = rows.iter().find(|row| row.state == CheckpointState::Failed).map(checkpoint);
    json!({
        "counts": {
            "total": rows.len(),
            "in_progress": n(CheckpointState::InProgress),
            "completed": n(CheckpointState::Completed),
            "failed": n(CheckpointState::Failed),
        },
        "latest": {
            "completed": newest(false, CheckpointState::Completed),
            "savepoint": newest(true, CheckpointState::Completed),
            "failed": failed,
        },
        "history": rows.iter().map(checkpoint).collect::<Vec<_>>(),
    })
}

pub(super) fn exceptions(detail: &JobDetail) -> Value {
    let entry = |row: &millstream_proto::message::ExceptionRow| {
        json!({
            "message": row.message,
            "domain": row.domain,
            "timestamp": row.time_ms,
            "taskName": row.operator,
            "subtask": row.subtask,
            "attempt": row.attempt,
            "taskManagerId": row.task_manager.map(|id| id.to_string()),
        })
    };
    let newest = detail.exceptions.first();
    json!({
        "root-exception": newest.map(|row| row.message.clone()),
        "timestamp": newest.map(|row| row.time_ms),
        "exceptionHistory": {
            "entries": detail.exceptions.iter().map(entry).collect::<Vec<_>>(),
        },
    })
}

/// `SUBTASK.OPERATOR.METRIC` and the value as text, as Flink has it.
pub(super) fn metrics(detail: &JobDetail) -> Value {
    let mut entries = Vec::new();
    for MetricSample { operator, name, subtask, value } in &detail.metrics {
        let id = format!("{subtask}.{operator}.{name}");
        let mut push =
            |id: String, value: String| entries.push(json!({ "id": id, "value": value }));
        match value {
            MetricValue::Count(n) => push(id, n.to_string()),
            MetricValue::Level(n) => push(id, n.to_string()),
            MetricValue::Distribution { n, p50, p99, max } => {
                for (part, number) in [("count", n), ("p50", p50), ("p99", p99), ("max", max)] {
                    push(format!("{id}.{part}"), number.to_string());
                }
            }
        }
    }
    entries.into()
}

pub(super) fn task_manager(row: &TaskManagerRow, now_ms: i64) -> Value {
    json!({
        "id": row.id.to_string(),
        "hostname": row.hostname,
        "pid": row.pid,
        "version": row.version,
        "slotsNumber": row.n_slots,
        "freeSlots": row.n_free,
        "timeSinceLastHeartbeat": row.last_heartbeat_ms,
        "silentFor": (now_ms - row.last_heartbeat_ms).max(0),
        "jobs": row.jobs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "metricsAddress": row.metrics_address,
    })
}
