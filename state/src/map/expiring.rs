//! The handle of a map state that expires: one key's map, whose values expire one by one.

use super::lent::{Lent, map_hash};
use super::table::MapTable;
use crate::descriptor::{Expiring, MapState};
use crate::handle::Descriptor;
use crate::ttl::{Timed, Ttl};
use millstream_model::{Data, EventTime, Key, Result};
use std::cell::RefMut;

/// One key's map, whose values expire one by one.
pub struct ExpiringMap<'a, K: Key, MK: Key, MV: Data> {
    map: Lent<'a, K, MK, Timed<MV>>,
    now: EventTime,
    ttl: Ttl,
}

impl<MK: Key, MV: Data> Descriptor for Expiring<MapState<MK, MV>> {
    type Table<K: Key> = MapTable<K, MK, MV, Ttl>;
    type Handle<'a, K: Key>
        = ExpiringMap<'a, K, MK, MV>
    where
        Self: 'a;

    #[inline]
    fn name(&self) -> &'static str {
        self.state.name
    }

    #[inline]
    fn handle<'a, K: Key>(
        &'a self,
        mut table: RefMut<'a, Self::Table<K>>,
        key: &'a K,
        hash: u64,
    ) -> Self::Handle<'a, K> {
        let (now, ttl) = table.at_now();
        ExpiringMap { map: MapTable::lend(table, key, hash, ttl.from(now)), now, ttl }
    }
}

impl<K: Key, MK: Key, MV: Data> ExpiringMap<'_, K, MK, MV> {
    /// The value at `at`.
    pub fn get(&mut self, at: &MK) -> Option<&MV> {
        if self.ttl.is_renewed_by_reading() {
            return self.get_mut(at).map(|value| &*value);
        }
        let now = self.now;
        self.map.get(at).filter(|held| !held.is_over(now)).map(|held| &held.value)
    }
    /// The value at `at`, to be changed in place: its time begins anew.
    pub fn get_mut(&mut self, at: &MK) -> Option<&mut MV> {
        let (now, until) = (self.now, self.map.map.until);
        let held = self.map.spread().get_mut(map_hash(at), at)?;
        if held.is_over(now) {
            return None;
        }
        held.at = until;
        Some(&mut held.value)
    }
    /// Whether there is a value at `at`; that is no reading of it.
    pub fn contains(&self, at: &MK) -> bool {
        self.map.get(at).is_some_and(|held| !held.is_over(self.now))
    }
    /// Sets the value at `at` and gives back the one it replaces.
    pub fn insert(&mut self, at: MK, value: MV) -> Option<MV> {
        let held = Timed { at: self.map.map.until, value };
        let old = self.map.spread().put(map_hash(&at), at, held)?;
        (!old.is_over(self.now)).then_some(old.value)
    }
    /// The value at `at`, to be changed in place; set to `make()` first if there is none. Its time begins anew.
    pub fn or_insert_with(&mut self, at: MK, make: impl FnOnce() -> MV) -> &mut MV {
        if !self.contains(&at) {
            self.insert(at.clone(), make());
        }
        self.get_mut(&at).expect("it is there, and has not expired")
    }
    /// Removes the value at `at` and gives it back.
    pub fn remove(&mut self, at: &MK) -> Option<MV> {
        let held = self.map.spread().remove(map_hash(at), at)?;
        (!held.is_over(self.now)).then_some(held.value)
    }
    /// All entries that have not expired, in no particular but a repeatable order. All of them are in memory for as long as
    /// this handle is only read from; of a map larger than that, [`for_each`](Self::for_each) sees some at a time.
    pub fn iter(&mut self) -> impl Iterator<Item = (&MK, &MV)> {
        if self.ttl.is_renewed_by_reading() {
            self.renew();
        }
        let live = self.map.iter().filter(|(_, held)| !held.is_over(self.now));
        live.map(|(at, held)| (at, &held.value))
    }
    /// Shows all entries that have not expired, in no particular but a repeatable order, a few at a time: a map may be larger
    /// than memory.
    ///
    /// # Errors
    /// The first error of `see`.
    pub fn for_each(&mut self, mut see: impl FnMut(&MK, &MV) -> Result<()>) -> Result<()> {
        if self.ttl.is_renewed_by_reading() {
            self.renew();
        }
        let now = self.now;
        self.map.for_each(|at, held| if held.is_over(now) { Ok(()) } else { see(at, &held.value) })
    }

    /// The time of all that have not expired begins anew.
    fn renew(&mut self) {
        let (now, until) = (self.now, self.map.map.until);
        let mut spread = self.map.spread();
        spread.renew_head();
        for number in 0..spread.n_chunks() {
            let Some(chunk) = spread.chunk_mut(number) else { continue };
            let live = chunk.entries.iter_mut().filter(|(_, held)| !held.is_over(now));
            live.for_each(|(_, held)| held.at = until);
        }
    }
    /// Removes all entries.
    pub fn clear(&mut self) {
        self.map.spread().clear();
    }
}
