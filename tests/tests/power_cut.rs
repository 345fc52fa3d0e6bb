//! What `make crash` does for long with power cuts, for some seconds; and that it would see a sync that is missing.
//!
//! The seed is the time unless `SEED` is set; what fails says which it was.

use millstream_tests::crash::Case;
use millstream_tests::power_cut::journal::Op;
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

/// Forgets each kind of sync: that is missed.
fn are_missed(case: &Case, kinds: &[Forgotten]) {
    for forgotten in kinds {
        // A run whose syncs are slow may not come far: then another one.
        let missed = (0..8).find_map(|seed| case.misses(forgotten, seed, 20));
        println!("{}: {missed:?}\n", forgotten.name);
        assert!(missed.is_some(), "nobody missed that this was synced: {}", forgotten.name);
    }
}

#[test]
fn every_sync_that_a_query_needs_is_missed_when_it_is_forgotten() {
    are_missed(&case("B1"), &BY_QUERIES);
}

#[test]
fn every_sync_that_a_log_needs_is_missed_when_it_is_forgotten() {
    are_missed(&Case::relay(1500, None), &BY_LOGS);
}

#[test]
fn who_reads_a_log_relies_on_no_commit_that_may_be_lost() {
    let [writer, reader] = ["writer", "reader"].map(|job| Case::relay(100, Some(job)));
    let (journal, commits) = reader.journal_after(&writer, 0, "out/log/commits");
    let synced =
        journal.iter().position(|op| matches!(op, Op::Sync { what, .. } if *what == commits));
    let written = journal.iter().position(|op| matches!(op, Op::Write { .. }));
    assert!(synced.expect("commits are synced") < written.expect("something is written"));
}
