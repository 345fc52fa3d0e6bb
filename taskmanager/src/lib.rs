//! Runs tasks.
//!
//! The [`host`] is linked into the user's program: it has the threads that step the tasks of one job and
//! reports what becomes of them, and [`uploads`] brings their snapshots to storage. It decides nothing; it is told what to run and what to cancel,
//! on a cluster through the [`channel`] to the task manager that started the program.

pub mod channel;
pub mod host;
#[cfg(feature = "process")]
pub mod hosts;
#[cfg(feature = "process")]
pub mod process;
#[cfg(feature = "process")]
pub mod programs;
#[cfg(feature = "process")]
pub mod session;
#[cfg(feature = "process")]
pub mod supervisor;
pub mod uploads;
