//! What every task measures of itself, under the name of its first operator.
//!
//! Once per batch, never per record, and without a clock of its own. The ends of a chain count: a gate's head what
//! comes in, writers what goes out. They are handed their cells by a visitor when the task starts, so that nobody who
//! assembles a chain has to know of them. Only what concerns checkpoints is made when the first one comes.

use super::CHECKPOINT_HOLD;
use crate::chain::{ChainVisitor, Site, Stateful};
use crate::context::TaskContext;
use crate::metrics::{Counter, Gauge, HistogramHandle, Times};
use millstream_model::{Batch, EventTime, MIN_TIME, Result};
use std::sync::Arc;

/// Time in which the task was stepped.
pub const BUSY: &str = "busy_us";
/// Time in which it had nothing to do.
pub const IDLE: &str = "idle_us";
/// Time in which it waited for room downstream.
pub const BACKPRESSURED: &str = "backpressured_us";
/// Records that came from other tasks.
pub const RECORDS_IN: &str = "records_in";
/// Batches that they came in.
pub const BATCHES_IN: &str = "batches_in";
/// Records that were sent to other tasks.
pub const RECORDS_OUT: &str = "records_out";
/// Batches that they were sent in.
pub const BATCHES_OUT: &str = "batches_out";
/// Their size, as writers estimate it.
pub const BYTES_OUT: &str = "bytes_out";
/// The event time that the task's input has reached.
pub const WATERMARK: &str = "watermark";
/// For how long a barrier held back the channel that brought it first.
pub const ALIGNMENT: &str = "alignment_us";
/// Size of the last snapshot that was written.
pub const STATE_BYTES: &str = "state_bytes";

/// What a task takes.
#[derive(Clone, Debug)]
pub struct Taken {
    records: Counter,
    batches: Counter,
    watermark: Gauge,
    reached: EventTime,
}

impl Default for Taken {
    fn default() -> Self {
        let (records, batches, watermark) = Default::default();
        Taken { records, batches, watermark, reached: MIN_TIME }
    }
}

impl Taken {
    /// Counts a batch. What brings a watermark alone is none.
    #[inline]
    pub(crate) fn count<T>(&self, batch: &Batch<T>) {
        if !batch.is_empty() {
            self.records.add(batch.len() as u64);
            self.batches.inc();
        }
    }

    /// Notes the watermark that stands in a batch, if one does.
    #[inline]
    pub(crate) fn reach_mark<T>(&mut self, batch: &Batch<T>) {
        if let Some(last) = batch.marks.last() {
            self.reach(last.watermark);
        }
    }

    /// Notes a watermark. After a restore, older ones may be told again.
    #[inline]
    pub(crate) fn reach(&mut self, watermark: EventTime) {
        if watermark > self.reached {
            self.reached = watermark;
            self.watermark.set(watermark);
        }
    }
}

/// What a task sends, over all its writers.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    records: Counter,
    batches: Counter,
    bytes: Counter,
}

impl Sent {
    /// Counts a batch of so many records. What brings a watermark alone is none.
    #[inline]
    pub(crate) fn count(&self, n_records: usize, bytes: usize) {
        if n_records > 0 {
            self.records.add(n_records as u64);
            self.batches.inc();
            self.bytes.add(bytes as u64);
        }
    }
}

/// The cells of a task.
pub struct Measures {
    context: TaskContext,
    operator: Arc<str>,
    /// What comes in.
    pub taken: Taken,
    /// What goes out.
    pub sent: Sent,
    pub(super) times: Times,
    held_us: Option<HistogramHandle>,
    alignment_us: Option<HistogramHandle>,
    state_bytes: Option<Gauge>,
}

impl Measures {
    /// Those of the task in this context whose first operator is called so.
    pub(super) fn new(context: &TaskContext, operator: &str) -> Self {
        let (registry, subtask) = (&context.job().registry, context.subtask());
        let counter = |name| registry.counter(operator, name, subtask);
        let watermark = registry.gauge(operator, WATERMARK, subtask);
        watermark.set(MIN_TIME);
        let taken = Taken {
            records: counter(RECORDS_IN),
            batches: counter(BATCHES_IN),
            watermark,
            reached: MIN_TIME,
        };
        let sent = Sent {
            records: counter(RECORDS_OUT),
            batches: counter(BATCHES_OUT),
            bytes: counter(BYTES_OUT),
        };
        let times = registry.times(operator, subtask);
        let operator = operator.into();
        let context = context.clone();
        let (held_us, alignment_us, state_bytes) = (None, None, None);
        Measures { context, operator, taken, sent, times, held_us, alignment_us, state_bytes }
    }

    fn histogram(&self, name: &str) -> HistogramHandle {
        self.context.job().registry.histogram(&self.operator, name, self.context.subtask())
    }

    /// A checkpoint has held the task up for so long.
    pub(super) fn held(&mut self, us: EventTime) {
        let cell = self.held_us.take().unwrap_or_else(|| self.histogram(CHECKPOINT_HOLD));
        cell.record(us.max(1).unsigned_abs());
        self.held_us = Some(cell);
    }

    /// A barrier has come through all inputs, so long after it came through the first.
    pub(super) fn aligned(&mut self, us: EventTime) {
        let cell = self.alignment_us.take().unwrap_or_else(|| self.histogram(ALIGNMENT));
        cell.record(us.max(0).unsigned_abs());
        self.alignment_us = Some(cell);
    }

    /// A snapshot of so many bytes was written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        let cell = self.state_bytes.take().unwrap_or_else(|| {
            let registry = &self.context.job().registry;
            registry.gauge(&self.operator, STATE_BYTES, self.context.subtask())
        });
        cell.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.state_bytes = Some(cell);
    }
}

/// Hands the ends of a chain their cells.
pub(super) struct Measure<'m>(pub(super) &'m Measures);

impl ChainVisitor for Measure<'_> {
    fn operator(&mut self, _: &Site, operator: &mut dyn Stateful) -> Result<()> {
        operator.measured(self.0);
        Ok(())
    }
}
