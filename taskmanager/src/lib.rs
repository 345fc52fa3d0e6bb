//! Runs tasks.
//!
//! One half is linked into the user's program: [`host`] has the threads that step the tasks of one job and reports what
//! becomes of them, [`uploads`] brings their snapshots to storage, and on a cluster [`channel`] is how the program
//! hears what to run. The other half, behind the feature `process`, is the task manager's process, which starts
//! such programs and stands between them and the job manager. Neither decides anything about a job.

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
