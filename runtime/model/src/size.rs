//! How many bytes a record would take on the wire, without writing it.
//!
//! The exchange bounds memory in bytes, and records are live values of unknown size: so it samples them
//! with a serde serialiser that only counts. Byte strings and texts count as one addition.

use serde::ser::{self, Serialize};
use std::fmt;

/// The encoded size of a value in bytes (fixed-width integers, 8-byte lengths).
#[inline]
pub fn encoded_size<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut counter = Counter(0);
    // A value that cannot be serialised fails where it is serialised; for a size, what was counted is good.
    let _ = value.serialize(&mut counter);
    counter.0
}

struct Counter(usize);

#[derive(Debug)]
struct Never(String);

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Never(message.to_string())
    }
}

macro_rules! fixed {
    ($($f:ident: $t:ty = $n:expr),*) => {$(
        #[inline(always)]
        fn $f(self, _: $t) -> Result<(), Never> {
            self.0 += $n;
            Ok(())
        }
    )*};
}

impl ser::Serializer for &mut Counter {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fixed!(serialize_bool: bool = 1, serialize_i8: i8 = 1, serialize_i16: i16 = 2, serialize_i32: i32 = 4,
           serialize_i64: i64 = 8, serialize_i128: i128 = 16, serialize_u8: u8 = 1, serialize_u16: u16 = 2,
           serialize_u32: u32 = 4, serialize_u64: u64 = 8, serialize_u128: u128 = 16, serialize_f32: f32 = 4,
           serialize_f64: f64 = 8, serialize_char: char = 4);

    #[inline]
    fn serialize_str(self, v: &str) -> Result<(), Never> {
        self.0 += 8 + v.len();
        Ok(())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), Never> {
        self.0 += 8 + v.len();
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Never> {
        self.0 += 1;
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<(), Never> {
        self.0 += 1;
        v.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Never> {
        self.0 += 4;
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        v: &T,
    ) -> Result<(), Never> {
        v.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        v: &T,
    ) -> Result<(), Never> {
        self.0 += 4;
        v.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Never> {
        self.0 += 8;
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Never> {
        self.0 += 4;
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Never> {
        self.0 += 8;
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Never> {
        self.0 += 4;
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($tr:ident :: $f:ident),*) => {$(
        impl ser::$tr for &mut Counter {
            type Ok = ();
            type Error = Never;
            #[inline(always)]
            fn $f<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Never> {
                v.serialize(&mut **self)
            }
            fn end(self) -> Result<(), Never> {
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
        impl ser::$tr for &mut Counter {
            type Ok = ();
            type Error = Never;
            #[inline(always)]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, v: &T) -> Result<(), Never> {
                v.serialize(&mut **self)
            }
            fn end(self) -> Result<(), Never> {
                Ok(())
            }
        }
    )*};
}

named_parts!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for &mut Counter {
    type Ok = ();
    type Error = Never;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, k: &T) -> Result<(), Never> {
        k.serialize(&mut **self)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Never> {
        v.serialize(&mut **self)
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_a_fixed_width_codec_would_write() {
        assert_eq!(encoded_size(&(1u64, 2u32, true)), 13);
        assert_eq!(encoded_size("abc"), 11);
        assert_eq!(encoded_size(&vec![0u8; 1000]), 1008);
        assert_eq!(encoded_size(&Some(1u16)), 3);
    }
}
