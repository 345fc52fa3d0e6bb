//! Which windows a record belongs to, in the words of a user.
//!
//! These types only describe; that a size is not zero is found out when the operator is built, so that the
//! error can name it. Each describes event-time windows until told `.processing_time()`.

use super::grid::Grid;
use crate::function::TimeDomain;
use millstream_model::time::as_millis;
use millstream_model::{Error, EventTime, Result};
use std::sync::Arc;
use std::time::Duration;

/// How far windows are moved from the epoch: a [`Duration`] or signed milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(EventTime);

impl From<Duration> for Offset {
    fn from(offset: Duration) -> Self {
        Offset(as_millis(offset))
    }
}

impl From<i64> for Offset {
    fn from(offset_ms: i64) -> Self {
        Offset(offset_ms)
    }
}

impl From<i32> for Offset {
    fn from(offset_ms: i32) -> Self {
        Offset(offset_ms.into())
    }
}

/// Describes windows for records of type `T`.
pub trait Assigner<T> {
    /// What it describes.
    ///
    /// # Errors
    /// If there are no such windows.
    fn windowing(self) -> Result<Windowing<T>>;
}

/// Checked windows of one clock.
pub struct Windowing<T> {
    /// Where windows lie.
    pub layout: Layout<T>,
    /// The clock they lie on.
    pub domain: TimeDomain,
}

impl<T> Clone for Windowing<T> {
    fn clone(&self) -> Self {
        Windowing { layout: self.layout.clone(), domain: self.domain }
    }
}

/// Where windows lie.
pub enum Layout<T> {
    /// The same for all keys.
    Aligned(Grid),
    /// Per key, as long as records keep coming.
    Session(Gap<T>),
    /// One for all time.
    Global,
}

/// The silence that ends a session.
pub enum Gap<T> {
    /// So many milliseconds.
    Fixed(EventTime),
    /// Decided by each record.
    Dynamic(Arc<dyn Fn(&T) -> Duration + Send + Sync>),
}

impl<T> Clone for Layout<T> {
    fn clone(&self) -> Self {
        match self {
            Layout::Aligned(grid) => Layout::Aligned(*grid),
            Layout::Session(gap) => Layout::Session(gap.clone()),
            Layout::Global => Layout::Global,
        }
    }
}

impl<T> Clone for Gap<T> {
    fn clone(&self) -> Self {
        match self {
            Gap::Fixed(gap) => Gap::Fixed(*gap),
            Gap::Dynamic(gap) => Gap::Dynamic(gap.clone()),
        }
    }
}

impl<T> Gap<T> {
    /// The gap after this record, in milliseconds.
    ///
    /// # Errors
    /// If the function that decides it gives less than a millisecond.
    #[inline]
    pub fn after(&self, value: &T) -> Result<EventTime> {
        match self {
            Gap::Fixed(gap) => Ok(*gap),
            Gap::Dynamic(gap) => positive(as_millis(gap(value))),
        }
    }
}

fn positive(gap: EventTime) -> Result<EventTime> {
    if gap < 1 {
        return Err(Error::user("the gap of a session must be at least one millisecond"));
    }
    Ok(gap)
}

/// Windows of equal length, side by side.
///
/// ```
/// use millstream_model::time::{hours, mins};
/// use millstream_runtime::window::Tumbling;
///
/// let hourly = Tumbling::of(hours(1));
/// let from_quarter_past = Tumbling::of(hours(1)).offset(mins(15));
/// let east_of_greenwich = Tumbling::of(hours(24)).offset(-3_600_000);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Tumbling {
    size: Duration,
    offset: Offset,
    domain: TimeDomain,
}

impl Tumbling {
    /// Windows of this length.
    pub fn of(size: Duration) -> Self {
        Tumbling { size, offset: Offset::default(), domain: TimeDomain::EventTime }
    }
    /// Moves the windows.
    #[must_use]
    pub fn offset(mut self, offset: impl Into<Offset>) -> Self {
        self.offset = offset.into();
        self
    }
    /// By the machine's clock: a record belongs to the window in which it is processed.
    #[must_use]
    pub fn processing_time(mut self) -> Self {
        self.domain = TimeDomain::ProcessingTime;
        self
    }
}

impl<T> Assigner<T> for Tumbling {
    fn windowing(self) -> Result<Windowing<T>> {
        let size = as_millis(self.size);
        let layout = Layout::Aligned(Grid::new(size, size, self.offset.0)?);
        Ok(Windowing { layout, domain: self.domain })
    }
}

/// Windows of equal length that begin at equal distances: they overlap if they are longer than that, and
/// leave gaps if they are shorter.
///
/// ```
/// use millstream_model::time::{mins, secs};
/// use millstream_runtime::window::Sliding;
///
/// let last_ten_minutes_every_minute = Sliding::of(mins(10), mins(1));
/// let first_second_of_each_minute = Sliding::of(secs(1), mins(1)).offset(secs(0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Sliding {
    size: Duration,
    slide: Duration,
    offset: Offset,
    domain: TimeDomain,
}

impl Sliding {
    /// Windows of length `size`, one every `slide`.
    pub fn of(size: Duration, slide: Duration) -> Self {
        Sliding { size, slide, offset: Offset::default(), domain: TimeDomain::EventTime }
    }
    /// Moves the windows.
    #[must_use]
    pub fn offset(mut self, offset: impl Into<Offset>) -> Self {
        self.offset = offset.into();
        self
    }
    /// By the machine's clock: a record belongs to the windows in which it is processed.
    #[must_use]
    pub fn processing_time(mut self) -> Self {
        self.domain = TimeDomain::ProcessingTime;
        self
    }
}

impl<T> Assigner<T> for Sliding {
    fn windowing(self) -> Result<Windowing<T>> {
        let grid = Grid::new(as_millis(self.size), as_millis(self.slide), self.offset.0)?;
        Ok(Windowing { layout: Layout::Aligned(grid), domain: self.domain })
    }
}

/// Windows that last as long as records of a key keep coming: two records less than a gap apart (or just
/// a gap) are in one session.
///
/// ```
/// use millstream_model::time::{mins, secs};
/// use millstream_runtime::window::Session;
///
/// let visits = Session::gap(mins(30));
/// let by_kind = Session::dynamic(|kind: &String| if kind == "bot" { secs(5) } else { mins(30) });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Session {
    gap: Duration,
    domain: TimeDomain,
}

impl Session {
    /// Sessions that end after this silence.
    pub fn gap(gap: Duration) -> Self {
        Session { gap, domain: TimeDomain::EventTime }
    }
    /// Sessions that end after a silence that each record decides for itself.
    pub fn dynamic<T>(gap: impl Fn(&T) -> Duration + Send + Sync + 'static) -> DynamicSession<T> {
        DynamicSession { gap: Arc::new(gap), domain: TimeDomain::EventTime }
    }
    /// By the machine's clock.
    #[must_use]
    pub fn processing_time(mut self) -> Self {
        self.domain = TimeDomain::ProcessingTime;
        self
    }
}

impl<T> Assigner<T> for Session {
    fn windowing(self) -> Result<Windowing<T>> {
        let gap = positive(as_millis(self.gap))?;
        Ok(Windowing { layout: Layout::Session(Gap::Fixed(gap)), domain: self.domain })
    }
}

/// Sessions with a gap per record; made by [`Session::dynamic`].
pub struct DynamicSession<T> {
    gap: Arc<dyn Fn(&T) -> Duration + Send + Sync>,
    domain: TimeDomain,
}

impl<T> Clone for DynamicSession<T> {
    fn clone(&self) -> Self {
        DynamicSession { gap: self.gap.clone(), domain: self.domain }
    }
}

impl<T> DynamicSession<T> {
    /// By the machine's clock.
    #[must_use]
    pub fn processing_time(mut self) -> Self {
        self.domain = TimeDomain::ProcessingTime;
        self
    }
}

impl<T> Assigner<T> for DynamicSession<T> {
    fn windowing(self) -> Result<Windowing<T>> {
        Ok(Windowing { layout: Layout::Session(Gap::Dynamic(self.gap)), domain: self.domain })
    }
}

/// One window for all time. It never ends, so it needs a trigger that fires it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Global;

impl<T> Assigner<T> for Global {
    fn windowing(self) -> Result<Windowing<T>> {
        Ok(Windowing { layout: Layout::Global, domain: TimeDomain::EventTime })
    }
}
