//! The functions of simulated jobs that keep state of their own.

use super::disk::Row;
use super::source::Event;
use millstream::prelude::*;

/// Records that came too late.
pub(super) const LATE: OutputTag<Event> = OutputTag::new("late");

/// Adds up values per bucket of time, and tells each sum when event time has passed the bucket. What comes after that is
/// passed on with its own time, negated.
#[derive(Clone)]
pub(super) struct Buckets {
    pub(super) size: EventTime,
}

const SUMS: MapState<EventTime, u64> = MapState::new("sums");

impl KeyedProcessFunction<u64, Event> for Buckets {
    type Out = Row;
    const STATES: StateSet<u64> = states![SUMS];

    fn process(
        &mut self,
        event: Event,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Row>,
    ) -> Result<()> {
        let end = event.time / self.size * self.size + self.size;
        if end <= ctx.watermark() {
            out.emit((event.key, -event.time, event.value));
            return Ok(());
        }
        let mut sums = ctx.state(&SUMS);
        let sum = sums.get(&end).copied().unwrap_or(0);
        sums.insert(end, sum + event.value);
        ctx.timers().at(end);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Row>,
    ) -> Result<()> {
        let mut sums = ctx.state(&SUMS);
        if let Some(sum) = sums.remove(&timer.time) {
            out.emit((*ctx.key(), timer.time, sum));
        }
        Ok(())
    }
}

/// For every record, when event time has passed it: the sum of what was broadcast with a time up to its own.
#[derive(Clone)]
pub(super) struct Bills;

const PRICES: BroadcastState<(EventTime, u64), u64> = BroadcastState::new("prices");
const ASKED: MapState<EventTime, u64> = MapState::new("asked");

impl KeyedBroadcastProcessFunction<u64, Event, Event> for Bills {
    type Out = Row;
    const STATES: StateSet<u64> = states![ASKED];
    const BROADCAST: BroadcastSet = states![PRICES];

    fn process(
        &mut self,
        event: Event,
        ctx: &mut KeyedBroadcastContext<'_, u64>,
        _: &mut Collector<'_, Row>,
    ) -> Result<()> {
        let mut asked = ctx.state(&ASKED);
        let n = asked.get(&event.time).copied().unwrap_or(0);
        asked.insert(event.time, n + 1);
        ctx.timers().at(event.time);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        event: Event,
        ctx: &mut KeyedBroadcastUpdateContext<'_, u64>,
        _: &mut Collector<'_, Row>,
    ) -> Result<()> {
        let mut prices = ctx.broadcast(&PRICES);
        let at = (event.time, event.value);
        let n = prices.get(&at).copied().unwrap_or(0);
        prices.insert(at, n + 1);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedBroadcastContext<'_, u64>,
        out: &mut Collector<'_, Row>,
    ) -> Result<()> {
        let n = ctx.state(&ASKED).remove(&timer.time).unwrap_or(0);
        let prices = ctx.broadcast(&PRICES);
        let due = prices.iter().filter(|((time, _), _)| *time <= timer.time);
        let sum: u64 = due.map(|((_, value), n)| value * n).sum();
        for _ in 0..n {
            out.emit((*ctx.key(), timer.time, sum));
        }
        Ok(())
    }
}
