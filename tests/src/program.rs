//! Programs as a user runs them: built by cargo, run as processes of their own.
//!
//! Cargo is asked on every first use instead of looking for a file in the target folder: a binary left there by an older
//! build would be tested without a word. Every run has a deadline, so a program that hangs is a failed test and not a
//! test that hangs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use cargo_metadata::{Artifact, Message};

use crate::data::workspace_root;

/// The programs that tests run: those of `examples/`, the command, and those that are there for tests alone. All are built at
/// once, on the first use of any.
const PROGRAMS: [&str; 11] = [
    "queries",
    "transcripts",
    "flights",
    "wordcount",
    "weblog",
    "fraud",
    "enrichment",
    "millstream",
    "ledger",
    "relay",
    "unruly",
];

/// What is loaded into programs to see what they do.
const LIBRARIES: [&str; 1] = ["recorder"];

/// What a process left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// The command that runs program `name`, freshly built in the profile of the running test.
///
/// # Panics
/// When the program cannot be built.
pub fn example(name: &str) -> Command {
    Command::new(built(name))
}

/// The file of library `name`, freshly built in the profile of the running test.
///
/// # Panics
/// When it cannot be built.
pub fn library(name: &str) -> &'static Path {
    built(name)
}

fn built(name: &str) -> &'static Path {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(build);
    built.get(name).unwrap_or_else(|| panic!("{name} is not among {PROGRAMS:?} and {LIBRARIES:?}"))
}

/// How a program ends; what is wrong goes to standard error.
pub fn exit_code(result: millstream_model::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A process that was started.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
}

/// Starts `command`.
///
/// # Panics
/// When it cannot be started.
pub fn start(command: &mut Command) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = read_aside(child.stdout.take().expect("stdout is piped"));
    let stderr = read_aside(child.stderr.take().expect("stderr is piped"));
    Running { command: format!("{command:?}"), child, stdout, stderr }
}

impl Running {
    /// Waits until the process ends.
    ///
    /// # Errors
    /// The process itself, when it still runs after `patience`.
    pub fn wait(mut self, patience: Duration) -> Result<Finished, Running> {
        // Both pipes end when the process does, so waiting for them is waiting for the process, with a deadline.
        let Ok(stdout) = self.stdout.recv_timeout(patience) else { return Err(self) };
        let stderr = self.stderr.recv().unwrap_or_default();
        let status = self.child.wait().expect("a child can be waited for");
        Ok(Finished { status, stdout, stderr })
    }

    /// Kills the process (SIGKILL: it notices nothing) and answers what it said before; its status tells whether it
    /// had ended by itself.
    pub fn kill(mut self) -> Finished {
        self.child.kill().expect("a child can be killed");
        let status = self.child.wait().expect("a child can be waited for");
        let stdout = self.stdout.recv().unwrap_or_default();
        let stderr = self.stderr.recv().unwrap_or_default();
        Finished { status, stdout, stderr }
    }
}

/// Runs `command` to its end.
///
/// # Panics
/// When it cannot be started, or has not ended after `deadline` (it is killed then).
pub fn run(command: &mut Command, deadline: Duration) -> Finished {
    start(command).wait(deadline).unwrap_or_else(|running| {
        let command = running.command.clone();
        let stderr = running.kill().stderr;
        panic!("{command} was still running after {deadline:?}; it said:\n{stderr}")
    })
}

/// Reads `pipe` on a thread of its own, so that a full pipe never holds up the process; sends the text when it ends.
fn read_aside(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing; the process's status tells whether it went well.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// What cargo tells the processes that it starts about the package they are of.
const OF_A_PACKAGE: [&str; 6] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "OUT_DIR"];

/// What cargo builds of the workspace with these arguments, in the profile of the running test or program. Nothing is built a second
/// time that was built with it; least of all itself: an executable that is replaced while it runs cannot be started any more.
///
/// # Panics
/// When it cannot be built.
pub fn cargo_build(targets: &[&str]) -> Vec<Artifact> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace_root());
    // Some build scripts ask for these (ring's does): they, and all that depends on them, would be built anew for each package
    // that asks.
    let is_of_a_package = |name: &OsString| {
        let name = name.to_string_lossy();
        OF_A_PACKAGE.iter().any(|start| name.starts_with(start))
    };
    for name in std::env::vars_os().map(|(name, _)| name).filter(is_of_a_package) {
        cargo.env_remove(name);
    }
    // `--workspace` makes cargo unify features as the running build did; with `-p` it would build the engine again.
    cargo.args(["build", "--workspace", "--message-format=json-render-diagnostics", "--profile"]);
    let (profile, is_test) = profile();
    // What tests depend on has a say in features too. Without this one, which was built with whoever runs tests (and with long runs,
    // see `ci/soak`), cargo would build most of the engine a second time.
    let with_tests = is_test || profile == "soak";
    cargo.arg(profile);
    cargo.args(["--test", "all"].iter().filter(|_| with_tests));
    cargo.args(targets);
    cargo.args([
        "--features",
        if cfg!(feature = "rocksdb") { "rocksdb,cluster" } else { "cluster" },
    ]);
    let output = cargo.output().unwrap_or_else(|error| panic!("{cargo:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{cargo:?} failed:\n{said}");
    let messages = Message::parse_stream(output.stdout.as_slice());
    let artifact = |message| match message {
        Message::CompilerArtifact(artifact) => Some(artifact),
        _ => None,
    };
    messages.filter_map(|m| artifact(m.expect("cargo writes JSON messages"))).collect()
}

fn build() -> BTreeMap<String, PathBuf> {
    let programs = PROGRAMS.iter().flat_map(|name| ["--bin", name]);
    let libraries = LIBRARIES.iter().flat_map(|name| ["--example", name]);
    let built = cargo_build(&programs.chain(libraries).collect::<Vec<_>>());
    let files = built.into_iter().filter_map(|artifact| {
        let library = || artifact.filenames.iter().find(|file| file.extension() == Some("so"));
        let file = artifact.executable.as_ref().or_else(library)?;
        Some((artifact.target.name, file.clone().into_std_path_buf()))
    });
    files.collect()
}

/// The profile of the running test or program, by the folder its executable lies in (`<profile>/deps/` or
/// `<profile>/`), and whether it is a test.
fn profile() -> (String, bool) {
    let test = std::env::current_exe().expect("a test knows its executable");
    let mut folders = test.ancestors().skip(1).filter_map(|dir| dir.file_name()?.to_str());
    let found = folders.next().map(|first| match first {
        "deps" => (folders.next(), true),
        profile => (Some(profile), false),
    });
    match found {
        Some((Some("debug"), is_test)) => ("dev".into(), is_test),
        Some((Some(other), is_test)) => (other.into(), is_test),
        _ => panic!("{} is not where cargo puts tests", test.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_status_are_told_apart() {
        let mut command = Command::new("sh");
        let ended =
            run(command.args(["-c", "echo out; echo err >&2; exit 3"]), Duration::from_secs(60));
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    #[should_panic(expected = "still running after 5s; it said:\nwaiting")]
    fn a_process_past_its_deadline_is_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo waiting >&2; exec tail -f /dev/null"]);
        run(&mut command, Duration::from_secs(5));
    }
}
