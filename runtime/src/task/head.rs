//! Heads: where a task's records come from, one batch at a time.

use crate::chain::{Flow, Push, TwoInputLink};
use crate::exchange::{Arrival, Gate};
use millstream_model::{EventTime, MAX_TIME, Result, Signal};

/// What a head found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// It took something and gave it to the chain.
    Took(Flow),
    /// There is nothing now; look again when woken, or at this processing time.
    Nothing {
        /// Microseconds since the epoch.
        until_us: EventTime,
    },
    /// There will be nothing more.
    End,
}

/// The beginning of a task and the chain behind it.
pub trait Head: Send {
    /// Opens the chain.
    ///
    /// # Errors
    /// The failure of an operator.
    fn open(&mut self) -> Result<()>;
    /// Takes at most one batch and pushes it into the chain.
    ///
    /// # Errors
    /// The failure of an operator or source.
    fn poll(&mut self) -> Result<Polled>;
    /// Gives the chain a signal that does not come from the input: flush, tick.
    ///
    /// # Errors
    /// The failure of an operator.
    fn signal(&mut self, signal: Signal) -> Result<Flow>;
    /// Resumes the chain.
    ///
    /// # Errors
    /// The failure of an operator.
    fn resume(&mut self) -> Result<Flow>;
    /// Tells the chain that the input has ended.
    ///
    /// # Errors
    /// The failure of an operator.
    fn end(&mut self) -> Result<Flow>;
    /// Closes the chain.
    ///
    /// # Errors
    /// The failure of an operator.
    fn close(&mut self) -> Result<()>;
}

/// The head of a task with one (possibly united) input.
pub struct OneGateHead<T> {
    gate: Gate<T>,
    link: Box<dyn Push<T>>,
}

impl<T> OneGateHead<T> {
    /// Feeds `link` from `gate`.
    pub fn new(gate: Gate<T>, link: Box<dyn Push<T>>) -> Self {
        OneGateHead { gate, link }
    }
}

impl<T: Send> Head for OneGateHead<T> {
    fn open(&mut self) -> Result<()> {
        self.link.open()
    }

    fn poll(&mut self) -> Result<Polled> {
        Ok(match self.gate.poll()? {
            Arrival::Batch(mut batch) => {
                let flow = self.link.push(&mut batch)?;
                self.gate.recycle(batch);
                Polled::Took(flow)
            }
            Arrival::Signal(Signal::End) => Polled::End,
            Arrival::Signal(signal) => Polled::Took(self.link.signal(signal)?),
            Arrival::Taken => Polled::Took(Flow::Ready),
            Arrival::Nothing => Polled::Nothing { until_us: MAX_TIME },
        })
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.link.signal(signal)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.link.resume()
    }

    fn end(&mut self) -> Result<Flow> {
        self.link.signal(Signal::End)
    }

    fn close(&mut self) -> Result<()> {
        self.link.close()
    }
}

/// The head of a task with two inputs: takes from them in turn.
pub struct TwoGateHead<L, R> {
    left: Gate<L>,
    right: Gate<R>,
    link: Box<dyn TwoInputLink<L, R>>,
    ended: [bool; 2],
    right_first: bool,
}

impl<L, R> TwoGateHead<L, R> {
    /// Feeds `link` from both gates.
    pub fn new(left: Gate<L>, right: Gate<R>, link: Box<dyn TwoInputLink<L, R>>) -> Self {
        TwoGateHead { left, right, link, ended: [false; 2], right_first: false }
    }

    fn poll_left(&mut self) -> Result<Option<Flow>> {
        if self.ended[0] {
            return Ok(None);
        }
        Ok(Some(match self.left.poll()? {
            Arrival::Batch(mut batch) => {
                let flow = self.link.push_left(&mut batch)?;
                self.left.recycle(batch);
                flow
            }
            Arrival::Signal(signal) => {
                self.ended[0] = signal == Signal::End;
                if self.ended == [true; 2] {
                    Flow::Ready
                } else {
                    self.link.signal_input(0, signal)?
                }
            }
            Arrival::Taken => Flow::Ready,
            Arrival::Nothing => return Ok(None),
        }))
    }

    fn poll_right(&mut self) -> Result<Option<Flow>> {
        if self.ended[1] {
            return Ok(None);
        }
        Ok(Some(match self.right.poll()? {
            Arrival::Batch(mut batch) => {
                let flow = self.link.push_right(&mut batch)?;
                self.right.recycle(batch);
                flow
            }
            Arrival::Signal(signal) => {
                self.ended[1] = signal == Signal::End;
                if self.ended == [true; 2] {
                    Flow::Ready
                } else {
                    self.link.signal_input(1, signal)?
                }
            }
            Arrival::Taken => Flow::Ready,
            Arrival::Nothing => return Ok(None),
        }))
    }
}

impl<L: Send, R: Send> Head for TwoGateHead<L, R> {
    fn open(&mut self) -> Result<()> {
        self.link.open()
    }

    fn poll(&mut self) -> Result<Polled> {
        if self.ended == [true; 2] {
            return Ok(Polled::End);
        }
        self.right_first = !self.right_first;
        let taken = if self.right_first {
            match self.poll_right()? {
                None => self.poll_left()?,
                taken => taken,
            }
        } else {
            match self.poll_left()? {
                None => self.poll_right()?,
                taken => taken,
            }
        };
        Ok(taken.map_or(Polled::Nothing { until_us: MAX_TIME }, Polled::Took))
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.link.signal(signal)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.link.resume()
    }

    fn end(&mut self) -> Result<Flow> {
        self.link.signal(Signal::End)
    }

    fn close(&mut self) -> Result<()> {
        self.link.close()
    }
}
