//! A receiver that takes nothing stops its own senders and nobody else, and memory stays bounded.

use super::*;

/// Sends until there is no credit; how many batches that were.
fn send_until_blocked(sender: &Sender<Vec<u8>>, bytes: usize) -> usize {
    let mut n = 0;
    until("the connection is made", || {
        let is_sent = sender.try_send(&mut Batch::of(vec![vec![7; bytes]]), bytes).unwrap();
        n += usize::from(is_sent);
        is_sent
    });
    while sender.try_send(&mut Batch::of(vec![vec![7; bytes]]), bytes).unwrap() {
        n += 1;
    }
    n
}

#[test]
fn one_that_takes_nothing_holds_up_nobody_else() {
    let hosts = hosts(2);
    let mode = CheckpointMode::ExactlyOnce;
    let (slow, mut slow_gate) = hosts.channel(mode);
    let (quick, mut quick_gate) =
        hosts.connect_to::<u64>(1, &[Arc::new(NoWake)], Arc::new(NoWake), mode);
    hosts.start();
    (0..16).for_each(|value| send(&slow, value));
    assert!(!slow.try_send(&mut Batch::of(vec![16]), 8).unwrap());
    let mut seen = Seen::nothing();
    for value in 0..200 {
        let mut batch = Batch::of(vec![value]);
        until("there is credit", || {
            while seen.take(&mut quick_gate) {}
            quick[0].try_send(&mut batch, 8).unwrap()
        });
    }
    until("everything has crossed", || {
        while seen.take(&mut quick_gate) {}
        seen.values.len() == 200
    });
    assert!(!slow.try_send(&mut Batch::of(vec![16]), 8).unwrap(), "nothing was taken");
    let mut seen = Seen::nothing();
    until("the slow one has it all", || {
        while seen.take(&mut slow_gate) {}
        seen.values.len() == 16
    });
    send(&slow, 16);
}

#[test]
fn who_has_no_credit_is_woken_when_it_comes_and_tries_nothing_before() {
    let hosts = hosts(2);
    let ((bell, waker), (arrivals, receiver)) = (bell(), self::bell());
    let (senders, mut gate) = hosts.connect::<u64>(&[waker], receiver, CheckpointMode::ExactlyOnce);
    assert!(!senders[0].try_send(&mut Batch::of(vec![0]), 8).unwrap(), "nobody is there");
    hosts.start();
    until("the first credit has come", || bell.count() == 1);
    let sent = (0..).take_while(|v| senders[0].try_send(&mut Batch::of(vec![*v]), 8).unwrap());
    assert_eq!(sent.count(), 16);
    let mut seen = Seen::nothing();
    until("all has arrived", || arrivals.count() == 16);
    seen.take(&mut gate);
    assert_eq!(seen.values, [0]);
    assert_eq!(bell.count(), 1, "credit is given back in lots");
    until("all has been taken", || {
        while seen.take(&mut gate) {}
        seen.values.len() == 16
    });
    until("it is woken", || bell.count() == 2);
    assert!(senders[0].try_send(&mut Batch::of(vec![16]), 8).unwrap());
}

#[test]
fn the_end_of_a_channel_needs_no_credit() {
    let hosts = hosts(2);
    let (sender, mut gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    hosts.start();
    (0..16).for_each(|value| send(&sender, value));
    assert!(!sender.try_signal(Signal::Idle).unwrap());
    assert!(sender.try_signal(Signal::End).unwrap());
    assert_eq!(Seen::take_all(&mut gate).values, (0..16).collect::<Vec<_>>());
}

#[test]
fn memory_is_bounded_on_both_sides_however_slow_the_receivers_are() {
    const LIMIT: usize = 256 << 10;
    const BYTES: usize = 20_000;
    const CHANNELS: usize = 4;
    let hosts = hosts_of(vec![config(); 2], LIMIT);
    let nobody: Vec<Waker> = (0..CHANNELS).map(|_| Arc::new(NoWake) as Waker).collect();
    let (senders, mut gate) =
        hosts.connect::<Vec<u8>>(&nobody, Arc::new(NoWake), CheckpointMode::ExactlyOnce);
    hosts.start();
    let sent: usize = senders.iter().map(|sender| send_until_blocked(sender, BYTES)).sum();
    // Half of the memory is for what arrives, and each channel may exceed its share by one batch.
    assert!(sent * BYTES <= LIMIT / 2 + CHANNELS * BYTES, "{sent} batches");
    until("all has arrived", || hosts.memories[1].used() >= sent * BYTES);
    until("it is counted there alone", || hosts.memories[0].used() == 0);
    // Taking it slowly does not change that.
    let (mut n_taken, mut n_sent) = (0, sent);
    until("enough has crossed", || {
        n_taken += usize::from(matches!(gate.poll().unwrap(), Arrival::Batch(_)));
        for sender in &senders {
            n_sent +=
                usize::from(sender.try_send(&mut Batch::of(vec![vec![7; BYTES]]), BYTES).unwrap());
        }
        n_taken >= 200
    });
    assert!((n_sent - n_taken) * BYTES <= LIMIT / 2 + CHANNELS * BYTES);
    assert!(hosts.memories[1].peak() <= LIMIT / 2 + CHANNELS * (BYTES + 100));
    assert!(hosts.memories[0].peak() <= LIMIT);
}

#[test]
fn a_batch_larger_than_all_memory_goes_through() {
    let hosts = hosts_of(vec![NetConfig { compress: true, ..config() }; 2], 1000);
    let (mut senders, mut gate) =
        hosts.connect::<Vec<u8>>(&[Arc::new(NoWake)], this_thread(), CheckpointMode::ExactlyOnce);
    hosts.start();
    let sender = senders.remove(0);
    // One shrinks, the other does not.
    let noise: Vec<u8> = (0..3_000_000u64).map(|i| hash_key(&i).unwrap() as u8).collect();
    for values in [noise, vec![1; 3_000_000]] {
        let mut batch = Batch::of(vec![values.clone()]);
        until("there is room", || sender.try_send(&mut batch, 0).unwrap());
        let mut seen = Seen::nothing();
        until("it has crossed", || {
            seen.take(&mut gate);
            !seen.values.is_empty()
        });
        assert!(seen.values == [values]);
    }
}

#[test]
fn a_record_that_is_too_large_is_the_users_to_make_smaller() {
    let hosts = hosts(2);
    let (mut senders, _gate) = hosts.connect::<Vec<u8>>(
        &[Arc::new(NoWake)],
        Arc::new(NoWake),
        CheckpointMode::ExactlyOnce,
    );
    hosts.start();
    let sender = senders.remove(0);
    let mut batch = Batch::of(vec![vec![0; (64 << 20) + 1]]);
    let mut refused = None;
    until("it is refused", || {
        refused = sender.try_send(&mut batch, 0).err();
        refused.is_some()
    });
    let refused = refused.unwrap();
    assert!(refused.to_string().contains("too large for the network"), "{refused}");
    assert_eq!(refused.domain(), millstream_model::failure::Domain::User);
}

#[test]
fn many_channels_between_three_hosts_end_with_everything_where_it_belongs() {
    const SUBTASKS: u32 = 3;
    const N: u64 = 4_000;
    // Little enough that memory runs out all the time.
    let hosts = hosts_of(vec![config(); 3], 3000);
    let receivers: Vec<_> = (0..3u32)
        .map(|to| {
            let attempt = Arc::clone(&hosts.attempts[to as usize]);
            let memory = Arc::clone(&hosts.memories[to as usize]);
            let (ready, is_ready) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                let froms: Vec<u32> = (0..3).filter(|from| *from != to).collect();
                let n = froms.len() * SUBTASKS as usize;
                let nobody: Vec<Waker> = (0..n).map(|_| Arc::new(NoWake) as Waker).collect();
                let mode = CheckpointMode::ExactlyOnce;
                let (ends, mut gate) = connect::<u64>(&memory, &nobody, this_thread(), mode);
                let names = froms.iter().flat_map(|f| (0..SUBTASKS).map(move |s| (*f, s)));
                for ((from, subtask), end) in names.zip(ends) {
                    attempt.inlet(from, id(from * SUBTASKS + subtask, to), end).unwrap();
                }
                ready.send(()).unwrap();
                Seen::take_all(&mut gate).values
            });
            is_ready.recv().unwrap();
            thread
        })
        .collect();
    let senders: Vec<_> = (0..3 * SUBTASKS)
        .map(|subtask| {
            let from = subtask / SUBTASKS;
            let attempt = Arc::clone(&hosts.attempts[from as usize]);
            let (ready, is_ready) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                let tos: Vec<u32> = (0..3).filter(|to| *to != from).collect();
                let name = |to: u32| attempt.sender(to, id(subtask, to), this_thread()).unwrap();
                let senders: Vec<Sender<u64>> = tos.into_iter().map(name).collect();
                drop(attempt);
                ready.send(()).unwrap();
                for value in 0..N {
                    let n = (value % 5 * value % 29 + 1) as usize;
                    let mut batch = Batch::of(vec![value; n]);
                    while !senders[value as usize % 2].try_send(&mut batch, 8 * n).unwrap() {
                        std::thread::park();
                    }
                }
                for sender in &senders {
                    while !sender.try_signal(Signal::End).unwrap() {
                        std::thread::park();
                    }
                }
            });
            is_ready.recv().unwrap();
            thread
        })
        .collect();
    hosts.start();
    senders.into_iter().for_each(|thread| thread.join().unwrap());
    let arrived = receivers.into_iter().flat_map(|thread| thread.join().unwrap());
    let sent = |value: u64| value * (value % 5 * value % 29 + 1);
    let expected: u64 = (0..N).map(sent).sum::<u64>() * 3 * u64::from(SUBTASKS);
    assert_eq!(arrived.sum::<u64>(), expected);
    hosts.attempts.iter().for_each(|attempt| attempt.close());
    assert!((0..3).all(|host| hosts.losses(host).is_empty()));
}
