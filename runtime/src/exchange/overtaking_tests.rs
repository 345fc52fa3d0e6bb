//! Barriers that overtake: what they leave behind is in the snapshot, each record once, wherever it lay.

use super::*;
use crate::chain::{Push, Site, Stateful};
use crate::task::{NoWake, Waker};
use millstream_model::{
    Barrier, Batch, CheckpointId, CheckpointMode, Signal, SnapshotKind, hash_key,
};
use millstream_state::part::{Entries, Part, Written};
use millstream_state::snapshot::Assignment;
use std::sync::Arc;

const BARRIER: Barrier = Barrier { checkpoint: CheckpointId(5), kind: SnapshotKind::Checkpoint };

type Channels = (Vec<Sender<u64>>, Gate<u64>);

fn channels(n: usize) -> Channels {
    let wakers: Vec<Waker> = (0..n).map(|_| Arc::new(NoWake) as Waker).collect();
    let memory = Arc::new(MemoryPool::new(1 << 20));
    connect(&memory, &wakers, Arc::new(NoWake), CheckpointMode::Unaligned)
}

fn send(sender: &Sender<u64>, value: u64) {
    let mut batch = Batch::of(vec![value]);
    batch.hashes.push(hash_key(&value).unwrap());
    batch.times.push(value as i64);
    batch.mark(value as i64);
    assert!(sender.try_send(&mut batch, 8).unwrap());
}

/// Takes what is there; whether the barrier was among it.
fn drain(gate: &mut Gate<u64>) -> (Vec<u64>, bool) {
    let (mut values, mut has_barrier) = (Vec::new(), false);
    loop {
        match gate.poll().unwrap() {
            Arrival::Batch(batch) => values.extend(batch.values),
            Arrival::Barrier(barrier) => {
                assert_eq!(barrier, BARRIER);
                has_barrier = true;
            }
            Arrival::Signal(_) | Arrival::Taken => {}
            Arrival::Nothing => return (values, has_barrier),
        }
    }
}

fn until_barrier(gate: &mut Gate<u64>) {
    while !matches!(gate.poll().unwrap(), Arrival::Barrier(_)) {}
    gate.record(BARRIER);
}

fn written(part: &mut dyn Part) -> (Written, bool) {
    let mut written = Written::default();
    let mut done = false;
    // As often as a task would try before it gives up its turn.
    for _ in 0..100 {
        let mut slice = Written::default();
        done = done || part.write(&mut slice, 1).unwrap();
        written.append(&mut slice);
    }
    (written, done)
}

fn restored(gate: &mut Gate<u64>, written: &Written, (subtask, parallelism): (usize, usize)) {
    let assignment =
        Assignment { subtask, parallelism, max_parallelism: 128, writer: 0, n_writers: 1 };
    let shape = gate.shape().unwrap();
    gate.restore(&Entries {
        bytes: &written.bytes,
        assignment: &assignment,
        shape: &shape,
        version: 0,
        first: 0,
    })
    .unwrap();
}

#[test]
fn what_is_queued_is_in_the_snapshot_whether_or_not_the_task_gets_to_it() {
    for n_taken_first in [0, 3, 100] {
        let (senders, mut gate) = channels(1);
        (0..10).for_each(|i| send(&senders[0], i));
        senders[0].overtake(BARRIER);
        (10..14).for_each(|i| send(&senders[0], i));
        until_barrier(&mut gate);
        // The task takes some of it before a slice is written.
        let mut taken = Vec::new();
        for _ in 0..n_taken_first {
            if let Arrival::Batch(batch) = gate.poll().unwrap() {
                taken.extend(batch.values);
            }
        }
        let (snapshot, done) = written(&mut gate);
        assert!(done);
        taken.extend(drain(&mut gate).0);
        assert_eq!(taken, (0..14).collect::<Vec<_>>(), "the task misses nothing");
        let (_senders, mut other) = channels(1);
        restored(&mut other, &snapshot, (0, 1));
        assert!(holds_messages(&snapshot.bytes));
        assert_eq!(drain(&mut other).0, (0..10).collect::<Vec<_>>(), "{n_taken_first}");
    }
}

#[test]
fn a_snapshot_of_which_nothing_was_under_way_is_known_by_its_bytes() {
    let (senders, mut gate) = channels(2);
    senders.iter().for_each(|sender| sender.overtake(BARRIER));
    until_barrier(&mut gate);
    let (snapshot, done) = written(&mut gate);
    assert!(done && snapshot.n_entries == 2);
    assert!(!holds_messages(&snapshot.bytes));
}

#[test]
fn a_channel_whose_barrier_has_not_come_is_waited_for_and_recorded() {
    let (senders, mut gate) = channels(2);
    send(&senders[0], 1);
    send(&senders[1], 2);
    senders[0].overtake(BARRIER);
    until_barrier(&mut gate);
    let (mut snapshot, done) = written(&mut gate);
    assert!(!done && gate.is_waiting());
    send(&senders[1], 3);
    send(&senders[0], 4);
    let mut taken = drain(&mut gate).0;
    taken.sort_unstable();
    assert_eq!(taken, [1, 2, 3, 4]);
    send(&senders[1], 5);
    senders[1].overtake(BARRIER);
    send(&senders[1], 6);
    let (mut rest, done) = written(&mut gate);
    assert!(done && !gate.is_waiting());
    snapshot.append(&mut rest);
    let (taken, again) = drain(&mut gate);
    assert_eq!((taken, again), (vec![5, 6], false), "the task is told of a barrier once");
    let (_senders, mut other) = channels(2);
    restored(&mut other, &snapshot, (0, 1));
    let mut replayed = drain(&mut other).0;
    replayed.sort_unstable();
    assert_eq!(replayed, [1, 2, 3, 5]);
}

#[test]
fn with_another_parallelism_everybody_replays_what_they_own() {
    let (senders, mut gate) = channels(1);
    (0..15).for_each(|i| send(&senders[0], i));
    senders[0].overtake(BARRIER);
    until_barrier(&mut gate);
    let (snapshot, done) = written(&mut gate);
    assert!(done);
    let mut all = Vec::new();
    for subtask in 0..3 {
        let (_senders, mut other) = channels(2);
        restored(&mut other, &snapshot, (subtask, 3));
        let share = drain(&mut other).0;
        assert!(share.len() < 15, "not everything belongs to one subtask");
        all.extend(share);
    }
    all.sort_unstable();
    assert_eq!(all, (0..15).collect::<Vec<_>>());
}

/// A writer to so many subtasks that sends each record by itself, to the first of them.
fn writer(n: usize) -> (Writer<u64>, Gate<u64>) {
    let (senders, gate) = channels(n);
    let site = (Site::detached("test"), "0".into());
    let limits = Limits { batch_records: 1, ..Limits::default() };
    let partition = Box::new(Single(0));
    (Writer::new(partition, senders, limits, site, CheckpointMode::Unaligned), gate)
}

/// Takes what was parked as the only one that is dealt it.
fn parked_in(other: &mut Writer<u64>, parked: &Written, assignment: &Assignment) {
    let shape = other.shape().unwrap();
    let entries = Entries { bytes: &parked.bytes, assignment, shape: &shape, version: 0, first: 0 };
    other.restore(&entries).unwrap();
    other.restored().unwrap();
    let _ = other.resume().unwrap();
}

#[test]
fn what_was_parked_brings_its_watermark_only_to_who_parked_it() {
    let (mut full, _gate) = writer(1);
    while full.push(&mut Batch::of(vec![1])).unwrap() == crate::chain::Flow::Ready {}
    let mut behind = Batch::default();
    behind.mark(70);
    behind.push(2, 60);
    let _ = full.push(&mut behind).unwrap();
    let _ = full.signal(Signal::Barrier(BARRIER)).unwrap();
    let (parked, _) = written(&mut full);
    let marks_of = |n_lanes: usize, assignment: Assignment| {
        let (mut other, mut gate) = writer(n_lanes);
        parked_in(&mut other, &parked, &assignment);
        let mut marks = Vec::new();
        while let Arrival::Batch(batch) = gate.poll().unwrap() {
            marks.extend(batch.marks.into_iter().map(|mark| mark.watermark));
        }
        marks
    };
    let same =
        Assignment { subtask: 2, parallelism: 3, max_parallelism: 128, writer: 2, n_writers: 3 };
    assert_eq!(marks_of(1, same.clone()), [70]);
    assert_eq!(marks_of(2, same.clone()), [70]);
    // Who is dealt it now may read what is far behind that.
    assert!(marks_of(2, Assignment { subtask: 0, parallelism: 2, ..same }).is_empty());
}

#[test]
fn what_could_not_be_sent_is_the_senders_to_save() {
    let (mut full, mut gate) = writer(1);
    let mut n_given = 0;
    // Until there is no credit left.
    while full.push(&mut Batch::of(vec![n_given])).unwrap() == crate::chain::Flow::Ready {
        n_given += 1;
    }
    n_given += 1;
    assert_eq!(
        full.signal(Signal::Barrier(BARRIER)).unwrap(),
        crate::chain::Flow::Ready,
        "a barrier that overtakes waits for no credit"
    );
    until_barrier(&mut gate);
    let (queued, done) = written(&mut gate);
    assert!(done);
    let (parked, done) = written(&mut full);
    assert!(done && parked.n_entries == 1);
    let (mut other, mut other_gate) = writer(1);
    restored(&mut other_gate, &queued, (0, 1));
    let assignment =
        Assignment { subtask: 0, parallelism: 1, max_parallelism: 128, writer: 0, n_writers: 1 };
    parked_in(&mut other, &parked, &assignment);
    assert_eq!(drain(&mut other_gate).0, (0..n_given).collect::<Vec<_>>());
}

#[test]
fn what_was_parked_goes_to_who_would_have_received_it() {
    let (mut full, _gate) = writer(2);
    while full.push(&mut Batch::of(vec![1])).unwrap() == crate::chain::Flow::Ready {}
    let _ = full.signal(Signal::Barrier(BARRIER)).unwrap();
    let (parked, _) = written(&mut full);
    // The writer has another parallelism now, and would send records elsewhere.
    let gates = [channels(1), channels(1)];
    let (senders, mut gates): (Vec<_>, Vec<_>) = gates.into_iter().unzip();
    let senders = senders.into_iter().flatten().collect();
    let site = (Site::detached("test"), "0".into());
    let (partition, mode) = (Box::new(Single(1)), CheckpointMode::Unaligned);
    let mut other = Writer::new(partition, senders, Limits::default(), site, mode);
    let assignment =
        Assignment { subtask: 0, parallelism: 2, max_parallelism: 128, writer: 0, n_writers: 1 };
    parked_in(&mut other, &parked, &assignment);
    assert_eq!(drain(&mut gates[0]).0, [1]);
    assert!(drain(&mut gates[1]).0.is_empty());
}

/// Both old subtasks were idle for long, and records have come for both: the first must not go by its own ones alone.
#[test]
fn who_takes_over_from_several_waits_also_for_those_that_were_idle() {
    let old = |value| {
        let (senders, mut gate) = channels(1);
        send(&senders[0], 99);
        assert!(senders[0].try_signal(Signal::Idle).unwrap());
        drain(&mut gate);
        assert!(senders[0].try_signal(Signal::Active).unwrap());
        send(&senders[0], value);
        senders[0].overtake(BARRIER);
        until_barrier(&mut gate);
        written(&mut gate).0
    };
    let (_senders, mut gate) = channels(1);
    let shape = gate.shape().unwrap();
    for (writer, snapshot) in [old(900), old(850)].iter().enumerate() {
        let assignment =
            Assignment { subtask: 0, parallelism: 1, max_parallelism: 128, writer, n_writers: 2 };
        let (bytes, assignment) = (&snapshot.bytes, &assignment);
        let entries = Entries { bytes, assignment, shape: &shape, version: 0, first: 0 };
        gate.restore(&entries).unwrap();
    }
    let mut watermark = i64::MIN;
    let mut values = Vec::new();
    while let Arrival::Batch(batch) = gate.poll().unwrap() {
        for (at, value) in batch.values.iter().enumerate() {
            let before = batch.marks.iter().filter(|mark| mark.at as usize <= at);
            watermark = before.map(|mark| mark.watermark).fold(watermark, i64::max);
            assert!(watermark < *value as i64, "{value} would be late at {watermark}");
            values.push(*value);
        }
        watermark = batch.marks.iter().map(|mark| mark.watermark).fold(watermark, i64::max);
    }
    assert_eq!((values, watermark), (vec![900, 850], 850));
}

#[test]
fn a_barrier_that_was_given_up_before_its_task_took_it_leaves_nothing() {
    let (senders, mut gate) = channels(2);
    send(&senders[0], 1);
    senders[0].overtake(BARRIER);
    // Found while another snapshot was written.
    let (snapshot, done) = written(&mut gate);
    assert!(!done && snapshot.n_entries > 0, "what it has overtaken is recorded");
    gate.cancel(BARRIER.checkpoint);
    assert_eq!(drain(&mut gate), (vec![1], false));
    senders[1].overtake(BARRIER);
    send(&senders[1], 2);
    assert_eq!(drain(&mut gate), (vec![2], false));
    let (snapshot, done) = written(&mut gate);
    assert!(done && snapshot.n_entries == 0);
}

/// The snapshot waits for a channel on which the barrier of the next checkpoint, which waits for nobody, comes behind a record.
#[test]
fn a_barrier_that_the_snapshot_is_not_of_has_its_turn_behind_what_came_before_it() {
    let next = Barrier { checkpoint: CheckpointId(6), kind: SnapshotKind::Stop { drain: false } };
    let (senders, mut gate) = channels(2);
    senders[0].overtake(BARRIER);
    until_barrier(&mut gate);
    assert!(!written(&mut gate).1, "it waits for the other channel");
    for (sender, value) in senders.iter().zip([1, 2]) {
        send(sender, value);
        assert!(sender.try_signal(Signal::Barrier(next)).unwrap());
    }
    let _ = written(&mut gate);
    let mut values = Vec::new();
    loop {
        match gate.poll().unwrap() {
            Arrival::Batch(batch) => values.extend(batch.values),
            Arrival::Barrier(barrier) if barrier == next => break,
            Arrival::Nothing => panic!("the barrier is lost"),
            Arrival::Barrier(_) | Arrival::Signal(_) | Arrival::Taken => {}
        }
    }
    values.sort_unstable();
    assert_eq!(values, [1, 2]);
}
