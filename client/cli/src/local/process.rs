//! A process in the background, and how it is found again.
//!
//! Ids of processes are given to others when they have ended. So the moment at which the process began is remembered too,
//! and nothing that began at another is taken for it.

use crate::settings::Settings;
use millstream::model::{Error, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process that was started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Started {
    /// What it is: `jobmanager`, `taskmanager-1`.
    pub(super) name: String,
    pub(super) pid: i32,
    /// When it began, as the system counts; where the system does not tell, nothing.
    began: Option<u64>,
}

impl Started {
    pub(super) fn is_alive(&self) -> bool {
        let is_there = kill(Pid::from_raw(self.pid), None).is_ok();
        is_there && !is_over(self.pid) && self.began == began(self.pid)
    }

    /// Tells it something; one that is gone hears nothing.
    pub(super) fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may have ended in between.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// The fields of a process's line from its state on, which comes behind its name in brackets.
fn fields(pid: i32) -> Option<Vec<String>> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = line.rsplit_once(')')?;
    Some(fields.split_whitespace().map(String::from).collect())
}

fn began(pid: i32) -> Option<u64> {
    fields(pid)?.get(19)?.parse().ok()
}

/// Whether it has ended, and only its parent has not looked yet.
fn is_over(pid: i32) -> bool {
    fields(pid).is_some_and(|fields| fields.first().is_some_and(|state| state == "Z"))
}

/// The file that a process logs into.
pub(super) fn log(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

/// Its last lines.
pub(super) fn end_of(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(10)..].iter().map(|line| format!("  {line}"));
    shown.collect::<Vec<_>>().join("\n")
}

/// Starts this very program as another process, in a group of its own: Ctrl-C here is not meant for it.
pub(super) fn spawn(
    dir: &Path,
    name: &str,
    settings: &Settings,
    arguments: &[String],
) -> Result<(Started, Child)> {
    let failed = |error| Error::external(format!("{name} cannot be started")).caused_by(error);
    let log = File::options().create(true).append(true).open(log(dir, name)).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command
        .args(arguments)
        .arg("--dir")
        .arg(dir.join(name))
        .env("MILLSTREAM_CLUSTER", &settings.cluster)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0);
    for (variable, value) in settings.security.to_variables()? {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    let child = command.spawn().map_err(failed)?;
    let pid =
        i32::try_from(child.id()).map_err(|_| Error::internal("a process id is too large"))?;
    Ok((Started { name: name.to_string(), pid, began: began(pid) }, child))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_id() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let named = |began| Started { name: "cat".into(), pid, began };
        assert!(named(began(pid)).is_alive());
        let later = named(began(pid).map(|began| began + 1));
        assert_eq!(later.is_alive(), later.began.is_none());
        named(began(pid)).signal(Signal::SIGTERM);
        assert!(!child.wait().unwrap().success());
        assert!(!named(began(pid)).is_alive());
    }
}
