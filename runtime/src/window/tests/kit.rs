//! What the tests of operators share: links that are driven by hand, and contents that show what is inside.

use super::super::{Emit, TimeWindow, WindowContext};
use crate::chain::{
    AnySide, ChainVisitor, Flow, OneInput, Operator, Output, Push, SideOutput, Site, Stateful,
    Step, TwoInput, TwoInputLink, TwoInputOperator,
};
use crate::context::{Clock, JobContext, OperatorContext, TaskContext};
use crate::keyed::{KeySelector, OwnedKey};
use crate::task::NoWake;
use millstream_model::{
    Barrier, Batch, CheckpointId, EventTime, Result, Signal, SnapshotKind, hash_key,
};
use millstream_state::part::{Entries, Written};
use millstream_state::schema::Shape;
use millstream_state::snapshot::Assignment;
use millstream_state::{Aggregate, Part, Visitor};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// The name of the side output for late records.
pub(crate) const LATE: &str = "late";

/// A record of the tests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) struct Rec {
    pub(crate) key: String,
    pub(crate) value: i64,
}

pub(crate) fn rec(key: &str, value: i64) -> Rec {
    Rec { key: key.into(), value }
}

pub(crate) fn selector() -> Arc<dyn KeySelector<Rec, String>> {
    Arc::new(OwnedKey(|r: &Rec| r.key.clone()))
}

/// A firing: key, window, values.
pub(crate) type Fired = (String, TimeWindow, Vec<i64>);

/// Emits what a window holds; `A` shows it.
#[derive(Clone)]
pub(crate) struct Show;

/// A content that can be looked at.
pub(crate) trait Shown {
    fn values(&self) -> Vec<i64>;
}

impl Shown for Vec<i64> {
    fn values(&self) -> Vec<i64> {
        self.clone()
    }
}

impl Shown for Vec<Rec> {
    fn values(&self) -> Vec<i64> {
        self.iter().map(|r| r.value).collect()
    }
}

impl<A: Shown> Emit<String, A> for Show {
    type Out = Fired;
    fn emit(
        &mut self,
        key: &String,
        content: &A,
        ctx: &WindowContext<'_>,
        out: &mut Output<Fired>,
    ) -> Result<Step> {
        out.emit((key.clone(), ctx.window(), content.values()));
        Ok(Step::Done)
    }
}

/// Keeps all values, sorted: mergeable, and with an inverse if it says so.
#[derive(Clone, Copy)]
pub(crate) struct Bag {
    pub(crate) invertible: bool,
}

impl Aggregate<Rec> for Bag {
    type Acc = Vec<i64>;
    type Out = Vec<i64>;
    fn create(&self) -> Vec<i64> {
        Vec::new()
    }
    fn add(&self, acc: &mut Vec<i64>, record: Rec) {
        let at = acc.partition_point(|v| *v < record.value);
        acc.insert(at, record.value);
    }
    fn merge(&self, acc: &mut Vec<i64>, other: &Vec<i64>) {
        acc.extend(other);
        acc.sort_unstable();
    }
    fn result(&self, acc: &Vec<i64>) -> Vec<i64> {
        acc.clone()
    }
    fn retract(&self, acc: &mut Vec<i64>, other: &Vec<i64>) -> bool {
        for value in other {
            let at = acc.binary_search(value).expect("only what was merged is retracted");
            acc.remove(at);
        }
        true
    }
    fn is_invertible(&self) -> bool {
        self.invertible
    }
}

/// A clock that is set.
#[derive(Default)]
pub(crate) struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now_us(&self) -> EventTime {
        self.0.load(Ordering::Relaxed)
    }
}

impl HandClock {
    pub(crate) fn set_ms(&self, now_ms: EventTime) {
        self.0.store(now_ms * 1000, Ordering::Relaxed);
    }
}

pub(crate) fn context() -> (OperatorContext, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    let job = JobContext {
        name: "test".into(),
        parameters: Default::default(),
        clock: clock.clone(),
        registry: Default::default(),
        alignment: Default::default(),
        batch_size: 16,
        checkpoints: None,
    };
    let task = TaskContext::new(Arc::new(job), 0, 1, 128, 0, Arc::new(NoWake));
    (task.operator("window"), clock)
}

/// Something that looks random and is not.
#[derive(Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    /// True about once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.is_multiple_of(n)
    }
}

/// Records with their times.
pub(crate) type Received<T> = Arc<Mutex<Vec<(T, EventTime)>>>;

/// Keeps what is pushed; blocked at random if it has a chance.
struct Collect<T> {
    received: Received<T>,
    chance: Option<Chance>,
    blocked: bool,
}

impl<T: Send> Push<T> for Collect<T> {
    fn visit(&mut self, _: &mut dyn ChainVisitor) -> Result<()> {
        Ok(())
    }
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn push(&mut self, batch: &mut Batch<T>) -> Result<Flow> {
        assert!(!self.blocked, "nothing may be pushed into a blocked link");
        let times: Vec<_> = (0..batch.len()).map(|i| batch.time(i)).collect();
        self.received.lock().unwrap().extend(batch.values.drain(..).zip(times));
        batch.clear();
        self.blocked = self.chance.as_mut().is_some_and(|chance| chance.once_in(2));
        Ok(if self.blocked { Flow::Blocked } else { Flow::Ready })
    }
    fn signal(&mut self, _: Signal) -> Result<Flow> {
        Ok(Flow::Ready)
    }
    fn resume(&mut self) -> Result<Flow> {
        self.blocked = self.blocked && self.chance.as_mut().is_some_and(|chance| chance.once_in(2));
        Ok(if self.blocked { Flow::Blocked } else { Flow::Ready })
    }
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// How an operator's output behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outlet {
    /// Takes everything.
    Open,
    /// Batches of one record, blocked after every other one; the number is a seed.
    Stuttering(u64),
}

struct Sink<O, T> {
    received: Received<O>,
    late: Vec<Received<T>>,
    output: Output<O>,
}

fn sink<O: Send + 'static, T: Send + 'static>(
    outlet: Outlet,
    sides: &[&'static str],
) -> Sink<O, T> {
    let (capacity, seed) = match outlet {
        Outlet::Open => (16, None),
        Outlet::Stuttering(seed) => (1, Some(seed)),
    };
    let site = Site::detached("window");
    let received = Received::default();
    let chance = |n: u64| seed.map(|seed| Chance::new(seed + n));
    let mut late = Vec::new();
    let mut boxed: Vec<Box<dyn AnySide>> = Vec::new();
    for (n, tag) in (1..).zip(sides) {
        let received = Received::<T>::default();
        let collect = Collect { received: received.clone(), chance: chance(n), blocked: false };
        let side = SideOutput::new(tag, Box::new(collect), capacity, site.clone());
        boxed.push(Box::new(side));
        late.push(received);
    }
    let collect = Collect { received: received.clone(), chance: chance(0), blocked: false };
    let output = Output::new(Box::new(collect), capacity, site, boxed);
    Sink { received, late, output }
}

fn take<T>(received: &Received<T>) -> Vec<(T, EventTime)> {
    std::mem::take(&mut received.lock().unwrap())
}

/// Key groups in these tests.
pub(crate) const MAX_PARALLELISM: u32 = 128;

/// The parts of an operator as bytes.
pub(crate) struct Saved {
    n_writers: usize,
    parts: BTreeMap<String, (Shape, Written)>,
}

impl ChainVisitor for Saved {
    fn operator(&mut self, _: &Site, operator: &mut dyn Stateful) -> Result<()> {
        operator.parts(self)
    }
}

impl Visitor for Saved {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        let mut written = Written::default();
        while !part.write(&mut written, usize::MAX)? {}
        self.parts.insert(name.into(), (part.shape()?, written));
        Ok(())
    }
}

struct Fill<'a> {
    saved: &'a Saved,
    assignment: Assignment,
}

impl ChainVisitor for Fill<'_> {
    fn operator(&mut self, _: &Site, operator: &mut dyn Stateful) -> Result<()> {
        operator.parts(self)
    }
}

impl Visitor for Fill<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        let (shape, written) = &self.saved.parts[name];
        let assignment = &self.assignment;
        part.restore(&Entries { bytes: &written.bytes, assignment, shape, version: 0, first: 0 })
    }
}

struct Finish;

impl ChainVisitor for Finish {
    fn operator(&mut self, _: &Site, operator: &mut dyn Stateful) -> Result<()> {
        operator.restored()
    }
}

/// A one-input operator in its link.
pub(crate) struct Rig<O> {
    link: Box<dyn Push<Rec>>,
    received: Received<O>,
    late: Received<Rec>,
}

impl<O: Send + 'static> Rig<O> {
    pub(crate) fn new(operator: impl Operator<Rec, O> + 'static, outlet: Outlet) -> Self {
        let mut rig = Rig::closed(operator, outlet);
        rig.link.open().unwrap();
        rig
    }

    fn closed(operator: impl Operator<Rec, O> + 'static, outlet: Outlet) -> Self {
        let Sink { received, mut late, output } = sink(outlet, &[LATE]);
        let link = Box::new(OneInput::new(operator, output));
        Rig { link, received, late: late.remove(0) }
    }

    /// A link that goes on from what these subtasks saved, as the one of so many subtasks.
    pub(crate) fn united(
        operator: impl Operator<Rec, O> + 'static,
        outlet: Outlet,
        saved: &[Saved],
        parallelism: usize,
    ) -> Self {
        let mut rig = Rig::closed(operator, outlet);
        for (writer, saved) in saved.iter().enumerate() {
            let n_writers = saved.n_writers;
            let max_parallelism = MAX_PARALLELISM;
            let assignment =
                Assignment { subtask: 0, parallelism, max_parallelism, writer, n_writers };
            rig.link.visit(&mut Fill { saved, assignment }).unwrap();
        }
        rig.link.visit(&mut Finish).unwrap();
        rig.link.open().unwrap();
        rig
    }

    /// What it has to save, as one of so many subtasks.
    pub(crate) fn save(&mut self, n_writers: usize) -> Saved {
        let (checkpoint, kind) = (CheckpointId(1), SnapshotKind::Checkpoint);
        self.signal(Signal::Barrier(Barrier { checkpoint, kind }));
        let mut saved = Saved { n_writers, parts: BTreeMap::new() };
        self.link.visit(&mut saved).unwrap();
        saved
    }

    fn settle(&mut self, flow: Flow) -> Result<()> {
        let mut flow = flow;
        while flow == Flow::Blocked {
            flow = self.link.resume()?;
        }
        Ok(())
    }

    pub(crate) fn try_push(&mut self, mut batch: Batch<Rec>) -> Result<()> {
        let flow = self.link.push(&mut batch)?;
        assert!(batch.is_blank());
        self.settle(flow)
    }

    pub(crate) fn push(&mut self, batch: Batch<Rec>) {
        self.try_push(batch).unwrap();
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        let flow = self.link.signal(signal).unwrap();
        self.settle(flow).unwrap();
    }

    pub(crate) fn element(&mut self, record: Rec, time: EventTime) {
        let mut batch = Batch::default();
        put(&mut batch, record, time);
        self.push(batch);
    }

    pub(crate) fn watermark(&mut self, watermark: EventTime) {
        let mut batch = Batch::default();
        batch.mark(watermark);
        self.push(batch);
    }

    /// What was emitted since the last call, with times.
    pub(crate) fn take(&mut self) -> Vec<(O, EventTime)> {
        take(&self.received)
    }

    /// What came late since the last call, with times.
    pub(crate) fn take_late(&mut self) -> Vec<(Rec, EventTime)> {
        take(&self.late)
    }
}

/// Appends a keyed record.
pub(crate) fn put(batch: &mut Batch<Rec>, record: Rec, time: EventTime) {
    batch.hashes.push(hash_key(&record.key).unwrap());
    batch.push(record, time);
}

/// A two-input operator in its link.
pub(crate) struct TwoRig<O> {
    link: Box<dyn TwoInputLink<Rec, Rec>>,
    received: Received<O>,
    late: Vec<Received<Rec>>,
}

/// The names of the side outputs of a join.
pub(crate) const LATE_SIDES: [&str; 2] = ["late-left", "late-right"];

impl<O: Send + 'static> TwoRig<O> {
    pub(crate) fn new(
        operator: impl TwoInputOperator<Rec, Rec, O> + 'static,
        outlet: Outlet,
    ) -> Self {
        let Sink { received, late, output } = sink(outlet, &LATE_SIDES);
        let mut link = Box::new(TwoInput::new(operator, output));
        link.open().unwrap();
        TwoRig { link, received, late }
    }

    /// Pushes a batch into an input.
    pub(crate) fn push(&mut self, input: usize, mut batch: Batch<Rec>) {
        let mut flow = match input {
            0 => self.link.push_left(&mut batch),
            _ => self.link.push_right(&mut batch),
        }
        .unwrap();
        while flow == Flow::Blocked {
            flow = self.link.resume().unwrap();
        }
    }

    pub(crate) fn element(&mut self, input: usize, record: Rec, time: EventTime) {
        let mut batch = Batch::default();
        put(&mut batch, record, time);
        self.push(input, batch);
    }

    /// Advances one input.
    pub(crate) fn watermark_of(&mut self, input: usize, watermark: EventTime) {
        let mut batch = Batch::default();
        batch.mark(watermark);
        self.push(input, batch);
    }

    /// Advances both inputs.
    pub(crate) fn watermark(&mut self, watermark: EventTime) {
        self.watermark_of(0, watermark);
        self.watermark_of(1, watermark);
    }

    pub(crate) fn signal_input(&mut self, input: usize, signal: Signal) {
        let mut flow = self.link.signal_input(input, signal).unwrap();
        while flow == Flow::Blocked {
            flow = self.link.resume().unwrap();
        }
    }

    pub(crate) fn take(&mut self) -> Vec<(O, EventTime)> {
        take(&self.received)
    }

    pub(crate) fn take_late(&mut self, input: usize) -> Vec<(Rec, EventTime)> {
        take(&self.late[input])
    }
}
