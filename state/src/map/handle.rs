//! The handle of a map state: one key's map.

use super::lent::{Lent, map_hash};
use super::table::MapTable;
use crate::descriptor::MapState;
use crate::handle::Descriptor;
use crate::ttl::Forever;
use millstream_model::{Data, EventTime, Key, Result};
use std::cell::RefMut;

/// One key's map.
pub struct MapHandle<'a, K: Key, MK: Key, MV: Data> {
    map: Lent<'a, K, MK, MV>,
}

impl<MK: Key, MV: Data> Descriptor for MapState<MK, MV> {
    type Table<K: Key> = MapTable<K, MK, MV, Forever>;
    type Handle<'a, K: Key>
        = MapHandle<'a, K, MK, MV>
    where
        Self: 'a;

    #[inline]
    fn name(&self) -> &'static str {
        self.name
    }

    #[inline]
    fn handle<'a, K: Key>(
        &'a self,
        table: RefMut<'a, Self::Table<K>>,
        key: &'a K,
        hash: u64,
    ) -> Self::Handle<'a, K> {
        MapHandle { map: MapTable::lend(table, key, hash, EventTime::MIN) }
    }
}

impl<K: Key, MK: Key, MV: Data> MapHandle<'_, K, MK, MV> {
    /// The value at `at`.
    #[inline]
    pub fn get(&self, at: &MK) -> Option<&MV> {
        self.map.get(at)
    }
    /// The value at `at`, to be changed in place.
    #[inline]
    pub fn get_mut(&mut self, at: &MK) -> Option<&mut MV> {
        self.map.spread().get_mut(map_hash(at), at)
    }
    /// Whether there is a value at `at`.
    pub fn contains(&self, at: &MK) -> bool {
        self.get(at).is_some()
    }
    /// Sets the value at `at` and gives back the one it replaces.
    #[inline]
    pub fn insert(&mut self, at: MK, value: MV) -> Option<MV> {
        self.map.spread().put(map_hash(&at), at, value)
    }
    /// The value at `at`, to be changed in place; set to `make()` first if there is none.
    #[inline]
    pub fn or_insert_with(&mut self, at: MK, make: impl FnOnce() -> MV) -> &mut MV {
        self.map.spread().or_insert_with(map_hash(&at), at, make)
    }
    /// Removes the value at `at` and gives it back.
    pub fn remove(&mut self, at: &MK) -> Option<MV> {
        self.map.spread().remove(map_hash(at), at)
    }
    /// All entries, in no particular but a repeatable order. All of them are in memory for as long as this handle is only read
    /// from; of a map larger than that, [`for_each`](Self::for_each) sees some at a time.
    pub fn iter(&self) -> impl Iterator<Item = (&MK, &MV)> {
        self.map.iter()
    }
    /// Shows all entries, in no particular but a repeatable order, a few at a time: a map may be larger than memory.
    ///
    /// ```
    /// # use millstream_state::{KeyedStates, MapState, StateSet, states};
    /// # const SEEN: MapState<String, u64> = MapState::new("seen");
    /// # let set: StateSet<u64> = states![SEEN];
    /// # let clock: millstream_state::ttl::Clock = std::sync::Arc::new(|| 0);
    /// # let states = KeyedStates::new(set, &clock)?;
    /// # let (key, hash) = (7u64, millstream_model::hash_key(&7u64)?);
    /// let mut seen = states.of(&SEEN, &key, hash);
    /// seen.insert("here".into(), 2);
    /// let mut sum = 0;
    /// seen.for_each(|_, n| {
    ///     sum += n;
    ///     Ok(())
    /// })?;
    /// assert_eq!(sum, 2);
    /// # Ok::<(), millstream_model::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first error of `see`.
    pub fn for_each(&mut self, see: impl FnMut(&MK, &MV) -> Result<()>) -> Result<()> {
        self.map.for_each(see)
    }
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.map.len()
    }
    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Removes all entries.
    pub fn clear(&mut self) {
        self.map.spread().clear();
    }
}
