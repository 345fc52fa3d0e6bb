//! Event-time slices: what the windowed loops keep per thread.
//!
//! Event time is cut into slices of equal length. A tumbling window is one slice; a sliding one is
//! a run of them, so that a record updates one slice however many windows it belongs to.

use std::collections::VecDeque;

use crate::nexmark::timestamp_ms;

/// The watermark once all events up to `i` of a source half have passed: a monotonous generator
/// may still emit another event with the same timestamp.
pub(super) fn watermark_ms(i: u64) -> i64 {
    timestamp_ms(i) - 1
}

/// The open slices of a thread, oldest first.
pub(super) struct Slices<S> {
    length_ms: i64,
    slices: VecDeque<(i64, S)>,
}

impl<S: Default> Slices<S> {
    /// No slices yet; each will be `length_ms` long and start at a multiple of it.
    pub(super) fn new(length_ms: i64) -> Self {
        Self { length_ms, slices: VecDeque::new() }
    }

    /// The slice that holds timestamp `ts`. The newest one is looked at first: two threads are
    /// seldom more than a slice apart.
    #[inline(always)]
    pub(super) fn at(&mut self, ts: i64) -> &mut S {
        if let Some((start, _)) = self.slices.back()
            && (*start..*start + self.length_ms).contains(&ts)
        {
            let last = self.slices.len() - 1;
            return &mut self.slices[last].1;
        }
        self.seek(ts)
    }

    #[cold]
    fn seek(&mut self, ts: i64) -> &mut S {
        let start = ts - ts.rem_euclid(self.length_ms);
        let at = self.slices.partition_point(|slice| slice.0 < start);
        if self.slices.get(at).is_none_or(|slice| slice.0 != start) {
            self.slices.insert(at, (start, S::default()));
        }
        &mut self.slices[at].1
    }

    /// The start of the oldest slice.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.slices.front().map(|slice| slice.0)
    }

    /// The slice that starts at `start_ms`, if it has records.
    pub(super) fn get(&self, start_ms: i64) -> Option<&S> {
        let at = self.slices.binary_search_by_key(&start_ms, |slice| slice.0).ok()?;
        Some(&self.slices[at].1)
    }

    /// The slices that start in `start_ms..end_ms`.
    pub(super) fn range(&self, start_ms: i64, end_ms: i64) -> impl Iterator<Item = &S> {
        let inside = move |slice: &&(i64, S)| (start_ms..end_ms).contains(&slice.0);
        self.slices.iter().filter(inside).map(|slice| &slice.1)
    }

    /// Removes the oldest slice if no record of it can come after `watermark_ms`; answers its end.
    pub(super) fn pop_closed(&mut self, watermark_ms: i64) -> Option<(i64, S)> {
        let end = self.oldest_ms()? + self.length_ms;
        if end - 1 > watermark_ms {
            return None;
        }
        self.slices.pop_front().map(|slice| (end, slice.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_stay_in_order_and_close_at_their_end() {
        let mut slices = Slices::<u32>::new(10);
        for ts in [25, 3, 12, 29, -1] {
            *slices.at(ts) += 1;
        }
        assert_eq!(slices.oldest_ms(), Some(-10));
        assert_eq!(slices.get(20), Some(&2));
        assert_eq!(slices.get(30), None);
        assert_eq!(slices.range(0, 20).sum::<u32>(), 2);
        assert_eq!(slices.pop_closed(-2), None);
        assert_eq!(slices.pop_closed(-1), Some((0, 1)));
        assert_eq!(slices.pop_closed(i64::MAX), Some((10, 1)));
    }
}
