//! What cannot work is refused, in words that help.

use super::super::build::{JoinSpec, WindowSpec};
use super::super::count::count_window;
use super::super::{
    BoxedTrigger, CountTrigger, DeltaTrigger, Elements, Global, Session, Sliding, Tumbling,
};
use super::kit::{Outlet, Rec, Rig, Show, context, rec, selector};
use millstream_model::time::millis;
use millstream_model::{Error, Result};
use std::time::Duration;

fn message<T>(result: Result<T>) -> String {
    result.err().as_ref().map(Error::to_string).unwrap_or_else(|| "not refused".into())
}

fn spec_message(spec: Result<WindowSpec<Rec>>) -> String {
    message(spec.and_then(|spec| spec.check()))
}

#[test]
fn windows_of_no_length() {
    let none = Duration::from_micros(999);
    assert!(spec_message(WindowSpec::new(Tumbling::of(none))).contains("the size of a window"));
    let sliding = WindowSpec::new(Sliding::of(millis(5), none));
    assert!(spec_message(sliding).contains("the slide of a window"));
    assert!(spec_message(WindowSpec::new(Session::gap(none))).contains("the gap of a session"));
    let empty = count_window(0, Elements, Show, selector(), context().0);
    assert!(message(empty).contains("at least one record"));
}

#[test]
fn a_dynamic_gap_of_no_length_ends_the_job() {
    let spec = WindowSpec::new(Session::dynamic(|r: &Rec| millis(r.value as u64))).unwrap();
    let operator =
        super::super::build::content(&spec, Elements, Show, selector(), context().0).unwrap();
    let mut rig = Rig::new(operator, Outlet::Open);
    rig.element(rec("a", 5), 1);
    let mut batch = millstream_model::Batch::default();
    super::kit::put(&mut batch, rec("a", 0), 2);
    let refused = rig.try_push(batch);
    assert!(message(refused).contains("the gap of a session"));
}

#[test]
fn a_global_window_that_nothing_fires() {
    assert!(spec_message(WindowSpec::new(Global)).contains("add `.trigger(..)`"));
    let fired = WindowSpec::new(Global).map(|s| s.trigger(BoxedTrigger::new(CountTrigger::of(2))));
    assert_eq!(spec_message(fired), "not refused");
    assert!(message(JoinSpec::<Rec, Rec>::new(Global)).contains("would never fire"));
}

#[test]
fn a_trigger_that_cannot_merge_on_sessions() {
    let delta = DeltaTrigger::of(1.0, |a: &Rec, b: &Rec| (a.value - b.value) as f64);
    let trigger = BoxedTrigger::new(delta);
    let session = WindowSpec::new(Session::gap(millis(5))).map(|s| s.trigger(trigger.clone()));
    assert!(spec_message(session).contains("cannot merge"));
    let tumbling = WindowSpec::new(Tumbling::of(millis(5))).map(|s| s.trigger(trigger));
    assert_eq!(spec_message(tumbling), "not refused");
}

#[test]
fn lateness_by_the_machines_clock() {
    let windows = || WindowSpec::new(Tumbling::of(millis(5)).processing_time());
    let lateness = windows().map(|s| s.allowed_lateness(millis(1)));
    assert!(spec_message(lateness).contains("no record is late"));
    assert!(spec_message(windows().map(|s| s.late_to("late"))).contains("no record is late"));
    assert_eq!(spec_message(windows()), "not refused");
}
