//! What a record and a key must be able to do.
//!
//! The bounds are those of the boundary (network, state on disk), not of the hot path: inside a process
//! a record is moved, never encoded. `Clone` is asked for only where a stream fans out.

use serde::{Serialize, de::DeserializeOwned};

/// A value that can flow through a stream: serialisable, sendable, self-contained.
///
/// There is nothing to implement: `#[derive(Serialize, Deserialize)]` is enough.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot flow through a stream",
    label = "this record type is not `Data`",
    note = "records must be serialisable and own what they hold: add `#[derive(serde::Serialize, serde::Deserialize)]` to `{Self}` and keep borrowed references out of it"
)]
pub trait Data: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Data for T {}

/// A value that a stream can be keyed by.
///
/// Its hash is taken over its serialised form (see [`crate::hash_key`]), so it is the same in every
/// process and release. Floats, maps and sets are refused as keys: they have no stable identity.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "this type is not a `Key`",
    note = "keys must be `Data + Eq + Clone`: add `#[derive(serde::Serialize, serde::Deserialize, PartialEq, Eq, Clone)]` to `{Self}` (floats cannot be keys: round them to an integer first)"
)]
pub trait Key: Data + Eq + Clone {}

#[diagnostic::do_not_recommend]
impl<T: Data + Eq + Clone> Key for T {}
