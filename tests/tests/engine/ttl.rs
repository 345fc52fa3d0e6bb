//! State that goes by itself, in pipelines: by the clock of the job, and across restores.

use millstream::prelude::*;
use millstream::testing::{Harness, Mode, Setup};

const SEEN: Expiring<ValueState<u32>> = ValueState::new("seen").ttl(Ttl::after(secs(10)));
const FOREVER: ValueState<u32> = ValueState::new("seen");

/// Counts the records of a key that follow each other within ten seconds.
#[derive(Clone)]
struct Recent;

impl KeyedProcessFunction<u32, u32> for Recent {
    type Out = (u32, u32);
    const STATES: StateSet<u32> = states![SEEN];
    fn process(
        &mut self,
        key: u32,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let mut seen = ctx.state(&SEEN);
        let n = seen.or_default();
        *n += 1;
        out.emit((key, *n));
        Ok(())
    }
}

/// Counts all records of a key.
#[derive(Clone)]
struct All;

impl KeyedProcessFunction<u32, u32> for All {
    type Out = (u32, u32);
    const STATES: StateSet<u32> = states![FOREVER];
    fn process(
        &mut self,
        key: u32,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let mut seen = ctx.state(&FOREVER);
        let n = seen.or_default();
        *n += 1;
        out.emit((key, *n));
        Ok(())
    }
}

fn recent(input: DataStream<u32>) -> DataStream<(u32, u32)> {
    input.key_by(|n| *n).process(Recent).uid("counts")
}

fn all(input: DataStream<u32>) -> DataStream<(u32, u32)> {
    input.key_by(|n| *n).process(All).uid("counts")
}

#[test]
fn values_go_by_the_clock_of_the_job() {
    let mut harness = Harness::new(recent).unwrap();
    harness.element(1, 0).unwrap();
    harness.advance_clock(secs(9)).unwrap();
    harness.element(1, 0).unwrap();
    harness.advance_clock(secs(10)).unwrap();
    harness.element(1, 0).unwrap();
    assert_eq!(harness.take(), [(1, 1), (1, 2), (1, 1)]);
}

#[test]
fn the_time_that_is_left_survives_a_change_of_parallelism() {
    let mut harness = Harness::new(recent).unwrap();
    for key in 0..20 {
        harness.element(key, 0).unwrap();
    }
    harness.advance_clock(secs(6)).unwrap();
    harness.element(0, 0).unwrap();
    harness.take();
    let snapshot = harness.snapshot().unwrap();
    harness.restore_with_parallelism(&snapshot, 3).unwrap();
    harness.advance_clock(secs(4)).unwrap();
    for key in 0..20 {
        harness.element(key, 0).unwrap();
    }
    let mut counts = harness.take();
    counts.sort();
    let expected = (0..20).map(|key| (key, if key == 0 { 3 } else { 1 }));
    assert_eq!(counts, expected.collect::<Vec<_>>());
}

#[test]
fn a_state_may_begin_to_expire() {
    let mut before = Harness::new(all).unwrap();
    before.element(1, 0).unwrap();
    let snapshot = before.snapshot().unwrap();
    let mut after = Harness::new(recent).unwrap();
    after.advance_clock(secs(100)).unwrap();
    after.restore(&snapshot).unwrap();
    after.take();
    after.advance_clock(secs(9)).unwrap();
    after.element(1, 0).unwrap();
    after.advance_clock(secs(10)).unwrap();
    after.element(1, 0).unwrap();
    assert_eq!(after.take(), [(1, 2), (1, 1)]);
}

#[test]
fn a_state_may_cease_to_expire() {
    let mut before = Harness::new(recent).unwrap();
    before.element(1, 0).unwrap();
    before.advance_clock(secs(5)).unwrap();
    before.element(2, 0).unwrap();
    let snapshot = before.snapshot().unwrap();
    let mut after = Harness::new(all).unwrap();
    after.advance_clock(secs(10)).unwrap();
    after.restore(&snapshot).unwrap();
    after.advance_clock(secs(1000)).unwrap();
    after.element(1, 0).unwrap();
    after.element(2, 0).unwrap();
    // The first had expired when it was restored.
    assert_eq!(after.take(), [(1, 1), (2, 2)]);
}

#[test]
fn what_nobody_touches_goes_from_trees() {
    let mut harness = Harness::in_mode(Setup::from(Mode::Plain).in_trees(), recent).unwrap();
    let mut size_with = |keys: std::ops::Range<u32>| {
        keys.for_each(|key| harness.input().element(key, 0));
        let size = harness.snapshot().unwrap().size_bytes();
        harness.advance_clock(secs(10)).unwrap();
        size
    };
    let (first, second, third) = (size_with(0..500), size_with(500..1000), size_with(1000..1500));
    // Were they kept, it would grow by as much every time.
    let (one, added) = (first as f64, [second, third].map(|size| size as f64));
    assert!(added.iter().all(|size| *size < one * 1.2), "{first}, {second}, {third} bytes");
}
