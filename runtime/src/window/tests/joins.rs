//! Joins: on windows, on intervals, on versions of a table.

use super::super::build::{JoinSpec, join};
use super::super::join::{Groups, Pairs};
use super::super::{Session, Sliding, TimeWindow, Tumbling, WindowContext};
use super::kit::{LATE_SIDES, Outlet, Rec, TwoRig, context, put, rec, selector};
use super::model::{Kind, Model};
use super::transcripts::{cases, int};
use crate::function::Collector;
use crate::operator::{IntervalJoin, IntervalSpec, TemporalJoin};
use millstream_model::time::millis;
use millstream_model::{Batch, EventTime, MAX_TIME, Result, Signal};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

type Pair = (i64, i64);

fn emit_pair(left: &Rec, right: &Rec, out: &mut Collector<'_, Pair>) -> Result<()> {
    out.emit((left.value, right.value));
    Ok(())
}

fn pairs(spec: &JoinSpec<Rec, Rec>, outlet: Outlet) -> TwoRig<Pair> {
    let emit = Pairs::new(emit_pair);
    TwoRig::new(join(spec, emit, selector(), selector(), context().0).unwrap(), outlet)
}

fn take(rig: &mut TwoRig<Pair>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = rig.take().into_iter().map(|(pair, _)| pair).collect();
    pairs.sort_unstable();
    pairs
}

#[test]
fn a_window_join_gives_every_pair_of_a_key_once_per_window() {
    let spec = JoinSpec::new(Tumbling::of(millis(10))).unwrap();
    let mut rig = pairs(&spec, Outlet::Stuttering(1));
    for value in 1..=3 {
        rig.element(0, rec("a", value), value);
        rig.element(1, rec("a", 10 * value), value + 4);
    }
    rig.element(0, rec("b", 4), 5);
    rig.element(1, rec("c", 50), 5);
    rig.element(1, rec("a", 60), 10);
    rig.watermark_of(0, 9);
    assert_eq!(take(&mut rig), []);
    rig.watermark_of(1, 9);
    let rows = rig.take();
    assert!(rows.iter().all(|(_, time)| *time == 9));
    let rows: Vec<Pair> = rows.into_iter().map(|(pair, _)| pair).collect();
    let expected: Vec<Pair> = (1..=3).flat_map(|l| (1..=3).map(move |r| (l, 10 * r))).collect();
    assert_eq!(rows, expected);
}

#[test]
fn late_records_of_a_join_fire_again_or_go_to_the_side_output_of_their_stream() {
    let spec = JoinSpec::new(Tumbling::of(millis(10))).unwrap().allowed_lateness(millis(5));
    let spec = spec.late_left_to(LATE_SIDES[0]).late_right_to(LATE_SIDES[1]);
    let mut rig = pairs(&spec, Outlet::Open);
    rig.element(0, rec("a", 1), 1);
    rig.watermark(9);
    rig.element(1, rec("a", 2), 2);
    assert_eq!(take(&mut rig), [(1, 2)]);
    rig.element(0, rec("a", 3), 3);
    assert_eq!(take(&mut rig), [(1, 2), (3, 2)]);
    rig.watermark(14);
    rig.element(0, rec("a", 4), 4);
    rig.element(1, rec("a", 5), 5);
    assert_eq!(rig.take_late(0), [(rec("a", 4), 4)]);
    assert_eq!(rig.take_late(1), [(rec("a", 5), 5)]);
    rig.watermark(MAX_TIME);
    assert_eq!(take(&mut rig), []);
}

#[test]
fn groups_have_keys_of_one_side_only() {
    let spec = JoinSpec::new(Tumbling::of(millis(10))).unwrap();
    let show = |key: &String,
                left: &[Rec],
                right: &[Rec],
                ctx: &WindowContext<'_>,
                out: &mut Collector<'_, String>| {
        out.emit(format!("{key}{}:{}@{}", left.len(), right.len(), ctx.window().start));
        Ok(())
    };
    let operator = join(&spec, Groups::new(show), selector(), selector(), context().0).unwrap();
    let mut rig = TwoRig::new(operator, Outlet::Open);
    rig.element(0, rec("a", 1), 1);
    rig.element(1, rec("b", 2), 2);
    rig.element(1, rec("a", 3), 3);
    rig.element(1, rec("a", 4), 4);
    rig.signal_input(1, Signal::End);
    rig.watermark_of(0, MAX_TIME);
    let rows: Vec<String> = rig.take().into_iter().map(|(row, _)| row).collect();
    assert_eq!(rows, ["a1:2@0", "b0:1@0"]);
}

/// What a history of two streams is made of.
#[derive(Clone, Copy, Debug)]
enum Event {
    Element { input: usize, key: u8, time: EventTime },
    Watermark(EventTime),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let element = (0..2usize, 0..3u8, -20..60i64).prop_map(|(input, key, time)| Event::Element {
        input,
        key,
        time,
    });
    let watermark = (-20..60i64).prop_map(Event::Watermark);
    let raw = prop::collection::vec(prop_oneof![5 => element, 1 => watermark], 0..50);
    raw.prop_map(|mut events| {
        let time = |e: &Event| match *e {
            Event::Element { time, .. } => time,
            Event::Watermark(watermark) => watermark + 10,
        };
        events.sort_by_key(|e| time(e) / 15);
        events
    })
}

fn outlet() -> impl Strategy<Value = Outlet> {
    prop_oneof![Just(Outlet::Open), any::<u64>().prop_map(|s| Outlet::Stuttering(s >> 8))]
}

/// The pairs that a model's firings amount to: odd values are of the first stream.
fn pairs_of(fired: Vec<(String, TimeWindow, Vec<i64>)>) -> Vec<Pair> {
    let mut found = Vec::new();
    for (_, _, values) in fired {
        let (left, right): (Vec<i64>, Vec<i64>) = values.into_iter().partition(|v| v % 2 != 0);
        found.extend(left.iter().flat_map(|l| right.iter().map(move |r| (*l, *r))));
    }
    found.sort_unstable();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..Default::default() })]

    #[test]
    fn window_joins_equal_the_model(
        kind in prop_oneof![
            (1..15i64).prop_map(|size| Kind::Aligned { size, slide: size, offset: 0 }),
            (1..15i64, 1..6i64).prop_map(|(size, slide)| Kind::Aligned { size, slide, offset: 1 }),
            (1..10i64).prop_map(|gap| Kind::Session { gap }),
        ],
        lateness in prop_oneof![Just(0), 0..30i64],
        events in events(),
        outlet in outlet(),
    ) {
        let ms = |n: i64| Duration::from_millis(n as u64);
        let spec: JoinSpec<Rec, Rec> = match kind {
            Kind::Aligned { size, slide, offset } if size == slide => {
                JoinSpec::new(Tumbling::of(ms(size)).offset(offset))
            }
            Kind::Aligned { size, slide, offset } => {
                JoinSpec::new(Sliding::of(ms(size), ms(slide)).offset(offset))
            }
            Kind::Session { gap } => JoinSpec::new(Session::gap(ms(gap))),
        }.unwrap();
        let mut rig = pairs(&spec.allowed_lateness(ms(lateness)), outlet);
        let mut model = Model::new(kind, lateness);
        for (n, event) in (0..).zip(&events) {
            let fired = match *event {
                Event::Watermark(watermark) => {
                    rig.watermark(watermark);
                    model.watermark(watermark)
                }
                Event::Element { input, key, time } => {
                    let value = 2 * n + i64::from(input == 0);
                    rig.element(input, rec(&key.to_string(), value), time);
                    model.element(&key.to_string(), time, value).0
                }
            };
            prop_assert_eq!(take(&mut rig), pairs_of(fired), "event {} {:?}", n, event);
        }
        rig.watermark(MAX_TIME);
        prop_assert_eq!(take(&mut rig), pairs_of(model.watermark(MAX_TIME)));
    }

    #[test]
    fn interval_joins_find_every_pair_of_records_that_are_not_late(
        (lower, upper) in (-25..25i64, 0..30i64).prop_map(|(lower, width)| (lower, lower + width)),
        events in events(),
        outlet in outlet(),
    ) {
        let mut rig = intervals(lower, upper, outlet);
        let (mut watermark, mut seen) = (EventTime::MIN, Vec::new());
        for (n, event) in (0..).zip(&events) {
            let mut expected = Vec::new();
            match *event {
                Event::Watermark(w) => {
                    watermark = watermark.max(w);
                    rig.watermark(w);
                }
                Event::Element { input, key, time } => {
                    rig.element(input, rec(&key.to_string(), n), time);
                    let late: Vec<i64> = rig.take_late(input).iter().map(|(r, _)| r.value).collect();
                    prop_assert_eq!(late, if time < watermark { vec![n] } else { vec![] });
                    if time >= watermark {
                        for &(i, k, t, v) in &seen {
                            let gap = if input == 0 { t - time } else { time - t };
                            if i != input && k == key && lower <= gap && gap <= upper {
                                let pair = if input == 0 { (n, v) } else { (v, n) };
                                expected.push((pair, time.max(t)));
                            }
                        }
                        seen.push((input, key, time, n));
                    }
                }
            }
            let mut found = rig.take();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected, "event {} {:?}", n, event);
        }
    }

    #[test]
    fn temporal_joins_give_each_record_the_version_of_its_time(
        events in events(),
        outlet in outlet(),
    ) {
        let (mut watermark, mut waiting) = (EventTime::MIN, Vec::new());
        let mut versions: BTreeMap<(u8, EventTime), i64> = BTreeMap::new();
        let mut rig = versioned(outlet);
        let events = events.into_iter().chain([Event::Watermark(MAX_TIME)]);
        for (n, event) in (0..).zip(events) {
            match event {
                Event::Watermark(w) => {
                    watermark = watermark.max(w);
                    rig.watermark(w);
                }
                // What comes late is another test's matter.
                Event::Element { time, .. } if time <= watermark => {}
                Event::Element { input: 0, key, time } => {
                    rig.element(0, rec(&key.to_string(), n), time);
                    waiting.push((time, n, key));
                }
                Event::Element { key, time, .. } => {
                    rig.element(1, rec(&key.to_string(), n), time);
                    versions.insert((key, time), n);
                }
            }
            waiting.sort_unstable();
            let n_due = waiting.partition_point(|(time, ..)| *time <= watermark);
            let expected: Vec<_> = waiting
                .drain(..n_due)
                .map(|(time, left, key)| {
                    let valid = versions.range((key, EventTime::MIN)..=(key, time)).next_back();
                    ((left, valid.map(|(_, row)| *row)), time)
                })
                .collect();
            prop_assert_eq!(rig.take(), expected, "event {} {:?}", n, event);
        }
    }
}

fn intervals(lower: i64, upper: i64, outlet: Outlet) -> TwoRig<Pair> {
    let spec = IntervalSpec::between(lower, upper).unwrap();
    let spec = spec.late_left_to(LATE_SIDES[0]).late_right_to(LATE_SIDES[1]);
    let (context, _) = context();
    let operator = IntervalJoin::new(&spec, emit_pair, selector(), selector(), &context);
    TwoRig::new(operator, outlet)
}

fn versioned(outlet: Outlet) -> TwoRig<(i64, Option<i64>)> {
    let emit = |left: Rec, row: Option<&Rec>, out: &mut Collector<'_, (i64, Option<i64>)>| {
        out.emit((left.value, row.map(|row| row.value)));
        Ok(())
    };
    TwoRig::new(TemporalJoin::new(emit, selector(), selector(), &context().0), outlet)
}

#[test]
fn a_record_at_the_watermark_still_finds_its_partners() {
    let mut rig = intervals(0, 10, Outlet::Open);
    rig.element(0, rec("a", 1), 0);
    rig.element(0, rec("a", 2), 1);
    rig.watermark(10);
    rig.element(1, rec("a", 3), 10);
    assert_eq!(take(&mut rig), [(1, 3), (2, 3)]);
    rig.watermark(11);
    rig.element(1, rec("a", 4), 11);
    assert_eq!(take(&mut rig), [(2, 4)]);
}

#[test]
fn the_bounds_of_an_interval_have_an_order() {
    let error = IntervalSpec::between(5, 4).unwrap_err().to_string();
    assert!(error.contains("swap them"), "{error}");
}

#[test]
fn interval_cases_come_out_step_by_step() {
    let cases: Vec<_> = cases().into_iter().filter(|c| c["kind"] == "interval_join").collect();
    assert!(cases.len() > 140, "{} cases", cases.len());
    for (n, case) in (0..).zip(&cases) {
        for outlet in [Outlet::Open, Outlet::Stuttering(n)] {
            let mut rig = intervals(int(&case["lower"]), int(&case["upper"]), outlet);
            for (n, step) in case["steps"].as_array().unwrap().iter().enumerate() {
                let side = ["left", "right"].iter().position(|side| step.get(side).is_some());
                match side {
                    None => rig.watermark(int(&step["watermark"])),
                    Some(input) => {
                        let element = &step[["left", "right"][input]];
                        let key = element["key"].as_str().unwrap();
                        rig.element(input, rec(key, int(&element["value"])), int(&element["ts"]));
                        let late = !rig.take_late(input).is_empty();
                        assert_eq!(late, step["late"] == true, "{}, step {n}", case["name"]);
                    }
                }
                let found: Vec<Value> =
                    take(&mut rig).into_iter().map(|(l, r)| Value::from(vec![l, r])).collect();
                assert_eq!(Value::Array(found), step["expect"], "{}, step {n}", case["name"]);
            }
        }
    }
}

#[test]
fn a_table_without_watermarks_is_waited_for_to_its_end() {
    let mut rig = versioned(Outlet::Stuttering(4));
    let mut batch = Batch::default();
    for time in 0..100 {
        put(&mut batch, rec("a", time), time);
        batch.mark(time);
    }
    rig.push(0, batch);
    rig.element(1, rec("a", 20), 20);
    rig.element(1, rec("a", 50), 50);
    rig.element(1, rec("a", 51), 50);
    assert_eq!(rig.take(), []);
    rig.signal_input(1, Signal::End);
    let found = rig.take();
    let version = |time| match time {
        0..20 => None,
        20..50 => Some(20),
        _ => Some(51),
    };
    let expected: Vec<_> = (0..100).map(|time| ((time, version(time)), time)).collect();
    assert_eq!(found, expected);
    // Nothing is dropped: what is late is joined with what is still known.
    rig.element(0, rec("a", 7), 98);
    assert_eq!(rig.take(), [((7, Some(51)), 98)]);
}
