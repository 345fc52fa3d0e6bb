//! Any windows, any events, any batches, any blockage: always what the model says.

use super::super::build::{WindowSpec, aggregate, content};
use super::super::trigger::BoxedTrigger;
use super::super::{BoxedOperator, Elements, EventTimeTrigger, Session, Sliding, Tumbling};
use super::kit::{Bag, Fired, LATE, Outlet, Rec, Rig, Show, context, put, rec, selector};
use super::model::{Kind, Model};
use millstream_model::{Batch, EventTime, MAX_TIME};
use proptest::prelude::*;
use std::time::Duration;

/// One line of a history.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Element { key: u8, time: EventTime },
    Watermark(EventTime),
}

/// What an operator keeps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keeps {
    /// A mergeable aggregate with an inverse.
    Invertible,
    /// A mergeable aggregate without.
    Mergeable,
    /// All elements.
    Everything,
    /// All elements, asking a trigger.
    AskingATrigger,
    /// An aggregate, asking a trigger.
    MergeableAskingATrigger,
}

const ALL: [Keeps; 5] = [
    Keeps::Invertible,
    Keeps::Mergeable,
    Keeps::Everything,
    Keeps::AskingATrigger,
    Keeps::MergeableAskingATrigger,
];

fn ms(n: i64) -> Duration {
    Duration::from_millis(n as u64)
}

fn spec(kind: Kind, lateness: i64) -> WindowSpec<Rec> {
    let spec = match kind {
        Kind::Aligned { size, slide, offset } if size == slide => {
            WindowSpec::new(Tumbling::of(ms(size)).offset(offset))
        }
        Kind::Aligned { size, slide, offset } => {
            WindowSpec::new(Sliding::of(ms(size), ms(slide)).offset(offset))
        }
        Kind::Session { gap } => WindowSpec::new(Session::gap(ms(gap))),
    };
    spec.unwrap().allowed_lateness(ms(lateness)).late_to(LATE)
}

pub(super) fn operator(kind: Kind, lateness: i64, keeps: Keeps) -> BoxedOperator<Rec, Fired> {
    let (spec, context) = (spec(kind, lateness), context().0);
    let asking = || spec.clone().trigger(BoxedTrigger::new(EventTimeTrigger));
    let bag = |invertible| Bag { invertible };
    match keeps {
        Keeps::Invertible => aggregate(&spec, bag(true), Show, selector(), context),
        Keeps::Mergeable => aggregate(&spec, bag(false), Show, selector(), context),
        Keeps::Everything => content(&spec, Elements, Show, selector(), context),
        Keeps::AskingATrigger => content(&asking(), Elements, Show, selector(), context),
        Keeps::MergeableAskingATrigger => {
            aggregate(&asking(), bag(false), Show, selector(), context)
        }
    }
    .unwrap()
}

/// What each event must lead to: firings and late values.
type Expected = Vec<(Vec<Fired>, Vec<i64>)>;

fn expected(kind: Kind, lateness: i64, events: &[Event]) -> Expected {
    let mut model = Model::new(kind, lateness);
    let mut steps: Expected = Vec::new();
    for (n, event) in events.iter().enumerate() {
        steps.push(match *event {
            Event::Watermark(watermark) => (model.watermark(watermark), Vec::new()),
            Event::Element { key, time } => {
                let (fired, late) = model.element(&key.to_string(), time, n as i64);
                (fired, if late { vec![n as i64] } else { Vec::new() })
            }
        });
    }
    steps.push((model.watermark(MAX_TIME), Vec::new()));
    steps
}

/// The firings that differ only in an order that is not promised become equal.
pub(super) fn sorted(mut fired: Vec<Fired>) -> Vec<Fired> {
    for (_, _, values) in &mut fired {
        values.sort_unstable();
    }
    fired.sort();
    fired
}

/// Feeds events `split` at a time, the marks inside, and compares at every end of a batch.
fn check(
    kind: Kind,
    lateness: i64,
    keeps: Keeps,
    events: &[Event],
    splits: &[usize],
    outlet: Outlet,
) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(operator(kind, lateness, keeps), outlet);
    let steps = expected(kind, lateness, events);
    let (mut fired, mut late): (Vec<Fired>, Vec<i64>) = Default::default();
    let mut splits = splits.iter().cycle();
    let (mut batch, mut left) = (Batch::default(), *splits.next().unwrap());
    let events: Vec<Event> = events.iter().copied().chain([Event::Watermark(MAX_TIME)]).collect();
    for (n, event) in events.iter().enumerate() {
        match *event {
            Event::Element { key, time } => put(&mut batch, rec(&key.to_string(), n as i64), time),
            Event::Watermark(watermark) => batch.mark(watermark),
        }
        fired.extend(steps[n].0.iter().cloned());
        late.extend(&steps[n].1);
        // Two watermarks at one place would be one.
        let marks_meet = matches!(event, Event::Watermark(_));
        left = left.saturating_sub(1);
        if left > 0 && !(marks_meet && matches!(events.get(n + 1), Some(Event::Watermark(_)))) {
            continue;
        }
        left = *splits.next().unwrap();
        rig.push(std::mem::take(&mut batch));
        let received = rig.take();
        for ((_, window, _), time) in &received {
            prop_assert_eq!(window.max_timestamp(), *time, "results are stamped");
        }
        let got: Vec<Fired> = received.into_iter().map(|(fired, _)| fired).collect();
        prop_assert_eq!(
            sorted(got),
            sorted(std::mem::take(&mut fired)),
            "{:?} up to event {} ({:?})",
            keeps,
            n,
            event
        );
        let got: Vec<i64> = rig.take_late().into_iter().map(|(r, _)| r.value).collect();
        prop_assert_eq!(got, std::mem::take(&mut late), "late up to event {} ({:?})", n, event);
    }
    rig.push(batch);
    prop_assert_eq!(sorted(rig.take().into_iter().map(|(f, _)| f).collect()), sorted(fired));
    Ok(())
}

/// Times that meet the edges of windows of up to 20 ms often, now and then far away.
pub(super) fn time() -> impl Strategy<Value = EventTime> {
    prop_oneof![8 => -40..60i64, 1 => -400..400i64, 1 => 100_000..100_040i64]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let element = (0..3u8, time()).prop_map(|(key, time)| Event::Element { key, time });
    let watermark = prop_oneof![6 => -40..60i64, 1 => -400..400i64, 1 => Just(100_010)]
        .prop_map(Event::Watermark);
    // Mostly in order, so that the watermark does not make everything late at once.
    let raw = prop::collection::vec(prop_oneof![4 => element, 1 => watermark], 0..60);
    (raw, prop::bool::weighted(0.7)).prop_map(|(mut events, ordered)| {
        if ordered {
            let time = |e: &Event| match *e {
                Event::Element { time, .. } => time,
                Event::Watermark(watermark) => watermark + 12,
            };
            events.sort_by_key(|e| time(e) / 7);
        }
        events
    })
}

pub(super) fn lateness() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 1 => Just(1), 2 => 0..40i64, 1 => Just(i64::MAX)]
}

pub(super) fn outlet() -> impl Strategy<Value = Outlet> {
    prop_oneof![Just(Outlet::Open), any::<u64>().prop_map(|s| Outlet::Stuttering(s >> 8))]
}

pub(super) fn aligned() -> impl Strategy<Value = Kind> {
    (1..20i64, 1..8i64, -25..25i64, any::<bool>()).prop_map(|(size, slide, offset, tumbling)| {
        let slide = if tumbling { size } else { slide };
        Kind::Aligned { size, slide, offset }
    })
}

pub(super) fn keeps() -> impl Strategy<Value = Keeps> {
    prop::sample::select(ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn aligned_windows_equal_the_model(
        kind in aligned(),
        lateness in lateness(),
        keeps in keeps(),
        events in events(),
        splits in prop::collection::vec(1..20usize, 1..6),
        outlet in outlet(),
    ) {
        check(kind, lateness, keeps, &events, &splits, outlet)?;
    }

    #[test]
    fn sessions_equal_the_model(
        gap in 1..15i64,
        lateness in lateness().prop_map(|l| l.min(1 << 40)),
        keeps in keeps(),
        events in events(),
        splits in prop::collection::vec(1..20usize, 1..6),
        outlet in outlet(),
    ) {
        check(Kind::Session { gap }, lateness, keeps, &events, &splits, outlet)?;
    }
}
