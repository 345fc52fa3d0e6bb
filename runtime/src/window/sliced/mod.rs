//! Sliding windows that share slices: a record is aggregated once, however many windows it belongs to.
//!
//! Time is cut into slices that no window begins or ends in; a slice owns the table of its keys. The content
//! of the window that fires next is kept as a table of totals: what enters the window is merged into it,
//! what leaves is taken out again, so a window costs what enters and leaves it and not what it holds. How
//! something is taken out is the only difference between aggregates that have an inverse ([`running`]) and
//! those that do not ([`stacks`]).
//!
//! A late record goes into a slice that may have been merged already; then the totals are amended. Windows
//! in which nothing happened are jumped over, however many they are.
//!
//! Totals are as large as the window. When the slices do not fit into memory they would not either, so as long as some of a
//! slice lies in a store there are none: a window is summed up when it fires, a key group at a time ([`anew`]).

mod anew;
pub(super) mod running;
pub(super) mod stacks;
mod sums;

use super::emit::Emit;
use super::firing::{Firings, Pending, timed};
use super::grid::Grid;
use super::key::Keyed;
use super::operator::Windows;
use super::slots::Slots;
use crate::chain::{Output, Step};
use crate::context::OperatorContext;
use crate::watermark::Ahead;
use anew::Anew;
use millstream_model::{EventTime, Key, MAX_TIME, MIN_TIME, Result};
use millstream_state::{Aggregate, DenseTable, Visitor};
use std::marker::PhantomData;
use std::ops::Bound::{Excluded, Included, Unbounded};

/// Merges accumulators, whatever the records were.
pub(super) trait Merge<Acc>: Send {
    /// Adds all that another accumulator holds.
    fn merge(&self, acc: &mut Acc, other: &Acc);
    /// Takes back an earlier `merge`; `false` if that is impossible.
    fn retract(&self, acc: &mut Acc, other: &Acc) -> bool;
}

/// An aggregate of records of type `T`.
struct Merger<T, A> {
    aggregate: A,
    record: PhantomData<fn() -> T>,
}

impl<T, A: Aggregate<T>> Merge<A::Acc> for Merger<T, A> {
    #[inline]
    fn merge(&self, acc: &mut A::Acc, other: &A::Acc) {
        self.aggregate.merge(acc, other);
    }
    #[inline]
    fn retract(&self, acc: &mut A::Acc, other: &A::Acc) -> bool {
        self.aggregate.retract(acc, other)
    }
}

/// The content of the window that fires next, kept up to date slice by slice.
pub(super) trait Totals<K, Acc>: Default + Send {
    /// What a slice keeps per key.
    type Part: Send + 'static;
    /// What a slice keeps of a key that is new in it.
    fn part(acc: Acc) -> Self::Part;
    /// The accumulator of the records in one slice.
    fn acc(part: &Self::Part) -> &Acc;
    /// The same, to be changed.
    fn acc_mut(part: &mut Self::Part) -> &mut Acc;
    /// A slice enters the window at its end.
    fn enter(&mut self, merge: &impl Merge<Acc>, slice: &DenseTable<K, Self::Part>);
    /// The oldest slice leaves the window, in which there are slices up to `entered_to`.
    ///
    /// # Errors
    /// If the aggregate breaks its promise to be invertible.
    fn leave(
        &mut self,
        merge: &impl Merge<Acc>,
        slices: &mut Slots<K, Self::Part>,
        start: EventTime,
        entered_to: EventTime,
    ) -> Result<()>;
    /// Adds a record to a slice that is in the window already, and to the total.
    fn amend(
        &mut self,
        merge: &impl Merge<Acc>,
        slices: &mut Slots<K, Self::Part>,
        late: Amendment<'_, K, Acc>,
    );
    /// How many keys are in the window.
    fn n_keys(&self) -> usize;
    /// Whether no key is in the window.
    fn is_empty(&self) -> bool {
        self.n_keys() == 0
    }
    /// The total of the key at a position, and the hash of that key.
    fn total(&mut self, merge: &impl Merge<Acc>, at: usize) -> Option<(u64, &K, &Acc)>;
    /// Forgets everything.
    fn clear(&mut self);
}

/// A record that came after its slice had entered the window.
pub(super) struct Amendment<'a, K, Acc> {
    key: &'a K,
    hash: u64,
    acc: &'a Acc,
    /// Where its slice begins.
    start: EventTime,
    /// Where the window begins.
    from: EventTime,
}

/// See the module's text.
pub(super) struct Sliced<K, T, A: Aggregate<T>, D: Totals<K, A::Acc>, E, S> {
    grid: Grid,
    lateness: EventTime,
    selector: S,
    merger: Merger<T, A>,
    slices: Slots<K, D::Part>,
    current: Current,
    totals: D,
    /// The end of the window the totals are, or will be, those of: all earlier ones have fired or were empty.
    next_end: EventTime,
    /// The slices of that window that begin before this are in the totals.
    entered_to: EventTime,
    /// How many keys of that window have been dealt with, while it is being fired from the totals.
    firing: Option<usize>,
    /// That window, while it is being summed up and fired.
    summing: Option<Anew<K, A::Acc, D::Part>>,
    /// Whether windows are summed up when they fire: the totals are empty.
    is_anew: bool,
    watermark: EventTime,
    ahead: Ahead,
    /// Before this nothing fires and nothing is dropped.
    due: EventTime,
    firings: Firings<K, A::Acc, E>,
}

/// The slice that took the last record, if none of its windows has been looked at yet.
struct Current {
    start: EventTime,
    end: EventTime,
    /// When its first window fires.
    due: EventTime,
    slot: usize,
}

const NO_SLICE: Current = Current { start: MAX_TIME, end: MIN_TIME, due: MAX_TIME, slot: 0 };

impl<K, T, A, D, E, S> Sliced<K, T, A, D, E, S>
where
    K: Key,
    A: Aggregate<T>,
    D: Totals<K, A::Acc>,
    E: Emit<K, A::Acc>,
    S: Keyed<T, K>,
{
    /// Windows of this grid, which overlap, kept for `lateness` milliseconds longer than they last.
    pub(super) fn new(
        grid: Grid,
        lateness: EventTime,
        selector: S,
        aggregate: A,
        emit: E,
        context: OperatorContext,
    ) -> Self {
        Sliced {
            grid,
            lateness,
            selector,
            merger: Merger { aggregate, record: PhantomData },
            slices: Slots::default(),
            current: NO_SLICE,
            totals: D::default(),
            next_end: MIN_TIME,
            entered_to: MIN_TIME,
            firing: None,
            summing: None,
            is_anew: false,
            watermark: MIN_TIME,
            ahead: Ahead::default(),
            due: MAX_TIME,
            firings: Firings::new(emit, context),
        }
    }

    /// When the window that ends there is dropped.
    fn dropped_at(&self, end: EventTime) -> EventTime {
        end.saturating_sub(1).saturating_add(self.lateness)
    }

    /// When the slice that begins there is dropped: with the last of its windows.
    fn slice_dropped_at(&self, start: EventTime) -> EventTime {
        self.dropped_at(self.grid.last_end(start))
    }

    /// Where the window that fires next begins.
    fn window_start(&self) -> EventTime {
        self.next_end.saturating_sub(self.grid.size())
    }

    #[inline]
    fn add(&mut self, slot: usize, value: T, hash: u64) {
        let (selector, aggregate) = (&self.selector, &self.merger.aggregate);
        let entry = self.slices[slot].entry(
            hash,
            |key| selector.is(&value, key),
            || (selector.key(&value), D::part(aggregate.create())),
        );
        aggregate.add(D::acc_mut(&mut entry.value), value);
    }

    #[inline(never)]
    fn insert_elsewhere(&mut self, value: T, time: EventTime, hash: u64) -> Result<Option<T>> {
        timed(time)?;
        let now = self.ahead.of(hash, self.watermark);
        let last_end = self.grid.last_end(time);
        if self.dropped_at(last_end) <= now {
            return Ok(Some(value));
        }
        self.skip_passed();
        let slice = self.grid.slice(time);
        let first_end = self.grid.first_end(time);
        let slot = self.slices.open(slice.start);
        self.due = self.due.min(self.dropped_at(last_end));
        if last_end > self.watermark.saturating_add(1) {
            self.due = self.due.min(first_end.max(self.next_end).saturating_sub(1));
        }
        self.slices.fetch(slice.start, slot, hash, || self.selector.key(&value));
        if first_end.saturating_sub(1) > now {
            if self.ahead.is_empty() && !self.is_anew {
                let (due, end) = (first_end.saturating_sub(1), slice.end);
                self.current = Current { start: slice.start, end, due, slot };
            }
            self.add(slot, value, hash);
            return Ok(None);
        }
        let key = self.selector.key(&value);
        if self.window_start() <= slice.start && slice.start < self.entered_to {
            self.amend(slice.start, &key, hash, value);
        } else {
            self.add(slot, value, hash);
        }
        self.push_refirings(key, hash, time, now);
        Ok(None)
    }

    /// Adds a record to a slice that is in the totals already.
    fn amend(&mut self, start: EventTime, key: &K, hash: u64, value: T) {
        let aggregate = &self.merger.aggregate;
        let mut acc = aggregate.create();
        aggregate.add(&mut acc, value);
        let late = Amendment { key, hash, acc: &acc, start, from: self.window_start() };
        self.totals.amend(&self.merger, &mut self.slices, late);
    }

    /// Makes the windows of `time` that have passed at `now`, but are not dropped, fire at once for this key.
    fn push_refirings(&mut self, key: K, hash: u64, time: EventTime, now: EventTime) {
        let passed = |end: EventTime| end.saturating_sub(1) <= now;
        let windows: Vec<_> = self
            .grid
            .windows(time)
            .filter(|w| passed(w.end) && self.dropped_at(w.end) > now)
            .collect();
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return };
        let range = || (Included(first.start), Excluded(last.end));
        if self.slices.any_spilled() {
            let slices: Vec<_> = self.slices.range(range().0, range().1).collect();
            for (start, slot) in slices {
                self.slices.fetch(start, slot, hash, || key.clone());
            }
        }
        let parts: Vec<_> = self
            .slices
            .range(range().0, range().1)
            .filter_map(|(start, slot)| {
                Some((start, D::acc(self.slices[slot].get(hash, |k| *k == key)?)))
            })
            .collect();
        for (window, content) in sums::sums(&self.merger, &parts, &windows) {
            let time = window.max_timestamp();
            let key = key.clone();
            self.firings.push(Pending { key, content, window, time, refiring: true });
        }
    }

    /// Moves the next window behind the watermark; windows without records may have been passed silently.
    fn skip_passed(&mut self) {
        if self.totals.is_empty() {
            self.next_end =
                self.next_end.max(self.grid.first_end(self.watermark.saturating_add(1)));
            self.entered_to = self.entered_to.max(self.window_start());
        }
    }

    /// The end of the next window with content.
    fn next_window(&self) -> Option<EventTime> {
        if !self.totals.is_empty() {
            return Some(self.next_end);
        }
        let from = self.entered_to.max(self.window_start());
        let (start, _) = self.slices.first_in(Included(from), Unbounded)?;
        Some(self.grid.first_end(start).max(self.next_end))
    }

    /// Lets the slices up to `end` enter; if windows are jumped over, the totals are empty.
    fn enter_up_to(&mut self, end: EventTime) {
        self.next_end = end;
        let from = self.entered_to.max(self.window_start());
        if self.is_anew {
            self.entered_to = from;
            return;
        }
        for (_, slot) in self.slices.range(Included(from), Excluded(end)) {
            self.totals.enter(&self.merger, &self.slices[slot]);
        }
        self.entered_to = end;
    }

    /// Lets the slices leave that are not in the window after the one that fired.
    fn leave_fired(&mut self) -> Result<()> {
        let from = self.window_start();
        let Some(next_end) = self.next_end.checked_add(self.grid.slide()) else {
            // The end of time: there is no next window.
            self.totals.clear();
            self.slices.close_all();
            self.current = NO_SLICE;
            return Ok(());
        };
        self.next_end = next_end;
        if self.is_anew {
            return Ok(());
        }
        let (to, entered_to) = (self.window_start(), self.entered_to);
        let mut leaving = Included(from);
        while let Some((start, _)) = self.slices.first_in(leaving, Excluded(to)) {
            self.totals.leave(&self.merger, &mut self.slices, start, entered_to)?;
            leaving = Excluded(start);
        }
        Ok(())
    }

    /// Begins to fire the window whose slices have entered.
    fn fire_next(&mut self, out: &mut Output<E::Out>) -> Result<Step> {
        if !self.is_anew {
            return self.fire(0, out);
        }
        let window = Included(self.window_start())..Excluded(self.next_end);
        self.summing = Some(Anew::new(&self.slices, window));
        self.sum_up(out)
    }

    /// Fires the window that is being fired, from where it stopped; `None` if there is none.
    fn fire_on(&mut self, out: &mut Output<E::Out>) -> Result<Option<Step>> {
        match self.firing {
            Some(at) => self.fire(at, out).map(Some),
            None if self.summing.is_some() => self.sum_up(out).map(Some),
            None => Ok(None),
        }
    }

    /// Sums up what is left of a window and fires it.
    fn sum_up(&mut self, out: &mut Output<E::Out>) -> Result<Step> {
        let window = self.grid.window(self.window_start());
        let Some(summing) = &mut self.summing else { return Ok(Step::Done) };
        while let Some((hash, key, acc)) = summing.total(&self.slices, &self.merger, D::acc) {
            let has_fired = self.ahead.has_passed(hash, window.max_timestamp());
            if !has_fired && self.firings.fire(key, acc, window, out)? == Step::Yield {
                return Ok(Step::Yield);
            }
            summing.pass();
        }
        self.summing = None;
        Ok(Step::Done)
    }

    /// From now on windows are summed up when they fire.
    fn sum_up_from_now_on(&mut self) {
        self.is_anew = true;
        self.totals = D::default();
        self.entered_to = MIN_TIME;
        self.current = NO_SLICE;
    }

    fn fire(&mut self, mut at: usize, out: &mut Output<E::Out>) -> Result<Step> {
        let window = self.grid.window(self.window_start());
        while let Some((hash, key, acc)) = self.totals.total(&self.merger, at) {
            let has_fired = self.ahead.has_passed(hash, window.max_timestamp());
            if !has_fired && self.firings.fire(key, acc, window, out)? == Step::Yield {
                self.firing = Some(at);
                return Ok(Step::Yield);
            }
            at += 1;
        }
        self.firing = None;
        Ok(Step::Done)
    }
}

impl<K, T, A, D, E, S> Windows<T, E::Out> for Sliced<K, T, A, D, E, S>
where
    K: Key,
    T: Send,
    A: Aggregate<T>,
    D: Totals<K, A::Acc>,
    E: Emit<K, A::Acc>,
    S: Keyed<T, K>,
{
    fn open(&mut self) -> Result<()> {
        self.firings.open()
    }

    fn warm(&self, hashes: &[u64]) {
        self.slices.warm(self.current.slot, hashes);
    }

    #[inline]
    fn insert(&mut self, value: T, time: EventTime, hash: u64) -> Result<Option<T>> {
        if self.current.start <= time && time < self.current.end {
            self.add(self.current.slot, value, hash);
            return Ok(None);
        }
        self.insert_elsewhere(value, time, hash)
    }

    fn settle(&mut self) {
        // A window that is being fired must stay where it is read.
        if self.firing.is_some() || self.summing.is_some() {
            return;
        }
        let total_bytes = size_of::<millstream_state::dense::Entry<K, A::Acc>>();
        self.slices.make_room(self.totals.n_keys() * total_bytes);
        if !self.is_anew && self.slices.any_spilled() {
            self.sum_up_from_now_on();
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
        loop {
            let step = match self.fire_on(out)? {
                Some(step) => step,
                None => match self.next_window() {
                    Some(end) if end.saturating_sub(1) <= now => {
                        self.enter_up_to(end);
                        self.fire_next(out)?
                    }
                    _ => break,
                },
            };
            if step == Step::Yield {
                return Ok(Step::Yield);
            }
            self.leave_fired()?;
        }
        self.watermark = self.watermark.max(now);
        self.ahead.pass(now);
        while let Some(start) = self.slices.first().filter(|s| self.slice_dropped_at(*s) <= now) {
            self.slices.close(start);
        }
        if self.current.due <= now {
            self.current = NO_SLICE;
        }
        self.is_anew &= self.slices.any_spilled();
        self.skip_passed();
        let next = self.next_window().map(|end| end.saturating_sub(1));
        let drop = self.slices.first().map(|start| self.slice_dropped_at(start));
        self.due = next.into_iter().chain(drop).min().unwrap_or(MAX_TIME);
        Ok(Step::Done)
    }

    fn next_due(&self) -> Option<EventTime> {
        self.next_window().map(|end| end.saturating_sub(1))
    }

    fn close(&mut self) -> Result<()> {
        self.firings.close()
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("slices", &mut self.slices.as_part(D::acc, D::part))
    }

    /// The totals are made up of the slices when the next window fires.
    fn restored(&mut self, now: EventTime, ahead: &Ahead) -> Result<()> {
        self.watermark = now;
        self.ahead = ahead.clone();
        self.is_anew = self.slices.any_spilled();
        self.skip_passed();
        let next = self.next_window().map(|end| end.saturating_sub(1));
        let drop = self.slices.first().map(|start| self.slice_dropped_at(start));
        self.due = next.into_iter().chain(drop).min().unwrap_or(MAX_TIME);
        Ok(())
    }
}
