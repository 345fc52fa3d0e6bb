//! Triggers: when a window fires, if not simply at its end.
//!
//! A trigger is a description without memory; what it remembers about a window of a key is a value of its
//! own type that it is lent ([`Trigger::State`]). So it cannot mix up keys, and the state can be moved when
//! windows become one. Timers are those of the key and window it is asked about.

use super::time_window::TimeWindow;
use crate::function::TimeDomain;
use millstream_model::{Data, EventTime, Result};
use millstream_state::codec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::Any;
use std::sync::Arc;

/// What becomes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum TriggerResult {
    /// Nothing for now.
    Continue,
    /// The window function is called; the content stays.
    Fire,
    /// The content is dropped.
    Purge,
    /// The window function is called for the last time: then the content is dropped.
    FireAndPurge,
}

impl TriggerResult {
    pub(super) fn fires(self) -> bool {
        matches!(self, TriggerResult::Fire | TriggerResult::FireAndPurge)
    }
    pub(super) fn purges(self) -> bool {
        matches!(self, TriggerResult::Purge | TriggerResult::FireAndPurge)
    }
}

/// What a trigger may ask and do: for the window of the key it is asked about.
pub struct TriggerContext<'a> {
    pub(super) window: TimeWindow,
    pub(super) watermark: EventTime,
    pub(super) now: EventTime,
    /// Timers to set (true) or delete (false), in order.
    pub(super) timers: &'a mut Vec<(TimeDomain, EventTime, bool)>,
}

impl TriggerContext<'_> {
    /// The window.
    pub fn window(&self) -> TimeWindow {
        self.window
    }
    /// The current watermark.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }
    /// Processing time in milliseconds since the epoch.
    pub fn now_ms(&self) -> EventTime {
        self.now
    }
    /// Calls `on_event_time` when the watermark reaches `time`.
    pub fn set_timer(&mut self, time: EventTime) {
        self.timers.push((TimeDomain::EventTime, time, true));
    }
    /// Deletes an event-time timer.
    pub fn delete_timer(&mut self, time: EventTime) {
        self.timers.push((TimeDomain::EventTime, time, false));
    }
    /// Calls `on_processing_time` when the clock has passed `time_ms`.
    pub fn set_processing_timer(&mut self, time_ms: EventTime) {
        self.timers.push((TimeDomain::ProcessingTime, time_ms, true));
    }
    /// Deletes a processing-time timer.
    pub fn delete_processing_timer(&mut self, time_ms: EventTime) {
        self.timers.push((TimeDomain::ProcessingTime, time_ms, false));
    }
}

/// Decides when a window of records of type `T` fires. See the module's text.
pub trait Trigger<T>: Send + Sync + 'static {
    /// What it remembers about a window of a key.
    type State: Data + Default;

    /// A record was added.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn on_element(
        &self,
        value: &T,
        time: EventTime,
        state: &mut Self::State,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult>;

    /// The watermark reached `time`, which may be a timer of the trigger's or the time at which the window
    /// is dropped.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn on_event_time(
        &self,
        time: EventTime,
        state: &mut Self::State,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let _ = (time, state, ctx);
        Ok(TriggerResult::Continue)
    }

    /// The clock passed `time`, which may be a timer of the trigger's or the end of the window.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn on_processing_time(
        &self,
        time: EventTime,
        state: &mut Self::State,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let _ = (time, state, ctx);
        Ok(TriggerResult::Continue)
    }

    /// Whether it can be used where windows become one (sessions).
    fn can_merge(&self) -> bool {
        false
    }

    /// Windows have become one, `ctx.window()`: takes what was remembered about another of them, whose
    /// timers are gone, and sets the timers of the whole. The state is fresh at the first of them.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn on_merge(
        &self,
        state: &mut Self::State,
        other: Self::State,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<()> {
        let _ = (state, other, ctx);
        Ok(())
    }

    /// The window is dropped. Its timers and its state go by themselves.
    fn clear(&self, state: &mut Self::State, ctx: &mut TriggerContext<'_>) {
        let _ = (state, ctx);
    }
}

/// A trigger whose type, and that of its state, is hidden.
pub struct BoxedTrigger<T>(Arc<dyn AnyTrigger<T>>);

impl<T> Clone for BoxedTrigger<T> {
    fn clone(&self) -> Self {
        BoxedTrigger(self.0.clone())
    }
}

impl<T: 'static> BoxedTrigger<T> {
    /// Hides the type of `trigger`.
    pub fn new(trigger: impl Trigger<T>) -> Self {
        BoxedTrigger(Arc::new(trigger))
    }
}

/// What a [`BoxedTrigger`] remembers about a window; nothing until its trigger is first asked.
#[derive(Default)]
pub struct BoxedState(Remembered);

#[derive(Default)]
enum Remembered {
    #[default]
    Nothing,
    /// As it was read from a snapshot, which does not know the trigger.
    Stored(Vec<u8>),
    Live(Box<dyn AnyState>),
}

/// A state whose type only its trigger knows.
trait AnyState: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    fn encode(&self, out: &mut Vec<u8>) -> Result<()>;
}

impl<S: Data> AnyState for S {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        codec::encode(self, out)
    }
}

impl BoxedState {
    fn of<S: Data + Default>(&mut self) -> Result<&mut S> {
        let state = match &self.0 {
            Remembered::Nothing => Some(S::default()),
            Remembered::Stored(bytes) => Some(codec::decode_all(bytes)?),
            Remembered::Live(_) => None,
        };
        if let Some(state) = state {
            self.0 = Remembered::Live(Box::new(state));
        }
        let Remembered::Live(state) = &mut self.0 else { unreachable!("it was made live above") };
        Ok((**state).as_any().downcast_mut().expect("a window keeps one trigger all its life"))
    }
}

impl Serialize for BoxedState {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> std::result::Result<Z::Ok, Z::Error> {
        let mut bytes = Vec::new();
        match &self.0 {
            Remembered::Nothing => None,
            Remembered::Stored(bytes) => Some(bytes),
            Remembered::Live(state) => {
                (**state).encode(&mut bytes).map_err(serde::ser::Error::custom)?;
                Some(&bytes)
            }
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BoxedState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let stored = Option::<Vec<u8>>::deserialize(deserializer)?;
        Ok(BoxedState(stored.map_or(Remembered::Nothing, Remembered::Stored)))
    }
}

trait AnyTrigger<T>: Send + Sync {
    fn on_element(
        &self,
        value: &T,
        time: EventTime,
        state: &mut BoxedState,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult>;
    fn on_time(
        &self,
        domain: TimeDomain,
        time: EventTime,
        state: &mut BoxedState,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult>;
    fn can_merge(&self) -> bool;
    fn on_merge(
        &self,
        state: &mut BoxedState,
        other: BoxedState,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<()>;
    fn clear(&self, state: &mut BoxedState, ctx: &mut TriggerContext<'_>) -> Result<()>;
}

impl<T, R: Trigger<T>> AnyTrigger<T> for R {
    fn on_element(
        &self,
        value: &T,
        time: EventTime,
        state: &mut BoxedState,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        Trigger::on_element(self, value, time, state.of()?, ctx)
    }
    fn on_time(
        &self,
        domain: TimeDomain,
        time: EventTime,
        state: &mut BoxedState,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        match domain {
            TimeDomain::EventTime => self.on_event_time(time, state.of()?, ctx),
            TimeDomain::ProcessingTime => self.on_processing_time(time, state.of()?, ctx),
        }
    }
    fn can_merge(&self) -> bool {
        Trigger::can_merge(self)
    }
    fn on_merge(
        &self,
        state: &mut BoxedState,
        mut other: BoxedState,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<()> {
        let other = std::mem::take(other.of::<R::State>()?);
        Trigger::on_merge(self, state.of()?, other, ctx)
    }
    fn clear(&self, state: &mut BoxedState, ctx: &mut TriggerContext<'_>) -> Result<()> {
        Trigger::clear(self, state.of()?, ctx);
        Ok(())
    }
}

impl<T: 'static> BoxedTrigger<T> {
    pub(super) fn on_element(
        &self,
        value: &T,
        time: EventTime,
        state: &mut BoxedState,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        self.0.on_element(value, time, state, ctx)
    }
    pub(super) fn on_time(
        &self,
        domain: TimeDomain,
        time: EventTime,
        state: &mut BoxedState,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        self.0.on_time(domain, time, state, ctx)
    }
    pub(super) fn can_merge(&self) -> bool {
        self.0.can_merge()
    }
    pub(super) fn on_merge(
        &self,
        state: &mut BoxedState,
        other: BoxedState,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<()> {
        self.0.on_merge(state, other, ctx)
    }
    pub(super) fn clear(&self, state: &mut BoxedState, ctx: &mut TriggerContext<'_>) -> Result<()> {
        self.0.clear(state, ctx)
    }
}
