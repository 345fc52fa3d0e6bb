//! Jobs that are there: seen, ended, saved.

use super::{connect, now_ms, print};
use crate::args;
use crate::failure::{Failure, Kind, Outcome, ask, unexpected};
use crate::settings::{Settings, absolute};
use crate::{show, target};
use indicatif::{ProgressBar, ProgressStyle};
use millstream::cluster::Connection;
use millstream::cluster::message::{
    ClientReply, ClientRequest, Drain, JobDetail, JobId, JobPhase, Outcome as Ended,
};
use millstream::model::Error;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn list(settings: &Settings, json: bool) -> Outcome {
    let cluster = target::cluster(&connect(settings)?)?;
    print(json, &cluster.jobs, || show::jobs(&cluster.jobs, now_ms()))
}

pub(crate) fn status(settings: &Settings, json: bool, status: &args::Status) -> Outcome {
    let connection = connect(settings)?;
    match &status.job {
        Some(job) => {
            let detail = target::detail(&connection, job)?;
            print(json, &detail, || show::job(&detail, now_ms()))
        }
        None => {
            let cluster = target::cluster(&connection)?;
            print(json, &cluster, || show::cluster(&cluster, now_ms()))
        }
    }
}

pub(crate) fn checkpoints(settings: &Settings, json: bool, job: &args::Job) -> Outcome {
    let detail = target::detail(&connect(settings)?, &job.job)?;
    print(json, &detail.checkpoints, || show::checkpoints(&detail.checkpoints))
}

pub(crate) fn cancel(settings: &Settings, json: bool, cancel: &args::Cancel) -> Outcome {
    let connection = connect(settings)?;
    let job = target::job(&connection, &cancel.job.job)?;
    match ask(&connection, ClientRequest::Cancel(job))? {
        ClientReply::Yes => {}
        other => return Err(unexpected(&other)),
    }
    if cancel.no_wait {
        return print(json, &json!({ "job": job }), || format!("{job} is being cancelled\n"));
    }
    let ended = wait(&connection, job)?;
    match ended.overview.state {
        JobPhase::Failed => Err(failed(ended)),
        state => print(json, &ended.overview, || match state {
            JobPhase::Canceled => format!("{job} is cancelled\n"),
            _ => format!("{job} had finished\n"),
        }),
    }
}

pub(crate) fn savepoint(settings: &Settings, json: bool, savepoint: &args::Savepoint) -> Outcome {
    let connection = connect(settings)?;
    let job = target::job(&connection, &savepoint.job.job)?;
    let path = take_savepoint(&connection, job, &savepoint.dir, None)?;
    print(json, &json!({ "job": job, "savepoint": path }), || format!("{}\n", path.display()))
}

pub(crate) fn stop(settings: &Settings, json: bool, stop: &args::Stop) -> Outcome {
    let connection = connect(settings)?;
    let job = target::job(&connection, &stop.job.job)?;
    let path = take_savepoint(&connection, job, &stop.savepoint, Some(Drain(stop.drain)))?;
    print(json, &json!({ "job": job, "savepoint": path }), || format!("{}\n", path.display()))
}

/// Takes a savepoint; if the job is stopped with it, it has ended when this gives where it is.
pub(crate) fn take_savepoint(
    connection: &Connection,
    job: JobId,
    dir: &Path,
    stop: Option<Drain>,
) -> Outcome<PathBuf> {
    let dir = absolute(dir.to_path_buf()).map_err(Failure::usage)?;
    let spinner = spinner();
    spinner.set_message(match stop {
        None => "taking a savepoint",
        Some(_) => "stopping the job with a savepoint",
    });
    let runs = stop.is_some() && !is_over(connection, job);
    let reply = ask(connection, ClientRequest::Savepoint { job, dir, stop });
    spinner.finish_and_clear();
    let reply = match reply {
        Err(Failure::Error(Kind::Refused, error)) if runs && is_over(connection, job) => {
            return Err(Failure::Error(Kind::JobFailed, error));
        }
        Err(Failure::Error(Kind::Unreachable, error)) if stop.is_some() => {
            eprintln!("`millstream checkpoints {job}` will show the savepoint, if there is one");
            return Err(Failure::Error(Kind::Unreachable, error));
        }
        reply => reply?,
    };
    match reply {
        ClientReply::Savepoint(path) => Ok(path),
        other => Err(unexpected(&other)),
    }
}

fn is_over(connection: &Connection, job: JobId) -> bool {
    let reply = ask(connection, ClientRequest::Job(job));
    matches!(reply, Ok(ClientReply::Job(detail)) if detail.overview.state.is_terminal())
}

/// Waits until a job has ended, and shows how it is meanwhile.
fn wait(connection: &Connection, job: JobId) -> Outcome<Ended> {
    let spinner = spinner();
    spinner.set_message("waiting for the job to end");
    let ended = connection.wait(job, |detail| spinner.set_message(in_short(detail)));
    spinner.finish_and_clear();
    ended.map_err(Failure::of_connection)
}

fn in_short(detail: &JobDetail) -> String {
    let job = &detail.overview;
    let state = format!("{:?}", job.state).to_lowercase();
    format!("{}: {state}, {} of {} tasks run", job.name, job.n_running, job.n_tasks)
}

fn failed(ended: Ended) -> Failure {
    let error = ended.error.unwrap_or_else(|| {
        Error::user(ended.overview.error.unwrap_or_else(|| "no reason was told".to_string()))
    });
    let text = format!("the job {} failed: {error}", ended.overview.id);
    Failure::Error(Kind::JobFailed, Error::user(text))
}

/// Turns as long as something is waited for; only on a terminal.
pub(crate) fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = style {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
