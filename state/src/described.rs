//! The table behind a descriptor, together with what the descriptor says of its bytes.

use crate::codec;
use crate::layout::Layout;
use crate::part::{Entries, IsExpired, Part, Written};
use crate::schema::Shape;
use crate::snapshot::PartKind;
use crate::store::Space;
use crate::table::{ByKey, Hashing, KeyedTable, Left};
use crate::ttl::{Clock, Lifetime};
use millstream_model::{EventTime, Key, Result, SnapshotKind};
use std::any::Any;
use std::sync::Arc;

/// A table of whatever type.
pub trait AnyTable: Any + Send + Part {
    /// See [`KeyedTable::warm`].
    fn warm(&self, hashes: &[u64]);
}

/// A table of a keyed state, for keys of type `K`.
pub trait StateTable<K>: AnyTable {
    /// Sees to it that what a key has is in memory; of a map, the first of it.
    fn fetch(&mut self, hash: u64, key: &K);

    /// Copies of all keys that have something, wherever it lies, in no particular but a repeatable order.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn keys(&self) -> Result<Vec<K>>;
}

/// See the module's text.
pub struct DescribedTable<K, L: Layout, H = ByKey> {
    pub(crate) table: KeyedTable<K, L::Content, H>,
    pub(crate) layout: L,
    clock: Clock,
    hand: Hand,
}

/// Where the search for what has expired stands: at a bucket, and at a place in what that holds.
#[derive(Default)]
struct Hand {
    bucket: usize,
    place: usize,
}

/// Buckets looked at with every access to a state that expires: with more than one, the search comes round
/// before as many entries as there are have been added.
const N_BUCKETS_SEARCHED: usize = 4;
/// Places looked at in what one key holds, at most, with every access.
const N_PLACES_SEARCHED: usize = 64;

impl<K: Key, L: Layout, H: Hashing<K>> DescribedTable<K, L, H> {
    /// An empty one.
    pub fn new(layout: L, clock: Clock) -> Self {
        DescribedTable { table: KeyedTable::default(), layout, clock, hand: Hand::default() }
    }

    /// Processing time.
    pub(crate) fn now(&self) -> EventTime {
        (self.clock)()
    }

    /// Whether and when values expire.
    pub(crate) fn lifetime(&self) -> L::Lifetime {
        self.layout.lifetime()
    }

    /// Looks for what has expired in a few places, and removes it: so many elements under a key are shown.
    pub(crate) fn search_expired(&mut self, now: EventTime, mut trimmed: impl FnMut(&K, usize)) {
        for _ in 0..N_BUCKETS_SEARCHED {
            if self.hand.bucket >= self.table.n_buckets() {
                self.hand = Hand::default();
            }
            let Some((key, content)) = self.table.at_bucket(self.hand.bucket) else {
                self.hand = Hand { bucket: self.hand.bucket + 1, place: 0 };
                continue;
            };
            let places = self.hand.place..self.hand.place + N_PLACES_SEARCHED;
            let is_last = places.end >= L::n_places(content);
            if L::is_stale(content, places.clone(), now) {
                let (key, hash) = (key.clone(), H::hash(key).unwrap_or_default());
                // By the ways that snapshots and stores learn of.
                if let Some(content) = self.table.get_mut(hash, |k| *k == key) {
                    let (n_trimmed, left) = L::trim(content, places.clone(), now);
                    if left == Left::Nothing {
                        self.table.remove(hash, |k| *k == key);
                    }
                    trimmed(&key, n_trimmed);
                }
            }
            if !is_last {
                self.hand.place = places.end;
                return;
            }
            self.hand = Hand { bucket: self.hand.bucket + 1, place: 0 };
        }
    }
}

impl<K: Key, L: Layout, H: Hashing<K>> AnyTable for DescribedTable<K, L, H> {
    fn warm(&self, hashes: &[u64]) {
        self.table.warm(hashes);
    }
}

impl<K: Key, L: Layout> StateTable<K> for DescribedTable<K, L> {
    #[inline]
    fn fetch(&mut self, hash: u64, key: &K) {
        self.table.fetch(hash, key);
    }

    fn keys(&self) -> Result<Vec<K>> {
        self.table.keys()
    }
}

impl<K: Key, L: Layout, H: Hashing<K>> Part for DescribedTable<K, L, H> {
    fn kind(&self) -> PartKind {
        PartKind::Keyed
    }

    fn shape(&self) -> Result<Shape> {
        Ok(Shape::pair(Shape::of::<K>()?, self.layout.shape()?))
    }

    fn version(&self) -> u32 {
        self.layout.version()
    }

    fn freeze(&mut self, kind: SnapshotKind) {
        let layout = self.layout;
        let shape = move || Ok(Shape::pair(Shape::of::<K>()?, layout.shape()?));
        self.table.freeze_as(kind, Box::new(shape));
    }

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        self.table.write(out, budget)
    }

    fn thaw(&mut self) {
        self.table.thaw();
    }

    fn can_attach(&self) -> bool {
        self.table.can_attach()
    }

    fn attach(&mut self, space: Space, is_empty: bool) -> Result<()> {
        self.table.attach(space, is_empty)
    }

    fn expiry(&self) -> Option<IsExpired> {
        if !L::Lifetime::ENDS {
            return None;
        }
        let clock = Arc::clone(&self.clock);
        Some(Arc::new(move |bytes| L::is_over(bytes, clock())))
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        entries.check_key::<K>(0)?;
        let now = self.now();
        let read = self.layout.reader(entries.shape_at(1)?, entries.version, now)?;
        entries.walk(|_, bytes| {
            let (key, key_bytes) = codec::decode::<K>(bytes)?;
            let (content, content_bytes) = read(&bytes[key_bytes..])?;
            let hash = H::hash(&key)?;
            if entries.assignment.owns(hash) {
                match content {
                    Some(content) => drop(self.table.insert(hash, key, content)),
                    // All of it has expired, and a store may have what it was before.
                    None => self.table.delete_stored(hash, &key),
                }
            }
            Ok(key_bytes + content_bytes)
        })
    }
}
