//! Ends of streams.
//!
//! Every end goes through [`DataStream::sink`]; the other methods are short for the common ones, and can do
//! nothing that it cannot.

use super::DataStream;
use super::settings::{OperatorSettings, configure};
use crate::environment::Environment;
#[cfg(feature = "cluster")]
use crate::graph::Collection;
use crate::graph::{NodeId, OpContext, Outs};
use millstream_connectors::{Collect, Discard, FileSink, LogSink, Print, SocketSink};
use millstream_model::{Data, Result};
use millstream_runtime::chain::Push;
use millstream_runtime::operator::{Sink, SinkLink, SinkStart};
#[cfg(feature = "cluster")]
use millstream_state::codec;
use std::fmt::Display;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A stream's end: settings of the sink operator.
pub struct SinkHandle {
    env: Environment,
    node: NodeId,
}

impl OperatorSettings for SinkHandle {
    #[track_caller]
    fn configure(self, setting: &'static str, set: impl Fn(super::settings::Operator<'_>)) -> Self {
        configure(&self.env, &[(self.node, None)], setting, set);
        self
    }
}

impl<T: Data> DataStream<T> {
    /// Ends the stream in a sink.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let out = dir.path().join("out");
    /// let env = Environment::local();
    /// let squares = env.from_iter(|| (1..=3u64).map(|n| (n, n * n)));
    /// squares.sink(FileSink::csv(&out).delimiter(b';')).uid("squares").parallelism(1);
    /// env.execute("squares")?;
    /// assert_eq!(std::fs::read_to_string(out.join("part-0"))?, "1;1\n2;4\n3;9\n");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn sink(self, sink: impl Sink<T>) -> SinkHandle {
        let env = self.env.clone();
        let sink = Arc::new(sink);
        let (name, limit, prepared) = (sink.name(), sink.max_parallelism(), Arc::clone(&sink));
        let (commits, apart) = (sink.committer().is_some(), sink.recovers_apart());
        let make = move |c: &OpContext, _: Outs<()>| {
            let writer = sink.writer(&c.operator)?;
            // Without checkpoints, what is written is final when the input ends.
            let committer = c.task.job().checkpoints.and_then(|_| sink.committer());
            let link: Box<dyn Push<T>> =
                Box::new(SinkLink::new(writer, committer, c.operator.clone(), c.site.clone()));
            Ok(link)
        };
        let end: DataStream<()> = self.add(&name, "sink", Location::caller(), make, |node| {
            node.prepare = Some(Box::new(move |start: &SinkStart| prepared.prepare(start)));
            node.parallelism_limit = limit;
            node.commits = Some(commits);
            node.recovers_apart = apart;
            node.outputs.clear();
        });
        SinkHandle { env, node: end.origins[0].0 }
    }

    /// Prints every record on a line of the standard output. [`Print`] can also tell where a line is from.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.from_collection(vec![1, 2]).map(|n| n * 10).print();
    /// env.execute("tens")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn print(self) -> SinkHandle
    where
        T: Display,
    {
        self.sink(Print::stdout())
    }

    /// Prints every record on a line of the standard error output.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.from_collection(vec!["odd".to_string()]).print_err().name("complaints");
    /// env.execute("complain")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn print_err(self) -> SinkHandle
    where
        T: Display,
    {
        self.sink(Print::stderr())
    }

    /// Forgets every record: for benchmarks, and for jobs that live by their side effects.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(1_000, |i| i).discard();
    /// assert_eq!(env.execute("for nothing")?.records(), 1_000);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn discard(self) -> SinkHandle {
        self.sink(Discard)
    }

    /// Writes a line a record into the files `part-0`, `part-1`, … of a folder, one for each subtask. The
    /// folder must be empty or absent; [`FileSink`] has the alternatives.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let out = dir.path().join("out");
    /// let env = Environment::local();
    /// env.from_collection(vec![1, 2]).write_lines(&out).parallelism(1);
    /// env.execute("lines")?;
    /// assert_eq!(std::fs::read_to_string(out.join("part-0"))?, "1\n2\n");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn write_lines(self, dir: impl Into<PathBuf>) -> SinkHandle
    where
        T: Display,
    {
        self.sink(FileSink::lines(dir))
    }

    /// Writes comma-separated values, without a header, into a folder as [`write_lines`](Self::write_lines)
    /// does.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let out = dir.path().join("out");
    /// let env = Environment::local();
    /// env.from_collection(vec![(1, "a, b".to_string())]).write_csv(&out).parallelism(1);
    /// env.execute("rows")?;
    /// assert_eq!(std::fs::read_to_string(out.join("part-0"))?, "1,\"a, b\"\n");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn write_csv(self, dir: impl Into<PathBuf>) -> SinkHandle {
        self.sink(FileSink::csv(dir))
    }

    /// Writes a JSON value a line into a folder as [`write_lines`](Self::write_lines) does.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let out = dir.path().join("out");
    /// let env = Environment::local();
    /// env.from_collection(vec![(1, true)]).write_json(&out).parallelism(1);
    /// env.execute("values")?;
    /// assert_eq!(std::fs::read_to_string(out.join("part-0"))?, "[1,true]\n");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn write_json(self, dir: impl Into<PathBuf>) -> SinkHandle {
        self.sink(FileSink::json(dir))
    }

    /// Writes a log in a folder, which [`read_log`](crate::Environment::read_log) reads: between jobs that take
    /// checkpoints, each record exactly once. The folder must be empty or absent; [`LogSink`] has partitions,
    /// keys, and adding to a log.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let log = dir.path().join("log");
    /// let env = Environment::local();
    /// env.from_iter(|| (1..=3u64).map(|n| (n, n * n))).write_log(&log).parallelism(1);
    /// env.execute("squares")?;
    /// assert_eq!(env.read_log::<(u64, u64)>(&log).execute_and_collect("read")?, [(1, 1), (2, 4), (3, 9)]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn write_log(self, dir: impl Into<PathBuf>) -> SinkHandle {
        self.sink(LogSink::new(dir))
    }

    /// Writes a line a record to the server at `address` (`host:port`), over one connection unless
    /// `.parallelism(…)` says otherwise.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use std::io::Read;
    /// # fn main() -> Result<()> {
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = server.local_addr()?.to_string();
    /// # let receiving = std::thread::spawn(move || {
    /// #     let mut received = String::new();
    /// #     server.accept().unwrap().0.read_to_string(&mut received).unwrap();
    /// #     received
    /// # });
    /// let env = Environment::local();
    /// env.from_collection(vec![1, 2]).write_socket(address);
    /// env.execute("send")?;
    /// assert_eq!(receiving.join().unwrap(), "1\n2\n");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn write_socket(self, address: impl Into<String>) -> SinkHandle
    where
        T: Display,
    {
        self.sink(SocketSink::lines(address)).parallelism(1)
    }

    /// Keeps the records for the program: read them from the handle after `execute`, or while the job runs.
    /// One subtask keeps them unless `.parallelism(…)` says otherwise, so a stream from one subtask keeps its
    /// order.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let (odd, even) = env.from_collection(vec![1, 2, 3]).partition(|n| n % 2 == 1);
    /// let (odd, even) = (odd.collect(), even.collect());
    /// env.execute("split")?;
    /// assert_eq!((odd.take().len(), even.take().len()), (2, 1));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn collect(self) -> Collected<T> {
        let records = Arc::new(Mutex::new(Vec::new()));
        let sink = self.sink(Collect::new(Arc::clone(&records))).parallelism(1);
        #[cfg(feature = "cluster")]
        sink.env.graph_mut().collected.push(collection(sink.node, &records));
        Collected { sink, records }
    }

    /// Runs the whole job and gives the records of this stream. Records of different subtasks come in no
    /// particular order.
    ///
    /// # Errors
    /// Whatever `execute` reports.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let mut squares = env.generate(4, |i| i * i).execute_and_collect("squares")?;
    /// squares.sort();
    /// assert_eq!(squares, [0, 1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn execute_and_collect(self, name: &str) -> Result<Vec<T>> {
        let env = self.env.clone();
        let collected = self.collect();
        env.execute(name)?;
        Ok(collected.take())
    }
}

/// How the records of a sink come to the program, if that is elsewhere.
#[cfg(feature = "cluster")]
fn collection<T: Data>(node: NodeId, records: &Arc<Mutex<Vec<T>>>) -> Collection {
    let (here, there) = (Arc::clone(records), Arc::clone(records));
    let locked = |records: &Mutex<Vec<T>>| -> Vec<T> {
        std::mem::take(&mut *records.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let gather = move || {
        let mut bytes = Vec::new();
        codec::encode(&locked(&here), &mut bytes)?;
        Ok(bytes)
    };
    let scatter = move |bytes: &[u8]| {
        let mut records = codec::decode_all(bytes)?;
        there.lock().unwrap_or_else(PoisonError::into_inner).append(&mut records);
        Ok(())
    };
    let name = format!("collected by operator {node}");
    Collection { name, gather: Box::new(gather), scatter: Box::new(scatter) }
}

/// Records kept for the program; settings are those of the sink.
#[must_use = "the records are read from this handle"]
pub struct Collected<T> {
    sink: SinkHandle,
    records: Arc<Mutex<Vec<T>>>,
}

impl<T> OperatorSettings for Collected<T> {
    #[track_caller]
    fn configure(self, setting: &'static str, set: impl Fn(super::settings::Operator<'_>)) -> Self {
        Collected { sink: self.sink.configure(setting, set), ..self }
    }
}

impl<T> Collected<T> {
    /// The records so far; they are taken out.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let doubled = env.from_collection(vec![1, 2]).map(|n| n * 2).collect();
    /// env.execute("double")?;
    /// assert_eq!(doubled.take().iter().sum::<i32>(), 6);
    /// assert!(doubled.take().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
