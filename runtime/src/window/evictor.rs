//! Evictors: which elements of a window its function is not to see.
//!
//! An evictor needs the elements themselves, so a window with one keeps them all, in order of arrival and
//! with their times, whatever is computed from them.

use super::time_window::TimeWindow;
use millstream_model::time::as_millis;
use millstream_model::{EventTime, NO_TIME};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The elements of a window, in order of arrival.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WindowElements<T> {
    values: Vec<T>,
    times: Vec<EventTime>,
}

impl<T> Default for WindowElements<T> {
    fn default() -> Self {
        WindowElements { values: Vec::new(), times: Vec::new() }
    }
}

impl<T> WindowElements<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.values.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
    /// The elements.
    pub fn values(&self) -> &[T] {
        &self.values
    }
    /// The time of each: its event time, or when it was processed.
    pub fn times(&self) -> &[EventTime] {
        &self.times
    }
    /// Keeps the elements for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&T, EventTime) -> bool) {
        let kept: Vec<bool> =
            self.values.iter().zip(&self.times).map(|(v, t)| keep(v, *t)).collect();
        let mut of_value = kept.iter().copied();
        self.values.retain(|_| of_value.next().unwrap_or(true));
        let mut of_time = kept.into_iter();
        self.times.retain(|_| of_time.next().unwrap_or(true));
    }
    /// Drops the oldest elements but `n`.
    pub fn keep_last(&mut self, n: usize) {
        let n_dropped = self.len().saturating_sub(n);
        self.values.drain(..n_dropped);
        self.times.drain(..n_dropped);
    }
    pub(super) fn push(&mut self, value: T, time: EventTime) {
        self.values.push(value);
        self.times.push(time);
    }
    pub(super) fn append(&mut self, other: &mut Self) {
        self.values.append(&mut other.values);
        self.times.append(&mut other.times);
    }
}

/// Removes elements from a window of records of type `T` when it fires. What is removed is gone for later
/// firings too.
pub trait Evictor<T>: Send + Sync + 'static {
    /// Removes elements before the window function is called.
    fn evict_before(&self, elements: &mut WindowElements<T>, window: TimeWindow) {
        let _ = (elements, window);
    }
    /// Removes elements after the window function was called.
    fn evict_after(&self, elements: &mut WindowElements<T>, window: TimeWindow) {
        let _ = (elements, window);
    }
}

/// An evictor and how its windows copy an element, which they have to because the window function sees what
/// the window keeps.
pub struct Eviction<T> {
    pub(super) evictor: Arc<dyn Evictor<T>>,
    pub(super) copy: fn(&T) -> T,
}

impl<T> Clone for Eviction<T> {
    fn clone(&self) -> Self {
        Eviction { evictor: self.evictor.clone(), copy: self.copy }
    }
}

impl<T: Clone> Eviction<T> {
    /// Evicts as `evictor` says.
    pub fn new(evictor: impl Evictor<T>) -> Self {
        Eviction { evictor: Arc::new(evictor), copy: T::clone }
    }
}

macro_rules! evictor {
    ($evictor:ident<$($p:ident),*> [$($bound:tt)*], $evict:expr) => {
        impl<$($p),*> $evictor<$($p),*> {
            /// Evicts after the window function was called instead of before.
            #[must_use]
            pub fn after(mut self) -> Self {
                self.after = true;
                self
            }
        }

        impl<T, $($p),*> Evictor<T> for $evictor<$($p),*>
        where
            $($bound)*
        {
            fn evict_before(&self, elements: &mut WindowElements<T>, _: TimeWindow) {
                if !self.after {
                    $evict(self, elements);
                }
            }
            fn evict_after(&self, elements: &mut WindowElements<T>, _: TimeWindow) {
                if self.after {
                    $evict(self, elements);
                }
            }
        }
    };
}

/// Keeps the last n elements.
#[derive(Clone, Copy, Debug)]
pub struct CountEvictor {
    n: usize,
    after: bool,
}

impl CountEvictor {
    /// Keeps the last `n` elements.
    pub fn of(n: usize) -> Self {
        CountEvictor { n, after: false }
    }
    fn evict<T>(&self, elements: &mut WindowElements<T>) {
        elements.keep_last(self.n);
    }
}

evictor!(CountEvictor<> [], CountEvictor::evict);

/// Keeps the elements that are not older than the newest by a duration.
#[derive(Clone, Copy, Debug)]
pub struct TimeEvictor {
    age: EventTime,
    after: bool,
}

impl TimeEvictor {
    /// Keeps the elements less than `age` older than the newest.
    pub fn of(age: Duration) -> Self {
        TimeEvictor { age: as_millis(age), after: false }
    }
    fn evict<T>(&self, elements: &mut WindowElements<T>) {
        // Records without times are all of the same age.
        if let Some(newest) = elements.times.iter().max().filter(|newest| **newest != NO_TIME) {
            let limit = newest.saturating_sub(self.age);
            elements.retain(|_, time| time > limit);
        }
    }
}

evictor!(TimeEvictor<> [], TimeEvictor::evict);

/// Keeps the elements that do not differ too much from the last one.
#[derive(Clone, Debug)]
pub struct DeltaEvictor<F> {
    threshold: f64,
    delta: F,
    after: bool,
}

impl<F> DeltaEvictor<F> {
    /// Keeps the elements for which `delta(element, last)` is below `threshold`.
    pub fn of<T>(threshold: f64, delta: F) -> Self
    where
        F: Fn(&T, &T) -> f64,
    {
        DeltaEvictor { threshold, delta, after: false }
    }
    fn evict<T>(&self, elements: &mut WindowElements<T>)
    where
        F: Fn(&T, &T) -> f64,
    {
        let Some(last) = elements.values.last() else { return };
        let kept: Vec<bool> =
            elements.values.iter().map(|v| (self.delta)(v, last) < self.threshold).collect();
        let mut kept = kept.into_iter();
        elements.retain(|_, _| kept.next().unwrap_or(true));
    }
}

evictor!(DeltaEvictor<F> [F: Fn(&T, &T) -> f64 + Send + Sync + 'static], DeltaEvictor::evict);

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: TimeWindow = TimeWindow { start: 0, end: 100 };

    fn elements() -> WindowElements<i64> {
        let mut elements = WindowElements::default();
        for (value, time) in [(1, 50), (9, 10), (4, 41), (5, 40)] {
            elements.push(value, time);
        }
        elements
    }

    fn kept(evictor: impl Evictor<i64>) -> (Vec<i64>, Vec<i64>) {
        let (mut before, mut after) = (elements(), elements());
        evictor.evict_before(&mut before, WINDOW);
        evictor.evict_after(&mut after, WINDOW);
        assert_eq!(before.values.len(), before.times.len());
        (before.values, after.values)
    }

    #[test]
    fn each_keeps_what_it_promises_before_or_after() {
        let all = vec![1, 9, 4, 5];
        assert_eq!(kept(CountEvictor::of(3)), (vec![9, 4, 5], all.clone()));
        assert_eq!(kept(CountEvictor::of(3).after()), (all.clone(), vec![9, 4, 5]));
        assert_eq!(kept(TimeEvictor::of(Duration::from_millis(10))), (vec![1, 4], all.clone()));
        let delta = |a: &i64, b: &i64| (a - b).abs() as f64;
        assert_eq!(kept(DeltaEvictor::of(4.0, delta)), (vec![4, 5], all));
    }
}
