//! A cluster, a job, its checkpoints, as text. The same values go out as JSON, so nothing is only here.

use crate::table::{bytes, duration, or_dash, table, time};
use millstream::cluster::message::{
    CheckpointRow, CheckpointState, Cluster, JobDetail, JobOverview, JobPhase, VertexRow,
};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Checkpoints and failures in a job's status; the rest has a command of its own, or is in the JSON.
const N_RECENT: usize = 5;

fn upper(phase: JobPhase) -> String {
    format!("{phase:?}").to_uppercase()
}

fn lasted(job: &JobOverview, now_ms: i64) -> String {
    let end = job.end_time_ms.unwrap_or(now_ms);
    duration(end.saturating_sub(job.start_time_ms).max(0) as u64)
}

/// The jobs of a cluster.
pub(crate) fn jobs(jobs: &[JobOverview], now_ms: i64) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_string();
    }
    let row = |job: &JobOverview| {
        let state = match job.n_missing_slots {
            0 => upper(job.state),
            n => format!("{} ({n} slots missing)", upper(job.state)),
        };
        [
            job.id.to_string(),
            job.name.clone(),
            state,
            time(job.start_time_ms),
            lasted(job, now_ms),
            format!("{}/{}", job.n_running, job.n_tasks),
            job.n_restarts.to_string(),
            or_dash(job.last_checkpoint),
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    table(
        ["JOB", "NAME", "STATE", "STARTED (UTC)", "DURATION", "TASKS", "RESTARTS", "CHECKPOINT"],
        &rows,
    )
}

/// The cluster and its task managers.
pub(crate) fn cluster(cluster: &Cluster, now_ms: i64) -> String {
    let n_slots: usize = cluster.task_managers.iter().map(|tm| tm.n_slots).sum();
    let n_free: usize = cluster.task_managers.iter().map(|tm| tm.n_free).sum();
    let n_active = cluster.jobs.iter().filter(|job| !job.state.is_terminal()).count();
    let mut text = format!(
        "job manager {}, epoch {}{}\n{} task managers, {n_free} of {n_slots} slots free, {n_active} jobs\n",
        cluster.version,
        cluster.epoch,
        cluster.rest_address.as_ref().map_or(String::new(), |rest| format!(", REST at {rest}")),
        cluster.task_managers.len(),
    );
    let rows: Vec<_> = cluster
        .task_managers
        .iter()
        .map(|tm| {
            let silent_ms = now_ms.saturating_sub(tm.last_heartbeat_ms).max(0) as u64;
            [
                tm.id.to_string(),
                tm.hostname.clone(),
                tm.pid.to_string(),
                format!("{}/{}", tm.n_free, tm.n_slots),
                tm.jobs.len().to_string(),
                duration(silent_ms),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text += &table(["TASK MANAGER", "HOST", "PID", "FREE", "JOBS", "LAST HEARD"], &rows);
    }
    text
}

/// All there is to see of a job on a page.
pub(crate) fn job(detail: &JobDetail, now_ms: i64) -> String {
    let job = &detail.overview;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<12}{value}").expect("a string can be written to");
    };
    line("job", job.id.to_string());
    line("name", job.name.clone());
    line("state", upper(job.state));
    line("started", format!("{} UTC, {} ago", time(job.start_time_ms), lasted_since(job, now_ms)));
    if let Some(end) = job.end_time_ms {
        line("ended", format!("{} UTC, after {}", time(end), lasted(job, now_ms)));
    }
    line("tasks", format!("{} of {} run", job.n_running, job.n_tasks));
    if job.n_missing_slots > 0 {
        let (missing, all) = (job.n_missing_slots, job.n_slots);
        line("slots", format!("{missing} of {all} are missing: start another task manager"));
    } else {
        line("slots", job.n_slots.to_string());
    }
    line("restarts", job.n_restarts.to_string());
    line("records", job.records.to_string());
    line("checkpoint", or_dash(job.last_checkpoint));
    if !job.passed_over.is_empty() {
        line("passed over", format!("{} (`allow-older`)", job.passed_over.join(", ")));
    }
    if let Some(error) = &job.error {
        line("error", error.clone());
    }
    let rows: Vec<_> = detail.vertices.iter().map(vertex).collect();
    if !rows.is_empty() {
        text.push('\n');
        text += &table(["VERTEX", "NAME", "PARALLELISM", "SUBTASKS"], &rows);
    }
    if !detail.checkpoints.is_empty() {
        text.push('\n');
        text += &checkpoints(&detail.checkpoints[..detail.checkpoints.len().min(N_RECENT)]);
    }
    for failure in detail.exceptions.iter().take(N_RECENT) {
        let place = match (&failure.operator, failure.subtask) {
            (Some(operator), Some(subtask)) => {
                format!(", operator `{operator}`, subtask {subtask}")
            }
            (Some(operator), None) => format!(", operator `{operator}`"),
            (None, _) => String::new(),
        };
        write!(
            text,
            "\n{} UTC, attempt {}{place}\n    {}\n",
            time(failure.time_ms),
            failure.attempt + 1,
            failure.message.replace('\n', "\n    ")
        )
        .expect("a string can be written to");
    }
    text
}

fn lasted_since(job: &JobOverview, now_ms: i64) -> String {
    duration(now_ms.saturating_sub(job.start_time_ms).max(0) as u64)
}

fn vertex(vertex: &VertexRow) -> [String; 4] {
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for (state, _) in &vertex.subtasks {
        *states.entry(upper(*state)).or_default() += 1;
    }
    let states: Vec<_> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let (index, parallelism) = (vertex.index.to_string(), vertex.parallelism.to_string());
    [index, vertex.name.clone(), parallelism, states.join(", ")]
}

/// Checkpoints, newest first.
pub(crate) fn checkpoints(rows: &[CheckpointRow]) -> String {
    if rows.is_empty() {
        return "no checkpoints\n".to_string();
    }
    let row = |row: &CheckpointRow| {
        let state = match row.state {
            CheckpointState::InProgress => "in progress",
            CheckpointState::Completed => "completed",
            CheckpointState::Failed => "failed",
        };
        let (done, all) = row.acknowledged;
        [
            row.id.to_string(),
            if row.is_savepoint { "savepoint" } else { "checkpoint" }.to_string(),
            state.to_string(),
            time(row.trigger_time_ms),
            or_dash(row.duration_ms.map(duration)),
            or_dash(row.size_bytes.map(bytes)),
            format!("{done}/{all}"),
            or_dash(row.error.as_ref().or(row.path.as_ref())),
        ]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    table(["ID", "KIND", "STATE", "BEGUN (UTC)", "DURATION", "SIZE", "TASKS", "WHERE"], &rows)
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
