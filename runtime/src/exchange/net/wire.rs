//! Values as bytes on their way to another process: the one place that knows which codec the network uses.
//!
//! Both ends are the same program (the handshake refuses another protocol), so nothing here has to be read by a
//! later release. What arrives is not trusted all the same: a length is checked against [`MAX_PAYLOAD`] before
//! anything is allocated for it.

use millstream_model::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;

/// Bytes that a frame's payload, and any value in it, may have.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

fn config() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<MAX_PAYLOAD>()
}

/// Bytes that are appended without a look at what they are.
struct Appended<'a>(&'a mut Vec<u8>);

impl bincode::enc::write::Writer for Appended<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends a value's bytes.
///
/// # Errors
/// If the type cannot be written without knowing its reader (`#[serde(flatten)]` and the like).
#[inline]
pub(super) fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    match bincode::serde::encode_into_writer(value, Appended(out), config()) {
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

/// Takes a value from the beginning of `bytes`.
///
/// # Errors
/// If they are not the bytes of such a value.
#[inline]
pub(super) fn decode<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T> {
    match bincode::serde::decode_from_slice(bytes, config()) {
        Ok((value, taken)) => {
            *bytes = bytes.get(taken..).unwrap_or_default();
            Ok(value)
        }
        Err(e) => Err(unreadable::<T>(&e)),
    }
}

#[cold]
fn unreadable<T>(cause: &dyn std::fmt::Display) -> Error {
    Error::external(format!("what arrived is not a `{}`: {cause}", type_name::<T>()))
}

/// Reads a value that takes all of `bytes`.
///
/// # Errors
/// As [`decode`], or if bytes are left over.
pub(super) fn decode_all<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T> {
    let value = decode(&mut bytes)?;
    if bytes.is_empty() { Ok(value) } else { Err(unreadable::<T>(&"bytes are left over")) }
}
