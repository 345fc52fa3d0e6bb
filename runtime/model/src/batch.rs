//! The unit that moves: a batch of records in columns, and the signals between batches.
//!
//! Values, event times and key hashes stand side by side, so that an operator that only looks at values
//! pays for nothing else, and a column that does not exist yet (no timestamps, not keyed) is an empty
//! vector. Watermarks travel *inside* the batch as positional [`Mark`]s: a batch is never cut because
//! time advanced, and still every record is judged with exactly the watermark that preceded it.

use crate::checkpoint::Barrier;
use crate::time::{EventTime, NO_TIME};
use serde::{Deserialize, Serialize};

/// A watermark at a position: it holds from before record `at` of its batch on.
///
/// `at` equal to the batch's length means: after the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Index of the first record that comes after this watermark.
    pub at: u32,
    /// No record with a time at or below this is expected any more.
    pub watermark: EventTime,
}

/// What flows between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// The producer has nothing to do right now: send on what is buffered.
    Flush,
    /// This input says nothing about time until `Active`: leave it out of the watermark.
    Idle,
    /// The input takes part in the watermark again.
    Active,
    /// Processing time has reached this many milliseconds since the epoch.
    Tick(EventTime),
    /// What came before belongs to this checkpoint, what follows does not.
    Barrier(Barrier),
    /// No record will follow.
    End,
}

/// Records in columns. See the module's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch<T> {
    /// The records.
    pub values: Vec<T>,
    /// Event time of each record, or empty if the stream has no timestamps yet.
    pub times: Vec<EventTime>,
    /// Stable hash of each record's key, or empty if the stream is not keyed.
    pub hashes: Vec<u64>,
    /// Watermarks, in order of position; at most one per position.
    pub marks: Vec<Mark>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Batch { values: Vec::new(), times: Vec::new(), hashes: Vec::new(), marks: Vec::new() }
    }
}

impl<T> Batch<T> {
    /// A batch of values without timestamps.
    pub fn of(values: Vec<T>) -> Self {
        Batch { values, ..Batch::default() }
    }

    /// Number of records (marks do not count).
    #[inline]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no record. There may still be a mark.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether there is neither a record nor a mark: nothing to send.
    #[inline]
    pub fn is_blank(&self) -> bool {
        self.values.is_empty() && self.marks.is_empty()
    }

    /// Whether the columns fit together, as they always do but in bytes from outside: the records have times or none, hashes
    /// or none, and watermarks stand in order and between them.
    pub fn is_whole(&self) -> bool {
        let n = self.values.len();
        let is_column = |len: usize| len == 0 || len == n;
        self.times.len() <= n
            && is_column(self.hashes.len())
            && self.marks.is_sorted_by(|a, b| a.at < b.at)
            && self.marks.last().is_none_or(|mark| mark.at as usize <= n)
    }

    /// Forgets the content, keeps the buffers.
    #[inline]
    pub fn clear(&mut self) {
        self.values.clear();
        self.times.clear();
        self.hashes.clear();
        self.marks.clear();
    }

    /// Event time of record `i`, [`NO_TIME`] if the stream has none.
    #[inline]
    pub fn time(&self, i: usize) -> EventTime {
        self.times.get(i).copied().unwrap_or(NO_TIME)
    }

    /// Appends a record. A stream either has times or has none; a record without one among records
    /// with one keeps [`NO_TIME`] in its place.
    #[inline]
    pub fn push(&mut self, value: T, time: EventTime) {
        if time != NO_TIME || !self.times.is_empty() {
            if self.times.len() < self.values.len() {
                self.times.resize(self.values.len(), NO_TIME);
            }
            self.times.push(time);
        }
        self.values.push(value);
    }

    /// Appends a watermark after the last record. Time does not go back: of two at one place the higher one
    /// holds.
    #[inline]
    pub fn mark(&mut self, watermark: EventTime) {
        let at = self.values.len() as u32;
        match self.marks.last_mut() {
            Some(last) if last.at == at => last.watermark = last.watermark.max(watermark),
            _ => self.marks.push(Mark { at, watermark }),
        }
    }

    /// Keeps the records for which `keep` says so, in order; times, hashes and marks follow.
    #[inline]
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        if self.times.is_empty() && self.hashes.is_empty() && self.marks.is_empty() {
            self.values.retain(|v| keep(v));
            return;
        }
        let (mut read, mut write) = (0, 0);
        let (times, hashes, marks) = (&mut self.times, &mut self.hashes, &mut self.marks);
        let mut mark = 0;
        self.values.retain(|v| {
            while mark < marks.len() && marks[mark].at as usize <= read {
                marks[mark].at = write as u32;
                mark += 1;
            }
            let kept = keep(v);
            if kept {
                if let Some(&t) = times.get(read) {
                    times[write] = t;
                }
                if let Some(&h) = hashes.get(read) {
                    hashes[write] = h;
                }
                write += 1;
            }
            read += 1;
            kept
        });
        times.truncate(write);
        hashes.truncate(write);
        merge_marks(marks, mark, write);
    }

    /// Moves what `function` makes of the records into `out`, in order; times and marks follow. Both must
    /// not be the same batch, and `out` must be blank.
    #[inline]
    pub fn filter_map_into<O>(
        &mut self,
        out: &mut Batch<O>,
        mut function: impl FnMut(T) -> Option<O>,
    ) {
        std::mem::swap(&mut self.times, &mut out.times);
        std::mem::swap(&mut self.marks, &mut out.marks);
        self.hashes.clear();
        let Batch { values, times, marks, .. } = out;
        values.reserve(self.values.len());
        if times.is_empty() && marks.is_empty() {
            values.extend(self.values.drain(..).filter_map(function));
            return;
        }
        // Without times the column is filled in vain once, and cleared below.
        let timed = !times.is_empty();
        times.resize(self.values.len(), NO_TIME);
        let (mut write, mut mark) = (0, 0);
        let mut next_mark = marks.first().map_or(usize::MAX, |m| m.at as usize);
        for (read, value) in self.values.drain(..).enumerate() {
            if read == next_mark {
                marks[mark].at = write as u32;
                mark += 1;
                next_mark = marks.get(mark).map_or(usize::MAX, |m| m.at as usize);
            }
            if let Some(made) = function(value) {
                values.push(made);
                times[write] = times[read];
                write += 1;
            }
        }
        times.truncate(if timed { write } else { 0 });
        merge_marks(marks, mark, write);
    }

    /// Moves everything of `other` behind what is here.
    pub fn append(&mut self, other: &mut Batch<T>) {
        let base = self.values.len() as u32;
        if !other.times.is_empty() || !self.times.is_empty() {
            self.times.resize(self.values.len(), NO_TIME);
            self.times.append(&mut other.times);
        }
        self.hashes.append(&mut other.hashes);
        for m in other.marks.drain(..) {
            match self.marks.last_mut() {
                Some(last) if last.at == base + m.at => {
                    last.watermark = last.watermark.max(m.watermark)
                }
                _ => self.marks.push(Mark { at: base + m.at, watermark: m.watermark }),
            }
        }
        self.values.append(&mut other.values);
        if !self.times.is_empty() {
            self.times.resize(self.values.len(), NO_TIME);
        }
    }
}

/// Moves the marks from `from` on to the end of a shortened batch; of those that came to stand at one place
/// the highest holds.
fn merge_marks(marks: &mut Vec<Mark>, from: usize, len: usize) {
    for m in &mut marks[from..] {
        m.at = len as u32;
    }
    marks.dedup_by(|later, earlier| {
        let same = later.at == earlier.at;
        if same {
            earlier.watermark = earlier.watermark.max(later.watermark);
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retain_keeps_columns_and_marks_in_step() {
        let mut b = Batch::default();
        for i in 0..6 {
            if i == 2 || i == 3 {
                b.mark(i * 10);
            }
            b.push(i, i);
            b.hashes.push(100 + i as u64);
        }
        b.mark(99);
        b.retain(|v| v % 3 == 1);
        assert_eq!((b.values, b.times, b.hashes), (vec![1, 4], vec![1, 4], vec![101, 104]));
        assert_eq!(b.marks, [Mark { at: 1, watermark: 30 }, Mark { at: 2, watermark: 99 }]);
    }

    #[test]
    fn filter_map_keeps_times_and_marks_in_step() {
        let (mut b, mut out) = (Batch::default(), Batch::default());
        for i in 0..5 {
            if i == 2 {
                b.mark(20);
            }
            b.push(i, i * 10);
        }
        b.mark(99);
        b.filter_map_into(&mut out, |v| (v % 2 == 1).then(|| v.to_string()));
        assert_eq!((out.values, out.times), (vec!["1".to_string(), "3".into()], vec![10, 30]));
        assert_eq!(out.marks, [Mark { at: 1, watermark: 20 }, Mark { at: 2, watermark: 99 }]);
        assert!(b.is_blank());
        let (mut b, mut out) = (Batch::of(vec![1, 2]), Batch::default());
        b.mark(7);
        b.filter_map_into(&mut out, |_| None::<u8>);
        assert_eq!(
            (out.len(), out.times.len(), &out.marks[..]),
            (0, 0, &[Mark { at: 0, watermark: 7 }][..])
        );
    }

    #[test]
    fn append_shifts_marks_and_fills_times() {
        let (mut a, mut b) = (Batch::of(vec![1, 2]), Batch::default());
        b.mark(5);
        b.push(3, 7);
        a.append(&mut b);
        assert_eq!(a.times, [NO_TIME, NO_TIME, 7]);
        assert_eq!(a.marks, [Mark { at: 2, watermark: 5 }]);
        assert!(b.is_blank());
    }
}
