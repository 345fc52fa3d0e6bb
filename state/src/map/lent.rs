//! One key's map, lent to a function: read as it is, changed as [`Spread`] does it.
//!
//! What is read of a map that is not all in memory stays on a [`Shelf`] for as long as the handle is only read from, counted as
//! memory that is used. With the first change, or with the handle, it goes into the table, where room is made for it.

use super::chunk::{Chunk, ChunkOf, hash_of};
use super::shelf::Shelf;
use super::spread::{Chunks, MapOf, Spread};
use millstream_model::{Data, Key, Result, hash_key};
use std::cell::{Cell, OnceCell, RefMut};

/// See the module's text.
pub(super) struct Lent<'a, K: Key, MK: Key, V: Data> {
    pub(super) chunks: RefMut<'a, Chunks<K, MK, V>>,
    pub(super) map: MapOf<'a, K, V>,
    pub(super) read: OnceCell<Box<Shelf<Chunk<MK, V>>>>,
    /// Bytes of it.
    pub(super) n_read: Cell<usize>,
}

/// The hash of a map's key. A float has none: it is refused as every key is.
#[inline]
pub(super) fn map_hash<MK: Key>(key: &MK) -> u64 {
    match hash_key(key) {
        Ok(hash) => hash,
        Err(e) => panic!("a key of a map state cannot be used: {e}"),
    }
}

impl<K: Key, MK: Key, V: Data> Lent<'_, K, MK, V> {
    /// A chunk, if it is there.
    #[inline]
    fn chunk(&self, number: u32) -> Option<&Chunk<MK, V>> {
        let hash = hash_of(self.map.hash, number);
        let found = self.chunks.get(hash, |of| of.number == number && of.key == *self.map.key);
        if found.is_some() || !self.chunks.may_be_stored() {
            return found;
        }
        self.read.get_or_init(Box::default).get(number, || {
            let of = ChunkOf { key: self.map.key.clone(), number };
            let (chunk, n_bytes) = self.chunks.peek(hash, &of)?;
            self.n_read.set(self.n_read.get() + n_bytes);
            Some(chunk)
        })
    }

    /// The value at `at`.
    #[inline]
    pub(super) fn get(&self, at: &MK) -> Option<&V> {
        let hash = map_hash(at);
        let mut chunk = self.chunk(0)?;
        if let Some(head) = &chunk.head
            && let number @ 1.. = head.chunk_at(hash)
        {
            chunk = self.chunk(number)?;
        }
        chunk.entries.get(hash, |k| k == at)
    }

    /// All entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&MK, &V)> {
        let first = self.chunk(0);
        let n_chunks = first.map_or(0, |chunk| chunk.head.as_ref().map_or(1, |h| h.n_chunks));
        (0..n_chunks)
            .filter_map(move |number| self.chunk(number))
            .flat_map(|chunk| chunk.entries.iter())
    }

    /// Shows all entries, a chunk at a time.
    pub(super) fn for_each(&mut self, mut see: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        let mut spread = self.spread();
        for number in 0..spread.n_chunks() {
            let entries = spread.chunk(number).into_iter().flat_map(|chunk| chunk.entries.iter());
            entries.into_iter().try_for_each(|(at, value)| see(at, value))?;
        }
        Ok(())
    }

    /// Number of entries; of those that expire perhaps more than there are.
    pub(super) fn len(&self) -> usize {
        let Some(first) = self.chunk(0) else { return 0 };
        first.head.as_ref().map_or(first.entries.len(), |head| head.n_entries as usize)
    }

    /// The map, to be changed.
    #[inline]
    pub(super) fn spread(&mut self) -> Spread<'_, K, MK, V> {
        if self.read.get().is_some() {
            self.put_back();
        }
        Spread { chunks: &mut self.chunks, map: &self.map }
    }

    /// Brings what was read into the table.
    #[cold]
    fn put_back(&mut self) {
        let Some(read) = self.read.take() else { return };
        self.chunks.uncount(self.n_read.take());
        let Lent { chunks, map, .. } = self;
        read.clear(&mut |number, chunk| {
            let of = ChunkOf { key: map.key.clone(), number };
            chunks.bring(hash_of(map.hash, number), of, chunk);
        });
    }
}

impl<K: Key, MK: Key, V: Data> Drop for Lent<'_, K, MK, V> {
    #[inline]
    fn drop(&mut self) {
        if self.read.get().is_none() {
            return;
        }
        if std::thread::panicking() {
            self.chunks.uncount(self.n_read.take());
        } else {
            self.put_back();
        }
    }
}
