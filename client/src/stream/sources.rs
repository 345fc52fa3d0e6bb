//! Beginnings of streams.
//!
//! Every source goes through [`Environment::source`]; the other methods are short for the common ones, and
//! can do nothing that it cannot. They differ in one setting: a file or a socket is read by one subtask
//! unless the program says otherwise, because most have one split, and idle subtasks would only hold
//! threads.

use super::{DataStream, OperatorSettings, Partitioning};
use crate::environment::Environment;
use crate::graph::{
    AnyGate, BuildSource, Make, Node, OpContext, PortOf, RawOuts, SourceTraits, typed,
};
use millstream_connectors::{FileSource, Generator, LogSource, SocketSource, from_iter, from_vec};
use millstream_model::{Data, Error, Result, Text};
use millstream_runtime::exchange::Gate;
use millstream_runtime::source::{
    Assignment, EnumeratorHead, OpenSplit, Source, SourceHead, SplitContext,
};
use millstream_runtime::task::Head;
use millstream_runtime::watermark::Watermarks;
use millstream_state::codec;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;

impl Environment {
    /// Adds a source, with what it says about event time.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let clicks = Generator::new(1_000, |i| (i % 7, i as EventTime));
    /// let within = Watermarks::bounded(secs(5)).idle_after(mins(1));
    /// let clicks = env.source(clicks, within.on(|click: &(u64, EventTime)| click.1)).uid("clicks");
    /// assert_eq!(clicks.execute_and_collect("clicks")?.len(), 1_000);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn source<S: Source>(
        &self,
        source: S,
        watermarks: Watermarks<S::Out>,
    ) -> DataStream<S::Out> {
        self.named_source("source", source, watermarks)
    }

    #[track_caller]
    fn named_source<S: Source>(
        &self,
        name: &str,
        source: S,
        watermarks: Watermarks<S::Out>,
    ) -> DataStream<S::Out> {
        let traits = SourceTraits {
            bounded: source.is_bounded(),
            size_hint: source.size_hint(),
            can_go_back: source.can_go_back(),
        };
        let limit = source.max_parallelism();
        let describe = watermarks.assigns_times().then(|| watermarks.describe().to_string());
        let (source, location) = (Arc::new(source), Location::caller());
        let splits = self.splits_of(&source, location);
        let make = match &splits {
            None => prepared(source, watermarks),
            Some(_) => assigned(source, watermarks),
        };
        let mut node = Node::new(name, "source", make, location);
        if let Some(splits) = splits {
            node.enumerator = splits.origins.first().map(|(enumerator, _)| *enumerator);
            node.inputs.push(splits.as_input());
        }
        node.outputs.insert(None, Box::new(PortOf::<S::Out>::single()));
        node.source = Some(traits);
        node.parallelism_limit = limit;
        node.watermarks = describe;
        let mut graph = self.graph_mut();
        let id = graph.add(node);
        graph.settle_enumerator(id);
        drop(graph);
        DataStream::at(self, id, None)
    }

    /// What the enumerator of a source assigns, each to its reader, if the source has one.
    fn splits_of<S: Source>(
        &self,
        source: &Arc<S>,
        location: &'static Location<'static>,
    ) -> Option<DataStream<Assignment<S::Split>>> {
        source.enumerator()?;
        let source = Arc::clone(source);
        let make = move |c: &OpContext, outs: RawOuts, n_readers: usize| {
            let next = outs.typed::<Assignment<S::Split>>(&c.site)?.next;
            let enumerator = source.enumerator().ok_or_else(|| {
                Error::user(
                    "the source had an enumerator when the job was built, and has none where it runs: whether there \
                     is one must depend on the source alone",
                )
            })?;
            let (operator, site) = (c.operator.clone(), c.site.clone());
            let head = EnumeratorHead::new(enumerator, n_readers, next, operator, site)?;
            Ok(Box::new(head) as Box<dyn Head>)
        };
        let mut node =
            Node::new("splits", "enumerator", Make::Enumerator(Box::new(make)), location);
        node.outputs.insert(None, Box::new(PortOf::<Assignment<S::Split>>::single()));
        node.parallelism = Some(1);
        node.parallelism_limit = Some(1);
        let id = self.graph_mut().add(node);
        let mut splits = DataStream::at(self, id, None);
        // Such a partitioning is never overtaken by a barrier, as nothing of it can be dealt out anew.
        splits.partitioning =
            Partitioning::custom(|assignment: &Assignment<S::Split>, _| assignment.reader as usize);
        Some(splits)
    }

    /// These records, in order, read by one subtask. They have no event time: add `.watermarks(…)`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// assert_eq!(env.from_collection(vec![1, 2, 3]).execute_and_collect("three")?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn from_collection<T: Data + Clone + Sync>(&self, records: Vec<T>) -> DataStream<T> {
        self.named_source("collection", from_vec(records), Watermarks::none())
    }

    /// The records of the iterator that `make` gives, in order, read by one subtask. They have no event
    /// time: add `.watermarks(…)`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let squares = env.from_iter(|| (1..=3u64).map(|n| n * n));
    /// assert_eq!(squares.execute_and_collect("squares")?, [1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn from_iter<I>(&self, make: impl Fn() -> I + Send + Sync + 'static) -> DataStream<I::Item>
    where
        I: Iterator + Send + 'static,
        I::Item: Data,
    {
        self.named_source("iterator", from_iter(make), Watermarks::none())
    }

    /// The `n` records `make(0)`, `make(1)`, …, shared between all subtasks. They have no event time: add
    /// `.watermarks(…)`. For a rate, or records without end, see [`Generator`].
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let even = env.generate(1_000, |i| i).filter(|i| i % 2 == 0);
    /// assert_eq!(even.execute_and_collect("even")?.len(), 500);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn generate<T: Data>(
        &self,
        n: u64,
        make: impl Fn(u64) -> T + Send + Sync + 'static,
    ) -> DataStream<T> {
        self.named_source("generator", Generator::new(n, make), Watermarks::none())
    }

    /// The lines of a file, of the files of a folder, or of those that a pattern (`*`, `?`) names; files
    /// compressed with gzip too. One subtask reads them unless `.parallelism(…)` says otherwise. [`FileSource`] can do
    /// more, also read the files that come later ([`monitor_continuously`](FileSource::monitor_continuously)).
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("poem.txt");
    /// std::fs::write(&path, "to be\nor not to be\n")?;
    /// let env = Environment::local();
    /// let lines = env.read_lines(&path).map(|line| line.len());
    /// let mut lengths = lines.execute_and_collect("lengths")?;
    /// lengths.sort();
    /// assert_eq!(lengths, [5, 12]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn read_lines(&self, path: impl Into<PathBuf>) -> DataStream<Text> {
        self.named_source("lines", FileSource::lines(path), Watermarks::none()).parallelism(1)
    }

    /// The records of a CSV file: a struct by the names in the header, a tuple by position. A malformed
    /// record ends the job; `env.source(FileSource::csv(…).on_error(…), …)` has the alternatives. Paths and
    /// parallelism as for [`read_lines`](Self::read_lines).
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// struct Flight {
    ///     carrier: String,
    ///     delay: i32,
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("flights.csv");
    /// std::fs::write(&path, "carrier,delay\nUA,4\nAA,-2\n")?;
    /// let env = Environment::local();
    /// let late = env.read_csv::<Flight>(&path).filter(|f| f.delay > 0).map(|f| f.carrier);
    /// assert_eq!(late.execute_and_collect("late")?, ["UA"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn read_csv<T: Data>(&self, path: impl Into<PathBuf>) -> DataStream<T> {
        self.named_source("csv", FileSource::csv(path), Watermarks::none()).parallelism(1)
    }

    /// The records of a file with a JSON value on each line. A malformed line ends the job;
    /// `env.source(FileSource::json_lines(…).on_error(…), …)` has the alternatives. Paths and parallelism as
    /// for [`read_lines`](Self::read_lines).
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("pairs.jsonl");
    /// std::fs::write(&path, "[1, \"a\"]\n[2, \"b\"]\n")?;
    /// let env = Environment::local();
    /// let pairs = env.read_json_lines::<(u32, String)>(&path).filter(|pair| pair.0 > 1);
    /// assert_eq!(pairs.execute_and_collect("pairs")?, [(2, "b".to_string())]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn read_json_lines<T: Data>(&self, path: impl Into<PathBuf>) -> DataStream<T> {
        self.named_source("json lines", FileSource::json_lines(path), Watermarks::none())
            .parallelism(1)
    }

    /// The records of a log that [`write_log`](DataStream::write_log) wrote: those that are committed when the
    /// job starts. One subtask reads them unless `.parallelism(…)` says otherwise: as many as the log has
    /// partitions can. [`LogSource`] can also follow a log that is still being written.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let log = dir.path().join("log");
    /// let env = Environment::local();
    /// env.from_collection(vec!["a".to_string(), "b".to_string()]).write_log(&log).parallelism(1);
    /// env.execute("write")?;
    /// assert_eq!(env.read_log::<String>(&log).execute_and_collect("read")?, ["a", "b"]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn read_log<T: Data>(&self, dir: impl Into<PathBuf>) -> DataStream<T> {
        self.named_source("log", LogSource::new::<T>(dir), Watermarks::none()).parallelism(1)
    }

    /// The lines that the server at `address` (`host:port`) sends, until it closes the connection; read by
    /// one subtask. Lines that arrive while nobody listens are lost. More is in [`SocketSource`].
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use std::io::Write;
    /// # fn main() -> Result<()> {
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = server.local_addr()?.to_string();
    /// # let serving = std::thread::spawn(move || server.accept()?.0.write_all(b"to be\nor not\n"));
    /// let env = Environment::local();
    /// let lines = env.socket_lines(address).execute_and_collect("lines")?;
    /// assert_eq!(lines, ["to be", "or not"]);
    /// # serving.join().unwrap()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn socket_lines(&self, address: impl Into<String>) -> DataStream<Text> {
        self.named_source("socket", SocketSource::lines(address), Watermarks::none())
    }
}

/// How a subtask opens its splits.
fn opening<S: Source>(source: &Arc<S>, c: &OpContext) -> OpenSplit<S::Out, S::Split> {
    let context = SplitContext {
        subtask: c.task.subtask(),
        parallelism: c.task.parallelism(),
        waker: c.task.waker().clone(),
        batch_size: c.task.job().batch_size,
        operator: c.operator.clone(),
    };
    let source = Arc::clone(source);
    Box::new(move |split| source.open(split, &context))
}

/// The head of a subtask that reads these splits.
fn reading<S: Source>(
    source: &Arc<S>,
    watermarks: &Watermarks<S::Out>,
    splits: Vec<S::Split>,
    c: &OpContext,
    outs: RawOuts,
) -> Result<SourceHead<S::Out, S::Split>> {
    let next = outs.typed::<S::Out>(&c.site)?.next;
    let head = SourceHead::new(
        splits,
        opening(source, c),
        watermarks.clone(),
        source.is_bounded(),
        next,
        c.task.clone(),
        c.site.clone(),
    );
    Ok(head.in_turn(source.reads_in_turn()))
}

/// A source whose splits are found before the job starts, and dealt out.
fn prepared<S: Source>(source: Arc<S>, watermarks: Watermarks<S::Out>) -> Make {
    let finder = Arc::clone(&source);
    let discover = move |parallelism: usize| {
        let mut splits = Vec::new();
        codec::encode(&finder.discover(parallelism)?, &mut splits)?;
        Ok(splits)
    };
    let build = move |splits: &[u8], parallelism: usize| {
        let splits: Vec<S::Split> = codec::decode_all(splits)?;
        let (source, watermarks) = (Arc::clone(&source), watermarks.clone());
        let build = move |c: &OpContext, outs: RawOuts| {
            let mine = splits.iter().skip(c.task.subtask()).step_by(parallelism);
            let head = reading(&source, &watermarks, mine.cloned().collect(), c, outs)?;
            Ok(Box::new(head) as Box<dyn Head>)
        };
        Ok(Box::new(build) as BuildSource)
    };
    Make::Source { discover: Box::new(discover), build: Box::new(build) }
}

/// A source whose splits are assigned while the job runs.
fn assigned<S: Source>(source: Arc<S>, watermarks: Watermarks<S::Out>) -> Make {
    Make::Reader(Box::new(move |c: &OpContext, outs: RawOuts, gate: AnyGate| {
        let head = reading(&source, &watermarks, Vec::new(), c, outs)?;
        let gate = typed::<Gate<Assignment<S::Split>>>(gate)?;
        Ok(Box::new(head.assigned_through(gate)) as Box<dyn Head>)
    }))
}
