//! The exchange between tasks that are stepped by hand: who may send, who is woken, what is made up for.

use super::*;
use crate::chain::{Flow, Push, Site};
use crate::task::{NoWake, Wake, Waker};
use millstream_model::{Barrier, Batch, CheckpointId, CheckpointMode, Signal, SnapshotKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn take(&self) -> u32 {
        self.0.swap(0, Ordering::SeqCst)
    }
}

fn bells(n: usize) -> (Vec<Arc<Bell>>, Vec<Waker>) {
    let bells: Vec<Arc<Bell>> = (0..n).map(|_| Arc::default()).collect();
    let wakers = bells.iter().map(|bell| Arc::clone(bell) as Waker).collect();
    (bells, wakers)
}

fn channel(memory: usize, senders: &[Waker]) -> (Vec<Sender<u32>>, Gate<u32>) {
    connect(
        &Arc::new(MemoryPool::new(memory)),
        senders,
        Arc::new(NoWake),
        CheckpointMode::default(),
    )
}

/// What has arrived at a gate.
fn drain(gate: &mut Gate<u32>) -> Vec<u32> {
    let mut values = Vec::new();
    loop {
        match gate.poll().unwrap() {
            Arrival::Batch(batch) => values.extend(batch.values),
            Arrival::Signal(_) | Arrival::Barrier(_) | Arrival::Taken => {}
            Arrival::Nothing => return values,
        }
    }
}

fn try_send(sender: &Sender<u32>, value: u32) -> bool {
    sender.try_send(&mut Batch::of(vec![value]), 10).unwrap()
}

/// A task that failed has left batches in its queues: their memory must not be gone for those that go on.
#[test]
fn what_is_under_way_when_its_tasks_go_gives_its_memory_back() {
    let memory = Arc::new(MemoryPool::new(25));
    let wakers: [Waker; 2] = [Arc::new(NoWake), Arc::new(NoWake)];
    let connected = connect(&memory, &wakers, Arc::new(NoWake), CheckpointMode::default());
    let (senders, mut gate): (Vec<Sender<u32>>, Gate<u32>) = connected;
    assert!(try_send(&senders[0], 1) && try_send(&senders[1], 2));
    assert!(!try_send(&senders[1], 3), "there is no room");
    assert_eq!(memory.used(), 20);
    assert!(matches!(gate.poll().unwrap(), Arrival::Batch(_)));
    assert_eq!(memory.used(), 10);
    drop(gate);
    assert!(senders[0].try_send(&mut Batch::of(vec![4]), 10).is_err(), "nobody is there");
    drop(senders);
    assert_eq!(memory.used(), 0);
}

#[test]
fn what_could_not_be_flushed_is_sent_when_there_is_credit_again() {
    let (mut senders, mut gate) = channel(1 << 20, &[Arc::new(NoWake)]);
    let sender = senders.remove(0);
    let mut writer = Writer::new(
        Box::new(Single(0)),
        vec![sender],
        Limits::default(),
        (Site::detached("test"), "0".into()),
        CheckpointMode::default(),
    );
    for value in 0..20 {
        assert_eq!(writer.push(&mut Batch::of(vec![value])).unwrap(), Flow::Ready);
        assert_eq!(writer.signal(Signal::Flush).unwrap(), Flow::Ready);
    }
    assert_eq!(drain(&mut gate), (0..16).collect::<Vec<_>>());
    // No record and no flush comes any more.
    assert_eq!(writer.resume().unwrap(), Flow::Ready);
    assert_eq!(drain(&mut gate), (16..20).collect::<Vec<_>>());
}

#[test]
fn idleness_that_could_not_be_told_is_told_when_there_is_credit_again() {
    let (mut senders, mut gate) = channel(1 << 20, &[Arc::new(NoWake)]);
    let mut writer = Writer::new(
        Box::new(Single(0)),
        vec![senders.remove(0)],
        Limits::default(),
        (Site::detached("test"), "0".into()),
        CheckpointMode::default(),
    );
    for value in 0..16 {
        let _ = writer.push(&mut Batch::of(vec![value])).unwrap();
        let _ = writer.signal(Signal::Flush).unwrap();
    }
    let _ = writer.signal(Signal::Idle).unwrap();
    assert_eq!(drain(&mut gate).len(), 16);
    let _ = writer.resume().unwrap();
    assert!(matches!(gate.poll().unwrap(), Arrival::Signal(Signal::Idle)));
}

#[test]
fn idleness_that_could_not_be_told_is_not_forgotten_over_a_barrier() {
    let (mut senders, mut gate) = channel(1 << 20, &[Arc::new(NoWake)]);
    let mut writer = Writer::new(
        Box::new(Single(0)),
        vec![senders.remove(0)],
        Limits::default(),
        (Site::detached("test"), "0".into()),
        CheckpointMode::default(),
    );
    for value in 0..16 {
        let _ = writer.push(&mut Batch::of(vec![value])).unwrap();
        let _ = writer.signal(Signal::Flush).unwrap();
    }
    let barrier = Barrier { checkpoint: CheckpointId(1), kind: SnapshotKind::Checkpoint };
    let _ = writer.signal(Signal::Idle).unwrap();
    assert_eq!(writer.signal(Signal::Barrier(barrier)).unwrap(), Flow::Blocked);
    assert_eq!(drain(&mut gate).len(), 16);
    assert_eq!(writer.resume().unwrap(), Flow::Ready);
    assert!(matches!(gate.poll().unwrap(), Arrival::Signal(Signal::Idle)));
    assert!(matches!(gate.poll().unwrap(), Arrival::Barrier(_)));
}

#[test]
fn an_empty_receiver_may_be_sent_one_batch_whatever_memory_there_is() {
    let memory = Arc::new(MemoryPool::new(1));
    let (_, wakers) = bells(2);
    let connect = || connect::<u32>(&memory, &wakers, Arc::new(NoWake), CheckpointMode::default());
    let ((a, mut gate_a), (b, _gate_b)) = (connect(), connect());
    assert!(try_send(&a[0], 1) && try_send(&b[0], 2));
    assert!(!try_send(&a[0], 3) && !try_send(&a[1], 4) && !try_send(&b[1], 5));
    assert_eq!((memory.used(), memory.peak()), (20, 20));
    assert_eq!(drain(&mut gate_a), [1]);
    assert!(try_send(&a[1], 6) && !try_send(&b[1], 7));
}

#[test]
fn an_empty_queue_wakes_all_who_wait_and_nobody_tries_before() {
    let (bells, wakers) = bells(3);
    let (senders, mut gate) = channel(1, &wakers);
    assert!(try_send(&senders[0], 0));
    assert!(!try_send(&senders[1], 1) && !try_send(&senders[2], 2));
    assert_eq!(drain(&mut gate), [0]);
    assert_eq!(bells.iter().map(|bell| bell.take()).collect::<Vec<_>>(), [0, 1, 1]);
    assert!(try_send(&senders[2], 2) && !try_send(&senders[1], 1));
    // It waits: only a wake-up changes that.
    assert_eq!(bells[1].take(), 0);
    assert_eq!(drain(&mut gate), [2]);
    assert_eq!(bells[1].take(), 1);
    assert!(try_send(&senders[1], 1));
}

#[test]
fn a_queue_that_is_never_empty_wakes_those_who_wait_in_turn() {
    let (bells, wakers) = bells(4);
    let (senders, mut gate) = channel(30, &wakers);
    assert!((0..3).all(|value| try_send(&senders[0], value)));
    assert!((1..4).all(|sender| !try_send(&senders[sender], 9)));
    let mut woken = Vec::new();
    for value in 3..6 {
        assert!(matches!(gate.poll().unwrap(), Arrival::Batch(_)));
        woken.extend((1..4).filter(|sender| bells[*sender].take() > 0));
        // Whoever is woken comes too late for the memory.
        assert!(try_send(&senders[0], value));
        assert!(!try_send(&senders[*woken.last().unwrap()], 9));
    }
    woken.sort();
    assert_eq!(woken, [1, 2, 3]);
}

#[test]
fn credit_wakes_its_sender_and_the_end_needs_none() {
    let (bells, wakers) = bells(1);
    let (senders, mut gate) = channel(1 << 20, &wakers);
    let sent = (0..).take_while(|value| try_send(&senders[0], *value)).count();
    assert_eq!(sent, 16);
    assert_eq!(bells[0].take(), 0);
    assert!(matches!(gate.poll().unwrap(), Arrival::Batch(_)));
    assert_eq!(bells[0].take(), 1);
    assert!(try_send(&senders[0], 16));
    assert!(senders[0].try_signal(Signal::End).unwrap());
    assert_eq!(drain(&mut gate).len(), 16);
}

#[test]
fn senders_and_receivers_on_threads_of_their_own_lose_no_wake_up() {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(&self) {
            self.0.unpark();
        }
    }
    const N_SENDERS: u32 = 3;
    const N: u32 = 20_000;
    // The threads know their wakers only when they run, so each waits for its end of the channel.
    let (ends, threads): (Vec<_>, Vec<_>) = (0..N_SENDERS)
        .map(|_| {
            let (give, take) = std::sync::mpsc::channel::<Sender<u32>>();
            let thread = std::thread::spawn(move || {
                let sender = take.recv().unwrap();
                for value in 0..N {
                    let mut batch = Batch::of(vec![value]);
                    while !sender.try_send(&mut batch, 1 + (value % 7) as usize).unwrap() {
                        std::thread::park();
                    }
                }
                while !sender.try_signal(Signal::End).unwrap() {
                    std::thread::park();
                }
            });
            (give, thread)
        })
        .unzip();
    let wakers: Vec<Waker> =
        threads.iter().map(|t| Arc::new(Unpark(t.thread().clone())) as Waker).collect();
    let receiver = Arc::new(Unpark(std::thread::current()));
    let (senders, mut gate) =
        connect(&Arc::new(MemoryPool::new(5)), &wakers, receiver, CheckpointMode::default());
    for (give, sender) in ends.into_iter().zip(senders) {
        give.send(sender).unwrap();
    }
    let mut sum = 0;
    loop {
        match gate.poll().unwrap() {
            Arrival::Batch(batch) => sum += batch.values.iter().map(|v| u64::from(*v)).sum::<u64>(),
            Arrival::Signal(Signal::End) => break,
            Arrival::Signal(_) | Arrival::Barrier(_) | Arrival::Taken => {}
            Arrival::Nothing => std::thread::park(),
        }
    }
    assert_eq!(sum, u64::from(N_SENDERS) * u64::from(N) * u64::from(N - 1) / 2);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn what_is_sent_to_all_comes_before_the_watermark_that_follows_it() {
    let limits = Limits { batch_records: 8, batch_bytes: 1 << 10, writer_bytes: 1 << 10 };
    let (mut senders, mut gates) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (mut sender, gate) = channel(1 << 20, &[Arc::new(NoWake)]);
        senders.append(&mut sender);
        gates.push(gate);
    }
    let (place, mode) = ((Site::detached("test"), "0".into()), CheckpointMode::default());
    let mut writer = Writer::new(Box::new(Broadcast), senders, limits, place, mode);
    let mut batch = Batch::default();
    batch.push(1, 10);
    batch.mark(10);
    batch.push(2, 7);
    batch.push(3, 30);
    batch.mark(30);
    let _ = writer.push(&mut batch).unwrap();
    let _ = writer.signal(Signal::Flush).unwrap();
    for mut gate in gates {
        let Arrival::Batch(batch) = gate.poll().unwrap() else { panic!("nothing arrived") };
        let marks: Vec<_> = batch.marks.iter().map(|mark| (mark.at, mark.watermark)).collect();
        // The first is put off until a record is behind it.
        assert_eq!((batch.values, marks), (vec![1, 2, 3], vec![(1, 10), (3, 30)]));
    }
}
