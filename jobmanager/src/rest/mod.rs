//! The REST interface, for dashboards, scripts and monitoring: what Flink's has under the same paths, as far as there
//! is the same to tell.
//!
//! It shows and asks what any client can, through the same desk. `docs/openapi.json` describes it; the table of
//! routes below is held to that file, and every answer to its schema, by a test. On this machine it speaks plain HTTP,
//! beyond it HTTPS with a certificate on both sides, as everything of a cluster ([`Hall`]); either way a token, if there is
//! one, is wanted with every request, whether it changes something or not: that is how it is for other clients, too.

mod jobs;
mod prometheus;
mod savepoints;
mod views;

#[cfg(test)]
pub(crate) mod tests;

use crate::process::Desk;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, patch, post};
use axum::{Json, extract::Path};
use millstream_model::{Domain, Error};
use millstream_proto::message::{JobId, TaskManagerId};
use millstream_proto::security::{Guard, Hall};
use savepoints::Triggers;
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;

/// Method, path, and what answers.
type Route = (&'static str, &'static str, fn() -> MethodRouter<Rest>);

/// All routes.
const ROUTES: [Route; 19] = [
    ("get", "/overview", || get(overview)),
    ("get", "/jobs", || get(jobs::list)),
    ("get", "/jobs/overview", || get(jobs::overviews)),
    ("get", "/jobs/{job}", || get(jobs::job)),
    ("patch", "/jobs/{job}", || patch(jobs::cancel)),
    ("get", "/jobs/{job}/plan", || get(jobs::plan)),
    ("get", "/jobs/{job}/vertices/{vertex}", || get(jobs::vertex)),
    ("get", "/jobs/{job}/checkpoints", || get(jobs::checkpoints)),
    ("get", "/jobs/{job}/exceptions", || get(jobs::exceptions)),
    ("get", "/jobs/{job}/metrics", || get(jobs::metrics)),
    ("post", "/jobs/{job}/savepoints", || post(savepoints::trigger)),
    ("post", "/jobs/{job}/stop", || post(savepoints::stop)),
    ("get", "/jobs/{job}/savepoints/{trigger}", || get(savepoints::status)),
    ("get", "/taskmanagers", || get(task_managers)),
    ("get", "/taskmanagers/{taskmanager}", || get(task_manager)),
    ("get", "/jobmanager/config", || get(config)),
    ("get", "/jobmanager/metrics", || get(metrics)),
    ("get", "/metrics", || get(prometheus::page)),
    ("get", "/openapi.json", || get(openapi)),
];

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever reaches the address.
    Anybody,
    /// Only who shows a token or a certificate, which no web page can make somebody's browser do.
    Known,
}

/// What answers requests.
#[derive(Clone)]
pub(crate) struct Rest {
    desk: Desk,
    guard: Guard,
    caller: Caller,
    triggers: Arc<Triggers>,
}

impl Rest {
    pub(crate) fn new(desk: Desk, guard: Guard, caller: Caller) -> Self {
        let triggers = Arc::new(Triggers::new(desk.epoch()));
        Rest { desk, guard, caller, triggers }
    }
}

/// Serves until the process ends.
pub(crate) async fn serve(hall: Hall, rest: Rest) {
    if let Err(error) = axum::serve(hall, router(rest)).await {
        tracing::error!(%error, "the REST server has ended");
    }
}

fn router(rest: Rest) -> Router {
    let all = ROUTES
        .into_iter()
        .fold(Router::new(), |router, (_, path, method)| router.route(path, method()));
    let unknown = async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing under this path");
    all.fallback(unknown).layer(from_fn_with_state(rest.clone(), admit)).with_state(rest)
}

/// Lets those in who show the token. Where neither that nor a certificate is wanted, only requests that a person or program on this machine
/// meant for it: a web page that was given a name for this address cannot ask in somebody's browser.
async fn admit(State(mut rest): State<Rest>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let shown = MetadataMap::from_headers(headers.clone());
    let shown = tonic::Request::from_parts(shown, tonic::Extensions::new(), ());
    if let Err(status) = rest.guard.call(shown) {
        return Refusal::new(StatusCode::UNAUTHORIZED, status.message()).into_response();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if rest.caller == Caller::Anybody && !host.is_some_and(is_address) {
        let why = "without a token or TLS the interface is asked under `localhost` or a number, not under a name";
        return Refusal::new(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

/// Whether a `Host` is no name that somebody else could have given to this address.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let plain = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || plain.parse::<std::net::IpAddr>().is_ok()
}

/// An answer that is none, with the reasons.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    fn new(status: StatusCode, error: impl ToString) -> Self {
        Refusal { status, error: error.to_string() }
    }

    fn not_found(error: impl ToString) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, error)
    }

    fn bad_request(error: impl ToString) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.domain() {
            Domain::User => StatusCode::CONFLICT,
            Domain::External => StatusCode::SERVICE_UNAVAILABLE,
            Domain::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "errors": [self.error] }))).into_response()
    }
}

type Answer = Result<Json<Value>, Refusal>;

/// A job's id out of a path.
fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map_err(|error: Error| Refusal::bad_request(error))
}

async fn overview(State(rest): State<Rest>) -> Answer {
    Ok(Json(views::overview(&rest.desk.cluster().await?)))
}

async fn task_managers(State(rest): State<Rest>) -> Answer {
    let cluster = rest.desk.cluster().await?;
    let now_ms = rest.desk.wall_ms();
    let rows = cluster.task_managers.iter().map(|row| views::task_manager(row, now_ms));
    Ok(Json(json!({ "taskmanagers": rows.collect::<Vec<_>>() })))
}

async fn task_manager(State(rest): State<Rest>, Path(id): Path<String>) -> Answer {
    let id: TaskManagerId = id.parse().map_err(|error: Error| Refusal::bad_request(error))?;
    let cluster = rest.desk.cluster().await?;
    match cluster.task_managers.iter().find(|row| row.id == id) {
        Some(row) => Ok(Json(views::task_manager(row, rest.desk.wall_ms()))),
        None => Err(Refusal::not_found(format!("there is no task manager {id}"))),
    }
}

async fn config(State(rest): State<Rest>) -> Json<Value> {
    let entry = |(key, value): (&str, String)| json!({ "key": key, "value": value });
    Json(rest.desk.settings().into_iter().map(entry).collect())
}

async fn metrics(State(rest): State<Rest>) -> Json<Value> {
    let entry =
        |(name, _, value): (&str, &str, u64)| json!({ "id": name, "value": value.to_string() });
    Json(rest.desk.counters().into_iter().map(entry).collect())
}

async fn openapi() -> Response {
    let text = include_str!("../../../docs/openapi.json");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
