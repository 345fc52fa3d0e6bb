//! Values as bytes: how they are written to snapshots, to stores and to other processes.
//!
//! The bytes are those of bincode 2 (serde, fixed width, little-endian), which reads them. They are written here because
//! nearly all that a checkpoint takes from a task's time is this: serde hands a `Vec<u8>` over byte by byte, which is a
//! call, a check and a copy of one for each; here a sequence of bytes is one copy.
//!
//! One serialiser does it over a [`Sink`], which takes the bytes, or only counts them: the exchange bounds memory in
//! bytes, and records are live values of unknown size, so it samples them.

use serde::ser::{self, Serialize, Serializer};
use std::any::type_name;
use std::fmt;

/// Appends a value's bytes.
///
/// # Errors
/// If the type cannot be written without knowing its reader (`#[serde(flatten)]` and the like), or its `Serialize` fails.
/// What was appended until then stays.
#[inline]
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    value.serialize(Encoder(out))
}

/// How many bytes [`encode`] would append. Also of what has no length, and cannot be written therefore; of what cannot be written
/// for other reasons, what was counted until then.
#[inline]
pub fn encoded_size<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut n_bytes = Count(0);
    // It fails where it is written.
    let _ = value.serialize(Encoder(&mut n_bytes));
    n_bytes.0
}

/// Why a value cannot be written.
#[derive(Debug)]
pub struct Unwritable(String);

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unwritable {}

impl ser::Error for Unwritable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Unwritable(message.to_string())
    }
}

/// Where the bytes go.
trait Sink {
    /// Whether what is put there is never read, so that a length may be missing.
    const ONLY_COUNTS: bool = false;

    fn put(&mut self, bytes: &[u8]);

    fn put_each(&mut self, bytes: impl Iterator<Item = u8>) {
        bytes.for_each(|byte| self.put(&[byte]));
    }
}

impl Sink for Vec<u8> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn put_each(&mut self, bytes: impl Iterator<Item = u8>) {
        self.extend(bytes);
    }
}

struct Count(usize);

impl Sink for Count {
    const ONLY_COUNTS: bool = true;

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// The only byte that a value has.
#[derive(Default)]
struct Only {
    byte: u8,
    n_bytes: usize,
}

impl Sink for Only {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.byte = bytes.first().copied().unwrap_or_default();
        self.n_bytes += bytes.len();
    }
}

/// Whether a value of the type is one byte. Only what is gained depends on it.
#[inline(always)]
fn is_byte<T>() -> bool {
    matches!(type_name::<T>(), "u8" | "&u8" | "i8" | "&i8" | "bool" | "&bool")
}

struct Encoder<'s, S>(&'s mut S);

impl<S: Sink> Encoder<'_, S> {
    #[inline(always)]
    fn length(&mut self, len: Option<usize>) -> Result<(), Unwritable> {
        let Some(len) = len.or(S::ONLY_COUNTS.then_some(0)) else {
            return Err(ser::Error::custom(
                "the length of a sequence or map is not known before it is written",
            ));
        };
        self.0.put(&(len as u64).to_le_bytes());
        Ok(())
    }
}

macro_rules! numbers {
    ($($f:ident: $t:ty),*) => {$(
        #[inline(always)]
        fn $f(self, v: $t) -> Result<(), Unwritable> {
            self.0.put(&v.to_le_bytes());
            Ok(())
        }
    )*};
}

impl<S: Sink> Serializer for Encoder<'_, S> {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
             serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
             serialize_f32: f32, serialize_f64: f64);

    #[inline(always)]
    fn serialize_bool(self, v: bool) -> Result<(), Unwritable> {
        self.serialize_u8(v.into())
    }

    fn serialize_char(self, v: char) -> Result<(), Unwritable> {
        self.0.put(v.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    #[inline(always)]
    fn serialize_str(self, v: &str) -> Result<(), Unwritable> {
        self.serialize_bytes(v.as_bytes())
    }

    #[inline(always)]
    fn serialize_bytes(mut self, v: &[u8]) -> Result<(), Unwritable> {
        self.length(Some(v.len()))?;
        self.0.put(v);
        Ok(())
    }

    #[inline(always)]
    fn serialize_none(self) -> Result<(), Unwritable> {
        self.serialize_u8(0)
    }

    #[inline(always)]
    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<(), Unwritable> {
        self.0.put(&[1]);
        v.serialize(self)
    }

    #[inline(always)]
    fn serialize_unit(self) -> Result<(), Unwritable> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unwritable> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
    ) -> Result<(), Unwritable> {
        self.serialize_u32(i)
    }

    #[inline(always)]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        v: &T,
    ) -> Result<(), Unwritable> {
        v.serialize(self)
    }

    #[inline(always)]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
        v: &T,
    ) -> Result<(), Unwritable> {
        self.0.put(&i.to_le_bytes());
        v.serialize(self)
    }

    #[inline(always)]
    fn serialize_seq(mut self, len: Option<usize>) -> Result<Self, Unwritable> {
        self.length(len)?;
        Ok(self)
    }

    #[inline]
    fn collect_seq<I>(mut self, items: I) -> Result<(), Unwritable>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let mut items = items.into_iter();
        let (at_least, at_most) = items.size_hint();
        self.length(at_most.filter(|n| *n == at_least))?;
        if !is_byte::<I::Item>() {
            return items.try_for_each(|item| item.serialize(Encoder(self.0)));
        }
        let mut are_bytes = true;
        self.0.put_each(items.map(|item| {
            let mut only = Only::default();
            are_bytes &= item.serialize(Encoder(&mut only)).is_ok() && only.n_bytes == 1;
            only.byte
        }));
        if are_bytes { Ok(()) } else { Err(ser::Error::custom("a byte is not written as one")) }
    }

    #[inline(always)]
    fn serialize_tuple(self, _: usize) -> Result<Self, Unwritable> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Unwritable> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Unwritable> {
        self.0.put(&i.to_le_bytes());
        Ok(self)
    }

    #[inline(always)]
    fn serialize_map(mut self, len: Option<usize>) -> Result<Self, Unwritable> {
        self.length(len)?;
        Ok(self)
    }

    #[inline(always)]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Unwritable> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Unwritable> {
        self.0.put(&i.to_le_bytes());
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($tr:ident :: $f:ident ($($name:ty)?)),*) => {$(
        impl<S: Sink> ser::$tr for Encoder<'_, S> {
            type Ok = ();
            type Error = Unwritable;
            #[inline(always)]
            fn $f<T: Serialize + ?Sized>(&mut self, $(_: $name,)? v: &T) -> Result<(), Unwritable> {
                v.serialize(Encoder(self.0))
            }
            #[inline(always)]
            fn end(self) -> Result<(), Unwritable> {
                Ok(())
            }
        }
    )*};
}

parts!(
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(&'static str),
    SerializeStructVariant::serialize_field(&'static str)
);

impl<S: Sink> ser::SerializeMap for Encoder<'_, S> {
    type Ok = ();
    type Error = Unwritable;
    #[inline(always)]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, k: &T) -> Result<(), Unwritable> {
        k.serialize(Encoder(self.0))
    }
    #[inline(always)]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Unwritable> {
        v.serialize(Encoder(self.0))
    }
    #[inline(always)]
    fn end(self) -> Result<(), Unwritable> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use std::collections::{BTreeMap, VecDeque};

    /// What is written is what bincode writes, is as long as counted, and is read again.
    fn is_as_bincode<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
        let config = bincode::config::standard().with_little_endian().with_fixed_int_encoding();
        let expected = bincode::serde::encode_to_vec(&value, config).unwrap();
        let mut bytes = vec![0xee];
        encode(&value, &mut bytes).unwrap();
        assert_eq!(bytes[1..], expected, "{value:?}");
        assert_eq!(encoded_size(&value), expected.len(), "{value:?}");
        let (back, n_read) = bincode::serde::decode_from_slice::<T, _>(&expected, config).unwrap();
        assert_eq!((back, n_read), (value, expected.len()));
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Kind {
        Unit,
        New(u16),
        Tuple(i8, String),
        Struct { at: char, of: Option<Vec<Kind>> },
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Unit;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct New(f64);

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Pair(bool, [u8; 3]);

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Fields {
        unit: Unit,
        new: New,
        pair: Pair,
        map: BTreeMap<String, (i128, u128)>,
    }

    #[test]
    fn bytes_are_those_of_bincode() {
        is_as_bincode((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
        is_as_bincode((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
        is_as_bincode((1.5f32, f64::NEG_INFINITY, -0.0f64, true, ()));
        is_as_bincode(vec!['a', 'ß', '€', '𝄞']);
        is_as_bincode((String::new(), "ß€".to_owned(), Some(Some(1u8)), None::<u64>));
        let nested = Kind::Struct { at: '€', of: Some(vec![Kind::Unit, Kind::New(7)]) };
        is_as_bincode(vec![Kind::Tuple(-1, "x".into()), nested, Kind::Unit]);
        let map = [("a".into(), (-1, 1)), (String::new(), (i128::MIN, u128::MAX))].into();
        is_as_bincode(Fields { unit: Unit, new: New(2.5), pair: Pair(true, [1, 2, 3]), map });
    }

    #[test]
    fn sequences_of_bytes_are_those_of_bincode() {
        is_as_bincode(Vec::<u8>::new());
        is_as_bincode((0..=255).collect::<Vec<u8>>());
        is_as_bincode((-128..=127).collect::<Vec<i8>>());
        is_as_bincode(vec![true, false, true]);
        is_as_bincode(vec![vec![1u8, 2], vec![], vec![3]]);
        is_as_bincode(vec![Some(1u8), None]);
        let mut round: VecDeque<u8> = (0..8).collect();
        round.rotate_left(3);
        round.push_front(9);
        is_as_bincode(round);
        is_as_bincode(Box::<[u8]>::from([1, 2, 3]));
        is_as_bincode(std::collections::BTreeSet::from([3u8, 1, 2]));
    }

    #[test]
    fn what_cannot_be_read_without_its_length_is_refused() {
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq((0..9u8).filter(|n| n % 2 == 0))
            }
        }
        let error = encode(&Endless, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("length"), "{error}");
        assert_eq!(encoded_size(&(Endless, 1u32)), 8 + 5 + 4);
    }
}
