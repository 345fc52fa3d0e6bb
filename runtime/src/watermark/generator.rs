//! Watermark strategies: where a record's time is found, and what it says about the time to come.
//!
//! A strategy is built in two steps, so that one rule can serve streams of different types: a
//! [`WatermarkRule`] (`Watermarks::bounded(secs(5)).idle_after(mins(1))`) and, with the field that holds
//! the time, [`Watermarks`] for one record type (`rule.on(|o: &Order| o.at)`).

use super::stamp::{Bounded, Custom, Ingestion, Keep, Punctuated, Stamp};
use millstream_model::time::as_millis;
use millstream_model::{EventTime, MIN_TIME};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// How long a split must be caught up and empty before it is left out of the watermark.
const DEFAULT_IDLE_AFTER: Duration = Duration::from_secs(60);

/// A watermark generator of the user's own.
pub trait WatermarkGenerator<T>: Send {
    /// Sees each record with its time.
    fn on_record(&mut self, value: &T, time: EventTime);
    /// The watermark that holds after the records seen so far: no record at or below it is expected any
    /// more. It may only grow; a smaller one than before is ignored.
    fn watermark(&self) -> EventTime;
}

/// How watermarks follow from timestamps, whatever the record.
#[derive(Clone, Debug)]
pub struct WatermarkRule {
    bound_ms: EventTime,
    options: Options,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) idle_after: Duration,
    pub(crate) aligned: Option<(String, EventTime)>,
}

impl Default for Options {
    fn default() -> Self {
        Options { idle_after: DEFAULT_IDLE_AFTER, aligned: None }
    }
}

impl WatermarkRule {
    /// A split that is caught up and empty for this long no longer holds event time back. Default 1 minute.
    #[must_use]
    pub fn idle_after(mut self, timeout: Duration) -> Self {
        self.options.idle_after = timeout;
        self
    }

    /// Pauses a split whose watermark is more than `max_drift` ahead of the slowest split of all sources
    /// in `group`, so that joins and windows need not buffer what a fast one runs ahead.
    #[must_use]
    pub fn aligned(mut self, group: impl Into<String>, max_drift: Duration) -> Self {
        self.options.aligned = Some((group.into(), as_millis(max_drift)));
        self
    }

    /// The strategy for records whose time `time` reads.
    pub fn on<T: 'static>(
        &self,
        time: impl Fn(&T) -> EventTime + Send + Sync + Clone + 'static,
    ) -> Watermarks<T> {
        let bound_ms = self.bound_ms;
        Watermarks {
            make: Some(Arc::new(move || Box::new(Bounded::new(time.clone(), bound_ms)))),
            options: self.options.clone(),
            describe: if bound_ms == 0 {
                "monotonous".into()
            } else {
                format!("bounded {bound_ms} ms")
            },
        }
    }

    /// The strategy for records that bring their time along (from a source that sets it).
    pub fn from_source<T: 'static>(&self) -> Watermarks<T> {
        let bound_ms = self.bound_ms;
        Watermarks {
            make: Some(Arc::new(move || Box::new(Keep::new(bound_ms)))),
            options: self.options.clone(),
            describe: format!("time from the source, bounded {bound_ms} ms"),
        }
    }
}

type MakeStamp<T> = Arc<dyn Fn() -> Box<dyn Stamp<T>> + Send + Sync>;

/// How records of type `T` get event times and watermarks. One generator runs per split.
pub struct Watermarks<T> {
    make: Option<MakeStamp<T>>,
    options: Options,
    describe: String,
}

impl<T> Clone for Watermarks<T> {
    fn clone(&self) -> Self {
        Watermarks {
            make: self.make.clone(),
            options: self.options.clone(),
            describe: self.describe.clone(),
        }
    }
}

impl Watermarks<PhantomData<()>> {
    /// Records are at most `bound` behind the latest one seen: after each record the watermark is the
    /// highest time so far − `bound` − 1 ms.
    pub fn bounded(bound: Duration) -> WatermarkRule {
        WatermarkRule { bound_ms: as_millis(bound), options: Options::default() }
    }

    /// Times never go back (within a split): `bounded` with a bound of zero.
    pub fn monotonous() -> WatermarkRule {
        WatermarkRule { bound_ms: 0, options: Options::default() }
    }

    /// No times, no watermarks: for streams without event time.
    pub fn none<T>() -> Watermarks<T> {
        Watermarks { make: None, options: Options::default(), describe: "none".into() }
    }

    /// Ingestion time: a record's time is the processing time at which its source read it.
    pub fn ingestion<T: 'static>() -> Watermarks<T> {
        Watermarks {
            make: Some(Arc::new(|| Box::new(Ingestion::default()))),
            options: Options::default(),
            describe: "ingestion time".into(),
        }
    }

    /// Some records say themselves how far time has come: `watermark` is asked after each.
    pub fn punctuated<T: 'static>(
        time: impl Fn(&T) -> EventTime + Send + Sync + Clone + 'static,
        watermark: impl Fn(&T, EventTime) -> Option<EventTime> + Send + Sync + Clone + 'static,
    ) -> Watermarks<T> {
        Watermarks {
            make: Some(Arc::new(move || {
                Box::new(Punctuated::new(time.clone(), watermark.clone()))
            })),
            options: Options::default(),
            describe: "punctuated".into(),
        }
    }

    /// A generator of the user's own, one per split.
    pub fn custom<T: 'static, G: WatermarkGenerator<T> + 'static>(
        time: impl Fn(&T) -> EventTime + Send + Sync + Clone + 'static,
        generator: impl Fn() -> G + Send + Sync + 'static,
    ) -> Watermarks<T> {
        Watermarks {
            make: Some(Arc::new(move || Box::new(Custom::new(time.clone(), generator())))),
            options: Options::default(),
            describe: "custom".into(),
        }
    }
}

impl<T> Watermarks<T> {
    /// See [`WatermarkRule::idle_after`].
    #[must_use]
    pub fn idle_after(mut self, timeout: Duration) -> Self {
        self.options.idle_after = timeout;
        self
    }

    /// See [`WatermarkRule::aligned`].
    #[must_use]
    pub fn aligned(mut self, group: impl Into<String>, max_drift: Duration) -> Self {
        self.options.aligned = Some((group.into(), as_millis(max_drift)));
        self
    }

    /// Whether records get times at all.
    pub fn assigns_times(&self) -> bool {
        self.make.is_some()
    }

    /// In words, for plans.
    pub fn describe(&self) -> &str {
        &self.describe
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// A fresh generator for one split.
    pub(crate) fn stamp(&self) -> Option<Box<dyn Stamp<T>>> {
        self.make.as_ref().map(|make| make())
    }
}

/// The watermark before the first record.
pub(crate) const BEFORE_ALL: EventTime = MIN_TIME;
