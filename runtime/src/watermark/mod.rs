//! Event-time progress: how sources make watermarks, and how watermarks of several inputs become one.

mod ahead;
mod alignment;
mod generator;
mod stamp;
mod valve;

pub use ahead::Ahead;
pub(crate) use ahead::Stand;
pub use alignment::{Alignment, Group, Member};
pub use generator::{WatermarkGenerator, WatermarkRule, Watermarks};
pub use stamp::{Marker, Stamp, StampOperator};
pub use valve::{Change, Status, Valve};
