//! The table behind a descriptor, together with what the descriptor says of its bytes.

use crate::codec;
use crate::layout::Layout;
use crate::part::{Entries, Part, Written};
use crate::schema::Shape;
use crate::snapshot::PartKind;
use crate::store::Space;
use crate::table::KeyedTable;
use millstream_model::{Key, Result, hash_key};
use std::any::Any;

/// A table of whatever type.
pub trait AnyTable: Any + Send + Part {
    /// See [`KeyedTable::warm`].
    fn warm(&self, hashes: &[u64]);
}

/// See the module's text.
pub struct DescribedTable<K, L: Layout> {
    pub(crate) table: KeyedTable<K, L::Content>,
    layout: L,
}

impl<K: Key, L: Layout> DescribedTable<K, L> {
    /// An empty one.
    pub fn new(layout: L) -> Self {
        DescribedTable { table: KeyedTable::default(), layout }
    }
}

impl<K: Key, L: Layout> AnyTable for DescribedTable<K, L> {
    fn warm(&self, hashes: &[u64]) {
        self.table.warm(hashes);
    }
}

impl<K: Key, L: Layout> Part for DescribedTable<K, L> {
    fn kind(&self) -> PartKind {
        PartKind::Keyed
    }

    fn shape(&self) -> Result<Shape> {
        Ok(Shape::pair(Shape::of::<K>()?, self.layout.shape()?))
    }

    fn version(&self) -> u32 {
        self.layout.version()
    }

    fn freeze(&mut self) {
        let layout = self.layout;
        self.table.freeze_as(Box::new(move || Ok(Shape::pair(Shape::of::<K>()?, layout.shape()?))));
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

    fn attach(&mut self, space: Space, is_empty: bool) {
        self.table.attach(space, is_empty);
    }

    fn restore(&mut self, entries: &Entries<'_>) -> Result<()> {
        entries.check_key::<K>(0)?;
        let read = self.layout.reader(entries.shape_at(1)?, entries.version)?;
        entries.walk(|_, bytes| {
            let (key, key_bytes) = codec::decode::<K>(bytes)?;
            let (content, content_bytes) = read(&bytes[key_bytes..])?;
            let hash = hash_key(&key)?;
            if entries.assignment.owns(hash) {
                self.table.insert(hash, key, content);
            }
            Ok(key_bytes + content_bytes)
        })
    }
}
