//! Trials: a cluster of real processes with two jobs, and something that hurts it at random moments.
//!
//! A trial is told by a number. It chooses what hurts (consecutive numbers go round all kinds), how often, when, and how
//! the jobs are run. Whatever happened, both jobs end well and their output is the oracle's, line for line; a job
//! that had no part in what happened was not restarted; and no failure is one of the engine's own.

mod disk;
mod trial;

use std::fmt;
use std::str::FromStr;
use std::thread;

use trial::Trial;

/// What is done to the cluster or to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hurt {
    /// Task managers are killed, and replaced.
    KillTaskManager,
    /// Hosts of one job are killed.
    KillHost,
    /// The job manager is killed and started again, sometimes ten seconds later, sometimes in the middle of a checkpoint.
    /// No task notices.
    KillJobManager,
    /// A task manager stops for a while and goes on.
    PauseTaskManager,
    /// A host of one job stops for a while and goes on.
    PauseHost,
    /// One job's code panics, aborts, ends the process, never returns or takes all memory.
    UserCode,
    /// The connections of task managers to the job manager are slow, or cut.
    Network,
    /// The connections between the hosts of one job are cut.
    CutBetweenHosts,
    /// The disk with one job's checkpoints and output is full for a while.
    FullDisk,
}

const HURTS: [Hurt; 9] = [
    Hurt::KillTaskManager,
    Hurt::KillHost,
    Hurt::KillJobManager,
    Hurt::PauseTaskManager,
    Hurt::PauseHost,
    Hurt::UserCode,
    Hurt::Network,
    Hurt::CutBetweenHosts,
    Hurt::FullDisk,
];

impl FromStr for Hurt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = HURTS.into_iter().find(|hurt| format!("{hurt:?}") == text);
        known.ok_or_else(|| format!("nothing is hurt by `{text}`: use one of {HURTS:?}"))
    }
}

/// What came of a trial.
#[derive(Debug)]
pub struct Outcome {
    /// What was run, to be printed.
    pub what: String,
    /// How often it was hurt.
    pub n_hurts: u64,
    /// How often of these in the middle of a checkpoint, where that was tried.
    pub n_in_checkpoint: u64,
    /// What was not as it must be.
    pub violation: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, hurt {} times", self.what, self.n_hurts)?;
        if self.n_in_checkpoint > 0 {
            write!(f, " ({} in a checkpoint)", self.n_in_checkpoint)?;
        }
        f.write_str(": ")?;
        match &self.violation {
            None => f.write_str("ok"),
            Some(violation) => write!(f, "VIOLATION: {violation}"),
        }
    }
}

/// Makes the trial of this number, with the hurt of that number or the `only` one. What goes wrong is in the outcome, and
/// on standard error with all logs.
pub fn trial(seed: u64, only: Option<Hurt>) -> Outcome {
    let mut trial = Trial::draw(seed, only);
    let what = trial.what();
    // A panic is a violation; on a thread of its own it ends nothing else, and takes the cluster down on its way.
    let run = thread::Builder::new().name(format!("trial {seed}")).spawn(move || trial.run());
    match run.expect("a thread for a trial").join() {
        Ok((n_hurts, n_in_checkpoint)) => {
            Outcome { what, n_hurts, n_in_checkpoint, violation: None }
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let violation = Some(text.unwrap_or_else(|| "a panic without words".to_owned()));
            Outcome { what, n_hurts: 0, n_in_checkpoint: 0, violation }
        }
    }
}
