//! The ways of attempts, as stories: what a rollout is told, and what it wants done, in a few words.

mod regions;
mod restoring;

use super::words::{CAUSE_MS, FINISH_MS};
use super::*;
use millstream_model::CheckpointId;
use millstream_model::job_graph::{Guarantee, JobEdge, JobVertex, Ship};
use millstream_proto::message::{AttemptReport, Begin, HostReport, TaskState};

const A: TaskManagerId = TaskManagerId(0xa);
const B: TaskManagerId = TaskManagerId(0xb);
const C: TaskManagerId = TaskManagerId(0xc);

/// Two vertices of two subtasks: tasks 0 and 2 in the first slot, 1 and 3 in the second. They are of one region, or of two
/// (`Forward`): that of each slot.
fn graph(ship: Ship) -> JobGraph {
    let vertex = || JobVertex {
        operators: Vec::new(),
        parallelism: 2,
        max_parallelism: 128,
        slot_sharing_group: "default".into(),
        recovers_apart: true,
    };
    let edge = JobEdge { from: 0, from_node: 0, tag: None, to: 1, input: 0, ship };
    JobGraph {
        name: "test".into(),
        vertices: vec![vertex(), vertex()],
        edges: vec![edge],
        bounded: true,
        guarantee: Guarantee::OncePerRun,
    }
}

struct Story(Rollout);

fn name(id: TaskManagerId) -> char {
    char::from_digit(id.0 as u32, 16).unwrap()
}

/// An effect in a few words.
fn words(effect: &Effect) -> String {
    let task = |event: &TaskEvent| match event {
        TaskEvent::Finished { task } => format!("task {task} finished"),
        TaskEvent::Failed { task, error } => format!("task {task} failed: {error}"),
        TaskEvent::Cancelled { task } => format!("task {task} cancelled"),
    };
    match effect {
        Effect::RequestSlots(n, in_use) if in_use.is_empty() => format!("request {n} slots"),
        Effect::RequestSlots(n, in_use) => {
            let in_use: String = in_use.iter().map(|id| name(*id)).collect();
            format!("request {n} slots, uses {in_use}")
        }
        Effect::Record(record) => {
            let running = record.running.iter().map(|running| {
                let hosts: String = running.hosts.iter().map(|id| name(*id)).collect();
                let placement = running.placement.iter();
                let placement = placement.map(|n| match *n {
                    NOWHERE => "-".to_owned(),
                    number => number.to_string(),
                });
                let placement = placement.collect::<Vec<_>>().join(", ");
                format!("attempt {} on {hosts} [{placement}]", running.attempt)
            });
            format!("record {}", running.collect::<Vec<_>>().join(" and "))
        }
        Effect::StartHost(id, _) => format!("start {}", name(*id)),
        Effect::StopHost(id) => format!("stop {}", name(*id)),
        Effect::Tell(id, message) => {
            let message = match message {
                ToHost::Prepare { attempt, part: None, .. } => format!("prepare {attempt}"),
                ToHost::Prepare { attempt, part: Some(part), .. } => {
                    format!("prepare {part:?} of {attempt}")
                }
                ToHost::Deploy(d) => format!("deploy {} as host {}", d.attempt, d.me),
                ToHost::Cancel { attempt, tasks } if tasks.len() == 4 => {
                    format!("cancel {attempt}")
                }
                ToHost::Cancel { attempt, tasks } => format!("cancel {tasks:?} of {attempt}"),
                ToHost::Close { attempt, tasks, .. } if tasks.len() == 4 => {
                    format!("close {attempt}")
                }
                ToHost::Close { attempt, tasks, .. } => format!("close {tasks:?} of {attempt}"),
                other => format!("{other:?}").to_lowercase(),
            };
            format!("tell {}: {message}", name(*id))
        }
        Effect::Deployed(0, _) => "deployed".into(),
        Effect::Deployed(attempt, _) => format!("deployed {attempt}"),
        Effect::Failed(_, tasks, error) if tasks.len() == 4 => format!("failed: {error}"),
        Effect::Failed(_, tasks, error) => format!("{tasks:?} failed: {error}"),
        Effect::Restored(_, task) => format!("task {task} restored"),
        Effect::Reachable(attempt) => format!("attempt {attempt} is reachable"),
        Effect::Task(_, event) => task(event),
        Effect::Snapshot(attempt, _) => format!("snapshot of attempt {attempt}"),
        Effect::Adopted { tasks, newest_checkpoint, .. } => {
            let state = |(number, state): &(usize, TaskState)| match state {
                TaskState::Over(event) => task(event),
                state => format!("task {number} {state:?}").to_lowercase(),
            };
            let tasks: Vec<_> = tasks.iter().map(state).collect();
            format!("adopted ({}), newest {:?}", tasks.join(", "), newest_checkpoint.map(|c| c.0))
        }
        Effect::Finished(results, None) => format!("finished: {results:?}"),
        Effect::Finished(_, Some(error)) => format!("finished: {error}"),
    }
}

impl Story {
    fn new() -> Self {
        Story::of(Ship::Hash)
    }

    fn of(ship: Ship) -> Self {
        let timeouts = Timeouts { cancel_ms: 100, reattach_ms: 1000 };
        Story(Rollout::new(&graph(ship), timeouts, LeaderEpoch(3)))
    }

    fn at(&mut self, now_ms: u64, input: Input) -> Vec<String> {
        let mut effects = Vec::new();
        self.0.step(now_ms, input, &mut effects);
        effects.iter().map(words).collect()
    }

    fn on(&mut self, input: Input) -> Vec<String> {
        self.at(0, input)
    }

    fn host(&mut self, id: TaskManagerId, message: FromHost) -> Vec<String> {
        let run = self.run(id);
        self.on(Input::FromHost { id, run, message })
    }

    /// The host there that is counted on.
    fn run(&self, id: TaskManagerId) -> HostRun {
        self.0.hosts.get(&id).map_or_else(HostRun::default, |host| host.run)
    }

    fn ended(&mut self, id: TaskManagerId, error: Error) -> Vec<String> {
        let run = self.run(id);
        self.on(Input::HostEnded { id, run, error })
    }

    fn deploy(&mut self, attempt: u32) -> Vec<String> {
        self.deploy_some(attempt, &[0, 1, 2, 3])
    }

    fn deploy_some(&mut self, attempt: u32, tasks: &[usize]) -> Vec<String> {
        let (tasks, begin) = (tasks.to_vec(), Begin::Fresh);
        self.on(Input::Deploy { attempt, tasks, begin, token: [7; 16] })
    }

    fn ready(&mut self, id: TaskManagerId) -> Vec<String> {
        self.host(id, FromHost::Ready { data_address: ([127, 0, 0, 1], id.0 as u16).into() })
    }

    /// Attempt 0 runs on A and B.
    fn running() -> Self {
        Story::running_as(Ship::Hash)
    }

    fn running_as(ship: Ship) -> Self {
        let mut story = Story::of(ship);
        story.deploy(0);
        story.on(Input::Granted(vec![A, B]));
        story.ready(A);
        story.ready(B);
        story.on(Input::Recorded(Ok(())));
        story.host(A, FromHost::Prepared { attempt: 0, splits: Vec::new() });
        story.host(A, FromHost::Deployed { attempt: 0 });
        assert_eq!(story.host(B, FromHost::Deployed { attempt: 0 }), ["deployed"]);
        story
    }

    fn task(&mut self, id: TaskManagerId, attempt: u32, event: TaskEvent) -> Vec<String> {
        self.host(id, FromHost::Task { attempt, event })
    }
}

fn cancel() -> Input {
    Input::Cancel { tasks: vec![0, 1, 2, 3] }
}

fn close() -> Input {
    Input::Close { tasks: vec![0, 1, 2, 3], again: true }
}

fn gone() -> Error {
    Error::external("gone")
}

#[test]
fn an_attempt_goes_from_slots_over_hosts_and_the_record_to_tasks() {
    let mut story = Story::new();
    assert_eq!(story.deploy(0), ["request 2 slots"]);
    story.on(Input::Missing(1));
    assert_eq!(story.0.slots(), (2, 1));
    assert_eq!(story.on(Input::Granted(vec![A, B])), ["start a", "start b"]);
    assert_eq!(story.0.slots(), (2, 0));
    assert_eq!(story.ready(B), [""; 0]);
    assert_eq!(story.ready(A), ["record attempt 0 on ab [0, 1, 0, 1]"]);
    assert_eq!(story.on(Input::Recorded(Ok(()))), ["tell a: prepare 0"]);
    let prepared = FromHost::Prepared { attempt: 0, splits: Vec::new() };
    let told = ["tell a: deploy 0 as host 0", "tell b: deploy 0 as host 1"];
    assert_eq!(story.host(A, prepared), told);
    assert_eq!(story.host(B, FromHost::Deployed { attempt: 0 }), [""; 0]);
    assert_eq!(story.host(A, FromHost::Deployed { attempt: 0 }), ["deployed"]);
    assert_eq!(story.0.host_of(3), Some(B));
}

#[test]
fn the_tasks_of_a_lost_host_fail_and_the_next_attempt_finds_the_other_running() {
    let mut story = Story::running();
    story.task(B, 0, TaskEvent::Finished { task: 3 });
    let lost = story.on(Input::Lost { id: B, error: gone() });
    assert_eq!(lost, ["task 1 failed: gone"]);
    assert_eq!(story.on(cancel()), ["tell a: cancel 0"]);
    assert_eq!(story.task(A, 0, TaskEvent::Cancelled { task: 0 }), ["task 0 cancelled"]);
    assert_eq!(story.task(A, 0, TaskEvent::Cancelled { task: 0 }), [""; 0], "once is enough");
    assert_eq!(story.task(A, 0, TaskEvent::Cancelled { task: 2 }), ["task 2 cancelled"]);
    assert_eq!(story.on(close()), ["tell a: close 0"]);
    story.deploy(1);
    assert_eq!(story.on(Input::Granted(vec![A, C])), ["start c"]);
    assert_eq!(story.ready(C), ["record attempt 1 on ac [0, 1, 0, 1]"]);
    // What comes late from the first attempt is nobody's.
    assert_eq!(story.task(A, 0, TaskEvent::Finished { task: 1 }), [""; 0]);
}

#[test]
fn a_host_that_does_not_react_is_ended_and_answered_for() {
    let mut story = Story::running();
    story.at(50, cancel());
    story.task(A, 0, TaskEvent::Cancelled { task: 0 });
    story.task(A, 0, TaskEvent::Cancelled { task: 2 });
    assert_eq!(story.0.wake_at_ms(), Some(150));
    assert_eq!(story.at(149, Input::Tick), [""; 0]);
    let ended = ["stop b", "task 1 cancelled", "task 3 cancelled"];
    assert_eq!(story.at(150, Input::Tick), ended);
    assert_eq!(story.0.wake_at_ms(), None);
}

#[test]
fn tasks_that_never_ran_are_cancelled_at_once() {
    let mut story = Story::new();
    story.deploy(0);
    let all = ["task 0 cancelled", "task 1 cancelled", "task 2 cancelled", "task 3 cancelled"];
    assert_eq!(story.on(cancel()), all);
    assert_eq!(story.on(Input::Granted(vec![A, B])), [""; 0], "too late");
}

#[test]
fn what_breaks_an_attempt_on_its_way_fails_it_once() {
    let mut story = Story::new();
    story.deploy(0);
    story.on(Input::Granted(vec![A, B]));
    let unfit = FromHost::Unfit { error: Error::user("another graph") };
    assert_eq!(story.host(A, unfit), ["stop a", "failed: another graph"]);
    assert_eq!(story.ended(A, gone()), [""; 0]);
    assert_eq!(story.ended(B, gone()), [""; 0]);

    let mut story = Story::new();
    story.deploy(0);
    story.on(Input::Granted(vec![A, A]));
    story.ready(A);
    let fenced = Input::Recorded(Err(Error::external("another leads")));
    assert_eq!(story.on(fenced), ["failed: another leads"]);
}

#[test]
fn a_lost_peer_is_a_reason_only_if_no_better_one_is_heard() {
    let lost = || FromHost::PeerLost { attempt: 0, host: 0, error: Error::external("reset") };
    let mut story = Story::running();
    assert_eq!(story.host(B, lost()), [""; 0]);
    assert_eq!(story.0.wake_at_ms(), Some(CAUSE_MS));
    assert_eq!(
        story.ended(A, Error::external("SIGABRT")),
        ["task 0 failed: SIGABRT", "task 2 failed: SIGABRT"]
    );
    story.on(cancel());
    assert_eq!(story.at(CAUSE_MS, Input::Tick)[0], "stop b", "nothing more of the peer");

    let mut story = Story::running();
    assert_eq!(story.host(B, lost()), [""; 0]);
    assert_eq!(story.at(CAUSE_MS - 1, Input::Tick), [""; 0]);
    assert_eq!(story.at(CAUSE_MS, Input::Tick), ["failed: reset"]);
}

#[test]
fn a_task_that_cannot_send_waits_for_word_of_what_it_lost() {
    let lost = || Error::external("host 0 is lost").as_consequence();
    let failed = |task| TaskEvent::Failed { task, error: lost() };
    let mut story = Story::running();
    assert_eq!(story.task(B, 0, failed(1)), [""; 0]);
    assert_eq!(story.0.wake_at_ms(), Some(CAUSE_MS));
    assert_eq!(
        story.ended(A, Error::external("SIGABRT")),
        ["task 0 failed: SIGABRT", "task 2 failed: SIGABRT"]
    );
    let cancelled = story.on(cancel());
    assert_eq!(cancelled[0], "task 1 failed: host 0 is lost", "every task answers: {cancelled:?}");
    assert_eq!(story.task(B, 0, failed(3)), ["task 3 failed: host 0 is lost"]);

    let mut story = Story::running();
    assert_eq!(story.task(B, 0, failed(1)), [""; 0]);
    assert_eq!(story.task(B, 0, failed(3)), [""; 0]);
    assert_eq!(story.at(CAUSE_MS - 1, Input::Tick), [""; 0]);
    let told = ["task 1 failed: host 0 is lost", "task 3 failed: host 0 is lost"];
    assert_eq!(story.at(CAUSE_MS, Input::Tick), told);
    assert_eq!(story.0.wake_at_ms(), None);
}

#[test]
fn a_deployment_that_fails_on_one_host_is_cancelled_on_the_other() {
    let mut story = Story::new();
    story.deploy(0);
    story.on(Input::Granted(vec![A, B]));
    story.ready(A);
    story.ready(B);
    story.on(Input::Recorded(Ok(())));
    story.host(A, FromHost::Prepared { attempt: 0, splits: Vec::new() });
    let failed = FromHost::DeployFailed { attempt: 0, error: gone() };
    assert_eq!(story.host(B, failed), ["failed: gone"]);
    let cancelled = ["tell a: cancel 0", "task 1 cancelled", "task 3 cancelled"];
    assert_eq!(story.on(cancel()), cancelled);
    assert_eq!(story.host(A, FromHost::Deployed { attempt: 0 }), [""; 0]);
}

fn record() -> AttemptRecord {
    let running = RunningAttempt { attempt: 4, hosts: vec![A, B], placement: vec![0, 1, 0, 1] };
    AttemptRecord { attempt: 4, slots: vec![A, B], running: vec![running] }
}

fn report(id: TaskManagerId, attempt: Option<u32>, tasks: Vec<(usize, TaskState)>) -> Input {
    let data_address = ([127, 0, 0, 1], id.0 as u16).into();
    let newest_checkpoint = Some(CheckpointId(9));
    let attempts = attempt.map(|attempt| AttemptReport { attempt, tasks, newest_checkpoint });
    let report = HostReport { data_address, attempts: attempts.into_iter().collect() };
    Input::FromHost { id, run: HostRun(5), message: FromHost::Report(report) }
}

#[test]
fn a_new_leader_finds_the_tasks_that_run() {
    let mut story = Story::new();
    story.on(Input::Adopt { record: record() });
    assert!(story.0.is_adopting());
    assert_eq!(story.on(Input::Joined { id: C, host: None }), [""; 0]);
    assert_eq!(story.on(Input::Joined { id: A, host: Some(HostRun(5)) }), ["tell a: report"]);
    assert_eq!(story.on(Input::Joined { id: B, host: Some(HostRun(5)) }), ["tell b: report"]);
    let tasks = vec![(0, TaskState::Running), (2, TaskState::Ended)];
    assert_eq!(story.on(report(A, Some(4), tasks)), [""; 0]);
    let tasks = vec![(1, TaskState::Running), (3, TaskState::Running)];
    let adopted = "adopted (task 0 running, task 1 running, task 2 ended, task 3 running), \
                   newest Some(9)";
    assert_eq!(story.on(report(B, Some(4), tasks)), [adopted]);
    assert!(!story.0.is_adopting());
    assert_eq!(story.on(cancel()), ["tell a: cancel 4", "tell b: cancel 4"]);
}

#[test]
fn a_host_that_never_heard_of_the_attempt_has_lost_its_tasks_but_runs_the_next() {
    let mut story = Story::new();
    story.on(Input::Adopt { record: record() });
    story.on(Input::Joined { id: A, host: Some(HostRun(5)) });
    story.on(Input::Joined { id: B, host: Some(HostRun(5)) });
    story.on(report(A, Some(4), vec![(0, TaskState::Running), (2, TaskState::Running)]));
    let why = "the job manager ended while it deployed the job";
    let adopted = format!(
        "adopted (task 0 running, task 1 failed: {why}, task 2 running, task 3 failed: {why}), newest Some(9)"
    );
    assert_eq!(story.on(report(B, Some(3), Vec::new())), [adopted]);
    assert_eq!(story.on(cancel()), ["tell a: cancel 4"]);
    story.on(close());
    story.deploy(5);
    let granted = story.on(Input::Granted(vec![A, B]));
    assert_eq!(granted, ["record attempt 5 on ab [0, 1, 0, 1]"], "both hosts are there");
}

#[test]
fn a_task_manager_that_stays_away_is_given_up_after_a_while() {
    let mut story = Story::new();
    story.at(10, Input::Adopt { record: record() });
    story.on(Input::Joined { id: A, host: Some(HostRun(5)) });
    story.on(report(A, Some(4), vec![(0, TaskState::Running), (2, TaskState::Running)]));
    assert_eq!(story.0.wake_at_ms(), Some(1010));
    let told = story.at(1010, Input::Tick);
    assert!(told[0].contains("task 1 failed") && told[0].contains("within 1000 ms"), "{told:?}");
    // When it comes back, its tasks are replaced.
    assert_eq!(story.on(Input::Joined { id: B, host: Some(HostRun(5)) }), ["stop b"]);
}

#[test]
fn whoever_is_found_late_has_its_time_to_end() {
    let mut story = Story::new();
    story.at(0, Input::Adopt { record: record() });
    assert_eq!(story.at(10, cancel()), [""; 0]);
    assert_eq!(story.0.wake_at_ms(), Some(1000), "there is nothing to do before");
    for id in [A, B] {
        story.at(900, Input::Joined { id, host: Some(HostRun(5)) });
    }
    let running = |tasks: [usize; 2]| tasks.map(|task| (task, TaskState::Running)).into();
    assert_eq!(story.at(900, report(A, Some(4), running([0, 2]))), [""; 0]);
    let told = story.at(900, report(B, Some(4), running([1, 3])));
    assert!(told[0].starts_with("adopted"), "{told:?}");
    assert_eq!(told[1..], ["tell a: cancel 4", "tell b: cancel 4"]);
    assert_eq!(story.0.wake_at_ms(), Some(1000));
    assert_eq!(story.at(999, Input::Tick), [""; 0]);
    let stopped = story.at(1000, Input::Tick);
    assert_eq!((&*stopped[0], &*stopped[1]), ("stop a", "task 0 cancelled"));
}

#[test]
fn results_are_gathered_before_hosts_are_stopped() {
    let mut story = Story::running();
    story.on(close());
    let finish = story.on(Input::Finish { wants_results: true });
    assert_eq!(finish, ["tell a: finish", "tell b: finish"]);
    let results = |byte| FromHost::Results(Ok(vec![("n".into(), vec![vec![byte]])]));
    assert_eq!(story.host(A, results(1)), [""; 0]);
    let finished = ["stop a", "stop b", "finished: [(\"n\", [[1], [2]])]"];
    assert_eq!(story.host(B, results(2)), finished);

    let mut story = Story::running();
    story.at(0, Input::Finish { wants_results: true });
    story.host(A, results(1));
    let finished = story.at(FINISH_MS, Input::Tick);
    assert_eq!(finished[..2], ["stop a", "stop b"], "nobody waits for ever");
    assert!(
        finished[2].ends_with("b for 5000 ms") && finished[2].contains("nothing was heard from"),
        "{finished:?}"
    );

    let mut story = Story::running();
    story.at(0, Input::Finish { wants_results: true });
    story.host(A, results(1));
    // It had no connection when it was asked.
    let back = Input::Joined { id: B, host: Some(story.run(B)) };
    assert_eq!(story.on(back), ["tell b: report", "tell b: finish"]);
    assert_eq!(story.host(A, results(1)), [""; 0], "once is enough");
    let finished = story.host(B, FromHost::Results(Err(Error::external("too long"))));
    assert!(finished[2].ends_with("is not known: too long"), "{finished:?}");

    let mut story = Story::running();
    story.at(0, Input::Finish { wants_results: true });
    story.host(A, results(1));
    let finished = story.on(Input::Lost { id: B, error: gone() });
    let is_told = |told: &String| told.starts_with("finished: the job has ended, but");
    assert!(finished.iter().any(is_told), "{finished:?}");
}

/// The last words of a host may be heard when its successor has been asked for.
#[test]
fn an_earlier_host_is_not_taken_for_the_present_one() {
    let mut story = Story::running();
    let earlier = story.run(A);
    story.on(Input::Lost { id: A, error: gone() });
    story.on(cancel());
    story.task(B, 0, TaskEvent::Cancelled { task: 1 });
    story.task(B, 0, TaskEvent::Cancelled { task: 3 });
    story.on(close());
    // It was cut off and ran on.
    assert_eq!(story.on(Input::Joined { id: A, host: Some(earlier) }), ["stop a"]);
    story.deploy(1);
    assert_eq!(story.on(Input::Granted(vec![A, B])), ["start a"]);
    assert_ne!(story.run(A), earlier);

    let ready = FromHost::Ready { data_address: ([127, 0, 0, 1], 1).into() };
    assert_eq!(story.on(Input::FromHost { id: A, run: earlier, message: ready }), [""; 0]);
    let ended = Input::HostEnded { id: A, run: earlier, error: Error::external("stopped") };
    assert_eq!(story.on(ended), [""; 0]);
    assert_eq!(story.ready(A), ["record attempt 1 on ab [0, 1, 0, 1]"]);
}

#[test]
fn a_host_that_is_gone_after_its_report_is_answered_for() {
    let mut story = Story::new();
    story.on(Input::Adopt { record: record() });
    story.on(Input::Joined { id: A, host: Some(HostRun(5)) });
    story.on(Input::Joined { id: B, host: Some(HostRun(5)) });
    let running = |tasks: [usize; 2]| tasks.map(|task| (task, TaskState::Running)).to_vec();
    assert_eq!(story.on(report(A, Some(4), running([0, 2]))), [""; 0]);
    assert_eq!(story.ended(A, gone()), [""; 0]);
    let adopted = "adopted (task 0 failed: gone, task 1 running, task 2 failed: gone, task 3 running), newest Some(9)";
    assert_eq!(story.on(report(B, Some(4), running([1, 3]))), [adopted]);
}

/// What was said while there was no connection was not heard.
#[test]
fn what_a_host_was_told_without_a_connection_is_made_up_for() {
    let mut story = Story::new();
    story.deploy(0);
    story.on(Input::Granted(vec![A, B]));
    let run = story.run(A);
    assert_eq!(story.on(Input::Joined { id: A, host: Some(HostRun(1)) }), ["start a"]);
    assert_eq!(story.run(A), run, "the same is asked for again");
    story.ready(A);
    story.ready(B);
    story.on(Input::Recorded(Ok(())));
    let broke =
        format!("failed: the connection to task manager {A} broke while the job was deployed");
    let back = |story: &Story, id| Input::Joined { id, host: Some(story.run(id)) };
    let input = back(&story, B);
    assert_eq!(story.on(input), ["tell b: report"], "only the first prepares");
    let input = back(&story, A);
    assert_eq!(story.on(input), ["tell a: report", &broke]);
}
