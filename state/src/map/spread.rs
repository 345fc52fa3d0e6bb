//! One key's map in the table of all chunks: finding, adding, removing, and how it grows and shrinks.
//!
//! A chunk that is looked for may push others out of memory, also those of this map; so what was found is good until the
//! next is looked for. And chunks are looked at before they are noted as about to be changed: a value that is not there
//! changes nothing.

use super::chunk::{ByOwner, Chunk, ChunkOf, Head, MOST_ENTRIES, hash_of, origin_of};
use crate::table::KeyedTable;
use millstream_model::{Data, EventTime, Key, hash_key};

/// The chunks of all keys.
pub(super) type Chunks<K, MK, V> = KeyedTable<ChunkOf<K>, Chunk<MK, V>, ByOwner>;

/// See the module's text.
pub(super) struct Spread<'t, K, MK, V> {
    pub(super) chunks: &'t mut Chunks<K, MK, V>,
    pub(super) map: &'t MapOf<'t, K, V>,
}

/// Which map it is, and when its values expire.
pub(super) struct MapOf<'k, K, V> {
    pub(super) key: &'k K,
    pub(super) hash: u64,
    /// When a value does that is changed now.
    pub(super) until: EventTime,
    /// When any does.
    pub(super) ends_at: fn(&V) -> EventTime,
}

/// Where an entry is: in which chunk, in which bucket that is, and in which bucket of it.
type Spot = (u32, usize, usize);

/// Where there is none.
struct Vacancy {
    number: u32,
    /// The chunk's bucket, if it is there.
    bucket: Option<usize>,
    is_large: bool,
    /// Entries from which on its chunk is too large.
    n_most: usize,
}

/// How sparse a map is before chunks are merged: an eighth of what they could hold. One that grows is half full or more.
const SPARSE: u64 = 8;

impl<'t, K: Key, MK: Key, V: Data> Spread<'t, K, MK, V> {
    /// The bucket of a chunk.
    #[inline]
    fn seek(&mut self, number: u32) -> Option<usize> {
        let key = self.map.key;
        self.chunks.seek(
            hash_of(self.map.hash, number),
            |of| of.number == number && of.key == *key,
            || ChunkOf { key: key.clone(), number },
        )
    }

    #[inline]
    fn at(&self, bucket: usize) -> &Chunk<MK, V> {
        self.chunks.at_bucket(bucket).expect("the bucket was found just now").1
    }

    #[inline]
    fn change(&mut self, number: u32, bucket: usize) -> &mut Chunk<MK, V> {
        let chunk = self.chunks.change(hash_of(self.map.hash, number), bucket);
        chunk.expect("the bucket was found just now")
    }

    /// What is known of the map, if it has several chunks.
    fn change_head(&mut self) -> Option<&mut Head> {
        let first = self.seek(0)?;
        self.at(first).head.as_ref()?;
        self.change(0, first).head.as_deref_mut()
    }

    /// All values are about to be changed.
    pub(super) fn renew_head(&mut self) {
        let until = self.map.until;
        if let Some(head) = self.change_head() {
            head.until = until.max(head.until);
        }
    }

    /// How many chunks it has; they are not all there.
    pub(super) fn n_chunks(&mut self) -> u32 {
        self.seek(0).map_or(0, |first| self.at(first).head.as_ref().map_or(1, |head| head.n_chunks))
    }

    /// A chunk, if it is there.
    pub(super) fn chunk(&mut self, number: u32) -> Option<&Chunk<MK, V>> {
        self.seek(number).map(|bucket| self.at(bucket))
    }

    /// The same, to be changed.
    pub(super) fn chunk_mut(&mut self, number: u32) -> Option<&mut Chunk<MK, V>> {
        self.seek(number).map(|bucket| self.change(number, bucket))
    }

    #[inline(always)]
    fn find(&mut self, hash: u64, at: &MK) -> Option<Spot> {
        let first = self.seek(0)?;
        let (number, bucket) = match self.at(first).head {
            None => (0, first),
            Some(_) => self.seek_large(first, hash)?,
        };
        let inner = self.at(bucket).entries.find(hash, |k| k == at)?;
        Some((number, bucket, inner))
    }

    /// The chunk of a hash, of a map that has several and whose values are about to be changed.
    #[inline(never)]
    fn seek_large(&mut self, first: usize, hash: u64) -> Option<(u32, usize)> {
        let head = self.at(first).head.as_ref()?;
        let (number, until) = (head.chunk_at(hash), self.map.until);
        if head.until < until
            && let Some(head) = self.change_head()
        {
            head.until = until;
        }
        let bucket = if number == 0 { Some(first) } else { self.seek(number) };
        bucket.map(|bucket| (number, bucket))
    }

    #[inline(always)]
    fn found(self, hash: u64, (number, bucket, inner): Spot) -> &'t mut V {
        let chunk = self.chunks.change(hash_of(self.map.hash, number), bucket);
        let entries = &mut chunk.expect("the bucket was found just now").entries;
        entries.change(hash, inner).expect("the bucket was found just now")
    }

    /// The value at `at`, to be changed in place.
    #[inline]
    pub(super) fn get_mut(mut self, hash: u64, at: &MK) -> Option<&'t mut V> {
        let spot = self.find(hash, at)?;
        Some(self.found(hash, spot))
    }

    /// Sets the value at `at` and gives back the one it replaces.
    #[inline]
    pub(super) fn put(mut self, hash: u64, at: MK, value: V) -> Option<V> {
        match self.find(hash, &at) {
            Some(spot) => Some(std::mem::replace(self.found(hash, spot), value)),
            None => {
                self.add(hash, at, value);
                None
            }
        }
    }

    /// The value at `at`, to be changed in place; what `make` makes if there is none.
    #[inline]
    pub(super) fn or_insert_with(
        mut self,
        hash: u64,
        at: MK,
        make: impl FnOnce() -> V,
    ) -> &'t mut V {
        let spot = match self.find(hash, &at) {
            Some(spot) => spot,
            None => self.add(hash, at, make()),
        };
        self.found(hash, spot)
    }

    /// Adds a value that is not there.
    #[inline(never)]
    fn add(&mut self, hash: u64, at: MK, value: V) -> Spot {
        let mut vacancy = self.vacancy(hash);
        if self.is_full(&vacancy) {
            self.split_if_full(hash);
            vacancy = self.vacancy(hash);
        }
        let (Vacancy { number, bucket, is_large, .. }, until) = (vacancy, self.map.until);
        if is_large && let Some(head) = self.change_head() {
            head.n_entries += 1;
            head.until = head.until.max(until);
        }
        // Where few chunks fit into memory, that has pushed out what was found.
        let bucket = if is_large && bucket.is_some() { self.seek(number) } else { bucket };
        let bucket = bucket.unwrap_or_else(|| self.add_chunk(number, KeyedTable::default()));
        let inner = self.change(number, bucket).entries.add(hash, at, value);
        (number, bucket, inner)
    }

    fn add_chunk(&mut self, number: u32, entries: KeyedTable<MK, V>) -> usize {
        let of = ChunkOf { key: self.map.key.clone(), number };
        self.chunks.add(hash_of(self.map.hash, number), of, Chunk { head: None, entries })
    }

    /// Where an entry with this hash is to go.
    fn vacancy(&mut self, hash: u64) -> Vacancy {
        let first = self.seek(0);
        match first.and_then(|first| self.at(first).head.as_ref()) {
            None => Vacancy { number: 0, bucket: first, is_large: false, n_most: MOST_ENTRIES },
            Some(head) => {
                let (number, n_most) = (head.chunk_at(hash), head.n_most as usize);
                Vacancy { number, bucket: self.seek(number), is_large: true, n_most }
            }
        }
    }

    /// Whether a chunk is as large as it should be.
    fn is_full(&self, vacancy: &Vacancy) -> bool {
        let Some(bucket) = vacancy.bucket else { return false };
        let n_entries = self.at(bucket).entries.len();
        // A small map is measured now and then while it grows, before it has many entries.
        n_entries >= vacancy.n_most || !vacancy.is_large && matches!(n_entries, 3 | 15 | 63)
    }

    /// Splits the next chunk in turn if that of this hash is too large.
    fn split_if_full(&mut self, hash: u64) {
        let (ends_at, now_until) = (self.map.ends_at, self.map.until);
        let Some(first) = self.chunk(0) else { return };
        let head = match &first.head {
            Some(head) => Head::clone(head),
            None => {
                let (n_entries, n_most) = (first.entries.len() as u64, first.n_most());
                let ends = first.entries.iter().map(|(_, value)| ends_at(value));
                let until = ends.fold(now_until, EventTime::max);
                Head { n_chunks: 1, n_entries, n_most, until }
            }
        };
        let number = if head.n_chunks == 1 { 0 } else { head.chunk_at(hash) };
        let n_entries = self.chunk(number).map_or(0, |chunk| chunk.entries.len());
        if n_entries >= head.n_most as usize && head.n_chunks < u32::MAX {
            self.split(head);
        }
    }

    fn split(&mut self, mut head: Head) {
        let added = head.n_chunks;
        let origin = origin_of(added);
        head.n_chunks += 1;
        let mut moved = KeyedTable::default();
        if let Some(bucket) = self.seek(origin) {
            // Values may be larger or smaller than those that were measured before, but one chunk is not all.
            head.n_most = (3 * head.n_most + self.at(bucket).n_most()).div_ceil(4);
            let entries = &mut self.change(origin, bucket).entries;
            moved = entries.split_off(|hash| head.chunk_at(hash) == added);
            if entries.is_empty() && origin > 0 {
                self.chunks.take(hash_of(self.map.hash, origin), bucket);
            }
        }
        if moved.is_empty() {
            self.discard(added);
        } else {
            self.add_chunk(added, moved);
        }
        if let Some(first) = self.chunk_mut(0) {
            first.head = Some(Box::new(head));
        }
    }

    fn discard(&mut self, number: u32) {
        let of = ChunkOf { key: self.map.key.clone(), number };
        self.chunks.discard(hash_of(self.map.hash, number), &of);
    }

    /// Removes the value at `at` and gives it back.
    pub(super) fn remove(&mut self, hash: u64, at: &MK) -> Option<V> {
        let (number, bucket, inner) = self.find(hash, at)?;
        let chunk = self.change(number, bucket);
        let (_, value) = chunk.entries.take(hash, inner)?;
        if number > 0 || chunk.head.is_some() {
            self.has_lost(number, 1);
        } else if chunk.entries.is_empty() {
            self.chunks.take(self.map.hash, bucket);
        }
        Some(value)
    }

    /// A chunk of a map that has several has so many entries less.
    pub(super) fn has_lost(&mut self, number: u32, n: u64) {
        if number > 0
            && let Some(bucket) = self.seek(number)
            && self.at(bucket).entries.is_empty()
        {
            self.chunks.take(hash_of(self.map.hash, number), bucket);
        }
        let Some(head) = self.change_head() else { return };
        if number >= head.n_chunks {
            // One that an earlier map of the key has left behind.
            return;
        }
        head.n_entries = head.n_entries.saturating_sub(n);
        if head.n_entries == 0 {
            return self.clear();
        }
        // More than one for each that goes, where chunks hold but a few.
        for _ in 0..SPARSE {
            if !self.merge_if_sparse() {
                break;
            }
        }
    }

    /// Merges the last chunk with its origin if there are few entries.
    fn merge_if_sparse(&mut self) -> bool {
        let Some(head) = self.chunk(0).and_then(|chunk| chunk.head.clone()) else { return false };
        if head.n_entries * SPARSE >= u64::from(head.n_chunks) * u64::from(head.n_most) {
            return false;
        }
        let last = head.n_chunks - 1;
        let taken = self.seek(last).and_then(|b| self.chunks.take(hash_of(self.map.hash, last), b));
        if let Some((_, taken)) = taken {
            let origin = origin_of(last);
            let bucket = match self.seek(origin) {
                Some(bucket) => bucket,
                None => self.add_chunk(origin, KeyedTable::default()),
            };
            let entries = &mut self.change(origin, bucket).entries;
            for (at, value) in taken.entries.into_entries() {
                // A key in a map has been hashed before.
                entries.insert(hash_key(&at).unwrap_or_default(), at, value);
            }
        }
        if let Some(first) = self.chunk_mut(0) {
            let head = Head { n_chunks: last, ..*head };
            first.head = (last > 1).then(|| Box::new(head));
        }
        true
    }

    /// Removes all entries.
    pub(super) fn clear(&mut self) {
        for number in (0..self.n_chunks()).rev() {
            self.discard(number);
        }
    }
}
