//! User code that panics, aborts, never returns, or is not what was submitted.

use millstream::cluster::message::{ClientReply, ClientRequest, JobDetail, JobPhase, MetricValue};
use millstream_tests::cluster::Cluster;
use millstream_tests::unruly::{N, Unruly, What};

#[test]
fn a_panic_and_an_abort_cost_a_restart_each_and_nothing_for_the_job_beside() {
    let cluster = Cluster::start(2, 3);
    let beside = Unruly::new(&cluster.dir().join("beside"), N).submit(&cluster);
    let jobs = [What::Panic, What::Abort].map(|what| {
        let job = Unruly::new(&cluster.dir().join(what.word()), N).does(what).submit(&cluster);
        (what, job)
    });
    for (what, job) in jobs {
        job.finishes(&cluster, 1);
        let failure = cluster.detail(job.id).exceptions.remove(0);
        // Of a process that is gone, its neighbours may know first.
        let said: &[&str] = match what {
            What::Panic => &["told to"],
            _ => &["SIGABRT", "is lost"],
        };
        assert!(said.iter().any(|text| failure.message.contains(text)), "{failure:?}");
    }
    beside.finishes(&cluster, 0);
}

/// Both are on both hosts, and records of both cross the network.
#[test]
fn a_pipeline_that_fails_does_not_disturb_the_one_beside_it() {
    let cluster = Cluster::start(2, 1);
    let job = Unruly::new(&cluster.dir().join("two"), N).doubled().does(What::Panic);
    let job = job.submit(&cluster);
    job.finishes(&cluster, 1);
    assert_eq!([0, 1].map(|subtask| job.attempts_of(subtask)), [vec![0, 1], vec![0, 1]]);
    assert_eq!([0, 1].map(|subtask| job.attempts_beside(subtask)), [vec![0], vec![0]]);
}

#[test]
fn a_loop_without_end_is_ended_when_the_job_is_cancelled() {
    let cluster = Cluster::start(2, 1);
    let job = Unruly::new(&cluster.dir().join("loop"), N)
        .does(What::Loop)
        .args(&["-D", "cancel-timeout=300ms"]);
    let flag = job.flag();
    let job = job.submit(&cluster);
    cluster.wait_until(job.id, "it loops", |_| flag.exists());
    assert!(matches!(cluster.ask(ClientRequest::Cancel(job.id)), ClientReply::Yes));
    assert_eq!(cluster.ended(job.id).overview.state, JobPhase::Canceled);
    millstream_tests::cluster::until("its hosts are gone", || {
        job.hosts(&cluster).is_empty().then_some(())
    });
    // The slots are free again.
    Unruly::new(&cluster.dir().join("next"), 100).submit(&cluster).finishes(&cluster, 0);
}

/// The sum of a counter over the subtasks of an operator.
fn count(detail: &JobDetail, operator: &str, name: &str) -> u64 {
    let samples = detail.metrics.iter().filter(|m| m.operator == operator && m.name == name);
    samples.map(|sample| if let MetricValue::Count(n) = sample.value { n } else { 0 }).sum()
}

/// The memory that a process has in use, in MiB.
fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("in KiB") / 1024
}

#[test]
fn a_consumer_that_stands_still_stops_its_producers_and_memory_stays_bounded() {
    const LIMIT_MIB: u64 = 4;
    const AT: u64 = 100_000;
    // As fast as it can, without an end that anybody here will see.
    let cluster = Cluster::start(2, 1);
    let job = Unruly::paced(&cluster.dir().join("still"), 1 << 40, 1 << 40).args(&[
        "--do",
        "loop",
        "--where",
        "behind",
        "--at",
        &AT.to_string(),
        "-D",
        &format!("network-memory={LIMIT_MIB} MiB"),
        "-D",
        "cancel-timeout=300ms",
    ]);
    let job = job.submit(&cluster);
    // As long as anything moves, not everything that there is room for is under way yet.
    let before = std::cell::Cell::new((0, 0));
    let detail = cluster.wait_until(job.id, "the source stands still", |detail| {
        let n_sent = count(detail, "numbers", "records_out");
        let waited_us = count(detail, "numbers", "backpressured_us");
        let (n_before, waited_before) = before.get();
        if waited_us < waited_before + 500_000 {
            return false;
        }
        before.set((n_sent, waited_us));
        n_sent > 0 && n_sent == n_before
    });
    // A record has eight bytes, and each of the two hosts its limit. What was counted in the step that never ends is not told.
    let n_sent = count(&detail, "numbers", "records_out");
    assert!(n_sent <= AT + 2 * (LIMIT_MIB << 20) / 8, "{n_sent} were sent");
    let hosts = job.hosts(&cluster);
    assert_eq!(hosts.len(), 2);
    for pid in hosts {
        assert!(memory_of(pid) < 256, "a host takes {} MiB", memory_of(pid));
    }
    assert!(matches!(cluster.ask(ClientRequest::Cancel(job.id)), ClientReply::Yes));
    assert_eq!(cluster.ended(job.id).overview.state, JobPhase::Canceled);
}

/// How the job of a program ends that cannot be its host, although a restart was allowed.
fn unfit(what: What) -> String {
    let cluster = Cluster::start(1, 2);
    let job = Unruly::new(&cluster.dir().join(what.word()), N)
        .args(&["--do", what.word()])
        .submit(&cluster);
    let outcome = cluster.ended(job.id);
    assert_eq!(outcome.overview.state, JobPhase::Failed);
    assert_eq!(outcome.overview.n_restarts, 0, "another attempt would not help");
    outcome.error.expect("it failed").to_string()
}

#[test]
fn a_program_that_ends_before_execute_is_told_from_one_that_failed() {
    let error = unfit(What::Exit);
    assert!(error.contains("ended before it came to the `execute`"), "{error}");
    assert!(error.contains("there is nothing to be done here"), "{error}");
}

#[test]
fn a_program_that_builds_another_job_on_its_hosts_is_named() {
    let error = unfit(What::Drift);
    assert!(error.contains("has built another job here"), "{error}");
    assert!(error.contains("others") && error.contains("env.once"), "{error}");
}
