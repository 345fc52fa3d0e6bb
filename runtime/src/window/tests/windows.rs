//! What the model does not show: order, gaps in time, metrics, many windows.

use super::super::build::{WindowSpec, aggregate, content};
use super::super::count::count_window;
use super::super::emit::{ElementsTo, Folded, Results, ResultsTo, WindowClosure};
use super::super::{
    BoxedOperator, Elements, OneKey, Reduced, Session, Sliding, TimeWindow, Tumbling, WindowContext,
};
use super::kit::{Bag, Fired, Outlet, Rec, Rig, Show, context, rec, selector};
use super::model::{Kind, Model};
use crate::function::Collector;
use millstream_model::time::millis;
use millstream_model::{Batch, EventTime, MAX_TIME, NO_TIME};
use std::sync::Arc;

fn bags(spec: &WindowSpec<Rec>, invertible: bool) -> BoxedOperator<Rec, Fired> {
    aggregate(spec, Bag { invertible }, Show, selector(), context().0).unwrap()
}

fn at(start: EventTime, end: EventTime) -> TimeWindow {
    TimeWindow { start, end }
}

fn fired(rig: &mut Rig<Fired>) -> Vec<Fired> {
    rig.take().into_iter().map(|(fired, _)| fired).collect()
}

fn row(key: &str, window: TimeWindow, values: &[i64]) -> Fired {
    (key.into(), window, values.to_vec())
}

#[test]
fn keys_of_a_window_fire_in_order_of_arrival() {
    let spec = WindowSpec::new(Tumbling::of(millis(10))).unwrap();
    let mut rig = Rig::new(bags(&spec, true), Outlet::Open);
    for (n, key) in ["m", "b", "z", "a", "b"].iter().enumerate() {
        rig.element(rec(key, n as i64), 5);
    }
    rig.watermark(100);
    let window = at(0, 10);
    let rows: Vec<_> = [("m", vec![0]), ("b", vec![1, 4]), ("z", vec![2]), ("a", vec![3])]
        .iter()
        .map(|(key, values)| row(key, window, values))
        .collect();
    assert_eq!(fired(&mut rig), rows);
}

#[test]
fn a_late_record_makes_its_windows_fire_in_order_of_their_ends() {
    for invertible in [true, false] {
        let spec = WindowSpec::new(Sliding::of(millis(6), millis(2))).unwrap();
        let spec = spec.allowed_lateness(millis(100));
        let mut rig = Rig::new(bags(&spec, invertible), Outlet::Stuttering(3));
        rig.element(rec("a", 1), 3);
        rig.watermark(7);
        assert_eq!(fired(&mut rig).len(), 3);
        rig.element(rec("a", 2), 4);
        let refired = [row("a", at(0, 6), &[1, 2]), row("a", at(2, 8), &[1, 2])];
        assert_eq!(fired(&mut rig), refired);
        rig.watermark(9);
        assert_eq!(fired(&mut rig), [row("a", at(4, 10), &[2])]);
    }
}

#[test]
fn years_without_records_are_jumped_over() {
    const YEAR: EventTime = 31_536_000_000;
    for invertible in [true, false] {
        let spec = WindowSpec::new(Sliding::of(millis(10), millis(1))).unwrap();
        let mut rig = Rig::new(bags(&spec, invertible), Outlet::Open);
        for year in [-1000, 0, 1000] {
            rig.element(rec("a", year), year * YEAR);
            rig.watermark(year * YEAR + YEAR);
            assert_eq!(fired(&mut rig).len(), 10, "windows of the year {year}");
        }
        rig.element(rec("a", 1), 2000 * YEAR);
        rig.element(rec("b", 1), 3000 * YEAR);
        rig.watermark(MAX_TIME);
        assert_eq!(fired(&mut rig).len(), 20);
    }
}

#[test]
fn records_at_the_ends_of_time_neither_panic_nor_loop() {
    let ends = [EventTime::MIN + 1, EventTime::MIN + 9, EventTime::MAX - 9, EventTime::MAX];
    for invertible in [true, false] {
        let spec = WindowSpec::new(Sliding::of(millis(10), millis(3))).unwrap();
        let mut rig = Rig::new(bags(&spec, invertible), Outlet::Open);
        for time in ends {
            rig.element(rec("a", 1), time);
        }
        rig.watermark(0);
        rig.watermark(MAX_TIME);
        assert!(!rig.take().is_empty());
    }
    let tumbling = WindowSpec::new(Tumbling::of(millis(10)).offset(3)).unwrap();
    let session = WindowSpec::new(Session::gap(millis(10))).unwrap();
    for spec in [tumbling, session] {
        let mut rig = Rig::new(bags(&spec, true), Outlet::Open);
        for time in ends {
            rig.element(rec("a", 1), time);
        }
        rig.watermark(MAX_TIME);
        assert!(!rig.take().is_empty());
    }
}

#[test]
fn late_records_that_nobody_wants_are_counted() {
    let (context, _) = context();
    let spec = WindowSpec::new(Tumbling::of(millis(10))).unwrap();
    let operator =
        aggregate(&spec, Bag { invertible: true }, Show, selector(), context.clone()).unwrap();
    let mut rig = Rig::new(operator, Outlet::Open);
    rig.watermark(9);
    rig.element(rec("a", 1), 9);
    rig.element(rec("a", 1), 3);
    rig.element(rec("a", 1), 10);
    assert_eq!(context.task().job().registry.count("late_records_dropped"), 2);
    assert!(rig.take_late().is_empty());
}

#[test]
fn records_without_time_are_refused() {
    let windows = [
        WindowSpec::new(Tumbling::of(millis(10))).unwrap(),
        WindowSpec::new(Sliding::of(millis(10), millis(2))).unwrap(),
        WindowSpec::new(Session::gap(millis(10))).unwrap(),
    ];
    for spec in windows {
        let mut rig = Rig::new(bags(&spec, true), Outlet::Open);
        let mut batch = Batch::default();
        super::kit::put(&mut batch, rec("a", 1), NO_TIME);
        let error = rig.try_push(batch).unwrap_err().to_string();
        assert!(error.contains("give the source a watermark strategy"), "{error}");
    }
}

#[test]
fn a_broken_inverse_is_an_error() {
    #[derive(Clone)]
    struct Broken;
    impl millstream_state::Aggregate<Rec> for Broken {
        type Acc = i64;
        type Out = i64;
        fn create(&self) -> i64 {
            0
        }
        fn add(&self, acc: &mut i64, r: Rec) {
            *acc += r.value;
        }
        fn merge(&self, acc: &mut i64, other: &i64) {
            *acc += other;
        }
        fn result(&self, acc: &i64) -> i64 {
            *acc
        }
        fn is_invertible(&self) -> bool {
            true
        }
    }
    let spec = WindowSpec::new(Sliding::of(millis(4), millis(2))).unwrap();
    let operator = aggregate(&spec, Broken, Results::new(Broken), selector(), context().0).unwrap();
    let mut rig = Rig::new(operator, Outlet::Open);
    rig.element(rec("a", 1), 1);
    rig.element(rec("a", 1), 2);
    let mut batch = Batch::default();
    batch.mark(100);
    let error = rig.try_push(batch).unwrap_err().to_string();
    assert!(error.contains("refuses to retract"), "{error}");
}

#[test]
fn long_windows_of_many_keys_equal_the_model() {
    let (size, n_keys) = (300, 7);
    for invertible in [true, false] {
        let spec = WindowSpec::new(Sliding::of(millis(size), millis(1))).unwrap();
        let mut rig = Rig::new(bags(&spec, invertible), Outlet::Open);
        let kind = Kind::Aligned { size: size as i64, slide: 1, offset: 0 };
        let mut model = Model::new(kind, 0);
        for time in 0..1000i64 {
            let key = (time * time % n_keys).to_string();
            // Some far behind: into slices that have been merged already, or not yet.
            for time in [time, time - time % 290] {
                model.element(&key, time, time);
                rig.element(rec(&key, time), time);
            }
            if time % 10 == 9 {
                rig.watermark(time);
                let sum = |(key, window, values): &Fired| {
                    (window.start, key.clone(), values.len(), values.iter().sum::<i64>())
                };
                let mut expected: Vec<_> = model.watermark(time).iter().map(sum).collect();
                let mut found: Vec<_> = fired(&mut rig).iter().map(sum).collect();
                expected.sort();
                found.sort();
                assert_eq!(found, expected, "at {time}, invertible: {invertible}");
            }
        }
    }
}

#[test]
fn a_reduce_sees_records_in_order_of_arrival() {
    let first = |a: Rec, b: Rec| rec(&a.key, a.value * 10 + b.value);
    let spec = WindowSpec::new(Sliding::of(millis(10), millis(5))).unwrap();
    let operator = content(&spec, Reduced(first), Folded, selector(), context().0).unwrap();
    let mut rig = Rig::new(operator, Outlet::Open);
    for (value, time) in [(1, 7), (2, 3), (3, 9), (4, 12)] {
        rig.element(rec("a", value), time);
    }
    rig.watermark(MAX_TIME);
    let values: Vec<i64> = rig.take().into_iter().map(|(r, _)| r.value).collect();
    assert_eq!(values, [2, 123, 134, 4]);
}

#[test]
fn functions_get_key_window_and_results_and_may_emit_what_they_like() {
    let spec = WindowSpec::new(Tumbling::of(millis(10))).unwrap();
    let spec = spec.allowed_lateness(millis(5));
    let show = |key: &String,
                values: &Vec<i64>,
                ctx: &WindowContext<'_>,
                out: &mut Collector<'_, String>| {
        for value in values {
            let end = ctx.window().end;
            out.emit(format!("{key}{value}@{end} w{} {}", ctx.watermark(), ctx.is_refiring()));
        }
        Ok(())
    };
    let bag = Bag { invertible: true };
    let emit = ResultsTo::new(bag, WindowClosure::new(show));
    let mut rig =
        Rig::new(aggregate(&spec, bag, emit, selector(), context().0).unwrap(), Outlet::Open);
    rig.element(rec("a", 1), 3);
    rig.watermark(11);
    rig.element(rec("a", 2), 4);
    let lines: Vec<String> = rig.take().into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, ["a1@10 w11 false", "a1@10 w11 true", "a2@10 w11 true"]);
}

#[test]
fn a_stream_without_keys_has_one() {
    let spec = WindowSpec::new(Sliding::of(millis(10), millis(5))).unwrap();
    let count = |(): &(), all: &[Rec], _: &WindowContext<'_>, out: &mut Collector<'_, usize>| {
        out.emit(all.len());
        Ok(())
    };
    let emit = ElementsTo(WindowClosure::new(count));
    let operator = content(&spec, Elements, emit, Arc::new(OneKey), context().0).unwrap();
    let mut rig = Rig::new(operator, Outlet::Open);
    let mut batch = Batch::default();
    for time in 0..12 {
        batch.push(rec(&time.to_string(), 1), time);
    }
    batch.mark(MAX_TIME);
    rig.push(batch);
    let counts: Vec<usize> = rig.take().into_iter().map(|(n, _)| n).collect();
    assert_eq!(counts, [5, 10, 7, 2]);
}

#[test]
fn count_windows_fire_when_full_and_carry_the_time_of_the_last_record() {
    let operator = count_window(3, Elements, Show, selector(), context().0).unwrap();
    let mut rig = Rig::new(operator, Outlet::Stuttering(7));
    for (n, key) in ["a", "a", "b", "a", "a", "b", "a", "a", "b"].iter().enumerate() {
        rig.element(rec(key, n as i64), 100 + n as i64);
    }
    rig.watermark(MAX_TIME);
    let rows: Vec<_> =
        rig.take().into_iter().map(|((key, _, values), time)| (key, values, time)).collect();
    let expected =
        [("a", vec![0, 1, 3], 103), ("a", vec![4, 6, 7], 107), ("b", vec![2, 5, 8], 108)];
    assert_eq!(rows, expected.map(|(key, values, time)| (key.to_string(), values, time)));
}
