//! A table as a part of an operator's state: its freeze, its writing, and its way back.

use super::aside::Aside;
use super::{Hashing, KeyedTable};
use crate::cache::Cache;
use crate::log::{EntryShape, Log};
use crate::pages::Pages;
use crate::part::{Entries, Part, Written};
use crate::schema::Shape;
use crate::snapshot::PartKind;
use crate::store::{Change, Space};
use crate::undo::Undo;
use hashbrown::HashTable;
use millstream_model::{Data, Key, Result, SnapshotKind, hash_key};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

impl<K: Key, V: Data, H: Hashing<K>> KeyedTable<K, V, H> {
    /// Writes what is due of a checkpoint, where it is to go; whether that is all.
    fn write_due(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        let Some(Aside { cache: Some(cache), .. }) = self.aside.as_deref_mut() else {
            return Ok(true);
        };
        if !cache.is_freezing {
            return Ok(true);
        }
        let first = cache.cursor;
        let written = Self::write_slice(&self.table, cache, out, budget);
        if written.is_err() {
            // The checkpoint is lost, and what could not be written is as unwritten as it was.
            cache.rewind(first);
        }
        written
    }

    fn write_slice(
        table: &HashTable<(K, V), Pages>,
        cache: &mut Cache<K, V>,
        out: &mut Written,
        budget: usize,
    ) -> Result<bool> {
        let mut changes = cache.take_due(out)?;
        let mut n_bytes = out.bytes.len() + changes.iter().map(Change::n_bytes).sum::<usize>();
        while n_bytes < budget
            && let Some(bucket) = cache.due.next(cache.cursor)
        {
            cache.cursor = bucket + 1;
            cache.due.clear(bucket);
            let Some((key, value)) = table.get_bucket(bucket) else { continue };
            match &mut cache.file {
                Some(file) => {
                    file.push(&(key, value));
                    if file.has_failed() {
                        break;
                    }
                    cache.stale.set(bucket);
                    n_bytes = out.bytes.len() + file.len();
                }
                None => {
                    let change = cache.change(H::hash(key)?, key, value)?;
                    n_bytes += change.n_bytes();
                    changes.push(change);
                }
            }
        }
        if !changes.is_empty() {
            cache.space().clone().write(&mut changes)?;
        }
        if let Some(file) = &mut cache.file {
            file.hand_over(out)?;
        }
        cache.has_deleted_due();
        let is_done = cache.due.next(cache.cursor).is_none();
        if is_done {
            cache.is_freezing = false;
            cache.file = None;
        }
        Ok(is_done)
    }

    /// Fixes what the next snapshot, of this kind, holds: entries of this shape.
    pub(crate) fn freeze_as(&mut self, kind: SnapshotKind, shape: EntryShape) {
        let n_buckets = self.table.num_buckets();
        let aside = self.aside.get_or_insert_with(|| Box::new(Aside { undo: None, cache: None }));
        match &mut aside.cache {
            Some(cache) => cache.freeze(n_buckets, kind, shape),
            None => {
                let encode = |key: &K, value: &V, log: &mut Log| log.push(&(key, value));
                aside.undo = Some(Undo::new(n_buckets, Log::new(shape), Box::new(encode)));
            }
        }
    }

    /// Takes all stored entries of keys for which `owns` holds.
    pub(crate) fn restore_if(
        &mut self,
        entries: &Entries<'_>,
        owns: impl Fn(u64) -> bool,
    ) -> Result<()> {
        entries.check_key::<K>(0)?;
        entries.each(|_, (key, value): (K, V)| {
            let hash = H::hash(&key)?;
            if owns(hash) {
                self.insert(hash, key, value);
            }
            Ok(())
        })
    }
}

impl<K: Key, V: Data, H: Hashing<K>> Part for KeyedTable<K, V, H> {
    fn kind(&self) -> PartKind {
        PartKind::Keyed
    }

    fn shape(&self) -> Result<Shape> {
        Shape::of::<(K, V)>()
    }

    fn freeze(&mut self, kind: SnapshotKind) {
        self.freeze_as(kind, Box::new(Shape::of::<(K, V)>));
    }

    fn write(&mut self, out: &mut Written, budget: usize) -> Result<bool> {
        let Some(aside) = self.aside.as_deref_mut() else { return Ok(true) };
        if aside.cache.is_some() {
            return self.write_due(out, budget);
        }
        let Some(undo) = &mut aside.undo else { return Ok(true) };
        let table = &self.table;
        let done = undo.write(out, budget, table.num_buckets(), |bucket| {
            table.get_bucket(bucket).map(|e| (&e.0, &e.1))
        })?;
        if done {
            self.aside = None;
        }
        Ok(done)
    }

    fn thaw(&mut self) {
        match self.aside.as_deref_mut() {
            Some(Aside { cache: Some(cache), .. }) => cache.thaw(),
            _ => self.aside = None,
        }
    }

    fn can_attach(&self) -> bool {
        true
    }

    fn attach(&mut self, space: Space, is_empty: bool) -> Result<()> {
        let cache = Cache::new(space, self.table.num_buckets(), is_empty);
        self.aside = Some(Box::new(Aside { undo: None, cache: Some(cache) }));
        Ok(())
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        self.restore_if(entries, |hash| entries.assignment.owns(hash))
    }
}

/// As a value, the map of one key: a list of pairs.
impl<K: Key, V: Data> Serialize for KeyedTable<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.table.iter())
    }
}

impl<'de, K: Key, V: Data> Deserialize<'de> for KeyedTable<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut table = KeyedTable::default();
        for (key, value) in Vec::<(K, V)>::deserialize(deserializer)? {
            let hash = hash_key(&key).map_err(serde::de::Error::custom)?;
            table.insert(hash, key, value);
        }
        Ok(table)
    }
}
