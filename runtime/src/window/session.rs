//! Sessions: windows that belong to one key and grow as long as its records keep coming.
//!
//! A key has few sessions at a time, so they stand in a short list in its entry, in order of time; a record
//! that lies between two of them makes them one. Each session has one timer, which is *not* moved when the
//! session grows: it goes off too early, finds that there is nothing to do yet and is set anew. So a record
//! that only prolongs a session costs one probe. Whether a record is late is decided after merging, as in
//! Flink: a late record may be saved by a session that is still open.

use super::assigner::Gap;
use super::content::Content;
use super::emit::Emit;
use super::firing::{Firings, Pending, timed};
use super::key::Keyed;
use super::operator::Windows;
use super::time_window::TimeWindow;
use crate::chain::{Output, Step};
use crate::context::OperatorContext;
use crate::watermark::Ahead;
use millstream_model::{Data, EventTime, Key, MIN_TIME, Result};
use millstream_state::timers::Due;
use millstream_state::{KeyedTable, TimerQueue, Visitor};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// See the module's text.
pub(super) struct Sessions<K, T, C, A, E, S> {
    gap: Gap<T>,
    lateness: EventTime,
    selector: S,
    content: C,
    open: KeyedTable<K, SmallVec<[Session<A>; 1]>>,
    timers: TimerQueue<K>,
    watermark: EventTime,
    ahead: Ahead,
    firings: Firings<K, A, E>,
}

#[derive(Serialize, Deserialize)]
struct Session<A> {
    window: TimeWindow,
    /// When its timer goes off: not after the next thing that is to happen to it.
    timer: EventTime,
    content: A,
}

/// When a session is dropped.
fn dropped_at(window: &TimeWindow, lateness: EventTime) -> EventTime {
    window.max_timestamp().saturating_add(lateness)
}

/// The next thing that happens to a session once the clock has shown `now`: it fires or is dropped.
fn next_event(window: &TimeWindow, lateness: EventTime, now: EventTime) -> EventTime {
    let end = window.max_timestamp();
    if end > now { end } else { dropped_at(window, lateness) }
}

impl<K, T, C, A, E, S> Sessions<K, T, C, A, E, S>
where
    K: Key,
    C: Content<T, Acc = A>,
    A: Data + Clone,
    E: Emit<K, A>,
    S: Keyed<T, K>,
{
    /// Sessions that end after `gap`, kept for `lateness` milliseconds longer than they last.
    pub(super) fn new(
        gap: Gap<T>,
        lateness: EventTime,
        selector: S,
        content: C,
        emit: E,
        context: OperatorContext,
    ) -> Self {
        Sessions {
            gap,
            lateness,
            selector,
            content,
            open: KeyedTable::default(),
            timers: TimerQueue::default(),
            watermark: MIN_TIME,
            ahead: Ahead::default(),
            firings: Firings::new(emit, context),
        }
    }

    /// The first record of a key, or one of a key that is not there for now.
    #[inline(never)]
    fn insert_key(&mut self, value: T, window: TimeWindow, hash: u64) -> Option<T> {
        let now = self.ahead.of(hash, self.watermark);
        if dropped_at(&window, self.lateness) <= now {
            return Some(value);
        }
        let key = self.selector.key(&value);
        let mut content = self.content.create();
        self.content.add(&mut content, value);
        self.push_refiring(&key, window, &content, now);
        let timer = next_event(&window, self.lateness, now);
        self.timers.set(timer, hash, &key, &());
        let sessions = SmallVec::from_buf([Session { window, timer, content }]);
        self.open.insert(hash, key, sessions);
        None
    }

    /// Makes a session fire at once if its end has passed at `now`.
    fn push_refiring(&mut self, key: &K, window: TimeWindow, content: &A, now: EventTime) {
        let time = window.max_timestamp();
        if time <= now {
            let (key, content) = (key.clone(), content.clone());
            self.firings.push(Pending { key, content, window, time, refiring: true });
        }
    }

    /// A timer went off: its sessions fire, are dropped, or are left for later.
    fn on_timer(&mut self, timer: Due<K>) {
        let Due { time, hash, key, .. } = timer;
        self.open.fetch(hash, &key);
        let Some(sessions) = self.open.get_mut(hash, |k| *k == key) else { return };
        // Sessions that were merged leave their timers behind; those are nobody's. Two may have the same: one ends when
        // another is dropped.
        while let Some(i) = sessions.iter().position(|s| s.timer == time) {
            let window = sessions[i].window;
            let (end, dropped) = (window.max_timestamp(), dropped_at(&window, self.lateness));
            // A timer at the end is the firing; one before it was set when the session was shorter.
            let fires = time == end;
            let next = if time < end { end } else { dropped };
            let content = if next > time {
                sessions[i].timer = next;
                self.timers.set(next, hash, &key, &());
                fires.then(|| sessions[i].content.clone())
            } else {
                let session = sessions.remove(i);
                fires.then_some(session.content)
            };
            if let Some(content) = content {
                let key = key.clone();
                self.firings.push(Pending { key, content, window, time: end, refiring: false });
            }
        }
        if sessions.is_empty() {
            self.open.remove(hash, |k| *k == key);
        }
    }
}

impl<K, T, C, E, S> Windows<T, E::Out> for Sessions<K, T, C, C::Acc, E, S>
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
        self.open.warm(hashes);
    }

    #[inline]
    fn insert(&mut self, value: T, time: EventTime, hash: u64) -> Result<Option<T>> {
        timed(time)?;
        let end = time.saturating_add(self.gap.after(&value)?);
        let window = TimeWindow { start: time, end };
        let selector = &self.selector;
        self.open.fetch_with(hash, || selector.key(&value));
        let Some((key, sessions)) = self.open.find_entry(hash, |key| selector.is(&value, key))
        else {
            return Ok(self.insert_key(value, window, hash));
        };
        let now = self.ahead.of(hash, self.watermark);
        // Those that become one with the record's window stand side by side.
        let n_before = sessions.partition_point(|s| s.window.end < window.start);
        let n_merged = sessions[n_before..].partition_point(|s| s.window.start <= window.end);
        let merged = sessions[n_before..n_before + n_merged]
            .iter()
            .fold(window, |merged, s| merged.cover(&s.window));
        if dropped_at(&merged, self.lateness) <= now {
            return Ok(Some(value));
        }
        let next = next_event(&merged, self.lateness, now);
        if n_merged == 0 {
            let session = Session { window, timer: EventTime::MAX, content: self.content.create() };
            sessions.insert(n_before, session);
        } else if n_merged > 1 {
            let later: SmallVec<[Session<C::Acc>; 1]> =
                sessions.drain(n_before + 1..n_before + n_merged).collect();
            let first = &mut sessions[n_before];
            for session in later {
                self.content.merge(&mut first.content, session.content);
            }
        }
        let session = &mut sessions[n_before];
        session.window = merged;
        self.content.add(&mut session.content, value);
        let timer = (next < session.timer).then(|| (next, key.clone()));
        if timer.is_some() {
            session.timer = next;
        }
        let refiring =
            (merged.max_timestamp() <= now).then(|| (key.clone(), session.content.clone()));
        if let Some((time, key)) = timer {
            self.timers.set(time, hash, &key, &());
        }
        if let Some((key, content)) = refiring {
            let (window, time) = (merged, merged.max_timestamp());
            self.firings.push(Pending { key, content, window, time, refiring: true });
        }
        Ok(None)
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
        loop {
            if self.firings.drain(out)? == Step::Yield {
                return Ok(Step::Yield);
            }
            match self.timers.pop_due(now) {
                Some(timer) => self.on_timer(timer),
                None => break,
            }
        }
        self.watermark = self.watermark.max(now);
        self.ahead.pass(now);
        Ok(Step::Done)
    }

    fn next_due(&self) -> Option<EventTime> {
        self.timers.next_time()
    }

    fn close(&mut self) -> Result<()> {
        self.firings.close()
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("sessions", &mut self.open)?;
        visitor.part("timers", &mut self.timers)
    }

    fn restored(&mut self, now: EventTime, ahead: &Ahead) -> Result<()> {
        self.watermark = now;
        self.ahead = ahead.clone();
        Ok(())
    }
}
