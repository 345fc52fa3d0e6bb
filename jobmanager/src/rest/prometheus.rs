//! Everything that can be counted, as a page for Prometheus: the process itself, the cluster, and what the tasks of
//! running jobs last said of themselves.

use super::{Refusal, Rest};
use crate::process::phase;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use millstream_proto::message::{CheckpointState, JobDetail, MetricValue, TaskManagerRow};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The format's name and version.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn page(State(rest): State<Rest>) -> Result<Response, Refusal> {
    let (everything, details) = rest.desk.survey().await?;
    let mut page = Page::default();
    for (name, meaning, value) in rest.desk.counters() {
        let name = format!("jobmanager_{name}_total");
        page.add(&name, "counter", meaning, &[], value);
    }
    page.add("jobmanager_epoch", "gauge", "The leader's number", &[], rest.desk.epoch());
    cluster(&mut page, &everything.task_managers);
    for detail in &details {
        job(&mut page, detail);
    }
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], page.to_text()).into_response())
}

fn cluster(page: &mut Page, rows: &[TaskManagerRow]) {
    let n_slots: usize = rows.iter().map(|row| row.n_slots).sum();
    let n_free: usize = rows.iter().map(|row| row.n_free).sum();
    page.add("taskmanagers", "gauge", "Task managers that are there", &[], rows.len());
    page.add("slots", "gauge", "Slots that task managers offer", &[], n_slots);
    page.add("slots_free", "gauge", "Slots that no job has", &[], n_free);
}

fn job(page: &mut Page, detail: &JobDetail) {
    let job = &detail.overview;
    let id = job.id.to_string();
    let labels = [("job", id.as_str()), ("name", job.name.as_str())];
    let state = [&labels[..], &[("state", phase(job.state))]].concat();
    page.add("job_state", "gauge", "1 for the state the job is in", &state, 1);
    if job.state.is_terminal() {
        return;
    }
    page.add(
        "job_restarts_total",
        "counter",
        "How often it was restarted",
        &labels,
        job.n_restarts,
    );
    page.add("job_tasks_running", "gauge", "Tasks that run", &labels, job.n_running);
    page.add("job_slots_missing", "gauge", "Slots it waits for", &labels, job.n_missing_slots);
    page.add("job_records_total", "counter", "Records its sources have read", &labels, job.records);
    let completed = detail.checkpoints.iter().find(|c| c.state == CheckpointState::Completed);
    if let Some(checkpoint) = completed {
        let (id, meaning) = (checkpoint.id, "The newest completed checkpoint");
        page.add("job_checkpoint_id", "gauge", meaning, &labels, id);
        let duration_ms = checkpoint.duration_ms.unwrap_or(0);
        page.add("job_checkpoint_duration_ms", "gauge", "How long it took", &labels, duration_ms);
        let size = checkpoint.size_bytes.unwrap_or(0);
        page.add("job_checkpoint_size_bytes", "gauge", "What it stored", &labels, size);
    }
    for sample in &detail.metrics {
        let subtask = sample.subtask.to_string();
        let labels =
            [&labels[..], &[("operator", &sample.operator), ("subtask", &subtask)]].concat();
        let name = format!("task_{}", sample.name);
        let meaning = "As the task counts it";
        match sample.value {
            MetricValue::Count(n) => {
                page.add(&format!("{name}_total"), "counter", meaning, &labels, n);
            }
            MetricValue::Level(n) => page.add(&name, "gauge", meaning, &labels, n),
            MetricValue::Distribution { n, p50, p99, max } => {
                page.add(&format!("{name}_count"), "counter", meaning, &labels, n);
                for (quantile, value) in [("0.5", p50), ("0.99", p99), ("1", max)] {
                    let labels = [&labels[..], &[("quantile", quantile)]].concat();
                    page.add(&name, "gauge", meaning, &labels, value);
                }
            }
        }
    }
}

/// The lines, by metric: the format wants those of one together.
#[derive(Default)]
struct Page {
    metrics: BTreeMap<String, Metric>,
}

struct Metric {
    kind: &'static str,
    meaning: String,
    lines: String,
}

impl Page {
    fn add(
        &mut self,
        name: &str,
        kind: &'static str,
        meaning: &str,
        labels: &[(&str, &str)],
        value: impl ToString,
    ) {
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let name: String = "millstream_".chars().chain(name.chars().map(word)).collect();
        let metric = self.metrics.entry(name.clone()).or_insert_with(|| Metric {
            kind,
            meaning: meaning.to_owned(),
            lines: String::new(),
        });
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        metric.lines.push_str(&format!("{name}{labels} {}\n", value.to_string()));
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, metric) in &self.metrics {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name} {}", metric.meaning);
            let _ = writeln!(text, "# TYPE {name} {}", metric.kind);
            text.push_str(&metric.lines);
        }
        text
    }
}

/// The value of a label: job names may hold anything.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_metric_stand_together_and_labels_are_escaped() {
        let mut page = Page::default();
        page.add("b", "gauge", "Second", &[("job", "a \"b\"\n\\")], 1);
        page.add("a.x", "counter", "First", &[], 2);
        page.add("b", "gauge", "Second", &[], -3);
        let expected = "\
# HELP millstream_a_x First
# TYPE millstream_a_x counter
millstream_a_x 2
# HELP millstream_b Second
# TYPE millstream_b gauge
millstream_b{job=\"a \\\"b\\\"\\n\\\\\"} 1
millstream_b -3
";
        assert_eq!(page.to_text(), expected);
    }
}
