//! Queries that are killed again and again, and what they have committed meanwhile.
//!
//! A real process is started with `--restore latest`, dies at a moment that it does not choose, and is started again with
//! another parallelism, until it exits 0. What it has committed must be right at every moment and not only in the
//! end: a reader may have taken any file `part-*` already, so after every death the committed files are those of before
//! and perhaps more, and no line in them is one that should not be there. In the end all lines are there, and starting
//! the finished job once more changes nothing.
//!
//! A run is told by one number: it chooses query, backend, driver, mode, parallelisms and moments. Consecutive numbers go round
//! all of the former.

mod committed;
mod job;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::compare;
use crate::queries::Query;

pub(crate) use job::{Job, succeeded};

/// The backends that the programs are built with.
pub const BACKENDS: &[&str] =
    if cfg!(feature = "rocksdb") { &["memory", "rocksdb"] } else { &["memory"] };

/// Many times what a start that is left alone takes on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);
/// The least of kills in a run.
const N_KILLS: u64 = 2;

/// A program, its data, and how fast they are read.
#[derive(Debug)]
pub struct Case {
    /// What is run, for people.
    name: &'static str,
    program: &'static str,
    arguments: Vec<OsString>,
    /// The option of the program for the folder of its checkpoints.
    checkpoints: &'static str,
    /// Whether its results tell which records came too late.
    judges_lateness: bool,
    /// Name and content of each expected result.
    expected: Vec<(&'static str, Vec<u8>)>,
    n_records: u64,
    /// How long it takes to read all records, if nothing gets in the way.
    pub(crate) millis: u64,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was run, to be printed.
    pub what: String,
    /// How often it was killed.
    pub n_kills: u64,
    /// Whether the failpoint was reached.
    pub reached: bool,
    /// What was not as it must be; the first is enough to stop.
    pub violation: Option<String>,
}

impl Case {
    /// `query` over the data set in the folder `data`, in `millis` if it is let; the expected results are in `expected`.
    ///
    /// # Errors
    /// Files that are not there.
    pub fn new(
        query: &'static Query,
        data: &Path,
        expected: &Path,
        millis: u64,
    ) -> Result<Case, String> {
        let read = |path: &Path| compare::read(path).map_err(|mismatch| mismatch.to_string());
        let files = query.expected(expected)?;
        let contents = files.iter().map(|(name, file)| Ok((*name, read(file)?)));
        Ok(Case {
            name: query.id,
            program: "queries",
            arguments: vec![query.id.into(), "--data".into(), data.into()],
            checkpoints: "--checkpoint-dir",
            judges_lateness: query.judges_lateness(),
            expected: contents.collect::<Result<_, String>>()?,
            n_records: compare::lines(&read(&data.join(query.input))?).len() as u64,
            millis,
        })
    }

    /// Two jobs with a log between them; or one of them, `writer` or `reader`.
    pub fn relay(millis: u64, one: Option<&'static str>) -> Case {
        let n_records = 3000u64;
        let mut expected = b"header\n".to_vec();
        (0..n_records).for_each(|n| expected.extend(format!("{n}\n").into_bytes()));
        let mut arguments: Vec<OsString> = vec!["--n".into(), n_records.to_string().into()];
        arguments.extend(one.iter().flat_map(|one| ["--only", one]).map(OsString::from));
        Case {
            name: "relay",
            program: "relay",
            arguments,
            checkpoints: "--checkpoints",
            judges_lateness: false,
            expected: if one == Some("writer") { vec![] } else { vec![("numbers", expected)] },
            n_records,
            millis,
        }
    }

    /// Kills the query at random moments, at least twice.
    ///
    /// # Panics
    /// When a process cannot be started, or a folder cannot be made.
    pub fn killed(&self, seed: u64) -> Outcome {
        let mut outcome = Outcome::new(String::new());
        // If this process is held up, a query may end before it is killed: then it has to be slower.
        for slowness in [1, 2, 4] {
            let mut job = Job::new(self, seed, slowness);
            outcome.violation = job.be_killed(&mut outcome.n_kills).err();
            outcome.what = job.what();
            job.keep_if(outcome.violation.as_mut());
            if outcome.violation.is_some() || outcome.n_kills >= N_KILLS {
                return outcome;
            }
            outcome.n_kills = 0;
        }
        outcome.violation =
            Some(format!("{}: too quick to be killed {N_KILLS} times", outcome.what));
        outcome
    }

    /// Lets the query die at the `n`-th time it passes a failpoint, twice: the second time on its way back. With
    /// `killed`, it is killed at a random moment before, so that there is something to come back from already.
    ///
    /// # Panics
    /// When a process cannot be started, or a folder cannot be made.
    pub fn aborted(&self, seed: u64, name: &str, n: u64, killed: bool) -> Outcome {
        let mut job = Job::new(self, seed, 1);
        let mut outcome = Outcome::new(String::new());
        let armed = format!("{name}:{n}");
        outcome.violation = job.be_aborted(&armed, killed, &mut outcome).err();
        outcome.what = format!("{}, dying at {armed}", job.what());
        job.keep_if(outcome.violation.as_mut());
        outcome
    }
}

impl Outcome {
    pub(crate) fn new(what: String) -> Outcome {
        Outcome { what, n_kills: 0, reached: false, violation: None }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} deaths: ", self.what, self.n_kills)?;
        match &self.violation {
            None => write!(f, "ok"),
            Some(violation) => write!(f, "VIOLATION: {violation}"),
        }
    }
}
