//! Runs the stories in `testdata/scheduler/*.txt`: a command a line, and below `----` what came of it. Then
//! random histories with a host that obeys.

use super::{Effect, ExecutionState, Input, JobState, Scheduler};
use crate::restart::RestartStrategy;
use millstream_model::job_graph::{Guarantee, JobEdge, JobGraph, JobVertex, Ship};
use millstream_model::{Error, Machine};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Vertices of these parallelisms, in one region; or, `apart`, with a region for each subtask.
fn graph(parallelisms: &[usize], apart: bool) -> JobGraph {
    let vertex = |&parallelism: &usize| JobVertex {
        operators: Vec::new(),
        parallelism,
        max_parallelism: 128,
        slot_sharing_group: "default".into(),
        recovers_apart: apart,
    };
    let edge =
        |to| JobEdge { from: to - 1, from_node: 0, tag: None, to, input: 0, ship: Ship::Hash };
    let edges = if apart { 1..1 } else { 1..parallelisms.len() };
    JobGraph {
        name: "test".into(),
        vertices: parallelisms.iter().map(vertex).collect(),
        edges: edges.map(edge).collect(),
        bounded: true,
        guarantee: Guarantee::OncePerRun,
    }
}

/// `2 1 restarts 3 after 50`: the parallelism of each vertex, and how often the job is restarted. `apart 2 1`: no task sends
/// to another.
fn scheduler(job: &str) -> Scheduler {
    let (sizes, restarts) = job.split_once(" restarts ").unwrap_or((job, ""));
    let (sizes, apart) = sizes.strip_prefix("apart ").map_or((sizes, false), |s| (s, true));
    let sizes: Vec<usize> = sizes.split_whitespace().map(|s| s.parse().unwrap()).collect();
    let scheduler = Scheduler::new(&graph(&sizes, apart));
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
        "deploy-failed" => Input::DeployFailed {
            tasks: words.map(|word| word.parse().unwrap()).collect(),
            error: Error::external("no threads left"),
        },
        "torn" => Input::FailTasks {
            tasks: words.map(|word| word.parse().unwrap()).collect(),
            error: Error::external("a connection broke"),
            retry: true,
        },
        "couple" => Input::Couple,
        "resume" => Input::Resume {
            attempt: task() as u32,
            of_tasks: words.map(|word| word.parse().unwrap()).collect(),
        },
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
        Effect::CancelTasks(tasks) => format!("cancel {tasks:?}"),
        Effect::CloseTasks(tasks) => format!("close {tasks:?}"),
        Effect::AlsoFailed(error) => format!("also failed: {error}"),
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
    crate::stories::hold("scheduler", run);
}

/// A host that runs what it is told to, and ends what it is told to end.
struct Host {
    scheduler: Scheduler,
    /// The tasks that have not ended.
    running: BTreeSet<usize>,
    /// Those that have, and were not closed.
    over: BTreeSet<usize>,
    /// Those that are to end.
    cancelled: BTreeSet<usize>,
    n_deployed: u32,
    may_restart: bool,
    ended: Option<(JobState, bool)>,
}

impl Host {
    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.scheduler.step(0, input, &mut effects);
        for effect in effects {
            assert_eq!(self.ended, None, "{effect:?} after the end");
            match effect {
                Effect::Deploy { tasks, attempt } => {
                    for task in &tasks {
                        assert!(!self.running.contains(task), "task {task} runs");
                        assert!(!self.over.contains(task), "task {task} was not closed");
                    }
                    assert_eq!(attempt, self.n_deployed);
                    self.n_deployed += 1;
                    let together = self.all_of_their_regions(&tasks);
                    assert_eq!(together, tasks, "a part of a region");
                    self.running.extend(tasks);
                    self.may_restart = false;
                }
                Effect::CancelTasks(tasks) => {
                    assert!(tasks.iter().all(|task| self.cancelled.insert(*task)), "told twice");
                }
                Effect::CloseTasks(tasks) => {
                    for task in tasks {
                        assert!(self.over.remove(&task), "task {task} is not over");
                        assert!(self.cancelled.remove(&task), "task {task} was not to end");
                    }
                }
                Effect::AlsoFailed(_) => {}
                Effect::RestartAfter { .. } => {
                    assert!(!std::mem::replace(&mut self.may_restart, true), "asked for twice");
                }
                Effect::JobEnded(state, error) => {
                    assert!(self.running.is_empty(), "tasks are left");
                    assert!(state.is_terminal());
                    self.ended = Some((state, error.is_some()));
                }
            }
        }
    }

    fn all_of_their_regions(&self, tasks: &[usize]) -> Vec<usize> {
        let executions = self.scheduler.executions();
        let is_with = |e: &super::Execution| {
            tasks.iter().any(|task| executions[*task].region() == e.region())
        };
        (0..executions.len()).filter(|task| is_with(&executions[*task])).collect()
    }

    fn end_task(&mut self, nth: usize, end: fn(usize) -> Input, must_be_cancelled: bool) {
        let may_end = |task: &&usize| !must_be_cancelled || self.cancelled.contains(*task);
        let tasks: Vec<usize> = self.running.iter().filter(may_end).copied().collect();
        if !tasks.is_empty() {
            let task = tasks[nth % tasks.len()];
            self.running.remove(&task);
            self.over.insert(task);
            self.step(end(task));
        }
    }

    fn act(&mut self, action: u8, nth: usize) {
        let lost = || Error::external("lost");
        match action {
            0..=9 => self.end_task(nth, Input::TaskFinished, false),
            10..=11 => {
                self.end_task(nth, |t| Input::TaskFailed(t, Error::user("it broke")), false);
            }
            12..=19 => self.end_task(nth, Input::TaskCancelled, true),
            20..=27 if self.may_restart => self.step(Input::Restart),
            // At the wrong time it must not do anything.
            28 => self.step(Input::Restart),
            29 => self.step(Input::Start),
            30 if nth.is_multiple_of(4) => self.step(Input::Cancel),
            30 => self.step(Input::Couple),
            31 if nth.is_multiple_of(2) => {
                let tasks = self.running.iter().nth(nth % 7).copied().into_iter().collect();
                self.step(Input::FailTasks { tasks, error: lost(), retry: true });
            }
            31 => self.step(Input::Fail { error: lost(), retry: nth.is_multiple_of(5) }),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn whatever_happens_each_task_runs_once_at_a_time_and_the_job_ends_once(
        sizes in prop::collection::vec(1..3usize, 1..3),
        apart in any::<bool>(),
        attempts in 0..4u32,
        actions in prop::collection::vec((0..32u8, any::<usize>()), 0..100),
    ) {
        let strategy = RestartStrategy::FixedDelay { attempts, delay_ms: 5 };
        let scheduler = Scheduler::new(&graph(&sizes, apart)).with_restarts(strategy);
        let mut host = Host {
            scheduler,
            running: BTreeSet::new(),
            over: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            n_deployed: 0,
            may_restart: false,
            ended: None,
        };
        host.step(Input::Start);
        for (action, nth) in actions {
            host.act(action, nth);
        }
        host.step(Input::Cancel);
        while !host.running.is_empty() {
            host.end_task(0, Input::TaskCancelled, false);
        }
        let (state, has_error) = host.ended.expect("all tasks have ended");
        prop_assert_eq!(state, host.scheduler.state());
        prop_assert_eq!(has_error, state == JobState::Failed);
        let finished = |e: &super::Execution| e.state() == ExecutionState::Finished;
        if state == JobState::Finished {
            prop_assert!(host.scheduler.executions().iter().all(finished));
        }
        prop_assert!(host.n_deployed <= attempts + 1);
    }
}
