//! Barriers that wait for each other and barriers that overtake, across a network.

use super::*;
use crate::exchange::Inlet;
use crate::exchange::net::inlet::{Arrivals, Port, Returning};
use crate::exchange::net::{columns, wire};
use millstream_state::Part;
use millstream_state::part::{Entries, Written};
use millstream_state::snapshot::Assignment;

/// Writes the channel state; whether that was all.
fn written(gate: &mut Gate<u64>, out: &mut Written) -> bool {
    let mut slice = Written::default();
    let done = gate.write(&mut slice, 1 << 20).unwrap();
    out.append(&mut slice);
    done
}

/// The records that a gate replays that is restored from this.
fn replayed(written: &Written) -> Vec<u64> {
    let memory = Arc::new(MemoryPool::new(1 << 20));
    let nobody: Waker = Arc::new(NoWake);
    let (_senders, mut gate) =
        connect::<u64>(&memory, &[nobody], Arc::new(NoWake), CheckpointMode::Unaligned);
    let assignment =
        Assignment { subtask: 0, parallelism: 1, max_parallelism: 128, writer: 0, n_writers: 1 };
    let shape = gate.shape().unwrap();
    let bytes = &written.bytes;
    gate.restore(&Entries { bytes, assignment: &assignment, shape: &shape, version: 0, first: 0 })
        .unwrap();
    let mut seen = Seen::nothing();
    while seen.take(&mut gate) {}
    seen.values
}

#[test]
fn who_has_brought_the_barrier_waits_for_who_has_not() {
    let hosts = hosts(2);
    let nobody: Vec<Waker> = vec![Arc::new(NoWake), Arc::new(NoWake)];
    let (senders, mut gate) = hosts.connect(&nobody, Arc::new(NoWake), CheckpointMode::ExactlyOnce);
    hosts.start();
    send(&senders[0], 1);
    signal(&senders[0], Signal::Barrier(barrier(1)));
    // All the credit that is left: what is held keeps it.
    (100..114).for_each(|value| send(&senders[0], value));
    assert!(!senders[0].try_send(&mut Batch::of(vec![9]), 8).unwrap());
    let mut seen = Seen::nothing();
    // The other channel may send as much as it likes meanwhile.
    for value in 10..60 {
        send(&senders[1], value);
        until("it has crossed", || {
            while seen.take(&mut gate) {}
            seen.values.contains(&value)
        });
    }
    assert_eq!(seen.signals, []);
    signal(&senders[1], Signal::Barrier(barrier(1)));
    signal(&senders[1], Signal::End);
    signal(&senders[0], Signal::End);
    until("everything has crossed", || {
        while seen.take(&mut gate) {}
        seen.has_ended()
    });
    assert_eq!(seen.signals[0], (51, Signal::Barrier(barrier(1))));
    assert_eq!(seen.values[51..], (100..114).collect::<Vec<_>>());
}

#[test]
fn a_barrier_overtakes_a_task_that_takes_nothing() {
    let hosts = hosts(2);
    let (arrivals, receiver) = bell();
    let (mut senders, mut gate) =
        hosts.connect(&[Arc::new(NoWake)], receiver, CheckpointMode::Unaligned);
    let sender = senders.remove(0);
    hosts.start();
    (0..16).for_each(|value| send(&sender, value));
    assert!(!sender.try_send(&mut Batch::of(vec![16]), 8).unwrap());
    sender.overtake(barrier(1));
    until("all of it is there", || arrivals.count() == 17);
    let mut snapshot = Written::default();
    loop {
        match gate.poll().unwrap() {
            Arrival::Barrier(arrived) => break assert_eq!(arrived, barrier(1)),
            Arrival::Taken => {}
            _ => panic!("something came before the barrier that overtook it"),
        }
    }
    // Nothing is taken from now on, so no credit comes back.
    until("the channel state is whole", || written(&mut gate, &mut snapshot));
    assert_eq!(replayed(&snapshot), (0..16).collect::<Vec<_>>());
    // And the task misses nothing of it.
    send_and_take(&sender, &mut gate);
}

/// The credit comes back, and what was sent first comes first.
fn send_and_take(sender: &Sender<u64>, gate: &mut Gate<u64>) {
    let mut seen = Seen::nothing();
    while seen.take(gate) {}
    (16..40).for_each(|value| {
        send(sender, value);
        until("it has crossed", || {
            while seen.take(gate) {}
            seen.values.contains(&value)
        });
    });
    assert_eq!(seen.values, (0..40).collect::<Vec<_>>());
}

/// An inlet without a connection, and its gate.
fn inlet(mode: CheckpointMode) -> (Arrivals<u64>, Gate<u64>) {
    let hosts = hosts(2);
    let (mut ends, gate) = connect(&hosts.memories[1], &[Arc::new(NoWake)], Arc::new(NoWake), mode);
    let returning = Arc::new(Returning::new(hosts.attempts[1].link(0).unwrap(), id(0, 0)));
    let inlet: Inlet<u64> = ends.remove(0).into_inlet(Arc::clone(&returning) as Arc<_>).unwrap();
    (Arrivals::new(inlet, returning), gate)
}

fn batch(value: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    columns::encode(&Batch::of(vec![value]), &mut payload).unwrap();
    payload
}

#[test]
fn what_is_still_on_the_wire_belongs_to_the_channel_state() {
    for n_early in [0u64, 2, 5] {
        let (arrivals, mut gate) = inlet(CheckpointMode::Unaligned);
        (0..n_early).for_each(|value| arrivals.batch(&batch(value)).unwrap());
        let mut payload = Vec::new();
        wire::encode(&(barrier(1), 5u64), &mut payload).unwrap();
        arrivals.barrier(&payload).unwrap();
        while !matches!(gate.poll().unwrap(), Arrival::Barrier(_)) {}
        let mut snapshot = Written::default();
        assert_eq!(written(&mut gate, &mut snapshot), n_early == 5);
        // The rest arrives, and what was sent after the barrier.
        for value in n_early..8 {
            assert_eq!(gate.is_waiting(), value < 5, "{value} of {n_early}");
            arrivals.batch(&batch(value)).unwrap();
            let done = written(&mut gate, &mut snapshot);
            assert_eq!(done, value >= 4);
        }
        assert_eq!(replayed(&snapshot), (0..5).collect::<Vec<_>>());
        let mut seen = Seen::nothing();
        while seen.take(&mut gate) {}
        assert_eq!(seen.values, (0..8).collect::<Vec<_>>());
    }
}

#[test]
fn a_barrier_that_waits_behind_held_records_turns_and_overtakes_them() {
    let hosts = hosts(2);
    let nobody: Vec<Waker> = vec![Arc::new(NoWake), Arc::new(NoWake)];
    let (senders, mut gate) = hosts.connect(&nobody, Arc::new(NoWake), CheckpointMode::Timed);
    hosts.start();
    signal(&senders[0], Signal::Barrier(barrier(1)));
    // They are held, and keep all credit.
    (100..115).for_each(|value| send(&senders[0], value));
    (0..16).for_each(|value| send(&senders[1], value));
    let mut seen = Seen::nothing();
    until("the barrier has arrived", || {
        seen.take(&mut gate);
        gate.waiting_for() == Some(barrier(1))
    });
    // Waiting takes too long: at the task, then at the other sender, which has no credit left to send it in
    // its place.
    gate.turn(barrier(1));
    senders[1].overtake(barrier(1));
    let mut snapshot = Written::default();
    until("the barrier is handed out", || {
        seen.take(&mut gate);
        !seen.signals.is_empty()
    });
    until("the channel state is whole", || written(&mut gate, &mut snapshot));
    until("everything has crossed", || {
        while seen.take(&mut gate) {}
        seen.values.len() == 31
    });
    // What the second channel sent came before its barrier; what the first sent came behind.
    let n_before = seen.signals[0].0;
    assert_eq!(seen.values[..n_before], (0..n_before as u64).collect::<Vec<_>>());
    assert_eq!(replayed(&snapshot), (n_before as u64..16).collect::<Vec<_>>());
}

#[test]
fn signals_that_never_leave_a_task_are_refused_and_so_is_what_follows_the_end() {
    let (arrivals, _gate) = inlet(CheckpointMode::ExactlyOnce);
    let signal = |signal: Signal| {
        let mut payload = Vec::new();
        wire::encode(&signal, &mut payload).unwrap();
        arrivals.signal(&payload)
    };
    for inner in [Signal::Flush, Signal::Tick(3)] {
        assert!(signal(inner).unwrap_err().to_string().contains("never leaves its task"));
    }
    assert!(!signal(Signal::Idle).unwrap() && signal(Signal::End).unwrap());
    assert!(signal(Signal::Active).unwrap_err().to_string().contains("after the end"));
    assert!(arrivals.batch(&batch(1)).unwrap_err().to_string().contains("after the end"));
}
