//! What crosses is what would have been there without a network: records, times, watermarks, signals, in order.

use super::*;

/// Pushes what a script says, and waits whenever that is asked for.
fn push_all(writer: &mut Writer<(u64, String)>, n: u64) {
    let settle = |writer: &mut Writer<_>, mut flow: Flow| {
        while flow == Flow::Blocked {
            std::thread::park_timeout(Duration::from_secs(1));
            flow = writer.resume().unwrap();
        }
    };
    for i in 0..n {
        let mut batch = Batch::default();
        for j in 0..300 {
            let value = i * 300 + j;
            batch.push((value, "x".repeat((value % 17) as usize)), value as i64);
            batch.hashes.push(hash_key(&value).unwrap());
        }
        batch.mark(i as i64 * 300);
        let flow = writer.push(&mut batch).unwrap();
        settle(writer, flow);
        let signal = match i % 50 {
            10 => Signal::Idle,
            // Without it, idle and active may cancel out.
            11 => Signal::Barrier(barrier(i)),
            12 => Signal::Active,
            _ => Signal::Flush,
        };
        let flow = writer.signal(signal).unwrap();
        settle(writer, flow);
    }
    let flow = writer.signal(Signal::End).unwrap();
    settle(writer, flow);
}

/// What arrives, through a network or not.
fn carried(hosts: Option<&Hosts>) -> Seen<(u64, String)> {
    let receiver = this_thread();
    let (give, take) = std::sync::mpsc::channel::<Sender<_>>();
    let sending = std::thread::spawn(move || {
        let mut writer = writer(take.recv().unwrap(), CheckpointMode::ExactlyOnce);
        push_all(&mut writer, 120);
        writer
    });
    let waker: Waker = Arc::new(Unpark(sending.thread().clone()));
    let mode = CheckpointMode::ExactlyOnce;
    let (mut senders, mut gate) = match hosts {
        Some(hosts) => hosts.connect(&[waker], receiver, mode),
        None => connect(&Arc::new(MemoryPool::new(1 << 20)), &[waker], receiver, mode),
    };
    if let Some(hosts) = hosts {
        hosts.start();
    }
    give.send(senders.remove(0)).unwrap();
    let seen = Seen::take_all(&mut gate);
    sending.join().unwrap();
    seen
}

/// The signals with their places; but a channel that is owed that it is idle, or active again, may fill on before there is
/// credit to say so.
fn placed(seen: &Seen<(u64, String)>) -> Vec<(Option<usize>, Signal)> {
    let place = |(at, signal): &(usize, Signal)| {
        let is_fixed = !matches!(signal, Signal::Idle | Signal::Active);
        (is_fixed.then_some(*at), *signal)
    };
    seen.signals.iter().map(place).collect()
}

/// Whether both say the same at the same places; where batches end is not part of it.
fn assert_same(a: &Seen<(u64, String)>, b: &Seen<(u64, String)>) {
    assert_eq!((&a.values, &a.times, &a.hashes), (&b.values, &b.times, &b.hashes));
    assert_eq!(placed(a), placed(b));
    assert_eq!(a.marks.last(), b.marks.last());
}

#[test]
fn what_crosses_is_what_would_have_been_there_without_a_network() {
    let local = carried(None);
    assert_eq!(local.values.len(), 36_000);
    for compress in [false, true] {
        let hosts = hosts_of(vec![NetConfig { compress, ..config() }; 2], 1 << 20);
        let remote = carried(Some(&hosts));
        assert_same(&local, &remote);
        until("what was sent is counted", || {
            let (out, arrived) = (hosts.attempts[0].traffic(), hosts.attempts[1].traffic());
            let has_crossed =
                out.frames_out > 36 && out.bytes_out > if compress { 0 } else { 36_000 * 24 };
            has_crossed && (out.frames_out, out.bytes_out) == (arrived.frames_in, arrived.bytes_in)
        });
        until("all memory is given back", || hosts.memories.iter().all(|m| m.used() == 0));
        drop(hosts);
    }
}
