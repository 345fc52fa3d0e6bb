//! The arithmetic of aligned windows.
//!
//! All windows `[offset + n * slide, offset + n * slide + size)` for every integer n, rounded towards the
//! past for negative times too. A sliding grid is also cut into *slices*, the longest pieces that no window
//! begins or ends in: one per slide if the size is a multiple of it, else two (cut where windows begin and
//! where they end). Slices of gcd(size, slide) would do as well, but there can be a thousand times as many.
//! At the ends of time everything saturates.

use super::time_window::TimeWindow;
use millstream_model::{Error, EventTime, Result};

/// Aligned windows. See the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    size: EventTime,
    slide: EventTime,
    offset: EventTime,
}

impl Grid {
    /// Windows of `size` milliseconds, one every `slide` milliseconds, moved by `offset` milliseconds.
    ///
    /// # Errors
    /// If size or slide is less than a millisecond.
    pub fn new(size: EventTime, slide: EventTime, offset: EventTime) -> Result<Self> {
        for (what, length) in [("size", size), ("slide", slide)] {
            if length < 1 {
                return Err(Error::user(format!(
                    "the {what} of a window must be at least one millisecond"
                )));
            }
        }
        Ok(Grid { size, slide, offset: offset.rem_euclid(slide) })
    }

    /// Length of a window.
    pub fn size(&self) -> EventTime {
        self.size
    }

    /// Distance between the beginnings of neighbouring windows.
    pub fn slide(&self) -> EventTime {
        self.slide
    }

    /// Whether a moment lies in more than one window.
    pub fn overlaps(&self) -> bool {
        self.size > self.slide
    }

    /// The window that begins at `start`.
    #[inline]
    pub fn window(&self, start: EventTime) -> TimeWindow {
        TimeWindow { start, end: start.saturating_add(self.size) }
    }

    /// Where the last window begins that begins at or before `time`. It holds `time` unless the grid has
    /// gaps.
    #[inline]
    pub fn last_start(&self, time: EventTime) -> EventTime {
        time.saturating_sub(time.saturating_sub(self.offset).rem_euclid(self.slide))
    }

    /// Where the first window begins that ends after `time`.
    #[inline]
    pub fn first_start(&self, time: EventTime) -> EventTime {
        let first = self.last_start(time.saturating_sub(self.size)).saturating_add(self.slide);
        // At the beginning of time the subtraction saturates; the window of `time` is still its own.
        if self.size >= self.slide { first.min(self.last_start(time)) } else { first }
    }

    /// Where the first window ends that ends after `time`.
    #[inline]
    pub fn first_end(&self, time: EventTime) -> EventTime {
        self.first_start(time).saturating_add(self.size)
    }

    /// Where the last window ends that begins at or before `time`.
    #[inline]
    pub fn last_end(&self, time: EventTime) -> EventTime {
        self.last_start(time).saturating_add(self.size)
    }

    /// The windows that hold `time`, earliest first.
    pub fn windows(&self, time: EventTime) -> impl Iterator<Item = TimeWindow> + use<> {
        let grid = *self;
        let last = self.last_start(time);
        let first = Some(self.first_start(time)).filter(|first| *first <= last);
        std::iter::successors(first, move |start| {
            start.checked_add(grid.slide).filter(|next| *next <= last)
        })
        .map(move |start| grid.window(start))
    }

    /// The slice that holds `time`; the grid must overlap.
    #[inline]
    pub fn slice(&self, time: EventTime) -> TimeWindow {
        let start = self.last_start(time);
        // Windows end this far behind the beginning of another one.
        let cut = start.saturating_add(self.size % self.slide);
        let end = start.saturating_add(self.slide);
        if time < cut { TimeWindow { start, end: cut } } else { TimeWindow { start: cut, end } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_model::{MAX_TIME, MIN_TIME};

    /// All windows of the grid near `time`, found without division.
    fn naive(size: i64, slide: i64, offset: i64, time: i64) -> Vec<(i64, i64)> {
        let starts = (-500..500).map(|n| offset + n * slide);
        starts.filter(|s| *s <= time && time < s + size).map(|s| (s, s + size)).collect()
    }

    #[test]
    fn windows_are_found_for_negative_times_and_any_offset() {
        for (size, slide) in [(1, 1), (7, 7), (10, 2), (10, 3), (7, 5), (2, 5), (3, 10)] {
            for offset in [-11, -3, 0, 1, 4, 25] {
                let grid = Grid::new(size, slide, offset).unwrap();
                for time in -40..40 {
                    let found: Vec<_> = grid.windows(time).map(|w| (w.start, w.end)).collect();
                    assert_eq!(found, naive(size, slide, offset, time), "{grid:?} at {time}");
                    if let (Some(first), Some(last)) = (found.first(), found.last()) {
                        assert_eq!(grid.first_end(time), first.1);
                        assert_eq!(grid.last_end(time), last.1);
                    }
                }
            }
        }
    }

    #[test]
    fn no_window_begins_or_ends_inside_of_a_slice() {
        for (size, slide) in [(10, 2), (10, 3), (7, 5), (9, 8)] {
            for offset in [0, 1, -2] {
                let grid = Grid::new(size, slide, offset).unwrap();
                for time in -40..40 {
                    let slice = grid.slice(time);
                    assert!(slice.start <= time && time < slice.end);
                    let of = |t| grid.windows(t).collect::<Vec<_>>();
                    assert!((slice.start..slice.end).all(|t| of(t) == of(time)), "{grid:?} {time}");
                    assert_ne!(of(slice.end), of(time), "{grid:?} {time}: the slice is too short");
                }
            }
        }
    }

    #[test]
    fn the_ends_of_time_saturate() {
        let grid = Grid::new(10, 3, 1).unwrap();
        for time in [MIN_TIME, MIN_TIME + 1, MIN_TIME + 12, MAX_TIME - 12, MAX_TIME - 1, MAX_TIME] {
            let n = grid.windows(time).count();
            assert!((1..=4).contains(&n), "{n} windows at {time}");
            let slice = grid.slice(time);
            assert!(slice.start <= time && time <= slice.end);
        }
    }
}
