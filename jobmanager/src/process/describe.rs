//! How jobs look from outside where their masters do not say: before they have, and after they are gone.

use crate::store::SubmittedJob;
use millstream_model::Domain;
use millstream_model::Error;
use millstream_proto::message::{
    ExceptionRow, JobDetail, JobOverview, JobPhase, Outcome, VertexRow,
};

/// A phase in the words of the interfaces.
pub(crate) fn phase(phase: JobPhase) -> &'static str {
    match phase {
        JobPhase::Created => "CREATED",
        JobPhase::Initializing => "INITIALIZING",
        JobPhase::Running => "RUNNING",
        JobPhase::Reconciling => "RECONCILING",
        JobPhase::Failing => "FAILING",
        JobPhase::Restarting => "RESTARTING",
        JobPhase::Cancelling => "CANCELLING",
        JobPhase::Finished => "FINISHED",
        JobPhase::Canceled => "CANCELED",
        JobPhase::Failed => "FAILED",
    }
}

/// A job whose master has not said anything yet.
pub(super) fn created(job: &SubmittedJob) -> JobOverview {
    let graph = &job.submission.start.graph;
    JobOverview {
        id: job.id,
        name: graph.name.clone(),
        state: JobPhase::Created,
        start_time_ms: job.submitted_at_ms,
        end_time_ms: None,
        n_tasks: graph.n_tasks(),
        n_running: 0,
        n_slots: 0,
        n_missing_slots: 0,
        n_restarts: 0,
        last_checkpoint: None,
        passed_over: Vec::new(),
        records: 0,
        error: None,
    }
}

/// The end of a job whose master could not say it.
pub(super) fn failed(
    job: &SubmittedJob,
    last: Option<&JobDetail>,
    error: Error,
    now_ms: i64,
) -> Outcome {
    let overview = last.map_or_else(|| created(job), |detail| detail.overview.clone());
    let overview = JobOverview {
        state: JobPhase::Failed,
        end_time_ms: Some(now_ms),
        n_running: 0,
        n_missing_slots: 0,
        error: Some(error.to_string()),
        ..overview
    };
    let metrics = last.map(|detail| detail.metrics.clone()).unwrap_or_default();
    Outcome { overview, error: Some(error), results: Vec::new(), metrics }
}

/// The details of a job of which only this is known.
pub(super) fn detail(job: &SubmittedJob, overview: JobOverview) -> JobDetail {
    let graph = job.submission.start.graph.clone();
    let row = |(index, vertex): (usize, &millstream_model::job_graph::JobVertex)| VertexRow {
        index,
        name: vertex.name(),
        parallelism: vertex.parallelism,
        subtasks: vec![(overview.state, None); vertex.parallelism],
    };
    let vertices = graph.vertices.iter().enumerate().map(row).collect();
    JobDetail {
        overview,
        graph,
        vertices,
        checkpoints: Vec::new(),
        exceptions: Vec::new(),
        metrics: Vec::new(),
    }
}

/// The details of a job that is over: those its master gave last, as far as they still hold.
pub(super) fn over(job: &SubmittedJob, last: Option<&JobDetail>, outcome: &Outcome) -> JobDetail {
    let overview = outcome.overview.clone();
    let mut detail = last.map_or_else(|| detail(job, overview.clone()), JobDetail::clone);
    for vertex in &mut detail.vertices {
        for (state, _) in &mut vertex.subtasks {
            if !state.is_terminal() {
                *state = overview.state;
            }
        }
    }
    if let Some(error) = &outcome.error {
        let row = exception(
            error,
            overview.end_time_ms.unwrap_or(overview.start_time_ms),
            overview.n_restarts,
        );
        if detail.exceptions.first().is_none_or(|first| first.message != row.message) {
            detail.exceptions.insert(0, row);
        }
    }
    if !outcome.metrics.is_empty() {
        detail.metrics = outcome.metrics.clone();
    }
    detail.overview = overview;
    detail
}

/// What is shown of a job whose end, if its master knows one already, is not stored: the next leader might find another.
pub(super) fn not_over(last: &JobDetail) -> JobDetail {
    let mut detail = last.clone();
    let state = &mut detail.overview.state;
    *state = match *state {
        JobPhase::Finished => JobPhase::Running,
        JobPhase::Canceled => JobPhase::Cancelling,
        JobPhase::Failed => JobPhase::Failing,
        other => other,
    };
    detail
}

fn exception(error: &Error, time_ms: i64, attempt: u32) -> ExceptionRow {
    let domain = match error.domain() {
        Domain::User => "user",
        Domain::External => "external",
        Domain::Internal => "internal",
    };
    ExceptionRow {
        time_ms,
        message: error.to_string(),
        domain: domain.into(),
        operator: error.place().map(|place| place.operator.clone()),
        subtask: error.place().map(|place| place.subtask),
        attempt: error.place().map_or(attempt, |place| place.attempt),
        task_manager: None,
    }
}
