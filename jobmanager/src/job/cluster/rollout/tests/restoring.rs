//! Tasks that wait until all have restored their state.

use super::*;
use TaskState::{Ended, Restored, Restoring, Running};

fn restored(task: usize) -> FromHost {
    FromHost::Restored { attempt: 4, task }
}

/// Both hosts report, and between that the first says something: what a new leader finds.
fn found(
    first: (Vec<(usize, TaskState)>, Vec<FromHost>),
    second: Vec<(usize, TaskState)>,
) -> (Story, String) {
    let mut story = Story::new();
    story.on(Input::Adopt { record: record() });
    for id in [A, B] {
        story.on(Input::Joined { id, host: Some(HostRun(5)) });
    }
    story.on(report(A, Some(4), first.0));
    for message in first.1 {
        assert_eq!(story.host(A, message), [""; 0], "not before all have reported");
    }
    let adopted = story.on(report(B, Some(4), second)).concat();
    assert!(adopted.starts_with("adopted"), "{adopted}");
    (story, adopted)
}

#[test]
fn every_host_is_told_that_the_tasks_go_on() {
    let mut story = Story::running();
    let restored = FromHost::Restored { attempt: 0, task: 3 };
    assert_eq!(story.host(B, restored), ["task 3 restored"]);
    let late = FromHost::Restored { attempt: 9, task: 3 };
    assert_eq!(story.host(B, late), [""; 0]);
    let told = ["tell a: go { attempt: 0 }", "tell b: go { attempt: 0 }"];
    assert_eq!(story.on(Input::Go { attempt: 0 }), told);
    assert_eq!(story.on(Input::Go { attempt: 9 }), [""; 0]);
}

/// The word of a host may come between its report and that of another.
#[test]
fn what_is_heard_while_others_have_not_reported_counts() {
    let first = vec![(0, Restoring), (2, Running)];
    let ended = FromHost::Snapshot { attempt: 4, event: SnapshotEvent::Ended { task: 2 } };
    let (_, adopted) = found((first, vec![restored(0), ended]), vec![(1, Restored), (3, Ended)]);
    let tasks = "task 0 restored, task 1 restored, task 2 ended, task 3 ended";
    assert_eq!(adopted, format!("adopted ({tasks}), newest Some(9)"));
}

#[test]
fn a_host_that_has_not_heard_that_its_tasks_go_on_is_told_again() {
    let waiting = |tasks: [usize; 2]| tasks.map(|task| (task, Restored)).to_vec();
    let (mut story, _) = found((waiting([0, 2]), Vec::new()), waiting([1, 3]));
    let back = |story: &mut Story| {
        let run = story.run(A);
        story.on(Input::Joined { id: A, host: Some(run) });
        story.on(report(A, Some(4), waiting([0, 2])))
    };
    let reachable = "attempt 4 is reachable";
    assert_eq!(back(&mut story), [reachable], "not all have restored their state");
    story.on(Input::Go { attempt: 4 });
    assert_eq!(back(&mut story), ["tell a: go { attempt: 4 }", reachable]);
}
