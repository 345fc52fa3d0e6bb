//! Timers in memory, and over a store with next to no memory: they are the same.

use super::{Due, TimerQueue};
use crate::lsm::model::ModelEngine;
use crate::lsm::{Expiry, LsmFile, MemoryBudget};
use crate::part::{Entries, Part, Written};
use crate::snapshot::Assignment;
use crate::store::{Backend, Store};
use millstream_model::job_graph::OperatorId;
use millstream_model::{EventTime, SnapshotKind, hash_key};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

type Queue = TimerQueue<u32, u8>;
type Model = BTreeSet<(EventTime, u32, u8)>;

const ID: OperatorId = OperatorId(7);

fn hash(key: u32) -> u64 {
    hash_key(&key).unwrap()
}

fn drain(q: &mut Queue, now: EventTime) -> Vec<(EventTime, u32)> {
    std::iter::from_fn(|| q.pop_due(now)).map(|due| (due.time, due.key)).collect()
}

#[test]
fn fires_in_order_once_per_key_note_and_time() {
    let mut q = Queue::default();
    for (t, k) in [(20, 1), (10, 2), (10, 1), (10, 2), (30, 1)] {
        q.set(t, hash(k), &k, &0);
    }
    assert!(q.set(10, hash(2), &2, &1));
    assert_eq!(drain(&mut q, 20), [(10, 2), (10, 1), (10, 2), (20, 1)]);
    assert_eq!(q.next_time(), Some(30));
}

#[test]
fn a_timer_of_the_moment_being_fired_can_be_deleted() {
    let mut q = Queue::default();
    q.set(5, hash(1), &1, &0);
    q.set(5, hash(2), &2, &0);
    assert_eq!(q.pop_due(9), Some(Due { time: 5, hash: hash(1), key: 1, note: 0 }));
    assert!(q.delete(5, hash(2), &2, &0));
    assert!(!q.delete(5, hash(2), &2, &0));
    assert_eq!((q.pop_due(9), q.next_time()), (None, None));
}

/// A task with one queue and a store with room for a few timers.
struct Task {
    queue: Queue,
    store: Arc<Store>,
}

/// What a checkpoint holds.
struct Checkpoint {
    written: Written,
    files: Vec<LsmFile>,
}

fn open(backend: &Backend, files: &[LsmFile]) -> Task {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let store = backend.open(0, attempt, files, Expiry::never()).unwrap();
    let mut queue = Queue::default();
    queue.attach(store.space(ID, "timers", 128), files.is_empty()).unwrap();
    Task { queue, store }
}

fn backend() -> Backend {
    Backend::new(
        Arc::new(ModelEngine::new(256)),
        MemoryBudget::new(1024),
        "trees".into(),
        "run".into(),
    )
}

impl Task {
    fn restored(backend: &Backend, from: &Checkpoint) -> Task {
        let mut task = open(backend, &from.files);
        let assignment = Assignment {
            subtask: 0,
            parallelism: 1,
            max_parallelism: 128,
            writer: 0,
            n_writers: 1,
        };
        let shape = task.queue.shape().unwrap();
        let (bytes, assignment, shape) = (&from.written.bytes, &assignment, &shape);
        task.queue.restore(&Entries { bytes, assignment, shape, version: 0, first: 0 }).unwrap();
        task
    }

    /// Fires what is due; the same is due in the model.
    fn fire(&mut self, now: EventTime, model: &mut Model) {
        let later = model.split_off(&(now + 1, 0, 0));
        let expected: Vec<_> = std::mem::replace(model, later).into_iter().collect();
        let mut fired = Vec::new();
        while let Some(due) = self.queue.pop_due(now) {
            assert_eq!(due.hash, hash(due.key));
            fired.push((due.time, due.key, due.note));
        }
        assert!(fired.is_sorted_by_key(|timer| timer.0), "{fired:?}");
        fired.sort_unstable();
        assert_eq!(fired, expected);
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Set(EventTime, u32, u8),
    Delete(EventTime, u32, u8),
    Fire(EventTime),
    Write(u8),
    /// The cut is done.
    Run,
}

fn changes(n: usize) -> impl Strategy<Value = Vec<Change>> {
    let timer = || (-20..100i64, 0..12u32, 0..2u8);
    vec(
        prop_oneof![
            12 => timer().prop_map(|(t, k, n)| Change::Set(t, k, n)),
            3 => timer().prop_map(|(t, k, n)| Change::Delete(t, k, n)),
            1 => (-20..100i64).prop_map(Change::Fire),
            2 => any::<u8>().prop_map(Change::Write),
            1 => Just(Change::Run),
        ],
        0..n,
    )
}

fn apply(task: &mut Task, change: Change, model: &mut Model) {
    match change {
        Change::Set(t, k, n) => {
            assert_eq!(task.queue.set(t, hash(k), &k, &n), model.insert((t, k, n)));
        }
        Change::Delete(t, k, n) => {
            assert_eq!(task.queue.delete(t, hash(k), &k, &n), model.remove(&(t, k, n)));
        }
        Change::Fire(now) => task.fire(now, model),
        Change::Write(_) | Change::Run => {}
    }
    let first = model.first().map(|timer| timer.0);
    assert!(task.queue.next_time() <= first || first.is_none(), "{:?}", task.queue.next_time());
}

proptest! {
    #[test]
    fn little_memory_changes_nothing_and_a_checkpoint_holds_what_was_there(
        before in changes(300),
        meanwhile in changes(300),
        gives_up in any::<bool>(),
    ) {
        let backend = backend();
        let (mut task, mut model) = (open(&backend, &[]), Model::new());
        for change in before {
            apply(&mut task, change, &mut model);
        }
        let mut frozen = model.clone();
        task.queue.freeze(SnapshotKind::Checkpoint);
        let (mut written, mut is_written, mut cut, mut files) = (Written::default(), false, None, None);
        for change in meanwhile {
            apply(&mut task, change, &mut model);
            match change {
                Change::Write(budget) if !is_written => {
                    let budget = written.bytes.len() + usize::from(budget);
                    is_written = task.queue.write(&mut written, budget).unwrap();
                    if is_written {
                        cut = Some(task.store.cut().unwrap());
                    }
                }
                Change::Run => {
                    if let Some(mut cut) = cut.take() {
                        files = Some(cut.run().unwrap());
                    }
                }
                _ => {}
            }
        }
        if gives_up && !is_written {
            task.queue.thaw();
            task.fire(200, &mut model);
            return Ok(());
        }
        while !is_written {
            is_written = task.queue.write(&mut written, usize::MAX).unwrap();
            cut = is_written.then(|| task.store.cut().unwrap());
        }
        if let Some(mut cut) = cut.take() {
            files = Some(cut.run().unwrap());
        }
        let checkpoint = Checkpoint { written, files: files.unwrap() };
        let mut restored = Task::restored(&backend, &checkpoint);
        restored.fire(40, &mut frozen);
        restored.fire(200, &mut frozen);
        task.fire(200, &mut model);
    }
}

#[test]
fn timers_leave_when_there_is_no_room_and_come_back_when_they_are_due() {
    let backend = backend();
    let (mut task, mut model) = (open(&backend, &[]), Model::new());
    for i in 0..5000u32 {
        let time = EventTime::from(i % 1000);
        apply(&mut task, Change::Set(time, i, 0), &mut model);
    }
    assert!(task.queue.n_timers < 200, "{} timers in memory", task.queue.n_timers);
    task.fire(500, &mut model);
    task.fire(2000, &mut model);
    assert_eq!(task.queue.next_time(), None);
}
