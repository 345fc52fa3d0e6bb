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
    use millstream_state::work_dir::WorkDir;
    use std::sync::Arc;

    if config.backend == BackendKind::Memory {
        return Ok(None);
    }
    let budget = MemoryBudget::new(config.state_memory);
    let engine = RocksEngine::new(&budget, crate::config::available_cores());
    let dir = WorkDir::make(&config.state_dir.clone().unwrap_or_else(std::env::temp_dir))?;
    Ok(Some(Backend::in_work_dir(Arc::new(engine), budget, dir)))
}
