//! Metrics of this process and of its hosts, as Prometheus reads them.
//!
//! Hosts send their samples every so often; the newest are kept and written out when somebody asks, with the job, its
//! operators and subtasks as labels. Names and labels come from programs, so they are cut down to what the format
//! allows.

use crate::programs::Programs;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use millstream_model::{Error, Result};
use millstream_proto::message::{JobId, MetricSample, MetricValue};
use millstream_proto::security::{Hall, TlsFiles};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;

/// The most that read them at a time.
const MAX_CONNECTIONS: usize = 100;

/// See the module's text.
pub(super) struct Metrics {
    programs: Arc<Programs>,
    n_starts: AtomicU64,
    n_sessions: AtomicU64,
    n_refused: AtomicU64,
    is_connected: AtomicBool,
    hosts: Mutex<BTreeMap<JobId, HostMetrics>>,
}

struct HostMetrics {
    run: u64,
    name: String,
    samples: Vec<MetricSample>,
}

impl Metrics {
    pub(super) fn new(programs: Arc<Programs>) -> Self {
        Metrics {
            programs,
            n_starts: AtomicU64::new(0),
            n_sessions: AtomicU64::new(0),
            n_refused: AtomicU64::new(0),
            is_connected: AtomicBool::new(false),
            hosts: Mutex::default(),
        }
    }

    /// A session has begun.
    pub(super) fn count_session(&self) {
        self.n_sessions.fetch_add(1, Ordering::Relaxed);
        self.is_connected.store(true, Ordering::Relaxed);
    }

    /// It is over.
    pub(super) fn session_ended(&self) {
        self.is_connected.store(false, Ordering::Relaxed);
    }

    /// A host's process runs.
    pub(super) fn count_start(&self) {
        self.n_starts.fetch_add(1, Ordering::Relaxed);
    }

    /// A host is being started.
    pub(super) fn begin(&self, job: JobId, run: u64, name: String) {
        self.hosts().insert(job, HostMetrics { run, name, samples: Vec::new() });
    }

    /// Its newest samples.
    pub(super) fn take(&self, job: JobId, run: u64, samples: Vec<MetricSample>) {
        if let Some(host) = self.hosts().get_mut(&job).filter(|host| host.run == run) {
            host.samples = samples;
        }
    }

    /// It is gone.
    pub(super) fn end(&self, job: JobId, run: u64) {
        let mut hosts = self.hosts();
        if hosts.get(&job).is_some_and(|host| host.run == run) {
            hosts.remove(&job);
        }
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<JobId, HostMetrics>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it, in Prometheus' text format.
    fn text(&self) -> String {
        let hosts = self.hosts();
        let mut families = Families::default();
        let mut own = |name: &str, kind, value: u64| {
            families.add(&format!("millstream_taskmanager_{name}"), kind, "", value as i128);
        };
        own("hosts", "gauge", hosts.len() as u64);
        own("host_starts_total", "counter", self.n_starts.load(Ordering::Relaxed));
        own("sessions_total", "counter", self.n_sessions.load(Ordering::Relaxed));
        own("connections_refused_total", "counter", self.n_refused.load(Ordering::Relaxed));
        own("connected", "gauge", self.is_connected.load(Ordering::Relaxed).into());
        own("program_bytes", "gauge", self.programs.n_bytes());
        if let Some(bytes) = resident_bytes() {
            families.add("process_resident_memory_bytes", "gauge", "", bytes.into());
        }
        for (job, host) in hosts.iter() {
            for sample in &host.samples {
                let labels = format!(
                    "job=\"{job}\",job_name=\"{}\",operator=\"{}\",subtask=\"{}\"",
                    escaped(&host.name),
                    escaped(&sample.operator),
                    sample.subtask
                );
                families.sample(
                    &format!("millstream_task_{}", identifier(&sample.name)),
                    &labels,
                    sample.value,
                );
            }
        }
        families.text()
    }
}

/// Lines by the name of their metric, since the format wants them together.
#[derive(Default)]
struct Families(BTreeMap<String, (&'static str, String)>);

impl Families {
    fn line(&mut self, family: &str, kind: &'static str, name: &str, labels: &str, value: i128) {
        let (_, lines) = self.0.entry(family.to_owned()).or_insert((kind, String::new()));
        let _ = match labels {
            "" => writeln!(lines, "{name} {value}"),
            labels => writeln!(lines, "{name}{{{labels}}} {value}"),
        };
    }

    fn add(&mut self, name: &str, kind: &'static str, labels: &str, value: i128) {
        self.line(name, kind, name, labels, value);
    }

    fn sample(&mut self, name: &str, labels: &str, value: MetricValue) {
        match value {
            MetricValue::Count(n) => {
                self.add(&format!("{name}_total"), "counter", labels, n.into())
            }
            MetricValue::Level(level) => self.add(name, "gauge", labels, level.into()),
            MetricValue::Distribution { n, p50, p99, max } => {
                for (quantile, value) in [("0.5", p50), ("0.99", p99), ("1", max)] {
                    let labels = format!("{labels},quantile=\"{quantile}\"");
                    self.line(name, "summary", name, &labels, value.into());
                }
                self.line(name, "summary", &format!("{name}_count"), labels, n.into());
            }
        }
    }

    fn text(self) -> String {
        let mut text = String::new();
        for (name, (kind, lines)) in self.0 {
            let _ = writeln!(text, "# TYPE {name} {kind}\n{}", lines.trim_end());
        }
        text
    }
}

/// A name with underscores for what a metric's name cannot have.
fn identifier(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect()
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Begins to serve them; where.
pub(super) async fn serve(
    address: SocketAddr,
    tls: Option<TlsFiles>,
    metrics: Arc<Metrics>,
) -> Result<SocketAddr> {
    let failed = |e| {
        Error::external(format!("metrics cannot be served at {address}: name another address"))
            .caused_by(e)
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let tls = tls.map(|files| files.pages()).transpose()?;
    let counted = Arc::clone(&metrics);
    let refused = Arc::new(move || {
        counted.n_refused.fetch_add(1, Ordering::Relaxed);
    });
    let hall = Hall::open(listener, MAX_CONNECTIONS, tls, refused).map_err(failed)?;
    let answer = move || {
        let text = metrics.text();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response() }
    };
    let router = Router::new().route("/metrics", get(answer));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(hall, router).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn samples_are_written_by_metric_with_their_labels() {
        let dir = TempDir::new().unwrap();
        let metrics = Metrics::new(Programs::open(dir.path(), 10).unwrap());
        let sample = |operator: &str, name: &str, subtask, value| MetricSample {
            operator: operator.to_owned(),
            name: name.to_owned(),
            subtask,
            value,
        };
        let distribution = MetricValue::Distribution { n: 9, p50: 5, p99: 8, max: 11 };
        metrics.begin(JobId(7), 1, "a \"job\"".to_owned());
        metrics.take(
            JobId(7),
            1,
            vec![
                sample("map", "records-in", 0, MetricValue::Count(3)),
                sample("map", "lag ms", 0, MetricValue::Level(-4)),
                sample("map", "records-in", 1, MetricValue::Count(5)),
                sample("wi\\n\ndow", "fire", 0, distribution),
            ],
        );
        metrics.take(JobId(7), 9, Vec::new());
        metrics.count_start();
        metrics.count_session();
        let text = metrics.text();
        let of_tasks = &text[text.find("# TYPE millstream_task_").unwrap()..];
        let of_tasks = &of_tasks[..of_tasks.find("# TYPE millstream_taskmanager").unwrap()];
        let labels = "job=\"00000000000000000000000000000007\",job_name=\"a \\\"job\\\"\",operator";
        let expected = format!(
            "# TYPE millstream_task_fire summary\n\
             millstream_task_fire{{{labels}=\"wi\\\\n\\ndow\",subtask=\"0\",quantile=\"0.5\"}} 5\n\
             millstream_task_fire{{{labels}=\"wi\\\\n\\ndow\",subtask=\"0\",quantile=\"0.99\"}} 8\n\
             millstream_task_fire{{{labels}=\"wi\\\\n\\ndow\",subtask=\"0\",quantile=\"1\"}} 11\n\
             millstream_task_fire_count{{{labels}=\"wi\\\\n\\ndow\",subtask=\"0\"}} 9\n\
             # TYPE millstream_task_lag_ms gauge\n\
             millstream_task_lag_ms{{{labels}=\"map\",subtask=\"0\"}} -4\n\
             # TYPE millstream_task_records_in_total counter\n\
             millstream_task_records_in_total{{{labels}=\"map\",subtask=\"0\"}} 3\n\
             millstream_task_records_in_total{{{labels}=\"map\",subtask=\"1\"}} 5\n"
        );
        assert_eq!(of_tasks, expected);
        for line in ["hosts 1", "host_starts_total 1", "sessions_total 1", "connected 1"] {
            assert!(text.contains(&format!("\nmillstream_taskmanager_{line}\n")), "{line}\n{text}");
        }
        metrics.end(JobId(7), 9);
        assert!(metrics.text().contains("millstream_task_fire"));
        metrics.end(JobId(7), 1);
        assert!(!metrics.text().contains("millstream_task_fire"));
    }
}
