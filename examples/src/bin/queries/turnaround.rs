//! O3: the departure that may follow an arrival.
//!
//! An aircraft that has arrived leaves again between half an hour and six hours later: an interval join of
//! both streams on the aircraft. Both files are in order, so each pair is found as soon as both are read.
//! The two sources are kept within an hour of each other, so that neither fills the state of the join.

use crate::run::Run;
use millstream::prelude::*;
use millstream_examples::records::{Arrival, Departure};
use std::fmt::Write;

pub(crate) const RESULT: &str = "O3_interval_join_turnaround";

/// Half an hour to six hours after the arrival.
const FROM_MS: EventTime = 30 * 60_000;
const TO_MS: EventTime = 6 * 60 * 60_000;

pub(crate) fn build(run: &Run) {
    let in_step = Watermarks::monotonous().aligned("flights", hours(1));
    let arrivals = run.events(in_step.on(|arrival: &Arrival| arrival.arr_ts));
    let departures = run
        .events(in_step.on(|departure: &Departure| departure.actual_ts))
        .filter(|departure| !departure.tailnum.is_empty())
        .parallelism(1);
    let turnarounds = arrivals
        .key_by_ref(|arrival| &arrival.tailnum)
        .interval_join(departures.key_by_ref(|departure| &departure.tailnum), FROM_MS, TO_MS)
        .apply(|a, d| (a.tailnum.clone(), a.seq, d.seq, d.actual_ts - a.arr_ts))
        .uid("turnarounds");
    run.write(turnarounds, RESULT, |(tailnum, arrival, departure, gap_ms), out| {
        write!(out, "{tailnum},{arrival},{departure},{gap_ms}")
    });
}
