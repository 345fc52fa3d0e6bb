//! Values as bytes: the one place that knows which codec snapshots are written with.
//!
//! bincode 2 in a fixed-width little-endian configuration, written out here so that no default of a later
//! release can change what was written; [`encode()`] writes it. Every persisted header carries
//! [`FORMAT`]; a reader refuses what it does not know.

use millstream_model::{Error, Result, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The number of this codec in headers.
pub const FORMAT: u8 = 1;

/// Bytes that one value may have. The codec makes room for a text before it looks whether so much of it is there, so
/// without an end to what is believed a few wrong bytes would end the process.
pub const MAX_VALUE_BYTES: usize = 1 << 30;

fn config<const MAX: usize>() -> impl bincode::config::Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<MAX>()
}

/// Appends a value's bytes.
///
/// # Errors
/// If the type cannot be written without knowing its reader (`#[serde(flatten)]` and the like), or the value has more
/// than [`MAX_VALUE_BYTES`].
#[inline]
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    encode_within::<T, MAX_VALUE_BYTES>(value, out)
}

#[inline]
fn encode_within<T: Serialize + ?Sized, const MAX: usize>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<()> {
    let n_before = out.len();
    match encode::encode(value, out) {
        Ok(()) if out.len() - n_before <= MAX => Ok(()),
        Ok(()) => Err(too_large::<T>(out.len() - n_before, MAX)),
        Err(e) => Err(unwritable::<T>(&e)),
    }
}

#[cold]
fn too_large<T: ?Sized>(n: usize, max: usize) -> Error {
    Error::user(format!(
        "a `{}` of {n} bytes cannot be kept in state, which takes {max} of one value: spread it over several keys, \
         or over the entries of a map state",
        std::any::type_name::<T>()
    ))
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
    decode_within::<T, MAX_VALUE_BYTES>(bytes)
}

#[inline]
fn decode_within<T: DeserializeOwned, const MAX: usize>(bytes: &[u8]) -> Result<(T, usize)> {
    bincode::serde::decode_from_slice(bytes, config::<MAX>()).map_err(|e| {
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
    decode_all_within::<T, MAX_VALUE_BYTES>(bytes)
}

/// Reads a value that takes all of `bytes`, and never makes room for more than `MAX` of them.
///
/// # Errors
/// As [`decode_all`].
pub fn decode_all_within<T: DeserializeOwned, const MAX: usize>(bytes: &[u8]) -> Result<T> {
    let (value, taken) = decode_within::<T, MAX>(bytes)?;
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

    #[test]
    fn a_length_is_not_believed() {
        let error = decode::<String>(&[0xff; 16]).unwrap_err();
        assert!(error.to_string().contains("LimitExceeded"), "{error}");
        let mut bytes = Vec::new();
        encode("0123456789", &mut bytes).unwrap();
        assert!(decode_all_within::<String, 18>(&bytes).is_ok());
        assert!(decode_all_within::<String, 17>(&bytes).is_err());
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        assert!(encode_within::<str, 18>("0123456789", &mut Vec::new()).is_ok());
        let error = encode_within::<str, 17>("0123456789", &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("a `str` of 18 bytes cannot be kept"), "{error}");
    }
}
