//! How a program becomes a process: what it is given, and what it is not.
//!
//! The program is somebody else's code. It gets the variables that were submitted with it and the few that make it a
//! host, a folder of its own, limits, no standard input, and a process group of its own, so that all it starts can be
//! ended with it. Of this process's open files it gets its end of the control channel and nothing else.

use crate::channel::{CHANNEL_VARIABLE, DATA_BIND_VARIABLE, variable_value};
use millstream_model::{Error, Result};
use millstream_proto::executable;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::fstat;
use nix::unistd::{Pid, getpid, getppid};
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where programs look for others, unless they were submitted with something else.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Variables of the task manager that its hosts inherit: how much is logged, and what a panic prints.
const INHERITED: [&str; 2] = ["MILLSTREAM_LOG", "RUST_BACKTRACE"];

/// A file that is still open for writing somewhere cannot be run. Another process that is just being started may
/// hold it, until it becomes its program; so often, and so long each time, that is waited for.
const N_BUSY_RETRIES: usize = 200;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// What a host may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostLimits {
    /// Memory that it allocates (private and writable), in bytes; `None`: as much as there is.
    pub memory_bytes: Option<u64>,
    /// Open files; `None`: as many as the system lets the task manager have.
    pub open_files: Option<u64>,
}

/// What is to be run.
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    /// Its own folder, which is there.
    pub(super) folder: PathBuf,
    pub(super) data_bind: IpAddr,
    /// Further variables from the task manager.
    pub(super) settings: Vec<(String, String)>,
    pub(super) limits: HostLimits,
}

/// Starts the process; its thread must live as long as it. Beside it, this side's end of its channel.
pub(super) fn spawn(launch: &Launch) -> Result<(Child, UnixStream)> {
    for (name, value) in &launch.environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let name = name.escape_debug();
            return Err(Error::user(format!("`{name}` cannot be a variable of the environment")));
        }
    }
    if let Some(argument) = launch.arguments.iter().find(|argument| argument.contains('\0')) {
        let argument = argument.escape_debug();
        return Err(Error::user(format!("`{argument}` cannot be an argument of a program")));
    }
    check_kind(&launch.program)?;
    let (near, far) = UnixStream::pair()
        .map_err(|e| Error::external("the system refused a socket pair").caused_by(e))?;
    let far = OwnedFd::from(far);
    let inode = fstat(&far).map_err(std::io::Error::from)?.st_ino;

    let mut command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("TMPDIR", &launch.folder)
        .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .envs(launch.settings.iter().map(|(name, value)| (name, value)))
        .env(CHANNEL_VARIABLE, variable_value(far.as_raw_fd(), inode))
        .env(DATA_BIND_VARIABLE, launch.data_bind.to_string())
        .current_dir(&launch.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let limits = resources(&launch.limits);
    let parent = getpid();
    // Shared with the closure: the descriptor is open here until the child has become its program.
    let descriptor = far.as_raw_fd();
    // SAFETY: between fork and exec only system calls that are safe there are made, and nothing is allocated; the
    // descriptor is that of `far`, which outlives the call of `spawn` below.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || before_exec(descriptor, parent, &limits));
    }
    let mut n_busy = 0;
    loop {
        match command.spawn() {
            Ok(child) => return Ok((child, near)),
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && n_busy < N_BUSY_RETRIES => {
                n_busy += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(e) => return Err(refused(&launch.program, e)),
        }
    }
}

/// In the child, just before it becomes its program.
fn before_exec(
    channel: i32,
    parent: Pid,
    limits: &[(Resource, u64, u64); 3],
) -> std::io::Result<()> {
    // SAFETY: open in the child as it is in its parent, which holds it until the child runs its program.
    #[allow(unsafe_code)]
    let channel = unsafe { std::os::fd::BorrowedFd::borrow_raw(channel) };
    // Also files that this process got from whoever started it and knows nothing of.
    #[cfg(target_os = "linux")]
    close_others_on_exec();
    fcntl(channel, FcntlArg::F_SETFD(FdFlag::empty()))?;
    for (resource, soft, hard) in limits {
        setrlimit(*resource, *soft, *hard)?;
    }
    // A program that never takes its channel ends with the task manager, too. One that does, gives this up.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Marks everything but the standard streams to be closed when the child becomes its program.
#[cfg(target_os = "linux")]
fn close_others_on_exec() {
    // SAFETY: closes nothing and touches no memory; old systems do not know the call and refuse it, which leaves open
    // what they were told to.
    #[allow(unsafe_code)]
    let _ = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
}

/// Whether a program is an executable of the kind that this process is: the C library would hand anything else to a
/// shell.
fn check_kind(program: &Path) -> Result<()> {
    let kind = |path: &Path| -> std::io::Result<[u8; 20]> {
        let mut head = [0; 20];
        std::fs::File::open(path)?.read_exact(&mut head)?;
        // Of an ELF file: neither the version of the system interface nor whether it can be loaded anywhere.
        head[6..18].fill(0);
        Ok(head)
    };
    let own = executable::own().and_then(|path| kind(&path)).map_err(|e| {
        Error::external("the task manager's own executable cannot be read").caused_by(e)
    })?;
    match kind(program) {
        Ok(kind) if kind == own => Ok(()),
        Err(e) if e.kind() != ErrorKind::UnexpectedEof => Err(refused(program, e)),
        _ => Err(refused(program, std::io::Error::from(nix::errno::Errno::ENOEXEC))),
    }
}

/// What is limited to how much. A limit can be lowered, never raised above what this process has.
fn resources(limits: &HostLimits) -> [(Resource, u64, u64); 3] {
    let limited = |resource, wanted: Option<u64>| {
        // What cannot be asked is left as it is: the call in the child would fail and say so.
        let (_, most) = getrlimit(resource).unwrap_or((u64::MAX, u64::MAX));
        let limit = wanted.unwrap_or(most).min(most);
        (resource, limit, limit)
    };
    [
        (Resource::RLIMIT_CORE, 0, 0),
        limited(Resource::RLIMIT_DATA, limits.memory_bytes),
        limited(Resource::RLIMIT_NOFILE, limits.open_files),
    ]
}

fn refused(program: &Path, e: std::io::Error) -> Error {
    let what = format!("the program {} cannot be started here", program.display());
    match e.kind() {
        // Of another system or architecture, or no program at all: another attempt would not help.
        _ if e.raw_os_error() == Some(nix::errno::Errno::ENOEXEC as i32) => {
            Error::user(format!("{what}: is it built for this kind of machine?")).finally()
        }
        ErrorKind::ArgumentListTooLong => Error::user(what).finally(),
        _ => Error::external(what),
    }
    .caused_by(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use tempfile::TempDir;

    /// Of a program that ends at once and well.
    fn launch(dir: &TempDir) -> Launch {
        let program = dir.path().join("program");
        std::fs::copy("/bin/true", &program).unwrap();
        Launch {
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: dir.path().to_owned(),
            data_bind: "127.0.0.1".parse().unwrap(),
            settings: Vec::new(),
            limits: HostLimits::default(),
        }
    }

    #[test]
    fn a_program_that_is_being_written_is_waited_for() {
        let dir = TempDir::new().unwrap();
        let launch = launch(&dir);
        let held = File::options().append(true).open(&launch.program).unwrap();
        let (ended, is_ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut child, _near) = spawn(&launch).unwrap();
            ended.send(child.wait().unwrap()).unwrap();
        });
        assert!(is_ended.recv_timeout(5 * BUSY_PAUSE).is_err(), "it ran while it was written");
        drop(held);
        assert!(is_ended.recv().unwrap().success());
    }

    #[test]
    fn what_the_system_would_not_take_is_refused_with_its_name() {
        let dir = TempDir::new().unwrap();
        let refused = |launch: &Launch| spawn(launch).err().unwrap().to_string();
        for (name, value) in [("", "a"), ("A=B", "a"), ("A\0", "a"), ("A", "\0")] {
            let mut launch = launch(&dir);
            launch.environment = vec![(name.to_owned(), value.to_owned())];
            let error = refused(&launch);
            assert!(error.contains("cannot be a variable"), "{error}");
        }
        let mut with_argument = launch(&dir);
        with_argument.arguments = vec!["a\0b".to_owned()];
        assert!(refused(&with_argument).contains("`a\\0b` cannot be an argument"));
        let mut nowhere = launch(&dir);
        nowhere.program = dir.path().join("other");
        assert!(refused(&nowhere).contains("cannot be started here"));
        std::fs::write(&nowhere.program, "#!/bin/true").unwrap();
        assert!(refused(&nowhere).contains("is it built for this kind of machine?"));
    }
}
