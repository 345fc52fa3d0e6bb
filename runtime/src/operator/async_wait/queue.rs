//! The order in which asynchronous results leave.
//!
//! Requests stand in segments, and what separates two segments (a watermark, a change of status) leaves
//! when everything before it has. In unordered mode a segment reaches from one watermark to the next and
//! gives its results as they come; ordered mode is the same with a segment for every request.

use millstream_model::{EventTime, Signal};
use std::collections::VecDeque;

/// What leaves.
#[derive(Debug, PartialEq)]
pub(super) enum Item<O> {
    Record(O, EventTime),
    Watermark(EventTime),
    Status(Signal),
}

/// Names a request's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// See the module's text.
pub(super) struct Queue<O> {
    is_ordered: bool,
    segments: VecDeque<Segment<O>>,
    /// Number of the first segment.
    first: u64,
    /// Requests running, and results that wait for their turn.
    n_held: usize,
}

struct Segment<O> {
    n_running: usize,
    done: VecDeque<(O, EventTime)>,
    then: VecDeque<Separator>,
}

#[derive(Clone, Copy)]
enum Separator {
    Watermark(EventTime),
    Status(Signal),
}

impl<O> Queue<O> {
    pub(super) fn new(is_ordered: bool) -> Self {
        Queue { is_ordered, segments: VecDeque::new(), first: 0, n_held: 0 }
    }

    /// Requests running, and results that wait for their turn.
    pub(super) fn n_held(&self) -> usize {
        self.n_held
    }

    /// Whether everything has left.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    fn open_segment(&mut self) -> &mut Segment<O> {
        let segment = Segment { n_running: 0, done: VecDeque::new(), then: VecDeque::new() };
        self.segments.push_back(segment);
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    /// A request begins.
    pub(super) fn begin(&mut self) -> Ticket {
        self.n_held += 1;
        let is_ordered = self.is_ordered;
        match self.segments.back_mut() {
            Some(last) if !is_ordered && last.then.is_empty() => last.n_running += 1,
            _ => self.open_segment().n_running = 1,
        }
        Ticket(self.first + self.segments.len() as u64 - 1)
    }

    /// A request has its result, for a record with this time.
    pub(super) fn finish(&mut self, ticket: Ticket, result: O, time: EventTime) {
        // A segment stays until all its requests are finished, and each finishes once.
        let segment = &mut self.segments[(ticket.0 - self.first) as usize];
        segment.n_running -= 1;
        segment.done.push_back((result, time));
    }

    fn separate(&mut self) -> &mut VecDeque<Separator> {
        if self.segments.is_empty() {
            self.open_segment();
        }
        let last = self.segments.len() - 1;
        &mut self.segments[last].then
    }

    /// A watermark follows on what was begun so far.
    pub(super) fn mark(&mut self, watermark: EventTime) {
        let then = self.separate();
        match then.back_mut() {
            Some(Separator::Watermark(last)) => *last = watermark,
            _ => then.push_back(Separator::Watermark(watermark)),
        }
    }

    /// A change of status follows on what was begun so far.
    pub(super) fn status(&mut self, status: Signal) {
        self.separate().push_back(Separator::Status(status));
    }

    /// What may leave next; `None` if the next must still be waited for.
    pub(super) fn next(&mut self) -> Option<Item<O>> {
        loop {
            let first = self.segments.front_mut()?;
            if let Some((result, time)) = first.done.pop_front() {
                self.n_held -= 1;
                return Some(Item::Record(result, time));
            }
            if first.n_running > 0 {
                return None;
            }
            match first.then.pop_front() {
                Some(Separator::Watermark(w)) => return Some(Item::Watermark(w)),
                Some(Separator::Status(s)) => return Some(Item::Status(s)),
                None => {
                    self.segments.pop_front();
                    self.first += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut Queue<&'static str>) -> String {
        let shown = |item| match item {
            Item::Record(r, t) => format!("{r}@{t}"),
            Item::Watermark(w) => format!("wm{w}"),
            Item::Status(s) => format!("{s:?}"),
        };
        std::iter::from_fn(|| queue.next()).map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn in_order_everything_waits_for_what_came_before() {
        let mut q = Queue::new(true);
        let (a, b) = (q.begin(), q.begin());
        q.mark(5);
        let c = q.begin();
        q.status(Signal::Idle);
        q.finish(c, "c", 7);
        q.finish(b, "b", 2);
        assert_eq!((drain(&mut q).as_str(), q.n_held()), ("", 3));
        q.finish(a, "a", 1);
        assert_eq!(drain(&mut q), "a@1 b@2 wm5 c@7 Idle");
        assert!(q.is_empty() && q.n_held() == 0);
    }

    #[test]
    fn out_of_order_only_watermarks_wait() {
        let mut q = Queue::new(false);
        let (a, b) = (q.begin(), q.begin());
        q.mark(5);
        q.mark(6);
        let (c, d) = (q.begin(), q.begin());
        q.finish(b, "b", 2);
        assert_eq!(drain(&mut q), "b@2");
        q.finish(d, "d", 8);
        assert_eq!((drain(&mut q).as_str(), q.n_held()), ("", 3));
        q.finish(a, "a", 1);
        assert_eq!(drain(&mut q), "a@1 wm6 d@8");
        let e = q.begin();
        q.finish(e, "e", 9);
        assert_eq!(drain(&mut q), "e@9");
        q.finish(c, "c", 7);
        assert_eq!(drain(&mut q), "c@7");
    }

    #[test]
    fn with_nothing_under_way_nothing_waits() {
        let mut q = Queue::<&str>::new(true);
        q.mark(1);
        assert_eq!(drain(&mut q), "wm1");
        q.status(Signal::Idle);
        q.status(Signal::Active);
        q.mark(2);
        q.mark(3);
        assert_eq!(drain(&mut q), "Idle Active wm3");
        assert!(q.is_empty());
    }
}
