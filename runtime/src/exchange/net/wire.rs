//! Values as bytes on their way to another process: the one place that knows which codec the network uses.
//!
//! Both ends are the same program (the handshake refuses another protocol), so nothing here has to be read by a
//! later release. What arrives is not trusted all the same: a length is checked against [`MAX_PAYLOAD`] before
//! anything is allocated for it.

use millstream_model::{Error, Result, encode};
use serde::de::{DeserializeOwned, DeserializeSeed, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::type_name;
use std::fmt;

/// Bytes that a frame's payload, and any value in it, may have.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

fn config() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<MAX_PAYLOAD>()
}

/// Appends a value's bytes.
///
/// # Errors
/// If the type cannot be written without knowing its reader (`#[serde(flatten)]` and the like).
#[inline]
pub(super) fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    match encode::encode(value, out) {
        Ok(()) => Ok(()),
        Err(e) => Err(unwritable::<T>(&e)),
    }
}

#[cold]
fn unwritable<T>(cause: &dyn std::fmt::Display) -> Error {
    Error::user(format!(
        "a `{}` cannot be sent to another process: {cause}; use a type whose serialised form does not depend \
         on `flatten`, `untagged` or `skip_serializing_if`",
        type_name::<T>()
    ))
}

#[cold]
fn unreadable<T>(cause: &dyn std::fmt::Display) -> Error {
    Error::external(format!("what arrived is not a `{}`: {cause}", type_name::<T>()))
}

/// Appends the bytes of values one after the other, without their number.
///
/// # Errors
/// As [`encode`].
pub(super) fn encode_each<T: Serialize>(values: &[T], out: &mut Vec<u8>) -> Result<()> {
    match encode::encode(&Each(values), out) {
        Ok(()) => Ok(()),
        Err(e) => Err(unwritable::<T>(&e)),
    }
}

/// Reads so many values that take all of `bytes`, behind those that are there. No more room is made at a time than
/// for `RESERVED` of them.
///
/// # Errors
/// As [`decode_all`].
pub(super) fn decode_each<T: DeserializeOwned>(
    n: usize,
    bytes: &[u8],
    values: &mut Vec<T>,
) -> Result<()> {
    values.reserve(n.min(RESERVED));
    match bincode::serde::seed_decode_from_slice(Pushed { n, values }, bytes, config()) {
        Ok(((), taken)) if taken == bytes.len() => Ok(()),
        Ok(_) => Err(unreadable::<T>(&"bytes are left over")),
        Err(e) => Err(unreadable::<T>(&e)),
    }
}

/// Values for which room is made before they have been seen.
const RESERVED: usize = 4096;

/// Values as a tuple: as one value of the codec, which is set up once for all of them.
struct Each<'a, T>(&'a [T]);

impl<T: Serialize> Serialize for Each<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|value| tuple.serialize_element(value))?;
        tuple.end()
    }
}

/// Where the values of a tuple are pushed.
struct Pushed<'a, T> {
    n: usize,
    values: &'a mut Vec<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Pushed<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_tuple(self.n, self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Pushed<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.n)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while let Some(value) = seq.next_element()? {
            self.values.push(value);
        }
        Ok(())
    }
}

/// Reads a value that takes all of `bytes`.
///
/// # Errors
/// If they are not the bytes of such a value.
pub(super) fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match bincode::serde::decode_from_slice(bytes, config()) {
        Ok((value, taken)) if taken == bytes.len() => Ok(value),
        Ok(_) => Err(unreadable::<T>(&"bytes are left over")),
        Err(e) => Err(unreadable::<T>(&e)),
    }
}
