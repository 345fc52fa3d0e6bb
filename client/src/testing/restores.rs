//! Every stateful operator, restored before each step of one story, must go on as if nothing had happened.
//!
//! The story is run once without snapshots. It is run again, and before each step a snapshot is begun that is only
//! written when the step is over. From each of these a new pipeline, with one subtask or with three, must lead to
//! the same for the rest of the story, step by step. Where there is keyed state that can lie in trees, all of this
//! is done with trees, too.

use super::{Harness, InputHandle, Mode, Setup, Snapshot};
use crate::prelude::*;
use std::fmt::Debug;

/// Key and value.
type Record = (u8, i64);

#[derive(Clone, Copy, Debug)]
enum Step {
    Left(Record, EventTime),
    Right(Record, EventTime),
    Watermark(EventTime),
    Clock(u64),
    End,
}

/// Elements of three keys on both sides, in and out of order, some late; watermarks; processing time.
fn story() -> Vec<Step> {
    let mut steps = Vec::new();
    for i in 0..24i64 {
        let key = (i % 3) as u8;
        let time = if i % 7 == 6 { i * 10 - 55 } else { i * 10 };
        steps.push(Step::Left((key, i), time));
        if i % 2 == 0 {
            steps.push(Step::Right((key, 100 + i), time + 5));
        }
        if i % 4 == 3 {
            steps.push(Step::Watermark(i * 10 - 15));
        }
        if i % 5 == 4 {
            steps.push(Step::Clock(7));
        }
    }
    steps.extend([Step::Clock(40), Step::Clock(40), Step::Watermark(300), Step::End]);
    steps
}

struct Subject {
    left: Harness<Record, String>,
    right: InputHandle<Record>,
}

impl Subject {
    fn new(setup: &Setup, build: &Build<'_>) -> Self {
        let (left, right) = Harness::with_second_input_in_mode(setup.clone(), build).unwrap();
        Subject { left, right }
    }

    fn take(&mut self, step: Step) -> Vec<String> {
        apply(&mut self.left, &self.right, step).unwrap();
        let mut results = self.left.take();
        results.sort();
        results
    }
}

fn apply(
    left: &mut Harness<Record, String>,
    right: &InputHandle<Record>,
    step: Step,
) -> Result<()> {
    match step {
        Step::Left(record, time) => left.element(record, time),
        Step::Right(record, time) => {
            right.element(record, time);
            left.settle()
        }
        Step::Watermark(time) => {
            right.watermark(time);
            left.watermark(time)
        }
        Step::Clock(ms) => left.advance_clock(millis(ms)),
        Step::End => {
            right.end();
            left.finish()
        }
    }
}

type Build<'a> = dyn Fn(DataStream<Record>, DataStream<Record>) -> DataStream<String> + 'a;

/// What the module's text says, for the operator that `build` makes of two streams.
fn survives(build: &Build<'_>) {
    survives_in(&Mode::Plain.into(), 1, build);
}

/// The same for one whose state can lie in trees.
fn survives_in_trees_too(build: &Build<'_>) {
    survives(build);
    survives_in(&Setup::from(Mode::Plain).in_trees(), 1, build);
    #[cfg(feature = "rocksdb")]
    {
        let setup = Mode::Plain.set("state-backend", "rocksdb").set("state-memory", "1 MiB");
        // Trees are opened many times: in memory, if there is such a folder.
        let in_memory = std::path::Path::new("/dev/shm");
        let dir = if in_memory.is_dir() { in_memory.to_owned() } else { std::env::temp_dir() };
        survives_in(&setup.set("state-dir", dir.display().to_string()), 13, build);
    }
}

/// The same in a setup, from every so many of the snapshots.
fn survives_in(setup: &Setup, every: usize, build: &Build<'_>) {
    let steps = story();
    let mut plain = Subject::new(&Mode::Plain.into(), build);
    let expected: Vec<Vec<String>> = steps.iter().map(|step| plain.take(*step)).collect();
    let n_results: usize = expected.iter().map(Vec::len).sum();
    assert!(n_results > 3, "the story leads to nothing: {expected:?}");

    let mut disturbed = Subject::new(setup, build);
    let mut snapshots: Vec<Snapshot> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let right = &disturbed.right;
        let meanwhile = |left: &mut Harness<_, _>| apply(left, right, *step);
        snapshots.push(disturbed.left.snapshot_while(meanwhile).unwrap());
        let mut results = disturbed.left.take();
        results.sort();
        assert_eq!(results, expected[i], "step {i} with a snapshot under way");
    }

    for (from, snapshot) in snapshots.iter().enumerate().step_by(every) {
        for parallelism in [1, 3] {
            let mut restored = Subject::new(setup, build);
            for step in steps[..from].iter().filter(|step| matches!(step, Step::Clock(_))) {
                restored.take(*step);
            }
            restored.left.restore_with_parallelism(snapshot, parallelism).unwrap();
            for (i, step) in steps.iter().enumerate().skip(from) {
                assert_eq!(
                    restored.take(*step),
                    expected[i],
                    "{step:?} (step {i}), restored before step {from} with parallelism {parallelism}"
                );
            }
        }
    }
}

fn text<T: Data + Debug>(stream: DataStream<T>) -> DataStream<String> {
    stream.map(|record| format!("{record:?}"))
}

/// What `windows` makes of both streams together, by key.
fn windows<O: Data + Debug>(windows: impl Fn(KeyedStream<u8, Record>) -> DataStream<O>) {
    for setup in [Mode::Plain.into(), Setup::from(Mode::Plain).in_trees()] {
        survives_in(&setup, 1, &|left, right| {
            text(windows(left.union([right]).key_by(|record| record.0)))
        });
    }
}

/// What a function makes of both streams together, by key.
fn keyed_in_trees_too<O: Data + Debug>(
    function: impl Fn(KeyedStream<u8, Record>) -> DataStream<O>,
) {
    survives_in_trees_too(&|left, right| {
        text(function(left.union([right]).key_by(|record| record.0)))
    });
}

#[test]
fn folds() {
    keyed_in_trees_too(|keyed| keyed.reduce(|a, b| (a.0, a.1 * 3 + b.1)));
    keyed_in_trees_too(|keyed| {
        keyed.map_with_state(|seen: &mut Vec<i64>, (key, n)| {
            seen.push(n);
            (key, seen.clone())
        })
    });
}

#[test]
fn aligned_windows() {
    windows(|keyed| keyed.window(Tumbling::of(millis(40))).count());
    windows(|keyed| {
        keyed
            .window(Tumbling::of(millis(40)))
            .allowed_lateness(millis(30))
            .reduce(|a, b| (a.0, a.1 + b.1))
    });
    windows(|keyed| keyed.window(Sliding::of(millis(60), millis(20))).count());
    windows(|keyed| keyed.window(Sliding::of(millis(50), millis(20))).sum(|record| record.1));
    windows(|keyed| keyed.window(Sliding::of(millis(60), millis(20))).max(|record| record.1));
}

#[test]
fn sessions() {
    windows(|keyed| keyed.window(Session::gap(millis(35))).count());
    windows(|keyed| {
        let gap = |record: &Record| millis(10 + 5 * (record.1 % 7) as u64);
        keyed.window(Session::dynamic(gap)).sum(|record| record.1)
    });
    windows(|keyed| keyed.window(Session::gap(millis(5)).processing_time()).count());
}

#[test]
fn windows_in_processing_time() {
    windows(|keyed| keyed.window(Tumbling::of(millis(10)).processing_time()).count());
    windows(|keyed| keyed.window(Sliding::of(millis(20), millis(5)).processing_time()).count());
}

/// All elements of windows, in order of arrival.
fn listed(
    windowed: crate::stream::WindowedStream<u8, Record>,
) -> DataStream<(u8, EventTime, Vec<i64>)> {
    windowed.process(|key, elements, context, out| {
        let values = elements.iter().map(|record| record.1).collect();
        out.emit((*key, context.window().start, values));
        Ok(())
    })
}

#[test]
fn windows_with_a_trigger() {
    let by_40 = |keyed: KeyedStream<u8, Record>| keyed.window(Tumbling::of(millis(40)));
    windows(|keyed| listed(by_40(keyed)));
    windows(|keyed| listed(by_40(keyed).trigger(EventTimeTrigger)));
    windows(|keyed| listed(by_40(keyed).trigger(CountTrigger::of(2))));
    windows(|keyed| listed(by_40(keyed).trigger(PurgingTrigger::of(CountTrigger::of(2)))));
    windows(|keyed| listed(by_40(keyed).trigger(ContinuousEventTimeTrigger::of(millis(15)))));
    windows(|keyed| listed(by_40(keyed).trigger(ContinuousProcessingTimeTrigger::of(millis(5)))));
    windows(|keyed| {
        let delta = |a: &Record, b: &Record| (b.1 - a.1) as f64;
        listed(by_40(keyed).trigger(DeltaTrigger::of(3.0, delta)))
    });
    windows(|keyed| {
        let windows = Tumbling::of(millis(10)).processing_time();
        listed(keyed.window(windows).trigger(ProcessingTimeTrigger))
    });
}

#[test]
fn windows_with_an_evictor() {
    let by_80 = |keyed: KeyedStream<u8, Record>| keyed.window(Tumbling::of(millis(80)));
    windows(|keyed| listed(by_80(keyed).evictor(CountEvictor::of(2))));
    windows(|keyed| {
        listed(by_80(keyed).trigger(CountTrigger::of(2)).evictor(CountEvictor::of(1).after()))
    });
    windows(|keyed| listed(by_80(keyed).evictor(TimeEvictor::of(millis(30)))));
    windows(|keyed| {
        let delta = |a: &Record, b: &Record| (b.1 - a.1).abs() as f64;
        listed(by_80(keyed).evictor(DeltaEvictor::of(4.0, delta)))
    });
}

#[test]
fn count_windows() {
    windows(|keyed| keyed.count_window(4).reduce(|a, b| (a.0, a.1 * 3 + b.1)));
    windows(|keyed| listed(keyed.count_window(3)));
    windows(|keyed| listed(keyed.count_window_sliding(4, 2)));
}

#[test]
fn joins() {
    survives_in_trees_too(&|left, right| {
        let (left, right) = (left.key_by(|l| l.0), right.key_by(|r| r.0));
        text(left.interval_join(right, -40, 25).apply(|l, r| (*l, *r)))
    });
    survives_in_trees_too(&|left, right| {
        let (left, right) = (left.key_by(|l| l.0), right.key_by(|r| r.0));
        text(left.temporal_join(right).apply(|l, r| (l, r.copied())))
    });
    survives(&|left, right| {
        let (left, right) = (left.key_by(|l| l.0), right.key_by(|r| r.0));
        text(left.join(right).window(Tumbling::of(millis(60))).apply(|l, r| (*l, *r)))
    });
    survives(&|left, right| {
        let (left, right) = (left.key_by(|l| l.0), right.key_by(|r| r.0));
        let windows = left.join(right).window(Sliding::of(millis(60), millis(30)));
        text(windows.allowed_lateness(millis(20)).co_group(|key, l, r, context, out| {
            out.emit((*key, context.window().start, l.to_vec(), r.to_vec()));
            Ok(())
        }))
    });
}

#[test]
fn asynchronous_calls() {
    survives(&|left, right| {
        let call = AsyncCall::new(|(key, n): Record| async move { Ok((key, n + 1)) });
        text(left.union([right]).async_map(call))
    });
}

const SEEN: ValueState<i64> = ValueState::new("seen");
const VALUES: ListState<i64> = ListState::new("values");

/// Tells, some event time and some processing time after each record, what it has seen by then.
#[derive(Clone)]
struct Reminders;

impl Reminders {
    fn take(ctx: &KeyedContext<'_, u8>, n: i64) {
        *ctx.state(&SEEN).or_default() += n;
        ctx.timers().at(ctx.timestamp() + 33);
        ctx.timers().at_processing_time(ctx.now_ms() + 12);
        if n % 5 == 0 {
            ctx.timers().delete(ctx.timestamp() + 33);
        }
    }

    fn tell(timer: Timer, ctx: &KeyedContext<'_, u8>, out: &mut Collector<'_, String>) {
        let seen = ctx.state(&SEEN).get().copied();
        out.emit(format!("{} {timer:?} at {}: {seen:?}", ctx.key(), ctx.watermark()));
    }
}

impl KeyedProcessFunction<u8, Record> for Reminders {
    type Out = String;
    const STATES: StateSet<u8> = states![SEEN];
    fn process(
        &mut self,
        (_, n): Record,
        ctx: &mut KeyedContext<'_, u8>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        Reminders::take(ctx, n);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        Reminders::tell(timer, ctx, out);
        Ok(())
    }
}

impl KeyedCoProcessFunction<u8, Record, Record> for Reminders {
    type Out = String;
    const STATES: StateSet<u8> = states![SEEN, VALUES];
    fn left(
        &mut self,
        (_, n): Record,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        Reminders::take(ctx, n);
        let values: Vec<i64> = ctx.state(&VALUES).get().to_vec();
        out.emit(format!("{n} {values:?}"));
        Ok(())
    }
    fn right(
        &mut self,
        (_, n): Record,
        ctx: &mut KeyedContext<'_, u8>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        ctx.state(&VALUES).push(n);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        Reminders::tell(timer, ctx, out);
        Ok(())
    }
}

#[test]
fn functions_with_timers() {
    survives_in_trees_too(&|left, right| {
        left.union([right]).key_by(|record| record.0).process(Reminders)
    });
    survives_in_trees_too(&|left, right| {
        left.key_by(|l| l.0).connect(right.key_by(|r| r.0)).process(Reminders)
    });
}

const RULES: BroadcastState<u8, i64> = BroadcastState::new("rules");

/// Puts the newest rule of its key to each record, and counts records by key where there are keys.
#[derive(Clone)]
struct Rules;

impl BroadcastProcessFunction<Record, Record> for Rules {
    type Out = String;
    const BROADCAST: BroadcastSet = states![RULES];
    fn process(
        &mut self,
        record: Record,
        ctx: &mut BroadcastContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let rule = ctx.broadcast(&RULES).get(&record.0).copied();
        out.emit(format!("{record:?} {rule:?}"));
        Ok(())
    }
    fn process_broadcast(
        &mut self,
        (key, n): Record,
        ctx: &mut BroadcastUpdateContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        ctx.broadcast(&RULES).insert(key, n);
        Ok(())
    }
}

impl KeyedBroadcastProcessFunction<u8, Record, Record> for Rules {
    type Out = String;
    const STATES: StateSet<u8> = states![SEEN];
    const BROADCAST: BroadcastSet = states![RULES];
    fn process(
        &mut self,
        record: Record,
        ctx: &mut KeyedBroadcastContext<'_, u8>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        *ctx.state(&SEEN).or_default() += 1;
        let rule = ctx.broadcast(&RULES).get(&record.0).copied();
        out.emit(format!("{record:?} {rule:?} {:?}", ctx.state(&SEEN).get()));
        Ok(())
    }
    fn process_broadcast(
        &mut self,
        (key, n): Record,
        ctx: &mut KeyedBroadcastUpdateContext<'_, u8>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        ctx.broadcast(&RULES).insert(key, n);
        ctx.for_each_key(&SEEN, |seen| {
            *seen.state(&SEEN).or_default() += 10;
            out.emit(format!("{} {:?} after rule {n}", seen.key(), seen.state(&SEEN).get()));
            Ok(())
        })
    }
}

#[test]
fn broadcast_functions() {
    survives_in_trees_too(&|left, right| left.connect_broadcast(right).process(Rules));
    survives_in_trees_too(&|left, right| {
        left.key_by(|l| l.0).connect_broadcast(right).process(Rules)
    });
}
