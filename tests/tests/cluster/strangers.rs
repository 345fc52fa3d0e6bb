//! What comes to the job manager's port and means no good. It lives on, serves others, and its log tells.

use std::io::Write;
use std::net::TcpStream;

use millstream::cluster::message::{ClientReply, ClientRequest, RequestId};
use millstream_tests::cluster::{Cluster, until};
use millstream_tests::unruly::Unruly;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Settings, and the head of a frame that claims 16 MB.
const HUGE: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];

#[test]
fn garbage_at_the_port_is_turned_away_and_a_job_runs_meanwhile() {
    let cluster = Cluster::start(1, 2);
    let pid = cluster.job_manager();
    let connect = || TcpStream::connect(cluster.address()).expect("it listens");
    // Some say nothing for as long as the test lasts; one stops in the middle of the opening.
    let mut open: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    open[0].write_all(&PREFACE[..9]).expect("it is open");
    for opening in [&[0xff; 4096][..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"] {
        // It may be closed before all is written.
        let _ = connect().write_all(opening);
    }
    let mut huge = connect();
    let _ = huge.write_all(PREFACE).and_then(|()| huge.write_all(HUGE));
    Unruly::new(&cluster.dir().join("counts"), 500).submit(&cluster).finishes(&cluster, 0);
    until("the log tells of them", || {
        let log = cluster.job_manager_log();
        let told = ["does not speak our protocol", "speaks HTTP/1", "wants TLS"];
        told.iter().all(|text| log.contains(text)).then_some(())
    });
    assert_eq!(cluster.job_manager(), pid);
    drop(open);
}

#[test]
fn a_hostile_name_is_nothing_but_a_name() {
    let cluster = Cluster::start(1, 2);
    let honest = Unruly::new(&cluster.dir().join("counts"), 500).submit(&cluster);
    let ClientReply::Submission(submission) = cluster.ask(ClientRequest::Submission(honest.id))
    else {
        panic!("a job has a submission");
    };
    honest.finishes(&cluster, 0);
    let submit = |n: u128, name: &str| {
        let mut submission = submission.clone();
        submission.request = RequestId(n);
        submission.start.graph.name = name.to_owned();
        // It is to come as far as to its hosts.
        submission.settings.checkpoint_dir = None;
        submission.settings.checkpoints.interval_ms = None;
        cluster.connection().ask(ClientRequest::Submit(submission)).expect("it answers")
    };
    for (n, name) in (1..).zip(["\u{1b}[2J\nlevel=ERROR forged line", &"x".repeat(1 << 20)]) {
        let reply = submit(n, name);
        assert!(matches!(reply, ClientReply::Refused(_)), "{reply:?}");
    }
    // One that is strange and no danger: its hosts find that the program has built a job of another name.
    match submit(3, "../../../../tmp/evil") {
        ClientReply::Submitted(id) => {
            let error = cluster.ended(id).error.expect("it fails").to_string();
            assert!(error.contains("its name is `unruly`, not `../../../../tmp/evil`"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let log = cluster.job_manager_log();
    assert!(!log.lines().any(|line| line.starts_with("level=ERROR forged")), "{log}");
    assert!(!log.contains("\u{1b}[2J"), "a name clears the reader's screen");
    Unruly::new(&cluster.dir().join("after"), 500).submit(&cluster).finishes(&cluster, 0);
}
