//! What comes to the port and is none of ours. The job manager lives on, serves others, and counts it.

use super::*;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn connect(cluster: &Cluster) -> TcpStream {
    let stream = TcpStream::connect(cluster.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Waits until the other side has closed the connection, whatever it says before.
fn is_closed(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return,
            Err(e) => panic!("the connection is still open: {e}"),
        }
    }
}

fn is_well(cluster: &Cluster) {
    let reply = cluster.call(&ClientRequest::Cluster);
    assert!(matches!(reply, ClientReply::Cluster(_)), "{reply:?}");
}

fn counted(cluster: &Cluster, name: &str) -> u64 {
    let page = crate::rest::tests::get(cluster.rest_address(), "/jobmanager/metrics");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&page.body).unwrap();
    let entry = entries.iter().find(|entry| entry["id"] == name).unwrap();
    entry["value"].as_str().unwrap().parse().unwrap()
}

#[test]
fn garbage_is_turned_away() {
    let cluster = Cluster::start();
    let openings: [&[u8]; 4] = [
        &[0xff; 500],
        b"GET /overview HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and the rest of a handshake",
        b"PRI * HTTP/3.0",
    ];
    for opening in openings {
        let mut stream = connect(&cluster);
        stream.write_all(opening).unwrap();
        is_closed(stream);
        is_well(&cluster);
    }
    // It ends in the middle of the opening.
    let mut stream = connect(&cluster);
    stream.write_all(&PREFACE[..7]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    is_closed(stream);
    assert_eq!(counted(&cluster, "connections_refused"), 5);
}

#[test]
fn garbage_behind_a_right_opening_ends_the_connection() {
    let cluster = Cluster::start();
    let mut stream = connect(&cluster);
    stream.write_all(PREFACE).unwrap();
    stream.write_all(&[0x7f; 300]).unwrap();
    is_closed(stream);
    // A frame that claims to have 16 MB.
    let mut stream = connect(&cluster);
    stream.write_all(PREFACE).unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    stream.write_all(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]).unwrap();
    is_closed(stream);
    is_well(&cluster);
}

#[test]
fn a_connection_that_says_nothing_is_closed_after_a_while() {
    let cluster = Cluster::start();
    let silent = connect(&cluster);
    is_well(&cluster);
    is_closed(silent);
    assert_eq!(counted(&cluster, "connections_refused"), 1);
}

#[test]
fn there_are_only_so_many_connections() {
    let cluster = Cluster::with(|config| config.max_connections = 2);
    let first = cluster.attach(5, 1, &[]);
    let second = cluster.attach(6, 1, &[]);
    is_closed(connect(&cluster));
    first.cut();
    // Its place is free as soon as the other side has noticed.
    let mut is_served = false;
    for _ in 0..10_000 {
        let address = cluster.address().to_string();
        let endpoint = cluster.config.security.endpoint(&address).unwrap();
        if cluster.runtime.block_on(endpoint.connect()).is_ok() {
            is_served = true;
            break;
        }
    }
    assert!(is_served);
    drop(second);
}

#[test]
fn messages_that_are_too_long_or_none_are_refused() {
    let cluster = Cluster::start();
    let mut client = JobsClient::new(cluster.channel()).max_encoding_message_size(usize::MAX);
    let mut call =
        |sealed: Vec<u8>| cluster.runtime.block_on(client.call(Envelope { sealed })).unwrap_err();
    let status = call(vec![0; (64 << 20) + 4096]);
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status:?}");
    let status = call(b"no envelope at all".to_vec());
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    // An envelope, but of another message.
    let other = Envelope::seal(LeaderEpoch(0), &vec![300u32; 4]).unwrap();
    let status = call(other.sealed);
    assert_eq!(status.code(), tonic::Code::InvalidArgument);

    let status = cluster.begin(Envelope { sealed: vec![7; 40] }, 5).ends();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    let heartbeat = Envelope::seal(LeaderEpoch(0), &FromTaskManager::Heartbeat).unwrap();
    let status = cluster.begin(heartbeat, 5).ends();
    assert!(status.message().contains("is a Hello"), "{status:?}");
    let status = cluster.knock(LeaderEpoch(0), 5, usize::MAX, &[]).ends();
    assert!(status.message().contains("slots"), "{status:?}");
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    let mut sealed = Envelope::seal(LeaderEpoch(0), &FromTaskManager::Heartbeat).unwrap().sealed;
    sealed[4] += 1;
    let status = cluster.begin(Envelope { sealed }, 5).ends();
    assert!(status.message().contains("the same release"), "{status:?}");
    assert_eq!(status.code(), tonic::Code::PermissionDenied);

    let session = cluster.attach(5, 1, &[]);
    session.sender.send(Envelope { sealed: vec![1, 2, 3] }).unwrap();
    let status = session.ends();
    assert!(status.message().contains("not a message of the cluster"), "{status:?}");
    is_well(&cluster);
    assert!(counted(&cluster, "requests_refused") >= 6);
}

#[test]
fn a_second_hello_ends_the_session() {
    let cluster = Cluster::start();
    let session = cluster.attach(5, 1, &[]);
    let hello = Hello {
        id: TaskManagerId(6),
        version: String::new(),
        hostname: String::new(),
        pid: 0,
        n_slots: 1,
        epoch: LeaderEpoch(1),
        hosts: Vec::new(),
        metrics_address: None,
    };
    session.say(&FromTaskManager::Hello(hello));
    assert!(session.ends().message().contains("one Hello"));
    is_well(&cluster);
}
