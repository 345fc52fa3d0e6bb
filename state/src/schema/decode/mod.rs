//! Reads old bytes as what a type has become, led by the shape they were written in.
//!
//! Whatever `T::deserialize` asks for is matched against what is there: struct fields and variants by name,
//! numbers into wider ones, a plain value into an option. What was removed is passed over; what was added
//! must have a default. [`compatible`](super::compatible) says beforehand whether that can succeed; that it
//! does is checked again here, value by value, as bytes and shapes come from outside.

mod parts;

use super::fault::Fault;
use super::input::{Input, Int, min_size, opaque};
use super::shape::{Place, Shape};
use millstream_model::{Error, Result};
use parts::{Choice, Entries, Fields, Items};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use std::any::type_name;

/// Reads a value from the beginning of `bytes`, which were written in the shape `written`; also how many
/// bytes it took.
///
/// ```
/// use millstream_state::codec;
/// use millstream_state::schema::{Compatibility, Shape, compatible, decode_as};
///
/// let (written, current) = (Shape::of::<u16>().unwrap(), Shape::of::<Option<u64>>().unwrap());
/// assert_eq!(compatible(&written, &current), Compatibility::Migrates);
/// let mut bytes = Vec::new();
/// codec::encode(&7u16, &mut bytes).unwrap();
/// assert_eq!(decode_as::<Option<u64>>(&bytes, &written).unwrap(), (Some(7), 2));
/// ```
///
/// # Errors
/// If they are not the bytes of such a shape, or a value cannot become a `T`.
pub fn decode_as<T: DeserializeOwned>(bytes: &[u8], written: &Shape) -> Result<(T, usize)> {
    let mut input = Input { rest: bytes };
    let at = Place::root(written)?;
    let value = T::deserialize(Decoder { input: &mut input, at })
        .map_err(|fault| unreadable(type_name::<T>(), &fault, written))?;
    Ok((value, bytes.len() - input.rest.len()))
}

#[cold]
fn unreadable(type_name: &str, fault: &Fault, written: &Shape) -> Error {
    Error::external(format!(
        "stored bytes cannot be read as a `{type_name}`: {fault}; they were written as\n{written}"
    ))
}

/// The number of bytes that the value of shape `written` at the beginning of `bytes` takes.
///
/// # Errors
/// If they are not the bytes of such a shape, or it is opaque.
pub fn encoded_len(bytes: &[u8], written: &Shape) -> Result<usize> {
    let mut input = Input { rest: bytes };
    input
        .skip(Place::root(written)?)
        .map_err(|fault| Error::external(format!("stored bytes are damaged: {fault}")))?;
    Ok(bytes.len() - input.rest.len())
}

struct Decoder<'r, 'p, 'de> {
    input: &'r mut Input<'de>,
    at: Place<'p>,
}

impl<'p> Decoder<'_, 'p, '_> {
    fn int(&mut self, wanted: &str) -> Result<Int, Fault> {
        match self.at.shape {
            Shape::Int { bits, signed } => self.input.int(*bits, *signed),
            _ => Err(self.mismatch(wanted)),
        }
    }

    /// The plain value `shape` is expected.
    fn expect(&self, shape: &Shape) -> Result<(), Fault> {
        if self.at.shape == shape { Ok(()) } else { Err(self.mismatch(&shape.to_string())) }
    }

    fn mismatch(&self, wanted: &str) -> Fault {
        match self.at.shape {
            shape @ (Shape::Opaque { .. } | Shape::Recursive { .. }) => opaque(shape),
            shape => Fault::Other(format!("`{wanted}` is wanted where `{shape}` was written")),
        }
    }
}

macro_rules! decode_int {
    ($($method:ident $visit:ident $int:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
            let int = match self.int(stringify!($int))? {
                Int::Unsigned(n) => $int::try_from(n).map_err(|_| n.to_string()),
                Int::Signed(n) => $int::try_from(n).map_err(|_| n.to_string()),
            };
            visitor.$visit(int.map_err(|n| {
                Fault::Other(format!(concat!("{} is no ", stringify!($int)), n))
            })?)
        })*
    };
}

impl<'de> Deserializer<'de> for Decoder<'_, '_, 'de> {
    type Error = Fault;

    decode_int! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.expect(&Shape::Bool)?;
        visitor.visit_bool(self.input.flag()?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.expect(&Shape::Float { bits: 32 })?;
        visitor.visit_f32(f32::from_le_bytes(self.input.array()?))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.at.shape {
            Shape::Float { bits } => visitor.visit_f64(self.input.float(*bits)?),
            _ => Err(self.mismatch("f64")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.expect(&Shape::Char)?;
        visitor.visit_char(self.input.char()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.expect(&Shape::Text)?;
        visitor.visit_borrowed_str(self.input.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.expect(&Shape::Text)?;
        visitor.visit_string(self.input.text()?.to_owned())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.expect(&Shape::Bytes)?;
        visitor.visit_borrowed_bytes(self.input.blob()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.expect(&Shape::Bytes)?;
        visitor.visit_byte_buf(self.input.blob()?.to_owned())
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.expect(&Shape::Unit)?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Shape::Option(item) = self.at.shape else {
            return visitor.visit_some(Decoder { input: self.input, at: self.at.wrapped()? });
        };
        if !self.input.flag()? {
            return visitor.visit_none();
        }
        visitor.visit_some(Decoder { input: self.input, at: self.at.enter(item)? })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Shape::List(item) = self.at.shape else {
            return Err(self.mismatch("Vec<_>"));
        };
        let left = self.input.len(min_size(item))?;
        visitor.visit_seq(Items {
            decoder: self,
            inner: std::slice::from_ref(&**item),
            at: 0,
            left,
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        match self.at.shape {
            Shape::Tuple(inner) if inner.len() == len => {
                visitor.visit_seq(Items { decoder: self, inner, at: 0, left: len })
            }
            _ => Err(self.mismatch(&format!("a tuple of {len}"))),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Shape::Map(key, value) = self.at.shape else {
            return Err(self.mismatch("Map<_, _>"));
        };
        let left = self.input.len(min_size(key) + min_size(value))?;
        visitor.visit_map(Entries { decoder: self, key, value, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if !matches!(self.at.shape, Shape::Struct { .. }) {
            return Err(self.mismatch(&format!("struct {name}")));
        }
        visitor.visit_map(Fields { decoder: self, wanted: fields, next: 0, value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if !matches!(self.at.shape, Shape::Enum { .. }) {
            return Err(self.mismatch(&format!("enum {name}")));
        }
        visitor.visit_enum(Choice { decoder: self, wanted: variants })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(Fault::new("the type asks what comes next, as `untagged` and `flatten` do"))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(Fault::new("the type asks for names, as `flatten` does"))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.input.skip(self.at)?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
