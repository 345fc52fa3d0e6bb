//! Asynchronous calls: many requests under way, results in or out of order.
//!
//! It is a link rather than an operator, because it must hold watermarks back: a watermark may leave only
//! after the results of the records before it. Draining before every watermark would be simpler and is too
//! slow: a stream that trickles has a watermark per record, and then one request would be under way at a
//! time. So records and watermarks stand in one [`queue`] and new records are taken while old ones wait.
//!
//! Requests run on a small tokio runtime that the process shares. Their number is bounded, results that
//! wait for their turn included; when that many are under way the link answers `Blocked`, and each
//! completion wakes the task. What completes while nothing else happens is flushed at once, so a result
//! never waits in a buffer for the next record.

mod call;
mod queue;

pub use call::{AsyncCall, Retry};

use crate::chain::{ChainVisitor, Flow, Output, Push, Site};
use crate::context::{OperatorContext, TaskContext};
use crossbeam_channel::{Receiver, Sender, unbounded};
use millstream_model::{Batch, Error, EventTime, Mark, NO_TIME, Result, Signal};
use queue::{Item, Queue, Ticket};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Poll;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

/// In which order results leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsyncOrder {
    /// As the records came.
    #[default]
    Ordered,
    /// As they complete; but never across a watermark.
    Unordered,
}

/// Requests under way in a subtask unless said otherwise.
pub const DEFAULT_ASYNC_CAPACITY: usize = 100;

/// `async_map`. See the module's text.
pub struct AsyncWait<I, O> {
    call: AsyncCall<I, O>,
    capacity: usize,
    queue: Queue<O>,
    /// Dropping them with the link cancels what is under way.
    requests: JoinSet<()>,
    // Not bounded by itself: there is at most one reply for each of `capacity` requests.
    replies: (Sender<Reply<O>>, Receiver<Reply<O>>),
    input: Input<I>,
    /// A change of status whose turn has come.
    status: Option<Signal>,
    /// A signal that could not be passed on yet.
    pending: Option<Signal>,
    /// Whether something was emitted that nobody else will flush.
    unflushed: bool,
    out: Output<O>,
    task: TaskContext,
    site: Site,
}

struct Reply<O> {
    ticket: Ticket,
    time: EventTime,
    result: Result<O>,
}

/// A batch that could not be taken whole.
struct Input<I> {
    values: std::vec::IntoIter<I>,
    times: Vec<EventTime>,
    marks: std::iter::Peekable<std::vec::IntoIter<Mark>>,
    at: usize,
}

impl<I> Input<I> {
    fn of(batch: &mut Batch<I>) -> Self {
        let Batch { values, times, marks, .. } = std::mem::take(batch);
        Input { values: values.into_iter(), times, marks: marks.into_iter().peekable(), at: 0 }
    }

    /// The watermark that comes before the next record.
    fn next_mark(&mut self) -> Option<EventTime> {
        let at = self.at;
        self.marks.next_if(|m| m.at as usize <= at).map(|m| m.watermark)
    }

    fn next_record(&mut self) -> Option<(I, EventTime)> {
        let value = self.values.next()?;
        let time = self.times.get(self.at).copied().unwrap_or(NO_TIME);
        self.at += 1;
        Some((value, time))
    }

    fn is_empty(&mut self) -> bool {
        self.values.len() == 0 && self.marks.peek().is_none()
    }
}

/// The runtime that all asynchronous calls of the process share.
fn runtime() -> Result<&'static Handle> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let build = || {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("millstream-async")
            .enable_all()
            .build()
    };
    match RUNTIME.get_or_init(build) {
        Ok(runtime) => Ok(runtime.handle()),
        Err(e) => Err(Error::external(format!("no threads for asynchronous calls: {e}"))),
    }
}

/// Turns a panic of the user's code into the error it would be in a step.
async fn caught<O>(response: impl Future<Output = Result<O>>) -> Result<O> {
    let mut response = pin!(response);
    std::future::poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| response.as_mut().poll(cx)))
            .unwrap_or_else(|payload| Poll::Ready(Err(panicked(&*payload))))
    })
    .await
}

fn panicked(payload: &(dyn Any + Send)) -> Error {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    Error::user(format!("panicked: {}", text.unwrap_or("a value that is no text")))
}

impl<I: Send + 'static, O: Send + 'static> AsyncWait<I, O> {
    /// The link that sends the results of `call` into `out`.
    pub fn new(call: AsyncCall<I, O>, out: Output<O>, context: &OperatorContext) -> Self {
        AsyncWait {
            capacity: call.most_under_way(),
            queue: Queue::new(call.order() == AsyncOrder::Ordered),
            call,
            requests: JoinSet::new(),
            replies: unbounded(),
            input: Input::of(&mut Batch::default()),
            status: None,
            pending: None,
            unflushed: false,
            site: out.site().clone(),
            out,
            task: context.task().clone(),
        }
    }

    fn request(&mut self, value: I, time: EventTime) -> Result<()> {
        let (call, replies) = (self.call.clone(), self.replies.0.clone());
        let waker = self.task.waker().clone();
        let ticket = self.queue.begin();
        self.task.begin_call();
        let request = async move {
            let result = caught(async move { call.start(value).await }).await;
            // Nobody listens if the task has ended meanwhile.
            let _ = replies.send(Reply { ticket, time, result });
            waker.wake();
        };
        self.requests.spawn_on(request, runtime()?);
        Ok(())
    }

    fn take_replies(&mut self) -> Result<()> {
        while let Ok(Reply { ticket, time, result }) = self.replies.1.try_recv() {
            self.task.end_call();
            self.queue.finish(ticket, result?, time);
        }
        while self.requests.try_join_next().is_some() {}
        Ok(())
    }

    /// Starts requests for as much of the input as there is room for.
    fn take_input(&mut self) -> Result<()> {
        loop {
            while let Some(watermark) = self.input.next_mark() {
                self.queue.mark(watermark);
            }
            if self.queue.n_held() >= self.capacity {
                return Ok(());
            }
            match self.input.next_record() {
                Some((value, time)) => self.request(value, time)?,
                None => return Ok(()),
            }
        }
    }

    /// Emits whatever may leave, as long as the output takes it.
    fn emit(&mut self) -> Result<()> {
        loop {
            if let Some(status) = self.status {
                if self.out.flush()? == Flow::Blocked {
                    return Ok(());
                }
                self.status = None;
                // If it blocks, that shows below.
                let _ = self.out.signal(status)?;
            }
            if self.out.is_blocked() {
                return Ok(());
            }
            match self.queue.next() {
                None => return Ok(()),
                Some(Item::Record(result, time)) => self.out.emit_at(result, time),
                Some(Item::Watermark(watermark)) => self.out.mark(watermark),
                Some(Item::Status(status)) => self.status = Some(status),
            }
            self.unflushed = true;
        }
    }

    /// Does what can be done; `Blocked` if something of what was given is still in hand.
    fn work(&mut self) -> Result<Flow> {
        self.site.enter();
        self.take_replies()?;
        self.emit()?;
        self.take_input()?;
        // Watermarks that had nothing to wait for.
        self.emit()?;
        if self.out.flush()? == Flow::Blocked || !self.input.is_empty() {
            return Ok(Flow::Blocked);
        }
        match self.pending {
            // A call under way is in no snapshot, so a barrier waits for those before it, as the end does.
            Some(Signal::End | Signal::Barrier(_))
                if !self.queue.is_empty() || self.status.is_some() =>
            {
                Ok(Flow::Blocked)
            }
            Some(signal) => {
                self.pending = None;
                // A tick is followed by a flush; after the end there is nothing to flush.
                self.unflushed = false;
                self.out.signal(signal)
            }
            None => Ok(Flow::Ready),
        }
    }

    /// Flushes what would otherwise lie in a buffer until the next record comes.
    fn flush(&mut self, flow: Flow) -> Result<Flow> {
        if self.unflushed && !self.out.is_blocked() {
            self.unflushed = false;
            return Ok(flow.and(self.out.signal(Signal::Flush)?));
        }
        Ok(flow)
    }

    /// What was given is taken, or waits.
    fn given(&mut self) -> Result<Flow> {
        let flow = self.work()?;
        if flow == Flow::Ready {
            // The task flushes when it has nothing more to give.
            self.unflushed = false;
            return Ok(flow);
        }
        self.flush(flow)
    }

    fn go_on(&mut self) -> Result<Flow> {
        let flow = self.work()?;
        self.flush(flow)
    }
}

impl<I: Send + 'static, O: Send + 'static> Push<I> for AsyncWait<I, O> {
    fn open(&mut self) -> Result<()> {
        self.out.open()
    }

    fn push(&mut self, batch: &mut Batch<I>) -> Result<Flow> {
        self.input = Input::of(batch);
        let flow = self.given();
        self.site.locate(flow)
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        match signal {
            Signal::Idle | Signal::Active => self.queue.status(signal),
            Signal::Flush | Signal::Tick(_) | Signal::Barrier(_) | Signal::End => {
                self.pending = Some(signal);
            }
        }
        let flow = self.given();
        self.site.locate(flow)
    }

    fn resume(&mut self) -> Result<Flow> {
        if self.out.resume()? == Flow::Blocked {
            return Ok(Flow::Blocked);
        }
        let flow = self.go_on();
        self.site.locate(flow)
    }

    fn close(&mut self) -> Result<()> {
        self.out.close()
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        self.out.visit(visitor)
    }
}

#[cfg(test)]
mod tests;
