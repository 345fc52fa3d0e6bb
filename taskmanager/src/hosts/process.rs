//! A running program, from its start until nothing is left of it.
//!
//! A thread of its own starts it and waits for its end: the system ends a child together with the *thread* that started
//! it, if it was asked to. When the program has ended, its process group is killed before it is reaped; until then
//! its number belongs to nobody else, so nothing but what it left behind can be hit.

use super::log::JobLog;
use super::spawn::{Launch, spawn};
use millstream_model::{Error, Result};
use millstream_proto::message::LogStream;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::fmt;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the last output is waited for when the program has ended: something that it started and that left its
/// process group may hold its output open for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// How a program ended.
#[derive(Debug)]
pub(super) struct Exit {
    status: std::io::Result<ExitStatus>,
    last_words: String,
}

/// A process that runs. Dropped, it is killed.
pub(super) struct Process {
    group: Arc<Group>,
    /// This side's end of its channel.
    pub(super) channel: Option<UnixStream>,
    /// When it is gone.
    pub(super) exit: oneshot::Receiver<Exit>,
}

/// Its process group, until it is reaped.
struct Group(Mutex<Option<Pid>>);

impl Group {
    fn kill(&self) {
        if let Some(group) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // It fails only if nobody is left in it.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.group.kill();
    }
}

impl Process {
    /// Starts a program; what it prints goes to `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) async fn start(launch: Launch, log: Arc<JobLog>) -> Result<Process> {
        let (started, is_started) = oneshot::channel();
        let (exited, exit) = oneshot::channel();
        thread("millstream-host", move || {
            let from = log.position();
            let (mut child, channel) = match spawn(&launch) {
                Ok(spawned) => spawned,
                Err(error) => return drop(started.send(Err(error))),
            };
            let pid = Pid::from_raw(child.id().cast_signed());
            let group = Arc::new(Group(Mutex::new(Some(pid))));
            let pumps = pumps(&mut child, &log);
            if pumps.is_err() {
                group.kill();
            }
            if let Err(Ok((unwanted, _))) = started.send(Ok((Arc::clone(&group), channel))) {
                unwanted.kill();
            }
            let status = reap(&group, pid, &mut child);
            let status = match pumps {
                Ok(printed) => {
                    // Two streams; each says when it has ended, or is given up.
                    let _ = printed.recv_timeout(LAST_OUTPUT);
                    let _ = printed.recv_timeout(LAST_OUTPUT);
                    status
                }
                Err(error) => Err(std::io::Error::other(error)),
            };
            // Nobody may wait for it any more.
            let _ = exited.send(Exit { status, last_words: log.last_words(from) });
        })?;
        let (group, channel) = is_started
            .await
            .map_err(|e| Error::internal("a host's thread ended early").caused_by(e))??;
        Ok(Process { group, channel: Some(channel), exit })
    }

    /// Ends it at once, with all that it started.
    pub(super) fn kill(&self) {
        self.group.kill();
    }
}

/// Waits for the end, and ends what is left of the group before its number can be given to others.
fn reap(group: &Group, pid: Pid, child: &mut Child) -> std::io::Result<ExitStatus> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    // Another error is said again by the wait below.
    while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(pid), flags) {}
    group.kill();
    group.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    child.wait()
}

/// Threads that keep what the program prints; each sends a word at the end of its stream.
fn pumps(child: &mut Child, log: &Arc<JobLog>) -> Result<crossbeam_channel::Receiver<()>> {
    let (done, is_done) = crossbeam_channel::bounded(2);
    let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>);
    let err = child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>);
    for (stream, output) in [(LogStream::Out, out), (LogStream::Err, err)] {
        let (done, log) = (done.clone(), Arc::clone(log));
        let Some(mut output) = output else { continue };
        thread("millstream-host-log", move || {
            let mut bytes = vec![0; 16 << 10];
            loop {
                match output.read(&mut bytes) {
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                    Ok(n) => log.append(stream, &bytes[..n]),
                }
            }
            // Who waited may have given up.
            let _ = done.send(());
        })?;
    }
    Ok(is_done)
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|e| Error::external("the system refused a thread").caused_by(e))
}

impl Exit {
    /// Whether the program came to an end of its own making, be it a good one.
    pub(super) fn is_by_itself(&self) -> bool {
        self.status.as_ref().is_ok_and(|status| status.code().is_some())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Err(error) => write!(f, "the host's process is gone: {error}")?,
            Ok(status) => match (status.code(), status.signal()) {
                (Some(0), _) => f.write_str("the host's process ended by itself (exit code 0)")?,
                (Some(code), _) => write!(f, "the host's process ended with exit code {code}")?,
                (None, Some(signal)) => {
                    let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
                    write!(f, "the host's process was ended by signal {signal} ({name})")?;
                }
                (None, None) => write!(f, "the host's process ended: {status}")?,
            },
        }
        if !self.last_words.is_empty() {
            write!(f, "; the last it printed:\n{}", self.last_words)?;
        }
        Ok(())
    }
}
