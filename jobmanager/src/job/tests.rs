//! A master whose tasks are elsewhere, and say only what a test lets them say.

use super::*;
use crate::samples;
use crate::scheduler::{JobState, Scheduler};
use millstream_model::settings::RestartStrategy;
use millstream_model::{CheckpointId, Command, Error, LeaderEpoch, Notice};
use millstream_proto::message::{ProgramId, SnapshotEvent, TaskEvent, TaskState};
use millstream_state::snapshot::{Manifest, MemoryStorage, TaskSnapshot, mark, write_manifest};
use std::sync::Mutex;

/// With the attempts that were told to go on.
#[derive(Default)]
struct Silent {
    gone_on: Vec<u32>,
}

impl Tasks for Silent {
    fn deploy(&mut self, _: u64, _: Attempt) -> Events {
        Vec::new()
    }
    fn go(&mut self, _: u64, attempt: u32) -> Events {
        self.gone_on.push(attempt);
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
    let mut master = Master::new(scheduler, None, Begin::Fresh, Silent::default());
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

struct Nobody;

impl Participants for Nobody {
    fn aim(&mut self, _: CheckpointId, _: &Target) {}
    fn tell(&mut self, _: Command) {}
}

/// The master of a job of two tasks, each a region of its own, that begins at a checkpoint.
fn restoring() -> Master<Silent> {
    let restore = MemoryStorage::empty_checkpoint(CheckpointId(3));
    let target = TargetFolder { dir: "checkpoints".into(), folder: "chk-3".into() };
    let again = RestartStrategy::FixedDelay { attempts: 9, delay_ms: 1 };
    let scheduler = Scheduler::new(&samples::graph()).with_restarts(again);
    let begin = Begin::At(Restored { restore, target });
    let mut master = Master::new(scheduler, None, begin, Silent::default());
    master.start(0);
    master
}

fn deployed() -> Event {
    Event::Deployed { participants: Box::new(Nobody) }
}

#[test]
fn no_task_goes_on_before_all_have_restored_their_state() {
    let mut master = restoring();
    master.take(1, 0, Event::Restored { task: 1 });
    assert!(!master.restores(1), "not all hosts have answered");
    master.take(2, 0, deployed());
    assert!(master.restores(0) && master.restores(1) && !master.is_deployed());
    master.take(3, 0, Event::Restored { task: 1 });
    assert_eq!(master.tasks.gone_on, [0; 0]);
    master.take(4, 0, Event::Restored { task: 0 });
    assert_eq!(master.tasks.gone_on, [0]);
    assert!(master.runs(0) && master.runs(1) && master.is_deployed());
    master.take(5, 0, Event::Restored { task: 0 });
    assert_eq!(master.tasks.gone_on, [0], "once is enough");
}

#[test]
fn no_task_goes_on_if_one_cannot_restore_its_state() {
    let mut master = restoring();
    master.take(1, 0, deployed());
    master.take(2, 0, Event::Restored { task: 0 });
    let error = Error::external("damaged").finally();
    master.take(3, 0, Event::Task(TaskEvent::Failed { task: 1, error }));
    assert_eq!(master.state(), JobState::Failing);
    master.take(4, 0, Event::Task(TaskEvent::Cancelled { task: 0 }));
    assert!(matches!(master.ended(), Some((JobState::Failed, Some(_)))));
    assert_eq!(master.tasks.gone_on, [0; 0]);
}

#[test]
fn who_waited_for_a_part_that_failed_goes_on_without_it() {
    let mut master = restoring();
    master.take(1, 0, deployed());
    master.take(2, 0, Event::Restored { task: 0 });
    let error = Error::external("the host is gone");
    master.take(3, 0, Event::Task(TaskEvent::Failed { task: 1, error }));
    assert_eq!((master.state(), &*master.tasks.gone_on), (JobState::Restarting, &[0][..]));
    assert!(master.runs(0));
    master.tick(4);
    master.take(5, 1, deployed());
    assert!(master.restores(1), "without checkpoints it begins where the job did");
    master.take(6, 1, Event::Restored { task: 1 });
    assert_eq!(master.tasks.gone_on, [0, 1]);
}

#[test]
fn another_leader_lets_go_on_what_waited_for_the_former() {
    for (first, goes_on) in [(TaskState::Running, true), (TaskState::Restoring, false)] {
        let mut master = resumed(RestartStrategy::None);
        let tasks = vec![(0, first), (1, TaskState::Restored)];
        let found = Event::Adopted { attempts: Vec::new(), tasks, newest_checkpoint: None };
        master.take(1, 4, found);
        assert_eq!(!master.tasks.gone_on.is_empty(), goes_on);
        master.take(2, 4, Event::Restored { task: 0 });
        assert_eq!(master.tasks.gone_on, [4]);
    }
}

#[test]
fn another_leader_lets_nothing_go_on_before_what_has_failed_is_closed() {
    let again = RestartStrategy::FixedDelay { attempts: 1, delay_ms: 1 };
    for restart in [RestartStrategy::None, again] {
        let mut master = resumed(restart);
        let tasks = vec![(0, lost()), (1, TaskState::Restored)];
        master.take(1, 4, Event::Adopted { attempts: Vec::new(), tasks, newest_checkpoint: None });
        // After a change of leader all regions go back together.
        master.take(2, 4, Event::Task(TaskEvent::Cancelled { task: 1 }));
        assert_eq!(master.tasks.gone_on, [0; 0]);
    }
}

fn settings(restore: RestoreFrom) -> JobSettings {
    JobSettings {
        checkpoint_dir: Some("checkpoints".into()),
        restore: Some(restore),
        ..samples::submission(1, ProgramId([1; 32]), 1).settings
    }
}

/// Checkpoints of a job of two tasks, in memory, that another leader has begun.
fn checkpoints() -> Checkpoints {
    let storage: Arc<dyn CheckpointStorage> = Arc::new(MemoryStorage::new());
    let open: OpenStorage = Arc::new(move |_| Ok(Arc::clone(&storage)));
    let now_us: NowUs = Arc::new(|| 0);
    let (graph, epoch) = (samples::graph(), LeaderEpoch(2));
    let settings = settings(RestoreFrom::Latest);
    Checkpoints::take_over(&settings, &graph, epoch, &open, &now_us).unwrap().unwrap()
}

#[test]
fn what_a_job_was_being_stopped_with_is_among_its_checkpoints_under_another_leader() {
    let storages = ["checkpoints", "saved"].map(|dir| (dir, MemoryStorage::new()));
    let [(_, own), (_, saved)] = storages.clone();
    let id = CheckpointId(5);
    let empty = MemoryStorage::empty_checkpoint(id).manifest;
    let manifest = Manifest { kind: SnapshotKind::Stop { drain: false }, ..(*empty).clone() };
    write_manifest(&saved, "savepoint-5", &manifest).unwrap();
    mark::stopped(&own, id, Path::new("saved/savepoint-5")).unwrap();
    let open: OpenStorage = Arc::new(move |dir| {
        let (_, storage) = storages.iter().find(|(of, _)| dir == Path::new(of)).unwrap();
        Ok(Arc::new(storage.clone()))
    });
    let taken_over = |restore| {
        let settings = settings(restore);
        let (graph, now_us): (_, NowUs) = (samples::graph(), Arc::new(|| 0));
        let epoch = LeaderEpoch(2);
        let found = Checkpoints::take_over(&settings, &graph, epoch, &open, &now_us);
        let rows = found.unwrap().unwrap().history();
        rows.into_iter().map(|row| row.path).collect::<Vec<_>>()
    };
    let savepoint = Some("saved/savepoint-5".into());
    assert_eq!(taken_over(RestoreFrom::Latest), [savepoint]);
    // What it was started from is none of its own.
    let none: [Option<_>; 0] = [];
    assert_eq!(taken_over(RestoreFrom::Path("saved/savepoint-5".into())), none);
}

struct Told(Arc<Mutex<Vec<String>>>);

impl Participants for Told {
    fn aim(&mut self, _: CheckpointId, _: &Target) {}
    fn tell(&mut self, command: Command) {
        let command = match command {
            Command::Barrier(barrier) => format!("barrier {}", barrier.checkpoint),
            Command::Notice(Notice::Complete(id)) => format!("complete {id}"),
            Command::Notice(Notice::Aborted(id)) => format!("aborted {id}"),
            Command::Release(id) => format!("release {id}"),
        };
        self.0.lock().unwrap().push(command);
    }
}

/// The former leader was gone when it had told some, or nobody, that the savepoint of a stop is complete.
#[test]
fn a_stop_whose_savepoint_is_complete_is_gone_through_with_by_another_leader() {
    let stopped_with = |kind| {
        let storages = ["checkpoints", "saved"].map(|dir| (dir, MemoryStorage::new()));
        let [(_, own), (_, saved)] = storages.clone();
        let empty = MemoryStorage::empty_checkpoint(CheckpointId(5)).manifest;
        write_manifest(&saved, "savepoint-5", &Manifest { kind, ..(*empty).clone() }).unwrap();
        mark::stopped(&own, CheckpointId(5), Path::new("saved/savepoint-5")).unwrap();
        let open: OpenStorage = Arc::new(move |dir| {
            let (_, storage) = storages.iter().find(|(of, _)| dir == Path::new(of)).unwrap();
            Ok(Arc::new(storage.clone()))
        });
        let (graph, now_us): (_, NowUs) = (samples::graph(), Arc::new(|| 0));
        let settings = settings(RestoreFrom::Latest);
        Checkpoints::take_over(&settings, &graph, LeaderEpoch(2), &open, &now_us).unwrap()
    };
    let told_to = |newest: u64, first: TaskState| {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let checkpoints = stopped_with(SnapshotKind::Stop { drain: false });
        let scheduler = Scheduler::new(&samples::graph());
        let mut master = Master::new(scheduler, checkpoints, Begin::Anew, Silent::default());
        master.resume(0, 4, vec![4, 4]);
        let participants = Box::new(Told(Arc::clone(&told)));
        let attempts = vec![Adopted { attempt: 4, tasks: vec![0, 1], participants }];
        let tasks = vec![(0, first), (1, TaskState::Running)];
        let newest_checkpoint = Some(CheckpointId(newest));
        master.take(1, 4, Event::Adopted { attempts, tasks, newest_checkpoint });
        let told = told.lock().unwrap().clone();
        (told, master)
    };
    let finished = || TaskState::Over(TaskEvent::Finished { task: 0 });
    for first in [finished(), TaskState::Running] {
        let (told, mut master) = told_to(5, first);
        assert_eq!(told, ["complete 5", "release 5"]);
        master.take(2, 4, Event::Task(TaskEvent::Finished { task: 0 }));
        master.take(2, 4, Event::Task(TaskEvent::Finished { task: 1 }));
        assert!(matches!(master.ended(), Some((JobState::Finished, None))));
    }
    // They have begun again from there, and taken part in another since: they go on.
    assert_eq!(told_to(6, TaskState::Running).0, ["aborted 6"]);
}

/// What a task without state that has ended contributes to a checkpoint.
fn ended(task: usize) -> TaskSnapshot {
    TaskSnapshot {
        vertex: 0,
        subtask: task,
        ended: true,
        operators: Vec::new(),
        file: None,
        shared: Vec::new(),
    }
}

/// The former leader was gone when it had completed the last checkpoint, and told some or nobody.
#[test]
fn a_last_checkpoint_that_is_complete_is_not_taken_again_by_another_leader() {
    let told_to = |newest_checkpoint| {
        let (storage, graph) = (MemoryStorage::new(), samples::graph());
        let empty = MemoryStorage::empty_checkpoint(CheckpointId(5)).manifest;
        let (vertices, tasks) = (vertices(&graph), vec![ended(0), ended(1)]);
        let manifest = Manifest { epoch: 1, vertices, tasks, ..(*empty).clone() };
        write_manifest(&storage, "chk-5-1", &manifest).unwrap();
        mark::completed(&storage, CheckpointId(5), 1).unwrap();
        let open: OpenStorage = Arc::new(move |_| Ok(Arc::new(storage.clone())));
        let now_us: NowUs = Arc::new(|| 0);
        let settings = settings(RestoreFrom::Latest);
        let found = Checkpoints::take_over(&settings, &graph, LeaderEpoch(2), &open, &now_us);
        let mut master =
            Master::new(Scheduler::new(&graph), found.unwrap(), Begin::Anew, Silent::default());
        master.resume(0, 4, vec![4, 4]);
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let participants = Box::new(Told(Arc::clone(&told)));
        let attempts = vec![Adopted { attempt: 4, tasks: vec![0, 1], participants }];
        let tasks = vec![(0, TaskState::Ended), (1, TaskState::Running)];
        master.take(1, 4, Event::Adopted { attempts, tasks, newest_checkpoint });
        told
    };
    let told_to = |newest_checkpoint| told_to(newest_checkpoint).lock().unwrap().clone();
    assert_eq!(told_to(Some(CheckpointId(5))), ["complete 5", "release 5"]);
    // They have been restored from it, and may have a new source in front of them.
    assert_eq!(told_to(None), ["complete 5"]);
}

#[test]
fn an_end_that_is_heard_of_before_all_tasks_run_counts() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let scheduler = Scheduler::new(&samples::graph());
    let mut master = Master::new(scheduler, Some(checkpoints()), Begin::Fresh, Silent::default());
    master.start(0);
    master.take(1, 0, Event::Snapshot(SnapshotEvent::Ended { task: 0 }));
    let participants = Box::new(Told(Arc::clone(&told)));
    master.take(2, 0, Event::Deployed { participants });
    master.take(3, 0, Event::Snapshot(SnapshotEvent::Ended { task: 1 }));
    assert_eq!(*told.lock().unwrap(), ["barrier 1"], "the last checkpoint, of all ends");
}

#[test]
fn who_could_not_be_reached_is_told_again() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let scheduler = Scheduler::new(&samples::graph());
    let mut master = Master::new(scheduler, Some(checkpoints()), Begin::Fresh, Silent::default());
    master.start(0);
    let participants = Box::new(Told(Arc::clone(&told)));
    master.take(1, 0, Event::Deployed { participants });
    master.take(2, 0, Event::Reachable);
    assert_eq!(*told.lock().unwrap(), [""; 0], "there is nothing to be told");
    for task in [0, 1] {
        master.take(3, 0, Event::Snapshot(SnapshotEvent::Ended { task }));
    }
    let declined = SnapshotEvent::Declined {
        task: 0,
        checkpoint: CheckpointId(1),
        error: Error::external(""),
    };
    master.take(4, 0, Event::Snapshot(declined));
    assert_eq!(*told.lock().unwrap(), ["barrier 1", "aborted 1"]);
    master.take(5, 0, Event::Reachable);
    assert_eq!(*told.lock().unwrap(), ["barrier 1", "aborted 1", "aborted 1"]);
    master.take(6, 3, Event::Reachable);
    assert_eq!(told.lock().unwrap().len(), 3, "nobody runs in that attempt");
    // The last checkpoint: what it lets go has to hear of that above all.
    master.tick(7000);
    for task in [0, 1] {
        let taken =
            SnapshotEvent::Taken { task, checkpoint: CheckpointId(2), snapshot: ended(task) };
        master.take(7001, 0, Event::Snapshot(taken));
    }
    let last = ["complete 2", "release 2"];
    assert_eq!(told.lock().unwrap()[3..], [&["barrier 2"][..], &last].concat());
    master.take(8000, 0, Event::Reachable);
    assert_eq!(told.lock().unwrap()[6..], ["complete 2", "aborted 1", "release 2"]);
}

/// The former leader was gone when it had told only some that they may go on.
#[test]
fn tasks_that_ran_when_others_waited_hear_what_was_given_up_and_their_ends_count() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let scheduler = Scheduler::new(&samples::graph());
    let begin = Begin::Fresh;
    let mut master = Master::new(scheduler, Some(checkpoints()), begin, Silent::default());
    master.resume(0, 4, vec![4, 4]);
    let participants = Box::new(Told(Arc::clone(&told)));
    let attempts = vec![Adopted { attempt: 4, tasks: vec![0, 1], participants }];
    let tasks = vec![(0, TaskState::Ended), (1, TaskState::Restored)];
    let newest_checkpoint = Some(CheckpointId(9));
    master.take(1, 4, Event::Adopted { attempts, tasks, newest_checkpoint });
    assert_eq!(master.tasks.gone_on, [4]);
    assert_eq!(*told.lock().unwrap(), ["aborted 9"]);
    // Without an interval the last checkpoint begins when all have ended.
    master.take(2, 4, Event::Snapshot(SnapshotEvent::Ended { task: 1 }));
    assert_eq!(*told.lock().unwrap(), ["aborted 9", "barrier 10"]);
}
