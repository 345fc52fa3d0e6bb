//! A store that lasts as long as its process: for tests, and for a cluster that is thrown away as a whole.

use super::{Key, MetadataStore, StoreError, Stored, pass};
use millstream_model::LeaderEpoch;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's text.
#[derive(Debug, Default)]
pub struct MemoryStore {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    epoch: LeaderEpoch,
    records: BTreeMap<Key, Stored>,
}

impl MemoryStore {
    fn content(&self) -> MutexGuard<'_, Content> {
        // Nothing below panics halfway through a change.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn enter(&mut self, epoch: LeaderEpoch) -> Result<(), StoreError> {
        pass(self.epoch, epoch)?;
        self.epoch = epoch;
        Ok(())
    }

    fn version(&self, key: Key) -> Option<u64> {
        self.records.get(&key).map(|stored| stored.version)
    }
}

impl MetadataStore for MemoryStore {
    fn fence(&self, epoch: LeaderEpoch) -> Result<(), StoreError> {
        self.content().enter(epoch)
    }

    fn read(&self, key: Key) -> Result<Option<Stored>, StoreError> {
        Ok(self.content().records.get(&key).cloned())
    }

    fn keys(&self) -> Result<Vec<Key>, StoreError> {
        Ok(self.content().records.keys().copied().collect())
    }

    fn write(
        &self,
        epoch: LeaderEpoch,
        key: Key,
        replaces: Option<u64>,
        bytes: &[u8],
    ) -> Result<u64, StoreError> {
        let mut content = self.content();
        content.enter(epoch)?;
        if content.version(key) != replaces {
            return Err(StoreError::Changed(key));
        }
        let version = replaces.unwrap_or(0) + 1;
        content.records.insert(key, Stored { version, bytes: bytes.to_vec() });
        Ok(version)
    }

    fn remove(&self, epoch: LeaderEpoch, key: Key, replaces: u64) -> Result<(), StoreError> {
        let mut content = self.content();
        content.enter(epoch)?;
        if content.version(key) != Some(replaces) {
            return Err(StoreError::Changed(key));
        }
        content.records.remove(&key);
        Ok(())
    }
}
