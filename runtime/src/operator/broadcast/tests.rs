//! Both operators in their links, driven by hand.

use super::*;
use crate::chain::{Flow, Push, Site, TwoInput, TwoInputLink};
use crate::context::{JobContext, SystemClock, TaskContext};
use crate::function::Timer;
use crate::function_broadcast::{BroadcastSet, BroadcastState};
use crate::keyed::OwnedKey;
use crate::task::NoWake;
use millstream_model::{Batch, Signal, hash_key};
use millstream_state::{StateSet, ValueState, states};
use std::sync::Mutex;

/// What came out.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Push<String> for Seen {
    fn visit(&mut self, _: &mut dyn crate::chain::ChainVisitor) -> Result<()> {
        Ok(())
    }
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn push(&mut self, batch: &mut Batch<String>) -> Result<Flow> {
        self.0.lock().unwrap().append(&mut batch.values);
        batch.clear();
        Ok(Flow::Ready)
    }
    fn signal(&mut self, _: Signal) -> Result<Flow> {
        Ok(Flow::Ready)
    }
    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Seen {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn context() -> OperatorContext {
    let job = JobContext {
        name: "test".into(),
        parameters: Default::default(),
        clock: Arc::new(SystemClock::default()),
        registry: Default::default(),
        alignment: Default::default(),
        batch_size: 1024,
        checkpoints: None,
    };
    TaskContext::new(Arc::new(job), 0, 1, 128, 0, Arc::new(NoWake)).operator("rules")
}

fn link<L: Send, R: Send, Op: TwoInputOperator<L, R, String>>(
    operator: Op,
) -> (TwoInput<L, R, String, Op>, Seen) {
    let seen = Seen::default();
    let out = Output::new(Box::new(seen.clone()), 1024, Site::detached("rules"), Vec::new());
    let mut link = TwoInput::new(operator, out);
    link.open().unwrap();
    (link, seen)
}

fn batch<T>(records: Vec<(T, EventTime)>, watermark: Option<EventTime>) -> Batch<T> {
    let mut batch = Batch::default();
    records.into_iter().for_each(|(value, time)| batch.push(value, time));
    watermark.into_iter().for_each(|w| batch.mark(w));
    batch
}

type Payment = (&'static str, u64);

/// Sums up payments per user and tells when a user's limit (a broadcast one for all users) is passed;
/// a timer ends the sum.
#[derive(Clone)]
struct Watch;

const SUM: ValueState<u64> = ValueState::new("sum");
const LIMITS: BroadcastState<String, u64> = BroadcastState::new("limits");

impl KeyedBroadcastProcessFunction<String, Payment, u64> for Watch {
    type Out = String;
    const STATES: StateSet<String> = states![SUM];
    const BROADCAST: BroadcastSet = states![LIMITS];

    fn process(
        &mut self,
        (_, amount): Payment,
        ctx: &mut KeyedBroadcastContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let mut sum = ctx.state(&SUM);
        *sum.or_default() += amount;
        ctx.timers().at(100);
        let limits = ctx.broadcast(&LIMITS);
        if let (Some(limit), Some(sum)) = (limits.get(&"all".into()), sum.get())
            && sum > limit
        {
            out.emit(format!("{} has {sum} of {limit} at {}", ctx.key(), ctx.timestamp()));
        }
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        limit: u64,
        ctx: &mut KeyedBroadcastUpdateContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        ctx.broadcast(&LIMITS).insert("all".into(), limit);
        let watermark = ctx.watermark();
        ctx.for_each_key(&SUM, |key| {
            let name = key.key().clone();
            let mut sum = key.state(&SUM);
            if let Some(passed) = sum.take_if(|sum| *sum > limit) {
                out.emit(format!("{name} had {passed}, limit {limit}, watermark {watermark}"));
                key.timers().at(50);
            }
            Ok(())
        })
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedBroadcastContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let sum = ctx.state(&SUM).take();
        let n_limits = ctx.broadcast(&LIMITS).len();
        out.emit(format!("{}@{}: {sum:?}, {n_limits} limits", ctx.key(), timer.time));
        Ok(())
    }
}

/// Takes a value that fulfils a condition; the state keeps one that does not.
trait TakeIf {
    fn take_if(&mut self, condition: impl Fn(&u64) -> bool) -> Option<u64>;
}

impl TakeIf for millstream_state::handle::ValueHandle<'_, String, u64> {
    fn take_if(&mut self, condition: impl Fn(&u64) -> bool) -> Option<u64> {
        if self.get().is_some_and(condition) { self.take() } else { None }
    }
}

fn payments(records: Vec<(Payment, EventTime)>) -> Batch<Payment> {
    let mut batch = batch(records, None);
    batch.hashes = batch.values.iter().map(|p| hash_key(p.0).unwrap()).collect();
    batch
}

#[test]
fn keyed_records_see_the_rules_and_rules_see_every_key() {
    let selector = Arc::new(OwnedKey(|p: &Payment| p.0.to_string()));
    let operator = KeyedBroadcastProcess::new(Watch, selector, context()).unwrap();
    let (mut link, seen) = link(operator);
    let ready = Flow::Ready;

    assert_eq!(
        link.push_left(&mut payments(vec![(("ann", 7), 1), (("bob", 3), 2)])).unwrap(),
        ready
    );
    assert_eq!(seen.take(), [""; 0], "no limit yet");
    assert_eq!(link.push_right(&mut batch(vec![(5, 3)], Some(60))).unwrap(), ready);
    assert_eq!(seen.take(), [format!("ann had 7, limit 5, watermark {MIN_TIME}")]);
    assert_eq!(
        link.push_left(&mut payments(vec![(("bob", 3), 4), (("ann", 1), 5)])).unwrap(),
        ready
    );
    assert_eq!(seen.take(), ["bob has 6 of 5 at 4"]);

    // Timers wait for both inputs.
    let mut watermark = payments(vec![]);
    watermark.mark(70);
    assert_eq!(link.push_left(&mut watermark).unwrap(), ready);
    assert_eq!(seen.take(), ["ann@50: Some(1), 1 limits"]);
    assert_eq!(link.signal_input(1, Signal::End).unwrap(), ready);
    let mut watermark = payments(vec![]);
    watermark.mark(100);
    assert_eq!(link.push_left(&mut watermark).unwrap(), ready);
    assert_eq!(seen.take(), ["ann@100: None, 1 limits", "bob@100: Some(6), 1 limits"]);
}

/// Names codes by a table that the other side sends.
#[derive(Clone)]
struct Translate;

const NAMES: BroadcastState<u32, String> = BroadcastState::new("names");
const SEEN: BroadcastState<u32, bool> = BroadcastState::new("seen");

impl BroadcastProcessFunction<u32, (u32, &'static str)> for Translate {
    type Out = String;
    const BROADCAST: BroadcastSet = states![NAMES, SEEN];

    fn process(
        &mut self,
        code: u32,
        ctx: &mut BroadcastContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let (names, seen) = (ctx.broadcast(&NAMES), ctx.broadcast(&SEEN));
        let name = names.get(&code).map_or("?", String::as_str);
        out.emit(format!("{name} {} {} {}", names.len(), seen.contains(&code), ctx.timestamp()));
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (code, name): (u32, &'static str),
        ctx: &mut BroadcastUpdateContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let old = match name {
            "" => ctx.broadcast(&NAMES).remove(&code),
            name => ctx.broadcast(&NAMES).insert(code, name.into()),
        };
        ctx.broadcast(&SEEN).insert(code, true);
        out.emit(format!("was {old:?} in {}", ctx.operator().name()));
        Ok(())
    }

    fn end(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        out.emit("end".into());
        Ok(())
    }
}

#[test]
fn records_without_keys_see_the_rules() {
    let operator = BroadcastProcess::new::<u32, (u32, &str)>(Translate, context()).unwrap();
    let (mut link, seen) = link(operator);
    let ready = Flow::Ready;
    assert_eq!(link.push_left(&mut batch(vec![(1, 10)], None)).unwrap(), ready);
    let rules = vec![((1, "one"), 0), ((2, "two"), 0), ((1, "ONE"), 0), ((2, ""), 0)];
    assert_eq!(link.push_right(&mut batch(rules, None)).unwrap(), ready);
    assert_eq!(link.push_left(&mut batch(vec![(1, 11), (2, 12)], None)).unwrap(), ready);
    assert_eq!(link.signal(Signal::End).unwrap(), ready);
    assert_eq!(
        seen.take(),
        [
            "? 0 false 10",
            "was None in rules",
            "was None in rules",
            "was Some(\"one\") in rules",
            "was Some(\"two\") in rules",
            "ONE 1 true 11",
            "? 1 true 12",
            "end"
        ]
    );
}
