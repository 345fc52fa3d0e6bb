//! Layouts: what a state holds under one key, and how its bytes are described and read.
//!
//! A schema speaks of the type that the program knows: the value, the element of a list, the value of a map.
//! What stands around it is the same for all types, so it is described here, once: the collection, and the
//! time at which an element expires. What a schema can read (old versions, old shapes) can be read inside of
//! all of them, and a state may begin or cease to expire as its type may change.

use crate::codec;
use crate::schema::{MAX_EMPTY, Reader, Schema, Shape};
use crate::table::Left;
use crate::ttl::{Forever, Lifetime, Ttl, as_timed, is_over_in};
use millstream_model::{Data, Error, EventTime, Result};
use std::marker::PhantomData;

/// Reads what a key holds from the beginning of some bytes (`None`: all of it has expired); also how many bytes
/// it took.
pub type ReadContent<'w, C> = Box<dyn Fn(&[u8]) -> Result<(Option<C>, usize)> + 'w>;

/// See the module's text.
pub trait Layout: Copy + Send + Sync + 'static {
    /// What a key holds.
    type Content: Data;
    /// Whether and when it expires.
    type Lifetime: Lifetime;

    /// Whether and when it expires.
    fn lifetime(&self) -> Self::Lifetime;

    /// Its shape.
    ///
    /// # Errors
    /// If the schema's type cannot be recorded.
    fn shape(&self) -> Result<Shape>;

    /// What the program calls this version of the schema's type.
    fn version(&self) -> u32;

    /// How it is read at this processing time, if it was written in this shape and version.
    ///
    /// # Errors
    /// If it cannot be.
    fn reader<'w>(
        &'w self,
        written: &'w Shape,
        version: u32,
        now: EventTime,
    ) -> Result<ReadContent<'w, Self::Content>>;

    /// Number of places that are looked at to find what has expired.
    fn n_places(content: &Self::Content) -> usize;

    /// Whether something has expired in these places.
    fn is_stale(content: &Self::Content, places: std::ops::Range<usize>, now: EventTime) -> bool;

    /// Whether all of it has expired, by the bytes of what this very layout holds. Only asked of what expires.
    fn is_over(bytes: &[u8], now: EventTime) -> bool;

    /// Removes what has expired in these places: how many elements, and whether something is left at all.
    fn trim(
        content: &mut Self::Content,
        places: std::ops::Range<usize>,
        now: EventTime,
    ) -> (usize, Left);
}

/// Elements: what a schema describes, in a lifetime.
pub struct Elements<V, L> {
    schema: Schema<V>,
    lifetime: L,
}

/// A value.
pub struct Single<V, L = Forever>(Elements<V, L>);

/// A list of values.
pub struct Listed<V, L = Forever>(Elements<V, L>);

/// A chunk of a map to values; see [`map`](crate::map).
pub struct Mapped<MK, MV, L = Forever>(pub(crate) Elements<MV, L>, PhantomData<fn() -> MK>);

impl<V, L: Copy> Clone for Elements<V, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V, L: Copy> Copy for Elements<V, L> {}

macro_rules! layout {
    ($($layout:ident<$($p:ident),+> of $element:ident $(, $more:expr)?;)*) => {$(
        impl<$($p),+> $layout<$($p),+, Forever> {
            /// The layout of what lives forever, with this schema.
            pub fn new(schema: Schema<$element>) -> Self {
                $layout(Elements { schema, lifetime: Forever } $(, $more)?)
            }

            /// The same for what expires.
            pub(crate) fn expiring(self, ttl: Ttl) -> $layout<$($p),+, Ttl> {
                $layout(Elements { schema: self.0.schema, lifetime: ttl } $(, $more)?)
            }
        }

        impl<$($p),+, L: Copy> Clone for $layout<$($p),+, L> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($p),+, L: Copy> Copy for $layout<$($p),+, L> {}
    )*};
}

layout! {
    Single<V> of V;
    Listed<V> of V;
    Mapped<MK, MV> of MV, PhantomData;
}

impl<V: Data, L: Lifetime> Elements<V, L> {
    pub(crate) fn lifetime(&self) -> L {
        self.lifetime
    }

    pub(crate) fn version(&self) -> u32 {
        self.schema.version_number()
    }

    /// The shape of one.
    pub(crate) fn shape(&self) -> Result<Shape> {
        Ok(L::shape(self.schema.shape()?))
    }

    /// How one is read.
    pub(crate) fn reader<'w>(
        &'w self,
        written: &'w Shape,
        version: u32,
        now: EventTime,
    ) -> Result<ElementReader<'w, V, L>> {
        let timed = as_timed(written);
        let reader = self.schema.reader(timed.unwrap_or(written), version)?;
        Ok(ElementReader { is_timed: timed.is_some(), reader, lifetime: self.lifetime, now })
    }
}

/// Reads elements, which expired when they were written, or did not.
pub(crate) struct ElementReader<'w, V, L> {
    is_timed: bool,
    reader: Reader<'w, V>,
    lifetime: L,
    now: EventTime,
}

impl<V: Data, L: Lifetime> ElementReader<'_, V, L> {
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<(Option<L::Held<V>>, usize)> {
        let (expires_at, time_bytes) = if self.is_timed {
            let (at, taken) = codec::decode(bytes)?;
            (Some(at), taken)
        } else {
            (None, 0)
        };
        let (value, value_bytes) = self.reader.read(&bytes[time_bytes..])?;
        Ok((self.lifetime.hold(value, expires_at, self.now), time_bytes + value_bytes))
    }
}

macro_rules! of_elements {
    () => {
        type Lifetime = L;

        fn lifetime(&self) -> L {
            self.0.lifetime
        }

        fn version(&self) -> u32 {
            self.0.schema.version_number()
        }
    };
}

impl<V: Data, L: Lifetime> Layout for Single<V, L> {
    type Content = L::Held<V>;
    of_elements!();

    fn shape(&self) -> Result<Shape> {
        self.0.shape()
    }

    fn reader<'w>(
        &'w self,
        written: &'w Shape,
        version: u32,
        now: EventTime,
    ) -> Result<ReadContent<'w, Self::Content>> {
        let reader = self.0.reader(written, version, now)?;
        Ok(Box::new(move |bytes| reader.read(bytes)))
    }

    fn n_places(_: &Self::Content) -> usize {
        1
    }

    fn is_stale(held: &Self::Content, _: std::ops::Range<usize>, now: EventTime) -> bool {
        L::is_over(held, now)
    }

    fn is_over(bytes: &[u8], now: EventTime) -> bool {
        is_over_in(bytes, now)
    }

    fn trim(held: &mut Self::Content, _: std::ops::Range<usize>, now: EventTime) -> (usize, Left) {
        if L::is_over(held, now) { (1, Left::Nothing) } else { (0, Left::Something) }
    }
}

impl<V: Data, L: Lifetime> Layout for Listed<V, L> {
    type Content = Vec<L::Held<V>>;
    of_elements!();

    fn shape(&self) -> Result<Shape> {
        Ok(Shape::List(Box::new(self.0.shape()?)))
    }

    fn reader<'w>(
        &'w self,
        written: &'w Shape,
        version: u32,
        now: EventTime,
    ) -> Result<ReadContent<'w, Self::Content>> {
        let Shape::List(item) = written else { return Err(other_kind("a list", written)) };
        let reader = self.0.reader(item, version, now)?;
        Ok(Box::new(move |bytes| {
            let mut list = Vec::new();
            let taken = read_items(bytes, |bytes| {
                let (item, taken) = reader.read(bytes)?;
                list.extend(item);
                Ok(taken)
            })?;
            Ok(((!list.is_empty()).then_some(list), taken))
        }))
    }

    /// Elements are appended, so the oldest stand first.
    fn n_places(_: &Self::Content) -> usize {
        1
    }

    fn is_stale(list: &Self::Content, _: std::ops::Range<usize>, now: EventTime) -> bool {
        list.first().is_none_or(|held| L::is_over(held, now))
    }

    fn is_over(bytes: &[u8], now: EventTime) -> bool {
        all_items(bytes, |held: &L::Held<V>| L::is_over(held, now))
    }

    fn trim(list: &mut Self::Content, _: std::ops::Range<usize>, now: EventTime) -> (usize, Left) {
        let n_before = list.len();
        list.retain(|held| !L::is_over(held, now));
        let left = if list.is_empty() { Left::Nothing } else { Left::Something };
        (n_before - list.len(), left)
    }
}

/// Goes through the items of a list: `read` is given the bytes from each on, and says how many it takes.
pub(crate) fn read_items(
    bytes: &[u8],
    mut read: impl FnMut(&[u8]) -> Result<usize>,
) -> Result<usize> {
    let (n_items, mut taken) = codec::decode::<u64>(bytes)?;
    for number in 0..n_items {
        let n_bytes = read(&bytes[taken..])?;
        if n_bytes == 0 && number >= MAX_EMPTY {
            return Err(Error::external(format!(
                "stored bytes are damaged: a length says {n_items}"
            )));
        }
        taken += n_bytes;
    }
    Ok(taken)
}

/// Whether all items of a list are such.
pub(crate) fn all_items<T: Data>(bytes: &[u8], is: impl Fn(&T) -> bool) -> bool {
    let Ok((n_items, mut taken)) = codec::decode::<u64>(bytes) else { return false };
    for _ in 0..n_items {
        match codec::decode::<T>(&bytes[taken..]) {
            Ok((item, n_bytes)) if is(&item) => taken += n_bytes,
            _ => return false,
        }
    }
    true
}

pub(crate) fn other_kind(now: &str, written: &Shape) -> Error {
    Error::user(format!(
        "the state was another kind of state and is {now} now: give it another name. Written:\n{written}"
    ))
}
