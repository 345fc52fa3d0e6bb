//! The watermark of several inputs: the minimum over those that have something to say.
//!
//! A pure machine. An input that is idle or has ended is left out; the result never goes back. When every
//! input is idle the whole is idle, and the watermark is the highest any of them reached: nobody is left to
//! hold it back (as in Flink's `StatusWatermarkValve`).

use millstream_model::{EventTime, MAX_TIME, MIN_TIME, Signal};

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Valve {
    inputs: Vec<Input>,
    watermark: EventTime,
    idle: bool,
    n_ended: usize,
}

#[derive(Debug, Clone, Copy)]
struct Input {
    watermark: EventTime,
    status: Status,
}

/// Whether an input takes part in the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Active,
    /// It has nothing to say for now.
    Idle,
    /// It will never have anything to say.
    Ended,
}

/// What a change of status brings about: first the watermark, then the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// The new watermark, if it advanced.
    pub watermark: Option<EventTime>,
    /// The whole became idle, active again, or ended.
    pub signal: Option<Signal>,
}

impl Valve {
    /// A valve for so many inputs, all active and at the beginning of time.
    pub fn new(n_inputs: usize) -> Self {
        let inputs = vec![Input { watermark: MIN_TIME, status: Status::Active }; n_inputs];
        Valve { inputs, watermark: MIN_TIME, idle: false, n_ended: 0 }
    }

    /// One more input, active and at the beginning of time. The watermark stays where it is.
    pub fn add(&mut self) -> Change {
        self.inputs.push(Input { watermark: MIN_TIME, status: Status::Active });
        // At the beginning of time it can only hold back: nothing to be found out from the others.
        let was_idle = std::mem::replace(&mut self.idle, false);
        Change { watermark: None, signal: was_idle.then_some(Signal::Active) }
    }

    /// Forgets the inputs that have ended, but for the first `n_kept`. Those behind them move up, in order.
    pub fn forget_ended(&mut self, n_kept: usize) {
        let mut index = 0;
        self.inputs.retain(|input| {
            index += 1;
            index <= n_kept || input.status != Status::Ended
        });
        self.n_ended = self.inputs.iter().filter(|input| input.status == Status::Ended).count();
    }

    /// The watermark that holds for the whole.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Goes on from a watermark that held before: none at or below it is told again.
    pub fn resume_at(&mut self, watermark: EventTime) {
        self.watermark = self.watermark.max(watermark);
    }

    /// The watermark and the status of every input.
    pub fn inputs(&self) -> impl Iterator<Item = (EventTime, Status)> {
        self.inputs.iter().map(|input| (input.watermark, input.status))
    }

    /// Whether every input has ended.
    pub fn is_ended(&self) -> bool {
        self.n_ended == self.inputs.len()
    }

    /// An input has a new watermark; the new one of the whole, if it advanced.
    #[inline]
    pub fn advance(&mut self, input: usize, watermark: EventTime) -> Option<EventTime> {
        let this = &mut self.inputs[input];
        if watermark <= this.watermark {
            return None;
        }
        this.watermark = watermark;
        if self.inputs.len() == 1 && watermark > self.watermark {
            self.watermark = watermark;
            return Some(watermark);
        }
        self.raise()
    }

    fn raise(&mut self) -> Option<EventTime> {
        // An input that has come to the end of time is as good as ended: it must not take the idle ones along.
        let mut slowest_active = None;
        let mut furthest_idle = None;
        let mut is_at_end = false;
        for input in &self.inputs {
            match input.status {
                Status::Ended => {}
                _ if input.watermark == MAX_TIME => is_at_end = true,
                Status::Active => {
                    let slowest = slowest_active.get_or_insert(input.watermark);
                    *slowest = input.watermark.min(*slowest);
                }
                Status::Idle => furthest_idle = furthest_idle.max(Some(input.watermark)),
            }
        }
        let reached = slowest_active.or(furthest_idle).or(is_at_end.then_some(MAX_TIME))?;
        (reached > self.watermark).then(|| {
            self.watermark = reached;
            reached
        })
    }

    fn settle(&mut self) -> Change {
        let watermark = self.raise();
        let idle = self.inputs.iter().all(|i| i.status != Status::Active);
        let signal = if self.is_ended() {
            Some(Signal::End)
        } else if idle == self.idle {
            None
        } else {
            Some(if idle { Signal::Idle } else { Signal::Active })
        };
        self.idle = idle;
        Change { watermark, signal }
    }

    /// An input became idle.
    pub fn idle(&mut self, input: usize) -> Change {
        if self.inputs[input].status != Status::Active {
            return Change::default();
        }
        self.inputs[input].status = Status::Idle;
        self.settle()
    }

    /// An input became active again.
    pub fn active(&mut self, input: usize) -> Change {
        if self.inputs[input].status != Status::Idle {
            return Change::default();
        }
        self.inputs[input].status = Status::Active;
        self.settle()
    }

    /// An input ended.
    pub fn end(&mut self, input: usize) -> Change {
        if self.inputs[input].status == Status::Ended {
            return Change::default();
        }
        self.inputs[input].status = Status::Ended;
        self.n_ended += 1;
        self.settle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_active_input_decides() {
        let mut v = Valve::new(3);
        assert_eq!(v.advance(0, 10), None);
        assert_eq!(v.advance(1, 20), None);
        assert_eq!(v.advance(2, 5), Some(5));
        assert_eq!(v.advance(2, 4), None);
        assert_eq!(v.idle(2), Change { watermark: Some(10), signal: None });
        // Back from idle it cannot pull time back.
        assert_eq!(v.active(2), Change::default());
        assert_eq!(v.advance(0, 30), None);
        assert_eq!(v.advance(2, 25), Some(20));
    }

    #[test]
    fn all_idle_is_idle_at_the_highest_watermark() {
        let mut v = Valve::new(2);
        v.advance(0, 10);
        v.advance(1, 20);
        assert_eq!(v.idle(1), Change::default());
        assert_eq!(v.idle(0), Change { watermark: Some(20), signal: Some(Signal::Idle) });
        assert_eq!(v.active(0), Change { watermark: None, signal: Some(Signal::Active) });
    }

    #[test]
    fn inputs_come_and_go_and_time_does_not_go_back() {
        let mut v = Valve::new(1);
        assert_eq!(v.advance(0, 10), Some(10));
        assert_eq!(v.idle(0), Change { watermark: None, signal: Some(Signal::Idle) });
        // A new one brings the whole back, and holds it where it is.
        assert_eq!(v.add(), Change { watermark: None, signal: Some(Signal::Active) });
        assert_eq!((v.advance(1, 5), v.watermark()), (None, 10));
        assert_eq!(v.advance(1, 20), Some(20));
        assert_eq!(v.add(), Change::default());
        assert_eq!(v.end(1), Change::default());
        v.forget_ended(1);
        assert_eq!(v.inputs().count(), 2);
        assert_eq!(v.advance(1, 30), Some(30));
        v.end(0);
        assert_eq!(v.end(1).signal, Some(Signal::End));
        v.forget_ended(1);
        assert!(v.is_ended());
        assert_eq!(v.inputs().count(), 1, "the first stays");
    }

    /// The mark of the end of time comes before word of the end.
    #[test]
    fn who_has_come_to_the_end_of_time_does_not_take_the_idle_along() {
        let mut v = Valve::new(3);
        v.advance(0, 10);
        v.advance(1, 20);
        v.advance(2, 30);
        v.idle(1);
        v.idle(0);
        assert_eq!(v.watermark(), 30);
        assert_eq!(v.advance(2, MAX_TIME), None, "who is idle may go on at 20");
        assert_eq!(v.end(2), Change { watermark: None, signal: Some(Signal::Idle) });
        assert_eq!(v.active(1).signal, Some(Signal::Active));
        assert_eq!(v.advance(1, 40), Some(40));
        assert_eq!(v.advance(1, MAX_TIME), None);
        assert_eq!(v.advance(0, MAX_TIME), Some(MAX_TIME), "now all are there");
    }

    #[test]
    fn ends_once_all_have_ended() {
        let mut v = Valve::new(2);
        v.advance(1, 7);
        assert_eq!(v.end(0), Change { watermark: Some(7), signal: None });
        assert_eq!(v.end(1), Change { watermark: None, signal: Some(Signal::End) });
        assert!(v.is_ended());
    }
}
