//! Programs that are started on this machine and submit themselves.
//!
//! A program is told all that it needs in `MILLSTREAM_…` variables, so one that has its own command line is run like any
//! other. Ctrl-C reaches it as it reaches us, being of the same group of processes; what it means is its business.

use crate::args;
use crate::failure::{Failure, Outcome};
use crate::settings::{Settings, absolute};
use millstream::model::{Error, Result};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn run(settings: &Settings, run: &args::Run) -> Outcome {
    let mut command = program(run.program.path())?;
    command.args(run.program.arguments());
    tell(&mut command, settings, run.detached).map_err(Failure::usage)?;
    if let Some(parallelism) = run.parallelism {
        command.env("MILLSTREAM_PARALLELISM", parallelism.to_string());
    }
    match run.restore.as_deref() {
        None => {}
        Some("latest") => drop(command.env("MILLSTREAM_RESTORE", "latest")),
        Some(path) => {
            let path = absolute(path.into()).map_err(Failure::usage)?;
            if !path.is_dir() {
                let text = format!("there is no checkpoint or savepoint {}", path.display());
                return Err(Failure::not_found(text));
            }
            command.env("MILLSTREAM_RESTORE", path);
        }
    }
    pass(&mut command, &run.env).map_err(Failure::usage)?;
    finish(command)
}

pub(crate) fn explain(explain: &args::Explain) -> Outcome {
    let mut command = program(explain.program.path())?;
    let format = match explain.format {
        args::Format::Text => "text",
        args::Format::Dot => "dot",
        args::Format::Json => "json",
    };
    command.arg(format!("--explain={format}")).args(explain.program.arguments());
    finish(command)
}

/// A command that starts this program: a file, or a name that is in the search path.
pub(crate) fn program(path: &Path) -> Outcome<Command> {
    if path.is_file() {
        return Ok(Command::new(absolute(path.to_path_buf()).map_err(Failure::usage)?));
    }
    let is_name = path.components().count() == 1 && !path.exists();
    let folders = std::env::var_os("PATH").filter(|_| is_name).unwrap_or_default();
    match std::env::split_paths(&folders).map(|folder| folder.join(path)).find(|p| p.is_file()) {
        Some(found) => Ok(Command::new(found)),
        None => Err(Failure::not_found(format!("there is no program {}", path.display()))),
    }
}

/// Tells a program which cluster to submit itself to, and whether to wait.
pub(crate) fn tell(command: &mut Command, settings: &Settings, detached: bool) -> Result<()> {
    command.env("MILLSTREAM_CLUSTER", &settings.cluster);
    command.env("MILLSTREAM_DETACHED", detached.to_string());
    for (name, value) in settings.security.to_variables()? {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ok(())
}

/// Names the variables that task hosts are to see too, and sets those that come with a value.
fn pass(command: &mut Command, variables: &[String]) -> Result<()> {
    let mut names = Vec::new();
    for variable in variables {
        let name = match variable.split_once('=') {
            Some((name, value)) => {
                command.env(name, value);
                name
            }
            None if std::env::var_os(variable).is_none() => {
                return Err(Error::user(format!(
                    "the variable {variable} is not set: set it, or give it a value with --env {variable}=VALUE"
                )));
            }
            None => variable,
        };
        if name.is_empty() || name.contains(',') {
            return Err(Error::user(format!("`{variable}` does not name a variable")));
        }
        names.push(name);
    }
    if !names.is_empty() {
        command.env("MILLSTREAM_PASS_ENVIRONMENT", names.join(","));
    }
    Ok(())
}

/// Runs a program to its end; if it fails, that is ours too.
pub(crate) fn finish(mut command: Command) -> Outcome {
    // A terminal's Ctrl-C goes to the program as well; we wait for what it makes of it.
    drop(ctrlc::set_handler(|| {}));
    let path = PathBuf::from(command.get_program());
    let status = command.status().map_err(|error| {
        let text = format!("the program {} cannot be started", path.display());
        Failure::usage(Error::user(text).caused_by(error))
    })?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::Program(u8::try_from(code).unwrap_or(1))),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            eprintln!("the program {} was ended by signal {signal}", path.display());
            Err(Failure::Program(u8::try_from(128 + signal).unwrap_or(1)))
        }
    }
}
