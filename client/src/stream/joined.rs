//! Joins of two keyed streams: on windows, on an interval of time, or with the version of a moment.

mod by_time;

use super::connected::add_two;
use super::keyed::stateful;
use super::{DataStream, KeyedStream};
use crate::graph::OpContext;
use millstream_model::{Data, Error, EventTime, Key, Result};
use millstream_runtime::function::{Collector, OutputTag};
use millstream_runtime::operator::IntervalSpec;
use millstream_runtime::window::build::{self, JoinSpec};
use millstream_runtime::window::content::{OneOf, Sides};
use millstream_runtime::window::join::{Groups, Pairs};
use millstream_runtime::window::{Assigner, Emit, WindowContext};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

pub use by_time::{IntervalJoined, TemporalJoined};

/// Two streams about to be joined on windows.
#[must_use = "a join does nothing by itself: call `.window(…)`"]
pub struct JoinedStreams<K, L, R> {
    left: KeyedStream<K, L>,
    right: KeyedStream<K, R>,
}

/// Two streams cut into common windows, about to be joined.
#[must_use = "a join does nothing by itself: call `.apply(…)` or `.co_group(…)`"]
pub struct WindowedJoin<K, L, R> {
    left: KeyedStream<K, L>,
    right: KeyedStream<K, R>,
    spec: Result<JoinSpec<L, R>>,
}

impl<K: Key, L: Data> KeyedStream<K, L> {
    /// Joins records of both streams that have the same key and lie in the same window.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let timed = |records: Vec<(u32, i64)>| {
    ///     env.from_collection(records).watermarks(Watermarks::monotonous().on(|r: &(u32, i64)| r.1))
    /// };
    /// let pairs = timed(vec![(1, 5), (2, 6), (1, 15)])
    ///     .key_by(|l| l.0)
    ///     .join(timed(vec![(1, 7), (2, 25)]).key_by(|r| r.0))
    ///     .window(Tumbling::of(millis(10)))
    ///     .apply(|l, r| (l.1, r.1));
    /// assert_eq!(pairs.execute_and_collect("pairs")?, [(5, 7)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn join<R: Data>(self, other: KeyedStream<K, R>) -> JoinedStreams<K, L, R> {
        JoinedStreams { left: self, right: other }
    }

    /// Joins each record with the other stream's records of the same key whose time lies between `lower` and
    /// `upper` (both inclusive, in milliseconds, may be negative) relative to its own.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let timed = |records: Vec<(u32, i64)>| {
    ///     env.from_collection(records).watermarks(Watermarks::monotonous().on(|r: &(u32, i64)| r.1))
    /// };
    /// let gaps = timed(vec![(1, 100)])
    ///     .key_by(|l| l.0)
    ///     .interval_join(timed(vec![(1, 90), (1, 120), (1, 160)]).key_by(|r| r.0), -20, 30)
    ///     .apply(|l, r| r.1 - l.1);
    /// let mut gaps = gaps.execute_and_collect("gaps")?;
    /// gaps.sort();
    /// assert_eq!(gaps, [-10, 20]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn interval_join<R: Data>(
        self,
        other: KeyedStream<K, R>,
        lower_ms: EventTime,
        upper_ms: EventTime,
    ) -> IntervalJoined<K, L, R> {
        IntervalJoined { left: self, right: other, spec: IntervalSpec::between(lower_ms, upper_ms) }
    }

    /// Joins each record with the newest version the other stream has of its key at the record's time
    /// (an as-of join). A record waits until the other stream's watermark has passed it; none is dropped.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let timed = |records: Vec<(u32, i64)>| {
    ///     env.from_collection(records).watermarks(Watermarks::monotonous().on(|r: &(u32, i64)| r.1))
    /// };
    /// let versions = timed(vec![(1, 10), (1, 20)]).key_by(|r| r.0);
    /// let joined = timed(vec![(1, 5), (1, 15), (1, 20)])
    ///     .key_by(|l| l.0)
    ///     .temporal_join(versions)
    ///     .apply(|l, version| (l.1, version.map(|v| v.1)));
    /// assert_eq!(joined.execute_and_collect("as of")?, [(5, None), (15, Some(10)), (20, Some(20))]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn temporal_join<R: Data>(self, versions: KeyedStream<K, R>) -> TemporalJoined<K, L, R> {
        TemporalJoined { left: self, right: versions }
    }
}

impl<K: Key, L: Data, R: Data> JoinedStreams<K, L, R> {
    /// The windows in which records meet.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let timed = |records: Vec<(u32, i64)>| {
    ///     env.from_collection(records).watermarks(Watermarks::monotonous().on(|r: &(u32, i64)| r.1))
    /// };
    /// let left = timed(vec![(1, 5), (1, 6)]).key_by(|l| l.0);
    /// let right = timed(vec![(1, 7), (2, 8)]).key_by(|r| r.0);
    /// let pairs = left.join(right).window(Session::gap(millis(10))).apply(|l, r| (l.1, r.1));
    /// assert_eq!(pairs.execute_and_collect("pairs")?, [(5, 7), (6, 7)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn window(self, assigner: impl Assigner<OneOf<L, R>>) -> WindowedJoin<K, L, R> {
        WindowedJoin { left: self.left, right: self.right, spec: JoinSpec::new(assigner) }
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone> WindowedJoin<K, L, R> {
    /// Keeps windows for so much longer; a record that comes in that time makes its window fire again.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let timed = |records: Vec<(u32, i64)>| {
    ///     env.from_collection(records).watermarks(Watermarks::monotonous().on(|r: &(u32, i64)| r.1))
    /// };
    /// let left = timed(vec![(1, 5), (1, 6)]).key_by(|l| l.0);
    /// let right = timed(vec![(1, 7), (2, 8)]).key_by(|r| r.0);
    /// let windows = left.join(right).window(Tumbling::of(millis(10))).allowed_lateness(secs(1));
    /// assert_eq!(windows.apply(|l, r| l.1 + r.1).execute_and_collect("sums")?, [12, 13]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.spec = self.spec.map(|s| s.allowed_lateness(lateness));
        self
    }

    /// Sends records of the first stream that are too late to a side output.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// const LATE: OutputTag<(u32, i64)> = OutputTag::new("late");
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let timed = |records: Vec<(u32, i64)>| {
    ///     env.from_collection(records).watermarks(Watermarks::monotonous().on(|r: &(u32, i64)| r.1))
    /// };
    /// let left = timed(vec![(1, 5), (1, 6)]).key_by(|l| l.0);
    /// let right = timed(vec![(1, 7), (2, 8)]).key_by(|r| r.0);
    /// let pairs = left.join(right).window(Tumbling::of(millis(10))).late_left_to(&LATE).apply(|l, r| l.1 + r.1);
    /// let late = pairs.side_output(&LATE).collect();
    /// assert_eq!(pairs.execute_and_collect("sums")?, [12, 13]);
    /// assert!(late.take().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn late_left_to(mut self, tag: &OutputTag<L>) -> Self {
        self.spec = self.spec.map(|s| s.late_left_to(tag.name()));
        self
    }

    /// Sends records of the second stream that are too late to a side output.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// const LATE: OutputTag<(u32, i64)> = OutputTag::new("late");
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let timed = |records: Vec<(u32, i64)>| {
    ///     env.from_collection(records).watermarks(Watermarks::monotonous().on(|r: &(u32, i64)| r.1))
    /// };
    /// let left = timed(vec![(1, 5), (1, 6)]).key_by(|l| l.0);
    /// let right = timed(vec![(1, 7), (2, 8)]).key_by(|r| r.0);
    /// let pairs = left.join(right).window(Tumbling::of(millis(10))).late_right_to(&LATE).apply(|l, r| l.1 + r.1);
    /// let late = pairs.side_output(&LATE).collect();
    /// assert_eq!(pairs.execute_and_collect("sums")?, [12, 13]);
    /// assert!(late.take().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn late_right_to(mut self, tag: &OutputTag<R>) -> Self {
        self.spec = self.spec.map(|s| s.late_right_to(tag.name()));
        self
    }

    /// Makes one record of every pair.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let timed = |records: Vec<(u32, i64)>| {
    ///     env.from_collection(records).watermarks(Watermarks::monotonous().on(|r: &(u32, i64)| r.1))
    /// };
    /// let left = timed(vec![(1, 5), (1, 6)]).key_by(|l| l.0);
    /// let right = timed(vec![(1, 7), (2, 8)]).key_by(|r| r.0);
    /// let pairs = left.join(right).window(Tumbling::of(millis(10))).apply(|l, r| (l.1, r.1));
    /// assert_eq!(pairs.execute_and_collect("pairs")?, [(5, 7), (6, 7)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn apply<O: Data>(
        self,
        function: impl Fn(&L, &R) -> O + Send + Sync + 'static,
    ) -> DataStream<O> {
        let f = Arc::new(function);
        self.emit("join", Location::caller(), move || {
            let f = Arc::clone(&f);
            Pairs::new(move |l: &L, r: &R, out: &mut Collector<'_, O>| {
                out.emit(f(l, r));
                Ok(())
            })
        })
    }

    /// Gives both sides of each key and window, either of which may be empty, to a function that emits.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let timed = |records: Vec<(u32, i64)>| {
    ///     env.from_collection(records).watermarks(Watermarks::monotonous().on(|r: &(u32, i64)| r.1))
    /// };
    /// let left = timed(vec![(1, 5), (1, 6)]).key_by(|l| l.0);
    /// let right = timed(vec![(1, 7), (2, 8)]).key_by(|r| r.0);
    /// let sides = left.join(right).window(Tumbling::of(millis(10))).co_group(|key, left, right, _, out| {
    ///     out.emit((*key, left.len(), right.len()));
    ///     Ok(())
    /// });
    /// let mut sides = sides.execute_and_collect("how many")?;
    /// sides.sort();
    /// assert_eq!(sides, [(1, 2, 1), (2, 0, 1)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn co_group<O: Data>(
        self,
        function: impl Fn(&K, &[L], &[R], &WindowContext<'_>, &mut Collector<'_, O>) -> Result<()>
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        let f = Arc::new(function);
        self.emit("co_group", Location::caller(), move || {
            let f = Arc::clone(&f);
            Groups::new(
                move |k: &K,
                      l: &[L],
                      r: &[R],
                      ctx: &WindowContext<'_>,
                      out: &mut Collector<'_, O>| { f(k, l, r, ctx, out) },
            )
        })
    }

    fn emit<E, O>(
        self,
        kind: &'static str,
        location: &'static Location<'static>,
        emit: impl Fn() -> E + Send + Sync + 'static,
    ) -> DataStream<O>
    where
        E: Emit<K, Sides<L, R>, Out = O>,
        O: Data,
    {
        let (left, right) = (Arc::clone(&self.left.selector), Arc::clone(&self.right.selector));
        let spec = report(&self.left, self.spec, kind, location);
        let needs_time = spec.as_ref().is_some_and(JoinSpec::needs_event_time);
        let make = move |c: &OpContext| {
            let spec =
                spec.as_ref().ok_or_else(|| Error::internal("a join that is wrong was run"))?;
            build::join(spec, emit(), Arc::clone(&left), Arc::clone(&right), c.operator.clone())
        };
        add_two(self.left.stream, self.right.stream, kind, location, make, |node| {
            stateful(&["window"])(node);
            node.needs_time = needs_time;
        })
    }
}

/// Keeps a mistake for `execute` to tell.
fn report<K, T, S>(
    stream: &KeyedStream<K, T>,
    spec: Result<S>,
    kind: &str,
    location: &Location<'_>,
) -> Option<S> {
    match spec {
        Ok(spec) => Some(spec),
        Err(e) => {
            let text = format!("operator `{kind}` ({}:{}): {e}", location.file(), location.line());
            stream.stream.env.graph_mut().mistakes.push(text);
            None
        }
    }
}
