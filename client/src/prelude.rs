//! What most programs need.

pub use crate::stream::{DataStream, KeyedStream, OperatorSettings};
pub use crate::{Environment, JobState};
pub use millstream_model::time::{days, hours, millis, mins, secs};
pub use millstream_model::{Data, Error, EventTime, Key, MAX_TIME, NO_TIME, Result, Text};
pub use millstream_runtime::context::OperatorContext;
pub use millstream_runtime::function::{
    Collector, KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction, MapFunction, OutputTag,
    ProcessContext, ProcessFunction, TimeDomain, Timer,
};
pub use millstream_runtime::watermark::{WatermarkGenerator, WatermarkRule, Watermarks};
pub use millstream_state::{
    Aggregate, AggregatingState, ListState, MapState, ReducingState, StateSet, ValueState, states,
};
