//! What happens when the other end of the control channel is gone.
//!
//! Reader and writer may both notice it; it is acted upon once. What is done is given from outside, so that it can
//! be tested without a process to kill.

use millstream_model::Error;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp, getpid};
use std::sync::{Mutex, PoisonError};

/// The exit code of a host that lost its task manager, if it has no process group of its own to be killed with.
const EXIT_CODE: i32 = 75;

/// How the channel ended.
#[derive(Debug)]
pub enum End {
    /// The task manager is gone, or has closed the channel to end the host.
    Closed,
    /// It cannot be read or written, or brings what is no message.
    Broken(Error),
    /// Thousands of messages came and nobody took them.
    Stuck,
}

/// Called once.
pub(super) struct OnEnd(Mutex<Option<Box<dyn FnOnce(End) + Send>>>);

impl OnEnd {
    pub(super) fn new(on_end: impl FnOnce(End) + Send + 'static) -> Self {
        OnEnd(Mutex::new(Some(Box::new(on_end))))
    }

    pub(super) fn call(&self, end: End) {
        let on_end = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(on_end) = on_end {
            on_end(end);
        }
    }
}

/// Ends this process and whatever it has started. At once: the tasks may be run elsewhere already.
pub(super) fn end_process_group(end: End) {
    match end {
        End::Closed => tracing::info!("the task manager closed the channel: this host ends"),
        End::Broken(error) => tracing::error!(%error, "this host ends"),
        End::Stuck => tracing::error!("nobody takes the job manager's messages: this host ends"),
    }
    // Not the group of a shell that somebody started the program from.
    if getpgrp() == getpid() {
        // Kills this process too; if it could not, the next line does.
        let _ = kill(Pid::from_raw(0), Signal::SIGKILL);
    }
    std::process::exit(EXIT_CODE)
}
