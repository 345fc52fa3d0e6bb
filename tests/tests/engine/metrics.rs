//! What tasks measure of themselves: counts are exact whoever steps them, times are there while they pass, and nothing
//! is measured that `docs/metrics.md` does not explain.

use super::{Way, endless, until};
use millstream::prelude::*;
use millstream::runtime::metrics::MetricValue;
use millstream::runtime::task::{
    ALIGNMENT, BACKPRESSURED, BATCHES_IN, BATCHES_OUT, BUSY, BYTES_OUT, RECORDS_IN, RECORDS_OUT,
    STATE_BYTES, WATERMARK,
};
use millstream_tests::data::workspace_root;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const N: u64 = 10_000;

type Metrics = BTreeMap<(String, String, usize), MetricValue>;

/// The values of all subtasks.
fn values<'m>(metrics: &'m Metrics, operator: &str, name: &str) -> Vec<&'m MetricValue> {
    let of = metrics.iter().filter(|((o, n, _), _)| o == operator && n == name);
    let values: Vec<_> = of.map(|(_, value)| value).collect();
    assert!(!values.is_empty(), "`{operator}` has no `{name}`: {metrics:?}");
    values
}

/// A counter, over all subtasks.
fn count(metrics: &Metrics, operator: &str, name: &str) -> u64 {
    let of = |value: &&MetricValue| match value {
        MetricValue::Count(n) => *n,
        other => panic!("`{name}` of `{operator}` is no counter: {other:?}"),
    };
    values(metrics, operator, name).iter().map(of).sum()
}

#[test]
fn every_record_is_counted_once_at_each_end() {
    for way in Way::all() {
        let env = way.environment();
        let numbers = env.generate(N, |i| i).name("numbers").rebalance();
        let (left, right) = (numbers.clone(), numbers);
        let left = left.filter(|i| i % 2 == 0).name("even");
        let right = right.map(|i| i + 1).name("next");
        either(left, right).name("pass").rebalance().map(|i| i).name("last").discard();
        let metrics = env.execute("job").unwrap().metrics();
        let records =
            |operator| [RECORDS_IN, RECORDS_OUT].map(|name| count(&metrics, operator, name));
        assert_eq!(records("numbers"), [0, 2 * N], "{way:?}");
        assert_eq!(records("even"), [N, N / 2], "{way:?}");
        assert_eq!(records("next"), [N, N], "{way:?}");
        assert_eq!(records("pass"), [N + N / 2, N + N / 2], "{way:?}");
        let is_fused = way.chaining;
        assert_eq!(records("last"), [N + N / 2, if is_fused { 0 } else { N + N / 2 }], "{way:?}");
        let batches = |name, operators: &[&str]| {
            operators.iter().map(|operator| count(&metrics, operator, name)).sum::<u64>()
        };
        let (sent, taken) =
            (batches(BATCHES_OUT, &["numbers"]), batches(BATCHES_IN, &["even", "next"]));
        assert_eq!(sent, taken, "{way:?}");
        assert!(sent >= 2 * N / way.batch_size as u64, "{way:?}");
        assert_eq!(
            batches(BATCHES_OUT, &["even", "next"]),
            batches(BATCHES_IN, &["pass"]),
            "{way:?}"
        );
        assert_eq!(batches(BATCHES_OUT, &["pass"]), batches(BATCHES_IN, &["last"]), "{way:?}");
        assert!(count(&metrics, "numbers", BYTES_OUT) >= 2 * N, "{way:?}");
    }
}

/// What comes through either input.
fn either(left: DataStream<u64>, right: DataStream<u64>) -> DataStream<u64> {
    let pass = |i, out: &mut Collector<'_, u64>| {
        out.emit(i);
        Ok(())
    };
    left.rebalance().connect(right.rebalance()).co_process(pass, pass)
}

#[test]
fn a_slow_sink_shows_at_its_source() {
    for way in Way::few() {
        // One record is a batch, and there is room for one.
        let env = way.environment_with(&[("network-memory", "4 KiB")]);
        let blobs = env.generate(1000, |i| vec![i as u8; 3000]).name("blobs");
        let sums = blobs.rebalance().map(|blob| blob.iter().map(|b| u64::from(*b)).sum::<u64>());
        sums.name("slow").discard();
        let metrics = env.execute("job").unwrap().metrics();
        assert!(count(&metrics, "blobs", BACKPRESSURED) > 0, "{way:?}: {metrics:?}");
        assert!(count(&metrics, "blobs", BUSY) > 0 && count(&metrics, "slow", BUSY) > 0, "{way:?}");
    }
}

#[test]
fn a_task_that_is_stuck_shows_it_while_it_is() {
    for way in Way::few() {
        let env = way.environment_with(&[("network-memory", "4 KiB")]);
        let asked = Arc::new(AtomicU64::new(0));
        let calls = Arc::clone(&asked);
        let never = AsyncCall::new(move |_: u64| {
            calls.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<u64>>()
        });
        endless(&env).rebalance().async_map(never.capacity(3)).parallelism(1).discard();
        let job = env.execute_async("stuck").unwrap();
        until("no call is left", || asked.load(Ordering::Relaxed) == 3);
        until("its source waits", || job.counter(BACKPRESSURED) > 0);
        // Nothing happens any more, but time.
        let before = job.counter(BACKPRESSURED);
        until("time passes", || job.counter(BACKPRESSURED) > before + 1000);
        job.cancel();
        let metrics = job.wait().unwrap().metrics();
        assert!(count(&metrics, "endless", BACKPRESSURED) > 0, "{way:?}: {metrics:?}");
    }
}

#[test]
fn the_watermark_ends_where_the_last_one_was() {
    const LAST: u64 = 5_000;
    let one = |driver| Way { driver, batch_size: 7, parallelism: 1, chaining: true };
    for way in ["cooperative", "threads"].map(one) {
        let env = way.environment();
        // Of the last times of either stream.
        let seen = [0, 0].map(|_| Arc::new(AtomicU64::new(0)));
        let source = |last: u64| {
            let times = Watermarks::monotonous().on(|i: &u64| *i as i64);
            env.source(Generator::unbounded(move |i| i.min(last)), times)
        };
        let left = source(LAST).name("left");
        let right = source(LAST - 2_000).name("right");
        let counts = seen.clone();
        let both = either(left, right).name("both").rebalance();
        let ends = both.filter(move |i| {
            for (last, count) in [LAST, LAST - 2_000].iter().zip(&counts) {
                count.fetch_add(u64::from(i == last), Ordering::Relaxed);
            }
            false
        });
        ends.name("last").discard();
        let job = env.execute_async("job").unwrap();
        let is_over = || seen.iter().all(|count| count.load(Ordering::Relaxed) > LAST);
        until("the streams have come to their last times", is_over);
        job.cancel();
        let metrics = job.wait().unwrap().metrics();
        let at = |time: u64| [MetricValue::Level(time as i64 - 1)];
        let is_at =
            |operator, time| values(&metrics, operator, WATERMARK).into_iter().eq(&at(time));
        assert!(is_at("left", LAST) && is_at("right", LAST - 2_000), "{way:?}: {metrics:?}");
        assert!(is_at("both", LAST - 2_000) && is_at("last", LAST - 2_000), "{way:?}: {metrics:?}");
    }
    for way in Way::few() {
        let env = way.environment();
        env.generate(100, |i| i).name("numbers").rebalance().map(|i| i).name("last").discard();
        let metrics = env.execute("job").unwrap().metrics();
        for operator in ["numbers", "last"] {
            let mut ends = values(&metrics, operator, WATERMARK).into_iter();
            assert!(ends.all(|end| *end == MetricValue::Level(i64::MAX)), "{way:?}: {metrics:?}");
        }
    }
}

/// A job with a checkpoint at its end.
fn with_a_checkpoint() -> Metrics {
    let dir = tempfile::tempdir().unwrap();
    let env = Environment::builder()
        .parallelism(2)
        .set("checkpoint-dir", &dir.path().display().to_string())
        .build()
        .unwrap();
    let keyed = env.generate(N, |i| i).name("numbers").key_by(|i| i % 100);
    keyed.count().name("counts").uid("counts").discard();
    env.execute("job").unwrap().metrics()
}

#[test]
fn a_checkpoint_shows_how_long_barriers_waited_and_how_much_was_written() {
    let metrics = with_a_checkpoint();
    let states = values(&metrics, "counts", STATE_BYTES);
    let is_some = |value: &&MetricValue| matches!(value, MetricValue::Level(n) if *n > 0);
    assert!(states.len() == 2 && states.iter().all(is_some), "{metrics:?}");
    // The inputs have ended when the only checkpoint comes, so no barrier comes through them; sources have none.
    assert!(!metrics.keys().any(|(operator, name, _)| operator == "numbers" && name == ALIGNMENT));
}

#[test]
fn a_barrier_is_measured_wherever_channels_wait_for_each_other() {
    for way in Way::few() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().display().to_string();
        let env = way.environment_with(&[("checkpoint-dir", &folder)]);
        endless(&env).key_by(|i| i % 100).count().name("counts").uid("counts").discard();
        let job = env.execute_async("job").unwrap();
        for n in 0..3 {
            job.savepoint(dir.path().join(n.to_string())).unwrap();
        }
        job.cancel();
        let metrics = job.wait().unwrap().metrics();
        let waits = values(&metrics, "counts", ALIGNMENT);
        assert_eq!(waits.len(), way.parallelism, "{way:?}: {metrics:?}");
        let is_counted =
            |value: &&MetricValue| matches!(value, MetricValue::Distribution { n: 3, .. });
        assert!(waits.iter().all(is_counted), "{way:?}: {metrics:?}");
    }
}

/// Every file of code below a folder, without its tests and comments, in one line.
fn code_below(folder: &Path, code: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            code_below(&path, code);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            code.push(lines.collect::<Vec<_>>().join(" "));
        }
    }
}

/// The literals and constants among the arguments of every call of `function`.
fn named(code: &str, function: &str, constants: &BTreeMap<String, String>) -> Vec<String> {
    let calls = code.split(function).skip(1);
    let arguments =
        calls.flat_map(|rest| rest.split([')', '{', ';']).next().unwrap_or("").split(','));
    let name = |argument: &str| {
        let word = argument.trim().rsplit("::").next().unwrap_or_default();
        let literal = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
        literal.map(str::to_owned).or_else(|| constants.get(word).cloned())
    };
    arguments.filter_map(name).collect()
}

#[test]
fn every_metric_is_explained() {
    let root = workspace_root();
    let page = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let explained: BTreeSet<&str> = rows.collect();
    let mut code = Vec::new();
    for folder in ["runtime/src", "connectors/src", "client/src"] {
        code_below(&root.join(folder), &mut code);
    }
    let mut constants = BTreeMap::new();
    for text in &code {
        for definition in text.split("const ").skip(1) {
            if let Some((name, value)) = definition.split_once(": &str = \"")
                && let Some((value, _)) = value.split_once('"')
            {
                constants.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    let mut used: BTreeSet<String> = code
        .iter()
        .flat_map(|text| ["counter(", "gauge(", "histogram("].map(|call| (text, call)))
        .flat_map(|(text, call)| named(text, call, &constants))
        .collect();
    used.extend(with_a_checkpoint().into_keys().map(|(_, name, _)| name));
    for own in [
        RECORDS_IN,
        STATE_BYTES,
        ALIGNMENT,
        BUSY,
        "records",
        "late_records_dropped",
        "malformed_lines",
    ] {
        assert!(used.contains(own), "`{own}` was not found: {used:?}");
    }
    // What processes count of themselves.
    let mut processes = Vec::new();
    for folder in ["jobmanager/src/process", "jobmanager/src/rest", "taskmanager/src/process"] {
        code_below(&root.join(folder), &mut processes);
    }
    for text in &processes {
        let literals = |call| {
            let names = named(text, call, &BTreeMap::new()).into_iter();
            names.filter(|name| is_name(name) && !KINDS.contains(&name.as_str()))
        };
        used.extend(literals("page.add(").chain(literals("families.add(")));
        used.extend(literals(" own(").map(|name| format!("taskmanager_{name}")));
        let fields = text.split(": Counter,").filter_map(|before| before.rsplit(' ').next());
        let fields = fields.filter(|name| is_name(name) && text.contains(&format!("&self.{name}")));
        used.extend(fields.map(|name| format!("jobmanager_{name}_total")));
    }
    for own in ["jobmanager_store_writes_total", "taskmanager_hosts", "job_restarts_total"] {
        assert!(used.contains(own), "`{own}` was not found: {used:?}");
    }
    let used: BTreeSet<&str> = used.iter().map(String::as_str).collect();
    let missing: Vec<_> = used.difference(&explained).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not explain {missing:?}");
    let unused: Vec<_> = explained.difference(&used).collect();
    assert!(unused.is_empty(), "docs/metrics.md explains what there is not: {unused:?}");
}

const KINDS: [&str; 2] = ["counter", "gauge"];

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}
