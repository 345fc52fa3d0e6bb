//! Stories, told as text: what happens on the left margin, what is to be done below it. And the promises that hold in
//! every story.

use super::*;
use millstream_model::job_graph::{Guarantee, JobGraph};
use millstream_proto::message::{HostStart, ProgramId};
use proptest::prelude::*;
use std::fmt::Write;

fn spec(job: u128) -> Box<HostSpec> {
    Box::new(HostSpec {
        run: HostRun(1),
        program: ProgramId([1; 32]),
        program_bytes: 10,
        name: "a job".to_owned(),
        start: HostStart {
            job: JobId(job),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: "data".into(),
            nth_execute: 0,
            graph: JobGraph {
                name: "a job".to_owned(),
                vertices: Vec::new(),
                edges: Vec::new(),
                bounded: true,
                guarantee: Guarantee::OncePerRun,
            },
            config: Vec::new(),
            once: Vec::new(),
        },
    })
}

fn welcome() -> ToTaskManager {
    ToTaskManager::Welcome { heartbeat_ms: 10, timeout_ms: 50, orphan_timeout_ms: 1000 }
}

fn start(job: u128) -> ToTaskManager {
    ToTaskManager::StartHost(spec(job))
}

fn stop(job: u128) -> ToTaskManager {
    ToTaskManager::StopHost { job: JobId(job) }
}

fn cancel(job: u128, attempt: u32) -> ToTaskManager {
    ToTaskManager::ToHost { job: JobId(job), message: ToHost::Cancel { attempt, tasks: vec![0] } }
}

fn leader(epoch: u64, message: ToTaskManager) -> Input {
    Input::Leader { epoch: LeaderEpoch(epoch), message }
}

fn started(job: u128, run: Run) -> Input {
    Input::Started { job: JobId(job), run }
}

fn ended(job: u128, run: Run) -> Input {
    Input::Ended { job: JobId(job), run, error: Error::external("it crashed") }
}

fn said(job: u128, run: Run, attempt: u32) -> Input {
    let message = FromHost::Deployed { attempt };
    Input::Said { job: JobId(job), run, bytes: 20, message }
}

fn metrics(job: u128, run: Run) -> Input {
    Input::Said { job: JobId(job), run, bytes: 20, message: FromHost::Metrics(Vec::new()) }
}

fn line(effect: &Effect) -> String {
    match effect {
        Effect::Start { run, spec } => format!("start run {run} of {}", spec.start.job.0),
        Effect::Stop { job, run } => format!("stop run {run} of {}", job.0),
        Effect::Tell { job, run, epoch, message } => {
            format!("tell run {run} of {} in epoch {epoch}: {message:?}", job.0)
        }
        Effect::Say(FromTaskManager::FromHost { number, job, message, .. }) => {
            format!("say #{number} of {}: {message:?}", job.0)
        }
        Effect::Say(FromTaskManager::HostEnded { number, job, error, .. }) => {
            format!("say #{number} host of {} ended: {error}", job.0)
        }
        Effect::Say(other) => format!("say {other:?}"),
        Effect::Leave => "leave".to_owned(),
        Effect::Warn(warning) => format!("warn: {warning}"),
    }
}

/// Steps a new supervisor; what it wants done is written below what happened.
fn tell(story: impl IntoIterator<Item = (u64, &'static str, Input)>) -> String {
    let mut supervisor = Supervisor::new(0);
    let mut told = String::new();
    for (now_ms, what, input) in story {
        writeln!(told, "{now_ms} {what}").unwrap();
        let mut effects = Vec::new();
        supervisor.step(now_ms, input, &mut effects);
        effects.iter().for_each(|effect| writeln!(told, "  {}", line(effect)).unwrap());
    }
    told
}

fn same(told: &str, golden: &str) {
    let golden: Vec<&str> = golden.lines().skip(1).map(|l| l.get(8..).unwrap_or("")).collect();
    assert_eq!(told.trim_end(), golden.join("\n").trim_end(), "\n{told}");
}

#[test]
fn a_host_is_started_spoken_to_and_stopped() {
    let told = tell([
        (0, "welcome", leader(1, welcome())),
        (1, "start 7", leader(1, start(7))),
        (2, "cancel, while it starts", leader(1, cancel(7, 1))),
        (3, "start 7 again", leader(1, start(7))),
        (4, "runs", started(7, 1)),
        (5, "start 7 again", leader(1, start(7))),
        (6, "cancel", leader(1, cancel(7, 2))),
        (7, "says", said(7, 1, 1)),
        (8, "stop", leader(1, stop(7))),
        (8, "stop again", leader(1, stop(7))),
        (9, "cancel, too late", leader(1, cancel(7, 3))),
        (9, "says a last word", said(7, 1, 2)),
        (10, "ends", ended(7, 1)),
        (11, "says, as a ghost", said(7, 1, 3)),
        (11, "cancel of nobody", leader(1, cancel(7, 3))),
        (12, "stop of nobody", leader(1, stop(7))),
    ]);
    same(
        &told,
        "
        0 welcome
        1 start 7
          start run 1 of 7
        2 cancel, while it starts
        3 start 7 again
        4 runs
          tell run 1 of 7 in epoch 1: Cancel { attempt: 1, tasks: [0] }
        5 start 7 again
        6 cancel
          tell run 1 of 7 in epoch 1: Cancel { attempt: 2, tasks: [0] }
        7 says
          say #1 of 7: Deployed { attempt: 1 }
        8 stop
          stop run 1 of 7
        8 stop again
        9 cancel, too late
        9 says a last word
          say #2 of 7: Deployed { attempt: 2 }
        10 ends
          say #3 host of 7 ended: the host was stopped on request
        11 says, as a ghost
        11 cancel of nobody
          warn: job 00000000000000000000000000000007 has no host here; a word for it is passed over
        12 stop of nobody",
    );
}

#[test]
fn a_crash_and_a_start_that_fails_are_told() {
    let told = tell([
        (0, "welcome", leader(1, welcome())),
        (1, "start 7", leader(1, start(7))),
        (1, "start 8", leader(1, start(8))),
        (2, "7 runs", started(7, 1)),
        (3, "7 crashes", ended(7, 1)),
        (3, "8 cannot be started", ended(8, 2)),
        (4, "start 7", leader(1, start(7))),
        (5, "run 1 once more", ended(7, 1)),
    ]);
    same(
        &told,
        "
        0 welcome
        1 start 7
          start run 1 of 7
        1 start 8
          start run 2 of 8
        2 7 runs
        3 7 crashes
          say #1 host of 7 ended: it crashed
        3 8 cannot be started
          say #2 host of 8 ended: it crashed
        4 start 7
          start run 3 of 7
        5 run 1 once more",
    );
}

#[test]
fn a_host_that_is_wanted_again_while_it_ends_is_replaced_silently() {
    let told = tell([
        (0, "welcome", leader(1, welcome())),
        (1, "start 7", leader(1, start(7))),
        (2, "stop, while it starts", leader(1, stop(7))),
        (3, "runs too late", started(7, 1)),
        (4, "start 7", leader(1, start(7))),
        (5, "cancel", leader(1, cancel(7, 5))),
        (6, "ends", ended(7, 1)),
        (7, "runs", started(7, 2)),
        (8, "stop", leader(1, stop(7))),
        (8, "start", leader(1, start(7))),
        (8, "and stop for good", leader(1, stop(7))),
        (9, "ends", ended(7, 2)),
    ]);
    same(
        &told,
        "
        0 welcome
        1 start 7
          start run 1 of 7
        2 stop, while it starts
          stop run 1 of 7
        3 runs too late
        4 start 7
        5 cancel
        6 ends
          start run 2 of 7
        7 runs
          tell run 2 of 7 in epoch 1: Cancel { attempt: 5, tasks: [0] }
        8 stop
          stop run 2 of 7
        8 start
        8 and stop for good
        9 ends
          say #1 host of 7 ended: the host was stopped on request",
    );
}

#[test]
fn a_session_that_breaks_loses_nothing() {
    let told = tell([
        (0, "welcome", leader(1, welcome())),
        (1, "start 7", leader(1, start(7))),
        (2, "runs", started(7, 1)),
        (3, "says", said(7, 1, 1)),
        (3, "says", said(7, 1, 2)),
        (4, "confirm", leader(1, ToTaskManager::Confirm { number: 1 })),
        (5, "session breaks", Input::Disconnected),
        (6, "metrics", metrics(7, 1)),
        (7, "newer metrics", metrics(7, 1)),
        (8, "crashes", ended(7, 1)),
        (9, "next leader", leader(2, welcome())),
        (10, "confirm", leader(2, ToTaskManager::Confirm { number: 99 })),
        (11, "session breaks", Input::Disconnected),
        (12, "next session", leader(2, welcome())),
    ]);
    same(
        &told,
        "
        0 welcome
        1 start 7
          start run 1 of 7
        2 runs
        3 says
          say #1 of 7: Deployed { attempt: 1 }
        3 says
          say #2 of 7: Deployed { attempt: 2 }
        4 confirm
        5 session breaks
        6 metrics
        7 newer metrics
        8 crashes
        9 next leader
          say #2 of 7: Deployed { attempt: 2 }
          say #4 of 7: Metrics([])
          say #5 host of 7 ended: it crashed
        10 confirm
        11 session breaks
        12 next session",
    );
}

#[test]
fn an_old_leader_is_not_heard() {
    let told = tell([
        (0, "welcome", leader(2, welcome())),
        (1, "start 7", leader(2, start(7))),
        (2, "an old leader", leader(1, stop(7))),
        (3, "session breaks", Input::Disconnected),
        (4, "an old leader's session", leader(1, welcome())),
        (5, "a newer leader", leader(3, welcome())),
        (6, "stop", leader(3, stop(7))),
    ]);
    same(
        &told,
        "
        0 welcome
        1 start 7
          start run 1 of 7
        2 an old leader
          warn: a word of the leader of epoch 1 is refused: 2 was heard
        3 session breaks
        4 an old leader's session
          warn: a word of the leader of epoch 1 is refused: 2 was heard
          leave
        5 a newer leader
        6 stop
          stop run 1 of 7",
    );
}

#[test]
fn hosts_without_a_leader_are_stopped_in_the_end() {
    let told = tell([
        (0, "welcome", leader(1, welcome())),
        (1, "start 7", leader(1, start(7))),
        (2, "runs", started(7, 1)),
        (100, "session breaks", Input::Disconnected),
        (900, "not yet", Input::Tick),
        (950, "a session", leader(1, welcome())),
        (1500, "with a leader", Input::Tick),
        (2000, "session breaks", Input::Disconnected),
        (2500, "a try fails", Input::Disconnected),
        (3000, "too long", Input::Tick),
        (3001, "ends", ended(7, 1)),
        (4000, "a session", leader(2, welcome())),
    ]);
    same(
        &told,
        "
        0 welcome
        1 start 7
          start run 1 of 7
        2 runs
        100 session breaks
        900 not yet
        950 a session
        1500 with a leader
        2000 session breaks
        2500 a try fails
        3000 too long
          stop run 1 of 7
        3001 ends
        4000 a session
          say #1 host of 7 ended: no job manager was heard for 1000 ms, so the host was stopped",
    );
}

#[test]
fn a_task_manager_that_ends_stops_its_hosts_and_starts_none() {
    let told = tell([
        (0, "welcome", leader(1, welcome())),
        (1, "start 7", leader(1, start(7))),
        (2, "runs", started(7, 1)),
        (3, "shutdown", Input::Shutdown),
        (4, "start 8", leader(1, start(8))),
        (5, "start 7", leader(1, start(7))),
        (6, "ends", ended(7, 1)),
    ]);
    same(
        &told,
        "
        0 welcome
        1 start 7
          start run 1 of 7
        2 runs
        3 shutdown
          stop run 1 of 7
        4 start 8
          say #1 host of 8 ended: the task manager is ending and starts no host any more
        5 start 7
        6 ends
          say #2 host of 7 ended: the task manager was asked to end",
    );
}

#[test]
fn what_waits_for_a_host_is_bounded() {
    let mut supervisor = Supervisor::new(0);
    let mut effects = Vec::new();
    let mut step = |input| {
        effects.clear();
        supervisor.step(0, input, &mut effects);
        effects.iter().map(line).collect::<Vec<_>>()
    };
    step(leader(1, welcome()));
    step(leader(1, start(7)));
    (0..MAX_QUEUED).for_each(|_| assert_eq!(step(leader(1, cancel(7, 1))), [""; 0]));
    assert_eq!(step(leader(1, cancel(7, 1))), ["stop run 1 of 7"]);
    let told = step(ended(7, 1));
    assert!(told[0].contains("1024 messages waited for it"), "{told:?}");
}

#[test]
fn what_a_host_says_is_bounded_and_few_is_under_way() {
    let mut supervisor = Supervisor::new(0);
    let mut effects = Vec::new();
    for input in [leader(1, welcome()), leader(1, start(7)), started(7, 1)] {
        supervisor.step(0, input, &mut effects);
    }
    effects.clear();
    (0..outbox::WINDOW + 10).for_each(|_| supervisor.step(0, said(7, 1, 1), &mut effects));
    assert_eq!(effects.len(), outbox::WINDOW);
    effects.clear();
    supervisor.step(0, leader(1, ToTaskManager::Confirm { number: 4 }), &mut effects);
    assert_eq!(effects.len(), 4, "as many as were confirmed follow");

    effects.clear();
    let message = FromHost::Deployed { attempt: 1 };
    let large = Input::Said { job: JobId(7), run: 1, bytes: outbox::MAX_BYTES, message };
    supervisor.step(0, large, &mut effects);
    assert_eq!(effects.iter().map(line).collect::<Vec<_>>(), ["stop run 1 of 7"]);
    supervisor.step(0, leader(1, ToTaskManager::Confirm { number: u64::MAX }), &mut effects);
    supervisor.step(0, leader(1, ToTaskManager::Confirm { number: u64::MAX }), &mut effects);
    assert!(!supervisor.is_idle());
    effects.clear();
    supervisor.step(0, ended(7, 1), &mut effects);
    assert!(line(&effects[0]).contains("said more than the task manager can hold"));
    supervisor.step(0, leader(1, ToTaskManager::Confirm { number: u64::MAX }), &mut effects);
    assert!(supervisor.is_idle());
}

/// One of the things that can happen, for a few jobs.
fn anything() -> impl Strategy<Value = (u8, u128, u64)> {
    (0..12u8, 1..4u128, 0..4u64)
}

proptest! {
    /// Whatever happens: there is at most one process per job, only processes that exist are stopped or told
    /// something, and a leader hears all numbers in order without a gap that it has not confirmed.
    #[test]
    fn promises_hold(happenings in proptest::collection::vec(anything(), 0..200)) {
        let mut supervisor = Supervisor::new(0);
        let mut processes: BTreeMap<JobId, (Run, bool)> = BTreeMap::new();
        let mut heard_in_session = 0;
        let mut newest = 0;
        let mut epoch = 1;
        let mut n_ended = 0;
        let mut was_told = std::collections::BTreeSet::new();
        for (now_ms, (what, job, x)) in (0..).zip(happenings) {
            let process = processes.get(&JobId(job)).copied();
            let mut ends = false;
            let input = match (what, process) {
                (0, _) => { epoch += x % 2; heard_in_session = 0; leader(epoch, welcome()) }
                (1, _) => Input::Disconnected,
                (2..=3, _) => leader(epoch, start(job)),
                (4, _) => leader(epoch, stop(job)),
                (5, _) => leader(epoch, cancel(job, 1)),
                (6, _) => leader(epoch, ToTaskManager::Confirm { number: newest.min(x * 3) }),
                (7, Some((run, _))) => {
                    processes.insert(JobId(job), (run, true));
                    started(job, run)
                }
                (8, Some((run, true))) => said(job, run, 1),
                (9, Some((run, _))) => { ends = true; processes.remove(&JobId(job)); ended(job, run) }
                (10, _) => metrics(job, x),
                _ => Input::Tick,
            };
            let mut effects = Vec::new();
            supervisor.step(now_ms, input, &mut effects);
            n_ended += usize::from(ends);
            for effect in effects {
                match effect {
                    Effect::Start { run, spec } => {
                        let before = processes.insert(spec.start.job, (run, false));
                        prop_assert!(before.is_none(), "two processes of one job");
                    }
                    Effect::Stop { job, run } => prop_assert_eq!(processes[&job].0, run),
                    Effect::Tell { job, run, .. } => prop_assert_eq!(processes[&job], (run, true)),
                    Effect::Say(FromTaskManager::HostEnded { number, .. } | FromTaskManager::FromHost { number, .. }) => {
                        prop_assert!(number > heard_in_session, "out of order");
                        heard_in_session = number;
                        newest = newest.max(number);
                        was_told.insert(number);
                    }
                    _ => {}
                }
            }
        }
        // A last session in which everything is confirmed leaves nothing.
        let mut effects = Vec::new();
        supervisor.step(0, leader(epoch, welcome()), &mut effects);
        supervisor.step(0, leader(epoch, ToTaskManager::Confirm { number: u64::MAX }), &mut effects);
        supervisor.step(0, Input::Shutdown, &mut effects);
        for (job, (run, _)) in processes {
            supervisor.step(0, Input::Ended { job, run, error: Error::external("over") }, &mut effects);
        }
        supervisor.step(0, leader(epoch, ToTaskManager::Confirm { number: u64::MAX }), &mut effects);
        prop_assert!(supervisor.is_idle() && supervisor.hosts().is_empty());
        prop_assert!(n_ended <= 200 && was_told.len() as u64 <= newest);
    }
}

/// A leader that asks for another host than the one it is told of gets it.
#[test]
fn a_host_of_another_number_is_replaced() {
    let start_again = || {
        let mut spec = spec(7);
        spec.run = HostRun(2);
        leader(1, ToTaskManager::StartHost(spec))
    };
    let mut supervisor = Supervisor::new(0);
    let mut step = |input| {
        let mut effects = Vec::new();
        supervisor.step(0, input, &mut effects);
        (effects, supervisor.hosts())
    };
    step(leader(1, welcome()));
    step(leader(1, start(7)));
    step(started(7, 1));
    let (effects, hosts) = step(start_again());
    assert_eq!(effects.iter().map(line).collect::<Vec<_>>(), ["stop run 1 of 7"]);
    assert_eq!(hosts, [(JobId(7), HostRun(2))]);
    let (effects, _) = step(ended(7, 1));
    assert_eq!(effects.iter().map(line).collect::<Vec<_>>(), ["start run 2 of 7"]);
    step(started(7, 2));
    assert!(step(start_again()).0.is_empty(), "it runs");
    let (effects, _) = step(ended(7, 2));
    let of_the_second = |effect: &Effect| {
        matches!(effect, Effect::Say(FromTaskManager::HostEnded { run: HostRun(2), .. }))
    };
    assert!(matches!(&effects[..], [effect] if of_the_second(effect)), "{effects:?}");
}

/// One that is ended for a reason of the task manager's is replaced, too, if the leader asks for another meanwhile.
#[test]
fn a_host_that_is_being_removed_is_replaced_on_request() {
    let mut supervisor = Supervisor::new(0);
    let mut step = |now_ms, input| {
        let mut effects = Vec::new();
        supervisor.step(now_ms, input, &mut effects);
        effects.iter().map(line).collect::<Vec<_>>()
    };
    step(0, leader(1, welcome()));
    step(0, leader(1, start(7)));
    step(0, started(7, 1));
    step(1, Input::Disconnected);
    assert_eq!(step(9_000, Input::Tick), ["stop run 1 of 7"], "nobody leads for too long");
    step(9_001, leader(2, welcome()));
    let mut spec = spec(7);
    spec.run = HostRun(2);
    assert_eq!(step(9_002, leader(2, ToTaskManager::StartHost(spec))), [""; 0]);
    assert_eq!(step(9_003, ended(7, 1)), ["start run 2 of 7"]);
}
