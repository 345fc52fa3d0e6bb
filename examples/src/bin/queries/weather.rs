//! B2: delays by the weather at the moment of departure.
//!
//! A temporal join gives each departure the newest weather of its airport. The weather is a table: it says
//! nothing of time before its end, so departures wait until all of it is there. Then departures are grouped
//! by the weather they met; the groups are final when the input has ended.

use crate::run::Run;
use crate::totals::Totals;
use millstream::prelude::*;
use millstream_examples::records::{Departure, Weather};
use std::fmt::Write;

pub(crate) const RESULT: &str = "B2_asof_join_weather";

/// Airport, time of the weather, wind speed.
type Met = (Text, Option<EventTime>, Text);

pub(crate) fn build(run: &Run) {
    let no_watermark = Watermarks::punctuated(|weather: &Weather| weather.ts, |_, _| None);
    let weather = run.table(no_watermark).key_by_ref(|weather| &weather.origin);
    let groups = run
        .events(Watermarks::monotonous().on(|d: &Departure| d.actual_ts))
        .key_by_ref(|departure| &departure.origin)
        .temporal_join(weather)
        .apply(|departure, weather| -> (Met, i64) {
            let (ts, wind_speed) = match weather {
                Some(weather) => (Some(weather.ts), weather.wind_speed.clone()),
                None => (None, Text::EMPTY),
            };
            ((departure.origin, ts, wind_speed), departure.delay_min)
        })
        .uid("weather")
        .key_by_ref(|(met, _)| met)
        .window(Global)
        .trigger(EventTimeTrigger)
        .aggregate_with(
            Totals(|(_, delay_min): &(Met, i64)| *delay_min),
            |met, (n, sum), _, out| {
                out.emit((met.clone(), *n, *sum));
                Ok(())
            },
        )
        .uid("groups");
    run.write(groups, RESULT, |((origin, ts, wind_speed), n, sum), out| {
        let ts = ts.map_or(String::new(), |ts| ts.to_string());
        write!(out, "{origin},{ts},{wind_speed},{n},{sum}")
    });
}
