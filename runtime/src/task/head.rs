//! Heads: where a task's records come from, one batch at a time.

use super::{Measures, Taken};
use crate::chain::{ChainVisitor, Flow, Push, Site, Stateful, TwoInputLink};
use crate::exchange::{Alignment, Arrival, BarrierAligner, Gate, INPUT_PART, INPUT_PARTS, Passage};
use millstream_model::{
    Barrier, CheckpointId, CheckpointMode, Data, EventTime, MAX_TIME, Result, Signal,
};
use millstream_state::Visitor;

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
    /// Every input has brought this barrier; it has not been given to the chain yet.
    Barrier(Barrier),
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
    /// Shows the operators of the task.
    ///
    /// # Errors
    /// The visitor's.
    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()>;
    /// Gives the chain a barrier.
    ///
    /// # Errors
    /// The failure of an operator.
    fn barrier(&mut self, barrier: Barrier) -> Result<Flow> {
        self.signal(Signal::Barrier(barrier))
    }
    /// A checkpoint was given up: no input waits for its barrier any more.
    fn cancel(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }
    /// The barrier that inputs wait for.
    fn waiting_for(&self) -> Option<Barrier> {
        None
    }
    /// Waiting for a barrier has taken too long: it overtakes, if it may.
    fn turn(&mut self, barrier: Barrier) {
        let _ = barrier;
    }
    /// Whether barriers begin here.
    fn is_source(&self) -> bool {
        false
    }
    /// Whether records enter here: once it has come to a stop it reads nothing more.
    fn is_reader(&self) -> bool {
        self.is_source()
    }
    /// Whether something that comes before a barrier is still to be polled.
    fn has_unsent(&self) -> bool {
        false
    }
    /// Brings event time to its end: a source that is about to stop for good.
    ///
    /// # Errors
    /// The failure of an operator.
    fn drain(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }
}

/// The head of a task with one (possibly united) input.
pub struct OneGateHead<T> {
    gate: Gate<T>,
    link: Box<dyn Push<T>>,
    site: Site,
    taken: Taken,
}

impl<T> OneGateHead<T> {
    /// Feeds `link`, whose first operator is at `site`, from `gate`.
    pub fn new(gate: Gate<T>, link: Box<dyn Push<T>>, site: Site) -> Self {
        OneGateHead { gate, link, site, taken: Taken::default() }
    }
}

impl<T: Data> Stateful for OneGateHead<T> {
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.gate.parts(INPUT_PART, visitor)
    }
    fn restoring(&mut self) {
        self.gate.set_restoring(true);
    }
    fn restored(&mut self) -> Result<()> {
        self.gate.set_restoring(false);
        Ok(())
    }
    fn measured(&mut self, measures: &Measures) {
        self.taken = measures.taken.clone();
    }
}

impl<T: Data> Head for OneGateHead<T> {
    fn open(&mut self) -> Result<()> {
        self.link.open()
    }

    fn poll(&mut self) -> Result<Polled> {
        Ok(match self.gate.poll()? {
            Arrival::Batch(mut batch) => {
                self.taken.count(&batch);
                self.taken.reach_mark(&batch);
                let flow = self.link.push(&mut batch)?;
                self.gate.recycle(batch);
                Polled::Took(flow)
            }
            Arrival::Signal(Signal::End) => Polled::End,
            Arrival::Signal(signal) => Polled::Took(self.link.signal(signal)?),
            Arrival::Barrier(barrier) => Polled::Barrier(barrier),
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

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        let site = self.site.clone();
        visitor.operator(&site, self)?;
        self.link.visit(visitor)
    }

    fn barrier(&mut self, barrier: Barrier) -> Result<Flow> {
        self.gate.record(barrier);
        self.link.signal(Signal::Barrier(barrier))
    }

    fn cancel(&mut self, checkpoint: CheckpointId) {
        self.gate.cancel(checkpoint);
    }

    fn waiting_for(&self) -> Option<Barrier> {
        self.gate.waiting_for()
    }

    fn turn(&mut self, barrier: Barrier) {
        self.gate.turn(barrier);
    }
}

/// The head of a task with two inputs: takes from them in turn.
///
/// The two wait for each other at a barrier as the channels of one do, and by the same rules.
pub struct TwoGateHead<L, R> {
    left: Gate<L>,
    right: Gate<R>,
    link: Box<dyn TwoInputLink<L, R>>,
    site: Site,
    aligner: BarrierAligner,
    ended: [bool; 2],
    /// The end of an input that was passed over for a barrier.
    owed_end: Option<usize>,
    /// A barrier that one input had brought, and that overtakes now.
    turned: Option<Barrier>,
    right_first: bool,
    taken: Taken,
}

/// What polling one of two inputs came to.
enum Side {
    Took(Flow),
    Barrier(Barrier),
    Nothing,
}

impl<L: Data, R: Data> TwoGateHead<L, R> {
    /// Feeds `link`, whose operator is at `site`, from both gates.
    pub fn new(
        left: Gate<L>,
        right: Gate<R>,
        link: Box<dyn TwoInputLink<L, R>>,
        site: Site,
        mode: CheckpointMode,
    ) -> Self {
        TwoGateHead {
            left,
            right,
            link,
            site,
            aligner: BarrierAligner::new(2, mode),
            ended: [false; 2],
            owed_end: None,
            turned: None,
            right_first: false,
            taken: Taken::default(),
        }
    }

    fn poll_input(&mut self, input: usize) -> Result<Side> {
        if self.ended[input] || self.aligner.is_blocked(input) {
            return Ok(Side::Nothing);
        }
        if input == 0 {
            match self.left.poll()? {
                Arrival::Batch(mut batch) => {
                    self.taken.count(&batch);
                    let flow = self.link.push_left(&mut batch)?;
                    self.left.recycle(batch);
                    Ok(Side::Took(flow))
                }
                other => self.take(input, other),
            }
        } else {
            match self.right.poll()? {
                Arrival::Batch(mut batch) => {
                    self.taken.count(&batch);
                    let flow = self.link.push_right(&mut batch)?;
                    self.right.recycle(batch);
                    Ok(Side::Took(flow))
                }
                other => self.take(input, other),
            }
        }
    }

    /// Takes what is no batch.
    fn take<T>(&mut self, input: usize, arrival: Arrival<T>) -> Result<Side> {
        Ok(match arrival {
            Arrival::Signal(Signal::End) => {
                self.ended[input] = true;
                if let Some(barrier) = complete(self.aligner.ended(input)) {
                    self.owed_end = Some(input);
                    return Ok(Side::Barrier(barrier));
                }
                Side::Took(self.end_input(input)?)
            }
            Arrival::Signal(signal) => Side::Took(self.link.signal_input(input, signal)?),
            Arrival::Barrier(barrier) => match complete(self.aligner.barrier(input, barrier)) {
                Some(barrier) => Side::Barrier(barrier),
                None => Side::Took(Flow::Ready),
            },
            Arrival::Nothing => Side::Nothing,
            Arrival::Taken | Arrival::Batch(_) => Side::Took(Flow::Ready),
        })
    }

    /// Tells the chain that one of the inputs ended; that both have is told by `end`.
    fn end_input(&mut self, input: usize) -> Result<Flow> {
        if self.ended == [true; 2] {
            return Ok(Flow::Ready);
        }
        self.link.signal_input(input, Signal::End)
    }
}

/// The barrier that goes on to the task, if one does.
fn complete(alignment: Alignment) -> Option<Barrier> {
    match alignment.passage {
        Passage::Complete(barrier) | Passage::Overtake(barrier) => Some(barrier),
        Passage::Nothing | Passage::Closed(_) => None,
    }
}

impl<L: Data, R: Data> Stateful for TwoGateHead<L, R> {
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        self.left.parts(INPUT_PARTS[0], visitor)?;
        self.right.parts(INPUT_PARTS[1], visitor)
    }
    fn restoring(&mut self) {
        self.left.set_restoring(true);
        self.right.set_restoring(true);
    }
    fn restored(&mut self) -> Result<()> {
        self.left.set_restoring(false);
        self.right.set_restoring(false);
        Ok(())
    }
    fn measured(&mut self, measures: &Measures) {
        self.taken = measures.taken.clone();
    }
}

impl<L: Data, R: Data> Head for TwoGateHead<L, R> {
    fn open(&mut self) -> Result<()> {
        self.link.open()
    }

    fn poll(&mut self) -> Result<Polled> {
        if let Some(barrier) = self.turned.take() {
            return Ok(Polled::Barrier(barrier));
        }
        if let Some(input) = self.owed_end.take() {
            return Ok(Polled::Took(self.end_input(input)?));
        }
        if self.ended == [true; 2] {
            return Ok(Polled::End);
        }
        self.right_first = !self.right_first;
        let first = usize::from(self.right_first);
        for input in [first, 1 - first] {
            // What an input replays is in no queue: a barrier that came through the other would lose it.
            let is_other_replaying =
                if input == 0 { self.right.is_replaying() } else { self.left.is_replaying() };
            let is_replaying =
                if input == 0 { self.left.is_replaying() } else { self.right.is_replaying() };
            if is_other_replaying && !is_replaying {
                continue;
            }
            match self.poll_input(input)? {
                Side::Took(flow) => return Ok(Polled::Took(flow)),
                Side::Barrier(barrier) => return Ok(Polled::Barrier(barrier)),
                Side::Nothing => {}
            }
        }
        Ok(Polled::Nothing { until_us: MAX_TIME })
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.link.signal(signal)
    }

    fn resume(&mut self) -> Result<Flow> {
        let flow = self.link.resume()?;
        // Only the link knows the watermark of both; whatever raised it, a step later this is called.
        self.taken.reach(self.link.watermark());
        Ok(flow)
    }

    fn end(&mut self) -> Result<Flow> {
        self.link.signal(Signal::End)
    }

    fn close(&mut self) -> Result<()> {
        self.link.close()
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        let site = self.site.clone();
        visitor.operator(&site, self)?;
        self.link.visit(visitor)
    }

    fn barrier(&mut self, barrier: Barrier) -> Result<Flow> {
        self.left.record(barrier);
        self.right.record(barrier);
        self.link.signal(Signal::Barrier(barrier))
    }

    fn waiting_for(&self) -> Option<Barrier> {
        let gates = self.left.waiting_for().or_else(|| self.right.waiting_for());
        self.aligner.waiting_for().or(gates)
    }

    fn turn(&mut self, barrier: Barrier) {
        self.left.turn(barrier);
        self.right.turn(barrier);
        if let Some(barrier) = complete(self.aligner.turn(barrier)) {
            self.turned = Some(barrier);
        }
    }

    fn cancel(&mut self, checkpoint: CheckpointId) {
        self.turned.take_if(|barrier| barrier.checkpoint <= checkpoint);
        self.aligner.cancel(checkpoint);
        self.left.cancel(checkpoint);
        self.right.cancel(checkpoint);
    }
}
