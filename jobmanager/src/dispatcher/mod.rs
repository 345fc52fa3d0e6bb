//! The jobs of a cluster, from their submission to the day they are forgotten.
//!
//! A pure machine. A submission is stored before its job is started and before the client hears of it; an end is
//! stored before anybody is told; that a job
//! is to end, before whoever wants it hears that it will (the job itself is told at once: a disk that is full or slow is no
//! reason to run on). So what a client knows, the next leader knows, too. The id of a job is that of
//! the request it was submitted with: sent twice, it is one job, whoever leads.

use crate::job::link::AttemptRecord;
use crate::store::{JobRecord, SubmittedJob};
use millstream_model::{Error, Machine};
use millstream_proto::message::{HostStart, JobId, Outcome, Submission};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long after the store has failed it is tried again, in ms.
pub const RETRY_MS: u64 = 1000;

/// What a dispatcher goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many jobs may run or wait at a time.
    pub max_jobs: usize,
    /// How many jobs are remembered after they have ended.
    pub n_history: usize,
}

/// What happens to jobs.
#[derive(Debug)]
pub enum Input {
    /// A former leader had this job.
    Found(JobRecord),
    /// A client submits a job.
    Submit {
        /// What the answer refers to.
        client: u64,
        /// What.
        submission: Submission,
        /// The time, in ms since the epoch.
        at_ms: i64,
    },
    /// An answer to `StoreSubmission`.
    SubmissionStored(JobId, Result<(), Error>),
    /// A client wants a job to end.
    Cancel {
        /// What the answer refers to.
        client: u64,
        /// Which.
        job: JobId,
    },
    /// An answer to `StoreCancel`.
    CancelStored(JobId, Result<(), Error>),
    /// The master of a job says that it is over.
    Ended(Outcome),
    /// An answer to `StoreOutcome`.
    OutcomeStored(JobId, Result<(), Error>),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Store a submission, and say whether it was.
    StoreSubmission(Arc<SubmittedJob>),
    /// Start the master of a job.
    Start {
        /// The job.
        job: Arc<SubmittedJob>,
        /// Its newest attempt, if a former leader had begun one.
        attempt: Option<AttemptRecord>,
    },
    /// Store that a job is to end, and say whether it was.
    StoreCancel(JobId),
    /// Tell the master of a job that it is to end.
    Cancel(JobId),
    /// Tell a client that the job it wants to end will.
    Cancelled {
        /// Whom.
        client: u64,
    },
    /// Store an end, and say whether it was.
    StoreOutcome(Arc<Outcome>),
    /// Tell a client the id of its job.
    Submitted {
        /// Whom.
        client: u64,
        /// The job.
        job: JobId,
    },
    /// Tell a client why its job is not taken, or does not surely end.
    Refused {
        /// Whom.
        client: u64,
        /// Why.
        error: Error,
    },
    /// Tell whoever waits for it that a job is over.
    Told(Arc<Outcome>),
    /// Remove what is stored of a job; nothing depends on it.
    Forget(JobId),
    /// Send a `Tick` at this time, instead of at any named before.
    WakeAt(u64),
}

/// Where a job stands.
#[derive(Clone, Debug)]
pub enum Stage {
    /// Its submission is being stored; these clients wait for it.
    Submitting {
        /// The tickets.
        clients: Vec<u64>,
    },
    /// Its master has it.
    Running,
    /// It is over, but that is not stored yet.
    Ending {
        /// How.
        outcome: Arc<Outcome>,
        /// When it is tried again, after a failure.
        retry_at_ms: Option<u64>,
    },
    /// It is over.
    Over(Arc<Outcome>),
}

/// See the module's text.
#[derive(Debug)]
pub struct Dispatcher {
    config: Config,
    jobs: BTreeMap<JobId, (Arc<SubmittedJob>, Stage)>,
    /// Those of which it is being stored that they are to end, and the clients that wait for it.
    cancels: BTreeMap<JobId, Vec<u64>>,
}

impl Dispatcher {
    /// A dispatcher without jobs.
    pub fn new(config: Config) -> Self {
        Dispatcher { config, jobs: BTreeMap::new(), cancels: BTreeMap::new() }
    }

    /// A job that is remembered.
    pub fn job(&self, id: JobId) -> Option<(&Arc<SubmittedJob>, &Stage)> {
        self.jobs.get(&id).map(|(job, stage)| (job, stage))
    }

    /// All jobs that are remembered.
    pub fn jobs(&self) -> impl Iterator<Item = (&Arc<SubmittedJob>, &Stage)> {
        self.jobs.values().map(|(job, stage)| (job, stage))
    }

    fn find(&mut self, record: JobRecord, effects: &mut Vec<Effect>) {
        let JobRecord { job, attempt, is_cancelled, outcome, .. } = record;
        let stage = match outcome {
            Some(outcome) => Stage::Over(Arc::new(outcome)),
            None => {
                effects.push(Effect::Start { job: job.clone(), attempt });
                effects.extend(is_cancelled.then_some(Effect::Cancel(job.id)));
                Stage::Running
            }
        };
        self.jobs.insert(job.id, (job, stage));
        self.forget_the_oldest(effects);
    }

    fn submit(
        &mut self,
        client: u64,
        submission: Submission,
        at_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        let id = JobId(submission.request.0);
        let submission =
            Submission { start: HostStart { job: id, ..submission.start }, ..submission };
        if let Some((known, stage)) = self.jobs.get_mut(&id) {
            let known = &known.submission;
            if (known.program, &known.start) != (submission.program, &submission.start) {
                let error = Error::user(format!(
                    "the request {} was used for another job, `{}`: a new job needs a new one",
                    submission.request, known.start.graph.name
                ));
                effects.push(Effect::Refused { client, error });
            } else if let Stage::Submitting { clients } = stage {
                clients.push(client);
            } else {
                effects.push(Effect::Submitted { client, job: id });
            }
            return;
        }
        let n_live = self.jobs.values().filter(|(_, s)| !matches!(s, Stage::Over(_))).count();
        if n_live >= self.config.max_jobs {
            let error = Error::user(format!(
                "the cluster has {n_live} jobs, which is as many as it takes: cancel one, or give the job \
                 manager a larger `max-jobs`"
            ));
            effects.push(Effect::Refused { client, error });
            return;
        }
        let job = Arc::new(SubmittedJob { id, submission, submitted_at_ms: at_ms });
        effects.push(Effect::StoreSubmission(job.clone()));
        self.jobs.insert(id, (job, Stage::Submitting { clients: vec![client] }));
    }

    fn submission_stored(
        &mut self,
        id: JobId,
        result: Result<(), Error>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((job, stage)) = self.jobs.get_mut(&id) else { return };
        let Stage::Submitting { clients } = stage else { return };
        let clients = std::mem::take(clients);
        match result {
            Ok(()) => {
                *stage = Stage::Running;
                effects.push(Effect::Start { job: job.clone(), attempt: None });
                effects
                    .extend(clients.into_iter().map(|c| Effect::Submitted { client: c, job: id }));
            }
            Err(error) => {
                self.jobs.remove(&id);
                // Nobody knows whether it is there; it should not be.
                effects.push(Effect::Forget(id));
                let refused = |client| Effect::Refused { client, error: error.clone() };
                effects.extend(clients.into_iter().map(refused));
            }
        }
    }

    fn cancel(&mut self, client: u64, id: JobId, effects: &mut Vec<Effect>) {
        match self.jobs.get(&id) {
            Some((_, Stage::Running)) => {
                let clients = self.cancels.entry(id).or_default();
                if clients.is_empty() {
                    effects.extend([Effect::Cancel(id), Effect::StoreCancel(id)]);
                }
                clients.push(client);
            }
            _ => {
                let error = Error::user(format!("the job {id} does not run"));
                effects.push(Effect::Refused { client, error });
            }
        }
    }

    fn cancel_stored(&mut self, id: JobId, result: Result<(), Error>, effects: &mut Vec<Effect>) {
        let clients = self.cancels.remove(&id).unwrap_or_default();
        effects.extend(clients.into_iter().map(|client| match &result {
            Ok(()) => Effect::Cancelled { client },
            Err(cause) => {
                let error = Error::external(format!(
                    "the job {id} is told to end, but goes on if the job manager ends first, \
                     because that could not be stored"
                ));
                Effect::Refused { client, error: error.caused_by(cause.clone()) }
            }
        }));
    }

    fn ended(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some((_, stage)) = self.jobs.get_mut(&outcome.overview.id) else { return };
        if let Stage::Running = stage {
            let outcome = Arc::new(outcome);
            *stage = Stage::Ending { outcome: outcome.clone(), retry_at_ms: None };
            effects.push(Effect::StoreOutcome(outcome));
        }
    }

    fn outcome_stored(
        &mut self,
        now_ms: u64,
        id: JobId,
        result: Result<(), Error>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((_, stage)) = self.jobs.get_mut(&id) else { return };
        let Stage::Ending { outcome, retry_at_ms } = stage else { return };
        if result.is_err() {
            *retry_at_ms = Some(now_ms.saturating_add(RETRY_MS));
            self.plan_to_wake(effects);
            return;
        }
        let outcome = outcome.clone();
        *stage = Stage::Over(outcome.clone());
        effects.push(Effect::Told(outcome));
        self.forget_the_oldest(effects);
    }

    fn retry(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        for (_, stage) in self.jobs.values_mut() {
            if let Stage::Ending { outcome, retry_at_ms } = stage
                && retry_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
            {
                *retry_at_ms = None;
                effects.push(Effect::StoreOutcome(outcome.clone()));
            }
        }
        self.plan_to_wake(effects);
    }

    fn plan_to_wake(&self, effects: &mut Vec<Effect>) {
        let retries = self.jobs.values().filter_map(|(_, stage)| match stage {
            Stage::Ending { retry_at_ms, .. } => *retry_at_ms,
            _ => None,
        });
        effects.extend(retries.min().map(Effect::WakeAt));
    }

    fn forget_the_oldest(&mut self, effects: &mut Vec<Effect>) {
        let over = |(id, (_, stage)): (&JobId, &(_, Stage))| match stage {
            Stage::Over(outcome) => Some((outcome.overview.end_time_ms, *id)),
            _ => None,
        };
        let mut over: Vec<_> = self.jobs.iter().filter_map(over).collect();
        over.sort_unstable();
        let n_over = over.len();
        for (_, id) in over.into_iter().take(n_over.saturating_sub(self.config.n_history)) {
            self.jobs.remove(&id);
            effects.push(Effect::Forget(id));
        }
    }
}

impl Machine for Dispatcher {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Found(record) => self.find(record, effects),
            Input::Submit { client, submission, at_ms } => {
                self.submit(client, submission, at_ms, effects);
            }
            Input::SubmissionStored(id, result) => self.submission_stored(id, result, effects),
            Input::Cancel { client, job } => self.cancel(client, job, effects),
            Input::CancelStored(id, result) => self.cancel_stored(id, result, effects),
            Input::Ended(outcome) => self.ended(outcome, effects),
            Input::OutcomeStored(id, result) => self.outcome_stored(now_ms, id, result, effects),
            Input::Tick => self.retry(now_ms, effects),
        }
    }
}

#[cfg(test)]
mod tests;
