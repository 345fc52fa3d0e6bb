//! How connections end: told at once if something is missing, quietly if nothing is.

use super::*;
use millstream_model::failure::Domain;

/// Two hosts with a channel through which something has gone.
fn at_work() -> (Hosts, Sender<u64>, Gate<u64>) {
    let hosts = hosts(2);
    let (sender, mut gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    hosts.start();
    send(&sender, 1);
    let mut seen = Seen::nothing();
    until("it has crossed", || {
        seen.take(&mut gate);
        !seen.values.is_empty()
    });
    (hosts, sender, gate)
}

#[test]
fn a_host_that_goes_away_is_lost_once_and_senders_are_told() {
    for lost in [0, 1] {
        let (mut hosts, sender, _gate) = at_work();
        let gone = hosts.exchanges.remove(lost);
        let address = gone.address();
        drop(gone);
        let left = 1 - lost;
        until("the loss is told", || !hosts.losses(left).is_empty());
        let (host, cause) = hosts.losses(left).remove(0);
        assert_eq!(host, lost as u32);
        assert!(cause.contains(&address.to_string()), "{cause}");
        if left == 0 {
            let refused = sender.try_send(&mut Batch::of(vec![2]), 8).unwrap_err();
            assert_eq!((refused.domain(), refused.to_string()), (Domain::External, cause));
            assert!(sender.try_signal(Signal::End).is_err());
            sender.overtake(barrier(1));
        }
        drop(hosts.exchanges);
        assert_eq!(hosts.losses[left].lock().unwrap().len(), 1);
        assert!(hosts.losses[lost].lock().unwrap().is_empty(), "who goes away loses nobody");
    }
}

#[test]
fn who_waits_for_credit_is_woken_by_the_loss() {
    let mut hosts = hosts(2);
    let (bell, waker) = bell();
    let (senders, _gate) =
        hosts.connect::<u64>(&[waker], Arc::new(NoWake), CheckpointMode::ExactlyOnce);
    hosts.start();
    (0..16).for_each(|value| send(&senders[0], value));
    assert!(!senders[0].try_send(&mut Batch::of(vec![16]), 8).unwrap());
    let before = bell.count();
    drop(hosts.exchanges.remove(1));
    until("it is woken", || bell.count() > before);
    assert!(senders[0].try_send(&mut Batch::of(vec![16]), 8).is_err());
    assert_eq!(hosts.memories[0].used(), 0);
}

#[test]
fn a_host_that_is_not_there_is_lost() {
    let hosts = hosts(1);
    // Nobody listens there, and nobody else can.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let peers = [hosts.exchanges[0].address(), taken.local_addr().unwrap()];
    let (spec, losses) = spec(1, 0, &peers, &hosts.memories[0]);
    let attempt = hosts.exchanges[0].attempt(spec).unwrap();
    let _sender = attempt.sender::<u64>(1, id(0, 0), Arc::new(NoWake)).unwrap();
    attempt.start().unwrap();
    until("the loss is told", || !losses.lock().unwrap().is_empty());
    let told = losses.lock().unwrap().clone();
    assert!(told[0].1.contains("cannot be reached"), "{told:?}");
}

#[test]
fn a_host_that_does_not_call_is_lost() {
    let impatient = NetConfig { patience: Duration::from_millis(20), ..config() };
    let hosts = hosts_of(vec![config(), impatient], 1000);
    let (_sender, _gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    hosts.attempts[1].start().unwrap();
    until("the loss is told", || !hosts.losses(1).is_empty());
    assert!(hosts.losses(1)[0].1.contains("has not called"));
    assert_eq!(hosts.losses(0), []);
}

#[test]
fn nothing_is_lost_when_everything_has_ended() {
    // Whoever closes first.
    for first in [0, 1] {
        let (hosts, sender, mut gate) = at_work();
        signal(&sender, Signal::End);
        Seen::take_all(&mut gate);
        hosts.attempts[first].close();
        until("the connection has ended", || {
            let out = hosts.attempts[first].traffic().bytes_out;
            out > 0 && hosts.attempts[1 - first].traffic().bytes_in == out
        });
        let (losses, attempts) = (hosts.losses.clone(), hosts.attempts.clone());
        drop(hosts);
        assert!(losses.iter().all(|losses| losses.lock().unwrap().is_empty()));
        assert!(sender.try_send(&mut Batch::of(vec![2]), 8).is_err(), "it is closed");
        drop(attempts);
    }
}

#[test]
fn what_was_sent_before_the_end_arrives_although_the_sender_closes_at_once() {
    let mut hosts = hosts(2);
    let (sender, mut gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    hosts.start();
    // Credit that comes back is never read by the sender's side: it must not take back what was sent.
    let mut seen = Seen::nothing();
    for value in 0..500 {
        let mut batch = Batch::of(vec![value]);
        until("there is credit", || {
            seen.take(&mut gate);
            sender.try_send(&mut batch, 8).unwrap()
        });
    }
    signal(&sender, Signal::End);
    hosts.attempts[0].close();
    // Waits until the other side has closed, or for a while; the other side has much to take.
    let receiving = std::thread::spawn(move || {
        until("everything has crossed", || {
            while seen.take(&mut gate) {}
            seen.has_ended()
        });
        seen.values
    });
    drop(hosts.exchanges.remove(0));
    assert_eq!(receiving.join().unwrap(), (0..500).collect::<Vec<_>>());
    assert_eq!((hosts.losses(0), hosts.losses(1)), (vec![], vec![]));
}

#[test]
fn who_gives_up_says_so() {
    let (hosts, _sender, _gate) = at_work();
    hosts.attempts[1].close();
    until("the loss is told", || !hosts.losses(0).is_empty());
    let cause = &hosts.losses(0)[0].1;
    assert!(cause.contains("given up") || cause.contains("closed"), "{cause}");
    assert_eq!(hosts.losses(1), []);
}

#[test]
fn channels_are_named_before_the_start_and_once() {
    let hosts = hosts(2);
    let channel = |host| hosts.attempts[0].sender::<u64>(host, id(0, 0), Arc::new(NoWake));
    assert!(channel(1).is_ok());
    let refused = |host| channel(host).map(drop).unwrap_err().to_string();
    assert!(refused(1).contains("named twice"));
    assert!(refused(0).contains("no link goes to host 0"));
    assert!(refused(2).contains("no link goes to host 2"));
    hosts.attempts[0].start().unwrap();
    assert!(refused(1).contains("has started"));
    assert!(hosts.attempts[0].start().unwrap_err().to_string().contains("started twice"));
}
