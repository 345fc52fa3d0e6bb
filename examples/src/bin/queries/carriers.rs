//! O1: departures and minutes of delay of each carrier in each hour.
//!
//! Event time is when a flight really left, so the file is in order and no record is late.

use crate::run::Run;
use crate::totals::Totals;
use millstream::prelude::*;
use millstream_examples::records::Departure;
use std::fmt::Write;

pub(crate) const RESULT: &str = "O1_carrier_tumbling_1h";

pub(crate) fn build(run: &Run) {
    let hours = run
        .events(Watermarks::monotonous().on(|d: &Departure| d.actual_ts))
        .key_by_ref(|departure| &departure.carrier)
        .window(Tumbling::of(hours(1)))
        .aggregate_with(Totals(|d: &Departure| d.delay_min), |carrier, (n, sum), ctx, out| {
            out.emit((carrier.clone(), ctx.window().start, *n, *sum));
            Ok(())
        })
        .uid("hours");
    run.write(hours, RESULT, |(carrier, start, n, sum), out| {
        write!(out, "{carrier},{start},{n},{sum}")
    });
}
