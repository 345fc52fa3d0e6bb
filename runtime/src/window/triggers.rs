//! The triggers that come with the engine. They behave as Flink's of the same name.

use super::time_window::TimeWindow;
use super::trigger::{Trigger, TriggerContext, TriggerResult};
use millstream_model::time::as_millis;
use millstream_model::{Data, EventTime, Result};
use std::time::Duration;

/// Fires when the watermark passes the end of the window, and at once for every later record: what
/// event-time windows do unless told otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventTimeTrigger;

impl<T> Trigger<T> for EventTimeTrigger {
    type State = ();
    fn on_element(
        &self,
        _: &T,
        _: EventTime,
        (): &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let end = ctx.window().max_timestamp();
        if end <= ctx.watermark() {
            return Ok(TriggerResult::Fire);
        }
        ctx.set_timer(end);
        Ok(TriggerResult::Continue)
    }
    fn on_event_time(
        &self,
        time: EventTime,
        (): &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        Ok(at_end(time, ctx))
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&self, (): &mut (), (): (), ctx: &mut TriggerContext<'_>) -> Result<()> {
        let end = ctx.window().max_timestamp();
        if end > ctx.watermark() {
            ctx.set_timer(end);
        }
        Ok(())
    }
}

/// Fires at the end of the window and never else.
fn at_end(time: EventTime, ctx: &TriggerContext<'_>) -> TriggerResult {
    if time == ctx.window().max_timestamp() { TriggerResult::Fire } else { TriggerResult::Continue }
}

/// Fires when the machine's clock passes the end of the window: what processing-time windows do unless told
/// otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessingTimeTrigger;

impl<T> Trigger<T> for ProcessingTimeTrigger {
    type State = ();
    fn on_element(
        &self,
        _: &T,
        _: EventTime,
        (): &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        ctx.set_processing_timer(ctx.window().max_timestamp());
        Ok(TriggerResult::Continue)
    }
    fn on_processing_time(
        &self,
        time: EventTime,
        (): &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        Ok(at_end(time, ctx))
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&self, (): &mut (), (): (), ctx: &mut TriggerContext<'_>) -> Result<()> {
        ctx.set_processing_timer(ctx.window().max_timestamp());
        Ok(())
    }
}

/// Fires at every n-th record of a window, and not at its end.
#[derive(Clone, Copy, Debug)]
pub struct CountTrigger(u64);

impl CountTrigger {
    /// Fires at every `n`-th record; 0 counts as 1.
    pub fn of(n: u64) -> Self {
        CountTrigger(n.max(1))
    }
}

impl<T> Trigger<T> for CountTrigger {
    type State = u64;
    fn on_element(
        &self,
        _: &T,
        _: EventTime,
        count: &mut u64,
        _: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        *count += 1;
        if *count < self.0 {
            return Ok(TriggerResult::Continue);
        }
        *count = 0;
        Ok(TriggerResult::Fire)
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&self, count: &mut u64, other: u64, _: &mut TriggerContext<'_>) -> Result<()> {
        *count += other;
        Ok(())
    }
}

/// The first multiple of `interval` after `time`.
fn next_multiple(time: EventTime, interval: EventTime) -> EventTime {
    time.saturating_sub(time.rem_euclid(interval)).saturating_add(interval)
}

fn interval_ms(interval: Duration) -> EventTime {
    as_millis(interval).max(1)
}

/// Fires whenever the watermark has advanced by an interval, and at the end of the window: early results.
#[derive(Clone, Copy, Debug)]
pub struct ContinuousEventTimeTrigger(EventTime);

impl ContinuousEventTimeTrigger {
    /// Fires at the multiples of `interval` (at least a millisecond) from the first record of a window on.
    pub fn of(interval: Duration) -> Self {
        ContinuousEventTimeTrigger(interval_ms(interval))
    }
}

impl<T> Trigger<T> for ContinuousEventTimeTrigger {
    /// When it fires next.
    type State = Option<EventTime>;
    fn on_element(
        &self,
        _: &T,
        time: EventTime,
        next: &mut Option<EventTime>,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let end = ctx.window().max_timestamp();
        if end <= ctx.watermark() {
            return Ok(TriggerResult::Fire);
        }
        ctx.set_timer(end);
        if next.is_none() {
            ctx.set_timer(*next.insert(next_multiple(time, self.0).min(end)));
        }
        Ok(TriggerResult::Continue)
    }
    fn on_event_time(
        &self,
        time: EventTime,
        next: &mut Option<EventTime>,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let end = ctx.window().max_timestamp();
        if *next == Some(time) && time < end {
            // All of time has no end to stop at: there, what the watermark skips is one firing.
            let endless = ctx.window() == TimeWindow::ALWAYS;
            let from = if endless { time.max(ctx.watermark()) } else { time };
            ctx.set_timer(*next.insert(next_multiple(from, self.0).min(end)));
            return Ok(TriggerResult::Fire);
        }
        Ok(at_end(time, ctx))
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(
        &self,
        next: &mut Option<EventTime>,
        other: Option<EventTime>,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<()> {
        *next = next.iter().chain(&other).copied().min();
        for time in next.iter().copied().chain([ctx.window().max_timestamp()]) {
            if time > ctx.watermark() {
                ctx.set_timer(time);
            }
        }
        Ok(())
    }
}

/// Fires whenever an interval has passed on the machine's clock: early results of any window.
#[derive(Clone, Copy, Debug)]
pub struct ContinuousProcessingTimeTrigger(EventTime);

impl ContinuousProcessingTimeTrigger {
    /// Fires at the multiples of `interval` (at least a millisecond) from the first record of a window on.
    pub fn of(interval: Duration) -> Self {
        ContinuousProcessingTimeTrigger(interval_ms(interval))
    }
}

impl<T> Trigger<T> for ContinuousProcessingTimeTrigger {
    /// When it fires next.
    type State = Option<EventTime>;
    fn on_element(
        &self,
        _: &T,
        _: EventTime,
        next: &mut Option<EventTime>,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        if next.is_none() {
            ctx.set_processing_timer(*next.insert(next_multiple(ctx.now_ms(), self.0)));
        }
        Ok(TriggerResult::Continue)
    }
    fn on_processing_time(
        &self,
        time: EventTime,
        next: &mut Option<EventTime>,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        if *next != Some(time) {
            return Ok(TriggerResult::Continue);
        }
        // Intervals that nobody was awake for are one firing.
        let after = next_multiple(time.max(ctx.now_ms()), self.0);
        *next = Some(after);
        ctx.set_processing_timer(after);
        Ok(TriggerResult::Fire)
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(
        &self,
        next: &mut Option<EventTime>,
        other: Option<EventTime>,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<()> {
        *next = next.iter().chain(&other).copied().min();
        if let Some(time) = *next {
            ctx.set_processing_timer(time);
        }
        Ok(())
    }
}

/// Fires when a record differs by more than a threshold from the one that fired last (or came first).
#[derive(Clone, Debug)]
pub struct DeltaTrigger<F> {
    threshold: f64,
    delta: F,
}

impl<F> DeltaTrigger<F> {
    /// Fires when `delta(last, new)` is above `threshold`.
    pub fn of<T>(threshold: f64, delta: F) -> Self
    where
        F: Fn(&T, &T) -> f64,
    {
        DeltaTrigger { threshold, delta }
    }
}

impl<T, F> Trigger<T> for DeltaTrigger<F>
where
    T: Data + Clone,
    F: Fn(&T, &T) -> f64 + Send + Sync + 'static,
{
    /// The record that fired last.
    type State = Option<T>;
    fn on_element(
        &self,
        value: &T,
        _: EventTime,
        last: &mut Option<T>,
        _: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let fires = match last {
            Some(last) if (self.delta)(last, value) <= self.threshold => {
                return Ok(TriggerResult::Continue);
            }
            Some(_) => TriggerResult::Fire,
            None => TriggerResult::Continue,
        };
        *last = Some(value.clone());
        Ok(fires)
    }
}

/// Drops the content of a window whenever another trigger fires it.
#[derive(Clone, Copy, Debug)]
pub struct PurgingTrigger<R>(R);

impl<R> PurgingTrigger<R> {
    /// Fires when `trigger` does, and purges.
    pub fn of(trigger: R) -> Self {
        PurgingTrigger(trigger)
    }
}

fn purging(result: TriggerResult) -> TriggerResult {
    if result == TriggerResult::Fire { TriggerResult::FireAndPurge } else { result }
}

impl<T, R: Trigger<T>> Trigger<T> for PurgingTrigger<R> {
    type State = R::State;
    fn on_element(
        &self,
        value: &T,
        time: EventTime,
        state: &mut R::State,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        self.0.on_element(value, time, state, ctx).map(purging)
    }
    fn on_event_time(
        &self,
        time: EventTime,
        state: &mut R::State,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        self.0.on_event_time(time, state, ctx).map(purging)
    }
    fn on_processing_time(
        &self,
        time: EventTime,
        state: &mut R::State,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        self.0.on_processing_time(time, state, ctx).map(purging)
    }
    fn can_merge(&self) -> bool {
        self.0.can_merge()
    }
    fn on_merge(
        &self,
        state: &mut R::State,
        other: R::State,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<()> {
        self.0.on_merge(state, other, ctx)
    }
    fn clear(&self, state: &mut R::State, ctx: &mut TriggerContext<'_>) {
        self.0.clear(state, ctx);
    }
}
