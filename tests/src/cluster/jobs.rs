//! Jobs on a cluster: submitted as a user does, watched until something is so.

use std::process::Command;
use std::time::Duration;

use millstream::cluster::message::{ClientReply, ClientRequest, JobDetail, JobId, Outcome};

use super::{Cluster, PATIENCE, clean, until};
use crate::program::{Finished, run};

impl Cluster {
    /// Runs a program that submits its job here, to the end of the job.
    pub fn run(&self, program: Command) -> Finished {
        let mut program = clean(program);
        run(program.env("MILLSTREAM_CLUSTER", self.address()), 2 * PATIENCE)
    }

    /// Runs a program that submits its job here and does not wait for it.
    ///
    /// # Panics
    /// When the job is not taken.
    #[track_caller]
    pub fn submit(&self, program: Command) -> JobId {
        let mut program = clean(program);
        program.env("MILLSTREAM_CLUSTER", self.address()).env("MILLSTREAM_DETACHED", "true");
        let ended = run(&mut program, PATIENCE);
        assert!(
            ended.status.success(),
            "{program:?} ended with {}:\n{}",
            ended.status,
            ended.stderr
        );
        let id = ended.stdout.lines().last().unwrap_or_default();
        id.parse().unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
    }

    /// How a job is.
    #[track_caller]
    pub fn detail(&self, job: JobId) -> JobDetail {
        match self.ask(ClientRequest::Job(job)) {
            ClientReply::Job(detail) => *detail,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until something is so for a job.
    ///
    /// # Panics
    /// When it ends first, or takes too long.
    #[track_caller]
    pub fn wait_until(
        &self,
        job: JobId,
        what: &str,
        is_so: impl Fn(&JobDetail) -> bool,
    ) -> JobDetail {
        until(what, || {
            let detail = self.detail(job);
            if is_so(&detail) {
                return Some(detail);
            }
            let (overview, exceptions) = (&detail.overview, &detail.exceptions);
            assert!(
                !overview.state.is_terminal(),
                "the job ended before that ({what}): {overview:#?}\n{exceptions:#?}"
            );
            None
        })
    }

    /// Waits until a job has completed a checkpoint newer than `after`, and reads on; the checkpoint's number.
    #[track_caller]
    pub fn checkpoint_after(&self, job: JobId, after: Option<u64>) -> u64 {
        let is_newer = |detail: &JobDetail| detail.overview.last_checkpoint > after;
        let detail = self.wait_until(job, "a newer checkpoint is completed", is_newer);
        detail.overview.last_checkpoint.expect("it is newer than one or none")
    }

    /// Waits until a job has ended.
    #[track_caller]
    pub fn ended(&self, job: JobId) -> Outcome {
        until("the job ends", || {
            let timeout_ms = Duration::from_secs(5).as_millis() as u64;
            match self.ask(ClientRequest::Await { job, timeout_ms }) {
                ClientReply::Ended(outcome) => Some(*outcome),
                _ => None,
            }
        })
    }
}
