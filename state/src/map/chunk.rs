//! A chunk: what it is called, what is in it, and which of a map's values belong there.
//!
//! Within a chunk values are found by the low half of their hashes. So which chunk it is, is said by the high half, or the
//! values of a chunk would all look for the same buckets of its table.

use crate::codec;
use crate::table::{Hashing, KeyedTable};
use millstream_model::{Data, Error, EventTime, Key, Result, hash_key};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most values of a chunk: as many as fit into a table of 128 buckets.
pub(super) const MOST_ENTRIES: usize = 112;
/// About as many bytes does a chunk have at most, unless they are of one value.
pub(super) const MOST_BYTES: usize = 8 << 10;

/// A chunk's name: whose it is, and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkOf<K> {
    pub(super) key: K,
    pub(super) number: u32,
}

impl<K: Serialize> Serialize for ChunkOf<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        (&self.key, self.number).serialize(serializer)
    }
}

impl<'de, K: Deserialize<'de>> Deserialize<'de> for ChunkOf<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (key, number) = Deserialize::deserialize(deserializer)?;
        Ok(ChunkOf { key, number })
    }
}

/// Chunks hash by their keys, so that they lie where these do; chunk 0 exactly as its key.
#[derive(Debug)]
pub struct ByOwner;

impl<K: Key> Hashing<ChunkOf<K>> for ByOwner {
    fn hash(of: &ChunkOf<K>) -> Result<u64> {
        Ok(hash_of(hash_key(&of.key)?, of.number))
    }
}

/// The hash of a key's chunk.
#[inline]
pub(super) fn hash_of(hash: u64, number: u32) -> u64 {
    // An odd factor, so that no two chunks of a key have the same.
    hash ^ u64::from(number.wrapping_mul(0x9E37_79B9))
}

/// Some of a map's values, or all.
#[derive(Debug)]
pub struct Chunk<MK, V> {
    /// Only of chunk 0, and only if there are more.
    pub(super) head: Option<Box<Head>>,
    pub(super) entries: KeyedTable<MK, V>,
}

/// What is known of a map of several chunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) n_chunks: u32,
    /// Of values that expire there may be fewer.
    pub(super) n_entries: u64,
    /// Entries from which on a chunk is too large.
    pub(super) n_most: u32,
    /// When the last value expires; nothing to go by for values that do not.
    pub(super) until: EventTime,
}

impl<MK, V> Default for Chunk<MK, V> {
    fn default() -> Self {
        Chunk { head: None, entries: KeyedTable::default() }
    }
}

impl<MK: Key, V: Data> Chunk<MK, V> {
    /// Entries from which on it is too large, by what they take now.
    pub(super) fn n_most(&self) -> u32 {
        let mut bytes = Vec::new();
        // What cannot be encoded is refused when it is to be written, which may be never.
        let is_known = self.entries.iter().all(|entry| codec::encode(&entry, &mut bytes).is_ok());
        let n_bytes = if is_known { bytes.len().max(1) } else { 1 };
        (self.entries.len() * MOST_BYTES / n_bytes).clamp(1, MOST_ENTRIES) as u32
    }
}

impl Head {
    /// The chunk in which the entry with this hash is.
    #[inline]
    pub(super) fn chunk_at(&self, hash: u64) -> u32 {
        let (at, mask) = ((hash >> 32) as u32, u32::MAX >> (self.n_chunks - 1).leading_zeros());
        let number = at & mask;
        if number < self.n_chunks { number } else { number & (mask >> 1) }
    }

    /// Fails if no map has such a head.
    pub(super) fn check(&self) -> Result<()> {
        let is_chunk = (1..=MOST_ENTRIES as u32).contains(&self.n_most);
        // Far more than fit anywhere.
        if !is_chunk || !(2..1 << 31).contains(&self.n_chunks) || self.n_entries >= 1 << 56 {
            return Err(Error::external(format!("the head of a map is damaged: {self:?}")));
        }
        Ok(())
    }
}

/// The chunk from which this one was split, and into which it is merged.
pub(super) fn origin_of(number: u32) -> u32 {
    number & !(1 << number.ilog2())
}

impl<MK: Key, V: Data> Serialize for Chunk<MK, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        (&self.head, &self.entries).serialize(serializer)
    }
}

impl<'de, MK: Key, V: Data> Deserialize<'de> for Chunk<MK, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (head, entries): (Option<Box<Head>>, _) = Deserialize::deserialize(deserializer)?;
        head.iter().try_for_each(|head| head.check()).map_err(D::Error::custom)?;
        Ok(Chunk { head, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_model::key_group::key_group;

    #[test]
    fn chunks_lie_where_their_keys_do_and_spread_there() {
        let mut hashes = std::collections::HashSet::new();
        for key in 0..100u64 {
            let hash = hash_key(&key).unwrap();
            assert_eq!(hash_of(hash, 0), hash);
            for number in 0..1000 {
                let of = ChunkOf { key, number };
                assert_eq!(<ByOwner as Hashing<_>>::hash(&of).unwrap(), hash_of(hash, number));
                assert_eq!(key_group(hash_of(hash, number), 32768), key_group(hash, 32768));
                assert!(hashes.insert(hash_of(hash, number)));
            }
        }
    }

    #[test]
    fn a_split_moves_entries_from_its_origin_to_the_new_chunk_alone() {
        let head = |n_chunks| Head { n_chunks, n_entries: 0, n_most: 1, until: 0 };
        let mut n_moved = 0;
        for n_chunks in 2..300 {
            let (before, after) = (head(n_chunks), head(n_chunks + 1));
            for i in 0..2000u64 {
                let hash = hash_key(&i).unwrap();
                let (from, to) = (before.chunk_at(hash), after.chunk_at(hash));
                assert!(from < n_chunks);
                if from != to {
                    assert_eq!((from, to), (origin_of(n_chunks), n_chunks));
                    n_moved += 1;
                }
            }
        }
        // Of those of the origin half, which are one in so many.
        let expected: usize = (2..300).map(|n: u32| 1000 / n.next_power_of_two() as usize).sum();
        assert!((expected / 2..expected * 4).contains(&n_moved), "{n_moved} of {expected}");
        assert_eq!(origin_of(1), 0);
    }

    #[test]
    fn a_damaged_head_is_refused() {
        let mut chunk = Chunk::<u8, u8>::default();
        for (n_chunks, n_most, is_good) in [
            (2, 1, true),
            (0, 1, false),
            (1, 1, false),
            (u32::MAX, 1, false),
            (2, 0, false),
            (2, 113, false),
        ] {
            chunk.head = Some(Box::new(Head { n_chunks, n_entries: 0, n_most, until: 0 }));
            let mut bytes = Vec::new();
            codec::encode(&chunk, &mut bytes).unwrap();
            assert_eq!(codec::decode_all::<Chunk<u8, u8>>(&bytes).is_ok(), is_good);
        }
    }
}
