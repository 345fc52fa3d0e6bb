//! A cluster of real processes on this machine, and what is measured on it.
//!
//! The `millstream` command that lies beside this program starts and ends it; jobs are this program once more, which
//! finds by its arguments what it is to run and submits itself. What processes use is read off the system from outside,
//! so nothing that is measured takes part in measuring.

pub mod beginnings;
pub mod idle;
pub mod processes;
pub mod recovery;
pub mod submission;
pub mod throughput;

use crate::harness::stdout_of;
use crate::workload::BenchError;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything here may take that takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// A job manager and task managers; they end when it is dropped.
pub struct Cluster {
    dir: TempDir,
    address: String,
    started: Vec<Started>,
}

/// What `millstream cluster start` prints.
#[derive(Deserialize)]
struct Printed {
    address: String,
}

/// What it leaves in its folder.
#[derive(Deserialize)]
struct Left {
    processes: Vec<Started>,
}

#[derive(Deserialize)]
struct Started {
    name: String,
    pid: u32,
}

impl Cluster {
    /// Starts a job manager, and so many task managers with so many slots each, all with default settings.
    ///
    /// # Errors
    /// The command is not there, or fails.
    pub fn start(n_task_managers: usize, n_slots: usize) -> Result<Self, BenchError> {
        let dir = tempfile::Builder::new().prefix("millstream-bench-").tempdir()?;
        let mut start = Command::new(command()?);
        start.args(["--json", "cluster", "start", "--dir"]).arg(dir.path());
        start.args(["--listen", "127.0.0.1:0", "--rest-listen", "127.0.0.1:0"]);
        start.args(["-n", &n_task_managers.to_string(), "--slots", &n_slots.to_string()]);
        let printed: Printed = serde_json::from_str(&stdout_of(&mut start)?)?;
        let mut cluster = Cluster { dir, address: printed.address, started: Vec::new() };
        let left = std::fs::read(cluster.dir.path().join("cluster.json"))?;
        cluster.started = serde_json::from_slice::<Left>(&left)?.processes;
        Ok(cluster)
    }

    /// Where its job manager is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A folder of the cluster's that nothing is in.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, BenchError> {
        let folder = self.dir.path().join("bench").join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The names and ids of the processes that it was started with.
    pub fn processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.started.iter().map(|process| (process.name.as_str(), process.pid))
    }

    /// The ids of its task managers.
    pub fn task_managers(&self) -> Vec<u32> {
        let started = self.processes().filter(|(name, _)| name.starts_with("taskmanager"));
        started.map(|(_, pid)| pid).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = command().and_then(|command| {
            stdout_of(Command::new(command).args(["cluster", "stop", "--dir"]).arg(self.dir.path()))
        });
        if let Err(error) = stopped {
            eprintln!("the cluster in {} was not ended: {error}", self.dir.path().display());
        }
    }
}

/// The `millstream` command, beside this program.
fn command() -> Result<PathBuf, BenchError> {
    let path = std::env::current_exe()?.with_file_name("millstream");
    match path.is_file() {
        true => Ok(path),
        false => Err(BenchError::NoCommand(path)),
    }
}

/// This program as one of the jobs that are measured, submitted to a cluster.
struct Submitted(Child);

impl Submitted {
    fn start(arguments: &[&str], cluster: &str, dir: &Path) -> Result<Self, BenchError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).args(["--cluster", cluster, "--dir"]).arg(dir);
        Ok(Submitted(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
    }

    /// Fails if it has ended, which none does by itself.
    fn check(&mut self) -> Result<(), BenchError> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(BenchError::Job(format!("it has ended: {status}"))),
        }
    }

    /// Waits for its end.
    fn wait(mut self) -> Result<(), BenchError> {
        match self.0.wait()? {
            status if status.success() => Ok(()),
            status => Err(BenchError::Job(format!("it has failed: {status}"))),
        }
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks again and again until there is what is looked for.
fn wait_for<T>(
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, BenchError>,
) -> Result<T, BenchError> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(BenchError::Job(format!("{what}: not within {} s", PATIENCE.as_secs())))
}
