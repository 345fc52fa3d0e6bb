//! Runs the stories in `testdata/coordinator/*.txt`: a command a line, begun by the time, and below `----`
//! what came of it. The world of `world.rs` looks for what no story tells.

mod world;

use super::coordinator::MAX_ABORTED;
use super::{CheckpointConfig, Coordinator, Effect, Input};
use millstream_model::{CheckpointId, Error, Machine, SnapshotKind};
use std::fmt::Write;

/// `job 3 interval 1000 retained 2`: the number of tasks, and what is not the default.
fn coordinator(line: &str) -> Coordinator<usize> {
    let mut words = line.split_whitespace();
    let mut number = || words.next().map(|word| word.parse::<u64>());
    let n_tasks = number().unwrap().unwrap();
    let mut config = CheckpointConfig::default();
    let mut words = line.split_whitespace().skip(1);
    while let Some(key) = words.next() {
        let value = words.next().unwrap().parse().unwrap();
        match key {
            "interval" => config.interval_ms = Some(value),
            "pause" => config.min_pause_ms = value,
            "timeout" => config.timeout_ms = value,
            "tolerable" => config.tolerable_failures = Some(value as u32),
            "retained" => config.retained = value as usize,
            other => panic!("unknown option {other}"),
        }
    }
    Coordinator::new(config, n_tasks as usize)
}

/// Those that are named, or all.
fn tasks(words: &[&str], n_tasks: usize) -> Vec<usize> {
    match words {
        [] => (0..n_tasks).collect(),
        words => words.iter().map(|word| word.parse().unwrap()).collect(),
    }
}

/// The inputs of one line; `acked all` is one per task.
fn inputs(command: &str, n_tasks: usize) -> Vec<Input<usize>> {
    let words: Vec<_> = command.split_whitespace().collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let savepoint = |kind| Input::TriggerSavepoint { request: number(1), kind };
    let input = match words[0] {
        "restored" => Input::Restored { checkpoint: CheckpointId(number(1)) },
        "started" => Input::Started {
            first_id: number(1),
            attempt: number(2) as u32,
            tasks: tasks(&words[3..], n_tasks),
        },
        "stopped" => Input::Stopped { tasks: tasks(&words[1..], n_tasks) },
        "tick" => Input::Tick,
        "savepoint" => savepoint(SnapshotKind::Savepoint),
        "checkpoint" => savepoint(SnapshotKind::Checkpoint),
        "stop" => savepoint(SnapshotKind::Stop { drain: false }),
        "drain" => savepoint(SnapshotKind::Stop { drain: true }),
        "acked" => {
            let tasks = if words[1] == "all" {
                0..n_tasks
            } else {
                number(1) as usize..number(1) as usize + 1
            };
            let acked = |task| Input::Acked {
                task,
                checkpoint: CheckpointId(number(2)),
                attempt: number(3) as u32,
                snapshot: task,
                ended: words.get(4) == Some(&"ended"),
            };
            return tasks.map(acked).collect();
        }
        "declined" => Input::Declined {
            task: number(1) as usize,
            checkpoint: CheckpointId(number(2)),
            attempt: number(3) as u32,
            error: Error::external("no space left"),
        },
        "ended" => Input::TaskEnded { task: number(1) as usize, attempt: number(2) as u32 },
        "stored" => Input::Stored { checkpoint: CheckpointId(number(1)) },
        "store-failed" => Input::StoreFailed {
            checkpoint: CheckpointId(number(1)),
            error: Error::external("the disk is gone"),
        },
        other => panic!("unknown command {other}"),
    };
    vec![input]
}

fn describe(effect: &Effect<usize>) -> String {
    match effect {
        Effect::Trigger { barrier } => format!("trigger {} {:?}", barrier.checkpoint, barrier.kind),
        Effect::Store { checkpoint, kind, request, snapshots } => {
            let request =
                request.map_or(String::new(), |request| format!(" for request {request}"));
            format!("store {checkpoint} {kind:?}{request}: tasks {snapshots:?}")
        }
        Effect::NotifyComplete(id) => format!("notify complete {id}"),
        Effect::NotifyAborted(id) => format!("notify aborted {id}"),
        Effect::Discard { checkpoint } => format!("discard {checkpoint}"),
        Effect::Subsume { checkpoint } => format!("subsume {checkpoint}"),
        Effect::SavepointDone { request, checkpoint } => {
            format!("request {request}: done, {checkpoint}")
        }
        Effect::SavepointFailed { request, error } => format!("request {request}: {error}"),
        Effect::Failed { checkpoint, error } => format!("failed {checkpoint}: {error}"),
        Effect::FailJob { error } => format!("fail job: {error}"),
        Effect::Release(id) => format!("release {id}"),
        Effect::StopJob(id) => format!("stop job {id}"),
        Effect::WakeAt(at_ms) => format!("wake at {at_ms}"),
    }
}

fn standing(coordinator: &Coordinator<usize>) -> String {
    let pending = match (coordinator.pending(), coordinator.is_storing()) {
        (None, _) => "nothing pending".into(),
        (Some(id), false) => format!("{id} pending"),
        (Some(id), true) => format!("{id} being stored"),
    };
    let retained: Vec<_> = coordinator.retained().map(|id| id.0).collect();
    let latest = coordinator.latest().map_or("nothing".into(), |id| id.to_string());
    format!("{pending}, retained {retained:?}, would restore {latest}")
}

fn run(story: &str) -> String {
    let mut out = String::new();
    let mut machine = None;
    for block in story.split("\n\n").filter(|b| !b.trim().is_empty()) {
        let mut effects = Vec::new();
        let mut acts = false;
        for line in block.lines().take_while(|l| *l != "----") {
            writeln!(out, "{line}").unwrap();
            if line.starts_with('#') {
                continue;
            }
            acts = true;
            if let Some(job) = line.strip_prefix("job ") {
                machine = Some(coordinator(job));
                continue;
            }
            let coordinator = machine.as_mut().unwrap();
            let (now_ms, command) = line.trim_start().split_once(' ').unwrap();
            for input in inputs(command, coordinator.n_tasks) {
                coordinator.step(now_ms.parse().unwrap(), input, &mut effects);
            }
        }
        if acts {
            writeln!(out, "----").unwrap();
            for effect in &effects {
                writeln!(out, "{}", describe(effect)).unwrap();
            }
            writeln!(out, "({})", standing(machine.as_ref().unwrap())).unwrap();
        }
        writeln!(out).unwrap();
    }
    out
}

#[test]
fn stories() {
    crate::stories::hold("coordinator", run);
}

#[test]
fn only_so_many_given_up_checkpoints_are_remembered() {
    let config = CheckpointConfig { interval_ms: Some(1), ..CheckpointConfig::default() };
    let mut coordinator = Coordinator::<usize>::new(config, 1);
    let mut effects = Vec::new();
    coordinator.step(0, Input::Started { first_id: 0, attempt: 0, tasks: vec![0] }, &mut effects);
    for now_ms in 1..=2 * MAX_ABORTED as u64 {
        coordinator.step(now_ms, Input::Tick, &mut effects);
        let checkpoint = coordinator.pending().unwrap();
        let error = Error::external("no space left");
        let declined = Input::Declined { task: 0, checkpoint, attempt: 0, error };
        coordinator.step(now_ms, declined, &mut effects);
    }
    assert_eq!(coordinator.aborted.len(), MAX_ABORTED);
    let newest = *coordinator.aborted.last().unwrap();
    effects.clear();
    let late = Input::Acked { task: 0, checkpoint: newest, attempt: 0, snapshot: 0, ended: false };
    coordinator.step(0, late, &mut effects);
    assert!(matches!(effects[0], Effect::Discard { checkpoint } if checkpoint == newest));
}
