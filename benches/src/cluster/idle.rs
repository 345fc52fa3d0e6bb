//! The memory of a cluster that has nothing to do.

use super::Cluster;
use super::processes::kib_of;
use crate::workload::BenchError;
use std::time::Duration;

/// The most that is aimed at for a job manager and two task managers, in MiB.
pub const TARGET_MIB: f64 = 100.0;

/// Memory of all processes together, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// With what processes share counted once.
    pub shared_once_mib: f64,
    /// Of each process what it sees, added up.
    pub resident_mib: f64,
}

/// Of a job manager and two task managers, some time after their start.
///
/// # Errors
/// They cannot be started, or the system does not tell.
pub fn measure() -> Result<Idle, BenchError> {
    let cluster = Cluster::start(2, 2)?;
    std::thread::sleep(Duration::from_secs(3));
    let sum = |entry: &str| -> Result<f64, BenchError> {
        let of = |pid| kib_of(pid, "smaps_rollup", entry);
        let parts: Option<Vec<u64>> = cluster.processes().map(|(_, pid)| of(pid)).collect();
        let parts = parts.ok_or_else(|| BenchError::Job("memory cannot be read".into()))?;
        Ok(parts.iter().sum::<u64>() as f64 / 1024.0)
    };
    Ok(Idle { shared_once_mib: sum("Pss:")?, resident_mib: sum("Rss:")? })
}
