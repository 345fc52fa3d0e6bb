//! The stored transcripts: cases of an independent implementation, step by step.

use super::super::build::{WindowSpec, aggregate, content};
use super::super::count::count_window;
use super::super::{BoxedOperator, Elements, Session, Sliding, Tumbling};
use super::kit::{Bag, Fired, LATE, Outlet, Rec, Rig, Show, context, rec, selector};
use flate2::read::MultiGzDecoder;
use millstream_model::MAX_TIME;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

pub(super) fn cases() -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files =
        ["examples/data/expected/transcripts.jsonl.gz", "tests/data/transcripts-more.jsonl.gz"];
    let lines = files.iter().flat_map(|name| {
        let path = root.join(name);
        let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        BufReader::new(MultiGzDecoder::new(file)).lines()
    });
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

pub(super) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn spec(case: &Value) -> WindowSpec<Rec> {
    let window = &case["window"];
    let ms = |name: &str| Duration::from_millis(int(&window[name]) as u64);
    let offset = || int(&window["offset"]);
    let spec = match window["type"].as_str() {
        Some("tumbling") => WindowSpec::new(Tumbling::of(ms("size")).offset(offset())),
        Some("sliding") => WindowSpec::new(Sliding::of(ms("size"), ms("slide")).offset(offset())),
        Some("session") => WindowSpec::new(Session::gap(ms("gap"))),
        other => panic!("no such window: {other:?}"),
    };
    let lateness = Duration::from_millis(int(&case["allowed_lateness"]) as u64);
    spec.unwrap().allowed_lateness(lateness).late_to(LATE)
}

/// The firings of a step, in the order in which the cases list them.
fn fired(rig: &mut Rig<Fired>) -> Vec<Value> {
    let mut rows: Vec<_> = rig.take().into_iter().map(|(fired, _)| fired).collect();
    for (_, _, values) in &mut rows {
        values.sort_unstable();
    }
    rows.sort();
    rows.into_iter()
        .map(|(key, w, values)| {
            serde_json::json!({"key": key, "start": w.start, "end": w.end, "values": values})
        })
        .collect()
}

fn element(step: &Value) -> (Rec, i64) {
    let element = &step["element"];
    let record = rec(element["key"].as_str().unwrap(), int(&element["value"]));
    (record, element["ts"].as_i64().unwrap_or(0))
}

fn run_windows(case: &Value, operator: BoxedOperator<Rec, Fired>, outlet: Outlet) {
    let name = &case["name"];
    let mut rig = Rig::new(operator, outlet);
    for (n, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        match step.get("watermark") {
            Some(watermark) => rig.watermark(int(watermark)),
            None => {
                let (record, time) = element(step);
                rig.element(record, time);
            }
        }
        assert_eq!(Value::Array(fired(&mut rig)), step["expect"], "{name}, step {n}: {step}");
        let late = !rig.take_late().is_empty();
        assert_eq!(late, step["late"] == true, "{name}, step {n}: {step} is late");
    }
    rig.watermark(MAX_TIME);
    assert_eq!(Value::Array(fired(&mut rig)), case["expect_at_end"], "{name}, at the end");
}

#[test]
fn window_cases_come_out_step_by_step() {
    let cases: Vec<_> = cases().into_iter().filter(|case| case["kind"] == "window").collect();
    assert!(cases.len() > 450, "{} cases", cases.len());
    for (n, case) in (0..).zip(&cases) {
        let spec = spec(case);
        for outlet in [Outlet::Open, Outlet::Stuttering(n)] {
            for invertible in [true, false] {
                let bag = Bag { invertible };
                let operator = aggregate(&spec, bag, Show, selector(), context().0).unwrap();
                run_windows(case, operator, outlet);
            }
            let operator = content(&spec, Elements, Show, selector(), context().0).unwrap();
            run_windows(case, operator, outlet);
        }
    }
}

#[test]
fn count_cases_come_out_step_by_step() {
    let cases: Vec<_> = cases().into_iter().filter(|case| case["kind"] == "count_window").collect();
    assert!(cases.len() > 60, "{} cases", cases.len());
    for case in &cases {
        let n = int(&case["count"]) as u64;
        let operator = count_window(n, Elements, Show, selector(), context().0).unwrap();
        let mut rig = Rig::new(operator, Outlet::Open);
        for (n, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            let (record, time) = element(step);
            rig.element(record, time);
            let mut rows = fired(&mut rig);
            for row in rows.iter_mut().filter_map(Value::as_object_mut) {
                row.retain(|field, _| field == "key" || field == "values");
            }
            assert_eq!(Value::Array(rows), step["expect"], "{}, step {n}", case["name"]);
        }
    }
}
