//! What `make crash` does for long with power cuts, for some seconds; and that it would see a sync that is missing.
//!
//! The seed is the time unless `SEED` is set; what fails says which it was.

use std::fs;
use std::path::Path;

use millstream_tests::crash::Case;
use millstream_tests::power_cut::ledger::{self, BY_JOB_MANAGERS};
use millstream_tests::power_cut::{BY_LOGS, BY_QUERIES, Forgotten};

use crate::crash::{case, seed};

#[test]
fn what_was_committed_survives_a_power_cut() {
    let seed = seed();
    for (id, seed) in ["O2", "O6"].into_iter().zip(seed..) {
        let outcome = case(id).cut_off(seed);
        assert!(outcome.violation.is_none(), "SEED={seed}: {outcome}");
    }
}

#[test]
fn a_log_and_who_reads_it_survive_a_power_cut_together() {
    let seed = seed();
    let outcome = Case::relay(1500, None).cut_off(seed);
    assert!(outcome.violation.is_none(), "SEED={seed}: {outcome}");
}

#[test]
fn what_clients_were_told_survives_a_power_cut_of_the_job_manager() {
    let seed = seed();
    let outcome = ledger::cut_off(seed);
    assert!(outcome.violation.is_none(), "SEED={seed}: {outcome}");
}

/// Forgets each kind of sync: that is missed.
fn are_missed(kinds: &[Forgotten], misses: impl Fn(&Forgotten, u64) -> Option<String>) {
    for forgotten in kinds {
        // A run whose syncs are slow may not come far: then another one.
        let missed = (0..8).find_map(|seed| misses(forgotten, seed));
        println!("{}: {missed:?}\n", forgotten.name);
        assert!(missed.is_some(), "nobody missed that this was synced: {}", forgotten.name);
    }
}

#[test]
fn every_sync_that_a_query_needs_is_missed_when_it_is_forgotten() {
    let case = case("B1");
    are_missed(&BY_QUERIES, |forgotten, seed| case.misses(forgotten, seed, 20));
}

#[test]
fn every_sync_that_a_log_needs_is_missed_when_it_is_forgotten() {
    let case = Case::relay(1500, None);
    are_missed(&BY_LOGS, |forgotten, seed| case.misses(forgotten, seed, 20));
}

#[test]
fn every_sync_that_a_job_manager_needs_is_missed_when_it_is_forgotten() {
    are_missed(&BY_JOB_MANAGERS, |forgotten, seed| ledger::misses(forgotten, seed, 40));
}

#[test]
fn who_reads_a_log_relies_on_no_commit_that_may_be_lost() {
    let [writer, reader] = ["writer", "reader"].map(|job| Case::relay(100, Some(job)));
    let (synced, written) =
        reader.syncs_what_it_finds(&writer, |root| root.join("out/log/commits"));
    assert!(synced.expect("commits are synced") < written.expect("something is written"));
}

#[test]
fn who_goes_on_relies_on_no_name_that_may_be_lost() {
    let checkpoint = |root: &Path| {
        let entries = fs::read_dir(root.join("checkpoints")).unwrap();
        let found = entries.map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
        found.expect("a finished job has one")
    };
    let (synced, written) = case("B1").syncs_what_it_finds(&case("B1"), checkpoint);
    assert!(synced.expect("the checkpoint is synced") < written.expect("one more is written"));
    // What all of it lies in.
    let (synced, written) = case("B1").syncs_what_it_finds(&case("B1"), Path::to_owned);
    assert!(synced.expect("the folder above is synced") < written.expect("one more is written"));
}
