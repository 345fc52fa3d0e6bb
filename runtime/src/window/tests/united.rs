//! Two subtasks at different times become one: every key goes on as it would have where it was.

use super::kit::{MAX_PARALLELISM, Outlet, Rec, Rig, Saved, context, rec, selector};
use super::model::Kind;
use super::properties::{Event, Keeps, aligned, keeps, lateness, operator, outlet, sorted, time};
use crate::context::OperatorContext;
use crate::function::{Collector, KeyedContext, KeyedProcessFunction};
use crate::operator::KeyedProcess;
use millstream_model::key_group::{key_group, subtask_of};
use millstream_model::{EventTime, MAX_TIME, Result, hash_key};
use millstream_state::{StateSet, ValueState, states};
use proptest::prelude::*;

/// What happens before, and to which of the two subtasks if it is a watermark.
type Before = Vec<(Event, usize)>;

fn subtask(key: &str) -> usize {
    let group = key_group(hash_key(key).unwrap(), MAX_PARALLELISM);
    subtask_of(group, 2, MAX_PARALLELISM) as usize
}

/// Feeds one event to the subtasks it concerns.
fn feed<O: Send + 'static>(rigs: &mut [Rig<O>], event: Event, at: Option<usize>, n: usize) {
    match event {
        Event::Element { key, time } => {
            let key = key.to_string();
            let at = if rigs.len() == 1 { 0 } else { subtask(&key) };
            rigs[at].element(rec(&key, n as i64), time);
        }
        Event::Watermark(watermark) => match at {
            Some(at) => rigs[at].watermark(watermark),
            None => rigs.iter_mut().for_each(|rig| rig.watermark(watermark)),
        },
    }
}

fn check(
    (kind, lateness, keeps): (Kind, i64, Keeps),
    before: &Before,
    after: &[Event],
    saved_again: usize,
    outlet: Outlet,
) -> Result<(), TestCaseError> {
    let make = || operator(kind, lateness, keeps);
    let mut apart = [Rig::new(make(), outlet), Rig::new(make(), outlet)];
    for (n, (event, at)) in before.iter().enumerate() {
        feed(&mut apart, *event, Some(*at), n);
    }
    let saved: Vec<Saved> = apart.iter_mut().map(|rig| rig.save(2)).collect();
    apart.iter_mut().for_each(|rig| drop((rig.take(), rig.take_late())));
    let mut one = Rig::united(make(), outlet, &saved, 1);
    let after = after.iter().copied().chain([Event::Watermark(MAX_TIME)]);
    for (n, event) in after.enumerate() {
        if n == saved_again {
            let saved = one.save(1);
            one = Rig::united(make(), outlet, &[saved], 1);
        }
        feed(&mut apart, event, None, n);
        feed(std::slice::from_mut(&mut one), event, None, n);
        let fired = |rig: &mut Rig<_>| rig.take().into_iter().map(|(fired, _)| fired);
        let expected = sorted(apart.iter_mut().flat_map(fired).collect());
        prop_assert_eq!(sorted(fired(&mut one).collect()), expected, "at {} ({:?})", n, event);
        let late = |rig: &mut Rig<_>| rig.take_late().into_iter().map(|(r, _)| r.value);
        let expected: Vec<i64> = apart.iter_mut().flat_map(late).collect();
        prop_assert_eq!(late(&mut one).collect::<Vec<_>>(), expected, "late at {}", n);
    }
    Ok(())
}

fn event() -> impl Strategy<Value = Event> {
    let element = (0..8u8, time()).prop_map(|(key, time)| Event::Element { key, time });
    prop_oneof![4 => element, 1 => (-40..60i64).prop_map(Event::Watermark)]
}

fn any_windows() -> impl Strategy<Value = (Kind, i64, Keeps)> {
    let kind = prop_oneof![3 => aligned(), 1 => (1..15i64).prop_map(|gap| Kind::Session { gap })];
    (kind, lateness().prop_map(|l| l.min(1 << 40)), keeps())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn windows_of_a_faster_subtask_neither_fire_again_nor_take_what_is_late(
        windows in any_windows(),
        before in prop::collection::vec((event(), 0..2usize), 0..40),
        after in prop::collection::vec(event(), 0..40),
        saved_again in 0..40usize,
        outlet in outlet(),
    ) {
        check(windows, &before, &after, saved_again, outlet)?;
    }
}

/// Emits the time that each record is judged by.
#[derive(Clone)]
struct Times;

const SEEN: ValueState<u64> = ValueState::new("seen");

impl KeyedProcessFunction<String, Rec> for Times {
    type Out = EventTime;
    const STATES: StateSet<String> = states![SEEN];

    fn process(
        &mut self,
        _: Rec,
        ctx: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, EventTime>,
    ) -> Result<()> {
        out.emit(ctx.watermark());
        Ok(())
    }
}

#[test]
fn functions_see_the_time_that_their_key_stood_at() {
    let make = |context: OperatorContext| KeyedProcess::new(Times, selector(), context).unwrap();
    let rig = || Rig::new(make(context().0), Outlet::Open);
    let (mut slow, mut fast) = (rig(), rig());
    slow.watermark(10);
    fast.watermark(20);
    let saved = [slow.save(2), fast.save(2)];
    let mut one = Rig::united(make(context().0), Outlet::Open, &saved, 1);
    let keys = [0, 1].map(|at| (0..).map(|n| n.to_string()).find(|k| subtask(k) == at).unwrap());
    let times = |one: &mut Rig<EventTime>| {
        keys.iter().for_each(|key| one.element(rec(key, 0), 0));
        one.take().into_iter().map(|(time, _)| time).collect::<Vec<_>>()
    };
    assert_eq!(times(&mut one), [10, 20]);
    one.watermark(15);
    assert_eq!(times(&mut one), [15, 20]);
    one.watermark(25);
    assert_eq!(times(&mut one), [25, 25]);
}
