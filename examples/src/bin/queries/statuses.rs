//! O9: responses of a web server by status in each hour.
//!
//! The log is not in order: a request is written when it was answered. A minute is enough for all of it,
//! which the (empty) result of late lines shows.

use crate::run::Run;
use crate::totals::Totals;
use millstream::prelude::*;
use millstream_examples::records::ApacheHit;
use std::fmt::Write;

pub(crate) const HOURS: &str = "O9_apache_status_tumbling_1h_bound60s";
pub(crate) const LATE_ROWS: &str = "O9_late_records";

const LATE: OutputTag<ApacheHit> = OutputTag::new("late");

pub(crate) fn build(run: &Run) {
    let hours = run
        .events(Watermarks::bounded(mins(1)).on(|hit: &ApacheHit| hit.ts))
        .key_by_ref(|hit| &hit.status)
        .window(Tumbling::of(hours(1)))
        .late_to(&LATE)
        .aggregate_with(
            Totals(|hit: &ApacheHit| hit.bytes as i64),
            |status, (n, bytes), ctx, out| {
                out.emit((status.clone(), ctx.window().start, *n, *bytes));
                Ok(())
            },
        )
        .uid("hours");
    let late = hours.side_output(&LATE);
    run.write(hours, HOURS, |(status, start, n, bytes), out| {
        write!(out, "{status},{start},{n},{bytes}")
    });
    run.write(late, LATE_ROWS, |hit, out| write!(out, "{},{},{}", hit.status, hit.ts, hit.line));
}
