//! The head of a source task: reads its splits in turn, stamps what they give, and pushes it on.
//!
//! Barriers begin here. What is saved is each split with the state of its watermark generator, so that after a
//! restore the same records follow and the same ones are late; splits that have ended are left out.

use super::{OpenSplit, ReadStatus, SplitReader};
use crate::chain::{ChainVisitor, Flow, Push, Site, Stateful};
use crate::context::TaskContext;
use crate::metrics::Counter;
use crate::task::{Head, Measures, Polled, Taken};
use crate::watermark::{Change, Marker, Member, Stamp, Valve, Watermarks};
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Barrier, Batch, Data, EventTime, MAX_TIME, MIN_TIME, Result, Signal};
use millstream_state::{Items, Part, Visitor};

struct Split<T, S> {
    reader: Box<dyn SplitReader<T, S>>,
    stamp: Option<Box<dyn Stamp<T>>>,
    /// Since when it has been caught up and empty.
    empty_since_us: Option<EventTime>,
    is_idle: bool,
    ended: bool,
    watermark: EventTime,
    /// Its place in the group, and how far it may be ahead.
    aligned: Option<(Member, EventTime)>,
}

/// See the module's text.
pub struct SourceHead<T, S> {
    /// What is opened when the task starts, with the state of its watermark generator after a restore.
    saved: Items<(S, Option<Marker>)>,
    open: OpenSplit<T, S>,
    watermarks: Watermarks<T>,
    splits: Vec<Split<T, S>>,
    next: usize,
    /// Whether a split is read to its end before the next one, unless it has nothing.
    in_turn: bool,
    valve: Valve,
    bounded: bool,
    idle_after_us: EventTime,
    batch: Batch<T>,
    link: Box<dyn Push<T>>,
    context: TaskContext,
    site: Site,
    records: Counter,
    taken: Taken,
    /// A status to pass on before the next record.
    status: Option<Signal>,
    said_end_of_time: bool,
}

/// How often an aligned split that ran ahead looks whether the others have caught up.
const ALIGNMENT_POLL_US: EventTime = 10_000;

impl<T: Send + 'static, S: Data> SourceHead<T, S> {
    /// A head that reads these splits into `link`.
    pub fn new(
        splits: Vec<S>,
        open: OpenSplit<T, S>,
        watermarks: Watermarks<T>,
        bounded: bool,
        link: Box<dyn Push<T>>,
        context: TaskContext,
        site: Site,
    ) -> Self {
        let mut saved = Items::split();
        saved.values = splits.into_iter().map(|split| (split, None)).collect();
        let idle_after = watermarks.options().idle_after;
        let records = context.operator(&site.place().operator).counter("records");
        SourceHead {
            saved,
            open,
            watermarks,
            splits: Vec::new(),
            valve: Valve::new(0),
            next: 0,
            in_turn: false,
            bounded,
            idle_after_us: idle_after.as_micros().try_into().unwrap_or(MAX_TIME),
            batch: Batch::default(),
            link,
            context,
            site,
            records,
            taken: Taken::default(),
            status: None,
            said_end_of_time: false,
        }
    }

    /// Reads one split after the other, if there are no watermarks that would wait for the last one.
    #[must_use]
    pub fn in_turn(mut self, in_turn: bool) -> Self {
        self.in_turn = in_turn && !self.watermarks.assigns_times();
        self
    }

    /// Opens the splits, and tells again the watermark that was told before a restore.
    fn open_splits(&mut self) -> Result<()> {
        let splits = std::mem::take(&mut self.saved.values);
        self.valve = Valve::new(splits.len());
        for (index, (split, marker)) in splits.into_iter().enumerate() {
            let mut stamp = self.watermarks.stamp();
            let mut watermark = MIN_TIME;
            if let (Some(marker), Some(stamp)) = (marker, &mut stamp)
                && !is_planted(Bug::ForgetWatermark)
            {
                watermark = marker.marked();
                *stamp.marker() = marker;
            }
            if let Some(reached) = self.valve.advance(index, watermark) {
                self.batch.mark(reached);
            }
            let aligned = self.watermarks.options().aligned.as_ref().map(|(name, drift)| {
                let member = self.context.job().alignment.group(name).join();
                member.report(watermark);
                (member, *drift)
            });
            self.splits.push(Split {
                reader: (self.open)(split)?,
                stamp,
                empty_since_us: None,
                is_idle: false,
                ended: false,
                watermark,
                aligned,
            });
        }
        Ok(())
    }

    /// Puts the watermarks of the whole subtask in place of those of one split.
    fn combine(&mut self, split: usize) {
        let this = &mut self.splits[split];
        if let Some(last) = self.batch.marks.last() {
            this.watermark = last.watermark;
        }
        if let Some((member, _)) = &this.aligned {
            member.report(this.watermark);
        }
        let valve = &mut self.valve;
        self.batch.marks.retain_mut(|m| match valve.advance(split, m.watermark) {
            Some(w) => {
                m.watermark = w;
                true
            }
            None => false,
        });
    }

    fn apply(&mut self, change: Change) {
        if let Some(w) = change.watermark {
            self.batch.mark(w);
        }
        // The end is told by `poll`, when every split has ended.
        if change.signal.is_some_and(|s| s != Signal::End) {
            self.status = change.signal;
        }
    }

    /// Whether a split has to wait for the slowest of its group.
    fn is_ahead(&self, split: usize) -> bool {
        let this = &self.splits[split];
        let Some((member, drift)) = &this.aligned else { return false };
        this.watermark != MIN_TIME
            && this.watermark > member.report(this.watermark).saturating_add(*drift)
    }

    fn fall_idle(&mut self, split: usize, now: EventTime) -> EventTime {
        let this = &mut self.splits[split];
        if self.bounded || this.is_idle {
            return MAX_TIME;
        }
        let idle_at = this.empty_since_us.get_or_insert(now).saturating_add(self.idle_after_us);
        if idle_at > now {
            return idle_at;
        }
        this.is_idle = true;
        if let Some((member, _)) = &this.aligned {
            member.report(MAX_TIME);
        }
        let change = self.valve.idle(split);
        self.apply(change);
        MAX_TIME
    }

    fn read(&mut self, split: usize) -> Result<ReadStatus> {
        self.site.enter();
        let status = self.splits[split].reader.read(&mut self.batch)?;
        if !self.batch.is_empty() {
            self.records.add(self.batch.len() as u64);
            let this = &mut self.splits[split];
            this.empty_since_us = None;
            if std::mem::take(&mut this.is_idle) {
                let change = self.valve.active(split);
                // The batch already holds records: only the status matters, time cannot have moved.
                self.status = change.signal;
            }
            match &mut self.splits[split].stamp {
                Some(stamp) => stamp.stamp(&mut self.batch, &*self.context.job().clock)?,
                None => self.batch.times.clear(),
            }
            self.combine(split);
        }
        Ok(status)
    }

    fn hand_on(&mut self) -> Result<Flow> {
        let mut flow = Flow::Ready;
        // `Active` must come before the records that ended the idleness, `Idle` after the last ones.
        if self.status == Some(Signal::Active) {
            self.status = None;
            flow = self.link.signal(Signal::Active)?;
        }
        if flow == Flow::Ready && !self.batch.is_blank() {
            self.taken.reach_mark(&self.batch);
            flow = self.link.push(&mut self.batch)?;
            self.batch.clear();
        }
        Ok(flow)
    }

    fn poll_splits(&mut self) -> Result<Polled> {
        if self.status.is_some() || !self.batch.is_blank() {
            if self.status == Some(Signal::Idle) && self.batch.is_blank() {
                self.status = None;
                return Ok(Polled::Took(self.link.signal(Signal::Idle)?));
            }
            return Ok(Polled::Took(self.hand_on()?));
        }
        if self.valve.is_ended() {
            if !self.said_end_of_time {
                self.said_end_of_time = true;
                self.batch.mark(MAX_TIME);
                return Ok(Polled::Took(self.hand_on()?));
            }
            return Ok(Polled::End);
        }
        let now = self.context.job().clock.now_us();
        let mut until_us = MAX_TIME;
        for _ in 0..self.splits.len() {
            let split = self.next;
            self.next = (self.next + 1) % self.splits.len();
            if self.splits[split].ended {
                continue;
            }
            if self.is_ahead(split) {
                until_us = until_us.min(now + ALIGNMENT_POLL_US);
                continue;
            }
            let status = self.read(split)?;
            match status {
                ReadStatus::More if self.in_turn => self.next = split,
                ReadStatus::More => {}
                ReadStatus::CaughtUp { until_us: at } => {
                    if self.batch.is_empty() {
                        let idle_at = self.fall_idle(split, now);
                        until_us = until_us.min(at).min(idle_at);
                    }
                }
                ReadStatus::Paused { until_us: at } => {
                    until_us = until_us.min(at);
                }
                ReadStatus::End => {
                    self.splits[split].ended = true;
                    if let Some((member, _)) = &self.splits[split].aligned {
                        member.report(MAX_TIME);
                    }
                    let change = self.valve.end(split);
                    self.apply(change);
                    return Ok(Polled::Took(self.hand_on()?));
                }
            }
            if status == ReadStatus::More || !self.batch.is_blank() || self.status.is_some() {
                return Ok(Polled::Took(self.hand_on()?));
            }
        }
        Ok(Polled::Nothing { until_us })
    }
}

impl<T, S: Data> Stateful for SourceHead<T, S> {
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("splits", &mut self.saved)
    }

    fn restoring(&mut self) {
        self.saved.values.clear();
    }

    fn measured(&mut self, measures: &Measures) {
        self.taken = measures.taken.clone();
    }
}

impl<T: Send + 'static, S: Data> Head for SourceHead<T, S> {
    fn open(&mut self) -> Result<()> {
        self.link.open()?;
        self.site.enter();
        let opened = self.open_splits();
        self.site.locate(opened)
    }

    fn poll(&mut self) -> Result<Polled> {
        let polled = self.poll_splits();
        self.site.locate(polled)
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.link.signal(signal)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.link.resume()
    }

    fn end(&mut self) -> Result<Flow> {
        self.link.signal(Signal::End)
    }

    fn close(&mut self) -> Result<()> {
        self.link.close()
    }

    fn is_source(&self) -> bool {
        true
    }

    fn barrier(&mut self, barrier: Barrier) -> Result<Flow> {
        if is_planted(Bug::PositionAfterBarrier)
            && let Some(split) = self.splits.iter().position(|split| !split.ended)
        {
            self.read(split)?;
        }
        self.saved.values = self
            .splits
            .iter_mut()
            .filter(|split| !split.ended)
            .map(|split| {
                let marker = split.stamp.as_mut().map(|stamp| *stamp.marker());
                (split.reader.split(), marker)
            })
            .collect();
        self.saved.freeze(barrier.kind);
        self.link.signal(Signal::Barrier(barrier))
    }

    /// What was read and not pushed on comes first.
    fn has_unsent(&self) -> bool {
        self.status.is_some() || !self.batch.is_blank()
    }

    fn drain(&mut self) -> Result<Flow> {
        self.said_end_of_time = true;
        self.batch.mark(MAX_TIME);
        self.hand_on()
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        let site = self.site.clone();
        visitor.operator(&site, self)?;
        self.link.visit(visitor)
    }
}
