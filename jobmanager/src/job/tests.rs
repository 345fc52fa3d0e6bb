//! A master whose tasks are elsewhere, and say only what a test lets them say.

use super::*;
use crate::samples;
use crate::scheduler::{JobState, Scheduler};
use millstream_model::Error;
use millstream_model::settings::RestartStrategy;
use millstream_proto::message::{TaskEvent, TaskState};

struct Silent;

impl Tasks for Silent {
    fn deploy(&mut self, _: u64, _: Attempt) -> Events {
        Vec::new()
    }
    fn cancel(&mut self, _: u64, _: &[usize]) -> Events {
        Vec::new()
    }
    fn close(&mut self, _: u64, _: &[usize], _: bool) -> Events {
        Vec::new()
    }
}

/// The master of a job of two tasks, which another leader has begun.
fn resumed(restart: RestartStrategy) -> Master<Silent> {
    let scheduler = Scheduler::new(&samples::graph()).with_restarts(restart);
    let mut master = Master::new(scheduler, None, Begin::Fresh, Silent);
    master.resume(0, 4, vec![4, 4]);
    master
}

fn adopted(first: TaskState) -> Event {
    let tasks = vec![(0, first), (1, TaskState::Running)];
    Event::Adopted { attempts: Vec::new(), tasks, newest_checkpoint: None }
}

fn lost() -> TaskState {
    TaskState::Over(TaskEvent::Failed { task: 0, error: Error::external("gone") })
}

#[test]
fn a_job_that_is_to_end_does_not_fail_for_what_was_lost_with_the_former_leader() {
    let again = RestartStrategy::FixedDelay { attempts: 9, delay_ms: 1 };
    for strategy in [RestartStrategy::None, again] {
        let mut master = resumed(strategy);
        master.cancel(1);
        master.take(2, 4, adopted(lost()));
        assert_eq!(master.state(), JobState::Cancelling);
        master.take(3, 4, Event::Task(TaskEvent::Cancelled { task: 1 }));
        assert!(matches!(master.ended(), Some((JobState::Cancelled, None))));
        let failures: Vec<_> = master.take_failures().iter().map(Error::to_string).collect();
        assert_eq!(failures, ["gone"], "what happened is told");
    }
}

#[test]
fn a_job_that_is_to_run_fails_for_it() {
    let mut master = resumed(RestartStrategy::None);
    master.take(2, 4, adopted(lost()));
    assert_eq!(master.state(), JobState::Failing);
    master.take(3, 4, Event::Task(TaskEvent::Cancelled { task: 1 }));
    assert!(matches!(master.ended(), Some((JobState::Failed, Some(_)))));
}

#[test]
fn a_job_that_had_come_to_its_end_has_finished_whoever_wants_it_to_end() {
    let mut master = resumed(RestartStrategy::None);
    master.cancel(1);
    master.take(2, 4, adopted(TaskState::Over(TaskEvent::Finished { task: 0 })));
    master.take(3, 4, Event::Task(TaskEvent::Finished { task: 1 }));
    assert!(matches!(master.ended(), Some((JobState::Finished, None))));
}
