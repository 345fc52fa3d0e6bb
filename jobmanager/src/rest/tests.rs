//! The interface over real connections, held to its description: each route is in `docs/openapi.json` and each path
//! of that file is a route, and answers are what their schemas say, with nothing left out and nothing added.

use super::{ROUTES, is_address};
use crate::process::tests::{Cluster, DEADLINE, Master, describe_always};
use crate::samples;
use millstream_proto::message::{
    CheckpointRow, CheckpointState, ExceptionRow, JobDetail, JobId, JobPhase, MetricSample,
    MetricValue, TaskManagerId, VertexRow,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Page {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn error(&self) -> String {
        self.json()["errors"][0].as_str().unwrap().to_owned()
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Page {
    ask(address, "GET", path, "", &address.to_string(), "")
}

fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    host: &str,
    header: &str,
) -> Page {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let n_bytes = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{header}\
         Content-Type: application/json\r\nContent-Length: {n_bytes}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Page { status, body: body.to_owned() }
}

fn post(address: SocketAddr, path: &str, body: &Value) -> Page {
    ask(address, "POST", path, &body.to_string(), &address.to_string(), "")
}

fn description() -> Value {
    serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap()
}

/// What is wrong with a value, as its schema has it.
fn faults(doc: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = doc.pointer(name.trim_start_matches('#')).unwrap_or(&Value::Null);
        assert!(schema.is_object(), "{name} is not in the description");
        return faults(doc, schema, value, at);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let all: Vec<_> = choices.iter().map(|choice| faults(doc, choice, value, at)).collect();
        return all.into_iter().min_by_key(Vec::len).unwrap_or_default();
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_kind = |wanted: &Value| wanted == kind;
    let kinds = &schema["type"];
    if !is_kind(kinds) && !kinds.as_array().is_some_and(|kinds| kinds.iter().any(is_kind)) {
        return vec![format!("{at} is {kind}, not {kinds}")];
    }
    let mut found = Vec::new();
    if let (Some(words), true) = (schema["enum"].as_array(), value.is_string())
        && !words.contains(value)
    {
        found.push(format!("{at} is {value}, which is not listed"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(faults(doc, &schema["items"], item, &format!("{at}[{index}]")));
    }
    if let Some(object) = value.as_object() {
        let required = schema["required"].as_array().into_iter().flatten();
        let missing = required.filter_map(Value::as_str).filter(|name| !object.contains_key(*name));
        found.extend(missing.map(|name| format!("{at}.{name} is missing")));
        for (name, value) in object {
            let at = format!("{at}.{name}");
            match schema["properties"].get(name) {
                Some(schema) => found.extend(faults(doc, schema, value, &at)),
                None => found.push(format!("{at} is not described")),
            }
        }
    }
    found
}

fn fits(method: &str, path: &str, page: &Page) {
    let doc = description();
    let responses = &doc["paths"][path][method]["responses"];
    let response = responses.get(page.status.to_string()).unwrap_or(&responses["default"]);
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path} has no schema for {}", page.status);
    let found = faults(&doc, schema, &page.json(), "answer");
    assert!(found.is_empty(), "{method} {path}: {found:#?}\n{}", page.body);
}

#[test]
fn a_checker_that_finds_nothing_would_prove_nothing() {
    let doc = description();
    let schema = json!({ "$ref": "#/components/schemas/SavepointStatus" });
    let found = |value: Value| faults(&doc, &schema, &value, "answer");
    assert!(found(json!({ "status": { "id": "COMPLETED" }, "operation": {} })).is_empty());
    for (value, expected) in [
        (json!({ "status": { "id": "COMPLETED" } }), "answer.operation is missing"),
        (json!({ "status": { "id": "DONE" }, "operation": {} }), "not listed"),
        (json!({ "status": { "id": 3 }, "operation": {} }), "is integer"),
        (json!({ "status": { "id": "FAILED" }, "operation": { "why": "" } }), "not described"),
    ] {
        let found = found(value);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn every_route_is_described_and_every_description_is_a_route() {
    let doc = description();
    let described: BTreeSet<(String, String)> = doc["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            let methods = methods.filter(|method| *method != "parameters");
            methods.map(|method| (method.clone(), path.clone()))
        })
        .collect();
    let routes = ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(described, routes.collect());
    for (path, operations) in doc["paths"].as_object().unwrap() {
        let named = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = operations["parameters"].as_array().into_iter().flatten();
        let parameters =
            parameters.map(|p| p["$ref"].as_str().unwrap().rsplit('/').next().unwrap());
        assert!(named.eq(parameters), "the parameters of {path}");
    }
}

/// A job of which everything is known.
fn detail(job: JobId) -> JobDetail {
    let checkpoint = |id, state, is_savepoint| CheckpointRow {
        id,
        is_savepoint,
        state,
        trigger_time_ms: 10,
        duration_ms: (state != CheckpointState::InProgress).then_some(5),
        size_bytes: (state == CheckpointState::Completed).then_some(77),
        acknowledged: (1, 2),
        path: (state == CheckpointState::Completed).then(|| format!("/checkpoints/{id}")),
        error: (state == CheckpointState::Failed).then(|| "too slow".to_owned()),
    };
    let sample = |name: &str, value| MetricSample {
        operator: "numbers".into(),
        name: name.into(),
        subtask: 1,
        value,
    };
    let distribution = MetricValue::Distribution { n: 9, p50: 1, p99: 2, max: 3 };
    let mut overview = samples::overview(job, JobPhase::Running);
    (overview.n_running, overview.n_restarts, overview.last_checkpoint) = (1, 1, Some(3));
    overview.error = Some("it hurt".into());
    JobDetail {
        overview,
        graph: samples::graph(),
        vertices: vec![VertexRow {
            index: 0,
            name: "numbers".into(),
            parallelism: 2,
            subtasks: vec![(JobPhase::Running, Some(TaskManagerId(5))), (JobPhase::Finished, None)],
        }],
        checkpoints: vec![
            checkpoint(4, CheckpointState::InProgress, false),
            checkpoint(3, CheckpointState::Completed, false),
            checkpoint(2, CheckpointState::Completed, true),
            checkpoint(1, CheckpointState::Failed, false),
        ],
        exceptions: vec![ExceptionRow {
            time_ms: 8,
            message: "it hurt".into(),
            domain: "user".into(),
            operator: Some("numbers".into()),
            subtask: Some(1),
            attempt: 0,
            task_manager: Some(TaskManagerId(5)),
        }],
        metrics: vec![
            sample("recordsOut", MetricValue::Count(12)),
            sample("watermark-lag", MetricValue::Level(-3)),
            sample("latency", distribution),
        ],
    }
}

fn path_of(route: &str, job: JobId, task_manager: TaskManagerId) -> String {
    route
        .replace("{job}", &job.to_string())
        .replace("{taskmanager}", &task_manager.to_string())
        .replace("{vertex}", "000000000000feed")
}

#[test]
fn answers_are_as_described() {
    let cluster = Cluster::start();
    let job = JobId(1);
    let playing = describe_always(cluster.run(1), detail(job));
    // One that waits, and whose master has said nothing: it plays dead.
    let mute: Master = cluster.run(2);
    let session = cluster.attach(5, 3, &[]);
    let address = cluster.rest_address();
    let mut n_asked = 0;
    for (method, route, _) in ROUTES.iter().filter(|(method, ..)| *method == "get") {
        if ["/metrics", "/openapi.json"].contains(route) || route.contains("{trigger}") {
            continue;
        }
        let page = get(address, &path_of(route, job, session.id));
        assert_eq!(page.status, 200, "{route}: {}", page.body);
        fits(method, route, &page);
        n_asked += 1;
        if route.contains("{job}") {
            let page = get(address, &path_of(route, JobId(99), session.id));
            assert_eq!(page.status, 404, "{route}: {}", page.body);
            fits(method, route, &page);
        }
    }
    assert_eq!(n_asked, 13);

    let answer = get(address, &format!("/jobs/{job}")).json();
    assert_eq!(answer["state"], "RUNNING");
    assert_eq!(answer["vertices"][0]["status"], "RUNNING");
    assert_eq!(answer["tasks"]["finished"], 1);
    let answer = get(address, &format!("/jobs/{job}/checkpoints")).json();
    assert_eq!(answer["latest"]["completed"]["id"], 3);
    assert_eq!(answer["latest"]["savepoint"]["id"], 2);
    assert_eq!(answer["counts"]["failed"], 1);
    let answer = get(address, &format!("/jobs/{job}/metrics")).json();
    assert_eq!(answer[0], json!({ "id": "1.numbers.recordsOut", "value": "12" }));
    let answer = get(address, "/overview").json();
    assert_eq!(answer["slots-available"], 3);
    assert_eq!(answer["jobs-running"], 2);

    let page = get(address, "/metrics").body;
    for line in [
        "millstream_taskmanagers 1",
        "millstream_slots_free 3",
        "millstream_jobmanager_jobs_submitted_total 2",
        "millstream_job_checkpoint_id{job=\"00000000000000000000000000000001\",name=\"sample\"} 3",
        "millstream_task_watermark_lag{job=\"00000000000000000000000000000001\",name=\"sample\",operator=\"numbers\",subtask=\"1\"} -3",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
    assert_eq!(get(address, "/openapi.json").json(), description());
    drop(mute);
    drop(cluster);
    playing.join().unwrap();
}

#[test]
fn jobs_that_are_over_are_still_described() {
    let cluster = Cluster::start();
    let master = cluster.run(1);
    master.link.ended(samples::outcome(JobId(1)));
    let address = cluster.rest_address();
    let path = format!("/jobs/{}", JobId(1));
    // It is shown as over as soon as its master has said so.
    let page = std::iter::repeat_with(|| get(address, &path))
        .take(1000)
        .find(|page| page.json()["state"] == "FINISHED");
    fits("get", "/jobs/{job}", &page.expect("the end is seen in time"));
    let page = ask(address, "PATCH", &path, "", "localhost", "");
    assert_eq!(page.status, 409);
    assert!(page.error().contains("is over"), "{}", page.error());
}

#[test]
fn wishes_are_passed_on_and_savepoints_are_answered_later() {
    use crate::job::link::JobInput;
    let cluster = Cluster::start();
    let master = cluster.run(1);
    let (address, job) = (cluster.rest_address(), JobId(1));
    let page = ask(address, "PATCH", &format!("/jobs/{job}?mode=cancel"), "", "localhost", "");
    assert_eq!(page.status, 202);
    fits("patch", "/jobs/{job}", &page);
    master.hears(|input| matches!(input, JobInput::Cancel).then_some(()));
    let page = ask(address, "PATCH", &format!("/jobs/{job}?mode=stop"), "", "localhost", "");
    assert_eq!(page.status, 400);

    let savepoints = format!("/jobs/{job}/savepoints");
    let page = post(address, &savepoints, &json!({ "target-directory": "/savepoints" }));
    assert_eq!(page.status, 202, "{}", page.body);
    fits("post", "/jobs/{job}/savepoints", &page);
    let trigger = page.json()["request-id"].as_str().unwrap().to_owned();
    let status = || {
        let page = get(address, &format!("{savepoints}/{trigger}"));
        fits("get", "/jobs/{job}/savepoints/{trigger}", &page);
        page.json()
    };
    assert_eq!(status()["status"]["id"], "IN_PROGRESS");
    let reply = master.hears(|input| match input {
        JobInput::Savepoint { reply, .. } => Some(reply),
        _ => None,
    });
    reply.answer(Ok("/savepoints/1".into()));
    let done = std::iter::repeat_with(status)
        .take(1000)
        .find(|answer| answer["status"]["id"] == "COMPLETED");
    assert_eq!(done.unwrap()["operation"]["location"], "/savepoints/1");

    let stop = format!("/jobs/{job}/stop");
    let page = post(address, &stop, &json!({ "targetDirectory": "/savepoints", "drain": true }));
    fits("post", "/jobs/{job}/stop", &page);
    master.hears(|input| match input {
        JobInput::Savepoint { kind, .. } => {
            assert_eq!(kind, millstream_model::SnapshotKind::Stop { drain: true });
            Some(())
        }
        _ => None,
    });
    for body in [json!({}), json!({ "targetDirectory": "relative" }), json!([1])] {
        let page = post(address, &stop, &body);
        assert_eq!(page.status, 400, "{}", page.body);
        fits("post", "/jobs/{job}/stop", &page);
    }
}

#[test]
fn only_those_who_may_are_served() {
    let cluster = Cluster::with(|config| config.security.token = Some("hush".into()));
    let address = cluster.rest_address();
    let page = get(address, "/overview");
    assert_eq!(page.status, 401);
    assert!(page.error().contains("token"), "{}", page.error());
    let with = |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        ask(address, "GET", "/overview", "", "jobs.example.com", &header).status
    };
    assert_eq!((with("wrong"), with("hush")), (401, 200));

    let open = Cluster::start();
    let address = open.rest_address();
    let under = |host: &str| ask(address, "GET", "/overview", "", host, "").status;
    assert_eq!((under("localhost:7456"), under("rebound.example.com")), (200, 403));
    let page = get(address, "/nothing/here");
    assert_eq!(page.status, 404);
}

#[test]
fn names_that_could_be_given_away_are_told_from_addresses() {
    for host in ["localhost", "localhost:1", "127.0.0.1", "127.0.0.1:80", "[::1]:80", "[::1]"] {
        assert!(is_address(host), "{host}");
    }
    for host in ["", "example.com", "example.com:80", "localhost.example.com", "127.0.0.1.nip.io"] {
        assert!(!is_address(host), "{host}");
    }
}
