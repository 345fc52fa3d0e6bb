//! The table of a map state: of all chunks of all keys, and what its descriptor says of their bytes.

use super::chunk::{ByOwner, ChunkOf};
use super::lent::{Lent, map_hash};
use super::spread::{MapOf, Spread};
use crate::codec;
use crate::described::{AnyTable, DescribedTable, StateTable};
use crate::layout::{Layout, Mapped};
use crate::part::{Entries, IsExpired, Part, Written};
use crate::schema::Shape;
use crate::snapshot::PartKind;
use crate::store::Space;
use crate::ttl::{Clock, Lifetime, Ttl};
use millstream_model::{Data, EventTime, Key, Result, SnapshotKind, hash_key};
use std::cell::{Cell, OnceCell, RefMut};

/// See the module's text.
pub struct MapTable<K: Key, MK: Key, MV: Data, L: Lifetime> {
    described: DescribedTable<ChunkOf<K>, Mapped<MK, MV, L>, ByOwner>,
}

impl<K: Key, MK: Key, MV: Data, L: Lifetime> MapTable<K, MK, MV, L> {
    /// An empty one.
    pub fn new(layout: Mapped<MK, MV, L>, clock: Clock) -> Self {
        MapTable { described: DescribedTable::new(layout, clock) }
    }

    /// The map of a key, whose values expire at a time if they are changed.
    #[inline]
    pub(super) fn lend<'a>(
        table: RefMut<'a, Self>,
        key: &'a K,
        hash: u64,
        until: EventTime,
    ) -> Lent<'a, K, MK, L::Held<MV>> {
        let chunks = RefMut::map(table, |table| &mut table.described.table);
        let (read, n_read) = (OnceCell::new(), Cell::new(0));
        Lent { chunks, map: map_of::<_, MV, L>(key, hash, until), read, n_read }
    }

    /// Takes entries that are spread over chunks anew.
    fn restore_one_by_one(&mut self, entries: &Entries<'_>) -> Result<()> {
        let written = entries.shape_at(1)?;
        let is_whole = Mapped::<MK, MV, L>::is_whole(written);
        if is_whole {
            entries.check_key::<K>(0)?;
        } else {
            entries.check_key::<ChunkOf<K>>(0)?;
        }
        let (layout, now) = (self.described.layout, self.described.now());
        let read = layout.reader(written, entries.version, now)?;
        entries.walk(|_, bytes| {
            let (key, key_bytes) = if is_whole {
                codec::decode::<K>(bytes)?
            } else {
                let (of, n_bytes) = codec::decode::<ChunkOf<K>>(bytes)?;
                (of.key, n_bytes)
            };
            let (chunk, chunk_bytes) = read(&bytes[key_bytes..])?;
            let hash = hash_key(&key)?;
            if entries.assignment.owns(hash) {
                for (at, held) in chunk.into_iter().flat_map(|chunk| chunk.entries.into_entries()) {
                    let until = L::ends_at::<MV>(&held);
                    let map = map_of::<_, MV, L>(&key, hash, until);
                    let spread = Spread { chunks: &mut self.described.table, map: &map };
                    spread.put(map_hash(&at), at, held);
                }
            }
            Ok(key_bytes + chunk_bytes)
        })
    }
}

fn map_of<K, MV: Data, L: Lifetime>(
    key: &K,
    hash: u64,
    until: EventTime,
) -> MapOf<'_, K, L::Held<MV>> {
    MapOf { key, hash, until, ends_at: L::ends_at::<MV> }
}

impl<K: Key, MK: Key, MV: Data> MapTable<K, MK, MV, Ttl> {
    /// Processing time, and how long values live; and looks for what has expired.
    pub(super) fn at_now(&mut self) -> (EventTime, Ttl) {
        let (now, ttl) = (self.described.now(), self.described.lifetime());
        let mut trimmed = Vec::new();
        self.described.search_expired(now, |of, n| trimmed.push((of.clone(), n as u64)));
        for (of, n) in trimmed {
            let hash = hash_key(&of.key).unwrap_or_default();
            let map = map_of::<_, MV, Ttl>(&of.key, hash, EventTime::MIN);
            let mut spread = Spread { chunks: &mut self.described.table, map: &map };
            spread.has_lost(of.number, n);
        }
        (now, ttl)
    }
}

impl<K: Key, MK: Key, MV: Data, L: Lifetime> AnyTable for MapTable<K, MK, MV, L> {
    fn warm(&self, hashes: &[u64]) {
        self.described.warm(hashes);
    }
}

impl<K: Key, MK: Key, MV: Data, L: Lifetime> StateTable<K> for MapTable<K, MK, MV, L> {
    #[inline]
    fn fetch(&mut self, hash: u64, key: &K) {
        let is_first = |of: &ChunkOf<K>| of.number == 0 && of.key == *key;
        let first = || ChunkOf { key: key.clone(), number: 0 };
        self.described.table.fetch_by(hash, is_first, first);
    }

    fn keys(&self) -> Result<Vec<K>> {
        let firsts = self.described.table.keys_that(|of| of.number == 0)?;
        Ok(firsts.into_iter().map(|of| of.key).collect())
    }
}

impl<K: Key, MK: Key, MV: Data, L: Lifetime> Part for MapTable<K, MK, MV, L> {
    fn kind(&self) -> PartKind {
        self.described.kind()
    }

    fn shape(&self) -> Result<Shape> {
        self.described.shape()
    }

    fn version(&self) -> u32 {
        self.described.version()
    }

    fn freeze(&mut self, kind: SnapshotKind) {
        self.described.freeze(kind);
    }

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        self.described.write(out, budget)
    }

    fn thaw(&mut self) {
        self.described.thaw();
    }

    fn can_attach(&self) -> bool {
        self.described.can_attach()
    }

    fn attach(&mut self, space: Space, is_empty: bool) -> Result<()> {
        self.described.attach(space, is_empty)
    }

    fn expiry(&self) -> Option<IsExpired> {
        self.described.expiry()
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        if Mapped::<MK, MV, L>::is_as_counted(entries.shape_at(1)?)? {
            self.described.restore(entries)
        } else {
            self.restore_one_by_one(entries)
        }
    }
}
