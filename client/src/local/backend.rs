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

/// The backend that the configuration asks for; `None` for memory alone.
#[cfg(feature = "rocksdb")]
pub(crate) fn open(config: &Config) -> Result<Option<Backend>> {
    use millstream_state::lsm::{MemoryBudget, RocksEngine};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{SystemTime, UNIX_EPOCH};

    if config.backend == BackendKind::Memory {
        return Ok(None);
    }
    let budget = MemoryBudget::new(config.state_memory);
    let engine = RocksEngine::new(&budget, crate::config::available_cores());
    // Of this moment, this process, and this of its jobs: no other run ever has that name.
    static N_OPENED: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let number = N_OPENED.fetch_add(1, Ordering::Relaxed);
    let run = format!("{:x}-{:x}-{number}", since_epoch.as_micros(), std::process::id());
    let dir = config.state_dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = dir.join(format!("millstream-{run}"));
    Ok(Some(Backend::new(Arc::new(engine), budget, dir, run)))
}
