//! An operator's output: the batch being filled, the link behind it, and the side outputs.
//!
//! A full batch goes on at once. When what comes behind is blocked the batch just grows: an operator that
//! makes at most a few records of one never has to know; one that can make many (a window that fires, a
//! burst of timers) asks [`Output::is_blocked`] between records and yields.

use super::{ChainVisitor, Flow, Push, Site};
use millstream_model::{Batch, Error, EventTime, NO_TIME, Result, Signal};
use std::any::Any;

/// Where an operator puts its results. See the module's text.
pub struct Output<O> {
    batch: Batch<O>,
    next: Box<dyn Push<O>>,
    capacity: usize,
    blocked: bool,
    failure: Option<Error>,
    time: EventTime,
    site: Site,
    sides: Vec<Box<dyn AnySide>>,
}

impl<O: 'static> Output<O> {
    /// An output into `next`, in batches of `capacity`.
    pub fn new(
        next: Box<dyn Push<O>>,
        capacity: usize,
        site: Site,
        sides: Vec<Box<dyn AnySide>>,
    ) -> Self {
        Output {
            batch: Batch::default(),
            next,
            capacity: capacity.max(1),
            blocked: false,
            failure: None,
            time: NO_TIME,
            site,
            sides,
        }
    }

    /// Emits a record with the time of the record or timer being processed.
    #[inline]
    pub fn emit(&mut self, value: O) {
        self.emit_at(value, self.time);
    }

    /// Emits a record with a time of its own.
    #[inline]
    pub fn emit_at(&mut self, value: O, time: EventTime) {
        self.batch.push(value, time);
        if self.batch.len() >= self.capacity && !self.blocked {
            self.send();
        }
    }

    /// Emits a record to a side output; it is dropped if nobody reads that output.
    pub fn emit_side<T: 'static>(&mut self, tag: &'static str, value: T) {
        let time = self.time;
        self.emit_side_at(tag, value, time);
    }

    /// Emits a record with a time of its own to a side output.
    pub fn emit_side_at<T: 'static>(&mut self, tag: &'static str, value: T, time: EventTime) {
        for side in &mut self.sides {
            if side.tag() == tag {
                let Some(side) = side.as_any().downcast_mut::<SideOutput<T>>() else {
                    panic!(
                        "side output `{tag}` carries records of another type: use one `OutputTag` constant for both ends"
                    );
                };
                side.output.emit_at(value, time);
                return;
            }
        }
    }

    /// Sets the time that `emit` gives to records.
    #[inline]
    pub fn set_time(&mut self, time: EventTime) {
        self.time = time;
    }

    /// Whether what comes behind takes nothing more for now.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked || self.sides.iter().any(|s| s.is_blocked())
    }

    /// Notes that everything emitted so far came before this watermark.
    #[inline]
    pub fn mark(&mut self, watermark: EventTime) {
        self.batch.mark(watermark);
        for side in &mut self.sides {
            side.mark(watermark);
        }
    }

    /// The site of the operator this output belongs to.
    pub fn site(&self) -> &Site {
        &self.site
    }

    fn send(&mut self) {
        match self.next.push(&mut self.batch) {
            Ok(flow) => self.blocked = flow == Flow::Blocked,
            Err(e) => {
                self.failure = Some(e);
                // Cursors yield at once; the failure is reported by the next flush.
                self.blocked = true;
            }
        }
        self.batch.clear();
        self.site.enter();
    }

    /// Pushes what is buffered and tells whether more can come.
    ///
    /// # Errors
    /// The failure of a link behind this output.
    pub fn flush(&mut self) -> Result<Flow> {
        if !self.blocked && !self.batch.is_blank() {
            self.send();
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut flow = if self.blocked { Flow::Blocked } else { Flow::Ready };
        for side in &mut self.sides {
            flow = flow.and(side.flush()?);
        }
        Ok(flow)
    }

    /// Resumes the links behind this output and then flushes.
    ///
    /// # Errors
    /// The failure of a link behind this output.
    pub fn resume(&mut self) -> Result<Flow> {
        self.blocked = self.next.resume()? == Flow::Blocked;
        for side in &mut self.sides {
            // A blocked side shows in the flush below.
            let _ = side.resume()?;
        }
        self.flush()
    }

    /// Passes a signal on to the main output and all side outputs; everything must have been flushed.
    ///
    /// # Errors
    /// The failure of a link behind this output.
    pub fn signal(&mut self, signal: Signal) -> Result<Flow> {
        let flow = self.next.signal(signal)?;
        self.blocked = flow == Flow::Blocked;
        let mut all = flow;
        for side in &mut self.sides {
            all = all.and(side.signal(signal)?);
        }
        Ok(all)
    }

    /// Opens everything behind.
    ///
    /// # Errors
    /// The failure of an operator's opening.
    pub fn open(&mut self) -> Result<()> {
        self.sides.iter_mut().try_for_each(|s| s.open())?;
        self.next.open()
    }

    /// Closes everything behind.
    ///
    /// # Errors
    /// The failure of an operator's closing.
    pub fn close(&mut self) -> Result<()> {
        self.next.close()?;
        self.sides.iter_mut().try_for_each(|s| s.close())
    }

    /// Shows the operators behind.
    ///
    /// # Errors
    /// The visitor's.
    pub fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        self.next.visit(visitor)?;
        self.sides.iter_mut().try_for_each(|s| s.visit(visitor))
    }
}

/// A side output, whatever its type.
pub trait AnySide: Send {
    /// The tag's name.
    fn tag(&self) -> &'static str;
    /// For the typed emission.
    fn as_any(&mut self) -> &mut dyn Any;
    /// See [`Output::is_blocked`].
    fn is_blocked(&self) -> bool;
    /// See [`Output::mark`].
    fn mark(&mut self, watermark: EventTime);
    /// See [`Output::flush`].
    fn flush(&mut self) -> Result<Flow>;
    /// See [`Output::resume`].
    fn resume(&mut self) -> Result<Flow>;
    /// See [`Output::signal`].
    fn signal(&mut self, signal: Signal) -> Result<Flow>;
    /// See [`Output::open`].
    fn open(&mut self) -> Result<()>;
    /// See [`Output::close`].
    fn close(&mut self) -> Result<()>;
    /// See [`Output::visit`].
    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()>;
}

/// A side output of records of type `T`.
pub struct SideOutput<T> {
    tag: &'static str,
    output: Output<T>,
}

impl<T: Send + 'static> SideOutput<T> {
    /// The side output called `tag`, into `next`.
    pub fn new(tag: &'static str, next: Box<dyn Push<T>>, capacity: usize, site: Site) -> Self {
        SideOutput { tag, output: Output::new(next, capacity, site, Vec::new()) }
    }
}

impl<T: Send + 'static> AnySide for SideOutput<T> {
    fn tag(&self) -> &'static str {
        self.tag
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
    fn is_blocked(&self) -> bool {
        self.output.is_blocked()
    }
    fn mark(&mut self, watermark: EventTime) {
        self.output.mark(watermark);
    }
    fn flush(&mut self) -> Result<Flow> {
        self.output.flush()
    }
    fn resume(&mut self) -> Result<Flow> {
        self.output.resume()
    }
    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.output.signal(signal)
    }
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }
    fn close(&mut self) -> Result<()> {
        self.output.close()
    }
    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        self.output.visit(visitor)
    }
}
