//! The hash of a key: stable across processes, toolchains, platforms and releases.
//!
//! It decides where a key's state lives, so it is part of the savepoint format. It is taken over the
//! key's *serialised form* by a serde serialiser that hashes instead of writing: `String` and `&str`, or
//! `u32` and `u64` of one value, agree, and whatever has no stable identity (floats, maps) is refused.
//! The function is a folded 64×64→128-bit multiplication as in wyhash (Wang Yi, 2019), with a final fold
//! so that both ends of the result are usable: high bits choose the key group, low bits probe tables.

use serde::ser::{self, Serialize};
use std::fmt;

const K0: u64 = 0x9E37_79B9_7F4A_7C15;
const K1: u64 = 0xD6E8_FEB8_6659_FD93;
const K2: u64 = 0xA076_1D64_78BD_642F;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let m = u128::from(a) * u128::from(b);
    (m as u64) ^ ((m >> 64) as u64)
}

/// The stable hash of a key.
///
/// # Errors
/// If the key holds a float, a map or a value of unknown length: such keys have no stable identity.
#[inline]
pub fn hash_key<K: Serialize + ?Sized>(key: &K) -> Result<u64, KeyRefused> {
    let mut hasher = KeyHasher { state: K0 };
    key.serialize(&mut hasher)?;
    Ok(fold(hasher.state, K2))
}

/// Why a value cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRefused(String);

impl fmt::Display for KeyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyRefused {}

impl ser::Error for KeyRefused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        KeyRefused(message.to_string())
    }
}

impl From<KeyRefused> for crate::Error {
    fn from(e: KeyRefused) -> Self {
        crate::Error::user(format!("this key cannot be used: {e}"))
    }
}

fn refused(what: &str, remedy: &str) -> KeyRefused {
    KeyRefused(format!("{what} in a key has no stable identity (NaN, -0.0, order); {remedy}"))
}

struct KeyHasher {
    state: u64,
}

impl KeyHasher {
    #[inline(always)]
    fn word(&mut self, w: u64) {
        self.state = fold(self.state ^ w, K1);
    }

    /// Eight bytes at a time; the end of a longer text and all of a short one are read with overlapping
    /// words instead of byte by byte (as wyhash does), so that short words cost no loop.
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        let n = bytes.len();
        let length = K2.wrapping_mul(n as u64 + 1);
        if n >= 8 {
            let mut at = 0;
            while at + 8 < n {
                self.word(word64(bytes, at));
                at += 8;
            }
            self.word(word64(bytes, n - 8) ^ length);
        } else if n >= 4 {
            self.word((word32(bytes, 0) << 32 | word32(bytes, n - 4)) ^ length);
        } else if n > 0 {
            let at = |i: usize| u64::from(bytes[i]);
            self.word((at(0) << 16 | at(n / 2) << 8 | at(n - 1)) ^ length);
        } else {
            self.word(length);
        }
    }
}

#[inline(always)]
fn word64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[inline(always)]
fn word32(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u64::from(u32::from_le_bytes(word))
}

macro_rules! words {
    ($($f:ident: $t:ty),*) => {$(
        #[inline(always)]
        fn $f(self, v: $t) -> Result<(), KeyRefused> {
            self.word(v as i64 as u64);
            Ok(())
        }
    )*};
}

impl ser::Serializer for &mut KeyHasher {
    type Ok = ();
    type Error = KeyRefused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = ser::Impossible<(), KeyRefused>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    words!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
           serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
           serialize_bool: bool, serialize_char: char);

    fn serialize_i128(self, v: i128) -> Result<(), KeyRefused> {
        self.serialize_u128(v as u128)
    }

    fn serialize_u128(self, v: u128) -> Result<(), KeyRefused> {
        self.word(v as u64);
        self.word((v >> 64) as u64);
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), KeyRefused> {
        Err(refused("a float", "round it to an integer, or key by its bits (`f32::to_bits`)"))
    }

    fn serialize_f64(self, _: f64) -> Result<(), KeyRefused> {
        Err(refused("a float", "round it to an integer, or key by its bits (`f64::to_bits`)"))
    }

    #[inline(always)]
    fn serialize_str(self, v: &str) -> Result<(), KeyRefused> {
        self.bytes(v.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), KeyRefused> {
        self.bytes(v);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), KeyRefused> {
        self.word(0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<(), KeyRefused> {
        self.word(1);
        v.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), KeyRefused> {
        self.word(0);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), KeyRefused> {
        self.word(0);
        Ok(())
    }

    // A variant is known by its index: renaming one does not move its state.
    fn serialize_unit_variant(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
    ) -> Result<(), KeyRefused> {
        self.word(u64::from(i));
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        v: &T,
    ) -> Result<(), KeyRefused> {
        v.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
        v: &T,
    ) -> Result<(), KeyRefused> {
        self.word(u64::from(i));
        v.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, KeyRefused> {
        let len = len.ok_or_else(|| refused("a sequence of unknown length", "collect it first"))?;
        self.word(len as u64);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, KeyRefused> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, KeyRefused> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, KeyRefused> {
        self.word(u64::from(i));
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, KeyRefused> {
        Err(refused("a map or set", "key by a sorted vector instead"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, KeyRefused> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, KeyRefused> {
        self.word(u64::from(i));
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($tr:ident :: $f:ident),*) => {$(
        impl ser::$tr for &mut KeyHasher {
            type Ok = ();
            type Error = KeyRefused;
            #[inline(always)]
            fn $f<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), KeyRefused> {
                v.serialize(&mut **self)
            }
            #[inline(always)]
            fn end(self) -> Result<(), KeyRefused> {
                Ok(())
            }
        }
    )*};
}

parts!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! named_parts {
    ($($tr:ident),*) => {$(
        impl ser::$tr for &mut KeyHasher {
            type Ok = ();
            type Error = KeyRefused;
            #[inline(always)]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, v: &T) -> Result<(), KeyRefused> {
                v.serialize(&mut **self)
            }
            #[inline(always)]
            fn end(self) -> Result<(), KeyRefused> {
                Ok(())
            }
        }
    )*};
}

named_parts!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_of_different_types_agree() {
        assert_eq!(hash_key("abc"), hash_key(&String::from("abc")));
        assert_eq!(hash_key(&5u32), hash_key(&5i64));
        assert_eq!(hash_key(&crate::Text::from("abc")), hash_key("abc"));
    }

    #[test]
    fn different_values_differ() {
        let texts = ["", "\0", "\0\0", "a", "b", "abcdefgh", "abcdefg", "abcdefgh\0", "abcdefghi"];
        let hashes: std::collections::HashSet<_> =
            texts.iter().map(|t| hash_key(*t).unwrap()).collect();
        assert_eq!(hashes.len(), texts.len());
        assert_ne!(hash_key(&("a", "bc")), hash_key(&("ab", "c")));
        assert_ne!(hash_key(&Some(0u8)), hash_key(&None::<u8>));
    }

    #[test]
    fn floats_and_maps_are_refused_with_a_remedy() {
        assert!(hash_key(&f64::NAN).unwrap_err().to_string().contains("to_bits"));
        assert!(hash_key(&(1, 2.5f32)).is_err());
        assert!(hash_key(&std::collections::HashMap::from([(1, 2)])).is_err());
    }

    /// The savepoint format depends on these: they never change.
    #[test]
    fn golden_vectors() {
        assert_eq!(hash_key(&0u64).unwrap(), GOLDEN[0]);
        assert_eq!(hash_key(&1u64).unwrap(), GOLDEN[1]);
        assert_eq!(hash_key("").unwrap(), GOLDEN[2]);
        assert_eq!(hash_key("millstream").unwrap(), GOLDEN[3]);
        assert_eq!(hash_key(&(7u32, "x", Some(-1i8))).unwrap(), GOLDEN[4]);
    }

    const GOLDEN: [u64; 5] = [
        0x4b24d35cba4a63b0,
        0xf83c1ce8e4664a77,
        0x6006b3ff9ad725ce,
        0x02813dda8e889df7,
        0x9edc350490039bb3,
    ];
    #[test]
    fn sequential_keys_spread_over_key_groups() {
        let mut per_group = [0u32; 128];
        for k in 0..128_000u64 {
            per_group[crate::key_group::key_group(hash_key(&k).unwrap(), 128) as usize] += 1;
        }
        assert!(per_group.iter().all(|&n| (850..1150).contains(&n)), "{per_group:?}");
    }
}
