//! The link driven by hand: requests complete when a test says so, and the waker is a bell.

use super::*;
use crate::context::{JobContext, SystemClock};
use crate::task::{Wake, Waker};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// Lets a test wait for the wake-up of a task.
#[derive(Default)]
struct Bell(Mutex<bool>, Condvar);

impl Wake for Bell {
    fn wake(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

impl Bell {
    fn wait(&self) {
        let minute = Duration::from_secs(60);
        let (mut rung, waited) =
            self.1.wait_timeout_while(self.0.lock().unwrap(), minute, |r| !*r).unwrap();
        assert!(!waited.timed_out(), "nobody woke the task");
        *rung = false;
    }
}

/// What came out, and whether more is taken.
#[derive(Clone, Default)]
struct Seen {
    events: Arc<Mutex<Vec<String>>>,
    blocked: Arc<Mutex<bool>>,
}

impl Seen {
    fn note(&self, event: String) -> Result<Flow> {
        self.events.lock().unwrap().push(event);
        Ok(self.flow())
    }
    fn flow(&self) -> Flow {
        if *self.blocked.lock().unwrap() { Flow::Blocked } else { Flow::Ready }
    }
    fn block(&self, blocked: bool) {
        *self.blocked.lock().unwrap() = blocked;
    }
    fn take(&self) -> String {
        std::mem::take(&mut *self.events.lock().unwrap()).join(" ")
    }
}

impl Push<u32> for Seen {
    fn visit(&mut self, _: &mut dyn crate::chain::ChainVisitor) -> Result<()> {
        Ok(())
    }
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn push(&mut self, batch: &mut Batch<u32>) -> Result<Flow> {
        let mut marks = batch.marks.iter().peekable();
        for (i, value) in batch.values.iter().enumerate() {
            while let Some(m) = marks.next_if(|m| m.at as usize <= i) {
                let _ = self.note(format!("wm{}", m.watermark))?;
            }
            let _ = self.note(format!("{value}@{}", batch.time(i)))?;
        }
        for m in marks {
            let _ = self.note(format!("wm{}", m.watermark))?;
        }
        batch.clear();
        Ok(self.flow())
    }
    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.note(format!("{signal:?}"))
    }
    fn resume(&mut self) -> Result<Flow> {
        Ok(self.flow())
    }
    fn close(&mut self) -> Result<()> {
        self.note("closed".into()).map(|_| ())
    }
}

type Outcome = Result<u32>;
/// Requests under way, by their input.
type Waiting = Arc<Mutex<HashMap<u32, oneshot::Sender<Outcome>>>>;

fn ordered(call: AsyncCall<u32, u32>, order: AsyncOrder) -> AsyncCall<u32, u32> {
    if order == AsyncOrder::Unordered { call.unordered() } else { call }
}

/// A link whose request for `i` completes when `finish(i)` is called.
struct World {
    link: AsyncWait<u32, u32>,
    seen: Seen,
    bell: Arc<Bell>,
    waiting: Waiting,
}

impl World {
    fn new(order: AsyncOrder, capacity: usize) -> Self {
        let waiting = Waiting::default();
        let registered = Arc::clone(&waiting);
        let call = AsyncCall::new(move |i| {
            let (finish, finished) = oneshot::channel();
            registered.lock().unwrap().insert(i, finish);
            async move { finished.await.expect("the test finishes or cancels its requests") }
        });
        World::with(ordered(call.capacity(capacity), order), waiting)
    }

    fn with(call: AsyncCall<u32, u32>, waiting: Waiting) -> Self {
        let (seen, bell) = (Seen::default(), Arc::new(Bell::default()));
        let job = JobContext {
            name: "test".into(),
            parameters: Default::default(),
            clock: Arc::new(SystemClock::default()),
            registry: Default::default(),
            alignment: Default::default(),
            batch_size: 1024,
            checkpoints: None,
        };
        let waker = Arc::clone(&bell) as Waker;
        let context = TaskContext::new(Arc::new(job), 0, 1, 128, 0, waker).operator("call");
        let out = Output::new(Box::new(seen.clone()), 1024, Site::detached("call"), Vec::new());
        World { link: AsyncWait::new(call, out, &context), seen, bell, waiting }
    }

    /// Pushes records whose times are their values, with a watermark at the end if there is one.
    fn push(&mut self, values: &[u32], watermark: Option<EventTime>) -> Flow {
        let mut batch = Batch::default();
        for &value in values {
            batch.push(value, EventTime::from(value));
        }
        watermark.into_iter().for_each(|w| batch.mark(w));
        let flow = self.link.push(&mut batch).unwrap();
        assert!(batch.is_blank());
        flow
    }

    /// Completes a request with ten times its input and waits until the link is woken.
    fn finish(&mut self, i: u32) -> Flow {
        self.answer(i, Ok(10 * i));
        self.bell.wait();
        self.link.resume().unwrap()
    }

    fn answer(&self, i: u32, outcome: Outcome) {
        loop {
            // The request may still be on its way to its thread.
            if let Some(finish) = self.waiting.lock().unwrap().remove(&i) {
                finish.send(outcome).unwrap();
                return;
            }
            std::thread::yield_now();
        }
    }
}

#[test]
fn ordered_results_leave_as_their_records_came() {
    let mut w = World::new(AsyncOrder::Ordered, 10);
    assert_eq!(w.push(&[1, 2], Some(2)), Flow::Ready);
    assert_eq!(w.push(&[3], None), Flow::Ready);
    assert_eq!(w.finish(3), Flow::Ready);
    assert_eq!(w.finish(2), Flow::Ready);
    assert_eq!(w.seen.take(), "");
    assert_eq!(w.finish(1), Flow::Ready);
    assert_eq!(w.seen.take(), "10@1 20@2 wm2 30@3 Flush");
}

#[test]
fn unordered_results_leave_at_once_but_never_across_a_watermark() {
    let mut w = World::new(AsyncOrder::Unordered, 10);
    assert_eq!(w.push(&[1, 2, 3], Some(3)), Flow::Ready);
    assert_eq!(w.push(&[4], Some(4)), Flow::Ready);
    let _ = w.finish(3);
    assert_eq!(w.seen.take(), "30@3 Flush");
    let _ = w.finish(4);
    assert_eq!(w.seen.take(), "");
    let _ = w.finish(1);
    assert_eq!(w.seen.take(), "10@1 Flush");
    let _ = w.finish(2);
    assert_eq!(w.seen.take(), "20@2 wm3 40@4 wm4 Flush");
}

#[test]
fn a_full_link_takes_one_record_for_each_that_leaves() {
    for order in [AsyncOrder::Ordered, AsyncOrder::Unordered] {
        let mut w = World::new(order, 2);
        assert_eq!(w.push(&[1, 2, 3, 4], Some(9)), Flow::Blocked);
        for (i, expected, flow) in [
            (1, "10@1 Flush", Flow::Blocked),
            (2, "20@2 Flush", Flow::Ready),
            (3, "30@3 Flush", Flow::Ready),
            (4, "40@4 wm9 Flush", Flow::Ready),
        ] {
            assert_eq!(w.finish(i), flow, "{i}");
            assert_eq!(w.seen.take(), expected);
        }
    }
}

#[test]
fn in_order_a_result_that_waits_keeps_its_place() {
    let mut w = World::new(AsyncOrder::Ordered, 2);
    assert_eq!(w.push(&[1, 2, 3], None), Flow::Blocked);
    assert_eq!(w.finish(2), Flow::Blocked);
    assert!(!w.waiting.lock().unwrap().contains_key(&3), "the third must not have begun");
    assert_eq!(w.finish(1), Flow::Ready);
    assert_eq!(w.finish(3), Flow::Ready);
    assert_eq!(w.seen.take(), "10@1 20@2 Flush 30@3 Flush");
}

#[test]
fn the_end_waits_for_all_results() {
    let mut w = World::new(AsyncOrder::Ordered, 10);
    let _ = w.push(&[1, 2], Some(5));
    assert_eq!(w.link.signal(Signal::End).unwrap(), Flow::Blocked);
    assert_eq!(w.finish(1), Flow::Blocked);
    assert_eq!(w.finish(2), Flow::Ready);
    w.link.close().unwrap();
    assert_eq!(w.seen.take(), "10@1 Flush 20@2 wm5 End closed");
}

#[test]
fn signals_go_their_ways() {
    let mut w = World::new(AsyncOrder::Unordered, 10);
    assert_eq!(w.link.signal(Signal::Idle).unwrap(), Flow::Ready);
    assert_eq!(w.link.signal(Signal::Active).unwrap(), Flow::Ready);
    let _ = w.push(&[1], None);
    // Ticks and flushes say nothing about records; a change of status does.
    assert_eq!(w.link.signal(Signal::Tick(7)).unwrap(), Flow::Ready);
    assert_eq!(w.link.signal(Signal::Idle).unwrap(), Flow::Ready);
    assert_eq!(w.link.signal(Signal::Flush).unwrap(), Flow::Ready);
    assert_eq!(w.seen.take(), "Idle Active Tick(7) Flush");
    let _ = w.finish(1);
    assert_eq!(w.seen.take(), "10@1 Idle Flush");
    assert_eq!(w.push(&[], Some(3)), Flow::Ready);
    assert_eq!(w.seen.take(), "wm3");
}

#[test]
fn a_blocked_output_is_waited_for() {
    let mut w = World::new(AsyncOrder::Ordered, 10);
    let _ = w.push(&[1, 2], None);
    let _ = w.link.signal(Signal::Idle);
    w.seen.block(true);
    assert_eq!(w.finish(1), Flow::Blocked);
    assert_eq!(w.finish(2), Flow::Blocked);
    assert_eq!(w.seen.take(), "");
    w.seen.block(false);
    assert_eq!(w.link.resume().unwrap(), Flow::Ready);
    assert_eq!(w.seen.take(), "10@1 20@2 Idle Flush");
    w.seen.block(true);
    let _ = w.push(&[], Some(4));
    assert_eq!(w.link.signal(Signal::End).unwrap(), Flow::Blocked);
    assert_eq!(w.seen.take(), "wm4");
    w.seen.block(false);
    assert_eq!(w.link.resume().unwrap(), Flow::Ready);
    assert_eq!(w.seen.take(), "End");
}

#[test]
fn failures_and_panics_end_the_job_with_a_place() {
    let mut w = World::new(AsyncOrder::Ordered, 10);
    let _ = w.push(&[1], None);
    w.answer(1, Err(Error::external("no answer")));
    w.bell.wait();
    let error = w.link.resume().unwrap_err();
    assert_eq!(error.to_string(), "operator `call`, subtask 1/1: no answer");

    let call =
        AsyncCall::new(|i: u32| async move { if i > 0 { panic!("bad {i}") } else { Ok(0) } });
    let mut w = World::with(call, Arc::default());
    let _ = w.push(&[7], None);
    w.bell.wait();
    let error = w.link.resume().unwrap_err();
    assert_eq!(error.to_string(), "operator `call`, subtask 1/1: panicked: bad 7");
}

#[test]
fn what_is_under_way_ends_with_the_link() {
    let mut w = World::new(AsyncOrder::Ordered, 10);
    let _ = w.push(&[1], None);
    let finish = loop {
        if let Some(finish) = w.waiting.lock().unwrap().remove(&1) {
            break finish;
        }
        std::thread::yield_now();
    };
    drop(w.link);
    // The request's end of the channel is gone as soon as the request is.
    while !finish.is_closed() {
        std::thread::yield_now();
    }
}

#[test]
fn many_requests_with_retries_lose_and_double_nothing() {
    for order in [AsyncOrder::Ordered, AsyncOrder::Unordered] {
        let tried = Arc::new(Mutex::new(HashMap::<u32, u32>::new()));
        let call = AsyncCall::new(move |i: u32| {
            let mut tried = tried.lock().unwrap();
            let n = tried.entry(i).or_default();
            *n += 1;
            let fails = i.is_multiple_of(7) && *n < 3;
            async move {
                tokio::task::yield_now().await;
                if fails { Err(Error::external("busy")) } else { Ok(i) }
            }
        });
        // The layers keep what was said about the order.
        let call = ordered(call.capacity(64), order);
        let call = call.retry(Retry::fixed(3, Duration::ZERO)).timeout(Duration::from_secs(60));
        let mut w = World::with(call, Arc::default());
        let mut flow = Flow::Ready;
        let mut batches = (0..10_000)
            .step_by(1024)
            .map(|from| (from..10_000.min(from + 1024)).collect::<Vec<u32>>());
        let mut ended = false;
        while !(ended && flow == Flow::Ready) {
            flow = if flow == Flow::Blocked {
                w.bell.wait();
                w.link.resume().unwrap()
            } else if let Some(batch) = batches.next() {
                w.push(&batch, batch.last().map(|&t| EventTime::from(t)))
            } else {
                ended = true;
                w.link.signal(Signal::End).unwrap()
            };
        }
        let seen = w.seen.take();
        let mut values = Vec::new();
        for event in seen.split(' ') {
            if let Some(watermark) = event.strip_prefix("wm") {
                let n: usize = watermark.parse().unwrap();
                assert_eq!(values.len(), n + 1, "a watermark overtook a record");
            } else if let Some((value, _)) = event.split_once('@') {
                values.push(value.parse::<u32>().unwrap());
            }
        }
        if order == AsyncOrder::Unordered {
            values.sort_unstable();
        }
        assert!(values.iter().copied().eq(0..10_000));
    }
}
