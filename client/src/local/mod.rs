//! Running a job in this process.
//!
//! Embedded mode is the cluster's own scheduler machine over a transport that happens to be a function
//! call: a shell thread carries out its effects with a task host and feeds back what becomes of the tasks.

mod assemble;
mod backend;
mod neighbours;
mod runner;
mod shared;
mod shell;

#[cfg(feature = "cluster")]
pub(crate) use assemble::Begin as AssembledBegin;
pub(crate) use assemble::{Attempt, Begin, Mailboxes, Prepared, assemble, prepare};
pub(crate) use backend::open as open_backend;
pub(crate) use neighbours::Neighbours;
pub(crate) use runner::LocalTasks;
#[cfg(feature = "cluster")]
pub(crate) use runner::Runner;
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
