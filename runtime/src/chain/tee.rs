//! Fan-out inside a chain: the one place where records are cloned.

use super::{ChainVisitor, Flow, Push};
use millstream_model::{Batch, Result, Signal};

/// Gives every consumer the whole stream.
pub struct Tee<T> {
    consumers: Vec<Box<dyn Push<T>>>,
    copy: Batch<T>,
}

impl<T: Clone> Tee<T> {
    /// A tee into these consumers.
    pub fn new(consumers: Vec<Box<dyn Push<T>>>) -> Self {
        Tee { consumers, copy: Batch::default() }
    }
}

impl<T: Clone + Send> Push<T> for Tee<T> {
    fn open(&mut self) -> Result<()> {
        self.consumers.iter_mut().try_for_each(|c| c.open())
    }

    fn push(&mut self, batch: &mut Batch<T>) -> Result<Flow> {
        let mut flow = Flow::Ready;
        if let Some((last, others)) = self.consumers.split_last_mut() {
            for consumer in others {
                self.copy.values.extend_from_slice(&batch.values);
                self.copy.times.extend_from_slice(&batch.times);
                self.copy.hashes.extend_from_slice(&batch.hashes);
                self.copy.marks.extend_from_slice(&batch.marks);
                flow = flow.and(consumer.push(&mut self.copy)?);
                self.copy.clear();
            }
            flow = flow.and(last.push(batch)?);
        }
        Ok(flow)
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.consumers.iter_mut().try_fold(Flow::Ready, |flow, c| Ok(flow.and(c.signal(signal)?)))
    }

    fn resume(&mut self) -> Result<Flow> {
        self.consumers.iter_mut().try_fold(Flow::Ready, |flow, c| Ok(flow.and(c.resume()?)))
    }

    fn close(&mut self) -> Result<()> {
        self.consumers.iter_mut().try_for_each(|c| c.close())
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        self.consumers.iter_mut().try_for_each(|c| c.visit(visitor))
    }
}
