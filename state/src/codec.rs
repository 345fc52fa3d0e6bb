//! Values as bytes: the one place that knows which codec snapshots are written with.
//!
//! bincode 2 in a fixed-width little-endian configuration, written out here so that no default of a later
//! release can change what was written. Every persisted header carries [`FORMAT`]; a reader refuses what it
//! does not know.

use millstream_model::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The number of this codec in headers.
pub const FORMAT: u8 = 1;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_no_limit()
}

/// Appends a value's bytes.
///
/// # Errors
/// If the type cannot be written without knowing its reader (`#[serde(flatten)]` and the like).
#[inline]
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    match bincode::serde::encode_into_std_write(value, out, config()) {
        Ok(_) => Ok(()),
        Err(e) => Err(unwritable::<T>(&e)),
    }
}

#[cold]
fn unwritable<T: ?Sized>(cause: &dyn std::fmt::Display) -> Error {
    Error::user(format!(
        "a `{}` cannot be kept in state: {cause}; use a type whose serialised form does not depend on \
         `flatten`, `untagged` or `skip_serializing_if`",
        std::any::type_name::<T>()
    ))
}

/// Reads a value from the beginning of `bytes`; also how many bytes it took.
///
/// # Errors
/// If they are not the bytes of such a value.
#[inline]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize)> {
    bincode::serde::decode_from_slice(bytes, config()).map_err(|e| {
        Error::external(format!(
            "stored bytes are not those of a `{}`: {e}",
            std::any::type_name::<T>()
        ))
    })
}

/// Reads a value that takes all of `bytes`.
///
/// # Errors
/// As [`decode`], or if bytes are left over.
pub fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let (value, taken) = decode(bytes)?;
    if taken != bytes.len() {
        return Err(Error::external(format!(
            "stored bytes of a `{}` are {} too long",
            std::any::type_name::<T>(),
            bytes.len() - taken
        )));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pinned() {
        let mut bytes = Vec::new();
        encode(&(1u32, "ab", Some(true), -2i64), &mut bytes).unwrap();
        let expected = [
            1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', 1, 1, 254, 255, 255, 255, 255, 255,
            255, 255,
        ];
        assert_eq!(bytes, expected);
        let back: (u32, String, Option<bool>, i64) = decode_all(&bytes).unwrap();
        assert_eq!(back, (1, "ab".into(), Some(true), -2));
        assert!(decode_all::<u32>(&bytes).unwrap_err().to_string().contains("too long"));
        assert!(decode::<String>(&bytes[..3]).is_err());
    }
}
