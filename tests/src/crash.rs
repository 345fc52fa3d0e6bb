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

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::state::failpoint;
use tempfile::TempDir;

use crate::compare::{self, Mismatch};
use crate::program::{Finished, Running, example, start};
use crate::queries::Query;

/// The backends that the programs are built with.
pub const BACKENDS: &[&str] =
    if cfg!(feature = "rocksdb") { &["memory", "rocksdb"] } else { &["memory"] };

/// How parallel a query is run; another one at every start.
const PARALLELISMS: [usize; 3] = [1, 2, 4];
const DRIVERS: [&str; 2] = ["cooperative", "threads"];
/// For state that lies in RocksDB: plenty, and so little that most of it is there alone.
const STATE_MEMORY: [&str; 2] = ["1 GiB", "256 KiB"];
/// How barriers travel.
const MODES: [&str; 2] = ["exactly-once", "unaligned"];
const INTERVAL: &str = "200ms";
/// Many times what a start that is left alone takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(180);
const SIGKILL: i32 = 9;
/// The least of kills in a run.
const N_KILLS: u64 = 2;

/// A query, its data, and how fast they are read.
#[derive(Debug)]
pub struct Case {
    query: &'static Query,
    data: PathBuf,
    /// Name and content of each expected result.
    expected: Vec<(&'static str, Vec<u8>)>,
    n_records: u64,
    /// How long it takes to read all records, if nothing gets in the way.
    millis: u64,
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

/// Draws numbers from a seed: output i of splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n.max(1)
    }

    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }
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
            query,
            data: data.to_owned(),
            expected: contents.collect::<Result<_, String>>()?,
            n_records: compare::lines(&read(&data.join(query.input))?).len() as u64,
            millis,
        })
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
    fn new(what: String) -> Outcome {
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

/// One run of a case: a job that is started as often as it takes.
struct Job<'c> {
    case: &'c Case,
    dir: TempDir,
    random: Random,
    rate: u64,
    backend: &'static str,
    driver: &'static str,
    state_memory: &'static str,
    mode: &'static str,
    /// Of every start so far.
    parallelisms: Vec<usize>,
    committed: Committed,
}

impl<'c> Job<'c> {
    fn new(case: &'c Case, seed: u64, slowness: u64) -> Self {
        let pick = |n: usize, turn: u64| (turn % n as u64) as usize;
        let n_before = (BACKENDS.len() * DRIVERS.len()) as u64;
        let dir = tempfile::Builder::new().prefix("millstream-crash-").tempdir();
        Job {
            case,
            dir: dir.expect("a folder for a job"),
            random: Random(seed),
            rate: (case.n_records * 1000 / (case.millis * slowness)).max(1),
            backend: BACKENDS[pick(BACKENDS.len(), seed)],
            driver: DRIVERS[pick(DRIVERS.len(), seed / BACKENDS.len() as u64)],
            state_memory: STATE_MEMORY[pick(STATE_MEMORY.len(), seed / n_before)],
            mode: MODES[pick(MODES.len(), seed / n_before / STATE_MEMORY.len() as u64)],
            parallelisms: vec![PARALLELISMS[pick(PARALLELISMS.len(), seed)]],
            committed: Committed::default(),
        }
    }

    fn what(&self) -> String {
        let parallelisms = self.parallelisms.iter().map(usize::to_string).collect::<Vec<_>>();
        let (backend, driver, memory) = (self.backend, self.driver, self.state_memory);
        let mode = self.mode;
        let memory = if backend == "memory" { String::new() } else { format!(" with {memory}") };
        let parallelisms = parallelisms.join(" → ");
        let query = self.case.query.id;
        format!("{query} on {backend}{memory}, {driver}, {mode}, at {parallelisms}")
    }

    /// Whether the job may go on with another parallelism. A record that a barrier overtook, and with it a watermark, may be taken
    /// then although it would have been late.
    fn may_rescale(&self) -> bool {
        self.mode != "unaligned" || !self.case.query.judges_lateness()
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Starts the job; the next start will have another parallelism, if that may be.
    fn start(&mut self, failpoint: Option<&str>) -> Running {
        let now = *self.parallelisms.last().expect("the first is drawn with the job");
        let others: Vec<usize> = PARALLELISMS.into_iter().filter(|p| *p != now).collect();
        let mut command = example("queries");
        command.arg(self.case.query.id).arg("--data").arg(&self.case.data);
        command.arg("--out").arg(self.out()).args(["--rate", &self.rate.to_string()]);
        command.args(["--backend", self.backend, "-D", &format!("driver={}", self.driver)]);
        command.args(["-D", &format!("state-memory={}", self.state_memory)]);
        command.arg("-D").arg(format!("state-dir={}", self.state().display()));
        command.args(["--parallelism", &now.to_string(), "--restore", "latest"]);
        command.arg("--checkpoint-dir").arg(self.dir.path().join("checkpoints"));
        command.args(["--checkpoint-interval", INTERVAL, "-D", "restart-strategy=none"]);
        command.arg("-D").arg(format!("checkpoint-mode={}", self.mode));
        if let Some(failpoint) = failpoint {
            command.env(failpoint::VARIABLE, failpoint);
        }
        let other = others[self.random.below(2) as usize];
        self.parallelisms.push(if self.may_rescale() { other } else { now });
        start(&mut command)
    }

    fn be_killed(&mut self, n_kills: &mut u64) -> Result<(), String> {
        let (n_planned, millis) = (N_KILLS + self.random.below(3), self.case.millis);
        let mut n_left = millis;
        let mut patiences = Vec::new();
        for _ in 0..n_planned {
            // Together they are shorter than the input is long, so that it is there to be killed every time.
            let patience = self.random.between(20, millis / (n_planned + 1));
            n_left -= patience;
            patiences.push(patience);
        }
        // Every other time also about when it ends: it has lost some time by being killed.
        if self.random.below(2) == 0 {
            patiences.push(self.random.between(n_left, n_left + n_planned * millis / 8));
        }
        for patience in patiences {
            match self.start(None).wait(Duration::from_millis(patience)) {
                Ok(ended) => return self.end(ended),
                Err(running) => {
                    let ended = running.kill();
                    if ended.status.signal() != Some(SIGKILL) {
                        return self.end(ended);
                    }
                    *n_kills += 1;
                    self.look()?;
                }
            }
        }
        self.go_on_to_the_end()
    }

    fn be_aborted(
        &mut self,
        failpoint: &str,
        killed: bool,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        if killed {
            let patience = self.random.between(self.case.millis / 4, self.case.millis * 3 / 4);
            match self.start(None).wait(Duration::from_millis(patience)) {
                Ok(ended) => return self.end(ended),
                Err(running) => drop(running.kill()),
            }
            outcome.n_kills += 1;
            self.look()?;
        }
        for _ in 0..2 {
            let ended = self.wait_for_the_end(Some(failpoint))?;
            if !ended.stderr.contains("reached: aborting") {
                return self.end(ended);
            }
            outcome.reached = true;
            outcome.n_kills += 1;
            self.look()?;
        }
        self.go_on_to_the_end()
    }

    fn wait_for_the_end(&mut self, failpoint: Option<&str>) -> Result<Finished, String> {
        self.start(failpoint).wait(DEADLINE).map_err(|running| {
            format!("was still running after {DEADLINE:?}; it said:\n{}", running.kill().stderr)
        })
    }

    fn go_on_to_the_end(&mut self) -> Result<(), String> {
        let ended = self.wait_for_the_end(None)?;
        self.end(ended)
    }

    /// What was committed is still so, and right.
    fn look(&mut self) -> Result<(), String> {
        self.committed.look(&self.out(), &self.case.expected, false)
    }

    /// The job is at its end: everything is committed, and starting it again changes nothing.
    fn end(&mut self, ended: Finished) -> Result<(), String> {
        succeeded(&ended)?;
        self.committed.look(&self.out(), &self.case.expected, true)?;
        let n_files = self.committed.n_files();
        let again = self.wait_for_the_end(None)?;
        self.parallelisms.pop();
        succeeded(&again)
            .map_err(|problem| format!("finished, and started again, it {problem}"))?;
        self.committed.look(&self.out(), &self.case.expected, true)?;
        match self.committed.n_files() - n_files {
            0 => self.leaves_nothing(),
            n => Err(format!("finished, and started again, it wrote {n} more files")),
        }
    }

    /// What the dead ones wrote while they ran is gone too.
    fn leaves_nothing(&self) -> Result<(), String> {
        let Ok(entries) = std::fs::read_dir(self.state()) else { return Ok(()) };
        let left: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("files of state are left: {left:?}")) }
    }

    /// Keeps the job's folder for whoever looks into a violation.
    fn keep_if(self, violation: Option<&mut String>) {
        if let Some(violation) = violation {
            *violation += &format!("\n(all of it is in {})", self.dir.keep().display());
        }
    }
}

fn succeeded(ended: &Finished) -> Result<(), String> {
    if ended.status.success() {
        return Ok(());
    }
    Err(format!("ended with {}; it said:\n{}", ended.status, ended.stderr))
}

/// What a reader of `part-*` has seen so far.
#[derive(Debug, Default)]
struct Committed {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Committed {
    fn n_files(&self) -> usize {
        self.files.len()
    }

    /// Reads the results in `out` again: what was read before is still the same, nothing is there that is not
    /// expected, and if `whole` nothing is missing.
    fn look(
        &mut self,
        out: &Path,
        expected: &[(&'static str, Vec<u8>)],
        whole: bool,
    ) -> Result<(), String> {
        let said = |mismatch: Mismatch| mismatch.to_string();
        let before = std::mem::take(&mut self.files);
        for (name, expected) in expected {
            let mut parts = Vec::new();
            for path in compare::part_files(&out.join(name)).map_err(said)? {
                parts.push((compare::read(&path).map_err(said)?, path));
            }
            let lines = parts.iter().flat_map(|(content, _)| compare::lines(content)).collect();
            match compare::compare_lines(expected, lines) {
                Err(difference) if whole || difference.n_unexpected > 0 => {
                    return Err(format!("{name}: {difference}"));
                }
                _ => self.files.extend(parts.into_iter().map(|(content, path)| (path, content))),
            }
        }
        match before.iter().find(|(path, content)| self.files.get(*path) != Some(*content)) {
            Some((path, _)) => {
                Err(format!("{} was committed and is changed or gone", path.display()))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &[u8] = b"header\na\nb\nb\n";

    /// What the reader says of the folder `R` with these files, after it has read those of the first round.
    fn looks(rounds: &[&[(&str, &str)]], whole: bool) -> Result<(), String> {
        let out = tempfile::tempdir().unwrap();
        let dir = out.path().join("R");
        let mut committed = Committed::default();
        for (round, files) in rounds.iter().enumerate() {
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir(&dir).unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(dir.join(name), text).unwrap());
            let is_last = round + 1 == rounds.len();
            committed.look(out.path(), &[("R", EXPECTED.to_vec())], whole && is_last)?;
        }
        Ok(())
    }

    #[test]
    fn what_is_committed_may_only_grow_towards_what_is_expected() {
        let begun: &[(&str, &str)] = &[("part-1-0-0", "b\n"), (".part-1-1-0.pending", "c\n")];
        let all: &[(&str, &str)] = &[("part-1-0-0", "b\n"), ("part-2-0-0", "a\nb\n")];
        assert_eq!(looks(&[&[], begun, all], true), Ok(()));
        assert_eq!(looks(&[begun], false), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let begun: &[(&str, &str)] = &[("part-1-0-0", "b\n")];
        let cases: [(&[&[(&str, &str)]], &str); 4] = [
            (&[begun], "2 missing"),
            (&[&[("part-1-0-0", "b\nb\nb\n")]], "1 unexpected"),
            (&[begun, &[("part-1-0-0", "b\na\nb\n")]], "changed or gone"),
            (&[begun, &[("part-2-0-0", "b\na\nb\n")]], "changed or gone"),
        ];
        for (rounds, problem) in cases {
            let said = looks(rounds, true).unwrap_err();
            assert!(said.contains(problem), "{said}");
        }
    }

    #[test]
    fn a_seed_tells_a_run() {
        let draw = |seed| {
            let mut random = Random(seed);
            [random.below(1000), random.between(20, 900), random.between(5, 5)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7)[..2], draw(8)[..2]);
        assert_eq!(draw(7)[2], 5);
    }
}
