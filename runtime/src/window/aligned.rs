//! Windows that are the same for all keys and keep what is put into them one by one.
//!
//! A window owns the table of its keys. There is no timer per key: the watermark reaches the end of a
//! window and the whole table fires, in the order in which its keys arrived, and is dropped when the allowed
//! lateness is over. Tumbling windows always come here; sliding ones only if their content cannot be merged
//! from slices (see [`super::sliced`]), and then a record is put into each of its windows.

use super::content::Content;
use super::emit::Emit;
use super::firing::{Firings, Pending, timed};
use super::grid::Grid;
use super::key::Keyed;
use super::operator::Windows;
use super::slots::{Reader, Slots};
use crate::chain::{Output, Step};
use crate::context::OperatorContext;
use crate::watermark::Ahead;
use millstream_model::{EventTime, Key, MAX_TIME, MIN_TIME, Result};
use millstream_state::Visitor;
use std::ops::Bound;

/// See the module's text.
pub(super) struct Aligned<K, C, A, E, S> {
    grid: Grid,
    lateness: EventTime,
    selector: S,
    content: C,
    windows: Slots<K, A>,
    current: Current,
    /// The clock, as far as it has been dealt with: what records are judged by.
    watermark: EventTime,
    ahead: Ahead,
    /// Before this nothing fires and nothing is dropped.
    due: EventTime,
    firing: Option<Firing<K, A>>,
    firings: Firings<K, A, E>,
}

/// The window being fired.
struct Firing<K, A> {
    start: EventTime,
    /// How many of its keys in memory were dealt with.
    at: usize,
    /// The rest of it.
    spilled: Reader<K, A>,
}

/// The window that took the last record, if nothing but taking can happen to a record of it: it has not
/// fired, and no other window shares its records.
struct Current {
    start: EventTime,
    end: EventTime,
    slot: usize,
}

const NO_WINDOW: Current = Current { start: MAX_TIME, end: MIN_TIME, slot: 0 };

impl<K, C, A, E, S> Aligned<K, C, A, E, S>
where
    K: Key,
    E: Emit<K, A>,
{
    /// Windows of this grid, kept for `lateness` milliseconds longer than they last.
    pub(super) fn new(
        grid: Grid,
        lateness: EventTime,
        selector: S,
        content: C,
        emit: E,
        context: OperatorContext,
    ) -> Self {
        Aligned {
            grid,
            lateness,
            selector,
            content,
            windows: Slots::default(),
            current: NO_WINDOW,
            watermark: MIN_TIME,
            ahead: Ahead::default(),
            due: MAX_TIME,
            firing: None,
            firings: Firings::new(emit, context),
        }
    }

    /// When the window that begins there is dropped.
    fn dropped_at(&self, start: EventTime) -> EventTime {
        self.grid.window(start).max_timestamp().saturating_add(self.lateness)
    }

    /// Whether the window is dropped once the clock shows `now`.
    fn is_over(&self, start: EventTime, now: EventTime) -> bool {
        self.dropped_at(start) <= now
    }

    /// Begins to fire a window.
    fn begin_firing(&self, start: EventTime) -> Firing<K, A> {
        let groups = self.windows.spilled_groups(start).copied().collect();
        Firing { start, at: 0, spilled: Reader::new(start, groups) }
    }

    /// Fires what is left of a window.
    fn fire(&mut self, firing: &mut Firing<K, A>, out: &mut Output<E::Out>) -> Result<Step> {
        let window = self.grid.window(firing.start);
        let Some(slot) = self.windows.get(firing.start) else { return Ok(Step::Done) };
        while let Some(entry) = self.windows[slot].at(firing.at) {
            let has_fired = self.ahead.has_passed(entry.hash, window.max_timestamp());
            if !has_fired
                && self.firings.fire(&entry.key, &entry.value, window, out)? == Step::Yield
            {
                return Ok(Step::Yield);
            }
            firing.at += 1;
        }
        while let Some(entry) = firing.spilled.entry(&self.windows) {
            let has_fired = self.ahead.has_passed(entry.hash, window.max_timestamp());
            if !has_fired
                && self.firings.fire(&entry.key, &entry.value, window, out)? == Step::Yield
            {
                return Ok(Step::Yield);
            }
            firing.spilled.pass();
        }
        Ok(Step::Done)
    }

    /// The slot of a window that is not over.
    fn open_window(&mut self, start: EventTime) -> usize {
        let end = self.grid.window(start).max_timestamp();
        self.due = self.due.min(if end > self.watermark { end } else { self.dropped_at(start) });
        self.windows.open(start)
    }

    fn insert_into<T>(
        &mut self,
        slot: usize,
        value: T,
        hash: u64,
    ) -> &mut millstream_state::dense::Entry<K, A>
    where
        C: Content<T, Acc = A>,
        S: Keyed<T, K>,
    {
        let (selector, content) = (&self.selector, &self.content);
        let entry = self.windows[slot].entry(
            hash,
            |key| selector.is(&value, key),
            || (selector.key(&value), content.create()),
        );
        content.add(&mut entry.value, value);
        entry
    }

    /// Makes the window of an entry fire at once if its end has passed at `now`.
    fn refire_if_passed(
        &mut self,
        start: EventTime,
        (key, slot, hash): (K, usize, u64),
        now: EventTime,
    ) where
        A: Clone,
    {
        let window = self.grid.window(start);
        if window.max_timestamp() > now {
            return;
        }
        if let Some(content) = self.windows[slot].get(hash, |k| *k == key) {
            let content = content.clone();
            let time = window.max_timestamp();
            self.firings.push(Pending { key, content, window, time, refiring: true });
        }
    }

    #[inline(never)]
    fn insert_elsewhere<T>(&mut self, value: T, time: EventTime, hash: u64) -> Result<Option<T>>
    where
        C: Content<T, Acc = A>,
        S: Keyed<T, K>,
        A: Clone,
    {
        timed(time)?;
        let now = self.ahead.of(hash, self.watermark);
        let last = self.grid.last_start(time);
        if self.grid.window(last).end <= time {
            // Between two windows a record belongs to none. It is late when windows that ended at its time
            // would be.
            let late = time.saturating_add(self.lateness) <= now;
            return Ok(late.then_some(value));
        }
        if self.is_over(last, now) {
            return Ok(Some(value));
        }
        let first = self.grid.windows(time).map(|w| w.start).find(|s| !self.is_over(*s, now));
        if first.is_none_or(|first| first == last) {
            let slot = self.open_window(last);
            self.windows.fetch(last, slot, hash, || self.selector.key(&value));
            let window = self.grid.window(last);
            if window.max_timestamp() > now {
                let is_plain = !self.grid.overlaps() && !self.windows.is_spilled(last);
                if is_plain && self.ahead.is_empty() {
                    self.current = Current { start: window.start, end: window.end, slot };
                }
                self.insert_into(slot, value, hash);
            } else {
                let key = self.insert_into(slot, value, hash).key.clone();
                self.refire_if_passed(last, (key, slot, hash), now);
            }
        } else {
            self.insert_into_all(first.unwrap_or(last), value, (time, hash), now);
        }
        Ok(None)
    }

    /// Puts a record into its windows from `first` on.
    fn insert_into_all<T>(
        &mut self,
        first: EventTime,
        value: T,
        (time, hash): (EventTime, u64),
        now: EventTime,
    ) where
        C: Content<T, Acc = A>,
        S: Keyed<T, K>,
        A: Clone,
    {
        let key = self.selector.key(&value);
        let shared = self.content.share(value);
        for window in self.grid.windows(time).skip_while(|w| w.start < first) {
            let slot = self.open_window(window.start);
            self.windows.fetch(window.start, slot, hash, || key.clone());
            let content = &self.content;
            let entry =
                self.windows[slot].entry(hash, |k| *k == key, || (key.clone(), content.create()));
            content.add_shared(&mut entry.value, &shared);
            self.refire_if_passed(window.start, (key.clone(), slot, hash), now);
        }
    }

    /// When the next window fires.
    fn next_end(&self) -> Option<EventTime> {
        self.next_unfired().map(|(start, _)| self.grid.window(start).max_timestamp())
    }

    /// The earliest window whose time is still to come.
    fn next_unfired(&self) -> Option<(EventTime, usize)> {
        // A window is passed when its last millisecond, `start + size - 1`, is.
        let passed = self.watermark.saturating_add(1).saturating_sub(self.grid.size());
        self.windows.first_in(Bound::Excluded(passed), Bound::Unbounded)
    }
}

impl<K, T, C, E, S> Windows<T, E::Out> for Aligned<K, C, C::Acc, E, S>
where
    K: Key,
    T: Send,
    C: Content<T>,
    E: Emit<K, C::Acc>,
    S: Keyed<T, K>,
{
    fn open(&mut self) -> Result<()> {
        self.firings.open()
    }

    fn warm(&self, hashes: &[u64]) {
        self.windows.warm(self.current.slot, hashes);
    }

    #[inline]
    fn insert(&mut self, value: T, time: EventTime, hash: u64) -> Result<Option<T>> {
        if self.current.start <= time && time < self.current.end {
            self.insert_into(self.current.slot, value, hash);
            return Ok(None);
        }
        self.insert_elsewhere(value, time, hash)
    }

    fn settle(&mut self) {
        // A window that is being fired must stay where it is read.
        if self.firing.is_some() {
            return;
        }
        self.windows.make_room(0);
        if self.windows.is_spilled(self.current.start) {
            self.current = NO_WINDOW;
        }
    }

    #[inline]
    fn has_refirings(&self) -> bool {
        self.firings.has_pending()
    }

    fn refire(&mut self, out: &mut Output<E::Out>) -> Result<Step> {
        self.firings.drain(out)
    }

    fn observe(&mut self, watermark: EventTime) {
        self.firings.observe(watermark);
    }

    fn advance(&mut self, now: EventTime, out: &mut Output<E::Out>) -> Result<Step> {
        if now < self.due {
            self.watermark = self.watermark.max(now);
            self.ahead.pass(now);
            return Ok(Step::Done);
        }
        // A window that was fired has passed: the clock is set to its end as soon as it is dealt with.
        loop {
            let mut firing = match self.firing.take() {
                Some(firing) => firing,
                None => match self.next_unfired() {
                    Some((start, _)) if self.grid.window(start).max_timestamp() <= now => {
                        self.begin_firing(start)
                    }
                    _ => break,
                },
            };
            if self.fire(&mut firing, out)? == Step::Yield {
                self.firing = Some(firing);
                return Ok(Step::Yield);
            }
            self.watermark = self.grid.window(firing.start).max_timestamp();
            if self.is_over(firing.start, now) {
                self.windows.close(firing.start);
            }
        }
        while let Some(start) = self.windows.first().filter(|start| self.is_over(*start, now)) {
            self.windows.close(start);
        }
        self.watermark = self.watermark.max(now);
        self.ahead.pass(now);
        let drop = self.windows.first().map(|start| self.dropped_at(start));
        self.due = self.next_end().into_iter().chain(drop).min().unwrap_or(MAX_TIME);
        if self.current.end.saturating_sub(1) <= now {
            self.current = NO_WINDOW;
        }
        Ok(Step::Done)
    }

    fn next_due(&self) -> Option<EventTime> {
        self.next_end()
    }

    fn close(&mut self) -> Result<()> {
        self.firings.close()
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("windows", &mut self.windows.as_part(|acc| acc, |acc| acc))
    }

    fn restored(&mut self, now: EventTime, ahead: &Ahead) -> Result<()> {
        self.watermark = now;
        self.ahead = ahead.clone();
        let drop = self.windows.first().map(|start| self.dropped_at(start));
        self.due = self.next_end().into_iter().chain(drop).min().unwrap_or(MAX_TIME);
        Ok(())
    }
}
