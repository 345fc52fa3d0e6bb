//! State of functions on streams without keys: what a subtask holds is there after a failure, and is dealt out
//! or given to everybody when the parallelism changes.

use millstream::prelude::*;
use millstream::testing::Harness;

const BUFFER: OperatorListState<u32> = OperatorListState::split("buffer");
const LARGEST: OperatorListState<u32> = OperatorListState::union("largest");

/// Holds records back until a zero comes, and says which was the largest that any subtask has ever seen.
#[derive(Clone, Default)]
struct Buffering {
    largest: u32,
}

impl ProcessFunction<u32> for Buffering {
    type Out = (u32, u32);
    const STATES: OperatorStateSet = operator_states![BUFFER, LARGEST];

    fn open(&mut self, ctx: &mut ProcessContext<'_>) -> Result<()> {
        let largest = ctx.operator_state(&LARGEST).drain(..).max();
        self.largest = largest.unwrap_or(0);
        Ok(())
    }

    fn process(
        &mut self,
        n: u32,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.largest = self.largest.max(n);
        let mut buffer = ctx.operator_state(&BUFFER);
        match n {
            0 => buffer.drain(..).for_each(|n| out.emit((n, self.largest))),
            n => buffer.push(n),
        }
        Ok(())
    }

    fn before_snapshot(
        &mut self,
        ctx: &mut ProcessContext<'_>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        *ctx.operator_state(&LARGEST) = vec![self.largest];
        Ok(())
    }
}

/// One buffer for each of the subtasks, whatever their number: zeroes go to all of them.
fn pipeline(input: DataStream<u32>) -> DataStream<(u32, u32)> {
    input.rebalance().process(Buffering::default()).uid("buffering")
}

#[test]
fn what_a_subtask_holds_is_there_after_a_failure() {
    let mut harness = Harness::new(pipeline).unwrap();
    for n in [3, 9, 4] {
        harness.element(n, 0).unwrap();
    }
    let snapshot = harness.snapshot().unwrap();
    harness.element(0, 0).unwrap();
    assert_eq!(harness.take(), [(3, 9), (9, 9), (4, 9)]);
    harness.restore(&snapshot).unwrap();
    assert_eq!(harness.take(), [(3, 9), (9, 9), (4, 9)]);
}

#[test]
fn lists_are_dealt_out_or_given_to_everybody() {
    let mut harness = Harness::new(pipeline).unwrap();
    for n in 1..=9 {
        harness.element(n, 0).unwrap();
    }
    let mut snapshot = harness.snapshot().unwrap();
    for parallelism in [3, 2, 1, 4] {
        let mut harness = Harness::new(pipeline).unwrap();
        harness.restore_with_parallelism(&snapshot, parallelism).unwrap();
        snapshot = harness.snapshot().unwrap();
        // Every subtask gets a zero, and each has a part of the list.
        let mut results = Vec::new();
        for _ in 0..parallelism {
            harness.element(0, 0).unwrap();
            let emitted = harness.take();
            assert!(!emitted.is_empty(), "a subtask of {parallelism} holds nothing");
            results.extend(emitted);
        }
        results.sort();
        assert_eq!(results, (1..=9).map(|n| (n, 9)).collect::<Vec<_>>());
    }
}

/// Sums of what came between two snapshots: nothing of it is in any state.
#[derive(Clone, Default)]
struct Sums {
    sum: u32,
}

impl ProcessFunction<u32> for Sums {
    type Out = u32;

    fn process(
        &mut self,
        n: u32,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<'_, u32>,
    ) -> Result<()> {
        self.sum += n;
        Ok(())
    }

    fn before_snapshot(
        &mut self,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, u32>,
    ) -> Result<()> {
        out.emit(std::mem::take(&mut self.sum));
        Ok(())
    }
}

#[test]
fn what_is_emitted_before_a_snapshot_belongs_to_it() {
    let mut harness =
        Harness::new(|input: DataStream<u32>| input.process(Sums::default())).unwrap();
    harness.element(1, 0).unwrap();
    harness.element(2, 0).unwrap();
    let snapshot = harness.snapshot_while(|harness| harness.element(5, 0)).unwrap();
    assert_eq!(harness.take(), [3]);
    harness.restore(&snapshot).unwrap();
    harness.snapshot().unwrap();
    // The five is read again, the three is not emitted again.
    assert_eq!(harness.take(), [5]);
}
