//! Layouts: what a state holds under one key, and how its bytes are described and read.
//!
//! A schema speaks of the type that the program knows: the value, the element of a list, the value of a map.
//! What stands around it is the same for all types, so it is described here, once, and what a schema can read
//! (old versions, old shapes) can be read inside of lists and maps too.

use crate::codec;
use crate::schema::{Schema, Shape};
use crate::table::KeyedTable;
use millstream_model::{Data, Error, Key, Result, hash_key};
use std::marker::PhantomData;

/// Reads what a key holds from the beginning of some bytes; also how many bytes it took.
pub type ReadContent<'w, C> = Box<dyn Fn(&[u8]) -> Result<(C, usize)> + 'w>;

/// See the module's text.
pub trait Layout: Copy + Send + Sync + 'static {
    /// What a key holds.
    type Content: Data;

    /// Its shape.
    ///
    /// # Errors
    /// If the schema's type cannot be recorded.
    fn shape(&self) -> Result<Shape>;

    /// What the program calls this version of the schema's type.
    fn version(&self) -> u32;

    /// How it is read if it was written in this shape and version.
    ///
    /// # Errors
    /// If it cannot be.
    fn reader<'w>(
        &'w self,
        written: &'w Shape,
        version: u32,
    ) -> Result<ReadContent<'w, Self::Content>>;
}

/// A value.
pub struct Single<V>(Schema<V>);

/// A list of values.
pub struct Listed<V>(Schema<V>);

/// A map to values.
pub struct Mapped<MK, MV>(Schema<MV>, PhantomData<fn() -> MK>);

impl<V> Single<V> {
    /// The layout of a value with this schema.
    pub fn new(schema: Schema<V>) -> Self {
        Single(schema)
    }
}

impl<V> Listed<V> {
    /// The layout of a list whose elements have this schema.
    pub fn new(schema: Schema<V>) -> Self {
        Listed(schema)
    }
}

impl<MK, MV> Mapped<MK, MV> {
    /// The layout of a map whose values have this schema.
    pub fn new(schema: Schema<MV>) -> Self {
        Mapped(schema, PhantomData)
    }
}

macro_rules! copy {
    ($($layout:ident<$($p:ident),+>)*) => {
        $(impl<$($p),+> Clone for $layout<$($p),+> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($p),+> Copy for $layout<$($p),+> {})*
    };
}

copy!(Single<V> Listed<V> Mapped<MK, MV>);

impl<V: Data> Layout for Single<V> {
    type Content = V;

    fn shape(&self) -> Result<Shape> {
        self.0.shape()
    }

    fn version(&self) -> u32 {
        self.0.version_number()
    }

    fn reader<'w>(&'w self, written: &'w Shape, version: u32) -> Result<ReadContent<'w, V>> {
        let reader = self.0.reader(written, version)?;
        Ok(Box::new(move |bytes| reader.read(bytes)))
    }
}

impl<V: Data> Layout for Listed<V> {
    type Content = Vec<V>;

    fn shape(&self) -> Result<Shape> {
        Ok(Shape::List(Box::new(self.0.shape()?)))
    }

    fn version(&self) -> u32 {
        self.0.version_number()
    }

    fn reader<'w>(&'w self, written: &'w Shape, version: u32) -> Result<ReadContent<'w, Vec<V>>> {
        let Shape::List(item) = written else { return Err(other_kind("a list", written)) };
        let reader = self.0.reader(item, version)?;
        Ok(Box::new(move |bytes| {
            let mut list = Vec::new();
            let taken = read_items(bytes, |bytes| {
                let (item, taken) = reader.read(bytes)?;
                list.push(item);
                Ok(taken)
            })?;
            Ok((list, taken))
        }))
    }
}

impl<MK: Key, MV: Data> Layout for Mapped<MK, MV> {
    type Content = KeyedTable<MK, MV>;

    fn shape(&self) -> Result<Shape> {
        Ok(Shape::List(Box::new(Shape::pair(Shape::of::<MK>()?, self.0.shape()?))))
    }

    fn version(&self) -> u32 {
        self.0.version_number()
    }

    fn reader<'w>(
        &'w self,
        written: &'w Shape,
        version: u32,
    ) -> Result<ReadContent<'w, Self::Content>> {
        let pair = match written {
            Shape::List(item) => item.as_pair(),
            _ => None,
        };
        let Some((key, value)) = pair else { return Err(other_kind("a map", written)) };
        let keys = Schema::<MK>::recorded().reader(key, 0)?;
        let values = self.0.reader(value, version)?;
        Ok(Box::new(move |bytes| {
            let mut map = KeyedTable::default();
            let taken = read_items(bytes, |bytes| {
                let (key, key_bytes) = keys.read(bytes)?;
                let (value, value_bytes) = values.read(&bytes[key_bytes..])?;
                map.insert(hash_key(&key)?, key, value);
                Ok(key_bytes + value_bytes)
            })?;
            Ok((map, taken))
        }))
    }
}

/// Goes through the items of a list: `read` is given the bytes from each on, and says how many it takes.
fn read_items(bytes: &[u8], mut read: impl FnMut(&[u8]) -> Result<usize>) -> Result<usize> {
    let (n_items, mut taken) = codec::decode::<u64>(bytes)?;
    for _ in 0..n_items {
        taken += read(&bytes[taken..])?;
    }
    Ok(taken)
}

fn other_kind(now: &str, written: &Shape) -> Error {
    Error::user(format!(
        "the state was another kind of state and is {now} now: give it another name. Written:\n{written}"
    ))
}
