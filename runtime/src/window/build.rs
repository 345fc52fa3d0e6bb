//! Which operator serves which windows.
//!
//! The choice is made here and nowhere else, from what the program asked for: nothing but a clock to fire
//! by, and the windows are aligned or sessions; anything else, and the general operator is asked at every
//! record. What cannot work is refused in the user's words.

use super::aligned::Aligned;
use super::assigner::{Assigner, Layout, Windowing};
use super::boxed::{BoxedOperator, BoxedTwoInput};
use super::content::{Aggregated, BothSides, Content, OneOf, Sides};
use super::emit::Emit;
use super::evictor::Eviction;
use super::firing::Late;
use super::general::{General, Rules};
use super::grid::Grid;
use super::key::EitherKey;
use super::operator::{JoinWindowed, WindowClock, Windowed};
use super::session::Sessions;
use super::sliced::running::Running;
use super::sliced::stacks::Stacks;
use super::sliced::{Sliced, Totals};
use super::trigger::BoxedTrigger;
use super::triggers::{EventTimeTrigger, ProcessingTimeTrigger};
use crate::context::OperatorContext;
use crate::function::TimeDomain;
use crate::keyed::KeySelector;
use millstream_model::time::as_millis;
use millstream_model::{Data, Error, EventTime, Key, Result};
use millstream_state::Aggregate;
use std::sync::Arc;
use std::time::Duration;

/// Windows on one stream of records of type `T`, and what is to happen with them.
pub struct WindowSpec<T> {
    windowing: Windowing<T>,
    trigger: Option<BoxedTrigger<T>>,
    eviction: Option<Eviction<T>>,
    allowed_lateness_ms: EventTime,
    late: Option<&'static str>,
}

impl<T> Clone for WindowSpec<T> {
    fn clone(&self) -> Self {
        WindowSpec {
            windowing: self.windowing.clone(),
            trigger: self.trigger.clone(),
            eviction: self.eviction.clone(),
            ..*self
        }
    }
}

impl<T: 'static> WindowSpec<T> {
    /// The windows that `assigner` describes, fired by their clock.
    ///
    /// # Errors
    /// If there are no such windows: a size, slide or gap of less than a millisecond.
    pub fn new(assigner: impl Assigner<T>) -> Result<Self> {
        Ok(WindowSpec {
            windowing: assigner.windowing()?,
            trigger: None,
            eviction: None,
            allowed_lateness_ms: 0,
            late: None,
        })
    }

    /// Fired by a trigger instead.
    #[must_use]
    pub fn trigger(mut self, trigger: BoxedTrigger<T>) -> Self {
        self.trigger = Some(trigger);
        self
    }

    /// With elements taken away when a window fires.
    #[must_use]
    pub fn evictor(mut self, eviction: Eviction<T>) -> Self {
        self.eviction = Some(eviction);
        self
    }

    /// Kept for so much longer than they last; a record that comes in that time makes its window fire again.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness_ms = as_millis(lateness);
        self
    }

    /// Late records go to the side output of this name.
    #[must_use]
    pub fn late_to(mut self, tag: &'static str) -> Self {
        self.late = Some(tag);
        self
    }

    /// Whether the windows lie on the watermark's clock and so need records with event time.
    pub fn needs_event_time(&self) -> bool {
        self.windowing.domain == TimeDomain::EventTime
            && !matches!(self.windowing.layout, Layout::Global)
    }

    /// Whether what was asked for fits together.
    ///
    /// # Errors
    /// If it does not: says what, and what to do.
    pub fn check(&self) -> Result<()> {
        let by_clock = self.windowing.domain == TimeDomain::ProcessingTime;
        let problem = match (&self.windowing.layout, &self.trigger) {
            (Layout::Global, None) => {
                "a global window never ends and has no trigger, so it would never fire: add \
                 `.trigger(..)`, for example `CountTrigger::of(n)`"
            }
            (Layout::Session(_), Some(trigger)) if !trigger.can_merge() => {
                "this trigger cannot be used with session windows, because it cannot merge what it \
                 remembers when two sessions become one: use another trigger, or implement `can_merge` and \
                 `on_merge`"
            }
            _ if by_clock && (self.allowed_lateness_ms > 0 || self.late.is_some()) => {
                "by the machine's clock no record is late: remove `.allowed_lateness(..)` and \
                 `.late_to(..)`, or use event-time windows"
            }
            _ => return Ok(()),
        };
        Err(Error::user(problem))
    }

    fn is_plain(&self) -> bool {
        self.trigger.is_none() && self.eviction.is_none()
    }
}

/// The operator for windows of an aggregate. Sliding windows share slices.
///
/// # Errors
/// As [`WindowSpec::check`].
pub fn aggregate<K, T, A, E>(
    spec: &WindowSpec<T>,
    aggregate: A,
    emit: E,
    selector: Arc<dyn KeySelector<T, K>>,
    context: OperatorContext,
) -> Result<BoxedOperator<T, E::Out>>
where
    K: Key,
    T: Data,
    A: Aggregate<T>,
    E: Emit<K, A::Acc>,
{
    match spec.windowing.layout {
        Layout::Aligned(grid) if spec.is_plain() && grid.overlaps() => {
            spec.check()?;
            Ok(if aggregate.is_invertible() {
                sliced::<_, _, _, Running<K, A::Acc>, _>(
                    spec, grid, aggregate, emit, selector, context,
                )
            } else {
                sliced::<_, _, _, Stacks<K, A::Acc>, _>(
                    spec, grid, aggregate, emit, selector, context,
                )
            })
        }
        _ => content(spec, Aggregated(aggregate), emit, selector, context),
    }
}

fn sliced<K, T, A, D, E>(
    spec: &WindowSpec<T>,
    grid: Grid,
    aggregate: A,
    emit: E,
    selector: Arc<dyn KeySelector<T, K>>,
    context: OperatorContext,
) -> BoxedOperator<T, E::Out>
where
    K: Key,
    T: Send + 'static,
    A: Aggregate<T>,
    D: Totals<K, A::Acc> + 'static,
    E: Emit<K, A::Acc>,
{
    let (late, clock) = surroundings(spec, &context);
    let lateness = spec.allowed_lateness_ms;
    let windows =
        Sliced::<_, _, _, D, _, _>::new(grid, lateness, selector, aggregate, emit, context);
    BoxedOperator::new(Windowed { windows, clock, late })
}

fn surroundings<T>(spec: &WindowSpec<T>, context: &OperatorContext) -> (Late, WindowClock) {
    let clock = WindowClock::new(spec.windowing.domain, context.clone());
    (Late::new(spec.late, context), clock)
}

/// The operator for windows that keep what `content` makes of their records.
///
/// # Errors
/// As [`WindowSpec::check`].
pub fn content<K, T, C, E>(
    spec: &WindowSpec<T>,
    content: C,
    emit: E,
    selector: Arc<dyn KeySelector<T, K>>,
    context: OperatorContext,
) -> Result<BoxedOperator<T, E::Out>>
where
    K: Key,
    T: Data,
    C: Content<T>,
    E: Emit<K, C::Acc>,
{
    spec.check()?;
    let lateness = spec.allowed_lateness_ms;
    let (late, clock) = surroundings(spec, &context);
    Ok(match &spec.windowing.layout {
        Layout::Aligned(grid) if spec.is_plain() => {
            let windows = Aligned::new(*grid, lateness, selector, content, emit, context);
            BoxedOperator::new(Windowed { windows, clock, late })
        }
        Layout::Session(gap) if spec.is_plain() => {
            let windows = Sessions::new(gap.clone(), lateness, selector, content, emit, context);
            BoxedOperator::new(Windowed { windows, clock, late })
        }
        layout => {
            let domain = spec.windowing.domain;
            let trigger = spec.trigger.clone().unwrap_or_else(|| match domain {
                TimeDomain::EventTime => BoxedTrigger::new(EventTimeTrigger),
                TimeDomain::ProcessingTime => BoxedTrigger::new(ProcessingTimeTrigger),
            });
            let eviction = spec.eviction.clone();
            let layout = layout.clone();
            let rules = Rules { layout, domain, lateness, trigger, eviction, content };
            BoxedOperator::new(General::new(rules, spec.late, selector, emit, context))
        }
    })
}

/// Windows on two streams.
pub struct JoinSpec<L, R> {
    windowing: Windowing<OneOf<L, R>>,
    allowed_lateness_ms: EventTime,
    late_left: Option<&'static str>,
    late_right: Option<&'static str>,
}

impl<L, R> Clone for JoinSpec<L, R> {
    fn clone(&self) -> Self {
        JoinSpec { windowing: self.windowing.clone(), ..*self }
    }
}

impl<L, R> JoinSpec<L, R> {
    /// The windows that `assigner` describes.
    ///
    /// # Errors
    /// If there are no such windows.
    pub fn new(assigner: impl Assigner<OneOf<L, R>>) -> Result<Self> {
        let windowing = assigner.windowing()?;
        if matches!(windowing.layout, Layout::Global) {
            return Err(endless_join());
        }
        Ok(JoinSpec { windowing, allowed_lateness_ms: 0, late_left: None, late_right: None })
    }

    /// See [`WindowSpec::allowed_lateness`].
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness_ms = as_millis(lateness);
        self
    }

    /// Late records of the first stream go to the side output of this name.
    #[must_use]
    pub fn late_left_to(mut self, tag: &'static str) -> Self {
        self.late_left = Some(tag);
        self
    }

    /// Late records of the second stream go to the side output of this name.
    #[must_use]
    pub fn late_right_to(mut self, tag: &'static str) -> Self {
        self.late_right = Some(tag);
        self
    }

    /// Whether the windows need records with event time.
    pub fn needs_event_time(&self) -> bool {
        self.windowing.domain == TimeDomain::EventTime
    }
}

fn endless_join() -> Error {
    Error::user(
        "a join of global windows would never fire: join on tumbling, sliding or session windows, or use \
         `connect` and a process function",
    )
}

/// The operator for windows on two streams with the same key: [`Pairs`](super::join::Pairs) and
/// [`Groups`](super::join::Groups) make a join and a co-group of it.
///
/// # Errors
/// If the windows never end.
pub fn join<K, L, R, E>(
    spec: &JoinSpec<L, R>,
    emit: E,
    left: Arc<dyn KeySelector<L, K>>,
    right: Arc<dyn KeySelector<R, K>>,
    context: OperatorContext,
) -> Result<BoxedTwoInput<L, R, E::Out>>
where
    K: Key,
    L: Data + Clone,
    R: Data + Clone,
    E: Emit<K, Sides<L, R>>,
{
    let lateness = spec.allowed_lateness_ms;
    let clock = WindowClock::new(spec.windowing.domain, context.clone());
    let late_left = Late::new(spec.late_left, &context);
    let late_right = Late::new(spec.late_right, &context);
    let key = EitherKey { left, right };
    Ok(match &spec.windowing.layout {
        Layout::Aligned(grid) => {
            let windows = Aligned::new(*grid, lateness, key, BothSides, emit, context);
            BoxedTwoInput::new(JoinWindowed { windows, clock, late_left, late_right })
        }
        Layout::Session(gap) => {
            let windows = Sessions::new(gap.clone(), lateness, key, BothSides, emit, context);
            BoxedTwoInput::new(JoinWindowed { windows, clock, late_left, late_right })
        }
        Layout::Global => return Err(endless_join()),
    })
}
