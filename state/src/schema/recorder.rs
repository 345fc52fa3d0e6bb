//! Records the shape of a type by letting it deserialise itself from samples.
//!
//! `T::deserialize` asks for what it needs, and that is all there is to know of its bytes. What it asks for
//! goes into a [`Draft`]; it gets sample values in return, and is run again until every variant has been
//! seen. As the codec, this is not human readable, so that types with two forms show the one that is stored.

use super::draft::{Draft, NodeId};
use super::fault::Fault;
use super::samples::{BYTES, CHARS, FLOATS, INTS, TEXTS, ZEROS};
use super::shape::Shape;
use millstream_model::{Error, Result};
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Each run sees a variant, tries a sample or leaves out a field.
const MAX_RUNS: usize = 100_000;

impl Shape {
    /// The shape of a type, found by running its `deserialize` once per variant and per field at least, and
    /// known from then on.
    ///
    /// ```
    /// use millstream_state::schema::Shape;
    ///
    /// let shape = Shape::of::<Vec<(u32, Option<String>)>>().unwrap();
    /// assert_eq!(shape.to_string(), "Vec<(u32, Option<String>)>");
    /// shape.admits(&vec![(1u32, Some("one"))]).unwrap();
    /// ```
    ///
    /// # Errors
    /// If the type does not say what it reads (`untagged`, `flatten`, `serde_json::Value`), reads it
    /// depending on other values, or refuses all sample values: it must implement
    /// [`StateSchema`](super::StateSchema) then.
    pub fn of<T: DeserializeOwned + 'static>() -> Result<Shape> {
        // A type has one shape: it is asked for by every subtask and for every block that is read.
        static KNOWN: LazyLock<Mutex<HashMap<TypeId, Shape>>> = LazyLock::new(Mutex::default);
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = known().get(&TypeId::of::<T>()) {
            return Ok(shape.clone());
        }
        let shape = Shape::record::<T>()?;
        known().insert(TypeId::of::<T>(), shape.clone());
        Ok(shape)
    }

    fn record<T: DeserializeOwned>() -> Result<Shape> {
        let mut draft = Draft::new();
        for _ in 0..MAX_RUNS {
            let root = Recorder { draft: &mut draft, node: 0, is_closing: false };
            let outcome = T::deserialize(root).map(drop);
            match draft.end_run(outcome) {
                Ok(None) => {}
                Ok(Some(shape)) => return Ok(shape),
                Err(reason) => return Err(unrecordable(type_name::<T>(), &reason)),
            }
        }
        Err(unrecordable(type_name::<T>(), "it has too many forms"))
    }
}

fn unrecordable(type_name: &str, reason: &str) -> Error {
    Error::user(format!(
        "the shape of `{type_name}` cannot be recorded: {reason}; implement `StateSchema` for it, and name it \
         with `Schema::declared()` where the state is described"
    ))
}

/// Stands for bytes of a type that is being recorded.
struct Recorder<'r> {
    draft: &'r mut Draft,
    node: NodeId,
    is_closing: bool,
}

impl<'r> Recorder<'r> {
    fn leaf(&mut self, shape: Shape, n_samples: usize) -> Result<usize, Fault> {
        self.draft.leaf(self.node, shape, n_samples)
    }

    /// Lets `visit` see what is inside of a value, wherever that is recorded.
    fn inside<V, T>(
        self,
        name: &str,
        visit: impl FnOnce(Recorder<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (node, is_closing) =
            self.draft.enter(self.node, type_name::<V>(), name, self.is_closing)?;
        let seen = visit(Recorder { draft: self.draft, node, is_closing });
        self.draft.leave(is_closing);
        seen
    }

    fn at(&mut self, node: NodeId) -> Recorder<'_> {
        Recorder { draft: self.draft, node, is_closing: self.is_closing }
    }

    fn refuse<T>(self, reason: &str) -> Result<T, Fault> {
        Err(self.draft.refuse(self.node, reason))
    }
}

macro_rules! record_int {
    ($($method:ident $visit:ident $int:ident $signed:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
            let shape = Shape::Int { bits: $int::BITS as u8, signed: $signed };
            let sample = INTS[self.leaf(shape, INTS.len())?];
            visitor.$visit(sample as $int)
        })*
    };
}

impl<'de> Deserializer<'de> for Recorder<'_> {
    type Error = Fault;

    record_int! {
        deserialize_i8 visit_i8 i8 true;
        deserialize_i16 visit_i16 i16 true;
        deserialize_i32 visit_i32 i32 true;
        deserialize_i64 visit_i64 i64 true;
        deserialize_i128 visit_i128 i128 true;
        deserialize_u8 visit_u8 u8 false;
        deserialize_u16 visit_u16 u16 false;
        deserialize_u32 visit_u32 u32 false;
        deserialize_u64 visit_u64 u64 false;
        deserialize_u128 visit_u128 u128 false;
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let sample = self.leaf(Shape::Bool, 2)?;
        visitor.visit_bool(sample == 1)
    }

    fn deserialize_f32<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let sample = self.leaf(Shape::Float { bits: 32 }, FLOATS.len())?;
        visitor.visit_f32(FLOATS[sample])
    }

    fn deserialize_f64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let sample = self.leaf(Shape::Float { bits: 64 }, FLOATS.len())?;
        visitor.visit_f64(f64::from(FLOATS[sample]))
    }

    fn deserialize_char<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let sample = self.leaf(Shape::Char, CHARS.len())?;
        visitor.visit_char(CHARS[sample])
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let sample = self.leaf(Shape::Text, TEXTS.len())?;
        visitor.visit_borrowed_str(TEXTS[sample])
    }

    fn deserialize_string<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let sample = self.leaf(Shape::Text, TEXTS.len())?;
        visitor.visit_string(TEXTS[sample].into())
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let sample = self.leaf(Shape::Bytes, BYTES.len())?;
        visitor.visit_borrowed_bytes(&ZEROS[..BYTES[sample]])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let sample = self.leaf(Shape::Bytes, BYTES.len())?;
        visitor.visit_byte_buf(ZEROS[..BYTES[sample]].into())
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        self.leaf(Shape::Unit, 1)?;
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
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.inside::<V, _>(name, |mut inner| {
            let node = inner.node;
            visitor.visit_newtype_struct(inner.at(node))
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.inside::<V, _>("_", |mut inner| {
            let item = inner.draft.option(inner.node)?;
            if inner.is_closing { visitor.visit_none() } else { visitor.visit_some(inner.at(item)) }
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.inside::<V, _>("_", |inner| {
            let item = inner.draft.list(inner.node)?;
            let items = if inner.is_closing { vec![] } else { vec![item] };
            visitor.visit_seq(Items { inner, items: items.into_iter() })
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.inside::<V, _>("_", |inner| {
            let items = inner.draft.tuple(inner.node, len)?;
            visitor.visit_seq(Items { inner, items: items.into_iter() })
        })
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
        self.inside::<V, _>("_", |inner| {
            let (key, value) = inner.draft.map(inner.node)?;
            let items = if inner.is_closing { vec![] } else { vec![key, value] };
            visitor.visit_map(Items { inner, items: items.into_iter() })
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.inside::<V, _>(name, |inner| {
            inner.draft.structure(inner.node, name, fields)?;
            visitor.visit_map(Fields { inner, next: 0, value: 0 })
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.inside::<V, _>(name, |inner| {
            let (index, shown) =
                inner.draft.variant(inner.node, name, variants, inner.is_closing)?;
            visitor.visit_enum(Choice { inner, index, shown, value: 0 })
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        self.refuse(
            "asks what comes next, which stored bytes do not tell (`untagged`, a `tag`, `flatten`)",
        )
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        self.refuse("asks for names, which are not stored (`flatten`, `field_identifier`)")
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        self.refuse("skips what comes next, whose length stored bytes do not tell")
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The values of a list, a tuple or a map.
struct Items<'r> {
    inner: Recorder<'r>,
    items: std::vec::IntoIter<NodeId>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.next() else { return Ok(None) };
        seed.deserialize(self.inner.at(item)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

impl<'de> MapAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        self.next_element_seed(seed)?.ok_or_else(|| Fault::new("a value was asked for twice"))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() / 2)
    }
}

/// The fields of a struct, by name.
struct Fields<'r> {
    inner: Recorder<'r>,
    next: usize,
    value: NodeId,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Recorder { draft, node, is_closing } = &mut self.inner;
        let Some((index, name)) = draft.field(*node, self.next, *is_closing) else {
            return Ok(None);
        };
        let field = seed.deserialize(named(name))?;
        self.value = draft.meaning(*node, index, meaning(&field))?;
        self.next = index + 1;
        Ok(Some(field))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let value = self.value;
        seed.deserialize(self.inner.at(value))
    }
}

/// One variant of an enum.
struct Choice<'r> {
    inner: Recorder<'r>,
    index: usize,
    shown: &'static str,
    value: NodeId,
}

impl Choice<'_> {
    /// Lets `visit` see what the variant holds.
    fn holding<T>(
        mut self,
        visit: impl FnOnce(Recorder<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let held = visit(self.inner.at(self.value))?;
        self.inner.draft.end_variant(self.inner.node, self.index, self.inner.is_closing);
        Ok(held)
    }
}

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(mut self, seed: V) -> Result<(V::Value, Self), Fault> {
        let variant = seed.deserialize(named(self.shown))?;
        self.value = self.inner.draft.meaning(self.inner.node, self.index, meaning(&variant))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.holding(|mut inner| inner.leaf(Shape::Unit, 1).map(drop))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        self.holding(|inner| seed.deserialize(inner))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.holding(|inner| inner.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let name = self.shown;
        self.holding(|inner| inner.deserialize_struct(name, fields, visitor))
    }
}

fn named(name: &'static str) -> StrDeserializer<'static, Fault> {
    name.into_deserializer()
}

/// Tells the values of an identifier apart without knowing its type. Derived ones are enums without content:
/// of one byte, of two beyond 256 names, of none for a single name. Of anything larger nothing can be told.
fn meaning<T>(identifier: &T) -> Option<u64> {
    if size_of::<T>() > 2 {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    std::mem::discriminant(identifier).hash(&mut hasher);
    Some(hasher.finish())
}
