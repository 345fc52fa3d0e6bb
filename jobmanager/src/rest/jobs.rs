//! Answers about one job or all of them.

use super::{Answer, Refusal, Rest, job_id, views};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millstream_proto::message::JobDetail;
use serde::Deserialize;
use serde_json::{Value, json};

impl Rest {
    pub(super) async fn detail(&self, job: &str) -> Result<JobDetail, Refusal> {
        let id = job_id(job)?;
        // Asked first, because only here an error says that there is no such job.
        self.desk.find(id).await.map_err(Refusal::not_found)?;
        Ok(self.desk.detail(id).await?)
    }
}

pub(super) async fn list(State(rest): State<Rest>) -> Answer {
    let cluster = rest.desk.cluster().await?;
    let jobs = cluster
        .jobs
        .iter()
        .map(|job| json!({ "id": job.id.to_string(), "status": crate::process::phase(job.state) }));
    Ok(Json(json!({ "jobs": jobs.collect::<Vec<_>>() })))
}

pub(super) async fn overviews(State(rest): State<Rest>) -> Answer {
    let (_, details) = rest.desk.survey().await?;
    let now_ms = rest.desk.wall_ms();
    let jobs: Vec<Value> = details.iter().map(|job| views::job_overview(job, now_ms)).collect();
    Ok(Json(json!({ "jobs": jobs })))
}

pub(super) async fn job(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    Ok(Json(views::job(&rest.detail(&job).await?, rest.desk.wall_ms())))
}

pub(super) async fn plan(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    Ok(Json(json!({ "plan": views::plan(&rest.detail(&job).await?) })))
}

pub(super) async fn vertex(
    State(rest): State<Rest>,
    Path((job, vertex)): Path<(String, String)>,
) -> Answer {
    let detail = rest.detail(&job).await?;
    let index = (0..detail.graph.vertices.len())
        .find(|index| views::vertex_id(&detail.graph, *index) == vertex);
    match index {
        Some(index) => Ok(Json(views::vertex(&detail, index, rest.desk.wall_ms()))),
        None => Err(Refusal::not_found(format!("the job has no vertex `{vertex}`"))),
    }
}

pub(super) async fn checkpoints(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    Ok(Json(views::checkpoints(&rest.detail(&job).await?)))
}

pub(super) async fn exceptions(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    Ok(Json(views::exceptions(&rest.detail(&job).await?)))
}

pub(super) async fn metrics(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    Ok(Json(views::metrics(&rest.detail(&job).await?)))
}

#[derive(Deserialize)]
pub(super) struct Mode {
    mode: Option<String>,
}

pub(super) async fn cancel(
    State(rest): State<Rest>,
    Path(job): Path<String>,
    Query(mode): Query<Mode>,
) -> Result<Response, Refusal> {
    let id = job_id(&job)?;
    match mode.mode.as_deref() {
        None | Some("cancel") => {}
        Some(other) => {
            let error = format!("`{other}` is no mode: the only one is `cancel`");
            return Err(Refusal::bad_request(error));
        }
    }
    rest.desk.find(id).await.map_err(Refusal::not_found)?;
    rest.desk.cancel(id).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
}
