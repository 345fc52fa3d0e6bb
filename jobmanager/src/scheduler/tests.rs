//! Runs the stories in `testdata/scheduler/*.txt`: a command a line, and below `----` what came of it.

use super::{Effect, Input, Scheduler};
use crate::restart::RestartStrategy;
use millstream_model::job_graph::{Guarantee, JobGraph, JobVertex};
use millstream_model::{Error, Machine};
use std::fmt::Write;
use std::path::Path;

fn graph(parallelisms: &[usize]) -> JobGraph {
    let vertex = |&parallelism: &usize| JobVertex {
        operators: Vec::new(),
        parallelism,
        max_parallelism: 128,
        slot_sharing_group: "default".into(),
    };
    JobGraph {
        name: "test".into(),
        vertices: parallelisms.iter().map(vertex).collect(),
        edges: Vec::new(),
        bounded: true,
        guarantee: Guarantee::OncePerRun,
    }
}

/// `2 1 restarts 3 after 50`: the parallelism of each vertex, and how often the job is restarted.
fn scheduler(job: &str) -> Scheduler {
    let (sizes, restarts) = job.split_once(" restarts ").unwrap_or((job, ""));
    let sizes: Vec<usize> = sizes.split_whitespace().map(|s| s.parse().unwrap()).collect();
    let scheduler = Scheduler::new(&graph(&sizes));
    match restarts.split_whitespace().collect::<Vec<_>>()[..] {
        [] => scheduler,
        ["exponential"] => scheduler.with_restarts(RestartStrategy::exponential()),
        [attempts, "after", delay_ms] => scheduler.with_restarts(RestartStrategy::FixedDelay {
            attempts: attempts.parse().unwrap(),
            delay_ms: delay_ms.parse().unwrap(),
        }),
        _ => panic!("unknown restarts {restarts}"),
    }
}

fn input(line: &str) -> Input {
    let mut words = line.split_whitespace();
    let command = words.next().unwrap();
    let mut task = || words.next().unwrap().parse().unwrap();
    match command {
        "start" => Input::Start,
        "cancel" => Input::Cancel,
        "deploy-failed" => Input::DeployFailed(Error::external("no threads left")),
        "finished" => Input::TaskFinished(task()),
        "restart" => Input::Restart,
        "lost" => {
            Input::Fail { error: Error::external("too many checkpoints failed"), retry: true }
        }
        "damaged" => Input::Fail { error: Error::external("damaged checkpoint"), retry: false },
        "cancelled" => Input::TaskCancelled(task()),
        "failed" => {
            let task = task();
            Input::TaskFailed(task, Error::user(format!("task {task} broke")))
        }
        other => panic!("unknown command {other}"),
    }
}

fn describe(effect: Effect) -> String {
    match effect {
        Effect::Deploy { tasks, attempt: 0 } => format!("deploy {tasks:?}"),
        Effect::Deploy { tasks, attempt } => format!("deploy {tasks:?}, attempt {attempt}"),
        Effect::RestartAfter { delay_ms, error } => format!("restart after {delay_ms}: {error}"),
        Effect::CancelTasks => "cancel tasks".into(),
        Effect::JobEnded(state, None) => format!("ended: {state:?}"),
        Effect::JobEnded(state, Some(error)) => format!("ended: {state:?}: {error}"),
    }
}

fn run(story: &str) -> String {
    let mut out = String::new();
    let mut scheduler = None;
    let mut now_ms = 0;
    for block in story.split("\n\n").filter(|b| !b.trim().is_empty()) {
        let mut effects = Vec::new();
        for line in block.lines().take_while(|l| *l != "----") {
            writeln!(out, "{line}").unwrap();
            if line.starts_with('#') {
                continue;
            }
            if let Some(job) = line.strip_prefix("job ") {
                scheduler = Some(self::scheduler(job));
            } else if let Some(time) = line.strip_prefix("at ") {
                now_ms = time.parse().unwrap();
            } else {
                scheduler.as_mut().unwrap().step(now_ms, input(line), &mut effects);
            }
        }
        writeln!(out, "----").unwrap();
        for effect in effects {
            writeln!(out, "{}", describe(effect)).unwrap();
        }
        writeln!(out, "{:?}\n", scheduler.as_ref().unwrap().state()).unwrap();
    }
    out
}

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/scheduler");
    let mut n_stories = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = run(&expected);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &actual).unwrap();
        } else {
            assert_eq!(actual.trim(), expected.trim(), "{}", path.display());
        }
        n_stories += 1;
    }
    assert!(n_stories > 0);
}
