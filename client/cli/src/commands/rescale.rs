//! A job with another parallelism: it ends with a savepoint, and its program submits it again from there.
//!
//! How many subtasks there are is decided when a job is compiled, and only its program can do that. So the program
//! runs here once more, as it was run when the job was submitted: same arguments, settings, variables and folder. The
//! cluster still has its executable, under the digest it was submitted with.
//!
//! What can be known to go wrong is looked at before the job is stopped. What goes wrong afterwards leaves the
//! savepoint, and says so.

use super::jobs::take_savepoint;
use super::{connect, run};
use crate::args;
use crate::failure::{Failure, Outcome, ask, unexpected};
use crate::settings::{Settings, absolute};
use crate::target;
use millstream::cluster::message::{ClientReply, ClientRequest, Drain, JobId, Submission};
use millstream::cluster::{Connection, carried};
use millstream::model::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn rescale(settings: &Settings, rescale: &args::Rescale) -> Outcome {
    let connection = connect(settings)?;
    let job = target::job(&connection, &rescale.job.job)?;
    let submission = submission(&connection, job)?;
    check(&submission)?;
    let dir = savepoint_dir(&submission, rescale.savepoint.as_deref())?;
    let temporary = tempfile::tempdir().map_err(|error| Failure::usage(Error::from(error)))?;
    let mut command = match &rescale.program {
        Some(path) => run::program(path)?,
        None => {
            let path = temporary.path().join("program");
            connection.download(submission.program, &path).map_err(Failure::refused)?;
            Command::new(path)
        }
    };
    prepare(&mut command, settings, &submission, rescale.parallelism)?;

    let path = take_savepoint(&connection, job, &dir, Some(Drain(false)))?;
    eprintln!("stopped {job} with the savepoint {}", path.display());
    let restore = text(&path)?;
    command.args(arguments(&submission.start.arguments, rescale.parallelism, restore));
    command.env("MILLSTREAM_RESTORE", &path);
    run::finish(command).inspect_err(|_| {
        eprintln!(
            "the job is stopped; `millstream run -p {} --restore {} PROGRAM` starts it again",
            rescale.parallelism,
            path.display()
        );
    })
}

fn submission(connection: &Connection, job: JobId) -> Outcome<Submission> {
    match ask(connection, ClientRequest::Submission(job))? {
        ClientReply::Submission(submission) => Ok(*submission),
        other => Err(unexpected(&other)),
    }
}

fn check(submission: &Submission) -> Outcome {
    let start = &submission.start;
    if start.nth_execute > 0 {
        return Err(Failure::refused(Error::user(format!(
            "the job is the one of call {} of `execute` in its program, which would run the jobs before it \
             again: stop it with `millstream stop` and run the program yourself",
            start.nth_execute + 1
        ))));
    }
    if !start.folder.is_dir() {
        return Err(Failure::refused(Error::user(format!(
            "the job was submitted from the folder {}, which is not on this machine: do it there",
            start.folder.display()
        ))));
    }
    Ok(())
}

fn savepoint_dir(submission: &Submission, named: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(dir) = named {
        return absolute(dir.to_path_buf()).map_err(Failure::usage);
    }
    let Some(dir) = &submission.settings.checkpoint_dir else {
        let text = "the job has no checkpoint folder: say where its savepoint goes, with `--savepoint DIR`";
        return Err(Failure::usage(text));
    };
    // Beside it, not in it: what is in it is the job's, which may delete it.
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push("-savepoints");
    Ok(submission.start.folder.join(dir).with_file_name(name))
}

fn prepare(
    command: &mut Command,
    settings: &Settings,
    submission: &Submission,
    parallelism: u32,
) -> Outcome {
    let start = &submission.start;
    command.current_dir(&start.folder);
    // As it was submitted, whatever is set here.
    let ours = |name: &std::ffi::OsString| {
        name != "MILLSTREAM_LOG" && name.to_string_lossy().starts_with("MILLSTREAM_")
    };
    std::env::vars_os().map(|(name, _)| name).filter(ours).for_each(|name| {
        command.env_remove(name);
    });
    let (variable, config) = carried(&start.config);
    command.env(variable, config);
    let names: Vec<_> = start.environment.iter().map(|(name, _)| name.as_str()).collect();
    if !names.is_empty() {
        command.env("MILLSTREAM_PASS_ENVIRONMENT", names.join(","));
    }
    command.envs(start.environment.iter().map(|(name, value)| (name, value)));
    run::tell(command, settings, true).map_err(Failure::usage)?;
    command.env("MILLSTREAM_PARALLELISM", parallelism.to_string());
    Ok(())
}

fn text(path: &Path) -> Outcome<&str> {
    path.to_str().ok_or_else(|| {
        Failure::refused(Error::user(format!("the path {} is not UTF-8", path.display())))
    })
}

/// The arguments of a program, with the engine's flags for parallelism and restore as they are now: flags win over the
/// variables, so those that say what was right at first must not stay.
fn arguments(arguments: &[String], parallelism: u32, restore: &str) -> Vec<String> {
    let parallelism = parallelism.to_string();
    let value_of = |flag: &str| match flag {
        "-p" | "--parallelism" => Some(parallelism.as_str()),
        "--restore" => Some(restore),
        _ => None,
    };
    let setting = |setting: &str| match setting.split_once('=').map(|(key, _)| key.trim()) {
        Some("parallelism") => format!("parallelism={parallelism}"),
        Some("restore") => format!("restore={restore}"),
        _ => setting.to_string(),
    };
    let mut changed = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            changed.push(argument.clone());
            break;
        }
        let inline = argument.split_once('=').filter(|(flag, _)| flag.starts_with("--"));
        match (inline, value_of(argument)) {
            (Some((flag, _)), _) if value_of(flag).is_some() => {
                let value = value_of(flag).unwrap_or_default();
                changed.push(format!("{flag}={value}"));
            }
            (None, Some(value)) => {
                changed.push(argument.clone());
                changed.extend(rest.next().map(|_| value.to_string()));
            }
            _ if argument == "-D" => {
                changed.push(argument.clone());
                changed.extend(rest.next().map(|text| setting(text)));
            }
            _ => changed.push(argument.clone()),
        }
    }
    changed.extend(rest.cloned());
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_say_what_was_right_at_first_are_changed() {
        let change = |line: &str| {
            let before: Vec<String> = line.split_whitespace().map(String::from).collect();
            arguments(&before, 8, "s/1").join(" ")
        };
        for (before, after) in [
            ("O1 --data d", "O1 --data d"),
            ("-p 3 --parallelism=2 --parallelism 1", "-p 8 --parallelism=8 --parallelism 8"),
            ("--restore latest --restore=x", "--restore s/1 --restore=s/1"),
            ("-D parallelism=3 -D batch-size=1", "-D parallelism=8 -D batch-size=1"),
            ("--out=-p -- -p 3 --restore x", "--out=-p -- -p 3 --restore x"),
            ("-p", "-p"),
        ] {
            assert_eq!(change(before), after);
        }
    }
}
