//! The window operator for everything that needs to be asked: any trigger, evictors, all of time.
//!
//! It keeps content per key *and* window, in order of arrival, and asks the trigger at every record and at
//! every timer. Timers are set once per window and moment, however often a trigger asks; the list of what is
//! set stands in the window, so a record that changes nothing touches no queue.

mod open;

use super::assigner::{Gap, Layout};
use super::content::Content;
use super::emit::Emit;
use super::firing::{Firings, Late, Pending, timed};
use super::key::Keyed;
use super::time_window::TimeWindow;
use super::trigger::{BoxedState, TriggerResult};
use crate::chain::{Operator, Output, Records, Step};
use crate::context::OperatorContext;
use crate::function::TimeDomain;
use crate::watermark::Ahead;
use millstream_model::{Data, EventTime, Key, MAX_TIME, MIN_TIME, Result};
use millstream_state::timers::Due;
use millstream_state::{KeyedTable, Visitor};
use open::{Moment, Open, Owner, Timers};
use smallvec::SmallVec;

pub(super) use open::Rules;

/// See the module's text.
pub(super) struct General<K, T, C: Content<T>, E, S> {
    rules: Rules<T, C>,
    selector: S,
    open: KeyedTable<K, Windows<T, C::Acc>>,
    timers: Timers<K>,
    /// The machine's clock, as far as it was told or read.
    now: EventTime,
    ahead: Ahead,
    late: Late,
    firings: Firings<K, C::Acc, E>,
}

/// The windows of a key, in order of time.
type Windows<T, A> = SmallVec<[Open<T, A>; 1]>;

impl<K, T, C, E, S> General<K, T, C, E, S>
where
    K: Key,
    T: Send + 'static,
    C: Content<T>,
    E: Emit<K, C::Acc>,
    S: Keyed<T, K>,
{
    pub(super) fn new(
        rules: Rules<T, C>,
        late: Option<&'static str>,
        selector: S,
        emit: E,
        context: OperatorContext,
    ) -> Self {
        General {
            rules,
            selector,
            open: KeyedTable::default(),
            timers: Timers::default(),
            now: MIN_TIME,
            ahead: Ahead::default(),
            late: Late::new(late, &context),
            firings: Firings::new(emit, context),
        }
    }

    /// The moment for a key with this hash.
    fn moment(&self, hash: u64) -> Moment {
        let watermark = self.ahead.of(hash, self.firings.watermark());
        Moment { watermark, now: self.now }
    }

    /// Takes a record, or gives it back if it is late.
    fn insert(&mut self, value: T, time: EventTime, hash: u64) -> Result<Option<T>> {
        let moment = self.moment(hash);
        let watermark = moment.watermark;
        let windows: SmallVec<[TimeWindow; 1]> = match &self.rules.layout {
            Layout::Global => SmallVec::from_buf([TimeWindow::ALWAYS]),
            Layout::Aligned(grid) => {
                timed(time)?;
                grid.windows(time).filter(|w| !self.rules.is_over(*w, watermark)).collect()
            }
            Layout::Session(gap) => {
                timed(time)?;
                let gap = gap.clone();
                self.session(&gap, &value, (time, hash), moment)?.into_iter().collect()
            }
        };
        if windows.is_empty() {
            // Between two windows a record belongs to none, and is late when windows of its time would be.
            let late = self.rules.domain == TimeDomain::EventTime
                && time.saturating_add(self.rules.lateness) <= watermark;
            return Ok(late.then_some(value));
        }
        let (rules, selector, timers) = (&self.rules, &self.selector, &mut self.timers);
        let make = || (selector.key(&value), Windows::new());
        let (key, held) = self.open.entry(hash, |key| selector.is(&value, key), make);
        let owner = Owner { key, hash };
        let mut answers: SmallVec<[TriggerResult; 1]> = SmallVec::new();
        for window in &windows {
            let open = match held.binary_search_by_key(window, |open| open.window) {
                Ok(at) => &mut held[at],
                Err(at) => {
                    held.insert(at, rules.open(*window));
                    &mut held[at]
                }
            };
            answers.push(timers.ask(&owner, open, moment, |state, ctx| {
                rules.trigger.on_element(&value, time, state, ctx)
            })?);
            if let Some(dropped_at) = rules.dropped_at(*window) {
                timers.set(&owner, open, rules.domain, dropped_at);
            }
        }
        let mut taking = held.iter_mut().filter(|open| windows.contains(&open.window));
        if windows.len() > 1 {
            rules.add_to_all(taking.map(|open| &mut open.held), value, time);
        } else if let Some(open) = taking.next() {
            rules.add(&mut open.held, value, time);
        }
        let taking = held.iter_mut().filter(|open| windows.contains(&open.window));
        for (open, answer) in taking.zip(answers) {
            let refiring =
                rules.domain == TimeDomain::EventTime && open.window.max_timestamp() <= watermark;
            act(rules, &mut self.firings, key, open, answer, time, refiring);
        }
        Ok(None)
    }

    /// The session a record belongs to, merged from those it connects; `None` if the record is late.
    fn session(
        &mut self,
        gap: &Gap<T>,
        value: &T,
        (time, hash): (EventTime, u64),
        moment: Moment,
    ) -> Result<Option<TimeWindow>> {
        let end = time.saturating_add(gap.after(value)?);
        let window = TimeWindow { start: time, end };
        let (rules, selector, timers) = (&self.rules, &self.selector, &mut self.timers);
        self.open.fetch_with(hash, || selector.key(value));
        let Some((key, windows)) = self.open.find_entry(hash, |key| selector.is(value, key)) else {
            return Ok((!rules.is_over(window, moment.watermark)).then_some(window));
        };
        let first = windows.partition_point(|open| open.window.end < window.start);
        let n = windows[first..].partition_point(|open| open.window.start <= window.end);
        let connected = first..first + n;
        let merged = windows[connected.clone()]
            .iter()
            .fold(window, |merged, open| merged.cover(&open.window));
        if rules.is_over(merged, moment.watermark) {
            return Ok(None);
        }
        if n == 0 || (n == 1 && windows[first].window == merged) {
            return Ok(Some(merged));
        }
        let owner = Owner { key, hash };
        let mut whole = rules.open(merged);
        let parts: SmallVec<[_; 2]> = windows.drain(connected).collect();
        for mut part in parts {
            timers.delete_all(&owner, &mut part);
            rules.merge(&mut whole.held, part.held);
            let other = part.state;
            timers.ask(&owner, &mut whole, moment, |state, ctx| {
                rules.trigger.on_merge(state, other, ctx)
            })?;
        }
        windows.insert(first, whole);
        Ok(Some(merged))
    }

    /// A timer went off: asks the trigger, and drops the window when its time has come.
    fn on_timer(
        &mut self,
        domain: TimeDomain,
        Due { time, hash, key, note: window }: Due<K, TimeWindow>,
    ) -> Result<()> {
        let moment = self.moment(hash);
        let (rules, timers) = (&self.rules, &mut self.timers);
        self.open.fetch(hash, &key);
        let Some(windows) = self.open.get_mut(hash, |k| *k == key) else { return Ok(()) };
        let Ok(i) = windows.binary_search_by_key(&window, |open| open.window) else {
            return Ok(());
        };
        let open = &mut windows[i];
        open.went_off(domain, time);
        let owner = Owner { key: &key, hash };
        let answer = timers.ask(&owner, open, moment, |state, ctx| {
            rules.trigger.on_time(domain, time, state, ctx)
        })?;
        let over = domain == rules.domain && rules.dropped_at(window).is_some_and(|t| t <= time);
        // What is about to be dropped need not be copied.
        let answer = match answer {
            TriggerResult::Fire if over => TriggerResult::FireAndPurge,
            answer => answer,
        };
        act(rules, &mut self.firings, &key, open, answer, time, false);
        if over {
            timers.ask(&owner, open, moment, |state: &mut BoxedState, ctx| {
                rules.trigger.clear(state, ctx)
            })?;
            timers.delete_all(&owner, open);
            windows.remove(i);
            if windows.is_empty() {
                self.open.remove(hash, |k| *k == key);
            }
        }
        Ok(())
    }

    /// Fires the due timers of one clock, as long as the output takes the results.
    fn fire(
        &mut self,
        domain: TimeDomain,
        now: EventTime,
        out: &mut Output<E::Out>,
    ) -> Result<Step> {
        loop {
            if self.firings.drain(out)? == Step::Yield {
                return Ok(Step::Yield);
            }
            match self.timers.pop_due(domain, now) {
                Some(timer) => self.on_timer(domain, timer)?,
                None => return Ok(Step::Done),
            }
        }
    }

    fn request_tick(&self) {
        if let Some(next) = self.timers.next_processing() {
            self.firings.context.task().request_tick(next.saturating_add(1));
        }
    }
}

/// Does to a window what its trigger said.
fn act<K, T, C, E>(
    rules: &Rules<T, C>,
    firings: &mut Firings<K, C::Acc, E>,
    key: &K,
    open: &mut Open<T, C::Acc>,
    answer: TriggerResult,
    time: EventTime,
    refiring: bool,
) where
    K: Key,
    T: 'static,
    C: Content<T>,
    E: Emit<K, C::Acc>,
{
    if answer.fires() {
        if let Some(content) = rules.fired(open, answer.purges()) {
            let window = open.window;
            // All of time has no last millisecond to stamp results with.
            let time = if window == TimeWindow::ALWAYS { time } else { window.max_timestamp() };
            firings.push(Pending { key: key.clone(), content, window, time, refiring });
        }
    } else if answer.purges() {
        open.held.clear();
    }
}

impl<K, T, C, E, S> Operator<T, E::Out> for General<K, T, C, E, S>
where
    K: Key,
    T: Data,
    C: Content<T>,
    E: Emit<K, C::Acc>,
    S: Keyed<T, K>,
{
    fn open(&mut self) -> Result<()> {
        self.firings.open()
    }

    fn process(&mut self, records: &mut Records<'_, T>, out: &mut Output<E::Out>) -> Result<Step> {
        if self.firings.drain(out)? == Step::Yield {
            return Ok(Step::Yield);
        }
        self.now = self.now.max(self.firings.context.now_ms());
        while let Some((value, time, hash)) = records.next_record() {
            let by_clock = self.rules.domain == TimeDomain::ProcessingTime;
            let time = if by_clock { self.now } else { time };
            if let Some(value) = self.insert(value, time, hash)? {
                self.late.take(value, time, out);
            }
            if self.firings.has_pending() && self.firings.drain(out)? == Step::Yield {
                return Ok(Step::Yield);
            }
        }
        self.request_tick();
        Ok(Step::Done)
    }

    fn advance(&mut self, watermark: EventTime, out: &mut Output<E::Out>) -> Result<Step> {
        if watermark > self.firings.watermark() {
            self.firings.observe(watermark);
        }
        let step = self.fire(TimeDomain::EventTime, self.firings.watermark(), out)?;
        if step == Step::Done {
            self.ahead.pass(watermark);
        }
        Ok(step)
    }

    fn tick(&mut self, now: EventTime, out: &mut Output<E::Out>) -> Result<Step> {
        self.now = self.now.max(now);
        let step = self.fire(TimeDomain::ProcessingTime, self.now.saturating_sub(1), out)?;
        if step == Step::Done {
            self.request_tick();
        }
        Ok(step)
    }

    fn end(&mut self, out: &mut Output<E::Out>) -> Result<Step> {
        self.timers.ended = true;
        self.fire(TimeDomain::ProcessingTime, MAX_TIME, out)
    }

    fn close(&mut self) -> Result<()> {
        self.firings.close()
    }

    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("windows", &mut self.open)?;
        self.timers.parts(visitor)
    }

    fn restored(&mut self, watermark: EventTime, ahead: &Ahead) -> Result<()> {
        self.ahead = ahead.clone();
        self.firings.observe(watermark);
        self.request_tick();
        Ok(())
    }
}
