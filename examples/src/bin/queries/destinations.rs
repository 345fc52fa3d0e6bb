//! O8: flights to each airport of the United States in a quarter of a day; three million of them.

use crate::run::Run;
use millstream::prelude::*;
use millstream_examples::records::DomesticFlight;
use std::fmt::Write;

pub(crate) const RESULT: &str = "O8_us_dest_tumbling_6h";

pub(crate) fn build(run: &Run) {
    let flights = run
        .events(Watermarks::monotonous().on(|flight: &DomesticFlight| flight.ts))
        .key_by_ref(|flight| &flight.destination)
        .window(Tumbling::of(hours(6)))
        .count()
        .uid("flights");
    run.write(flights, RESULT, |(destination, window, n), out| {
        write!(out, "{destination},{},{n}", window.start)
    });
}
