//! Runs the stories in `testdata/scheduler/*.txt`: a command a line, and below `----` what came of it.

use super::{Effect, Input, Scheduler};
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

fn input(line: &str) -> Input {
    let mut words = line.split_whitespace();
    let command = words.next().unwrap();
    let mut task = || words.next().unwrap().parse().unwrap();
    match command {
        "start" => Input::Start,
        "cancel" => Input::Cancel,
        "deploy-failed" => Input::DeployFailed(Error::external("no threads left")),
        "finished" => Input::TaskFinished(task()),
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
        Effect::Deploy(tasks) => format!("deploy {tasks:?}"),
        Effect::CancelTasks => "cancel tasks".into(),
        Effect::JobEnded(state, None) => format!("ended: {state:?}"),
        Effect::JobEnded(state, Some(error)) => format!("ended: {state:?}: {error}"),
    }
}

fn run(story: &str) -> String {
    let mut out = String::new();
    let mut scheduler = None;
    for block in story.split("\n\n").filter(|b| !b.trim().is_empty()) {
        let mut effects = Vec::new();
        for line in block.lines().take_while(|l| *l != "----") {
            writeln!(out, "{line}").unwrap();
            if line.starts_with('#') {
                continue;
            }
            if let Some(sizes) = line.strip_prefix("job ") {
                let sizes: Vec<usize> =
                    sizes.split_whitespace().map(|s| s.parse().unwrap()).collect();
                scheduler = Some(Scheduler::new(&graph(&sizes)));
                continue;
            }
            scheduler.as_mut().unwrap().step(0, input(line), &mut effects);
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
