//! Time to live: values that go by themselves.
//!
//! Whether values expire is part of their type, not a flag: states that live forever hold plain values and pay
//! nothing, states that expire hold [`Timed`] ones. The time is processing time, as in Flink: it is about how
//! long something is kept, not about when it happened. What has expired is never shown; it is removed when it
//! is met, and by a look at a few entries with every access, so that no single one pays for all.

use crate::codec;
use crate::schema::{Field, Shape};
use millstream_model::{Data, EventTime};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Processing time, in milliseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> EventTime + Send + Sync>;

/// How long values live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    after: Duration,
    on_read: bool,
}

impl Ttl {
    /// Values live for so long from when they were created or changed last.
    pub const fn after(after: Duration) -> Self {
        Ttl { after, on_read: false }
    }

    /// The time begins anew when a value is created or changed: that is the default.
    #[must_use]
    pub const fn on_write(mut self) -> Self {
        self.on_read = false;
        self
    }

    /// The time begins anew when a value is read, too.
    #[must_use]
    pub const fn on_read_too(mut self) -> Self {
        self.on_read = true;
        self
    }

    /// Whether reading begins the time anew.
    pub(crate) fn is_renewed_by_reading(self) -> bool {
        self.on_read
    }

    /// When a value expires that is written now.
    pub(crate) fn from(self, now: EventTime) -> EventTime {
        let after = EventTime::try_from(self.after.as_millis()).unwrap_or(EventTime::MAX);
        now.saturating_add(after)
    }
}

/// A value that expires. The time stands first, where a store finds it without reading the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed<V> {
    #[serde(rename = "expires at")]
    pub(crate) at: EventTime,
    pub(crate) value: V,
}

impl<V> Timed<V> {
    #[inline]
    pub(crate) fn is_over(&self, now: EventTime) -> bool {
        self.at <= now
    }
}

/// Whether a [`Timed`] value has expired, by its bytes.
pub(crate) fn is_over_in(bytes: &[u8], now: EventTime) -> bool {
    codec::decode::<EventTime>(bytes).is_ok_and(|(at, _)| at <= now)
}

/// No field of a Rust type is called that, so values that expire are told from all others by their shape.
const EXPIRES_AT: &str = "expires at";

/// The shape of a timed value.
fn timed_shape(value: Shape) -> Shape {
    let field = |name: &str, shape| Field {
        name: name.into(),
        aliases: Vec::new(),
        optional: false,
        shape,
    };
    let fields =
        vec![field(EXPIRES_AT, Shape::Int { bits: 64, signed: true }), field("value", value)];
    Shape::Struct { name: "Timed".into(), fields }
}

/// The shape of the value, if it is that of a timed one.
pub(crate) fn as_timed(shape: &Shape) -> Option<&Shape> {
    match shape {
        Shape::Struct { fields, .. } => match fields.as_slice() {
            [at, value] if at.name == EXPIRES_AT => Some(&value.shape),
            _ => None,
        },
        _ => None,
    }
}

/// Whether and when values expire, as a type.
pub trait Lifetime: Copy + Send + Sync + 'static {
    /// Whether values expire at all.
    const ENDS: bool;

    /// How a value is held.
    type Held<V: Data>: Data;

    /// The shape of what is held.
    fn shape(value: Shape) -> Shape;

    /// Holds a value that was stored, with the time at which it expires if it had one; `None` if it has.
    fn hold<V: Data>(
        self,
        value: V,
        expires_at: Option<EventTime>,
        now: EventTime,
    ) -> Option<Self::Held<V>>;

    /// Whether what is held has expired.
    fn is_over<V: Data>(held: &Self::Held<V>, now: EventTime) -> bool;

    /// When what is held expires; of what never does, the beginning of time.
    fn ends_at<V: Data>(held: &Self::Held<V>) -> EventTime;
}

/// Values live until they are removed.
#[derive(Clone, Copy, Debug)]
pub struct Forever;

impl Lifetime for Forever {
    const ENDS: bool = false;

    type Held<V: Data> = V;

    fn shape(value: Shape) -> Shape {
        value
    }

    fn hold<V: Data>(self, value: V, expires_at: Option<EventTime>, now: EventTime) -> Option<V> {
        // Had it expired before the program changed its mind, it was gone.
        (expires_at.is_none_or(|at| at > now)).then_some(value)
    }

    fn is_over<V: Data>(_: &V, _: EventTime) -> bool {
        false
    }

    fn ends_at<V: Data>(_: &V) -> EventTime {
        EventTime::MIN
    }
}

impl Lifetime for Ttl {
    const ENDS: bool = true;

    type Held<V: Data> = Timed<V>;

    fn shape(value: Shape) -> Shape {
        timed_shape(value)
    }

    fn hold<V: Data>(
        self,
        value: V,
        expires_at: Option<EventTime>,
        now: EventTime,
    ) -> Option<Timed<V>> {
        let timed = Timed { at: expires_at.unwrap_or_else(|| self.from(now)), value };
        (!timed.is_over(now)).then_some(timed)
    }

    fn is_over<V: Data>(held: &Timed<V>, now: EventTime) -> bool {
        held.is_over(now)
    }

    fn ends_at<V: Data>(held: &Timed<V>) -> EventTime {
        held.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_timed_values_is_what_they_are_written_in() {
        let shape = timed_shape(Shape::Text);
        assert_eq!(shape, Shape::of::<Timed<String>>().unwrap());
        shape.admits(&Timed { at: 5, value: "a".to_string() }).unwrap();
        assert_eq!(as_timed(&shape), Some(&Shape::Text));
        assert_eq!(as_timed(&Shape::pair(Shape::Text, Shape::Text)), None);
    }
}
