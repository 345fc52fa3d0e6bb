//! Triggers and evictors, each where it differs from the default.

use super::super::build::{WindowSpec, content};
use super::super::{
    BoxedTrigger, ContinuousEventTimeTrigger, CountEvictor, CountTrigger, DeltaTrigger, Elements,
    EventTimeTrigger, Eviction, Global, PurgingTrigger, Session, Sliding, TimeEvictor, Trigger,
    TriggerContext, TriggerResult, Tumbling,
};
use super::kit::{Fired, LATE, Outlet, Rec, Rig, Show, context, rec, selector};
use millstream_model::time::millis;
use millstream_model::{EventTime, MAX_TIME, Result};

fn rig(spec: &WindowSpec<Rec>) -> Rig<Fired> {
    let operator = content(spec, Elements, Show, selector(), context().0).unwrap();
    Rig::new(operator, Outlet::Stuttering(11))
}

fn take(rig: &mut Rig<Fired>) -> Vec<Vec<i64>> {
    rig.take().into_iter().map(|((_, _, values), _)| values).collect()
}

fn tumbling() -> WindowSpec<Rec> {
    WindowSpec::new(Tumbling::of(millis(10))).unwrap()
}

fn global() -> WindowSpec<Rec> {
    WindowSpec::new(Global).unwrap()
}

fn boxed(trigger: impl Trigger<Rec>) -> BoxedTrigger<Rec> {
    BoxedTrigger::new(trigger)
}

fn feed(rig: &mut Rig<Fired>, elements: &[(i64, EventTime)]) {
    for (value, time) in elements {
        rig.element(rec("a", *value), *time);
    }
}

#[test]
fn a_count_fires_again_and_again_and_purging_starts_anew() {
    let elements: Vec<_> = (1..=5).map(|n| (n, n)).collect();
    let mut keeping = rig(&tumbling().trigger(boxed(CountTrigger::of(2))));
    feed(&mut keeping, &elements);
    assert_eq!(take(&mut keeping), [vec![1, 2], vec![1, 2, 3, 4]]);
    let mut purging = rig(&tumbling().trigger(boxed(PurgingTrigger::of(CountTrigger::of(2)))));
    feed(&mut purging, &elements);
    assert_eq!(take(&mut purging), [[1, 2], [3, 4]]);
    // Neither asks for the end of the window.
    for rig in [&mut keeping, &mut purging] {
        rig.watermark(MAX_TIME);
        assert_eq!(take(rig), [[0i64; 0]; 0]);
    }
}

#[test]
fn counts_of_sessions_that_become_one_are_added() {
    let spec = WindowSpec::new(Session::gap(millis(5))).unwrap();
    let mut rig = rig(&spec.trigger(boxed(CountTrigger::of(3))));
    feed(&mut rig, &[(1, 0), (2, 10), (3, 5)]);
    assert_eq!(take(&mut rig), [[1, 2, 3]]);
    feed(&mut rig, &[(4, 30), (5, 6)]);
    assert_eq!(take(&mut rig), [[0i64; 0]; 0]);
}

#[test]
fn continuous_firings_are_early_results() {
    let trigger = ContinuousEventTimeTrigger::of(millis(3));
    let mut rig = rig(&tumbling().trigger(boxed(trigger)));
    feed(&mut rig, &[(1, 1)]);
    rig.watermark(3);
    assert_eq!(take(&mut rig), [[1]]);
    feed(&mut rig, &[(2, 4)]);
    rig.watermark(5);
    assert_eq!(take(&mut rig), [[0i64; 0]; 0]);
    rig.watermark(20);
    // At 6, at 9, which is the end.
    assert_eq!(take(&mut rig), [[1, 2], [1, 2]]);
}

#[test]
fn continuous_firings_of_all_time_come_to_an_end() {
    let trigger = ContinuousEventTimeTrigger::of(millis(3));
    let mut rig = rig(&global().trigger(boxed(trigger)));
    feed(&mut rig, &[(1, 1)]);
    rig.watermark(1_000_000);
    assert_eq!(take(&mut rig), [[1]]);
    rig.watermark(MAX_TIME);
    assert_eq!(take(&mut rig), [[1], [1]]);
}

#[test]
fn a_delta_fires_where_values_jump() {
    let delta = |a: &Rec, b: &Rec| (a.value - b.value).abs() as f64;
    let mut rig = rig(&global().trigger(boxed(PurgingTrigger::of(DeltaTrigger::of(10.0, delta)))));
    feed(&mut rig, &[(1, 0), (11, 1), (12, 2), (15, 3), (30, 4)]);
    assert_eq!(take(&mut rig), [vec![1, 11, 12], vec![15, 30]]);
}

#[test]
fn the_last_n_every_m() {
    let spec = global().trigger(boxed(CountTrigger::of(2)));
    let mut rig = rig(&spec.evictor(Eviction::new(CountEvictor::of(3))));
    for n in 1..=6 {
        rig.element(rec("a", n), 10 * n);
    }
    let rows: Vec<_> =
        rig.take().into_iter().map(|((_, _, values), time)| (values, time)).collect();
    // All of time has no end: results carry the time of the record that made it fire.
    assert_eq!(rows, [(vec![1, 2], 20), (vec![2, 3, 4], 40), (vec![4, 5, 6], 60)]);
}

#[test]
fn evicted_elements_are_gone_before_or_after() {
    let spec = || tumbling().allowed_lateness(millis(10));
    let mut before = rig(&spec().evictor(Eviction::new(TimeEvictor::of(millis(3)))));
    let mut after = rig(&spec().evictor(Eviction::new(TimeEvictor::of(millis(3)).after())));
    for rig in [&mut before, &mut after] {
        feed(rig, &[(1, 1), (2, 5), (3, 3)]);
        rig.watermark(9);
        feed(rig, &[(4, 4)]);
    }
    assert_eq!(take(&mut before), [vec![2, 3], vec![2, 3, 4]]);
    assert_eq!(take(&mut after), [vec![1, 2, 3], vec![2, 3, 4]]);
}

#[test]
fn an_element_of_several_windows_is_evicted_from_each() {
    let spec = WindowSpec::new(Sliding::of(millis(10), millis(5))).unwrap();
    let mut rig = rig(&spec.evictor(Eviction::new(CountEvictor::of(1))).late_to(LATE));
    feed(&mut rig, &[(1, 6), (2, 7), (3, 12)]);
    rig.watermark(MAX_TIME);
    assert_eq!(take(&mut rig), [[2], [3], [3]]);
    feed(&mut rig, &[(4, 100)]);
    assert_eq!(rig.take_late(), [(rec("a", 4), 100)]);
}

/// Fires at the third element, but not before the watermark has reached 50, and says goodbye.
struct Patient;

impl Trigger<Rec> for Patient {
    type State = Vec<i64>;
    fn on_element(
        &self,
        record: &Rec,
        time: EventTime,
        seen: &mut Vec<i64>,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        assert!(ctx.window().start <= time && time < ctx.window().end);
        seen.push(record.value);
        if seen.len() < 3 {
            return Ok(TriggerResult::Continue);
        }
        ctx.set_timer(50);
        ctx.set_timer(60);
        ctx.delete_timer(60);
        Ok(if seen[2] == 0 { TriggerResult::Purge } else { TriggerResult::Continue })
    }
    fn on_event_time(
        &self,
        time: EventTime,
        seen: &mut Vec<i64>,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        if time == ctx.window().max_timestamp() {
            return Ok(TriggerResult::Continue);
        }
        assert_eq!(time, 50);
        seen.clear();
        Ok(TriggerResult::FireAndPurge)
    }
}

#[test]
fn a_trigger_of_ones_own_has_state_and_timers_per_key_and_window() {
    let spec = WindowSpec::new(Tumbling::of(millis(100))).unwrap();
    let mut rig = rig(&spec.trigger(boxed(Patient)));
    feed(&mut rig, &[(1, 1), (2, 2)]);
    rig.element(rec("b", 3), 3);
    rig.element(rec("b", 3), 103);
    feed(&mut rig, &[(4, 4), (5, 5)]);
    rig.watermark(49);
    assert_eq!(take(&mut rig), [[0i64; 0]; 0]);
    rig.watermark(55);
    assert_eq!(take(&mut rig), [[1, 2, 4, 5]]);
    // A timer that has gone off can be set again: it is due at once.
    feed(&mut rig, &[(6, 6), (7, 7), (8, 8)]);
    rig.watermark(56);
    assert_eq!(take(&mut rig), [[6, 7, 8]]);
    feed(&mut rig, &[(6, 6), (7, 7), (0, 8)]);
    rig.watermark(57);
    // Purged by the trigger: there is nothing left to fire.
    assert_eq!(take(&mut rig), [[0i64; 0]; 0]);
    rig.watermark(MAX_TIME);
    assert_eq!(take(&mut rig), [[0i64; 0]; 0]);
}

#[test]
fn the_default_trigger_may_be_named_and_purged() {
    let spec = tumbling().allowed_lateness(millis(20));
    let mut rig = rig(&spec.trigger(boxed(PurgingTrigger::of(EventTimeTrigger))));
    feed(&mut rig, &[(1, 1)]);
    rig.watermark(9);
    feed(&mut rig, &[(2, 2), (3, 3)]);
    assert_eq!(take(&mut rig), [[1], [2], [3]]);
}
