//! Ctrl-C: the first cancels the jobs that run in the foreground, the second ends the process.

use crate::job::Canceller;
use std::sync::{Mutex, OnceLock, PoisonError};

type Jobs = Mutex<Vec<Option<Canceller>>>;

static JOBS: OnceLock<Jobs> = OnceLock::new();

/// While it lives, Ctrl-C cancels its job.
pub(crate) struct Guard(usize);

pub(crate) fn cancel_on_interrupt(job: Canceller) -> Guard {
    let jobs = JOBS.get_or_init(|| {
        // A program with its own handler keeps it: then Ctrl-C is its business.
        if let Err(error) = ctrlc::set_handler(on_interrupt) {
            tracing::debug!(%error, "Ctrl-C is not handled");
        }
        Jobs::default()
    });
    let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
    jobs.push(Some(job));
    Guard(jobs.len() - 1)
}

fn on_interrupt() {
    let Some(jobs) = JOBS.get() else { return };
    let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
    let running: Vec<_> = jobs.iter_mut().filter_map(Option::take).collect();
    if running.is_empty() {
        // 128 + SIGINT, as shells expect it.
        std::process::exit(130);
    }
    eprintln!("cancelling; press Ctrl-C again to end at once");
    for job in running {
        job.cancel();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(jobs) = JOBS.get() {
            jobs.lock().unwrap_or_else(PoisonError::into_inner)[self.0] = None;
        }
    }
}
