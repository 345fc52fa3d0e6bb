//! B3: hosts that miss three times within ten minutes.
//!
//! Per host, in file order, responses 404 only: times older than ten minutes are forgotten; the third that
//! is kept gives an alert with the first and the last of them, and the host starts afresh.

use crate::run::Run;
use millstream::prelude::*;
use millstream_examples::records::Hit;
use std::fmt::Write;

pub(crate) const RESULT: &str = "B3_alerts";

const MISSES: ListState<EventTime> = ListState::new("misses");

/// Emits (first miss, last miss) of every third.
#[derive(Clone)]
struct ThirdMiss;

impl KeyedProcessFunction<Text, Hit> for ThirdMiss {
    type Out = (Text, EventTime, EventTime);
    const STATES: StateSet<Text> = states![MISSES];

    fn process(
        &mut self,
        hit: Hit,
        ctx: &mut KeyedContext<'_, Text>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let mut misses = ctx.state(&MISSES);
        let times = misses.get_mut();
        times.retain(|ts| hit.ts - ts <= 600_000);
        times.push(hit.ts);
        if let [first, _, last] = times[..] {
            out.emit((hit.host, first, last));
            misses.clear();
        }
        Ok(())
    }
}

pub(crate) fn build(run: &Run) {
    let alerts = run
        .events(Watermarks::monotonous().on(|hit: &Hit| hit.ts))
        .filter(|hit| hit.status == 404)
        .parallelism(1)
        .key_by_ref(|hit| &hit.host)
        .process(ThirdMiss)
        .uid("alerts");
    run.write(alerts, RESULT, |(host, first, alert), out| write!(out, "{host},{first},{alert}"));
}
