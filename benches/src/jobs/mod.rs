//! The workloads as Millstream jobs.
//!
//! A job builds its graph, executes it at [`Setup::parallelism`](crate::workload::Setup) and hands
//! back what its sinks saw. It reads the same generators as the loops: [`crate::prng`],
//! [`crate::nexmark`], [`crate::text`] and, for W5, [`crate::pace`].

use crate::workload::Job;

/// Every job, by the id of its row.
const JOBS: &[(&str, Job)] = &[];

/// The job of a row.
pub fn job(row: &str) -> Option<Job> {
    JOBS.iter().find(|entry| entry.0 == row).map(|entry| entry.1)
}
