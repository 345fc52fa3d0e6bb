//! After a restore those behind an operator have heard of no watermark: they are told again where event time was.

use super::{
    ChainVisitor, Flow, Output, Push, Records, Site, Stateful, Step, TwoInput, TwoInputLink,
    TwoInputOperator,
};
use crate::context::{JobContext, SystemClock, TaskContext};
use crate::task::NoWake;
use crate::watermark::{StampOperator, Watermarks};
use millstream_model::{Barrier, Batch, CheckpointId, EventTime, Result, Signal, SnapshotKind};
use millstream_state::part::{Entries, Written};
use millstream_state::schema::Shape;
use millstream_state::snapshot::Assignment;
use millstream_state::{Items, Part, Visitor};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What an operator tells of event time.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<EventTime>>>);

impl Told {
    fn take(&self) -> Vec<EventTime> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Push<u64> for Told {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn push(&mut self, batch: &mut Batch<u64>) -> Result<Flow> {
        self.0.lock().unwrap().extend(batch.marks.iter().map(|mark| mark.watermark));
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
    fn visit(&mut self, _: &mut dyn ChainVisitor) -> Result<()> {
        Ok(())
    }
}

/// Parts by their names.
#[derive(Default)]
struct Saved(BTreeMap<String, (Shape, Written)>);

impl Visitor for Saved {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        let mut written = Written::default();
        while !part.write(&mut written, usize::MAX)? {}
        self.0.insert(name.into(), (part.shape()?, written));
        Ok(())
    }
}

struct Fill(Saved);

impl Visitor for Fill {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        let (shape, written) = &self.0.0[name];
        let assignment = &Assignment {
            subtask: 0,
            parallelism: 1,
            max_parallelism: 128,
            writer: 0,
            n_writers: 1,
        };
        part.restore(&Entries { bytes: &written.bytes, assignment, shape, version: 0, first: 0 })
    }
}

const BARRIER: Barrier = Barrier { checkpoint: CheckpointId(1), kind: SnapshotKind::Checkpoint };

/// What one has saved, the other goes on with.
fn hand_over(old: &mut dyn Stateful, new: &mut dyn Stateful) {
    let mut saved = Saved::default();
    old.parts(&mut saved).unwrap();
    new.restoring();
    new.parts(&mut Fill(saved)).unwrap();
    new.restored().unwrap();
}

fn mark(watermark: EventTime) -> Batch<u64> {
    let mut batch = Batch::default();
    batch.mark(watermark);
    batch
}

/// Notes what it hears of event time, and has a state.
struct Hears {
    heard: Told,
    state: Items<u64>,
}

impl TwoInputOperator<u64, u64, u64> for Hears {
    fn left(&mut self, _: &mut Records<'_, u64>, _: &mut Output<u64>) -> Result<Step> {
        Ok(Step::Done)
    }
    fn right(&mut self, _: &mut Records<'_, u64>, _: &mut Output<u64>) -> Result<Step> {
        Ok(Step::Done)
    }
    fn advance(&mut self, watermark: EventTime, _: &mut Output<u64>) -> Result<Step> {
        self.heard.0.lock().unwrap().push(watermark);
        Ok(Step::Done)
    }
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("state", &mut self.state)
    }
}

#[test]
fn by_an_operator_with_two_inputs() {
    let link = || {
        let (told, heard) = (Told::default(), Told::default());
        let out = Output::new(Box::new(told.clone()), 16, Site::detached("join"), Vec::new());
        let link = TwoInput::new(Hears { heard: heard.clone(), state: Items::split() }, out);
        (link, told, heard)
    };
    let (mut old, _, _) = link();
    let _ = old.push_left(&mut mark(70)).unwrap();
    let _ = old.push_right(&mut mark(80)).unwrap();
    let _ = old.signal(Signal::Barrier(BARRIER)).unwrap();
    let (mut new, told, heard) = link();
    hand_over(&mut old, &mut new);
    new.open().unwrap();
    assert_eq!(TwoInputLink::watermark(&new), 70);
    for watermark in [60, 70, 90] {
        let _ = new.push_left(&mut mark(watermark)).unwrap();
        let _ = new.push_right(&mut mark(watermark)).unwrap();
    }
    assert_eq!(told.take(), [60, 70, 90]);
    assert_eq!(heard.take(), [70, 90], "event time does not go back");
}

#[test]
fn by_who_makes_watermarks() {
    let link = || {
        let told = Told::default();
        let job = JobContext {
            name: "test".into(),
            parameters: Default::default(),
            clock: Arc::new(SystemClock::default()),
            registry: Default::default(),
            alignment: Default::default(),
            batch_size: 16,
            checkpoints: None,
        };
        let task = TaskContext::new(Arc::new(job), 0, 1, 128, 0, Arc::new(NoWake));
        let watermarks = Watermarks::bounded(Duration::from_millis(10)).on(|n: &u64| *n as i64);
        let site = Site::detached("watermarks");
        (StampOperator::new(&watermarks, Box::new(told.clone()), task, site), told)
    };
    let (mut old, told) = link();
    let _ = old.push(&mut Batch::of(vec![100])).unwrap();
    let before = told.take();
    assert_eq!(before.len(), 1);
    let _ = old.signal(Signal::Barrier(BARRIER)).unwrap();
    let (mut new, told) = link();
    hand_over(&mut old, &mut new);
    new.open().unwrap();
    // Whatever comes first brings it.
    let _ = new.push(&mut mark(3)).unwrap();
    assert_eq!(told.take(), before);
    let _ = new.push(&mut Batch::of(vec![95])).unwrap();
    assert!(told.take().is_empty(), "once is enough");
}
