//! Joins without windows: with what is near in time, or with what was valid at the time.

use super::report;
use crate::graph::OpContext;
use crate::stream::connected::add_two;
use crate::stream::keyed::stateful;
use crate::stream::{DataStream, KeyedStream};
use millstream_model::{Data, Error, Key, Result};
use millstream_runtime::function::{Collector, OutputTag};
use millstream_runtime::operator::{IntervalJoin, IntervalSpec, TemporalJoin};
use std::panic::Location;
use std::sync::Arc;

/// Records about to be joined with those near them in time.
#[must_use = "a join does nothing by itself: call `.apply(…)`"]
pub struct IntervalJoined<K, L, R> {
    pub(super) left: KeyedStream<K, L>,
    pub(super) right: KeyedStream<K, R>,
    pub(super) spec: Result<IntervalSpec>,
}

/// Records about to be joined with the version of their moment.
#[must_use = "a join does nothing by itself: call `.apply(…)`"]
pub struct TemporalJoined<K, L, R> {
    pub(super) left: KeyedStream<K, L>,
    pub(super) right: KeyedStream<K, R>,
}

impl<K: Key, L: Data, R: Data> IntervalJoined<K, L, R> {
    /// Sends records of the first stream that are late (behind the watermark) to a side output.
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
    /// let gaps = left.interval_join(right, 0, 1).late_left_to(&LATE).apply(|l, r| r.1 - l.1);
    /// let late = gaps.side_output(&LATE).collect();
    /// assert_eq!(gaps.execute_and_collect("gaps")?, [1]);
    /// assert!(late.take().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn late_left_to(mut self, tag: &OutputTag<L>) -> Self {
        self.spec = self.spec.map(|s| s.late_left_to(tag.name()));
        self
    }

    /// Sends records of the second stream that are late (behind the watermark) to a side output.
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
    /// let gaps = left.interval_join(right, 0, 1).late_right_to(&LATE).apply(|l, r| r.1 - l.1);
    /// let late = gaps.side_output(&LATE).collect();
    /// assert_eq!(gaps.execute_and_collect("gaps")?, [1]);
    /// assert!(late.take().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn late_right_to(mut self, tag: &OutputTag<R>) -> Self {
        self.spec = self.spec.map(|s| s.late_right_to(tag.name()));
        self
    }

    /// Makes one record of every pair; it carries the later of the two times.
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
    /// let gaps = left.interval_join(right, 2, 5).apply(|l, r| r.1 - l.1);
    /// assert_eq!(gaps.execute_and_collect("gaps")?, [2]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn apply<O: Data>(
        self,
        function: impl Fn(&L, &R) -> O + Send + Sync + 'static,
    ) -> DataStream<O> {
        let location = Location::caller();
        let (left, right) = (Arc::clone(&self.left.selector), Arc::clone(&self.right.selector));
        let spec = report(&self.left, self.spec, "interval_join", location);
        let f = Arc::new(function);
        let make = move |c: &OpContext| {
            let spec =
                spec.as_ref().ok_or_else(|| Error::internal("a join that is wrong was run"))?;
            let f = Arc::clone(&f);
            let apply = move |l: &L, r: &R, out: &mut Collector<'_, O>| {
                out.emit(f(l, r));
                Ok(())
            };
            Ok(IntervalJoin::new(spec, apply, Arc::clone(&left), Arc::clone(&right), &c.operator))
        };
        add_two(self.left.stream, self.right.stream, "interval_join", location, make, |node| {
            stateful(&["left", "right"])(node);
            node.needs_time = true;
        })
    }
}

impl<K: Key, L: Data, R: Data> TemporalJoined<K, L, R> {
    /// Makes one record of each record of the first stream and its version, `None` if there is none yet.
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
    /// let joined = left.temporal_join(right).apply(|l, version| (l.1, version.is_some()));
    /// assert_eq!(joined.execute_and_collect("as of")?, [(5, false), (6, false)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn apply<O: Data>(
        self,
        function: impl Fn(L, Option<&R>) -> O + Send + Sync + 'static,
    ) -> DataStream<O> {
        let (left, right) = (Arc::clone(&self.left.selector), Arc::clone(&self.right.selector));
        let f = Arc::new(function);
        let make = move |c: &OpContext| {
            let f = Arc::clone(&f);
            let apply = move |l: L, r: Option<&R>, out: &mut Collector<'_, O>| {
                out.emit(f(l, r));
                Ok(())
            };
            Ok(TemporalJoin::new(apply, Arc::clone(&left), Arc::clone(&right), &c.operator))
        };
        add_two(
            self.left.stream,
            self.right.stream,
            "temporal_join",
            Location::caller(),
            make,
            |node| {
                stateful(&["waiting", "versions"])(node);
                node.needs_time = true;
            },
        )
    }
}
