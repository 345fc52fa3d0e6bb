//! What a chunk looks like: the head of its map, if it has that, and a list of pairs.
//!
//! A map that was written before there were chunks was one list of pairs under its key; that is read, too, and so is what
//! was written by a state that expired of one that does not any more, or the other way round.

use super::chunk::{Chunk, Head};
use crate::codec;
use crate::layout::{Layout, Mapped, ReadContent, all_items, other_kind, read_items};
use crate::schema::{Compatibility, Schema, Shape, compatible};
use crate::table::Left;
use crate::ttl::{Lifetime, as_timed};
use millstream_model::{Data, EventTime, Key, Result, hash_key};

/// What is around the pairs: the shape of the head, if there is one, and that of a pair's halves.
type Parts<'s> = (Option<&'s Shape>, &'s Shape, &'s Shape);

fn parts(written: &Shape) -> Option<Parts<'_>> {
    let (head, list) = match written {
        Shape::Tuple(parts) => match parts.as_slice() {
            [head, list] => (Some(head), list),
            _ => return None,
        },
        list => (None, list),
    };
    match list {
        Shape::List(item) => item.as_pair().map(|(key, value)| (head, key, value)),
        _ => None,
    }
}

impl<MK: Key, MV: Data, L: Lifetime> Mapped<MK, MV, L> {
    /// Whether it was written as a whole, and not in chunks.
    pub(super) fn is_whole(written: &Shape) -> bool {
        matches!(written, Shape::List(_))
    }

    /// Whether each chunk holds, when it is read, what the head of its map says of it: all of it, and nothing that belongs
    /// elsewhere. A key that is written otherwise now has another hash, and that says which chunk it is.
    pub(super) fn is_as_counted(written: &Shape) -> Result<bool> {
        let Some((Some(_), key, value)) = parts(written) else { return Ok(false) };
        let is_same_key = compatible(key, &Shape::of::<MK>()?) == Compatibility::Same;
        Ok(is_same_key && as_timed(value).is_some() == L::ENDS)
    }
}

impl<MK: Key, MV: Data, L: Lifetime> Layout for Mapped<MK, MV, L> {
    type Content = Chunk<MK, L::Held<MV>>;
    type Lifetime = L;

    fn lifetime(&self) -> L {
        self.0.lifetime()
    }

    fn shape(&self) -> Result<Shape> {
        let pair = Shape::pair(Shape::of::<MK>()?, self.0.shape()?);
        Ok(Shape::pair(Shape::of::<Option<Head>>()?, Shape::List(Box::new(pair))))
    }

    fn version(&self) -> u32 {
        self.0.version()
    }

    fn reader<'w>(
        &'w self,
        written: &'w Shape,
        version: u32,
        now: EventTime,
    ) -> Result<ReadContent<'w, Self::Content>> {
        let Some((head, key, value)) = parts(written) else {
            return Err(other_kind("a map", written));
        };
        let heads = match head {
            Some(shape) => Some(Schema::<Option<Head>>::recorded().reader(shape, 0)?),
            None => None,
        };
        let keys = Schema::<MK>::recorded().reader(key, 0)?;
        let values = self.0.reader(value, version, now)?;
        Ok(Box::new(move |bytes| {
            let (head, head_bytes) = match &heads {
                Some(heads) => heads.read(bytes)?,
                None => (None, 0),
            };
            head.iter().try_for_each(Head::check)?;
            let mut chunk = Chunk { head: head.map(Box::new), ..Chunk::default() };
            let n_bytes = read_items(&bytes[head_bytes..], |bytes| {
                let (key, key_bytes) = keys.read(bytes)?;
                let (value, value_bytes) = values.read(&bytes[key_bytes..])?;
                if let Some(value) = value {
                    chunk.entries.insert(hash_key(&key)?, key, value);
                }
                Ok(key_bytes + value_bytes)
            })?;
            Ok(((!is_over::<L, _, _>(&chunk, now)).then_some(chunk), head_bytes + n_bytes))
        }))
    }

    fn n_places(chunk: &Self::Content) -> usize {
        chunk.entries.n_buckets()
    }

    fn is_stale(chunk: &Self::Content, places: std::ops::Range<usize>, now: EventTime) -> bool {
        is_over::<L, _, _>(chunk, now)
            || chunk.entries.in_buckets(places).any(|(_, held)| L::is_over(held, now))
    }

    fn is_over(bytes: &[u8], now: EventTime) -> bool {
        let Ok((head, n_bytes)) = codec::decode::<Option<Head>>(bytes) else { return false };
        head.is_none_or(|head| head.until <= now)
            && all_items(&bytes[n_bytes..], |(_, held): &(MK, L::Held<MV>)| L::is_over(held, now))
    }

    fn trim(
        chunk: &mut Self::Content,
        places: std::ops::Range<usize>,
        now: EventTime,
    ) -> (usize, Left) {
        let over: Vec<MK> = chunk
            .entries
            .in_buckets(places)
            .filter(|(_, held)| L::is_over(held, now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &over {
            // A key in a map has been hashed before.
            chunk.entries.remove(hash_key(key).unwrap_or_default(), |k| k == key);
        }
        let is_over = is_over::<L, _, _>(chunk, now);
        (over.len(), if is_over { Left::Nothing } else { Left::Something })
    }
}

/// Whether a chunk that has no entry has nothing else either that counts.
fn is_over<L: Lifetime, MK: Key, V: Data>(chunk: &Chunk<MK, V>, now: EventTime) -> bool {
    let is_head = chunk.head.as_ref().is_some_and(|head| !L::ENDS || head.until > now);
    chunk.entries.is_empty() && !is_head
}
