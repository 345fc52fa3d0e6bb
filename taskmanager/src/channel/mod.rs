//! The host's end of the control channel: how the user's program learns that it is a task host.
//!
//! A task manager starts the program with one end of a socket pair, and says in [`CHANNEL_VARIABLE`] which
//! descriptor that is and which socket stands behind it. The second half is why nothing has to be taken out of
//! the environment (which no program with threads can do safely): a process that the program starts in turn
//! inherits the variable but not the socket, sees that, and is nobody's host.
//!
//! The other end belongs to the task manager's process alone, so the end of the stream says that this process is
//! gone, however it went. A reader thread that waits for nothing else notices it at once and ends the whole
//! process group: whatever the user's code does meanwhile, a host does not outlive its task manager. For the same
//! reason the reader never waits for whoever takes the messages; a program that leaves thousands of them lying is
//! taken for stuck.

mod end;
#[cfg(test)]
mod tests;

pub use end::End;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use end::OnEnd;
use millstream_model::{Error, Result};
use millstream_proto::envelope;
use millstream_proto::message::{FromHost, HostStart, LeaderEpoch, ToHost};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::fstat;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The variable that makes a program a host: `DESCRIPTOR:INODE` of its end of the channel.
pub const CHANNEL_VARIABLE: &str = "MILLSTREAM_HOST_CHANNEL";
/// The variable with the address that a host listens on for records.
pub const DATA_BIND_VARIABLE: &str = "MILLSTREAM_DATA_BIND";

/// Messages to the host that nobody has taken. The job manager says a few per checkpoint.
const MAX_UNREAD: usize = 8192;
/// Messages of the host that are not written yet. The task manager takes them at once, or is gone.
const MAX_UNWRITTEN: usize = 1024;

/// The channel was taken over, which happens once in the life of a process.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The host's end of the control channel. Clones are the same channel.
#[derive(Clone)]
pub struct HostChannel {
    shared: Arc<Shared>,
    messages: Receiver<ToHost>,
    outbox: Sender<Out>,
}

struct Shared {
    /// The newest leader's epoch that was heard; what the host says carries it.
    epoch: AtomicU64,
    data_bind: IpAddr,
    on_end: OnEnd,
}

enum Out {
    Message(Vec<u8>),
    /// Everything before it has been written.
    Flush(Sender<()>),
}

impl HostChannel {
    /// The channel that this process was given, and the first word on it; `None` if it was started by anybody but a
    /// task manager. From then on the process ends, with its process group, as soon as the task manager does. To be
    /// called on the main thread, at the beginning of the program.
    ///
    /// # Errors
    /// If the channel was taken over before, its variables are not what a task manager writes, or the first
    /// message does not come.
    pub fn from_environment() -> Result<Option<(HostChannel, HostStart)>> {
        let Some(value) = std::env::var_os(CHANNEL_VARIABLE) else { return Ok(None) };
        let value = value.to_string_lossy();
        let Some((descriptor, inode)) = parse(&value) else {
            return Err(Error::user(format!(
                "{CHANNEL_VARIABLE} is `{value}`, which no task manager has written: unset it"
            )));
        };
        let Some(descriptor) = take_over(descriptor, inode)? else { return Ok(None) };
        let data_bind = match std::env::var(DATA_BIND_VARIABLE) {
            Err(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Ok(text) => text.parse().map_err(|_| {
                Error::user(format!("{DATA_BIND_VARIABLE} is `{text}`, which is not an IP address"))
            })?,
        };
        HostChannel::over(UnixStream::from(descriptor), data_bind, end::end_process_group).map(Some)
    }

    /// The same over a given stream; `on_end` is called once, when the other end is gone or cannot be understood.
    ///
    /// # Errors
    /// If the first message does not come, or the system refuses a thread.
    pub fn over(
        mut stream: UnixStream,
        data_bind: IpAddr,
        on_end: impl FnOnce(End) + Send + 'static,
    ) -> Result<(HostChannel, HostStart)> {
        let Some((epoch, start)) = envelope::read::<HostStart>(&mut stream)? else {
            return Err(Error::external("the task manager was gone before it said anything"));
        };
        let writer = stream.try_clone()?;
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(epoch.0),
            data_bind,
            on_end: OnEnd::new(on_end),
        });
        let (inbox, messages) = bounded(MAX_UNREAD);
        let (outbox, unwritten) = bounded(MAX_UNWRITTEN);
        let of_reader = Arc::clone(&shared);
        spawn("millstream-host-in", move || {
            let end = receive(stream, &of_reader.epoch, &inbox);
            of_reader.on_end.call(end);
        })?;
        let of_writer = Arc::clone(&shared);
        spawn("millstream-host-out", move || {
            if let Err(error) = write_all(writer, &unwritten) {
                of_writer.on_end.call(End::Broken(error));
            }
        })?;
        Ok((HostChannel { shared, messages, outbox }, start))
    }

    /// What the job manager says. All receivers of a channel share its messages.
    pub fn receiver(&self) -> Receiver<ToHost> {
        self.messages.clone()
    }

    /// Says something to the job manager. It is written by another thread; this one waits only while a thousand
    /// messages are not written yet. Metrics are then passed over instead, since newer ones follow.
    ///
    /// # Errors
    /// If the message is too long, or the channel has ended.
    pub fn send(&self, message: &FromHost) -> Result<()> {
        let gone = || Error::external("the task manager is gone");
        let sealed = envelope::seal(self.epoch(), message)?;
        if !matches!(message, FromHost::Metrics(_)) {
            return self.outbox.send(Out::Message(sealed)).map_err(|_| gone());
        }
        match self.outbox.try_send(Out::Message(sealed)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                tracing::debug!("metrics are passed over: the task manager is slow to read");
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(gone()),
        }
    }

    /// Waits until what was sent before is written, for so long at most; whether it is. Before the process ends.
    pub fn flush(&self, timeout: Duration) -> bool {
        let (done, is_done) = bounded(1);
        self.outbox.send_timeout(Out::Flush(done), timeout).is_ok()
            && is_done.recv_timeout(timeout).is_ok()
    }

    /// The newest leader's epoch that was heard.
    pub fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.shared.epoch.load(Ordering::Relaxed))
    }

    /// The address that the host listens on for records.
    pub fn data_bind(&self) -> IpAddr {
        self.shared.data_bind
    }
}

/// How a task manager says which descriptor is the channel.
pub fn variable_value(descriptor: RawFd, inode: u64) -> String {
    format!("{descriptor}:{inode}")
}

fn parse(value: &str) -> Option<(RawFd, u64)> {
    let (descriptor, inode) = value.split_once(':')?;
    let descriptor = descriptor.parse().ok().filter(|descriptor| *descriptor > 2)?;
    Some((descriptor, inode.parse().ok()?))
}

/// The descriptor, if it is the socket with this inode; closed to children from now on.
fn take_over(descriptor: RawFd, inode: u64) -> Result<Option<OwnedFd>> {
    // SAFETY: only asks the system what the number stands for; if for nothing, the answer is an error.
    #[allow(unsafe_code)]
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    if !fstat(borrowed).is_ok_and(|stat| stat.st_ino == inode) {
        return Ok(None);
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(Error::internal("the host's control channel was taken over before"));
    }
    // SAFETY: it is the very socket that the task manager made for this process and named in a variable that only
    // this function reads; it is taken once, so nobody else owns or closes it.
    #[allow(unsafe_code)]
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(std::io::Error::from)?;
    // Until now the system would have killed this process with its task manager, for programs that never get here;
    // but this process only, and then nobody would end what it has started. It holds for the main thread.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(None).map_err(std::io::Error::from)?;
    Ok(Some(owned))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|e| Error::external("the system refused a thread").caused_by(e))
}

/// Passes on what comes, until the end.
fn receive(stream: UnixStream, newest: &AtomicU64, inbox: &Sender<ToHost>) -> End {
    let mut stream = std::io::BufReader::new(stream);
    loop {
        let (epoch, message) = match envelope::read::<ToHost>(&mut stream) {
            Ok(Some(read)) => read,
            Ok(None) => return End::Closed,
            Err(error) => return End::Broken(error),
        };
        let seen = newest.fetch_max(epoch.0, Ordering::Relaxed);
        if epoch.0 < seen {
            tracing::warn!(%epoch, newest = seen, "a word of an old leader is refused");
            continue;
        }
        match inbox.try_send(message) {
            // Nobody listens any more: the program is about to end.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => return End::Stuck,
        }
    }
}

/// Writes until every channel is dropped.
fn write_all(mut stream: UnixStream, unwritten: &Receiver<Out>) -> Result<()> {
    while let Ok(out) = unwritten.recv() {
        match out {
            Out::Message(bytes) => stream.write_all(&bytes).map_err(|e| {
                Error::external("the task manager takes no more messages").caused_by(e)
            })?,
            // Who asked may have stopped to wait.
            Out::Flush(done) => drop(done.send(())),
        }
    }
    Ok(())
}
