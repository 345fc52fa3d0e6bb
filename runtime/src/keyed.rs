//! Keys as operators see them: extracted where they are needed, never stored beside the record.

use millstream_model::{Key, Result, hash_key};
use serde::Serialize;
use std::borrow::Borrow;
use std::marker::PhantomData;

/// Finds the key of a record. Behind `key_by` and `key_by_ref`.
///
/// Operators hold it as a trait object, so their types stay readable; what runs per record in a loop
/// (`hash_all`) is one call per batch.
pub trait KeySelector<T, K>: Send + Sync {
    /// Appends the stable hash of each record's key.
    ///
    /// # Errors
    /// If a key is of a kind that cannot be hashed.
    fn hash_all(&self, values: &[T], hashes: &mut Vec<u64>) -> Result<()>;
    /// The record's key, owned.
    fn key(&self, value: &T) -> K;
    /// Whether the record's key is this one.
    fn is(&self, value: &T, key: &K) -> bool;
}

/// A key computed from the record.
pub struct OwnedKey<F>(pub F);

impl<T, K: Key, F: Fn(&T) -> K + Send + Sync> KeySelector<T, K> for OwnedKey<F> {
    fn hash_all(&self, values: &[T], hashes: &mut Vec<u64>) -> Result<()> {
        hashes.reserve(values.len());
        for value in values {
            hashes.push(hash_key(&(self.0)(value))?);
        }
        Ok(())
    }
    fn key(&self, value: &T) -> K {
        (self.0)(value)
    }
    fn is(&self, value: &T, key: &K) -> bool {
        (self.0)(value) == *key
    }
}

/// A key borrowed from the record: owned only when it first enters a table.
pub struct BorrowedKey<F, Q: ?Sized> {
    select: F,
    borrowed: PhantomData<fn(&Q)>,
}

impl<F, Q: ?Sized> BorrowedKey<F, Q> {
    /// Keys by what `select` borrows from a record.
    pub fn new(select: F) -> Self {
        BorrowedKey { select, borrowed: PhantomData }
    }
}

impl<T, K, Q, F> KeySelector<T, K> for BorrowedKey<F, Q>
where
    K: Key + Borrow<Q>,
    Q: Serialize + Eq + ToOwned<Owned = K> + ?Sized,
    F: Fn(&T) -> &Q + Send + Sync,
{
    fn hash_all(&self, values: &[T], hashes: &mut Vec<u64>) -> Result<()> {
        hashes.reserve(values.len());
        for value in values {
            hashes.push(hash_key((self.select)(value))?);
        }
        Ok(())
    }
    fn key(&self, value: &T) -> K {
        (self.select)(value).to_owned()
    }
    fn is(&self, value: &T, key: &K) -> bool {
        (self.select)(value) == key.borrow()
    }
}
