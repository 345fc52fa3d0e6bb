//! Sinks that need nothing: the terminal, a vector, nowhere.

mod collect;
mod print;

pub use collect::Collect;
pub use print::Print;

use millstream_model::{Batch, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::operator::{Sink, SinkWriter};

/// Forgets everything: for benchmarks, and for jobs that live by their side effects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl<T> Sink<T> for Discard {
    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Discard))
    }
    /// There is nothing to be prepared.
    fn recovers_apart(&self) -> bool {
        true
    }
    fn name(&self) -> String {
        "discard".into()
    }
}

impl<T> SinkWriter<T> for Discard {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        batch.clear();
        Ok(())
    }
}
