//! A job that is started as often as it takes, and dies on the way.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use millstream::state::failpoint;
use tempfile::TempDir;

use super::committed::Committed;
use super::{BACKENDS, Case, DEADLINE, N_KILLS, Outcome};
use crate::program::{Finished, Running, example, start};
use crate::random::Random;

/// How parallel a query is run; another one at every start.
const PARALLELISMS: [usize; 3] = [1, 2, 4];
const DRIVERS: [&str; 2] = ["cooperative", "threads"];
/// For state that lies in RocksDB: plenty, and so little that most of it is there alone.
const STATE_MEMORY: [&str; 2] = ["1 GiB", "256 KiB"];
/// How barriers travel.
const MODES: [&str; 2] = ["exactly-once", "unaligned"];
const INTERVAL: &str = "200ms";
const SIGKILL: i32 = 9;
/// Many times what the rest of a job takes that nothing holds up.
const SOON: Duration = Duration::from_secs(30);

/// One run of a case: a job that is started as often as it takes.
pub(crate) struct Job<'c> {
    pub(crate) case: &'c Case,
    pub(crate) dir: TempDir,
    pub(crate) random: Random,
    pub(crate) rate: u64,
    backend: &'static str,
    driver: &'static str,
    state_memory: &'static str,
    mode: &'static str,
    /// Of every start so far.
    parallelisms: Vec<usize>,
    committed: Committed,
    /// Where power went, for whoever looks into a violation.
    pub(crate) cuts: Vec<String>,
}

impl<'c> Job<'c> {
    pub(crate) fn new(case: &'c Case, seed: u64, slowness: u64) -> Self {
        let pick = |n: usize, turn: u64| (turn % n as u64) as usize;
        let n_before = (BACKENDS.len() * DRIVERS.len()) as u64;
        // By the path that the system has for it.
        let parent = std::env::temp_dir().canonicalize().expect("a folder for temporary files");
        let dir = tempfile::Builder::new().prefix("millstream-crash-").tempdir_in(parent);
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
            cuts: Vec::new(),
        }
    }

    pub(crate) fn what(&self) -> String {
        let parallelisms = self.parallelisms.iter().map(usize::to_string).collect::<Vec<_>>();
        let (backend, driver, memory) = (self.backend, self.driver, self.state_memory);
        let mode = self.mode;
        let memory = if backend == "memory" { String::new() } else { format!(" with {memory}") };
        let parallelisms = parallelisms.join(" → ");
        let name = self.case.name;
        let cuts = if self.cuts.is_empty() { "" } else { ", power cut after " };
        let cuts = format!("{cuts}{}", self.cuts.join(" → "));
        format!("{name} on {backend}{memory}, {driver}, {mode}, at {parallelisms}{cuts}")
    }

    /// Whether the job may go on with another parallelism. A record that a barrier overtook, and with it a watermark, may be taken
    /// then although it would have been late.
    fn may_rescale(&self) -> bool {
        self.mode != "unaligned" || !self.case.judges_lateness
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Starts the job with some variables in its environment; the next start will have another parallelism, if that may be.
    fn start(&mut self, variables: &[(&str, &OsStr)]) -> Running {
        let now = *self.parallelisms.last().expect("the first is drawn with the job");
        let others: Vec<usize> = PARALLELISMS.into_iter().filter(|p| *p != now).collect();
        let mut command = example(self.case.program);
        command.args(&self.case.arguments);
        command.arg("--out").arg(self.out()).args(["--rate", &self.rate.to_string()]);
        command.args(["--backend", self.backend, "-D", &format!("driver={}", self.driver)]);
        command.args(["-D", &format!("state-memory={}", self.state_memory)]);
        command.arg("-D").arg(format!("state-dir={}", self.state().display()));
        command.args(["--parallelism", &now.to_string(), "--restore", "latest"]);
        command.arg(self.case.checkpoints).arg(self.dir.path().join("checkpoints"));
        command.args(["--checkpoint-interval", INTERVAL, "-D", "restart-strategy=none"]);
        command.arg("-D").arg(format!("checkpoint-mode={}", self.mode));
        command.envs(variables.iter().copied());
        let other = others[self.random.below(2) as usize];
        self.parallelisms.push(if self.may_rescale() { other } else { now });
        start(&mut command)
    }

    /// Runs the job for so long and kills it then; how it ended, if it did so by itself.
    pub(crate) fn run_for(
        &mut self,
        patience: Duration,
        variables: &[(&str, &OsStr)],
    ) -> Option<Finished> {
        match self.start(variables).wait(patience) {
            Ok(ended) => Some(ended),
            Err(running) => {
                let ended = running.kill();
                (ended.status.signal() != Some(SIGKILL)).then_some(ended)
            }
        }
    }

    pub(crate) fn be_killed(&mut self, n_kills: &mut u64) -> Result<(), String> {
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
            if let Some(ended) = self.run_for(Duration::from_millis(patience), &[]) {
                return self.end(ended);
            }
            *n_kills += 1;
            self.look()?;
        }
        self.go_on_to_the_end()
    }

    pub(crate) fn be_aborted(
        &mut self,
        failpoint: &str,
        killed: bool,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        if killed {
            let patience = self.random.between(self.case.millis / 4, self.case.millis * 3 / 4);
            if let Some(ended) = self.run_for(Duration::from_millis(patience), &[]) {
                return self.end(ended);
            }
            outcome.n_kills += 1;
            self.look()?;
        }
        for _ in 0..2 {
            let ended =
                self.wait_for_the_end(DEADLINE, &[(failpoint::VARIABLE, failpoint.as_ref())])?;
            if !ended.stderr.contains("reached: aborting") {
                return self.end(ended);
            }
            outcome.reached = true;
            outcome.n_kills += 1;
            self.look()?;
        }
        self.go_on_to_the_end()
    }

    pub(crate) fn wait_for_the_end(
        &mut self,
        deadline: Duration,
        variables: &[(&str, &OsStr)],
    ) -> Result<Finished, String> {
        self.start(variables).wait(deadline).map_err(|running| {
            format!("was still running after {deadline:?}; it said:\n{}", running.kill().stderr)
        })
    }

    pub(crate) fn go_on_to_the_end(&mut self) -> Result<(), String> {
        let ended = self.wait_for_the_end(DEADLINE, &[])?;
        self.end(ended)
    }

    /// What was committed is still so, and right.
    fn look(&mut self) -> Result<(), String> {
        self.committed.look(&self.out(), &self.case.expected, false)
    }

    /// The job comes to its end from here, soon: everything is committed, whatever was seen before.
    pub(crate) fn goes_on(&mut self) -> Result<(), String> {
        let ended = self.wait_for_the_end(SOON, &[])?;
        self.parallelisms.truncate(1);
        succeeded(&ended)?;
        Committed::default().look(&self.out(), &self.case.expected, true)
    }

    /// What a reader may have taken, although it may be lost again and come back.
    pub(crate) fn glance(&mut self) -> Result<(), String> {
        self.committed.glance(&self.out(), &self.case.expected)
    }

    /// The job is at its end: everything is committed, and starting it again changes nothing.
    pub(crate) fn end(&mut self, ended: Finished) -> Result<(), String> {
        succeeded(&ended)?;
        self.committed.look(&self.out(), &self.case.expected, true)?;
        let n_files = self.committed.n_files();
        let again = self.wait_for_the_end(DEADLINE, &[])?;
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
    pub(crate) fn keep_if(self, violation: Option<&mut String>) {
        if let Some(violation) = violation {
            *violation += &format!("\n(all of it is in {})", self.dir.keep().display());
        }
    }
}

pub(crate) fn succeeded(ended: &Finished) -> Result<(), String> {
    if ended.status.success() {
        return Ok(());
    }
    Err(format!("ended with {}; it said:\n{}", ended.status, ended.stderr))
}
