//! Sinks: where records leave.

use crate::chain::{Flow, Push, Site};
use crate::context::OperatorContext;
use millstream_model::{Batch, Result, Signal};

/// Writes records out. One per subtask.
pub trait SinkWriter<T>: Send {
    /// Called once before the first record.
    ///
    /// # Errors
    /// If the target cannot be opened.
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// Writes the records of a batch, in order, and leaves it empty.
    ///
    /// # Errors
    /// If writing fails; the error ends the job.
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()>;
    /// Nothing more comes right now: makes visible what a reader may see.
    ///
    /// # Errors
    /// If writing fails.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    /// Called once after the last record: makes the output final. Not called when the job fails.
    ///
    /// # Errors
    /// If writing fails.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Where a stream's records go: makes the writers. Shared by all subtasks.
pub trait Sink<T>: Send + Sync + 'static {
    /// Called once per run, before any writer is made: checks and prepares what all subtasks share.
    ///
    /// # Errors
    /// If the target cannot be used (an output directory that is not empty, say).
    fn prepare(&self) -> Result<()> {
        Ok(())
    }
    /// The writer of one subtask.
    ///
    /// # Errors
    /// If it cannot be made.
    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>>;
    /// The default name of its operator.
    fn name(&self) -> String {
        "sink".into()
    }
    /// How many subtasks may write at most; `None` for any number.
    fn max_parallelism(&self) -> Option<usize> {
        None
    }
}

/// The link at the end of a chain that ends in a sink.
pub struct SinkLink<T> {
    writer: Box<dyn SinkWriter<T>>,
    context: OperatorContext,
    site: Site,
}

impl<T> SinkLink<T> {
    /// The link into `writer`.
    pub fn new(writer: Box<dyn SinkWriter<T>>, context: OperatorContext, site: Site) -> Self {
        SinkLink { writer, context, site }
    }
}

impl<T: Send> Push<T> for SinkLink<T> {
    fn open(&mut self) -> Result<()> {
        self.site.enter();
        self.site.locate(self.writer.open(&self.context))
    }

    fn push(&mut self, batch: &mut Batch<T>) -> Result<Flow> {
        if !batch.is_empty() {
            self.site.enter();
            self.site.locate(self.writer.write(batch))?;
        }
        batch.clear();
        Ok(Flow::Ready)
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.site.enter();
        match signal {
            Signal::Flush => self.site.locate(self.writer.flush())?,
            Signal::End => self.site.locate(self.writer.finish())?,
            Signal::Tick(_) | Signal::Idle | Signal::Active | Signal::Barrier(_) => {}
        }
        Ok(Flow::Ready)
    }

    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
