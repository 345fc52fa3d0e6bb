//! The head of a source task: reads its splits in turn, stamps what they give, and pushes it on.
//!
//! What is saved is each split with the state of its watermark generator, so that after a restore the same records
//! follow and the same ones are late; splits that have ended are left out.
//!
//! Its splits are all known when it starts, and then barriers begin here; or an enumerator goes on assigning some, and
//! then the barrier comes from there, behind the last split that belongs before it, until the enumerator has ended.
//! Such a reader may run for months: it forgets splits that have ended, in the valve too, so it also saves how far
//! event time was, which no open split may know.

use super::intake::{GATE, Intake, Quiet, Taken as Given};
use super::{Assignment, OpenSplit, ReadStatus, SplitReader};
use crate::chain::{ChainVisitor, Flow, Push, Site, Stateful};
use crate::context::TaskContext;
use crate::exchange::Gate;
use crate::metrics::Counter;
use crate::task::{Head, Measures, Polled, Taken};
use crate::watermark::{Change, Marker, Member, Stamp, Valve, Watermarks};
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{
    Barrier, Batch, CheckpointId, Data, Error, EventTime, MAX_TIME, MIN_TIME, Result, Signal,
};
use millstream_state::{Items, Part, Visitor};

struct Split<T, S> {
    reader: Box<dyn SplitReader<T, S>>,
    stamp: Option<Box<dyn Stamp<T>>>,
    /// While it is caught up and empty.
    quiet: Quiet,
    ended: bool,
    watermark: EventTime,
    /// Its place in the group, and how far it may be ahead.
    aligned: Option<(Member, EventTime)>,
}

/// See the module's text.
pub struct SourceHead<T, S> {
    /// What is opened when the task starts, with the state of its watermark generator after a restore.
    saved: Items<(S, Option<Marker>)>,
    /// Where event time was; only if there is an intake.
    reached: Items<EventTime>,
    is_restoring: bool,
    open: OpenSplit<T, S>,
    watermarks: Watermarks<T>,
    /// Where further splits come from, if there may be any.
    intake: Option<Intake<S>>,
    splits: Vec<Split<T, S>>,
    n_open: usize,
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
            reached: Items::own_or_union(),
            is_restoring: false,
            open,
            watermarks,
            intake: None,
            splits: Vec::new(),
            n_open: 0,
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

    /// Takes the splits, too, that an enumerator sends through this gate.
    #[must_use]
    pub fn assigned_through(mut self, gate: Gate<Assignment<S>>) -> Self {
        self.intake = Some(Intake::new(gate));
        self
    }

    /// The valve's input of a split: the gate's comes before all of them, if there is one.
    fn input(&self, split: usize) -> usize {
        split + usize::from(self.intake.is_some())
    }

    /// Opens the splits, and tells again the watermark that was told before a restore.
    fn open_splits(&mut self) -> Result<()> {
        let splits = std::mem::take(&mut self.saved.values);
        self.valve = Valve::new(self.input(splits.len()));
        // None of those that were restored was further than this, whichever of them are here.
        if let Some(reached) = self.reached.values.drain(..).min()
            && reached > MIN_TIME
            && !is_planted(Bug::ForgetWatermark)
        {
            self.valve.resume_at(reached);
            self.batch.mark(reached);
        }
        for (split, marker) in splits {
            self.open_split(split, marker)?;
        }
        self.leave_time_to_splits();
        Ok(())
    }

    /// Opens a split, for which the valve has an input already.
    fn open_split(&mut self, split: S, marker: Option<Marker>) -> Result<()> {
        let mut stamp = self.watermarks.stamp();
        let mut watermark = MIN_TIME;
        if let (Some(marker), Some(stamp)) = (marker, &mut stamp)
            && !is_planted(Bug::ForgetWatermark)
        {
            watermark = marker.marked();
            *stamp.marker() = marker;
        }
        let input = self.input(self.splits.len());
        if let Some(reached) = self.valve.advance(input, watermark) {
            self.batch.mark(reached);
        }
        let reader = (self.open)(split)?;
        let aligned = self.watermarks.options().aligned.as_ref().map(|(name, drift)| {
            let member = self.context.job().alignment.group(name).join();
            member.report(watermark);
            (member, *drift)
        });
        let quiet = Quiet::default();
        self.splits.push(Split { reader, stamp, quiet, ended: false, watermark, aligned });
        self.n_open += 1;
        Ok(())
    }

    /// As long as there are splits, the gate says nothing of time.
    fn leave_time_to_splits(&mut self) {
        if self.n_open > 0
            && let Some(intake) = &mut self.intake
            && !intake.has_ended()
        {
            intake.quiet.end();
            let change = self.valve.idle(GATE);
            self.apply(change);
        }
    }

    /// Takes what the enumerator has sent, if there is an enumerator and it has.
    fn take_in(&mut self) -> Result<Option<Polled>> {
        let Some(intake) = &mut self.intake else { return Ok(None) };
        let Some(given) = intake.take()? else { return Ok(None) };
        match given {
            Given::Splits(splits) => {
                self.site.enter();
                for split in splits {
                    let change = self.valve.add();
                    self.apply(change);
                    self.open_split(split, None)?;
                }
                self.leave_time_to_splits();
            }
            Given::Barrier(barrier) => return Ok(Some(Polled::Barrier(barrier))),
            Given::End => {
                let change = self.valve.end(GATE);
                self.apply(change);
            }
            Given::Other => {}
        }
        Ok(Some(Polled::Took(Flow::Ready)))
    }

    /// A split has given its last record.
    fn end_split(&mut self, split: usize) {
        let input = self.input(split);
        let this = &mut self.splits[split];
        this.ended = true;
        this.aligned = None;
        self.n_open -= 1;
        if self.n_open == 0
            && let Some(intake) = &mut self.intake
            && !intake.has_ended()
        {
            // Nobody else is left to hold event time, and the reader has been quiet for as long as this split.
            intake.quiet = std::mem::take(&mut this.quiet);
            if !intake.quiet.is_idle() {
                let change = self.valve.active(GATE);
                self.apply(change);
            }
        }
        let change = self.valve.end(input);
        self.apply(change);
        if self.intake.is_some() && 2 * self.n_open < self.splits.len() {
            self.forget_ended();
        }
    }

    /// How many splits it remembers.
    #[cfg(test)]
    pub(super) fn n_kept(&self) -> usize {
        self.splits.len().max(self.valve.inputs().count() - self.input(0))
    }

    fn forget_ended(&mut self) {
        let n_before = self.splits[..self.next].iter().filter(|split| !split.ended).count();
        self.splits.retain(|split| !split.ended);
        // Behind the last one it is the turn of the first.
        self.next = if n_before < self.splits.len() { n_before } else { 0 };
        self.valve.forget_ended(self.input(0));
    }

    /// Puts the watermarks of the whole subtask in place of those of one split.
    fn combine(&mut self, split: usize) {
        let input = self.input(split);
        let this = &mut self.splits[split];
        if let Some(last) = self.batch.marks.last() {
            this.watermark = last.watermark;
        }
        if let Some((member, _)) = &this.aligned {
            member.report(this.watermark);
        }
        let valve = &mut self.valve;
        self.batch.marks.retain_mut(|m| match valve.advance(input, m.watermark) {
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
        if this.quiet.is_idle() {
            // It has told the group that it holds nobody back, and has nothing to run ahead with.
            return false;
        }
        this.watermark != MIN_TIME
            && this.watermark > member.report(this.watermark).saturating_add(*drift)
    }

    /// A split has nothing now: when to look whether it is idle.
    fn fall_idle(&mut self, split: usize, now: EventTime) -> EventTime {
        if self.bounded {
            return MAX_TIME;
        }
        let this = &mut self.splits[split];
        if let Some(idle_at) = this.quiet.go_on(now, self.idle_after_us) {
            return idle_at;
        }
        if let Some((member, _)) = &this.aligned {
            member.report(MAX_TIME);
        }
        let change = self.valve.idle(self.input(split));
        self.apply(change);
        MAX_TIME
    }

    /// There is no split now: when to look whether that is to be idle.
    fn wait_for_splits(&mut self, now: EventTime) -> EventTime {
        let Some(intake) = self.intake.as_mut().filter(|_| !self.bounded && self.n_open == 0)
        else {
            return MAX_TIME;
        };
        if let Some(idle_at) = intake.quiet.go_on(now, self.idle_after_us) {
            return idle_at;
        }
        let change = self.valve.idle(GATE);
        self.apply(change);
        MAX_TIME
    }

    fn read(&mut self, split: usize) -> Result<ReadStatus> {
        self.site.enter();
        let status = self.splits[split].reader.read(&mut self.batch)?;
        if !self.batch.is_empty() {
            self.records.add(self.batch.len() as u64);
            if self.splits[split].quiet.end() {
                let change = self.valve.active(self.input(split));
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
        if let Some(polled) = self.take_in()? {
            return Ok(polled);
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
        let mut until_us = self.wait_for_splits(now);
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
                    if self.in_turn {
                        // The others wait for it, and are not even opened.
                        self.next = split;
                        break;
                    }
                }
                ReadStatus::End => {
                    self.end_split(split);
                    return Ok(Polled::Took(self.hand_on()?));
                }
            }
            if status == ReadStatus::More || !self.batch.is_blank() || self.status.is_some() {
                return Ok(Polled::Took(self.hand_on()?));
            }
        }
        if self.status.is_some() || !self.batch.is_blank() {
            return Ok(Polled::Took(self.hand_on()?));
        }
        Ok(Polled::Nothing { until_us })
    }
}

impl<T, S: Data> Stateful for SourceHead<T, S> {
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("splits", &mut self.saved)?;
        match &self.intake {
            Some(_) => visitor.part("reached", &mut self.reached),
            None => Ok(()),
        }
    }

    fn restoring(&mut self) {
        self.saved.values.clear();
        self.is_restoring = true;
    }

    /// There may be more to read, if event time was brought to its end before.
    fn ended(&mut self) {
        self.saved.values.clear();
    }

    fn restored(&mut self) -> Result<()> {
        if self.is_restoring && self.intake.is_some() && self.reached.values.is_empty() {
            return Err(Error::user(
                "the checkpoint is of a time when the source found its splits once, so nobody knows which of those \
                 that it would find now were read already: leave it as it was, or begin with new splits under a new uid",
            ));
        }
        Ok(())
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

    /// With an enumerator, only when that has ended: then no barrier comes from there any more.
    fn is_source(&self) -> bool {
        self.intake.as_ref().is_none_or(Intake::has_ended)
    }

    fn is_reader(&self) -> bool {
        true
    }

    fn cancel(&mut self, checkpoint: CheckpointId) {
        if let Some(intake) = &mut self.intake {
            intake.cancel(checkpoint);
        }
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
        self.reached.values = vec![self.valve.watermark()];
        self.reached.freeze(barrier.kind);
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
