//! Savepoints that were asked for over REST. They take their time, so the request is answered with a number under
//! which one can ask what became of it. The newest answers are kept, and lost with the process: who needs to know
//! for certain looks at the job's checkpoints.

use super::{Answer, Refusal, Rest, job_id};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millstream_model::Result as MillstreamResult;
use millstream_proto::message::{Drain, JobId};
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many are remembered.
const N_REMEMBERED: usize = 200;

/// See the module's text.
pub(super) struct Triggers {
    epoch: u64,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    n_triggers: u64,
    triggers: VecDeque<Trigger>,
}

struct Trigger {
    id: String,
    job: JobId,
    /// Where it is, or why it is nowhere; `None` while it is being taken.
    result: Option<MillstreamResult<PathBuf>>,
}

impl Triggers {
    pub(super) fn new(epoch: u64) -> Self {
        Triggers { epoch, content: Mutex::default() }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, job: JobId) -> String {
        let mut content = self.content();
        content.n_triggers += 1;
        // No leader gives out a number that another has.
        let id = format!("{:016x}{:016x}", self.epoch, content.n_triggers);
        if content.triggers.len() == N_REMEMBERED {
            content.triggers.pop_front();
        }
        content.triggers.push_back(Trigger { id: id.clone(), job, result: None });
        id
    }

    fn end(&self, id: &str, result: MillstreamResult<PathBuf>) {
        if let Some(trigger) = self.content().triggers.iter_mut().find(|t| t.id == id) {
            trigger.result = Some(result);
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Wish {
    #[serde(rename = "target-directory", alias = "targetDirectory")]
    target_directory: Option<PathBuf>,
    #[serde(rename = "cancel-job", default)]
    cancel_job: bool,
    #[serde(default)]
    drain: bool,
}

pub(super) async fn trigger(
    rest: State<Rest>,
    job: Path<String>,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(wish) = wish.map_err(|error| Refusal::bad_request(error.body_text()))?;
    let stop = wish.cancel_job.then_some(Drain(false));
    begin(rest, job, wish.target_directory, stop).await
}

pub(super) async fn stop(
    rest: State<Rest>,
    job: Path<String>,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(wish) = wish.map_err(|error| Refusal::bad_request(error.body_text()))?;
    begin(rest, job, wish.target_directory, Some(Drain(wish.drain))).await
}

async fn begin(
    State(rest): State<Rest>,
    Path(job): Path<String>,
    dir: Option<PathBuf>,
    stop: Option<Drain>,
) -> Result<Response, Refusal> {
    let job = job_id(&job)?;
    rest.desk.find(job).await.map_err(Refusal::not_found)?;
    let Some(dir) = dir.filter(|dir| dir.is_absolute()) else {
        let error = "`target-directory` must name the folder for the savepoint, from the root";
        return Err(Refusal::bad_request(error));
    };
    let id = rest.triggers.begin(job);
    let (desk, triggers, trigger) = (rest.desk.clone(), rest.triggers.clone(), id.clone());
    tokio::spawn(async move {
        let result = desk.savepoint(job, dir, stop).await;
        triggers.end(&trigger, result);
    });
    Ok((StatusCode::ACCEPTED, Json(json!({ "request-id": id }))).into_response())
}

pub(super) async fn status(
    State(rest): State<Rest>,
    Path((job, id)): Path<(String, String)>,
) -> Answer {
    let job = job_id(&job)?;
    let content = rest.triggers.content();
    let Some(trigger) = content.triggers.iter().find(|t| t.id == id && t.job == job) else {
        return Err(Refusal::not_found(format!("no savepoint was asked for under `{id}`")));
    };
    let (status, operation) = match &trigger.result {
        None => ("IN_PROGRESS", json!({})),
        Some(Ok(path)) => ("COMPLETED", json!({ "location": path.display().to_string() })),
        Some(Err(error)) => ("FAILED", json!({ "failure-cause": error.to_string() })),
    };
    Ok(Json(json!({ "status": { "id": status }, "operation": operation })))
}
