//! Ends of streams.

use super::DataStream;
use super::settings::{OperatorSettings, configure};
use crate::environment::Environment;
use crate::graph::{NodeId, OpContext, Outs};
use millstream_model::{Data, Result};
use millstream_runtime::chain::Push;
use millstream_runtime::operator::{Sink, SinkLink};
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};

/// A stream's end: settings of the sink operator.
pub struct SinkHandle {
    env: Environment,
    node: NodeId,
}

impl OperatorSettings for SinkHandle {
    fn configure(self, setting: &'static str, set: impl Fn(super::settings::Operator<'_>)) -> Self {
        configure(&self.env, std::iter::once(self.node), setting, set);
        self
    }
}

impl<T: Data> DataStream<T> {
    /// Ends the stream in a sink.
    #[track_caller]
    pub fn sink(self, sink: impl Sink<T>) -> SinkHandle {
        let env = self.env.clone();
        let sink = Arc::new(sink);
        let (name, limit, prepared) = (sink.name(), sink.max_parallelism(), Arc::clone(&sink));
        let make = move |c: &OpContext, _: Outs<()>| {
            let writer = sink.writer(&c.operator)?;
            let link: Box<dyn Push<T>> =
                Box::new(SinkLink::new(writer, c.operator.clone(), c.site.clone()));
            Ok(link)
        };
        let end: DataStream<()> = self.add(&name, "sink", Location::caller(), make, |node| {
            node.prepare = Some(Box::new(move || prepared.prepare()));
            node.parallelism_limit = limit;
            node.outputs.clear();
        });
        SinkHandle { env, node: end.origins[0].0 }
    }

    /// Keeps the records for the program: read them from the handle after `execute`.
    #[track_caller]
    pub fn collect(self) -> Collected<T> {
        let records = Arc::new(Mutex::new(Vec::new()));
        self.sink(millstream_connectors::Collect::new(Arc::clone(&records)));
        Collected { records }
    }

    /// Runs the whole job and gives the records of this stream. Records of different subtasks come in no
    /// particular order.
    ///
    /// # Errors
    /// Whatever `execute` reports.
    #[track_caller]
    pub fn execute_and_collect(self, name: &str) -> Result<Vec<T>> {
        let env = self.env.clone();
        let collected = self.collect();
        env.execute(name)?;
        Ok(collected.take())
    }
}

/// Records kept for the program.
pub struct Collected<T> {
    records: Arc<Mutex<Vec<T>>>,
}

impl<T> Collected<T> {
    /// The records so far; they are taken out.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
