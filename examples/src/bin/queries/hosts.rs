//! O4: visits of each host.
//!
//! Requests of a host with less than half an hour between two are one visit: a session window.

use crate::run::Run;
use crate::totals::Totals;
use millstream::prelude::*;
use millstream_examples::records::Hit;
use std::fmt::Write;

pub(crate) const RESULT: &str = "O4_host_sessions_30m";

pub(crate) fn build(run: &Run) {
    let visits = run
        .events(Watermarks::monotonous().on(|hit: &Hit| hit.ts))
        .key_by_ref(|hit| &hit.host)
        .window(Session::gap(mins(30)))
        .aggregate_with(Totals(|hit: &Hit| hit.bytes as i64), |host, (n, bytes), ctx, out| {
            out.emit((host.clone(), ctx.window(), *n, *bytes));
            Ok(())
        })
        .uid("visits");
    run.write(visits, RESULT, |(host, TimeWindow { start, end }, n, bytes), out| {
        write!(out, "{host},{start},{end},{n},{bytes}")
    });
}
