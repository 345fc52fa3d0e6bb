//! The sending side: a lane per channel, filled by a partitioner, sent when full or when asked to flush.
//!
//! A lane that has no credit simply keeps growing by what the current batch still brings, and the writer
//! answers `Blocked`: the output is parked here, in order, and nowhere else. Watermarks do not force
//! batches out: a lane carries a mark only before a record that the watermark has overtaken, and otherwise
//! one at its end. In-order streams are never cut.

use super::CHANNEL_PART;
use super::channel::Sender;
use super::partition::Partition;
use crate::chain::{ChainVisitor, Flow, Push, Site, Stateful};
use crate::task::{Measures, Sent};
use millstream_model::encode::encoded_size;
use millstream_model::{
    Barrier, Batch, CheckpointMode, Data, EventTime, MIN_TIME, Mark, NO_TIME, Result, Signal,
    SnapshotKind,
};
use millstream_state::part::{Entries, Written};
use millstream_state::schema::Shape;
use millstream_state::snapshot::PartKind;
use millstream_state::{Part, Visitor, codec};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// How much a writer may hold before it sends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records in a full batch.
    pub batch_records: usize,
    /// Bytes in a full batch.
    pub batch_bytes: usize,
    /// Bytes in all lanes of the writer together.
    pub writer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { batch_records: 1024, batch_bytes: 64 << 10, writer_bytes: 8 << 20 }
    }
}

/// Above this estimate every record is measured, not one in sixteen batches.
const HEAVY_RECORD_BYTES: usize = 4096;
const SAMPLE_EVERY_BATCHES: u32 = 16;

struct Lane<T> {
    sender: Sender<T>,
    batch: Batch<T>,
    bytes: usize,
    /// The watermark the receiver knows of, or will by what is in the batch.
    marked: EventTime,
    /// Signals that could not be sent yet, in order.
    owed: SmallVec<[Signal; 2]>,
}

impl<T> Lane<T> {
    /// Puts a watermark behind what the lane holds.
    fn mark(&mut self, watermark: EventTime) {
        self.batch.mark(watermark);
        self.marked = watermark;
    }
}

/// The lanes of a writer, as a partitioner sees them.
pub struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    limits: Limits,
    watermark: EventTime,
    record_bytes: usize,
    full_records: usize,
    until_sample: u32,
    buffered_bytes: usize,
    failure: Option<millstream_model::Error>,
    sent: Sent,
}

impl<T: Data> Lanes<T> {
    /// Number of lanes: subtasks that can be reached.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there is no lane.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Puts a whole batch into a lane, by moving its buffers if the lane is empty.
    pub fn put_all(&mut self, lane: usize, batch: &mut Batch<T>) {
        let l = &mut self.lanes[lane];
        if l.batch.is_blank()
            && batch.len() <= self.full_records
            && self.record_bytes < HEAVY_RECORD_BYTES
        {
            let starts_after_watermark = l.marked < self.watermark;
            if !starts_after_watermark {
                std::mem::swap(&mut l.batch, batch);
                if let Some(last) = l.batch.marks.last() {
                    l.marked = last.watermark;
                    self.watermark = self.watermark.max(last.watermark);
                }
                if l.batch.len() >= self.full_records {
                    self.send(lane);
                }
                return;
            }
        }
        self.put_each(batch, |_, _, _| lane);
    }

    /// Puts each record of a batch into the lane that `choose` (given record, hash and position) names,
    /// advancing over the batch's marks.
    #[inline(always)]
    pub fn put_each(
        &mut self,
        batch: &mut Batch<T>,
        mut choose: impl FnMut(&T, u64, usize) -> usize,
    ) {
        let n = batch.values.len();
        let (timed, keyed) = (!batch.times.is_empty(), !batch.hashes.is_empty());
        // Columns that do not exist are zipped all the same: one loop, no look at what is not there.
        batch.hashes.resize(n, 0);
        batch.times.resize(n, NO_TIME);
        let Batch { values, times, hashes, marks } = batch;
        let (time_of, hash_of) = (&times[..n], &hashes[..n]);
        let mut marks = marks.drain(..);
        let mut next_mark = marks.next();
        let mut next_at = next_mark.map_or(usize::MAX, |m| m.at as usize);
        let mut values = values.drain(..);
        for i in 0..n {
            let (Some(value), time, hash) = (values.next(), time_of[i], hash_of[i]) else { break };
            if i == next_at {
                self.advance(next_mark);
                next_mark = marks.next();
                next_at = next_mark.map_or(usize::MAX, |m| m.at as usize);
            }
            let lane = choose(&value, hash, i);
            if self.record_bytes >= HEAVY_RECORD_BYTES {
                self.measure(lane, &value);
            }
            let l = &mut self.lanes[lane];
            if timed {
                if time <= self.watermark && l.marked < self.watermark {
                    l.mark(self.watermark);
                }
                l.batch.times.push(time);
            }
            if keyed {
                l.batch.hashes.push(hash);
            }
            l.batch.values.push(value);
            if l.batch.values.len() >= self.full_records {
                self.send(lane);
            }
        }
        self.advance(next_mark);
        marks.for_each(|m| self.watermark = self.watermark.max(m.watermark));
        drop(values);
        times.clear();
        hashes.clear();
    }

    /// Puts a batch into every lane. Each lane goes over the marks by itself: a watermark that another lane has
    /// reached at the end of the batch must not come before this one's records.
    pub fn put_everywhere(&mut self, batch: &mut Batch<T>)
    where
        T: Clone,
    {
        let before = self.watermark;
        for lane in 1..self.len() {
            self.put_each(&mut batch.clone(), |_, _, _| lane);
            self.watermark = before;
        }
        self.put_each(batch, |_, _, _| 0);
    }

    fn advance(&mut self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.watermark = self.watermark.max(mark.watermark);
        }
    }

    #[cold]
    fn measure(&mut self, lane: usize, value: &T) {
        let bytes = encoded_size(value);
        self.lanes[lane].bytes += bytes;
        self.buffered_bytes += bytes;
    }

    /// Adapts the estimate of a record's size to what is coming.
    fn sample(&mut self, batch: &Batch<T>) {
        if self.until_sample > 0 && self.record_bytes < HEAVY_RECORD_BYTES {
            self.until_sample -= 1;
            return;
        }
        let Some(first) = batch.values.first() else { return };
        let size = encoded_size(first).max(1);
        if size < HEAVY_RECORD_BYTES && self.record_bytes >= HEAVY_RECORD_BYTES {
            // Back from heavy records: what lies in the lanes was measured, keep it so until it is sent.
            self.flush();
        }
        self.record_bytes = size;
        self.until_sample = SAMPLE_EVERY_BATCHES;
        self.full_records = (self.limits.batch_bytes / size).clamp(1, self.limits.batch_records);
    }

    fn bytes_in(&self, lane: usize) -> usize {
        let l = &self.lanes[lane];
        if l.bytes > 0 { l.bytes } else { l.batch.len() * self.record_bytes }
    }

    /// Tries to send what a lane holds; true if it is empty afterwards.
    fn send(&mut self, lane: usize) -> bool {
        let bytes = self.bytes_in(lane);
        let watermark = self.watermark;
        let l = &mut self.lanes[lane];
        if l.marked < watermark {
            l.mark(watermark);
        }
        if l.batch.is_blank() {
            return true;
        }
        let n_records = l.batch.len();
        match l.sender.try_send(&mut l.batch, bytes) {
            Ok(true) => {
                self.sent.count(n_records, bytes);
                self.buffered_bytes = self.buffered_bytes.saturating_sub(l.bytes);
                l.bytes = 0;
                true
            }
            Ok(false) => false,
            Err(e) => {
                self.failure = Some(e);
                l.batch.clear();
                true
            }
        }
    }

    /// Tries to send everything; true if nothing is left.
    fn flush(&mut self) -> bool {
        let mut all = true;
        for lane in 0..self.lanes.len() {
            all &= self.send(lane);
            let l = &mut self.lanes[lane];
            while l.batch.is_blank()
                && let Some(&signal) = l.owed.first()
            {
                match l.sender.try_signal(signal) {
                    Ok(true) => {
                        l.owed.remove(0);
                    }
                    Ok(false) => {
                        all = false;
                        break;
                    }
                    Err(e) => {
                        self.failure = Some(e);
                        break;
                    }
                }
            }
        }
        all
    }

    /// Whether a lane holds more than it should.
    fn is_over(&self) -> bool {
        self.buffered_bytes > self.limits.writer_bytes
            || self.lanes.iter().any(|l| l.batch.len() >= self.full_records)
    }

    fn owe(&mut self, signal: Signal) {
        for l in &mut self.lanes {
            // Idle and active cancel out, but nothing else cancels them.
            let cancels = matches!(signal, Signal::Idle | Signal::Active);
            if cancels && matches!(l.owed.last(), Some(Signal::Idle | Signal::Active)) {
                l.owed.pop();
            }
            l.owed.push(signal);
        }
    }
}

/// The end of a chain: an exchange's sending side. See the module's text.
pub struct Writer<T> {
    partition: Box<dyn Partition<T>>,
    lanes: Lanes<T>,
    /// Whether nothing may follow what is owed until it is sent: a barrier, the end.
    closing: bool,
    ended: bool,
    /// Whether something that was to be sent at once could not be.
    owes_flush: bool,
    mode: CheckpointMode,
    /// Whichever mode a snapshot was taken in.
    is_restoring: bool,
    site: Site,
    /// What its part is called.
    part: String,
    /// What lay in the lanes when a barrier overtook it.
    parked: Option<Result<Written>>,
    /// What lay in other lanes than there are now, cut at its watermarks: the watermark before each piece.
    to_split: Vec<(EventTime, Batch<T>)>,
    /// Whether all of that is of the subtask that this one was.
    is_own: bool,
}

impl<T: Data> Writer<T> {
    /// A writer that spreads records over `senders` as `partition` says: of this output of the operator at this site. What the
    /// output is called is part of checkpoints, so it must not depend on what is fused and how many subtasks there are.
    pub fn new(
        partition: Box<dyn Partition<T>>,
        senders: Vec<Sender<T>>,
        limits: Limits,
        (site, output): (Site, String),
        mode: CheckpointMode,
    ) -> Self {
        let lanes = senders
            .into_iter()
            .map(|sender| Lane {
                sender,
                batch: Batch::default(),
                bytes: 0,
                marked: MIN_TIME,
                owed: SmallVec::new(),
            })
            .collect();
        let lanes = Lanes {
            lanes,
            limits,
            watermark: MIN_TIME,
            record_bytes: 0,
            full_records: limits.batch_records,
            until_sample: 0,
            buffered_bytes: 0,
            failure: None,
            sent: Sent::default(),
        };
        Writer {
            partition,
            lanes,
            closing: false,
            ended: false,
            owes_flush: false,
            mode,
            is_restoring: false,
            site,
            part: format!("{CHANNEL_PART}{output}"),
            parked: None,
            to_split: Vec::new(),
            is_own: false,
        }
    }

    fn outcome(&mut self, blocked: bool) -> Result<Flow> {
        match self.lanes.failure.take() {
            Some(e) => Err(e),
            None if blocked => Ok(Flow::Blocked),
            None => Ok(Flow::Ready),
        }
    }
}

impl<T: Data> Push<T> for Writer<T> {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, batch: &mut Batch<T>) -> Result<Flow> {
        self.lanes.sample(batch);
        self.partition.split(batch, &mut self.lanes)?;
        let mut over = self.lanes.is_over();
        if over && self.lanes.buffered_bytes > self.lanes.limits.writer_bytes {
            self.lanes.flush();
            over = self.lanes.is_over();
        }
        self.outcome(over)
    }

    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        match signal {
            Signal::Flush => {
                self.owes_flush = !self.lanes.flush();
                self.outcome(false)
            }
            Signal::Tick(_) => Ok(Flow::Ready),
            Signal::Idle | Signal::Active => {
                self.lanes.owe(signal);
                self.owes_flush = !self.lanes.flush();
                self.outcome(false)
            }
            // A channel that has ended brings no more barriers.
            Signal::Barrier(_) if self.ended => Ok(Flow::Ready),
            Signal::Barrier(barrier)
                if self.mode == CheckpointMode::Unaligned && !barrier.kind.is_savepoint() =>
            {
                self.park();
                for lane in &self.lanes.lanes {
                    lane.sender.overtake(barrier);
                }
                self.outcome(false)
            }
            Signal::Barrier(_) | Signal::End => {
                self.ended = signal == Signal::End;
                self.lanes.owe(signal);
                self.closing = !self.lanes.flush();
                self.outcome(self.closing)
            }
        }
    }

    fn resume(&mut self) -> Result<Flow> {
        if self.closing {
            self.closing = !self.lanes.flush();
            return self.outcome(self.closing);
        }
        if self.owes_flush || self.lanes.is_over() {
            self.owes_flush &= !self.lanes.flush();
        }
        let over = self.lanes.is_over();
        self.outcome(over)
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        let site = self.site.clone();
        visitor.operator(&site, self)
    }
}

/// A batch cut at its marks: what comes before the first and after each, with the watermark that held for it.
fn pieces<T>(batch: Batch<T>) -> Vec<(EventTime, Batch<T>)> {
    let Batch { values, times, marks, .. } = batch;
    let mut pieces = vec![(MIN_TIME, Batch::default())];
    let mut marks = marks.into_iter().peekable();
    let mut times = times.into_iter();
    for (at, value) in values.into_iter().enumerate() {
        while let Some(mark) = marks.next_if(|mark| mark.at as usize <= at) {
            pieces.push((mark.watermark, Batch::default()));
        }
        if let Some((_, piece)) = pieces.last_mut() {
            piece.push(value, times.next().unwrap_or(NO_TIME));
        }
    }
    pieces.extend(marks.map(|mark| (mark.watermark, Batch::default())));
    pieces
}

/// A batch that lay in a lane: which of how many.
#[derive(Serialize, Deserialize)]
struct Parked<B> {
    lane: u32,
    n_lanes: u32,
    batch: B,
}

impl<T: Data> Writer<T> {
    /// Takes down what lies in the lanes: it was not sent, so a barrier that overtakes leaves it here.
    fn park(&mut self) {
        let _ = self.lanes.flush();
        let mut written = Written::default();
        let n_lanes = self.lanes.lanes.len() as u32;
        for (lane, l) in (0..).zip(&self.lanes.lanes) {
            if l.batch.is_blank() {
                continue;
            }
            let parked = Parked { lane, n_lanes, batch: &l.batch };
            if let Err(e) = codec::encode(&parked, &mut written.bytes) {
                self.parked = Some(Err(e));
                return;
            }
            written.n_entries += 1;
        }
        self.parked = Some(Ok(written));
    }
}

impl<T: Data> Stateful for Writer<T> {
    /// The barrier waits for credit: it overtakes, where it has not gone through already.
    fn turn(&mut self, barrier: Barrier) {
        let owed = Signal::Barrier(barrier);
        if self.mode != CheckpointMode::Timed || !self.closing || barrier.kind.is_savepoint() {
            return;
        }
        let waits: Vec<bool> =
            self.lanes.lanes.iter().map(|lane| lane.owed.contains(&owed)).collect();
        for lane in &mut self.lanes.lanes {
            lane.owed.retain(|signal| *signal != owed);
        }
        self.closing = false;
        self.owes_flush = true;
        self.park();
        for (lane, waits) in self.lanes.lanes.iter().zip(waits) {
            if waits {
                lane.sender.overtake(barrier);
            }
        }
    }

    fn restoring(&mut self) {
        self.is_restoring = true;
    }

    fn measured(&mut self, measures: &Measures) {
        self.lanes.sent = measures.sent.clone();
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        if !self.mode.may_overtake() && !self.is_restoring {
            return Ok(());
        }
        let name = std::mem::take(&mut self.part);
        let shown = visitor.part(&name, self);
        self.part = name;
        shown
    }

    /// Lanes that are no more are put into those there are. A watermark must not come before a record that was ahead
    /// of it in another lane: so what lay behind a lower one goes first. With another parallelism whoever wrote it knew
    /// nothing of what else is read here now; so the watermark waits until it is told again.
    fn restored(&mut self) -> Result<()> {
        self.is_restoring = false;
        let mut pieces = std::mem::take(&mut self.to_split);
        pieces.sort_by_key(|(watermark, _)| *watermark);
        for (watermark, mut piece) in pieces {
            if self.is_own && watermark != MIN_TIME {
                piece.marks.push(Mark { at: 0, watermark });
            }
            self.partition.split(&mut piece, &mut self.lanes)?;
        }
        Ok(())
    }
}

/// What lies in the lanes and could not be sent.
impl<T: Data> Part for Writer<T> {
    fn kind(&self) -> PartKind {
        PartKind::Split
    }

    fn shape(&self) -> Result<Shape> {
        Shape::of::<Parked<Batch<T>>>()
    }

    /// It was taken down when the barrier came.
    fn freeze(&mut self, _: SnapshotKind) {}

    fn write(&mut self, out: &mut Written, _: usize) -> Result<bool> {
        if let Some(parked) = self.parked.take() {
            out.append(&mut parked?);
        }
        Ok(true)
    }

    fn thaw(&mut self) {
        self.parked = None;
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        let assignment = entries.assignment;
        let is_same = assignment.parallelism == assignment.n_writers;
        entries.each(|index, parked: Parked<Batch<T>>| {
            if !assignment.is_dealt(index as usize) {
                return Ok(());
            }
            let Parked { lane, n_lanes, mut batch } = parked;
            if n_lanes as usize == self.lanes.lanes.len() {
                // Whoever receives it may have been restored as it was, so it has to go there.
                let lane = &mut self.lanes.lanes[lane as usize];
                if !is_same {
                    batch.marks.clear();
                }
                lane.batch.append(&mut batch);
                if let Some(last) = lane.batch.marks.last() {
                    lane.marked = last.watermark;
                }
            } else {
                self.is_own = is_same;
                self.to_split.extend(pieces(batch));
            }
            self.owes_flush = true;
            Ok(())
        })
    }
}
