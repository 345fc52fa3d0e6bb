//! Whether what a value writes is what its type's shape says.
//!
//! A shape is recorded from how a type is read. How it is written is the other half, and serde lets the two
//! differ: `skip_serializing_if` leaves out a field that is read, `skip` on a variant shifts the numbers of
//! those behind it. Nothing tells before there is a value, so the first value of a part is held against its
//! shape in each snapshot: nothing is written, only announced and compared.

use super::fault::Fault;
use super::shape::{Place, Shape};
use millstream_model::{Error, Result};
use serde::ser::{self, Serialize, Serializer};
use std::any::type_name;

/// Values of one list or map that are looked at: the others are written by the same code.
const MAX_LOOKED_AT: usize = 64;

impl Shape {
    /// Whether `value` writes itself in this shape. Costs about as much as encoding it, or less if it holds
    /// long lists. What lies deeper than can be read by shape is not looked at.
    ///
    /// # Errors
    /// If it writes something else: its bytes could not be read again.
    pub fn admits<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        value.serialize(Check { at: Place::root(self)? }).map_err(|fault| {
            Error::user(format!(
                "a `{}` cannot be kept in state: it is written in another form than it is read: {fault}; use \
                 no `skip_serializing_if`, and `skip` and `with` only for both directions\n{self}",
                type_name::<T>()
            ))
        })
    }
}

/// Takes the place of what a value would be written to.
#[derive(Clone, Copy)]
struct Check<'p> {
    at: Place<'p>,
}

impl<'p> Check<'p> {
    fn expect(self, is_so: impl FnOnce(&Shape) -> bool, written: &str) -> Result<(), Fault> {
        let shape = self.at.shape;
        if is_so(shape) || matches!(shape, Shape::Opaque { .. }) {
            return Ok(());
        }
        Err(Fault::Other(format!("{written} is written where `{shape}` is read")))
    }

    /// The parts of a value follow.
    fn parts(self) -> Parts<'p> {
        Parts { at: self.at, variant: None, n_written: 0 }
    }

    fn tuple(self, len: usize) -> Result<Parts<'p>, Fault> {
        let is_so = |shape: &Shape| matches!(shape, Shape::Tuple(items) if items.len() == len);
        self.expect(is_so, &format!("a tuple of {len}"))?;
        Ok(self.parts())
    }

    fn fields(self, name: &str) -> Result<Parts<'p>, Fault> {
        self.expect(|shape| matches!(shape, Shape::Struct { .. }), &format!("struct `{name}`"))?;
        Ok(self.parts())
    }

    /// The shape of what a variant holds; `None` in an opaque enum.
    fn variant(self, index: u32, name: &str) -> Result<Option<&'p Shape>, Fault> {
        self.expect(|shape| matches!(shape, Shape::Enum { .. }), &format!("variant `{name}`"))?;
        let Shape::Enum { variants, .. } = self.at.shape else { return Ok(None) };
        match variants.get(index as usize) {
            Some(variant) if is_called(name, &variant.name, &variant.aliases) => {
                Ok(Some(&variant.shape))
            }
            _ => Err(Fault::Other(format!(
                "variant `{name}` is written as number {index}, which is not its number when it is read"
            ))),
        }
    }

    fn variant_parts(
        self,
        index: u32,
        name: &str,
        check: impl FnOnce(Check<'_>) -> Result<(), Fault>,
    ) -> Result<Parts<'p>, Fault> {
        let variant = self.variant(index, name)?;
        if let Some(shape) = variant.filter(|_| !self.at.is_deepest()) {
            check(Check { at: self.at.enter(shape)? })?;
        }
        Ok(Parts { at: self.at, variant, n_written: 0 })
    }
}

fn is_called(written: &str, name: &str, aliases: &[String]) -> bool {
    written == name || aliases.iter().any(|alias| alias == written)
}

/// The parts of a value, as they come.
struct Parts<'p> {
    at: Place<'p>,
    /// What the variant holds whose parts they are.
    variant: Option<&'p Shape>,
    n_written: usize,
}

impl Parts<'_> {
    /// Looks at the next part; in a struct, at the field called `name`.
    fn part<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Fault> {
        let n = self.n_written;
        self.n_written += 1;
        if self.at.is_deepest() {
            return Ok(());
        }
        let held;
        let at = match self.variant {
            Some(shape) => {
                held = self.at.enter(shape)?;
                &held
            }
            None => &self.at,
        };
        let part = match at.shape {
            Shape::List(item) if n < MAX_LOOKED_AT => Some(&**item),
            Shape::Map(key, _) if n < MAX_LOOKED_AT && n.is_multiple_of(2) => Some(&**key),
            Shape::Map(_, value) if n < MAX_LOOKED_AT => Some(&**value),
            Shape::Tuple(items) => items.get(n),
            Shape::Struct { fields, .. } => match fields.get(n) {
                Some(field) if is_called(name, &field.name, &field.aliases) => Some(&field.shape),
                _ => {
                    return Err(Fault::Other(format!(
                        "field `{name}` is written where {} is read",
                        fields.get(n).map_or("nothing".into(), |f| format!("field `{}`", f.name))
                    )));
                }
            },
            _ => None,
        };
        part.map_or(Ok(()), |shape| value.serialize(Check { at: at.enter(shape)? }))
    }

    fn end(self) -> Result<(), Fault> {
        let n_wanted = match self.variant.unwrap_or(self.at.shape) {
            Shape::Tuple(items) => items.len(),
            Shape::Struct { fields, .. } => fields.len(),
            _ => return Ok(()),
        };
        if n_wanted == self.n_written {
            return Ok(());
        }
        Err(Fault::Other(format!("{} parts are written where {n_wanted} are read", self.n_written)))
    }
}

macro_rules! check_plain {
    ($($method:ident($value:ty) = $shape:expr;)*) => {
        $(fn $method(self, _: $value) -> Result<(), Fault> {
            let shape = $shape;
            self.expect(|read| *read == shape, &format!("`{shape}`"))
        })*
    };
}

const fn int(bits: u8, signed: bool) -> Shape {
    Shape::Int { bits, signed }
}

impl<'p> Serializer for Check<'p> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Parts<'p>;
    type SerializeTuple = Parts<'p>;
    type SerializeTupleStruct = Parts<'p>;
    type SerializeTupleVariant = Parts<'p>;
    type SerializeMap = Parts<'p>;
    type SerializeStruct = Parts<'p>;
    type SerializeStructVariant = Parts<'p>;

    check_plain! {
        serialize_bool(bool) = Shape::Bool;
        serialize_i8(i8) = int(8, true);
        serialize_i16(i16) = int(16, true);
        serialize_i32(i32) = int(32, true);
        serialize_i64(i64) = int(64, true);
        serialize_i128(i128) = int(128, true);
        serialize_u8(u8) = int(8, false);
        serialize_u16(u16) = int(16, false);
        serialize_u32(u32) = int(32, false);
        serialize_u64(u64) = int(64, false);
        serialize_u128(u128) = int(128, false);
        serialize_f32(f32) = Shape::Float { bits: 32 };
        serialize_f64(f64) = Shape::Float { bits: 64 };
        serialize_char(char) = Shape::Char;
        serialize_str(&str) = Shape::Text;
        serialize_unit_struct(&'static str) = Shape::Unit;
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Fault> {
        // A list of bytes has the same form: a length, and the bytes.
        let is_bytes = |shape: &Shape| match shape {
            Shape::List(item) => **item == int(8, false),
            shape => *shape == Shape::Bytes,
        };
        self.expect(is_bytes, "`Bytes`")
    }

    fn serialize_unit(self) -> Result<(), Fault> {
        self.expect(|shape| *shape == Shape::Unit, "`()`")
    }

    fn serialize_none(self) -> Result<(), Fault> {
        self.expect(|shape| matches!(shape, Shape::Option(_)), "`None`")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        self.expect(|shape| matches!(shape, Shape::Option(_)), "an option")?;
        match self.at.shape {
            Shape::Option(item) if !self.at.is_deepest() => {
                value.serialize(Check { at: self.at.enter(item)? })
            }
            _ => Ok(()),
        }
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<(), Fault> {
        self.variant_parts(index, variant, |held| held.serialize_unit()).map(drop)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.variant_parts(index, variant, |held| value.serialize(held)).map(drop)
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Parts<'p>, Fault> {
        self.expect(|shape| matches!(shape, Shape::List(_)), "a list")?;
        Ok(self.parts())
    }

    fn serialize_tuple(self, len: usize) -> Result<Parts<'p>, Fault> {
        self.tuple(len)
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<Parts<'p>, Fault> {
        self.tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Parts<'p>, Fault> {
        self.variant_parts(index, variant, |held| held.tuple(len).map(drop))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Parts<'p>, Fault> {
        self.expect(|shape| matches!(shape, Shape::Map(..)), "a map")?;
        Ok(self.parts())
    }

    fn serialize_struct(self, name: &'static str, _len: usize) -> Result<Parts<'p>, Fault> {
        self.fields(name)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Parts<'p>, Fault> {
        self.variant_parts(index, variant, |held| held.fields(variant).map(drop))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! check_parts {
    ($($kind:ident $method:ident;)*) => {
        $(impl ser::$kind for Parts<'_> {
            type Ok = ();
            type Error = Fault;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                self.part("", value)
            }

            fn end(self) -> Result<(), Fault> {
                Parts::end(self)
            }
        })*
    };
}

check_parts! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

macro_rules! check_fields {
    ($($kind:ident)*) => {
        $(impl ser::$kind for Parts<'_> {
            type Ok = ();
            type Error = Fault;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Fault> {
                self.part(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Fault> {
                Err(Fault::Other(format!("field `{name}` is left out (`skip_serializing_if`)")))
            }

            fn end(self) -> Result<(), Fault> {
                Parts::end(self)
            }
        })*
    };
}

check_fields! { SerializeStruct SerializeStructVariant }

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.part("", key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.part("", value)
    }

    fn end(self) -> Result<(), Fault> {
        Parts::end(self)
    }
}
