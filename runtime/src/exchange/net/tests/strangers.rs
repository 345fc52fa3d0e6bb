//! What knocks at the port and does not belong there, or not any more, or not yet.

use super::*;
use crate::exchange::net::frame::{self, Kind};
use crate::exchange::net::hello::{ANSWER_BYTES, Answer, Hello};
use crate::exchange::net::{columns, wire};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

fn hello(attempt: u32, token: &[u8]) -> Hello {
    Hello { job: 77, attempt, from: 0, to: 1, token: token.to_vec() }
}

/// Says this to an exchange; the connection, or why it was refused.
fn knock(exchange: &Exchange, hello: &Hello) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(exchange.address()).unwrap();
    stream.write_all(&hello.to_bytes()).unwrap();
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).unwrap();
    match Answer::of(&answer).unwrap() {
        None => Ok(stream),
        Some(n) => {
            let mut reason = vec![0; n];
            stream.read_exact(&mut reason).unwrap();
            Err(String::from_utf8(reason).unwrap())
        }
    }
}

/// Bytes that look random and are not.
fn noise(seed: u64, n: usize) -> Vec<u8> {
    (0..n as u64).map(|i| hash_key(&(seed * 1_000_003 + i)).unwrap() as u8).collect()
}

/// Whether records still cross.
fn assert_works(hosts: &Hosts, sender: &Sender<u64>, gate: &mut Gate<u64>) {
    (0..40).for_each(|value| {
        send(sender, value);
        let mut seen = Seen::nothing();
        until("it has crossed", || {
            seen.take(gate);
            seen.values == [value]
        });
    });
    assert_eq!((hosts.losses(0), hosts.losses(1)), (vec![], vec![]));
}

#[test]
fn strangers_at_the_port_harm_nobody() {
    let hosts = hosts(2);
    let (sender, mut gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    // Some say nothing, some half of something, some rubbish, some a lot of it.
    let mut open = Vec::new();
    for seed in 0..60 {
        let mut stream = TcpStream::connect(hosts.exchanges[1].address()).unwrap();
        let said = match seed % 4 {
            0 => Vec::new(),
            1 => hello(0, b"secret").to_bytes()[..20].to_vec(),
            2 => noise(seed, 50),
            _ => noise(seed, 100_000),
        };
        // Whoever speaks rubbish is turned away while it speaks.
        let _ = stream.write_all(&said);
        if seed % 3 == 0 {
            let _ = stream.shutdown(Shutdown::Write);
        }
        open.push(stream);
    }
    hosts.start();
    assert_works(&hosts, &sender, &mut gate);
}

#[test]
fn who_does_not_know_the_secret_is_refused() {
    let hosts = hosts(2);
    let (sender, mut gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    hosts.start();
    let refused = |hello: &Hello| knock(&hosts.exchanges[1], hello).unwrap_err();
    assert!(refused(&hello(0, b"secreT")).contains("secret"));
    assert!(refused(&hello(0, b"")).contains("secret"));
    assert!(refused(&Hello { from: 2, ..hello(0, b"secret") }).contains("no link goes to host 2"));
    assert!(refused(&Hello { to: 0, ..hello(0, b"secret") }).contains("this is host 1"));
    assert_works(&hosts, &sender, &mut gate);
    assert!(refused(&hello(0, b"secret")).contains("connected already"));
}

#[test]
fn an_attempt_that_has_ended_is_refused() {
    let hosts = hosts(2);
    let (old_sender, _old_gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    let peers: Vec<_> = hosts.exchanges.iter().map(Exchange::address).collect();
    hosts.attempts[1].close();
    assert!(hosts.attempts[1].start().is_err(), "it may not begin any more");
    hosts.attempts[0].start().unwrap();
    until("the loss is told", || !hosts.losses(0).is_empty());
    let (host, cause) = hosts.losses(0).remove(0);
    assert_eq!(host, 1);
    assert!(cause.contains("it refuses") && cause.contains("attempt 0 has ended"), "{cause}");
    assert!(old_sender.try_send(&mut Batch::of(vec![1]), 8).is_err());
    assert_eq!(hosts.losses(1), []);
    let (spec, _) = self::spec(0, 1, &peers, &hosts.memories[1]);
    assert!(hosts.exchanges[1].attempt(spec).is_err(), "nor may it begin anew");
}

#[test]
fn an_attempt_that_is_at_work_goes_on_beside_another_until_it_ends() {
    let hosts = hosts(2);
    let (sender, mut gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    hosts.start();
    assert_works(&hosts, &sender, &mut gate);
    let peers: Vec<_> = hosts.exchanges.iter().map(Exchange::address).collect();
    let (spec, new_losses) = spec(1, 1, &peers, &hosts.memories[1]);
    let newer = hosts.exchanges[1].attempt(spec).unwrap();
    newer.start().unwrap();
    assert_works(&hosts, &sender, &mut gate);
    assert_eq!((hosts.losses(0), hosts.losses(1)), (vec![], vec![]));
    hosts.attempts[1].close();
    until("the loss is told", || !hosts.losses(0).is_empty());
    assert_eq!(hosts.losses(1), [], "whoever ended it knows");
    assert_eq!(new_losses.lock().unwrap().clone(), []);
}

#[test]
fn who_comes_too_early_waits() {
    let hosts = hosts(2);
    // Host 0 begins the next attempt before host 1 has heard of it.
    let peers: Vec<_> = hosts.exchanges.iter().map(Exchange::address).collect();
    let (spec_0, losses_0) = spec(1, 0, &peers, &hosts.memories[0]);
    let early = hosts.exchanges[0].attempt(spec_0).unwrap();
    let sender = early.sender::<u64>(1, id(0, 0), Arc::new(NoWake)).unwrap();
    early.start().unwrap();
    assert!(!sender.try_send(&mut Batch::of(vec![1]), 8).unwrap());
    let (spec_1, losses_1) = spec(1, 1, &peers, &hosts.memories[1]);
    let late = hosts.exchanges[1].attempt(spec_1).unwrap();
    let mode = CheckpointMode::ExactlyOnce;
    let (mut ends, mut gate) =
        connect::<u64>(&hosts.memories[1], &[Arc::new(NoWake)], Arc::new(NoWake), mode);
    late.inlet(0, id(0, 0), ends.remove(0)).unwrap();
    late.start().unwrap();
    send(&sender, 1);
    signal(&sender, Signal::End);
    assert_eq!(Seen::take_all(&mut gate).values, [1]);
    assert!(losses_0.lock().unwrap().is_empty() && losses_1.lock().unwrap().is_empty());
}

#[test]
fn who_waits_in_vain_is_refused() {
    let impatient = NetConfig { patience: Duration::from_millis(20), ..config() };
    let hosts = hosts_of(vec![config(), impatient], 1000);
    let refused = |hello: &Hello| knock(&hosts.exchanges[1], hello).unwrap_err();
    assert!(refused(&hello(5, b"secret")).contains("attempt 5 of the job is not known"));
    assert!(refused(&hello(0, b"secret")).contains("was not started"));
    hosts.attempts[1].close();
    assert!(refused(&hello(0, b"secret")).contains("has ended here"));
}

/// A frame with this payload.
fn framed(kind: Kind, channel: ChannelId, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::begin(&mut bytes);
    bytes.extend_from_slice(payload);
    frame::finish(&mut bytes, kind, false, channel).unwrap();
    bytes
}

/// What is told when an authenticated host sends this.
fn cause_of(bytes: &[u8]) -> String {
    let hosts = hosts(2);
    let (_sender, _gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    hosts.attempts[1].start().unwrap();
    let mut stream = knock(&hosts.exchanges[1], &hello(0, b"secret")).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    until("the loss is told", || !hosts.losses(1).is_empty());
    hosts.losses(1).remove(0).1
}

#[test]
fn a_host_that_speaks_nonsense_is_lost_with_the_reason() {
    let mut batch = Vec::new();
    columns::encode(&Batch::of(vec![1u64]), &mut batch).unwrap();
    let mut credit = Vec::new();
    wire::encode(&(1u32, 8u64), &mut credit).unwrap();
    let known = id(0, 0);
    let whole = framed(Kind::Batch, known, &batch);
    let mut flipped = whole.clone();
    flipped[30] ^= 1;
    let cases: [(&str, Vec<u8>); 9] = [
        ("not a frame", noise(1, 5000)),
        ("checksum", flipped),
        ("middle of a frame", whole[..whole.len() - 1].to_vec()),
        ("more than its credit", whole.repeat(17)),
        ("no channel is expected", framed(Kind::Batch, id(9, 9), &batch)),
        ("damaged", framed(Kind::Batch, known, &batch[..10])),
        ("what arrived is not", framed(Kind::Signal, known, &[9; 40])),
        ("no channel goes", framed(Kind::Credit, id(9, 9), &credit)),
        ("given up", framed(Kind::Close, ChannelId::NONE, &[])),
    ];
    for (cause, bytes) in cases {
        let told = cause_of(&bytes);
        assert!(told.contains(cause), "{told} instead of {cause}");
    }
}
