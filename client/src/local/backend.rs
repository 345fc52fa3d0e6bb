//! What keeps a job's state: memory alone, or RocksDB beneath it.

use crate::config::{BackendKind, Config};
use millstream_model::Result;
use millstream_state::store::Backend;

/// The backend that the configuration asks for; `None` for memory alone.
#[cfg(not(feature = "rocksdb"))]
pub(crate) fn open(config: &Config) -> Result<Option<Backend>> {
    match config.backend {
        BackendKind::Memory => Ok(None),
        BackendKind::RocksDb => Err(millstream_model::Error::user(
            "this program was built without RocksDB: add the feature `rocksdb` of `millstream`",
        )),
    }
}

/// So many entries of each table stay in memory, however large they are: the keys of a small table, each of which the next
/// record may be of.
#[cfg(feature = "rocksdb")]
const N_KEPT: usize = 8;

/// The backend that the configuration asks for; `None` for memory alone.
#[cfg(feature = "rocksdb")]
pub(crate) fn open(config: &Config) -> Result<Option<Backend>> {
    use millstream_state::lsm::{MemoryBudget, RocksEngine};
    use millstream_state::work_dir::WorkDir;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{SystemTime, UNIX_EPOCH};

    if config.backend == BackendKind::Memory {
        return Ok(None);
    }
    let budget = MemoryBudget::keeping(N_KEPT, config.state_memory);
    let engine = RocksEngine::new(&budget, crate::config::available_cores());
    // Of this moment, this process, and this of its jobs: no other run ever has that name.
    static N_OPENED: AtomicU64 = AtomicU64::new(0);
    let new_name = || {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = N_OPENED.fetch_add(1, Ordering::Relaxed);
        format!("{:x}-{:x}-{number}", since_epoch.as_micros(), std::process::id())
    };
    let machine = nix::unistd::gethostname().unwrap_or_default();
    let parent = config.state_dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = WorkDir::make(&parent, &machine.to_string_lossy(), new_name)?;
    Ok(Some(Backend::in_work_dir(Arc::new(engine), budget, dir)))
}
