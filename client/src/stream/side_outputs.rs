//! One operator, several streams: side outputs, and the splits that are made of them.
//!
//! A split is an operator with one side output, so both halves come from one look at each record, keep
//! their times and watermarks, and can be fused with what follows.

use super::{DataStream, Partitioning};
use crate::graph::{OpContext, PortOf};
use millstream_model::Data;
use millstream_runtime::function::{Collector, OutputTag};
use millstream_runtime::operator::FlatMapInto;
use std::any::TypeId;
use std::panic::Location;
use std::sync::Arc;

/// The counter of errors that [`DataStream::split_errors`] has taken apart, in the metrics of its operator.
pub const ERRORS: &str = "errors";
/// The side output of a partition.
const OTHERS: &str = "others";

impl<T: Data> DataStream<T> {
    /// The records that the operator that made this stream emitted to a side output. Without a reader they
    /// are dropped there. Settings (`.uid(…)` and so on) belong to the operator's main stream.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// const NEGATIVE: OutputTag<i64> = OutputTag::new("negative");
    ///
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let roots = env.from_collection(vec![4, -3, 9]).flat_map_into(|n: &i64, out| {
    ///     if *n < 0 { out.side(&NEGATIVE, *n) } else { out.emit((*n as f64).sqrt()) }
    /// });
    /// let negative = roots.side_output(&NEGATIVE).collect();
    /// assert_eq!(roots.map(|root| root as u64).execute_and_collect("roots")?.iter().sum::<u64>(), 5);
    /// assert_eq!(negative.take(), [-3]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn side_output<S: Data>(&self, tag: &OutputTag<S>) -> DataStream<S> {
        let name = tag.name();
        let mut graph = self.env.graph_mut();
        for &(node, _) in &self.origins {
            let outputs = &mut graph.nodes[node].outputs;
            let port = outputs.entry(Some(name)).or_insert_with(|| Box::new(PortOf::<S>::single()));
            if !port.carries(TypeId::of::<S>()) {
                let place = Location::caller();
                let node = graph.nodes[node].describe();
                graph.mistakes.push(format!(
                    "the side output `{name}` of {node} is read as records of two types, the second time at ({}:{}): use one `OutputTag` constant",
                    place.file(),
                    place.line()
                ));
            }
        }
        drop(graph);
        let origins = self.origins.iter().map(|&(node, _)| (node, Some(name))).collect();
        DataStream { env: self.env.clone(), origins, partitioning: Partitioning::auto() }
    }

    /// Splits the stream: records for which `belongs` says so, and the others.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let (small, large) = env.from_collection(vec![1, 30, 2]).partition(|n| *n < 10);
    /// let large = large.collect();
    /// assert_eq!(small.execute_and_collect("sizes")?.iter().sum::<i32>(), 3);
    /// assert_eq!(large.take(), [30]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn partition(
        self,
        belongs: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> (DataStream<T>, DataStream<T>) {
        let f = Arc::new(belongs);
        let make = move |_: &OpContext| {
            let f = Arc::clone(&f);
            Ok(FlatMapInto(move |value: T, out: &mut Collector<'_, T>| {
                if f(&value) {
                    out.emit(value);
                } else {
                    out.side(&OutputTag::new(OTHERS), value);
                }
                Ok(())
            }))
        };
        let main = self.add_operator("partition", Location::caller(), make, |_| {});
        let others = main.side_output(&OutputTag::new(OTHERS));
        (main, others)
    }
}

impl<T: Data, E: Data> DataStream<std::result::Result<T, E>> {
    /// Splits a stream of results: what went well, and the errors, which are also counted in the metric
    /// [`errors`](ERRORS). For the malformed lines of a file, and for parsing of one's own.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("numbers.csv");
    /// std::fs::write(&path, "1\ntwo\n3\n")?;
    /// let env = Environment::local();
    /// let lines = FileSource::csv::<u32>(&path).without_headers().results();
    /// let (numbers, bad) = env.source(lines, Watermarks::none()).split_errors();
    /// let bad = bad.map(|bad: BadRecord| (bad.line_number, bad.text)).collect();
    /// let mut numbers = numbers.execute_and_collect("numbers")?;
    /// numbers.sort();
    /// assert_eq!(numbers, [1, 3]);
    /// assert_eq!(bad.take(), [(Some(2), "two".to_string())]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn split_errors(self) -> (DataStream<T>, DataStream<E>) {
        let make = move |c: &OpContext| {
            let n_errors = c.operator.counter(ERRORS);
            Ok(FlatMapInto(move |value, out: &mut Collector<'_, T>| {
                match value {
                    Ok(value) => out.emit(value),
                    Err(error) => {
                        n_errors.inc();
                        out.side(&OutputTag::new(ERRORS), error);
                    }
                }
                Ok(())
            }))
        };
        let main = self.add_operator("split_errors", Location::caller(), make, |_| {});
        let errors = main.side_output(&OutputTag::new(ERRORS));
        (main, errors)
    }
}
