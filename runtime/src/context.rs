//! What an operator may know of where it runs.

use crate::metrics::{Accumulator, AccumulatorHandle, Counter, Gauge, HistogramHandle, Registry};
use crate::task::Waker;
use crate::watermark::Alignment;
use millstream_model::{CheckpointMode, EventTime, Key, MAX_TIME, Place, Result};
use millstream_state::{KeyedStates, StateSet, ttl};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Processing time. A shell's clock, or a test's.
pub trait Clock: Send + Sync {
    /// Microseconds since the epoch: fine enough to pace a source.
    fn now_us(&self) -> EventTime;

    /// Milliseconds since the epoch.
    fn now_ms(&self) -> EventTime {
        self.now_us().div_euclid(1000)
    }
}

/// The machine's clock, which never runs backwards.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    start_us: EventTime,
}

impl Default for SystemClock {
    fn default() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SystemClock { start: Instant::now(), start_us: since_epoch.as_micros() as EventTime }
    }
}

impl Clock for SystemClock {
    fn now_us(&self) -> EventTime {
        self.start_us + self.start.elapsed().as_micros() as EventTime
    }
}

/// What is the same for all tasks of a job in this process.
pub struct JobContext {
    /// The job's name.
    pub name: String,
    /// The program's parameters.
    pub parameters: BTreeMap<String, String>,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// Metrics and accumulators.
    pub registry: Registry,
    /// How far the sources of each alignment group are.
    pub alignment: Alignment,
    /// Records in a full batch.
    pub batch_size: usize,
    /// How the job takes checkpoints, if it does.
    pub checkpoints: Option<CheckpointMode>,
}

/// One task's surroundings. Cheap to clone.
#[derive(Clone)]
pub struct TaskContext {
    job: Arc<JobContext>,
    subtask: usize,
    parallelism: usize,
    max_parallelism: u32,
    attempt: u32,
    number: usize,
    waker: Waker,
    next_tick: Arc<AtomicI64>,
    current: Arc<AtomicUsize>,
    n_calls: Arc<AtomicUsize>,
}

impl TaskContext {
    /// The surroundings of one subtask.
    pub fn new(
        job: Arc<JobContext>,
        subtask: usize,
        parallelism: usize,
        max_parallelism: u32,
        attempt: u32,
        waker: Waker,
    ) -> Self {
        TaskContext {
            job,
            subtask,
            parallelism,
            max_parallelism,
            attempt,
            number: 0,
            waker,
            next_tick: Arc::new(AtomicI64::new(MAX_TIME)),
            current: Arc::default(),
            n_calls: Arc::default(),
        }
    }

    /// The task's number in the job.
    #[must_use]
    pub fn numbered(mut self, number: usize) -> Self {
        self.number = number;
        self
    }

    /// What is the same for the whole job.
    pub fn job(&self) -> &JobContext {
        &self.job
    }

    /// Index of this subtask, from 0.
    pub fn subtask(&self) -> usize {
        self.subtask
    }

    /// Number of subtasks.
    pub fn parallelism(&self) -> usize {
        self.parallelism
    }

    /// Number of key groups.
    pub fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// The attempt that it runs in: how often tasks of the job were restarted before it was started.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Wakes the task: for completions that arrive on other threads.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Index of the operator whose code runs, for panics.
    pub fn current(&self) -> &Arc<AtomicUsize> {
        &self.current
    }

    /// Processing time in milliseconds since the epoch.
    pub fn now_ms(&self) -> EventTime {
        self.job.clock.now_ms()
    }

    /// Asks for a tick at this processing time, or before.
    pub fn request_tick(&self, at_ms: EventTime) {
        self.next_tick.fetch_min(at_ms, Ordering::Relaxed);
    }

    /// The earliest requested tick.
    pub fn next_tick(&self) -> EventTime {
        self.next_tick.load(Ordering::Relaxed)
    }

    /// Forgets all requests; operators repeat theirs on each tick.
    pub fn clear_ticks(&self) {
        self.next_tick.store(MAX_TIME, Ordering::Relaxed);
    }

    /// Asynchronous calls under way: what the task waits for while it answers that it is idle.
    pub fn n_calls(&self) -> usize {
        self.n_calls.load(Ordering::Relaxed)
    }

    /// Notes that a call has begun.
    pub(crate) fn begin_call(&self) {
        self.n_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the reply to a call was taken.
    pub(crate) fn end_call(&self) {
        self.n_calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// The context of one operator of this task.
    pub fn operator(&self, name: &str) -> OperatorContext {
        OperatorContext { task: self.clone(), name: name.into() }
    }

    /// The place of an operator of this task.
    pub fn place(&self, operator: &str) -> Place {
        Place {
            operator: operator.into(),
            subtask: self.subtask,
            parallelism: self.parallelism,
            attempt: self.attempt,
        }
    }
}

/// What a function may know of where it runs.
#[derive(Clone)]
pub struct OperatorContext {
    task: TaskContext,
    name: Arc<str>,
}

impl OperatorContext {
    /// The operator's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Index of this subtask, from 0.
    pub fn subtask(&self) -> usize {
        self.task.subtask
    }

    /// Number of subtasks.
    pub fn parallelism(&self) -> usize {
        self.task.parallelism
    }

    /// The attempt that it runs in: how often tasks of the job were restarted before it was started.
    pub fn attempt(&self) -> u32 {
        self.task.attempt
    }

    /// A parameter of the program.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.task.job.parameters.get(name).map(String::as_str)
    }

    /// Processing time in milliseconds since the epoch.
    pub fn now_ms(&self) -> EventTime {
        self.task.now_ms()
    }

    /// Empty tables for these states, with this operator's clock.
    pub(crate) fn states<K: Key>(&self, set: StateSet<K>) -> Result<KeyedStates> {
        let task = self.task.clone();
        KeyedStates::new(set, &(Arc::new(move || task.now_ms()) as ttl::Clock))
    }

    /// The task this operator runs in.
    pub fn task(&self) -> &TaskContext {
        &self.task
    }

    /// A counter, shown in the job's metrics and summed over subtasks in its result.
    pub fn counter(&self, name: &str) -> Counter {
        self.task.job.registry.counter(&self.name, name, self.task.subtask)
    }

    /// A gauge, shown in the job's metrics.
    pub fn gauge(&self, name: &str) -> Gauge {
        self.task.job.registry.gauge(&self.name, name, self.task.subtask)
    }

    /// A histogram, shown in the job's metrics.
    pub fn histogram(&self, name: &str) -> HistogramHandle {
        self.task.job.registry.histogram(&self.name, name, self.task.subtask)
    }

    /// An accumulator: a value of this subtask that is merged over all subtasks into the job's result.
    pub fn accumulator<A: Accumulator>(&self, name: &str) -> AccumulatorHandle<A> {
        self.task.job.registry.accumulator(name, self.task.number)
    }
}
