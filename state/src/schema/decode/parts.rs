//! What decoded values are made of: handed out one by one, matched by name where there are names.

use super::Decoder;
use crate::schema::fault::Fault;
use crate::schema::input::{Input, no_variant};
use crate::schema::shape::{Place, Shape};
use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Most values that are made room for before they are read.
const MAX_RESERVED: usize = 4096;

/// The values of a list, whose shapes are one, or of a tuple.
pub(super) struct Items<'r, 'p, 'de> {
    pub(super) decoder: Decoder<'r, 'p, 'de>,
    pub(super) inner: &'p [Shape],
    pub(super) at: usize,
    pub(super) left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, '_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        let at = self.decoder.at.enter(&self.inner[self.at])?;
        // A list stays at its only shape.
        self.at = (self.at + 1).min(self.inner.len() - 1);
        self.left -= 1;
        seed.deserialize(Decoder { input: self.decoder.input, at }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(MAX_RESERVED))
    }
}

/// The entries of a map.
pub(super) struct Entries<'r, 'p, 'de> {
    pub(super) decoder: Decoder<'r, 'p, 'de>,
    pub(super) key: &'p Shape,
    pub(super) value: &'p Shape,
    pub(super) left: usize,
}

impl<'de> MapAccess<'de> for Entries<'_, '_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let at = self.decoder.at.enter(self.key)?;
        seed.deserialize(Decoder { input: self.decoder.input, at }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let at = self.decoder.at.enter(self.value)?;
        seed.deserialize(Decoder { input: self.decoder.input, at })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(MAX_RESERVED))
    }
}

/// The fields of a struct that are still wanted, by name.
pub(super) struct Fields<'r, 'p, 'de> {
    pub(super) decoder: Decoder<'r, 'p, 'de>,
    pub(super) wanted: &'static [&'static str],
    pub(super) next: usize,
    pub(super) value: Option<&'p Shape>,
}

impl<'de> MapAccess<'de> for Fields<'_, '_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Shape::Struct { fields, .. } = self.decoder.at.shape else { return Ok(None) };
        while let Some(field) = fields.get(self.next) {
            self.next += 1;
            if let Some(name) = known_as(self.wanted, &field.name, &field.aliases) {
                self.value = Some(&field.shape);
                return seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some);
            }
            let at = self.decoder.at.enter(&field.shape)?;
            self.decoder.input.skip(at)?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let shape = self.value.take().ok_or_else(|| Fault::new("a field was asked for twice"))?;
        let at = self.decoder.at.enter(shape)?;
        seed.deserialize(Decoder { input: self.decoder.input, at })
    }
}

/// The name among those `wanted` of a field or variant that was written.
fn known_as(
    wanted: &'static [&'static str],
    name: &str,
    aliases: &[String],
) -> Option<&'static str> {
    let is_written =
        |wanted: &&&str| **wanted == name || aliases.iter().any(|alias| alias == **wanted);
    wanted.iter().find(is_written).copied()
}

/// A value of an enum.
pub(super) struct Choice<'r, 'p, 'de> {
    pub(super) decoder: Decoder<'r, 'p, 'de>,
    pub(super) wanted: &'static [&'static str],
}

/// What a variant holds.
pub(super) struct Held<'r, 'p, 'de> {
    input: &'r mut Input<'de>,
    outer: Place<'p>,
    shape: &'p Shape,
    is_known: bool,
}

impl<'r, 'p, 'de> EnumAccess<'de> for Choice<'r, 'p, 'de> {
    type Error = Fault;
    type Variant = Held<'r, 'p, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Fault> {
        let Decoder { input, at: outer } = self.decoder;
        let Shape::Enum { name, variants } = outer.shape else {
            return Err(Fault::new("an enum was checked for before"));
        };
        let index = input.variant()?;
        let variant = variants.get(index).ok_or_else(|| no_variant(name, index))?;
        let known = known_as(self.wanted, &variant.name, &variant.aliases);
        let key = StrDeserializer::<Fault>::new(known.unwrap_or(&variant.name));
        let held = Held { input, outer, shape: &variant.shape, is_known: known.is_some() };
        Ok((seed.deserialize(key)?, held))
    }
}

impl<'de> Held<'_, '_, 'de> {
    fn open<T>(
        self,
        visit: impl FnOnce(Decoder<'_, '_, 'de>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let at = self.outer.enter(self.shape)?;
        visit(Decoder { input: self.input, at })
    }
}

impl<'de> VariantAccess<'de> for Held<'_, '_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        let is_known = self.is_known;
        self.open(|decoder| {
            if is_known {
                decoder.expect(&Shape::Unit)
            } else {
                // `#[serde(other)]` stands for variants that are no more, whatever they held.
                decoder.input.skip(decoder.at)
            }
        })
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        self.open(|decoder| seed.deserialize(decoder))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.open(|decoder| decoder.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.open(|decoder| decoder.deserialize_struct("of a variant", fields, visitor))
    }
}
