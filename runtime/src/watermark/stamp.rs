//! Stamping: gives the records of a batch their times and puts in the watermarks that matter.
//!
//! A generator advances after every record, but a watermark only has to be *delivered* before a record it
//! has overtaken (one with a time at or below it), and at the end of the batch. So an in-order stream
//! carries one mark a batch, and a disordered one a mark per possibly late record, and lateness is exactly
//! what per-record watermarks give. Each strategy is one loop per batch, the user's closures inlined.

use super::generator::{BEFORE_ALL, WatermarkGenerator, Watermarks};
use crate::chain::{ChainVisitor, Flow, Push, Site, Stateful};
use crate::context::{Clock, TaskContext};
use millstream_model::{Batch, Error, EventTime, MAX_TIME, MIN_TIME, Mark, Result, Signal};
use millstream_state::{Items, Part, Visitor};
use serde::{Deserialize, Serialize};

/// Times within ±2^60 ms (about 36 million years): window arithmetic cannot overflow there.
const TIME_LIMIT: EventTime = 1 << 60;

fn out_of_range(time: EventTime) -> Error {
    Error::user(format!(
        "a record's timestamp is {time}, outside ±2^60 ms: event times are milliseconds since 1970; filter broken records out before timestamps are assigned, or check the unit"
    ))
}

/// One split's generator.
pub trait Stamp<T>: Send {
    /// Fills in times and marks of the batch's records from `from` on.
    ///
    /// # Errors
    /// If a time is out of range.
    fn stamp(&mut self, batch: &mut Batch<T>, clock: &dyn Clock) -> Result<()>;
    /// How far it is: what a snapshot keeps of it.
    fn marker(&mut self) -> &mut Marker;
}

/// The marks of a batch in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Marker {
    /// What the generator says after the records so far.
    watermark: EventTime,
    /// What has been put into a batch.
    marked: EventTime,
}

impl Marker {
    fn new() -> Self {
        Marker { watermark: BEFORE_ALL, marked: BEFORE_ALL }
    }

    /// The last watermark that went out.
    pub(crate) fn marked(&self) -> EventTime {
        self.marked
    }

    #[inline(always)]
    fn before(&mut self, at: usize, time: EventTime, marks: &mut Vec<Mark>) {
        if time <= self.watermark && self.marked < self.watermark {
            marks.push(Mark { at: at as u32, watermark: self.watermark });
            self.marked = self.watermark;
        }
    }

    /// The marks of a batch whose times are known, for a bound. Looks at the times only, twice: the check of
    /// their range is a loop of its own because it is vectorised.
    fn bound<T>(&mut self, batch: &mut Batch<T>, bound_ms: EventTime) -> Result<()> {
        let Batch { times, marks, .. } = batch;
        let (least, most) =
            times.iter().fold((0, 0), |(l, m): (EventTime, EventTime), &t| (l.min(t), m.max(t)));
        if least < -TIME_LIMIT || most > TIME_LIMIT {
            return Err(out_of_range(if least < -TIME_LIMIT { least } else { most }));
        }
        let mut watermark = self.watermark;
        for (i, &t) in times.iter().enumerate() {
            if t <= watermark {
                self.watermark = watermark;
                self.before(i, t, marks);
            }
            watermark = watermark.max(t - bound_ms - 1);
        }
        self.watermark = watermark;
        self.end(times.len(), marks);
        Ok(())
    }

    fn end(&mut self, n: usize, marks: &mut Vec<Mark>) {
        if self.marked < self.watermark {
            marks.push(Mark { at: n as u32, watermark: self.watermark });
            self.marked = self.watermark;
        }
    }
}

/// One loop for every strategy: `time` of a record, and the watermark after it.
#[inline(always)]
fn stamp_all<T>(
    batch: &mut Batch<T>,
    marker: &mut Marker,
    mut time: impl FnMut(&T) -> EventTime,
    mut after: impl FnMut(&T, EventTime, EventTime) -> EventTime,
) -> Result<()> {
    let n = batch.values.len();
    let mut times = std::mem::take(&mut batch.times);
    times.clear();
    times.reserve(n);
    let mut wrong = None;
    for (i, value) in batch.values.iter().enumerate() {
        let t = time(value);
        if !(-TIME_LIMIT..=TIME_LIMIT).contains(&t) {
            wrong = Some(t);
            break;
        }
        marker.before(i, t, &mut batch.marks);
        times.push(t);
        marker.watermark = after(value, t, marker.watermark);
    }
    if let Some(t) = wrong {
        return Err(out_of_range(t));
    }
    batch.times = times;
    marker.end(n, &mut batch.marks);
    Ok(())
}

pub(super) struct Bounded<F> {
    time: F,
    bound_ms: EventTime,
    marker: Marker,
}

impl<F> Bounded<F> {
    pub(super) fn new(time: F, bound_ms: EventTime) -> Self {
        Bounded { time, bound_ms: bound_ms.min(TIME_LIMIT), marker: Marker::new() }
    }
}

impl<T, F: Fn(&T) -> EventTime + Send> Stamp<T> for Bounded<F> {
    fn marker(&mut self) -> &mut Marker {
        &mut self.marker
    }

    fn stamp(&mut self, batch: &mut Batch<T>, _: &dyn Clock) -> Result<()> {
        batch.times.clear();
        batch.times.extend(batch.values.iter().map(&self.time));
        self.marker.bound(batch, self.bound_ms)
    }
}

pub(super) struct Keep {
    bound_ms: EventTime,
    marker: Marker,
}

impl Keep {
    pub(super) fn new(bound_ms: EventTime) -> Self {
        Keep { bound_ms: bound_ms.min(TIME_LIMIT), marker: Marker::new() }
    }
}

impl<T> Stamp<T> for Keep {
    fn marker(&mut self) -> &mut Marker {
        &mut self.marker
    }

    fn stamp(&mut self, batch: &mut Batch<T>, _: &dyn Clock) -> Result<()> {
        if batch.times.len() != batch.values.len() {
            return Err(Error::user(
                "the source brings no times, but its watermarks are `from_source`: name the field with `.on(|r| r.time)`",
            ));
        }
        self.marker.bound(batch, self.bound_ms)
    }
}

pub(super) struct Ingestion {
    marker: Marker,
}

impl Default for Ingestion {
    fn default() -> Self {
        Ingestion { marker: Marker::new() }
    }
}

impl<T> Stamp<T> for Ingestion {
    fn marker(&mut self) -> &mut Marker {
        &mut self.marker
    }

    fn stamp(&mut self, batch: &mut Batch<T>, clock: &dyn Clock) -> Result<()> {
        batch.times.clear();
        let now = clock.now_ms();
        stamp_all(batch, &mut self.marker, |_| now, |_, t, w| w.max(t - 1))
    }
}

pub(super) struct Punctuated<F, W> {
    time: F,
    watermark: W,
    marker: Marker,
}

impl<F, W> Punctuated<F, W> {
    pub(super) fn new(time: F, watermark: W) -> Self {
        Punctuated { time, watermark, marker: Marker::new() }
    }
}

impl<T, F, W> Stamp<T> for Punctuated<F, W>
where
    F: Fn(&T) -> EventTime + Send,
    W: Fn(&T, EventTime) -> Option<EventTime> + Send,
{
    fn marker(&mut self) -> &mut Marker {
        &mut self.marker
    }

    fn stamp(&mut self, batch: &mut Batch<T>, _: &dyn Clock) -> Result<()> {
        batch.times.clear();
        let (time, watermark) = (&self.time, &self.watermark);
        stamp_all(
            batch,
            &mut self.marker,
            |v| time(v),
            |v, t, w| w.max(watermark(v, t).unwrap_or(w)),
        )
    }
}

pub(super) struct Custom<F, G> {
    time: F,
    generator: G,
    marker: Marker,
}

impl<F, G> Custom<F, G> {
    pub(super) fn new(time: F, generator: G) -> Self {
        Custom { time, generator, marker: Marker::new() }
    }
}

impl<T, F: Fn(&T) -> EventTime + Send, G: WatermarkGenerator<T>> Stamp<T> for Custom<F, G> {
    fn marker(&mut self) -> &mut Marker {
        &mut self.marker
    }

    fn stamp(&mut self, batch: &mut Batch<T>, _: &dyn Clock) -> Result<()> {
        batch.times.clear();
        let (time, generator) = (&self.time, &mut self.generator);
        stamp_all(
            batch,
            &mut self.marker,
            |v| time(v),
            |v, t, w| {
                generator.on_record(v, t);
                w.max(generator.watermark())
            },
        )
    }
}

/// Assigns times and watermarks in the middle of a stream; what came before is forgotten.
pub struct StampOperator<T> {
    stamp: Option<Box<dyn Stamp<T>>>,
    next: Box<dyn Push<T>>,
    context: TaskContext,
    site: Site,
    ended: bool,
    saved: Items<Marker>,
    /// The watermark before a restore: those behind it have to hear of it again, which its generator will not say.
    told_before: Option<EventTime>,
}

impl<T> StampOperator<T> {
    /// The link that stamps records by `watermarks` and pushes them into `next`.
    pub fn new(
        watermarks: &Watermarks<T>,
        next: Box<dyn Push<T>>,
        context: TaskContext,
        site: Site,
    ) -> Self {
        let stamp = watermarks.stamp();
        let (ended, saved, told_before) = (false, Items::union(), None);
        StampOperator { stamp, next, context, site, ended, saved, told_before }
    }
}

impl<T> Stateful for StampOperator<T> {
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        if self.stamp.is_some() {
            visitor.part("watermark", &mut self.saved)?;
        }
        Ok(())
    }

    /// Goes on from the earliest of all subtasks' watermarks: what is read here now may have been read by another.
    fn restored(&mut self) -> Result<()> {
        let earliest = self.saved.values.drain(..).min();
        if let (Some(earliest), Some(stamp)) = (earliest, &mut self.stamp) {
            *stamp.marker() = earliest;
            self.told_before = Some(earliest.marked()).filter(|marked| *marked > MIN_TIME);
        }
        Ok(())
    }
}

impl<T: Send> Push<T> for StampOperator<T> {
    fn open(&mut self) -> Result<()> {
        self.next.open()
    }

    fn push(&mut self, batch: &mut Batch<T>) -> Result<Flow> {
        // Only the end of time is true in every time system.
        let ended = batch.marks.last().is_some_and(|m| m.watermark == MAX_TIME);
        batch.marks.clear();
        self.site.enter();
        match &mut self.stamp {
            Some(stamp) => {
                let stamped = stamp.stamp(batch, &*self.context.job().clock);
                self.site.locate(stamped)?;
            }
            None => batch.times.clear(),
        }
        if let Some(watermark) = self.told_before.take()
            && batch.marks.first().is_none_or(|mark| mark.at > 0)
        {
            batch.marks.insert(0, Mark { at: 0, watermark });
        }
        if ended && !self.ended {
            self.ended = true;
            batch.mark(MAX_TIME);
        }
        self.next.push(batch)
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        if let (Signal::Barrier(barrier), Some(stamp)) = (signal, &mut self.stamp) {
            self.saved.values = vec![*stamp.marker()];
            self.saved.freeze(barrier.kind);
        }
        self.next.signal(signal)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.next.resume()
    }

    fn close(&mut self) -> Result<()> {
        self.next.close()
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        let site = self.site.clone();
        visitor.operator(&site, self)?;
        self.next.visit(visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::SystemClock;
    use millstream_model::time::millis;

    fn stamp(times: &[i64], bound: u64) -> Batch<i64> {
        let mut s = Watermarks::bounded(millis(bound)).on(|t: &i64| *t).stamp().unwrap();
        let mut batch = Batch::of(times.to_vec());
        s.stamp(&mut batch, &SystemClock::default()).unwrap();
        batch
    }

    #[test]
    fn an_ordered_stream_has_one_mark() {
        assert_eq!(stamp(&[1, 2, 2, 5], 0).marks, [Mark { at: 4, watermark: 4 }]);
    }

    #[test]
    fn a_record_the_watermark_has_overtaken_is_preceded_by_it() {
        let b = stamp(&[10, 3, 4, 20, 18, 9], 2);
        assert_eq!(b.marks, [Mark { at: 1, watermark: 7 }, Mark { at: 5, watermark: 17 }]);
        assert_eq!(b.times, [10, 3, 4, 20, 18, 9]);
    }

    #[test]
    fn times_out_of_range_are_refused() {
        let mut s = Watermarks::monotonous().on(|t: &i64| *t).stamp().unwrap();
        let e = s.stamp(&mut Batch::of(vec![i64::MAX]), &SystemClock::default()).unwrap_err();
        assert!(e.to_string().contains("outside ±2^60"), "{e}");
    }
}
