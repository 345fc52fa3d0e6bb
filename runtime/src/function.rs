//! What users implement when a closure is not enough, and what their functions are given.
//!
//! Closures are `Fn`: hidden mutable state would be lost at recovery, and the compiler says so. A function
//! with state is a struct that implements one of these traits; it is cloned once per subtask attempt, its
//! fields are scratch and never restored, and what must survive lives in declared states.

use crate::chain::Output;
use crate::context::OperatorContext;
use millstream_model::{Data, EventTime, Key, Result};
use millstream_state::handle::Descriptor;
use millstream_state::{
    KeyedStates, OperatorListState, OperatorStateSet, OperatorStates, StateSet, TimerQueue,
};
use serde::{Deserialize, Serialize};
use std::cell::{RefCell, RefMut};
use std::marker::PhantomData;

/// Names a side output and the type of its records. A constant, used where records are emitted and where
/// they are read.
#[derive(Debug)]
pub struct OutputTag<T> {
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

impl<T> OutputTag<T> {
    /// The side output called `name`, unique within its operator.
    pub const fn new(name: &'static str) -> Self {
        OutputTag { name, record: PhantomData }
    }

    /// The tag's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// Takes what a function emits.
pub struct Collector<'a, O> {
    out: &'a mut Output<O>,
}

impl<'a, O: 'static> Collector<'a, O> {
    /// A collector into an operator's output.
    pub fn new(out: &'a mut Output<O>) -> Self {
        Collector { out }
    }

    /// Emits a record with the time of the record or timer being processed.
    #[inline]
    pub fn emit(&mut self, value: O) {
        self.out.emit(value);
    }

    /// Emits a record with a time of its own.
    #[inline]
    pub fn emit_at(&mut self, value: O, time: EventTime) {
        self.out.emit_at(value, time);
    }

    /// Emits a record to a side output; it is dropped if nobody reads that output.
    #[inline]
    pub fn side<T: 'static>(&mut self, tag: &OutputTag<T>, value: T) {
        self.out.emit_side(tag.name, value);
    }
}

/// A mapping with a life cycle: opens a connection, counts, closes (Flink's `RichMapFunction`).
pub trait MapFunction<I>: Clone + Send + 'static {
    /// What it makes of a record.
    type Out;
    /// Called once per subtask before the first record.
    ///
    /// # Errors
    /// Whatever prevents the job from starting.
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// Maps one record.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn map(&mut self, value: I) -> Result<Self::Out>;
    /// Called once after the last record.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a process function on a stream without keys may ask.
pub struct ProcessContext<'a> {
    pub(crate) time: EventTime,
    pub(crate) watermark: EventTime,
    pub(crate) operator: &'a OperatorContext,
    pub(crate) states: Option<&'a OperatorStates>,
}

impl ProcessContext<'_> {
    /// Event time of the record, [`NO_TIME`](millstream_model::NO_TIME) if the stream has none.
    pub fn timestamp(&self) -> EventTime {
        self.time
    }
    /// The current watermark.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }
    /// Processing time in milliseconds since the epoch.
    pub fn now_ms(&self) -> EventTime {
        self.operator.now_ms()
    }
    /// Where the function runs; metrics and accumulators.
    pub fn operator(&self) -> &OperatorContext {
        self.operator
    }
    /// The elements of a declared operator state of this subtask. Several states may be held at once.
    ///
    /// # Panics
    /// If the state is not in `STATES` or is held already; the job ends with that message.
    pub fn operator_state<T: Data>(&self, state: &OperatorListState<T>) -> RefMut<'_, Vec<T>> {
        match self.states {
            Some(states) => states.of(state),
            None => panic!("functions with broadcast states have no operator states of their own"),
        }
    }
}

/// Any number of outputs per record, side outputs, a life cycle, operator state; no keyed state.
///
/// What it holds in fields is lost when the job fails. So it keeps what must survive in operator states, or
/// emits it in [`before_snapshot`](ProcessFunction::before_snapshot).
pub trait ProcessFunction<I>: Clone + Send + 'static {
    /// What it emits.
    type Out;
    /// The operator states it uses: `const STATES: OperatorStateSet = operator_states![BUFFER];`
    const STATES: OperatorStateSet = OperatorStateSet::NONE;
    /// Called once per subtask before the first record; its states have been restored.
    ///
    /// # Errors
    /// Whatever prevents the job from starting.
    fn open(&mut self, ctx: &mut ProcessContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }
    /// Processes one record.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn process(
        &mut self,
        value: I,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// Called before a snapshot is taken: what is emitted here belongs to the time before the snapshot, as do
    /// changes of states.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn before_snapshot(
        &mut self,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let _ = (ctx, out);
        Ok(())
    }
    /// Called once after the last record, of the input or before a savepoint that ends event time; may still emit.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn end(
        &mut self,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let _ = (ctx, out);
        Ok(())
    }
}

/// Which clock a timer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeDomain {
    /// The watermark.
    EventTime,
    /// The machine's clock.
    ProcessingTime,
}

/// A timer that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The moment it was set for.
    pub time: EventTime,
    /// Its clock.
    pub domain: TimeDomain,
}

/// Both timer queues of an operator.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    pub(crate) event: TimerQueue<K>,
    pub(crate) processing: TimerQueue<K>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers { event: TimerQueue::default(), processing: TimerQueue::default() }
    }
}

/// Sets and deletes the timers of one key.
pub struct KeyTimers<'a, K> {
    timers: &'a RefCell<Timers<K>>,
    key: &'a K,
    hash: u64,
    operator: &'a OperatorContext,
}

impl<K: Key> KeyTimers<'_, K> {
    /// Calls `on_timer` when the watermark reaches `time`. Setting a timer twice fires it once.
    pub fn at(&self, time: EventTime) {
        self.timers.borrow_mut().event.set(time, self.hash, self.key, &());
    }
    /// Deletes an event-time timer.
    pub fn delete(&self, time: EventTime) {
        self.timers.borrow_mut().event.delete(time, self.hash, self.key, &());
    }
    /// Calls `on_timer` when the clock reaches `time_ms`.
    pub fn at_processing_time(&self, time_ms: EventTime) {
        self.timers.borrow_mut().processing.set(time_ms, self.hash, self.key, &());
        self.operator.task().request_tick(time_ms);
    }
    /// Deletes a processing-time timer.
    pub fn delete_processing_time(&self, time_ms: EventTime) {
        self.timers.borrow_mut().processing.delete(time_ms, self.hash, self.key, &());
    }
}

/// What a function on a keyed stream may ask and keep.
pub struct KeyedContext<'a, K> {
    pub(crate) key: &'a K,
    pub(crate) hash: u64,
    pub(crate) time: EventTime,
    pub(crate) watermark: EventTime,
    pub(crate) states: &'a KeyedStates,
    pub(crate) timers: &'a RefCell<Timers<K>>,
    pub(crate) operator: &'a OperatorContext,
}

impl<K: Key> KeyedContext<'_, K> {
    /// The key of the record or timer.
    pub fn key(&self) -> &K {
        self.key
    }
    /// Event time of the record or timer, [`NO_TIME`](millstream_model::NO_TIME) if the stream has none.
    pub fn timestamp(&self) -> EventTime {
        self.time
    }
    /// The current watermark.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }
    /// Processing time in milliseconds since the epoch.
    pub fn now_ms(&self) -> EventTime {
        self.operator.now_ms()
    }
    /// A declared state of this key. Several may be held at once.
    ///
    /// # Panics
    /// If the state is not in `STATES` or is held already; the job ends with that message.
    #[inline]
    pub fn state<'s, D: Descriptor>(&'s self, descriptor: &'s D) -> D::Handle<'s, K> {
        self.states.of(descriptor, self.key, self.hash)
    }
    /// The timers of this key.
    pub fn timers(&self) -> KeyTimers<'_, K> {
        KeyTimers { timers: self.timers, key: self.key, hash: self.hash, operator: self.operator }
    }
    /// Where the function runs; metrics and accumulators.
    pub fn operator(&self) -> &OperatorContext {
        self.operator
    }
}

/// State, timers and side outputs per key (Flink's `KeyedProcessFunction`).
pub trait KeyedProcessFunction<K: Key, I>: Clone + Send + 'static {
    /// What it emits.
    type Out;
    /// The states it uses: `const STATES: StateSet<K> = states![LAST];`
    const STATES: StateSet<K> = StateSet::NONE;
    /// Called once per subtask before the first record.
    ///
    /// # Errors
    /// Whatever prevents the job from starting.
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// Processes one record.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn process(
        &mut self,
        value: I,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// A timer of a key fired.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let _ = (timer, ctx, out);
        Ok(())
    }
    /// Called once after the last record.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Two streams with the same key, with common state and timers (Flink's `KeyedCoProcessFunction`).
pub trait KeyedCoProcessFunction<K: Key, L, R>: Clone + Send + 'static {
    /// What it emits.
    type Out;
    /// The states it uses.
    const STATES: StateSet<K> = StateSet::NONE;
    /// Called once per subtask before the first record.
    ///
    /// # Errors
    /// Whatever prevents the job from starting.
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// Processes one record of the first stream.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn left(
        &mut self,
        value: L,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// Processes one record of the second stream.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn right(
        &mut self,
        value: R,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// A timer of a key fired.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let _ = (timer, ctx, out);
        Ok(())
    }
    /// Called once after the last record.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
