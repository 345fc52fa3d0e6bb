//! One open window of a key: what it holds, what its trigger remembers, which timers are set for it.

use super::super::assigner::Layout;
use super::super::content::Content;
use super::super::evictor::{Eviction, WindowElements};
use super::super::time_window::TimeWindow;
use super::super::trigger::{BoxedState, BoxedTrigger, TriggerContext};
use crate::function::TimeDomain;
use millstream_model::{EventTime, Key, Result};
use millstream_state::timers::Due;
use millstream_state::{TimerQueue, Visitor};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What is the same for all windows of an operator.
pub(in super::super) struct Rules<T, C> {
    pub(in super::super) layout: Layout<T>,
    pub(in super::super) domain: TimeDomain,
    pub(in super::super) lateness: EventTime,
    pub(in super::super) trigger: BoxedTrigger<T>,
    pub(in super::super) eviction: Option<Eviction<T>>,
    pub(in super::super) content: C,
}

/// A window of a key.
#[derive(Serialize, Deserialize)]
pub(super) struct Open<T, A> {
    pub(super) window: TimeWindow,
    pub(super) held: Held<T, A>,
    pub(super) state: BoxedState,
    /// The timers that are set for it.
    timers: SmallVec<[(TimeDomain, EventTime); 2]>,
}

/// What a window holds.
#[derive(Serialize, Deserialize)]
pub(super) enum Held<T, A> {
    /// What its content makes of the records.
    Folded(Option<A>),
    /// The records, because an evictor may take some of them away.
    Elements(WindowElements<T>),
}

impl<T, A> Held<T, A> {
    pub(super) fn clear(&mut self) {
        match self {
            Held::Folded(acc) => *acc = None,
            Held::Elements(elements) => *elements = WindowElements::default(),
        }
    }
}

/// The timers of all windows.
pub(super) struct Timers<K> {
    event: TimerQueue<K, TimeWindow>,
    processing: TimerQueue<K, TimeWindow>,
    /// The input has ended: nobody waits for the machine's clock any more.
    pub(super) ended: bool,
    /// What a trigger has just set and deleted.
    changes: Vec<(TimeDomain, EventTime, bool)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        let (event, processing) = (TimerQueue::default(), TimerQueue::default());
        Timers { event, processing, ended: false, changes: Vec::new() }
    }
}

/// The moment at which a trigger is asked.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) watermark: EventTime,
    pub(super) now: EventTime,
}

/// The key a window belongs to.
pub(super) struct Owner<'a, K> {
    pub(super) key: &'a K,
    pub(super) hash: u64,
}

impl<K: Key> Timers<K> {
    fn queue(&mut self, domain: TimeDomain) -> &mut TimerQueue<K, TimeWindow> {
        match domain {
            TimeDomain::EventTime => &mut self.event,
            TimeDomain::ProcessingTime => &mut self.processing,
        }
    }

    /// Shows them as parts of the operator's state.
    pub(super) fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("timers/event", &mut self.event)?;
        visitor.part("timers/processing", &mut self.processing)
    }

    /// Sets a timer unless it is set already.
    pub(super) fn set<T, A>(
        &mut self,
        owner: &Owner<'_, K>,
        open: &mut Open<T, A>,
        domain: TimeDomain,
        time: EventTime,
    ) {
        let ended = self.ended && domain == TimeDomain::ProcessingTime;
        if !ended && !open.timers.contains(&(domain, time)) {
            open.timers.push((domain, time));
            self.queue(domain).set(time, owner.hash, owner.key, &open.window);
        }
    }

    fn delete<T, A>(
        &mut self,
        owner: &Owner<'_, K>,
        open: &mut Open<T, A>,
        domain: TimeDomain,
        time: EventTime,
    ) {
        if let Some(at) = open.timers.iter().position(|t| *t == (domain, time)) {
            open.timers.swap_remove(at);
            self.queue(domain).delete(time, owner.hash, owner.key, &open.window);
        }
    }

    /// Deletes all timers of a window.
    pub(super) fn delete_all<T, A>(&mut self, owner: &Owner<'_, K>, open: &mut Open<T, A>) {
        while let Some((domain, time)) = open.timers.last().copied() {
            self.delete(owner, open, domain, time);
        }
    }

    /// Asks a trigger about a window, with timers that are those of the window.
    pub(super) fn ask<T, A, R>(
        &mut self,
        owner: &Owner<'_, K>,
        open: &mut Open<T, A>,
        moment: Moment,
        question: impl FnOnce(&mut BoxedState, &mut TriggerContext<'_>) -> R,
    ) -> R {
        let mut changes = std::mem::take(&mut self.changes);
        let Moment { watermark, now } = moment;
        let mut ctx = TriggerContext { window: open.window, watermark, now, timers: &mut changes };
        let answer = question(&mut open.state, &mut ctx);
        for (domain, time, set) in changes.drain(..) {
            if set {
                self.set(owner, open, domain, time);
            } else {
                self.delete(owner, open, domain, time);
            }
        }
        self.changes = changes;
        answer
    }

    /// Takes out the next timer of a clock that shows `now`.
    pub(super) fn pop_due(
        &mut self,
        domain: TimeDomain,
        now: EventTime,
    ) -> Option<Due<K, TimeWindow>> {
        self.queue(domain).pop_due(now)
    }

    /// When the next processing-time timer goes off.
    pub(super) fn next_processing(&self) -> Option<EventTime> {
        self.processing.next_time()
    }
}

impl<T, A> Open<T, A> {
    /// Notes that one of its timers went off, so that it can be set again.
    pub(super) fn went_off(&mut self, domain: TimeDomain, time: EventTime) {
        self.timers.retain(|timer| *timer != (domain, time));
    }
}

impl<T: 'static, C: Content<T>> Rules<T, C> {
    /// When a window is dropped; `None` for all of time.
    pub(super) fn dropped_at(&self, window: TimeWindow) -> Option<EventTime> {
        let time = window.max_timestamp().saturating_add(self.lateness);
        (window != TimeWindow::ALWAYS).then_some(time)
    }

    pub(super) fn is_over(&self, window: TimeWindow, watermark: EventTime) -> bool {
        self.domain == TimeDomain::EventTime
            && self.dropped_at(window).is_some_and(|time| time <= watermark)
    }

    pub(super) fn open(&self, window: TimeWindow) -> Open<T, C::Acc> {
        let held = match self.eviction {
            Some(_) => Held::Elements(WindowElements::default()),
            None => Held::Folded(None),
        };
        Open { window, held, state: BoxedState::default(), timers: SmallVec::new() }
    }

    pub(super) fn merge(&self, held: &mut Held<T, C::Acc>, later: Held<T, C::Acc>) {
        match (held, later) {
            (Held::Folded(Some(acc)), Held::Folded(Some(later))) => self.content.merge(acc, later),
            (Held::Folded(acc @ None), Held::Folded(later)) => *acc = later,
            (Held::Elements(elements), Held::Elements(mut later)) => elements.append(&mut later),
            // Nothing to add; an operator's windows are all of one kind.
            _ => {}
        }
    }

    /// What a window function is to see, if there is anything.
    pub(super) fn fired(&self, open: &mut Open<T, C::Acc>, purge: bool) -> Option<C::Acc> {
        let content = match (&mut open.held, &self.eviction) {
            (Held::Folded(acc), _) if purge => acc.take(),
            (Held::Folded(acc), _) => acc.clone(),
            (Held::Elements(elements), Some(eviction)) => {
                eviction.evictor.evict_before(elements, open.window);
                let acc = (!elements.is_empty()).then(|| {
                    let mut acc = self.content.create();
                    for value in elements.values() {
                        self.content.add(&mut acc, (eviction.copy)(value));
                    }
                    acc
                });
                eviction.evictor.evict_after(elements, open.window);
                acc
            }
            (Held::Elements(_), None) => None,
        };
        if purge {
            open.held.clear();
        }
        content
    }

    /// Adds a record to a window.
    pub(super) fn add(&self, held: &mut Held<T, C::Acc>, value: T, time: EventTime) {
        match held {
            Held::Folded(acc) => {
                self.content.add(acc.get_or_insert_with(|| self.content.create()), value);
            }
            Held::Elements(elements) => elements.push(value, time),
        }
    }

    /// Adds a record to several windows.
    pub(super) fn add_to_all<'h>(
        &self,
        windows: impl Iterator<Item = &'h mut Held<T, C::Acc>>,
        value: T,
        time: EventTime,
    ) where
        C::Acc: 'h,
    {
        if let Some(eviction) = &self.eviction {
            for held in windows {
                self.add(held, (eviction.copy)(&value), time);
            }
            return;
        }
        let shared = self.content.share(value);
        for held in windows {
            if let Held::Folded(acc) = held {
                let acc = acc.get_or_insert_with(|| self.content.create());
                self.content.add_shared(acc, &shared);
            }
        }
    }
}
