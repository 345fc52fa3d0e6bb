//! Several attempts side by side, each of some of the tasks.

use super::*;

/// Two regions, that of each slot: tasks 0 and 2 on A, 1 and 3 on B.
fn with_regions() -> Story {
    Story::running_as(Ship::Forward)
}

#[test]
fn what_failed_comes_back_as_an_attempt_of_its_own_and_the_rest_goes_on() {
    let mut story = with_regions();
    let lost = story.on(Input::Lost { id: B, error: gone() });
    assert_eq!(lost, ["task 1 failed: gone", "task 3 failed: gone"]);
    assert_eq!(story.on(Input::Cancel { tasks: vec![1, 3] }), ["tell a: cancel [1, 3] of 0"]);
    let closed = story.on(Input::Close { tasks: vec![1, 3], again: true });
    assert_eq!(closed, ["tell a: close [1, 3] of 0"]);
    assert_eq!(story.deploy_some(1, &[1, 3]), ["request 2 slots, uses a"]);
    // In whatever order they are granted, the slot in use stays where it is.
    assert_eq!(story.on(Input::Granted(vec![C, A])), ["start c"]);
    let record = "record attempt 0 on ab [0, -, 0, -] and attempt 1 on c [-, 0, -, 0]";
    assert_eq!(story.ready(C), [record]);
    assert_eq!(story.on(Input::Recorded(Ok(()))), ["tell c: prepare [1, 3] of 1"]);
    let prepared = FromHost::Prepared { attempt: 1, splits: Vec::new() };
    assert_eq!(story.host(C, prepared), ["tell c: deploy 1 as host 0"]);
    assert_eq!(story.host(C, FromHost::Deployed { attempt: 1 }), ["deployed 1"]);
    assert_eq!((story.0.host_of(0), story.0.host_of(3)), (Some(A), Some(C)));
    assert_eq!(story.task(A, 0, TaskEvent::Finished { task: 0 }), ["task 0 finished"]);
    assert_eq!(story.task(C, 1, TaskEvent::Finished { task: 3 }), ["task 3 finished"]);
    assert_eq!(story.task(A, 0, TaskEvent::Finished { task: 3 }), [""; 0], "it is not there");
    let all = ["tell a: close [0, 2] of 0", "tell c: close [1, 3] of 1"];
    assert_eq!(story.on(close()), all);
}

#[test]
fn splits_are_those_of_the_attempt_that_found_them() {
    let mut story = Story::of(Ship::Forward);
    story.deploy(0);
    story.on(Input::Granted(vec![A, A]));
    story.ready(A);
    story.on(Input::Recorded(Ok(())));
    story.host(A, FromHost::Prepared { attempt: 0, splits: vec![(0, vec![7])] });
    story.host(A, FromHost::Deployed { attempt: 0 });
    story.task(A, 0, TaskEvent::Failed { task: 1, error: gone() });
    story.on(Input::Cancel { tasks: vec![1, 3] });
    story.task(A, 0, TaskEvent::Cancelled { task: 3 });
    story.on(Input::Close { tasks: vec![1, 3], again: true });
    story.deploy_some(1, &[1, 3]);
    story.on(Input::Granted(vec![A, A]));
    story.on(Input::Recorded(Ok(())));
    let prepared = FromHost::Prepared { attempt: 1, splits: Vec::new() };
    let (run, mut effects) = (story.run(A), Vec::new());
    story.0.step(0, Input::FromHost { id: A, run, message: prepared }, &mut effects);
    let [Effect::Tell(_, ToHost::Deploy(deployment))] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(deployment.splits, [(0, vec![7])]);
    assert_eq!(deployment.placement, [NOWHERE, 0, NOWHERE, 0]);
}

#[test]
fn a_lost_peer_matters_to_regions_on_both_sides_only() {
    let lost = || FromHost::PeerLost { attempt: 0, host: 0, error: Error::external("reset") };
    let mut story = with_regions();
    assert_eq!(story.host(B, lost()), [""; 0]);
    assert_eq!(story.0.wake_at_ms(), None, "no region is on both");

    // Both regions are on both: one slot each, and a task each.
    let mut story = Story::running();
    assert_eq!(story.host(B, lost()), [""; 0]);
    story.on(Input::Cancel { tasks: vec![0, 1, 2, 3] });
    assert_eq!(story.0.wake_at_ms(), Some(100), "they are to end: no cause is waited for");
}

/// Both regions are on both hosts, in one of them something is sent.
#[test]
fn of_regions_that_lost_a_peer_each_fails_that_has_not_said_so_itself() {
    let mut story = Story::of(Ship::Forward);
    story.deploy(0);
    // Regions are slots, so that they only meet if a slot is of two: the placement is made up.
    story.on(Input::Granted(vec![A, B]));
    story.ready(A);
    story.ready(B);
    story.0.attempts[0].placement = vec![0, 0, 1, 1];
    story.on(Input::Recorded(Ok(())));
    story.host(A, FromHost::Prepared { attempt: 0, splits: Vec::new() });
    story.host(A, FromHost::Deployed { attempt: 0 });
    story.host(B, FromHost::Deployed { attempt: 0 });
    let reset = || Error::external("reset");
    let lost = FromHost::PeerLost { attempt: 0, host: 1, error: reset() };
    assert_eq!(story.host(A, lost), [""; 0]);
    let failed = TaskEvent::Failed { task: 1, error: reset().as_consequence() };
    assert_eq!(story.task(A, 0, failed), [""; 0]);
    let told = ["[0, 2] failed: reset", "task 1 failed: reset"];
    assert_eq!(story.at(CAUSE_MS, Input::Tick), told);
}

#[test]
fn what_a_host_should_not_have_any_more_is_ended_when_it_has_a_connection_again() {
    let mut story = with_regions();
    story.task(B, 0, TaskEvent::Failed { task: 1, error: gone() });
    story.on(Input::Cancel { tasks: vec![1, 3] });
    story.task(B, 0, TaskEvent::Cancelled { task: 3 });
    story.on(Input::Close { tasks: vec![1, 3], again: true });
    let back = Input::Joined { id: B, host: Some(story.run(B)) };
    assert_eq!(story.on(back), ["tell b: report"]);
    let run = story.run(B);
    let over = |task| TaskState::Over(TaskEvent::Cancelled { task });
    let Input::FromHost { id, message, .. } = report(B, Some(0), vec![(1, over(1)), (3, over(3))])
    else {
        panic!("a report is from a host")
    };
    let told = story.on(Input::FromHost { id, run, message });
    let ended = ["tell b: cancel [1, 3] of 0", "tell b: close [1, 3] of 0"];
    assert_eq!(told, [&ended[..], &["attempt 0 is reachable"]].concat());
}

#[test]
fn a_new_leader_does_not_wait_for_a_host_whose_tasks_have_gone_elsewhere() {
    let mut story = with_regions();
    story.on(Input::Lost { id: B, error: gone() });
    story.on(Input::Cancel { tasks: vec![1, 3] });
    story.on(Input::Close { tasks: vec![1, 3], again: true });
    story.deploy_some(1, &[1, 3]);
    story.on(Input::Granted(vec![A, C]));
    let mut effects = Vec::new();
    let ready = FromHost::Ready { data_address: ([127, 0, 0, 1], 1).into() };
    let run = story.run(C);
    story.0.step(0, Input::FromHost { id: C, run, message: ready }, &mut effects);
    let [Effect::Record(record)] = &effects[..] else { panic!("{effects:?}") };
    let mut next = Story::of(Ship::Forward);
    next.on(Input::Adopt { record: record.clone() });
    for id in [A, C] {
        next.on(Input::Joined { id, host: Some(HostRun(5)) });
    }
    let running = |tasks: [usize; 2]| tasks.map(|task| (task, TaskState::Running)).to_vec();
    assert_eq!(next.on(report(A, Some(0), running([0, 2]))), [""; 0]);
    assert!(next.on(report(C, Some(1), running([1, 3])))[0].starts_with("adopted"));
}

#[test]
fn a_host_ended_for_a_stuck_task_takes_its_others_along() {
    let mut story = Story::of(Ship::Forward);
    story.deploy(0);
    story.on(Input::Granted(vec![A, A]));
    story.ready(A);
    story.on(Input::Recorded(Ok(())));
    story.host(A, FromHost::Prepared { attempt: 0, splits: Vec::new() });
    story.host(A, FromHost::Deployed { attempt: 0 });
    story.task(A, 0, TaskEvent::Failed { task: 1, error: gone() });
    assert_eq!(story.at(50, Input::Cancel { tasks: vec![1, 3] }), ["tell a: cancel [1, 3] of 0"]);
    let ended = story.at(150, Input::Tick);
    assert_eq!(ended[0], "stop a");
    assert!(ended[1].starts_with("task 0 failed: the process of the job on"), "{ended:?}");
    assert!(ended[2].starts_with("task 2 failed"), "{ended:?}");
    assert_eq!(ended[3..], ["task 3 cancelled"]);
}

#[test]
fn a_host_lost_while_tasks_are_deployed_is_not_waited_for() {
    let mut story = Story::of(Ship::Forward);
    story.deploy(0);
    story.on(Input::Granted(vec![A, B]));
    story.ready(A);
    story.ready(B);
    story.on(Input::Recorded(Ok(())));
    story.host(A, FromHost::Prepared { attempt: 0, splits: Vec::new() });
    assert_eq!(story.host(A, FromHost::Deployed { attempt: 0 }), [""; 0]);
    let lost = story.on(Input::Lost { id: B, error: gone() });
    assert_eq!(lost, ["task 1 failed: gone", "task 3 failed: gone", "deployed"]);
}

#[test]
fn a_new_leader_finds_the_tasks_of_several_attempts() {
    let part = |attempt, host, placement: [u32; 4]| RunningAttempt {
        attempt,
        hosts: vec![host],
        placement: placement.to_vec(),
    };
    let record = AttemptRecord {
        attempt: 2,
        slots: vec![A, B],
        running: vec![part(0, A, [0, NOWHERE, 0, NOWHERE]), part(2, B, [NOWHERE, 0, NOWHERE, 0])],
    };
    let mut story = Story::of(Ship::Forward);
    story.on(Input::Adopt { record: record.clone() });
    story.on(Input::Joined { id: A, host: Some(HostRun(5)) });
    story.on(Input::Joined { id: B, host: Some(HostRun(5)) });
    let running = |tasks: [usize; 2]| tasks.map(|task| (task, TaskState::Running)).to_vec();
    assert_eq!(story.on(report(A, Some(0), running([0, 2]))), [""; 0]);
    let adopted =
        "adopted (task 0 running, task 1 running, task 2 running, task 3 running), newest Some(9)";
    assert_eq!(story.on(report(B, Some(2), running([1, 3]))), [adopted]);

    // The former leader was restarting a part of the job, and had closed what was left of it.
    let mut story = Story::of(Ship::Forward);
    story.on(Input::Adopt {
        record: AttemptRecord { running: vec![record.running[0].clone()], ..record },
    });
    story.on(Input::Joined { id: A, host: Some(HostRun(5)) });
    let told = story.on(report(A, Some(0), running([0, 2])));
    assert!(
        told[0].contains("task 1 failed: the job manager ended while it restarted a part"),
        "{told:?}"
    );
}
