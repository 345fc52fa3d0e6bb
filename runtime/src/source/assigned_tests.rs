//! A reader that gets its splits while it runs, and the enumerator that assigns them, stepped by hand.

use super::tests::{Fed, Log, ManualClock, context, rule};
use super::{
    Assignment, Assignments, Enumeration, EnumeratorContext, EnumeratorHead, SourceHead,
    SplitEnumerator, SplitReader,
};
use crate::chain::{ChainVisitor, Flow, Push, Site, Stateful};
use crate::exchange::{MemoryPool, Sender, connect};
use crate::task::{Head, NoWake, Polled};
use crate::watermark::Watermarks;
use millstream_model::{
    Barrier, Batch, CheckpointId, CheckpointMode, MAX_TIME, Result, Signal, SnapshotKind,
};
use millstream_state::part::{Entries, Written};
use millstream_state::schema::Shape;
use millstream_state::snapshot::Assignment as Share;
use millstream_state::{OperatorListState, OperatorStateSet, Part, Visitor, operator_states};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// What a subtask wrote of each of its parts.
type Saved = BTreeMap<String, (Vec<u8>, Shape)>;

struct Write(Saved);

impl Visitor for Write {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        let mut written = Written::default();
        assert!(part.write(&mut written, usize::MAX)?);
        self.0.insert(name.into(), (written.bytes, part.shape()?));
        Ok(())
    }
}

/// Reads what so many subtasks wrote into subtask 0 of so many.
struct Read<'a> {
    saved: &'a [Saved],
    share: (usize, usize),
}

impl Visitor for Read<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        let (subtask, parallelism) = self.share;
        let n_writers = self.saved.len();
        for (writer, saved) in self.saved.iter().enumerate() {
            let Some((bytes, shape)) = saved.get(name) else { continue };
            let share = Share { subtask, parallelism, max_parallelism: 128, writer, n_writers };
            let (assignment, first) = (&share, 0);
            part.restore(&Entries { bytes, assignment, shape, version: 0, first })?;
        }
        Ok(())
    }
}

struct Visit<'a>(&'a mut dyn FnMut(&mut dyn Stateful) -> Result<()>);

impl ChainVisitor for Visit<'_> {
    fn operator(&mut self, _: &Site, operator: &mut dyn Stateful) -> Result<()> {
        (self.0)(operator)
    }
}

fn write(head: &mut dyn Head) -> Saved {
    let mut write = Write(Saved::new());
    head.visit(&mut Visit(&mut |operator| operator.parts(&mut write))).unwrap();
    write.0
}

fn restore(head: &mut dyn Head, saved: &[Saved], share: (usize, usize)) -> Result<()> {
    head.visit(&mut Visit(&mut |operator| {
        operator.restoring();
        operator.parts(&mut Read { saved, share })?;
        operator.restored()
    }))
}

fn barrier(number: u64, kind: SnapshotKind) -> Barrier {
    Barrier { checkpoint: CheckpointId(number), kind }
}

/// What readers read: a split is a number of one of these.
type Feeds = Arc<Mutex<BTreeMap<u32, Fed>>>;

/// One reader, and the sending end of its gate.
struct Reader {
    head: SourceHead<i64, u32>,
    sender: Sender<Assignment<u32>>,
    feeds: Feeds,
    clock: Arc<ManualClock>,
    log: Log,
}

/// A split that knows which one it is.
struct Numbered(u32, Fed);

impl SplitReader<i64, u32> for Numbered {
    fn split(&self) -> u32 {
        self.0
    }
    fn read(&mut self, out: &mut Batch<i64>) -> Result<super::ReadStatus> {
        self.1.read(out)
    }
}

impl Reader {
    fn closed(watermarks: &Watermarks<i64>, bounded: bool) -> Self {
        let (clock, log, feeds) = (Arc::<ManualClock>::default(), Log::default(), Feeds::default());
        let opened = Arc::clone(&feeds);
        let open = move |split: u32| {
            let fed = opened.lock().unwrap().entry(split).or_default().clone();
            Ok(Box::new(Numbered(split, fed)) as Box<dyn SplitReader<i64, u32>>)
        };
        let mode = CheckpointMode::ExactlyOnce;
        let pool = Arc::new(MemoryPool::new(1 << 20));
        let (mut senders, gate) = connect(&pool, &[Arc::new(NoWake)], Arc::new(NoWake), mode);
        let head = SourceHead::new(
            Vec::new(),
            Box::new(open),
            watermarks.clone(),
            bounded,
            Box::new(log.clone()),
            context(&clock, 0, 1),
            Site::detached("source"),
        );
        let head = head.assigned_through(gate);
        Reader { head, sender: senders.remove(0), feeds, clock, log }
    }

    fn new(watermarks: &Watermarks<i64>, bounded: bool) -> Self {
        let mut reader = Reader::closed(watermarks, bounded);
        reader.head.open().unwrap();
        reader
    }

    fn fed(&self, split: u32) -> Fed {
        self.feeds.lock().unwrap().entry(split).or_default().clone()
    }

    fn assign(&self, split: u32) -> Fed {
        let mut batch = Batch::of(vec![Assignment { reader: 0, split }]);
        assert!(self.sender.try_send(&mut batch, 10).unwrap());
        self.fed(split)
    }

    fn signal(&self, signal: Signal) {
        assert!(self.sender.try_signal(signal).unwrap());
    }

    /// Polls until there is nothing to do, or something that is for the task.
    fn settle(&mut self) -> (Vec<String>, Polled) {
        loop {
            match self.head.poll().unwrap() {
                Polled::Took(_) => {}
                done => return (self.log.take(), done),
            }
        }
    }

    fn out(&mut self) -> Vec<String> {
        self.settle().0
    }

    fn wait(&self, us: i64) {
        self.clock.0.fetch_add(us, Ordering::SeqCst);
    }

    /// What a checkpoint holds of it now.
    fn saved(&mut self, number: u64) -> Saved {
        let taken = self.head.barrier(barrier(number, SnapshotKind::Checkpoint)).unwrap();
        assert_eq!(taken, Flow::Ready);
        self.log.take();
        write(&mut self.head)
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn splits_are_read_as_they_come_and_time_does_not_go_back() {
    let mut r = Reader::new(&rule().on(|t| *t), false);
    assert_eq!(r.out(), NOTHING);
    let first = r.assign(1);
    first.feed(&[100]);
    assert_eq!(r.out(), ["100", "watermark 99"]);
    // A new split is at the beginning of time: it holds the reader where it is.
    let second = r.assign(2);
    second.feed(&[5]);
    first.feed(&[200]);
    assert_eq!(r.out(), ["200", "5"]);
    second.feed(&[150]);
    assert_eq!(r.out(), ["150", "watermark 149"]);
    first.end();
    second.feed(&[300]);
    assert_eq!(r.out().last().unwrap(), "watermark 299");
}

#[test]
fn a_reader_without_a_split_is_idle_after_a_while_and_active_when_it_gets_one() {
    let mut r = Reader::new(&rule().on(|t| *t), false);
    assert_eq!(r.settle(), (vec![], Polled::Nothing { until_us: 1_000_000 }));
    r.wait(1_000_000);
    assert_eq!(r.settle(), (vec!["Idle".into()], Polled::Nothing { until_us: MAX_TIME }));
    let split = r.assign(1);
    split.feed(&[10]);
    assert_eq!(r.out(), ["Active", "10", "watermark 9"]);
    // Without a record for long enough it is idle although the split is open, and it is so once.
    r.wait(1_000_000);
    assert_eq!(r.out(), ["Idle"]);
    r.wait(1_000_000);
    assert_eq!(r.out(), NOTHING);
    split.end();
    assert_eq!(r.settle(), (vec![], Polled::Nothing { until_us: MAX_TIME }));
    // One that was just read is not idle at once when it has ended.
    let split = r.assign(2);
    split.feed(&[20]);
    split.end();
    assert_eq!(r.out(), ["Active", "20", "watermark 19"]);
    r.wait(999_999);
    assert_eq!(r.out(), NOTHING);
    r.wait(1);
    assert_eq!(r.out(), ["Idle"]);
}

#[test]
fn it_ends_when_the_enumerator_and_all_splits_have_ended_whichever_is_last() {
    for is_enumerator_first in [true, false] {
        let mut r = Reader::new(&rule().on(|t| *t), true);
        let split = r.assign(1);
        split.feed(&[10]);
        assert_eq!(r.out(), ["10", "watermark 9"]);
        let (first, then) = (|r: &Reader| r.signal(Signal::End), |r: &Reader| r.fed(1).end());
        if is_enumerator_first {
            first(&r)
        } else {
            then(&r)
        }
        // What is bounded is never idle.
        r.wait(10_000_000);
        assert_eq!(r.settle(), (vec![], Polled::Nothing { until_us: MAX_TIME }));
        assert_eq!(r.head.is_source(), is_enumerator_first);
        if is_enumerator_first {
            then(&r)
        } else {
            first(&r)
        }
        assert_eq!(r.settle(), (vec!["end of time".to_string()], Polled::End));
    }
}

#[test]
fn without_any_split_it_ends_with_the_enumerator() {
    let mut r = Reader::new(&Watermarks::none(), true);
    r.signal(Signal::End);
    assert_eq!(r.settle(), (vec!["end of time".to_string()], Polled::End));
}

#[test]
fn a_barrier_comes_behind_the_splits_that_were_assigned_before_it() {
    let mut r = Reader::new(&Watermarks::none(), false);
    r.assign(1);
    let checkpoint = barrier(1, SnapshotKind::Checkpoint);
    r.signal(Signal::Barrier(checkpoint));
    r.assign(2).feed(&[2]);
    assert!(!r.head.is_source(), "the barrier comes from the enumerator");
    assert_eq!(r.settle().1, Polled::Barrier(checkpoint));
    let saved = r.saved(1);
    // Split 2 belongs behind the barrier.
    let mut restored = Reader::closed(&Watermarks::none(), false);
    restore(&mut restored.head, &[saved], (0, 1)).unwrap();
    restored.head.open().unwrap();
    restored.fed(1).feed(&[11]);
    restored.fed(2).feed(&[22]);
    assert_eq!(restored.out(), ["11"]);
    assert_eq!(r.out(), ["2"]);
    // When the enumerator has ended no barrier comes from there, so they begin here.
    r.signal(Signal::End);
    r.out();
    assert!(r.head.is_source());
}

#[test]
fn time_ends_before_the_barrier_of_a_stop_that_drains() {
    let stop = barrier(3, SnapshotKind::Stop { drain: true });
    let mut r = Reader::new(&rule().on(|t| *t), false);
    r.assign(1).feed(&[10]);
    assert_eq!(r.out(), ["10", "watermark 9"]);
    r.signal(Signal::Barrier(stop));
    assert_eq!(
        r.settle(),
        (vec![], Polled::Barrier(stop)),
        "the task asks for it, and then begins"
    );
    assert_eq!(r.head.drain().unwrap(), Flow::Ready);
    assert_eq!(r.out(), ["end of time"]);
}

#[test]
fn a_restored_reader_goes_on_where_event_time_was() {
    let times = || rule().on(|t: &i64| *t);
    let mut r = Reader::new(&times(), false);
    let (a, b) = (r.assign(1), r.assign(2));
    a.feed(&[100]);
    b.feed(&[200]);
    assert_eq!(r.out(), ["100", "200", "watermark 99"]);
    a.end();
    assert_eq!(r.out(), ["watermark 199"]);
    let saved = r.saved(1);
    let mut restored = Reader::closed(&times(), false);
    restore(&mut restored.head, std::slice::from_ref(&saved), (0, 1)).unwrap();
    restored.head.open().unwrap();
    assert_eq!(restored.out(), ["watermark 199"]);
    // One that had no split any more knows, too.
    b.end();
    r.out();
    let saved_empty = r.saved(2);
    let mut restored = Reader::closed(&times(), false);
    restore(&mut restored.head, std::slice::from_ref(&saved_empty), (0, 1)).unwrap();
    restored.head.open().unwrap();
    assert_eq!(restored.out(), ["watermark 199"]);
    restored.assign(3).feed(&[150]);
    assert_eq!(restored.out(), ["150"]);
}

#[test]
fn with_another_parallelism_splits_are_dealt_out_and_nobody_is_ahead_of_the_slowest() {
    let times = || rule().on(|t: &i64| *t);
    let mut saved = Vec::new();
    for reader in 0..3i64 {
        let mut r = Reader::new(&times(), false);
        for split in 0..3 {
            r.assign(reader as u32 * 10 + split).feed(&[100 + reader]);
        }
        r.out();
        saved.push(r.saved(1));
    }
    let mut read = Vec::new();
    for subtask in 0..2 {
        let mut r = Reader::closed(&times(), false);
        restore(&mut r.head, &saved, (subtask, 2)).unwrap();
        r.head.open().unwrap();
        for reader in 0..3 {
            for split in 0..3 {
                let number = reader * 10 + split;
                r.fed(number).feed(&[1000 + i64::from(number)]);
            }
        }
        let mut out = r.out();
        assert!(out.contains(&"watermark 99".to_string()), "{out:?}");
        out.retain(|line| !line.starts_with("watermark"));
        read.extend(out);
    }
    read.sort();
    let expected = [0, 1, 2, 10, 11, 12, 20, 21, 22].map(|n| (1000 + n).to_string());
    assert_eq!(read, expected);
}

#[test]
fn a_checkpoint_from_before_there_was_an_enumerator_is_refused() {
    let mut fixed = Reader::new(&Watermarks::none(), false);
    fixed.assign(1);
    fixed.out();
    let mut saved = fixed.saved(1);
    saved.remove("reached");
    let mut r = Reader::closed(&Watermarks::none(), false);
    let error = restore(&mut r.head, &[saved], (0, 1)).unwrap_err().to_string();
    assert!(error.contains("found its splits once"), "{error}");
}

#[test]
fn splits_that_have_ended_are_forgotten_and_the_others_keep_their_order() {
    let mut r = Reader::closed(&Watermarks::none(), false);
    r.head = r.head.in_turn(true);
    r.head.open().unwrap();
    for round in 0..20i64 {
        for split in 0..50 {
            let fed = r.assign(split);
            *fed.0.lock().unwrap() = Default::default();
            fed.feed(&[round * 100 + i64::from(split)]);
            fed.end();
            // There is credit for a few batches only.
            if split % 2 == 1 {
                while matches!(r.head.poll().unwrap(), Polled::Took(_)) {}
            }
        }
    }
    let expected: Vec<String> = (0..20)
        .flat_map(|round| (0..50).map(move |split| (round * 100 + split).to_string()))
        .collect();
    let (out, _) = r.settle();
    assert_eq!(out, expected);
    assert_eq!(r.head.n_kept(), 0);
}

const NEXT: OperatorListState<u32> = OperatorListState::split("next");

/// Assigns the numbers below 40, ten at a time, the odd ones to reader 1.
struct Tens {
    n_calls: Arc<Mutex<u32>>,
}

impl SplitEnumerator<u32> for Tens {
    fn states(&self) -> OperatorStateSet {
        operator_states![NEXT]
    }
    fn poll(
        &mut self,
        context: &EnumeratorContext<'_>,
        out: &mut Assignments<u32>,
    ) -> Result<Enumeration> {
        *self.n_calls.lock().unwrap() += 1;
        let mut next = context.state(&NEXT);
        let first = next.pop().unwrap_or(0);
        let end = (first + 20).min(40);
        (first..end).for_each(|n| out.assign_to(n as usize % 2, n));
        next.push(end);
        Ok(if end == 40 { Enumeration::End } else { Enumeration::More })
    }
}

/// What an enumerator sends.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<(u32, u32)>>>);

impl Push<Assignment<u32>> for Sent {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn push(&mut self, batch: &mut Batch<Assignment<u32>>) -> Result<Flow> {
        assert!(batch.len() <= 16, "no more than a batch");
        self.0.lock().unwrap().extend(batch.values.drain(..).map(|a| (a.reader, a.split)));
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

fn enumerator(n_readers: usize) -> (EnumeratorHead<u32>, Sent, Arc<Mutex<u32>>) {
    let (sent, n_calls) = (Sent::default(), Arc::default());
    let operator = context(&Arc::default(), 0, 1).operator("splits");
    let tens = Box::new(Tens { n_calls: Arc::clone(&n_calls) });
    let site = Site::detached("splits");
    let head = EnumeratorHead::new(tens, n_readers, Box::new(sent.clone()), operator, site);
    (head.unwrap(), sent, n_calls)
}

#[test]
fn what_an_enumerator_has_noted_is_sent_before_a_barrier_and_assigned_once() {
    let (mut head, sent, n_calls) = enumerator(2);
    head.open().unwrap();
    assert_eq!(head.poll().unwrap(), Polled::Took(Flow::Ready));
    // Sixteen of twenty: the barrier has to wait for the others.
    assert!(head.has_unsent());
    assert_eq!(head.poll().unwrap(), Polled::Took(Flow::Ready));
    assert!(!head.has_unsent());
    assert_eq!(*n_calls.lock().unwrap(), 1, "it is not asked while something is to be sent");
    let taken = head.barrier(barrier(1, SnapshotKind::Checkpoint)).unwrap();
    assert_eq!(taken, Flow::Ready);
    let saved = write(&mut head);
    let mut sent = sent.0.lock().unwrap().clone();

    let (mut head, then, _) = enumerator(2);
    restore(&mut head, &[saved], (0, 1)).unwrap();
    head.open().unwrap();
    while head.poll().unwrap() != Polled::End {}
    sent.extend(then.0.lock().unwrap().iter());
    assert_eq!(sent, (0..40).map(|n| (n % 2, n)).collect::<Vec<_>>());
}

#[test]
fn an_enumerator_that_had_ended_is_not_asked_again() {
    let (mut head, sent, n_calls) = enumerator(2);
    head.visit(&mut Visit(&mut |operator| {
        operator.ended();
        Ok(())
    }))
    .unwrap();
    head.open().unwrap();
    assert_eq!(head.poll().unwrap(), Polled::End);
    assert_eq!((*n_calls.lock().unwrap(), sent.0.lock().unwrap().len()), (0, 0));
}

#[test]
fn a_reader_that_does_not_exist_is_refused() {
    let (mut head, ..) = enumerator(1);
    head.open().unwrap();
    let error = head.poll().unwrap_err().to_string();
    assert!(error.contains("to reader 1, but there are only 1"), "{error}");
}
