//! What most programs need.
//!
//! `use millstream::prelude::*;` brings the types that appear in a program's own signatures: streams and
//! their functions, time, state, the usual connectors. What only a connector or a test of one needs stays
//! in its module.

pub use crate::stream::{DataStream, KeyedStream, OperatorSettings};
pub use crate::{Environment, ExplainFormat, JobState};
pub use millstream_connectors::{
    BadRecord, FileSink, FileSource, Generator, LogSink, LogSource, OnError, Paced, Print,
    SocketSink, SocketSource, parse_with,
};
pub use millstream_model::time::{days, hours, millis, mins, secs};
pub use millstream_model::{Data, Error, EventTime, Key, MAX_TIME, NO_TIME, Result, Text};
pub use millstream_runtime::context::OperatorContext;
pub use millstream_runtime::function::{
    Collector, KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction, MapFunction, OutputTag,
    ProcessContext, ProcessFunction, TimeDomain, Timer,
};
pub use millstream_runtime::function_broadcast::{
    BroadcastContext, BroadcastProcessFunction, BroadcastSet, BroadcastState,
    BroadcastUpdateContext, KeyedBroadcastContext, KeyedBroadcastProcessFunction,
    KeyedBroadcastUpdateContext,
};
pub use millstream_runtime::metrics::{
    Accumulator, AccumulatorHandle, Counter, Gauge, HistogramHandle,
};
pub use millstream_runtime::operator::{AsyncCall, Retry};
pub use millstream_runtime::watermark::{WatermarkGenerator, WatermarkRule, Watermarks};
pub use millstream_state::{
    Aggregate, AggregatingState, Expiring, ListState, MapState, OperatorListState,
    OperatorStateSet, ReducingState, StateSet, Ttl, ValueState, operator_states, states,
};

pub use crate::aggregates::{Count, Max, Min, Sum};
pub use millstream_runtime::window::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountEvictor, CountTrigger,
    DeltaEvictor, DeltaTrigger, EventTimeTrigger, Global, ProcessingTimeTrigger, PurgingTrigger,
    Session, Sliding, TimeEvictor, TimeWindow, Trigger, TriggerContext, TriggerResult, Tumbling,
    WindowContext, WindowFunction,
};
