//! Both ends in one process.

use super::*;
use millstream_model::job_graph::{Guarantee, JobGraph};
use millstream_proto::message::{JobId, LeaderEpoch};
use std::os::fd::AsRawFd;

fn start() -> HostStart {
    HostStart {
        job: JobId(7),
        arguments: vec!["--input".to_owned()],
        environment: Vec::new(),
        folder: "data".into(),
        nth_execute: 1,
        graph: JobGraph {
            name: "a job".to_owned(),
            vertices: Vec::new(),
            edges: Vec::new(),
            bounded: true,
            guarantee: Guarantee::OncePerRun,
        },
        config: vec![1, 2],
        once: Vec::new(),
    }
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(60);

/// A host's channel, the task manager's end of it, and how it ends.
fn pair() -> (HostChannel, UnixStream, Receiver<End>) {
    let (mut near, far) = UnixStream::pair().unwrap();
    envelope::write(&mut near, LeaderEpoch(3), &start()).unwrap();
    let (ended, end) = bounded(2);
    let (channel, read) =
        HostChannel::over(far, LOCALHOST, move |end| ended.send(end).unwrap()).unwrap();
    assert_eq!(read, start());
    (channel, near, end)
}

fn cancel(attempt: u32) -> ToHost {
    ToHost::Cancel { attempt, tasks: Vec::new() }
}

#[test]
fn messages_pass_in_both_directions() {
    let (channel, mut near, _end) = pair();
    assert_eq!((channel.data_bind(), channel.epoch()), (LOCALHOST, LeaderEpoch(3)));
    envelope::write(&mut near, LeaderEpoch(4), &cancel(9)).unwrap();
    let message = channel.receiver().recv_timeout(PATIENCE).unwrap();
    assert!(matches!(message, ToHost::Cancel { attempt: 9, .. }), "{message:?}");

    let senders: Vec<_> = (0..4)
        .map(|attempt| {
            let channel = channel.clone();
            std::thread::spawn(move || channel.send(&FromHost::Deployed { attempt }).unwrap())
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let mut attempts: Vec<u32> = (0..4)
        .map(|_| match envelope::read(&mut near).unwrap() {
            Some((LeaderEpoch(4), FromHost::Deployed { attempt })) => attempt,
            other => panic!("{other:?}"),
        })
        .collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [0, 1, 2, 3]);
}

#[test]
fn a_word_of_an_old_leader_is_refused() {
    let (channel, mut near, _end) = pair();
    for (epoch, attempt) in [(5, 1), (4, 2), (3, 3), (5, 4), (6, 5)] {
        envelope::write(&mut near, LeaderEpoch(epoch), &cancel(attempt)).unwrap();
    }
    let receiver = channel.receiver();
    let attempts: Vec<u32> = (0..3)
        .map(|_| match receiver.recv_timeout(PATIENCE).unwrap() {
            ToHost::Cancel { attempt, .. } => attempt,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(attempts, [1, 4, 5]);
    assert_eq!(channel.epoch(), LeaderEpoch(6));
}

#[test]
fn the_end_of_the_stream_ends_the_host_once() {
    let (channel, near, end) = pair();
    drop(near);
    assert!(matches!(end.recv_timeout(PATIENCE).unwrap(), End::Closed));
    // The writer notices too, and is not heard.
    while channel.send(&FromHost::Deployed { attempt: 1 }).is_ok() {
        std::thread::yield_now();
    }
    assert!(end.recv_timeout(PATIENCE).is_err(), "nothing is sent twice and the sender is gone");
}

#[test]
fn garbage_ends_the_host() {
    let (_channel, mut near, end) = pair();
    near.write_all(&[255; 64]).unwrap();
    let end = end.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(&end, End::Broken(error) if error.to_string().contains("claims to have")),
        "{end:?}"
    );
}

#[test]
fn the_end_is_noticed_although_nobody_takes_messages() {
    let (_channel, mut near, end) = pair();
    for _ in 0..100 {
        envelope::write(&mut near, LeaderEpoch(3), &cancel(1)).unwrap();
    }
    drop(near);
    assert!(matches!(end.recv_timeout(PATIENCE).unwrap(), End::Closed));
}

#[test]
fn a_host_that_takes_no_messages_is_stuck() {
    let (_channel, mut near, end) = pair();
    // Refused at last, when the reader is gone and the socket is full or closed; that is told by the end.
    let _ =
        (0..=MAX_UNREAD).try_for_each(|_| envelope::write(&mut near, LeaderEpoch(3), &cancel(1)));
    assert!(matches!(end.recv_timeout(PATIENCE).unwrap(), End::Stuck));
}

#[test]
fn a_full_outbox_holds_back_words_but_not_metrics() {
    let (channel, mut near, _end) = pair();
    let large = FromHost::Results(Ok(vec![("r".to_owned(), vec![vec![0; 1 << 11]])]));
    let sender = channel.clone();
    // More than the socket and the outbox take: it waits until somebody reads.
    let n_messages = MAX_UNWRITTEN + 512;
    let busy = std::thread::spawn(move || {
        (0..n_messages).for_each(|_| sender.send(&large).unwrap());
    });
    while !channel.outbox.is_full() {
        std::thread::yield_now();
    }
    channel.send(&FromHost::Metrics(Vec::new())).unwrap();
    for _ in 0..n_messages {
        let read = envelope::read::<FromHost>(&mut near).unwrap();
        assert!(matches!(read, Some((_, FromHost::Results(_)))));
    }
    busy.join().unwrap();
    assert!(channel.flush(PATIENCE));
    channel.send(&FromHost::Deployed { attempt: 1 }).unwrap();
    assert!(channel.flush(PATIENCE));
    let read = envelope::read::<FromHost>(&mut near).unwrap();
    assert!(matches!(read, Some((_, FromHost::Deployed { attempt: 1 }))), "{read:?}");
}

#[test]
fn a_task_manager_that_says_nothing_is_an_error() {
    let (near, far) = UnixStream::pair().unwrap();
    drop(near);
    let error = HostChannel::over(far, LOCALHOST, |_| {}).err().unwrap().to_string();
    assert!(error.contains("gone before it said anything"), "{error}");
}

#[test]
fn a_descriptor_that_is_another_socket_is_left_alone() {
    let (near, _far) = UnixStream::pair().unwrap();
    let inode = fstat(&near).unwrap().st_ino;
    assert!(take_over(near.as_raw_fd(), inode + 1).unwrap().is_none());
    assert!(take_over(RawFd::MAX, inode).unwrap().is_none());
    assert_eq!(parse(&variable_value(5, inode)), Some((5, inode)));
    for wrong in ["", "5", "1:7", "-4:7", "a:7", "5:", "5:-1", "5:1:1"] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
}
