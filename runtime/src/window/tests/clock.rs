//! Windows by the machine's clock.

use super::super::build::{WindowSpec, aggregate, content};
use super::super::{
    BoxedTrigger, ContinuousProcessingTimeTrigger, Elements, ProcessingTimeTrigger, Session,
    Sliding, Tumbling,
};
use super::kit::{Bag, Fired, HandClock, Outlet, Rec, Rig, Show, context, rec, selector};
use millstream_model::time::millis;
use millstream_model::{EventTime, NO_TIME, Signal};
use std::sync::Arc;

struct Clocked {
    rig: Rig<Fired>,
    clock: Arc<HandClock>,
    task: crate::context::TaskContext,
}

impl Clocked {
    fn new(spec: &WindowSpec<Rec>, aggregated: bool) -> Self {
        let (context, clock) = context();
        let task = context.task().clone();
        let operator = if aggregated {
            aggregate(spec, Bag { invertible: false }, Show, selector(), context)
        } else {
            content(spec, Elements, Show, selector(), context)
        };
        Clocked { rig: Rig::new(operator.unwrap(), Outlet::Stuttering(5)), clock, task }
    }

    fn element_at(&mut self, now: EventTime, value: i64) {
        self.clock.set_ms(now);
        self.rig.element(rec("a", value), NO_TIME);
    }

    /// Lets time pass as a task would: ticks come when they were asked for.
    fn pass_to(&mut self, now: EventTime) {
        while self.task.next_tick() <= now {
            let tick = self.task.next_tick();
            self.task.clear_ticks();
            self.clock.set_ms(tick);
            self.rig.signal(Signal::Tick(tick));
        }
        self.clock.set_ms(now);
    }

    fn take(&mut self) -> Vec<(EventTime, EventTime, Vec<i64>)> {
        let rows = self.rig.take();
        rows.into_iter().map(|((_, w, values), _)| (w.start, w.end, values)).collect()
    }
}

#[test]
fn a_window_ends_when_its_last_millisecond_is_over() {
    for aggregated in [true, false] {
        let spec = WindowSpec::new(Tumbling::of(millis(10)).processing_time()).unwrap();
        let mut c = Clocked::new(&spec, aggregated);
        c.element_at(1, 1);
        c.element_at(9, 2);
        c.pass_to(9);
        assert_eq!(c.take(), []);
        c.pass_to(10);
        assert_eq!(c.take(), [(0, 10, vec![1, 2])]);
        c.element_at(10, 3);
        c.pass_to(1000);
        assert_eq!(c.take(), [(10, 20, vec![3])]);
    }
}

#[test]
fn sliding_windows_and_sessions_know_the_clock_too() {
    let spec = WindowSpec::new(Sliding::of(millis(10), millis(5)).processing_time()).unwrap();
    let mut c = Clocked::new(&spec, true);
    c.element_at(7, 1);
    c.element_at(11, 2);
    c.pass_to(100);
    assert_eq!(c.take(), [(0, 10, vec![1]), (5, 15, vec![1, 2]), (10, 20, vec![2])]);

    let spec = WindowSpec::new(Session::gap(millis(10)).processing_time()).unwrap();
    let mut c = Clocked::new(&spec, true);
    c.element_at(7, 1);
    c.element_at(16, 2);
    c.pass_to(25);
    assert_eq!(c.take(), []);
    c.pass_to(26);
    assert_eq!(c.take(), [(7, 26, vec![1, 2])]);
}

#[test]
fn the_end_of_input_waits_for_no_clock() {
    let tumbling = || WindowSpec::new(Tumbling::of(millis(10)).processing_time()).unwrap();
    let asking = tumbling().trigger(BoxedTrigger::new(ProcessingTimeTrigger));
    let again_and_again =
        tumbling().trigger(BoxedTrigger::new(ContinuousProcessingTimeTrigger::of(millis(2))));
    for spec in [tumbling(), asking, again_and_again] {
        let mut c = Clocked::new(&spec, false);
        c.element_at(3, 1);
        c.rig.signal(Signal::End);
        assert_eq!(c.take(), [(0, 10, vec![1])]);
    }
}

#[test]
fn a_clock_that_runs_backwards_changes_nothing() {
    let spec = WindowSpec::new(Tumbling::of(millis(10)).processing_time()).unwrap();
    let mut c = Clocked::new(&spec, true);
    c.element_at(25, 1);
    c.element_at(3, 2);
    c.pass_to(40);
    assert_eq!(c.take(), [(20, 30, vec![1, 2])]);
}
