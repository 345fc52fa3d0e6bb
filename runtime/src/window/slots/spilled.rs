//! Entries of windows or slices that lie in the store because there is no room for them in memory.
//!
//! Keys are those of the part's entries: key group, beginning of the window, key. So what lies there of a window is one
//! range in every key group; which groups there are is kept for every window, and their ranges are all that is needed to
//! fire it, without bringing it back, and to drop it.

use super::Slots;
use millstream_model::{Data, EventTime, Key, Result, hash_key};
use millstream_state::dense::Entry;
use millstream_state::store::{Change, KEY_HEADER_BYTES, Space, group_of};
use millstream_state::{DenseTable, Spill, codec};
use std::collections::btree_set;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;

/// Entries that are read at a time.
const CHUNK: usize = 256;
/// What an entry takes beside itself: its place in the index, and what growing vectors leave free.
const PLACE_BYTES: usize = 16;
/// Once in so many times that there might be too little room, an entry is measured: it may be all records of a window.
const SAMPLED: usize = 16;
/// Entries that leave at a time.
const LEAVING: std::ops::RangeInclusive<usize> = 64..=2048;

/// See the module's text.
pub(super) struct Spilled<K, V> {
    spill: Spill,
    codec: Codec<K, V>,
    /// Key groups of which something may lie in the store, by where the window begins.
    groups: BTreeMap<EventTime, BTreeSet<u16>>,
    /// Where the hand stands that chooses who leaves.
    hand: usize,
    /// What an entry takes beside its place, on average, and how often that was asked for.
    entry_bytes: usize,
    n_asked: usize,
}

/// How entries are written and read. The types that this takes are known where the part is shown.
struct Codec<K, V> {
    key: fn(&Space, u64, EventTime, &K) -> Result<Vec<u8>>,
    encode: Box<dyn Fn(&V, &mut Vec<u8>) -> Result<()> + Send>,
    decode: Box<Decode<K, V>>,
}

/// Makes an entry of a key without its header and a value.
type Decode<K, V> = dyn Fn(&[u8], &[u8]) -> Result<Entry<K, V>> + Send;

impl<K: Key, V: 'static> Spilled<K, V> {
    /// Over a space that may hold something already.
    pub(super) fn new<A: Data>(
        space: Space,
        is_empty: bool,
        content: fn(&V) -> &A,
        whole: fn(A) -> V,
    ) -> Result<Self> {
        let codec = Codec {
            key: |space, hash, start, key| {
                let mut bytes = Vec::new();
                space.key(hash, &(start, key), &mut bytes).map(|()| bytes)
            },
            encode: Box::new(move |value, out| codec::encode(content(value), out)),
            decode: Box::new(move |key, value| {
                let (_, key): (EventTime, K) = codec::decode_all(key)?;
                let value = whole(codec::decode_all(value)?);
                Ok(Entry { hash: hash_key(&key)?, key, value })
            }),
        };
        let mut groups: BTreeMap<EventTime, BTreeSet<u16>> = BTreeMap::new();
        // From the first entry of a window in a group to what follows behind the window's last.
        let mut from = (!is_empty).then(|| space.begin().to_vec());
        while let Some(at) = from.take()
            && let Some(key) = space.first(&at)?
        {
            let (start, _) = codec::decode::<EventTime>(&key[KEY_HEADER_BYTES..])?;
            groups.entry(start).or_default().insert(group_of(&key));
            from = Some(space.end_of(&begin(&space, group_of(&key), start)));
        }
        Ok(Spilled { spill: Spill::new(space), codec, groups, hand: 0, entry_bytes: 0, n_asked: 0 })
    }
}

/// How the keys of a window in a key group begin.
fn begin(space: &Space, group: u16, start: EventTime) -> Vec<u8> {
    let mut begin = space.header(group).to_vec();
    // A number always encodes.
    let _ = codec::encode(&start, &mut begin);
    begin
}

impl<K, V> Spilled<K, V> {
    /// Where the windows begin of which something lies here.
    pub(super) fn starts(&self) -> impl Iterator<Item = EventTime> + '_ {
        self.groups.keys().copied()
    }

    /// Drops all of a window.
    pub(super) fn close(&mut self, start: EventTime) {
        let Some(groups) = self.groups.remove(&start) else { return };
        let space = self.spill.space().clone();
        self.spill.remove_ranges(groups.into_iter().map(|group| {
            let begin = begin(&space, group, start);
            let end = space.end_of(&begin);
            (begin, end)
        }));
    }

    pub(super) fn freeze(&mut self) {
        self.spill.freeze();
    }

    pub(super) fn write(&mut self) -> Result<()> {
        self.spill.write()
    }

    pub(super) fn thaw(&mut self) {
        self.spill.thaw();
    }

    /// Takes out the entry of a key.
    fn take(&mut self, start: EventTime, hash: u64, key: &K) -> Option<Entry<K, V>> {
        let groups = self.groups.get(&start)?;
        if !groups.contains(&self.spill.space().group(hash)) {
            return None;
        }
        // What cannot be encoded has never been put here.
        let key = (self.codec.key)(self.spill.space(), hash, start, key).ok()?;
        let value = self.spill.take(&key)?;
        let entry = (self.codec.decode)(&key[KEY_HEADER_BYTES..], &value);
        Some(entry.unwrap_or_else(|e| std::panic::resume_unwind(Box::new(e))))
    }

    fn change(&mut self, start: EventTime, entry: &Entry<K, V>) -> Result<Change> {
        let key = (self.codec.key)(self.spill.space(), entry.hash, start, &entry.key)?;
        let mut value = Vec::new();
        (self.codec.encode)(&entry.value, &mut value)?;
        self.entry_bytes = (self.entry_bytes * 7 + key.len() + value.len()).div_ceil(8);
        Ok(Change { key, value: Some(value) })
    }

    /// Learns from some entry of a table now and then how much entries take.
    fn sample(&mut self, table: &DenseTable<K, V>) {
        let is_due = self.n_asked.is_multiple_of(SAMPLED);
        self.n_asked += 1;
        if let Some(entry) = table.at(self.hand).or_else(|| table.at(0)).filter(|_| is_due) {
            // What cannot be written stays, however large it is.
            let _ = self.change(0, entry);
        }
    }

    /// Lets so many entries of a table go; whether any went.
    fn let_go(&mut self, start: EventTime, table: &mut DenseTable<K, V>, n: usize) -> bool {
        let mut leaving = Vec::new();
        let mut staying = Vec::new();
        let mut hand = self.hand;
        hand = table.take_some(hand, n, |entry| match self.change(start, &entry) {
            Ok(change) => leaving.push(change),
            // What cannot be written stays, and the next checkpoint says why.
            Err(_) => staying.push(entry),
        });
        self.hand = hand;
        for Entry { hash, key, value } in staying {
            table.append(hash, (key, value));
        }
        if leaving.is_empty() {
            return false;
        }
        let groups = self.groups.entry(start).or_default();
        groups.extend(leaving.iter().map(|change| group_of(&change.key)));
        self.spill.put(&mut leaving);
        true
    }
}

impl<K, V> Slots<K, V> {
    /// Whether some of what begins at `start` may lie in the store.
    pub(crate) fn is_spilled(&self, start: EventTime) -> bool {
        self.spilled.as_ref().is_some_and(|spilled| spilled.groups.contains_key(&start))
    }

    /// Whether something may lie in the store.
    pub(crate) fn any_spilled(&self) -> bool {
        self.spilled.as_ref().is_some_and(|spilled| !spilled.groups.is_empty())
    }

    /// The key group of a key with this hash, which matters only if something lies in the store.
    pub(crate) fn group(&self, hash: u64) -> u16 {
        self.spilled.as_ref().map_or(0, |spilled| spilled.spill.space().group(hash))
    }

    /// Key groups of which something of what begins at `start` may lie in the store.
    pub(crate) fn spilled_groups(&self, start: EventTime) -> btree_set::Iter<'_, u16> {
        static NONE: BTreeSet<u16> = BTreeSet::new();
        self.spilled.as_ref().and_then(|spilled| spilled.groups.get(&start)).unwrap_or(&NONE).iter()
    }

    /// Brings the entry of a key into its table, if it lies in the store. To be called before anything is done with a key.
    #[inline]
    pub(crate) fn fetch(
        &mut self,
        start: EventTime,
        slot: usize,
        hash: u64,
        key: impl FnOnce() -> K,
    ) where
        K: PartialEq,
    {
        if self.is_spilled(start) {
            self.fetch_spilled(start, slot, hash, &key());
        }
    }

    #[cold]
    #[inline(never)]
    fn fetch_spilled(&mut self, start: EventTime, slot: usize, hash: u64, key: &K)
    where
        K: PartialEq,
    {
        let Some(spilled) = &mut self.spilled else { return };
        let table = &mut self.tables[slot];
        if table.find(hash, |k| k == key).is_none()
            && let Some(Entry { hash, key, value }) = spilled.take(start, hash, key)
        {
            table.append(hash, (key, value));
        }
    }

    /// Lets entries go, if all of them and so many bytes besides take more than there is room for: of the largest
    /// table, because that is where most of them are.
    pub(crate) fn make_room(&mut self, more_bytes: usize) {
        while self.make_some_room(more_bytes) {}
    }

    /// The same for some of them; whether that was not enough.
    fn make_some_room(&mut self, more_bytes: usize) -> bool {
        let Some(spilled) = &mut self.spilled else { return false };
        let by_size =
            |(&start, &slot): (&EventTime, &usize)| (self.tables[slot].len(), start, slot);
        let n_entries: usize = self.by_start.iter().map(|table| by_size(table).0).sum();
        let Some((_, start, slot)) = self.by_start.iter().map(by_size).max() else {
            spilled.spill.excess(more_bytes);
            return false;
        };
        let table = &mut self.tables[slot];
        spilled.sample(table);
        let entry_bytes = size_of::<Entry<K, V>>() + PLACE_BYTES + spilled.entry_bytes;
        let excess = spilled.spill.excess(n_entries * entry_bytes + more_bytes);
        let n = (excess / entry_bytes).clamp(*LEAVING.start(), *LEAVING.end());
        excess > 0 && spilled.let_go(start, table, n)
    }
}

/// Reads what lies in the store of a window, some at a time; it stays there. Nothing may be done with the window meanwhile.
pub(crate) struct Reader<K, V> {
    start: EventTime,
    groups: Vec<u16>,
    /// Behind what was read last of the last of the groups.
    from: Option<Vec<u8>>,
    read: VecDeque<Entry<K, V>>,
}

impl<K, V> Reader<K, V> {
    /// Of what begins at `start`, in these key groups.
    pub(crate) fn new(start: EventTime, mut groups: Vec<u16>) -> Self {
        groups.reverse();
        Reader { start, groups, from: None, read: VecDeque::new() }
    }

    /// The next entry, until it is [passed](Self::pass).
    pub(crate) fn entry(&mut self, slots: &Slots<K, V>) -> Option<&Entry<K, V>> {
        while self.read.is_empty() && !self.groups.is_empty() {
            self.read_on(slots);
        }
        self.read.front()
    }

    /// Passes an entry.
    pub(crate) fn pass(&mut self) -> Option<Entry<K, V>> {
        self.read.pop_front()
    }

    fn read_on(&mut self, slots: &Slots<K, V>) {
        let (Some(&group), Some(spilled)) = (self.groups.last(), &slots.spilled) else {
            self.groups.clear();
            return;
        };
        let begin = begin(spilled.spill.space(), group, self.start);
        let end = spilled.spill.space().end_of(&begin);
        let mut last = None;
        spilled.spill.scan(self.from.as_deref().unwrap_or(&begin), &end, |key, value| {
            self.read.push_back((spilled.codec.decode)(&key[KEY_HEADER_BYTES..], value)?);
            if self.read.len() < CHUNK {
                return Ok(ControlFlow::Continue(()));
            }
            last = Some(key.to_vec());
            Ok(ControlFlow::Break(()))
        });
        // The first key behind it is one byte longer.
        self.from = last.map(|mut key| {
            key.push(0);
            key
        });
        if self.from.is_none() {
            self.groups.pop();
        }
    }
}
