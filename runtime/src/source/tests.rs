//! A source subtask with scripted splits and a clock that moves when told to.

use super::{ReadStatus, SourceHead, SplitReader};
use crate::chain::{Flow, Push, Site};
use crate::context::{Clock, JobContext, TaskContext};
use crate::task::{Head, NoWake, Polled};
use crate::watermark::Watermarks;
use millstream_model::time::{millis, secs};
use millstream_model::{Batch, EventTime, MAX_TIME, Result, Signal};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub(super) struct ManualClock(pub(super) AtomicI64);

impl Clock for ManualClock {
    fn now_us(&self) -> EventTime {
        self.0.load(Ordering::SeqCst)
    }
}

/// What came out of the source, as text.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

impl Push<i64> for Log {
    fn visit(&mut self, _: &mut dyn crate::chain::ChainVisitor) -> Result<()> {
        Ok(())
    }
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn push(&mut self, batch: &mut Batch<i64>) -> Result<Flow> {
        for (i, value) in batch.values.drain(..).enumerate() {
            for m in batch.marks.extract_if(.., |m| m.at as usize <= i) {
                self.note(format!("watermark {}", m.watermark));
            }
            self.note(value.to_string());
        }
        for m in batch.marks.drain(..) {
            let end = m.watermark == MAX_TIME;
            self.note(if end {
                "end of time".into()
            } else {
                format!("watermark {}", m.watermark)
            });
        }
        batch.clear();
        Ok(Flow::Ready)
    }
    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.note(format!("{signal:?}"));
        Ok(Flow::Ready)
    }
    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A split that is given its records by the test.
#[derive(Clone, Default)]
pub(super) struct Fed(pub(super) Arc<Mutex<(VecDeque<Vec<i64>>, bool)>>);

impl Fed {
    pub(super) fn feed(&self, times: &[i64]) {
        self.0.lock().unwrap().0.push_back(times.to_vec());
    }
    pub(super) fn end(&self) {
        self.0.lock().unwrap().1 = true;
    }
}

impl SplitReader<i64, u32> for Fed {
    fn split(&self) -> u32 {
        0
    }

    fn read(&mut self, out: &mut Batch<i64>) -> Result<ReadStatus> {
        let mut fed = self.0.lock().unwrap();
        match fed.0.pop_front() {
            Some(times) => {
                out.values.extend(times);
                Ok(ReadStatus::More)
            }
            None if fed.1 => Ok(ReadStatus::End),
            None => Ok(ReadStatus::CaughtUp { until_us: MAX_TIME }),
        }
    }
}

/// A subtask's surroundings, with this clock.
pub(super) fn context(clock: &Arc<ManualClock>, subtask: usize, parallelism: usize) -> TaskContext {
    let job = Arc::new(JobContext {
        name: "test".into(),
        parameters: Default::default(),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        registry: Default::default(),
        alignment: Default::default(),
        batch_size: 16,
        checkpoints: None,
    });
    TaskContext::new(job, subtask, parallelism, 128, 0, Arc::new(NoWake))
}

struct Fixture {
    head: SourceHead<i64, u32>,
    splits: [Fed; 2],
    clock: Arc<ManualClock>,
    log: Log,
}

impl Fixture {
    fn new(watermarks: &Watermarks<i64>, bounded: bool) -> Self {
        let (clock, log, splits) =
            (Arc::new(ManualClock::default()), Log::default(), [Fed::default(), Fed::default()]);
        let context = context(&clock, 0, 1);
        let fed = splits.clone();
        let open = move |split: u32| {
            Ok(Box::new(fed[split as usize].clone()) as Box<dyn SplitReader<i64, u32>>)
        };
        let link = Box::new(log.clone());
        let mut head = SourceHead::new(
            vec![0, 1],
            Box::new(open),
            watermarks.clone(),
            bounded,
            link,
            context,
            Site::detached("source"),
        );
        head.open().unwrap();
        Fixture { head, splits, clock, log }
    }

    /// Polls until there is nothing to do; gives what came out, and until when there is nothing.
    fn settle(&mut self) -> (Vec<String>, Polled) {
        loop {
            match self.head.poll().unwrap() {
                Polled::Took(_) => {}
                done => return (self.log.take(), done),
            }
        }
    }
}

pub(super) fn rule() -> crate::watermark::WatermarkRule {
    Watermarks::bounded(millis(0)).idle_after(secs(1))
}

#[test]
fn an_empty_split_holds_time_back_until_it_has_been_idle_for_long_enough() {
    let mut f = Fixture::new(&rule().on(|t| *t), false);
    f.splits[0].feed(&[10, 20]);
    let (out, until) = f.settle();
    assert_eq!(out, ["10", "20"]);
    assert_eq!(until, Polled::Nothing { until_us: 1_000_000 });
    f.clock.0.store(1_000_000, Ordering::SeqCst);
    // Both were silent for a second: first the one that held time back is left out, then all is idle.
    let (out, _) = f.settle();
    assert_eq!(out, ["watermark 19", "Idle"]);
    f.splits[1].feed(&[30]);
    let (out, _) = f.settle();
    assert_eq!(out, ["Active", "30", "watermark 29"]);
}

#[test]
fn a_split_that_gives_records_now_and_then_is_not_idle() {
    let mut f = Fixture::new(&rule().on(|t| *t), false);
    for round in 1..5 {
        f.splits[0].feed(&[round * 10]);
        f.splits[1].feed(&[round * 10 + 5]);
        let (out, _) = f.settle();
        assert!(out.contains(&format!("watermark {}", round * 10 - 1)), "{out:?}");
        f.clock.0.fetch_add(900_000, Ordering::SeqCst);
        assert_eq!(f.settle().0, Vec::<String>::new());
    }
}

#[test]
fn bounded_splits_are_never_idle_and_end_with_the_end_of_time() {
    let mut f = Fixture::new(&rule().on(|t| *t), true);
    f.splits[0].feed(&[10]);
    f.clock.0.store(10_000_000, Ordering::SeqCst);
    assert_eq!(f.settle(), (vec!["10".to_string()], Polled::Nothing { until_us: MAX_TIME }));
    f.splits[1].end();
    // A split that has ended no longer holds time back.
    assert_eq!(f.settle().0, ["watermark 9"]);
    f.splits[0].end();
    assert_eq!(f.settle(), (vec!["end of time".to_string()], Polled::End));
}

#[test]
fn a_split_that_runs_ahead_of_its_group_waits() {
    let mut f = Fixture::new(&rule().aligned("group", millis(50)).on(|t| *t), false);
    f.splits[0].feed(&[100]);
    f.splits[0].feed(&[200]);
    f.splits[1].feed(&[10]);
    f.splits[1].feed(&[20]);
    let (out, until) = f.settle();
    assert_eq!(out, ["100", "10", "watermark 9", "20", "watermark 19"]);
    assert!(
        matches!(until, Polled::Nothing { until_us } if until_us < MAX_TIME),
        "it looks again: {until:?}"
    );
    f.splits[1].feed(&[160]);
    let (out, _) = f.settle();
    assert_eq!(out, ["160", "watermark 99", "200", "watermark 159"]);
}

#[test]
fn every_split_has_a_generator_of_its_own() {
    let mut f = Fixture::new(&rule().on(|t| *t), false);
    // 5 is late in the second split only if the first one's records counted there.
    f.splits[0].feed(&[100]);
    f.splits[1].feed(&[4, 5]);
    assert_eq!(f.settle().0, ["100", "4", "5", "watermark 4"]);
}

#[test]
fn splits_are_read_one_after_the_other_only_where_no_watermark_waits_for_all() {
    let read = |watermarks: &Watermarks<i64>, in_turn| {
        let mut f = Fixture::new(watermarks, true);
        f.head = f.head.in_turn(in_turn);
        for (split, base) in f.splits.iter().zip([10, 20]) {
            split.feed(&[base]);
            split.feed(&[base + 1]);
            split.end();
        }
        let (mut out, _) = f.settle();
        out.retain(|line| line.len() == 2);
        out
    };
    assert_eq!(read(&Watermarks::none(), true), ["10", "11", "20", "21"]);
    assert_eq!(read(&Watermarks::none(), false), ["10", "20", "11", "21"]);
    assert_eq!(read(&rule().on(|t| *t), true), ["10", "20", "11", "21"]);
}
