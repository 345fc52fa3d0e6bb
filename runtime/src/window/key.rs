//! Keys as windows see them.
//!
//! One operator serves one stream, two joined streams and a stream without keys, so it does not hold a
//! selector but something that finds the key of a record, whatever that takes.

use super::content::OneOf;
use crate::keyed::KeySelector;
use millstream_model::{Result, hash_key};
use std::sync::Arc;

/// Finds the key of a record: a selector, or two of them for two streams.
pub trait Keyed<T, K>: Send {
    /// The record's key, owned.
    fn key(&self, value: &T) -> K;
    /// Whether the record's key is this one.
    fn is(&self, value: &T, key: &K) -> bool;
}

impl<T, K> Keyed<T, K> for Arc<dyn KeySelector<T, K>> {
    #[inline]
    fn key(&self, value: &T) -> K {
        (**self).key(value)
    }
    #[inline]
    fn is(&self, value: &T, key: &K) -> bool {
        (**self).is(value, key)
    }
}

/// The selectors of two streams with the same key.
pub struct EitherKey<L, R, K> {
    /// Of the first stream.
    pub left: Arc<dyn KeySelector<L, K>>,
    /// Of the second stream.
    pub right: Arc<dyn KeySelector<R, K>>,
}

impl<L, R, K> Keyed<OneOf<L, R>, K> for EitherKey<L, R, K> {
    #[inline]
    fn key(&self, value: &OneOf<L, R>) -> K {
        match value {
            OneOf::Left(left) => self.left.key(left),
            OneOf::Right(right) => self.right.key(right),
        }
    }
    #[inline]
    fn is(&self, value: &OneOf<L, R>, key: &K) -> bool {
        match value {
            OneOf::Left(left) => self.left.is(left, key),
            OneOf::Right(right) => self.right.is(right, key),
        }
    }
}

/// The only key of a stream that has none: what `window_all` is keyed by.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneKey;

impl<T> KeySelector<T, ()> for OneKey {
    fn hash_all(&self, values: &[T], hashes: &mut Vec<u64>) -> Result<()> {
        let hash = hash_key(&())?;
        hashes.extend(values.iter().map(|_| hash));
        Ok(())
    }
    fn key(&self, _: &T) {}
    fn is(&self, _: &T, (): &()) -> bool {
        true
    }
}
