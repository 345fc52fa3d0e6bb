//! A clock that stands still and a reader's surroundings, so that the tests here need no task and no waiting.

mod crash;

pub(crate) use crash::crash_everywhere;

use millstream_model::{Batch, EventTime, Result};
use millstream_runtime::TaskContext;
use millstream_runtime::context::{Clock, JobContext, OperatorContext};
use millstream_runtime::metrics::Registry;
use millstream_runtime::operator::{Sink, SinkWriter};
use millstream_runtime::source::{ReadStatus, Source, SplitContext, SplitReader};
use millstream_runtime::task::{Wake, Waker};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A clock that tests set by hand.
#[derive(Debug, Default)]
pub(crate) struct HandClock(pub(crate) AtomicI64);

impl Clock for HandClock {
    fn now_us(&self) -> EventTime {
        self.0.load(Ordering::SeqCst)
    }
}

/// Lets a test wait until its reader is woken.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    /// Waits until woken since the last call. A minute without is a failure.
    pub(crate) fn wait(&self) {
        let rung = self.rung.lock().unwrap();
        let minute = Duration::from_secs(60);
        let (mut rung, waited) = self.ring.wait_timeout_while(rung, minute, |r| !*r).unwrap();
        assert!(!waited.timed_out(), "nobody woke the reader");
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap() = true;
        self.ring.notify_all();
    }
}

/// What readers and writers are given.
pub(crate) struct Surroundings {
    pub(crate) operator: OperatorContext,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) batch_size: usize,
}

impl Surroundings {
    pub(crate) fn new(subtask: usize, parallelism: usize) -> Self {
        let (clock, bell) = (Arc::new(HandClock::default()), Arc::new(Bell::default()));
        let job = JobContext {
            name: "test".into(),
            parameters: Default::default(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            registry: Registry::default(),
            alignment: Default::default(),
            batch_size: 1024,
            checkpoints: None,
        };
        let waker = Arc::clone(&bell) as Waker;
        let task = TaskContext::new(Arc::new(job), subtask, parallelism, 128, 0, waker);
        Surroundings { operator: task.operator("test"), clock, bell, batch_size: 1024 }
    }

    pub(crate) fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    pub(crate) fn split(&self) -> SplitContext {
        SplitContext {
            subtask: self.operator.subtask(),
            parallelism: self.operator.parallelism(),
            waker: Arc::clone(&self.bell) as Waker,
            batch_size: self.batch_size,
            operator: self.operator.clone(),
        }
    }

    /// A counter's value.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.operator.task().job().registry.count(name)
    }

    /// Readers of all splits of a source.
    pub(crate) fn open<S: Source>(
        &self,
        source: &S,
    ) -> Result<Vec<Box<dyn SplitReader<S::Out, S::Split>>>> {
        let splits = source.discover(self.operator.parallelism())?;
        splits.into_iter().map(|split| source.open(split, &self.split())).collect()
    }

    /// Everything that a source has, split by split. Waits where the source does.
    pub(crate) fn read_all<S: Source>(&self, source: &S) -> Result<Vec<S::Out>> {
        let mut all = Vec::new();
        for mut reader in self.open(source)? {
            self.drain(&mut *reader, &mut all)?;
        }
        Ok(all)
    }

    pub(crate) fn drain<T, S>(
        &self,
        reader: &mut dyn SplitReader<T, S>,
        all: &mut Vec<T>,
    ) -> Result<()> {
        let mut batch = Batch::default();
        loop {
            let status = reader.read(&mut batch)?;
            assert!(batch.len() <= self.batch_size, "a read gives at most a batch");
            all.append(&mut batch.values);
            match status {
                ReadStatus::More => {}
                ReadStatus::CaughtUp { .. } => self.bell.wait(),
                ReadStatus::Paused { until_us } => self.clock.0.store(until_us, Ordering::SeqCst),
                ReadStatus::End => return Ok(()),
            }
        }
    }

    /// Runs a sink's writer over the given batches, as its task would.
    pub(crate) fn write_all<T: Clone, S: Sink<T>>(&self, sink: &S, batches: &[&[T]]) -> Result<()> {
        let mut writer: Box<dyn SinkWriter<T>> = sink.writer(&self.operator)?;
        writer.open(&self.operator)?;
        for values in batches {
            let mut batch = Batch::of(values.to_vec());
            writer.write(&mut batch)?;
            assert!(batch.is_blank(), "a writer leaves its batch empty");
            writer.flush()?;
        }
        writer.finish()
    }
}
