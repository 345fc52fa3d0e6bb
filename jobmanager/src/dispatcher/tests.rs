//! Runs the stories in `testdata/dispatcher/*.txt`: a command a line, begun by the time, and below `----` what came of
//! it. Jobs and clients are small numbers; what a job says of itself is its number.

use super::*;
use crate::samples;
use millstream_proto::message::ProgramId;
use std::fmt::Write;

fn input(now_ms: u64, command: &str) -> Input {
    let words: Vec<_> = command.split_whitespace().collect();
    let id = |at: usize| JobId(words[at].parse().unwrap());
    let failed = || Err(Error::external("no space left"));
    let outcome = |at: usize, end_time_ms| {
        let mut outcome = samples::outcome(id(at));
        outcome.overview.end_time_ms = Some(end_time_ms);
        outcome
    };
    match words[0] {
        // submit JOB by CLIENT [of PROGRAM]
        "submit" => {
            let program = words.get(5).map_or(1, |program| program.parse().unwrap());
            let submission = samples::submission(id(1).0, ProgramId([program; 32]), 10);
            Input::Submit { client: words[3].parse().unwrap(), submission, at_ms: now_ms as i64 }
        }
        "stored" => Input::SubmissionStored(id(1), Ok(())),
        "not-stored" => Input::SubmissionStored(id(1), failed()),
        // cancel JOB by CLIENT
        "cancel" => Input::Cancel { client: words[3].parse().unwrap(), job: id(1) },
        "cancel-stored" => Input::CancelStored(id(1), Ok(())),
        "cancel-not-stored" => Input::CancelStored(id(1), failed()),
        "ended" => Input::Ended(outcome(1, now_ms as i64)),
        "end-stored" => Input::OutcomeStored(id(1), Ok(())),
        "end-not-stored" => Input::OutcomeStored(id(1), failed()),
        "tick" => Input::Tick,
        // found JOB, over at TIME | in attempt NUMBER [cancelled]
        "found" => {
            let mut job = samples::submitted(id(1), 0);
            job.submission.start.job = job.id;
            let number = words.get(4).map(|number| number.parse::<u32>().unwrap());
            let is_over = words.get(2) == Some(&"over");
            let attempt = number.filter(|_| !is_over).map(|attempt| AttemptRecord {
                attempt,
                slots: Vec::new(),
                running: Vec::new(),
            });
            let outcome = number.filter(|_| is_over).map(|at_ms| outcome(1, i64::from(at_ms)));
            let is_cancelled = words.last() == Some(&"cancelled");
            Input::Found(JobRecord { attempt, outcome, is_cancelled, ..JobRecord::of(job) })
        }
        other => panic!("unknown command {other}"),
    }
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::StoreSubmission(job) => {
            assert_eq!(job.submission.start.job, job.id, "hosts are told the job's id");
            format!("store submission {}", job.id.0)
        }
        Effect::Start { job, attempt: None } => format!("start {}", job.id.0),
        Effect::Start { job, attempt: Some(attempt) } => {
            format!("start {}, whose attempt {} ran", job.id.0, attempt.attempt)
        }
        Effect::StoreCancel(job) => format!("store that {} is to end", job.0),
        Effect::Cancel(job) => format!("tell {} to end", job.0),
        Effect::Cancelled { client } => format!("client {client}: it will end"),
        Effect::StoreOutcome(outcome) => format!("store end of {}", outcome.overview.id.0),
        Effect::Submitted { client, job } => format!("client {client}: it is job {}", job.0),
        Effect::Refused { client, error } => format!("client {client}: {error}"),
        Effect::Told(outcome) => format!("tell that {} is over", outcome.overview.id.0),
        Effect::Forget(job) => format!("forget {}", job.0),
        Effect::WakeAt(at_ms) => format!("wake at {at_ms}"),
    }
}

fn standing(dispatcher: &Dispatcher) -> String {
    let of = |(job, stage): (&Arc<SubmittedJob>, &Stage)| {
        let stage = match stage {
            Stage::Submitting { .. } => "submitting",
            Stage::Running => "running",
            Stage::Ending { .. } => "ending",
            Stage::Over(_) => "over",
        };
        format!("{} {stage}", job.id.0)
    };
    let jobs: Vec<_> = dispatcher.jobs().map(of).collect();
    if jobs.is_empty() { "no jobs".into() } else { jobs.join(", ") }
}

fn run(story: &str) -> String {
    let mut out = String::new();
    let mut machine = None;
    for block in story.split("\n\n").filter(|b| !b.trim().is_empty()) {
        let mut effects = Vec::new();
        let mut acts = false;
        for line in block.lines().take_while(|l| *l != "----") {
            writeln!(out, "{line}").unwrap();
            if line.starts_with('#') {
                continue;
            }
            acts = true;
            // dispatcher of MAX jobs, remembers HISTORY
            if let Some(config) = line.strip_prefix("dispatcher") {
                let mut numbers = config.split_whitespace().filter_map(|word| word.parse().ok());
                let (max_jobs, n_history) = (numbers.next().unwrap(), numbers.next().unwrap());
                machine = Some(Dispatcher::new(Config { max_jobs, n_history }));
                continue;
            }
            let (now_ms, command) = line.trim_start().split_once(' ').unwrap();
            let now_ms = now_ms.parse().unwrap();
            machine.as_mut().unwrap().step(now_ms, input(now_ms, command), &mut effects);
        }
        if acts {
            writeln!(out, "----").unwrap();
            for effect in &effects {
                writeln!(out, "{}", describe(effect)).unwrap();
            }
            writeln!(out, "({})", standing(machine.as_ref().unwrap())).unwrap();
        }
        writeln!(out).unwrap();
    }
    out
}

#[test]
fn stories() {
    crate::stories::hold("dispatcher", run);
}
