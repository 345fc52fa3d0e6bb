//! O2 and B1: departures and minutes of delay of each airport in each hour of the *timetable*.
//!
//! Event time is when a flight was to leave, but the file is in the order of real departures: delays of up
//! to 21 hours are disorder. Within five minutes a flight is waited for. In O2 what is later is late and
//! goes to a result of its own. In B1 an hour is kept for sixty minutes more, and each late flight makes it
//! fire again; firings of an hour are numbered by a second keyed operator.

use crate::run::Run;
use crate::totals::Totals;
use millstream::prelude::*;
use millstream_examples::records::Departure;
use std::fmt::Write;
use std::time::Duration;

pub(crate) const HOURS: &str = "O2_origin_tumbling_1h_late5m";
pub(crate) const LATE_ROWS: &str = "O2_late_records";
pub(crate) const FIRINGS: &str = "B1_firings";
pub(crate) const DROPPED: &str = "B1_dropped_records";

const LATE: OutputTag<Departure> = OutputTag::new("late");
const LATENESS: Duration = mins(60);

/// What an airport's hour amounts to: origin, start of the hour, flights, minutes of delay.
type Hour = (Text, EventTime, u64, i64);

/// The hours, and what was too late for them.
fn hours_of(run: &Run, lateness: Duration) -> (DataStream<Hour>, DataStream<Departure>) {
    let hours = run
        .events(Watermarks::bounded(mins(5)).on(|d: &Departure| d.sched_ts))
        .key_by_ref(|departure| &departure.origin)
        .window(Tumbling::of(hours(1)))
        .allowed_lateness(lateness)
        .late_to(&LATE)
        .aggregate_with(Totals(|d: &Departure| d.delay_min), |origin, (n, sum), ctx, out| {
            out.emit((origin.clone(), ctx.window().start, *n, *sum));
            Ok(())
        })
        .uid("hours");
    let late = hours.side_output(&LATE);
    (hours, late)
}

fn write_late(run: &Run, late: DataStream<Departure>, result: &str) {
    run.write(late, result, |d, out| write!(out, "{},{},{}", d.origin, d.sched_ts, d.seq));
}

/// O2.
pub(crate) fn build(run: &Run) {
    let (hours, late) = hours_of(run, Duration::ZERO);
    run.write(hours, HOURS, |(origin, start, n, sum), out| {
        write!(out, "{origin},{start},{n},{sum}")
    });
    write_late(run, late, LATE_ROWS);
}

/// How often an hour has fired.
const N_FIRINGS: ValueState<u32> = ValueState::new("firings");

/// Numbers the firings of an hour, and forgets the hour when it cannot fire any more.
#[derive(Clone)]
struct Number;

impl KeyedProcessFunction<(Text, EventTime), Hour> for Number {
    type Out = (Hour, u32);
    const STATES: StateSet<(Text, EventTime)> = states![N_FIRINGS];

    fn process(
        &mut self,
        hour: Hour,
        ctx: &mut KeyedContext<'_, (Text, EventTime)>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let mut state = ctx.state(&N_FIRINGS);
        let n_firings = state.or_default();
        *n_firings += 1;
        out.emit((hour, *n_firings));
        // A firing carries the last millisecond of its window.
        ctx.timers().at(ctx.timestamp() + LATENESS.as_millis() as EventTime);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timer,
        ctx: &mut KeyedContext<'_, (Text, EventTime)>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        ctx.state(&N_FIRINGS).clear();
        Ok(())
    }
}

/// B1.
pub(crate) fn build_firings(run: &Run) {
    let (hours, late) = hours_of(run, LATENESS);
    let firings = hours.key_by(|(origin, start, ..)| (origin.clone(), *start)).process(Number);
    run.write(firings.uid("firings"), FIRINGS, |((origin, start, n, sum), firing), out| {
        write!(out, "{origin},{start},{firing},{n},{sum}")
    });
    write_late(run, late, DROPPED);
}
