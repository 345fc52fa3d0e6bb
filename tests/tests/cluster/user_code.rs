//! User code that panics, aborts, never returns, or is not what was submitted.

use millstream::cluster::message::{ClientReply, ClientRequest, JobPhase};
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
