//! Two jobs with a log between them: one writes numbers, the other reads them and writes them to files.
//!
//! `--n N` numbers at `--rate R`, into `--out DIR`, and the engine's own options, which both jobs get. Checkpoints of the one
//! lie in `writer` of the folder `--checkpoints DIR` and of the other in `reader`; the log lies in `log`, beside the output. Both
//! run at the same time: the reader takes what the writer has committed a moment ago, and ends when it has read so many
//! records. In the output each number is there once, whatever happens to both; then `--restore latest` is all it takes to go
//! on. With `--only writer` or `--only reader` it is that one alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use millstream::prelude::*;
use millstream::runtime::source::{ReadStatus, Source, SplitContext, SplitReader};
use millstream_model::Batch;
use millstream_tests::program::exit_code;

type LogSplit = <LogSource<u64> as Source>::Split;

fn main() -> ExitCode {
    exit_code(run())
}

/// The first so many records of a log of one partition: a reader that follows has no end of its own.
struct FirstOf {
    log: LogSource<u64>,
    n: u64,
}

struct Reader {
    log: Box<dyn SplitReader<u64, LogSplit>>,
    n_left: u64,
}

impl Source for FirstOf {
    type Out = u64;
    /// Where to begin, and how many records are left.
    type Split = (LogSplit, u64);

    fn is_bounded(&self) -> bool {
        true
    }

    fn discover(&self, parallelism: usize) -> Result<Vec<Self::Split>> {
        let splits = self.log.discover(parallelism)?;
        Ok(splits.into_iter().map(|split| (split, self.n)).collect())
    }

    fn open(
        &self,
        (split, n_left): Self::Split,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<u64, Self::Split>>> {
        Ok(Box::new(Reader { log: self.log.open(split, context)?, n_left }))
    }
}

impl SplitReader<u64, (LogSplit, u64)> for Reader {
    fn read(&mut self, out: &mut Batch<u64>) -> Result<ReadStatus> {
        if self.n_left == 0 {
            return Ok(ReadStatus::End);
        }
        let n_before = out.values.len();
        let status = self.log.read(out)?;
        self.n_left = self.n_left.saturating_sub((out.values.len() - n_before) as u64);
        Ok(status)
    }

    fn split(&self) -> (LogSplit, u64) {
        (self.log.split(), self.n_left)
    }
}

/// The environment of one of the jobs.
fn environment(job: &str) -> Result<Environment> {
    let builder = || Environment::builder().args(std::env::args().skip(1));
    let dir = PathBuf::from(builder().build()?.arg("checkpoints")?).join(job);
    builder().set("checkpoint-dir", &dir.display().to_string()).build()
}

/// Makes a log without records, unless there is one: who reads it can begin with whoever writes it.
fn make(log: &Path) -> Result<()> {
    if log.join("meta").exists() {
        return Ok(());
    }
    let env = Environment::local();
    env.from_collection(Vec::<u64>::new()).write_log(log);
    env.execute("make")?;
    Ok(())
}

fn run() -> Result<()> {
    let (writer, reader) = (environment("writer")?, environment("reader")?);
    let n = writer.arg("n")?.parse().map_err(|_| Error::user("`--n` is no number"))?;
    let rate = writer.arg("rate")?.parse().map_err(|_| Error::user("`--rate` is no number"))?;
    let out = PathBuf::from(writer.arg("out")?);
    let log = out.join("log");
    make(&log)?;

    let only = writer.arg_opt("only");
    let does = |job: &str| only.as_ref().is_none_or(|only| only == job);

    let numbers = writer.source(Generator::new(n, |i| i).rate(rate), Watermarks::none());
    numbers.uid("numbers").sink(LogSink::new(&log)).uid("log");
    let writes = does("writer").then(|| writer.execute_async("writer")).transpose()?;

    let read = FirstOf { log: LogSource::new::<u64>(&log).follow(), n };
    let numbers = reader.source(read, Watermarks::none()).uid("log");
    numbers.write_lines(out.join("numbers")).uid("out");
    let reads = does("reader").then(|| reader.execute_async("reader")).transpose()?;

    // The writer comes to its end or fails, whatever becomes of the reader; without it that one would wait for ever.
    let written = writes.map_or(Ok(()), |writes| writes.wait().map(drop));
    let Some(reads) = reads else { return written };
    if written.is_err() {
        reads.cancel();
    }
    let read = reads.wait().map(drop);
    written.and(read)
}
