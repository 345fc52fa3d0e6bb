//! Running a job in this process.
//!
//! Embedded mode is the cluster's own scheduler machine over a transport that happens to be a function
//! call: a shell thread carries out its effects with a task host and feeds back what becomes of the tasks.

mod assemble;
mod backend;
mod checkpoints;
mod claimed;
mod handle;
mod restoring;
mod shell;
mod stopped;

pub(crate) use assemble::{Attempt, Begin, assemble};
pub(crate) use backend::open as open_backend;
pub(crate) use checkpoints::{Checkpoints, OpenStorage, Request, vertices};
pub(crate) use handle::Canceller;
pub use handle::{JobHandle, JobResult, JobState, JobStatus};
pub(crate) use restoring::check_fit;
pub(crate) use shell::launch;

use crate::compile::Compiled;
use crate::config::Config;
use crate::graph::Graph;

/// All that is needed to run a job.
pub(crate) struct Program {
    pub(crate) graph: Graph,
    pub(crate) compiled: Compiled,
    pub(crate) config: Config,
}
