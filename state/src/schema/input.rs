//! Bytes as the codec writes them, piece by piece: fixed-width little-endian numbers, lengths of 8 bytes,
//! variants of 4, options of 1, characters in UTF-8. The codec's own reader cannot be asked for pieces
//! without a type; the tests hold the two together.

use super::fault::Fault;
use super::shape::{Place, Shape};

/// Most values of a type without bytes that are believed: no byte vouches for their number.
pub(crate) const MAX_EMPTY: u64 = 1 << 20;

/// What is left to read.
pub(super) struct Input<'de> {
    pub(super) rest: &'de [u8],
}

/// An integer of any width.
#[derive(Clone, Copy)]
pub(super) enum Int {
    Unsigned(u128),
    Signed(i128),
}

impl<'de> Input<'de> {
    pub(super) fn bytes(&mut self, n: usize) -> Result<&'de [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(|| {
            Fault::Other(format!("{n} bytes are wanted where {} are left", self.rest.len()))
        })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("`bytes` gives as many as asked for"))
    }

    pub(super) fn int(&mut self, bits: u8, signed: bool) -> Result<Int, Fault> {
        Ok(match (bits, signed) {
            (8, false) => Int::Unsigned(u8::from_le_bytes(self.array()?).into()),
            (16, false) => Int::Unsigned(u16::from_le_bytes(self.array()?).into()),
            (32, false) => Int::Unsigned(u32::from_le_bytes(self.array()?).into()),
            (64, false) => Int::Unsigned(u64::from_le_bytes(self.array()?).into()),
            (128, false) => Int::Unsigned(u128::from_le_bytes(self.array()?)),
            (8, true) => Int::Signed(i8::from_le_bytes(self.array()?).into()),
            (16, true) => Int::Signed(i16::from_le_bytes(self.array()?).into()),
            (32, true) => Int::Signed(i32::from_le_bytes(self.array()?).into()),
            (64, true) => Int::Signed(i64::from_le_bytes(self.array()?).into()),
            (128, true) => Int::Signed(i128::from_le_bytes(self.array()?)),
            _ => return Err(Fault::Other(format!("there are no integers of {bits} bits"))),
        })
    }

    pub(super) fn float(&mut self, bits: u8) -> Result<f64, Fault> {
        match bits {
            32 => Ok(f32::from_le_bytes(self.array()?).into()),
            64 => Ok(f64::from_le_bytes(self.array()?)),
            _ => Err(Fault::Other(format!("there are no floating-point numbers of {bits} bits"))),
        }
    }

    /// The tag of an option or a truth value.
    pub(super) fn flag(&mut self) -> Result<bool, Fault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Fault::Other(format!("{other} is neither true nor false"))),
        }
    }

    pub(super) fn char(&mut self) -> Result<char, Fault> {
        let first = *self.rest.first().ok_or_else(|| Fault::new("a character is missing"))?;
        let len = match first {
            0x00..0x80 => 1,
            0x80..0xE0 => 2,
            0xE0..0xF0 => 3,
            _ => 4,
        };
        let bytes = self.bytes(len)?;
        let mut chars = std::str::from_utf8(bytes).map_err(Fault::new)?.chars();
        chars.next().ok_or_else(|| Fault::new("a character is missing"))
    }

    /// A length and so many bytes.
    pub(super) fn blob(&mut self) -> Result<&'de [u8], Fault> {
        let n = u64::from_le_bytes(self.array()?);
        self.bytes(usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub(super) fn text(&mut self) -> Result<&'de str, Fault> {
        std::str::from_utf8(self.blob()?).map_err(Fault::new)
    }

    pub(super) fn variant(&mut self) -> Result<usize, Fault> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// The number of values that follow, of at least `size` bytes each: no more than there can be.
    pub(super) fn len(&mut self, size: usize) -> Result<usize, Fault> {
        let n = u64::from_le_bytes(self.array()?);
        let most = (self.rest.len() as u64).checked_div(size as u64).unwrap_or(MAX_EMPTY);
        if n > most {
            let left = self.rest.len();
            return Err(Fault::Other(format!("a length says {n} where {left} bytes are left")));
        }
        Ok(n as usize)
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self, at: Place<'_>) -> Result<(), Fault> {
        match at.shape {
            Shape::Unit => Ok(()),
            Shape::Bool => self.flag().map(drop),
            Shape::Int { bits, signed } => self.int(*bits, *signed).map(drop),
            Shape::Float { bits } => self.float(*bits).map(drop),
            Shape::Char => self.char().map(drop),
            Shape::Text | Shape::Bytes => self.blob().map(drop),
            Shape::Option(item) => {
                if self.flag()? {
                    self.skip(at.enter(item)?)
                } else {
                    Ok(())
                }
            }
            Shape::List(item) => {
                for _ in 0..self.len(min_size(item))? {
                    self.skip(at.enter(item)?)?;
                }
                Ok(())
            }
            Shape::Map(key, value) => {
                for _ in 0..self.len(min_size(key) + min_size(value))? {
                    self.skip(at.enter(key)?)?;
                    self.skip(at.enter(value)?)?;
                }
                Ok(())
            }
            Shape::Tuple(_) | Shape::Struct { .. } => {
                at.shape.inner().try_for_each(|inner| self.skip(at.enter(inner)?))
            }
            Shape::Enum { name, variants } => {
                let index = self.variant()?;
                let variant = variants.get(index).ok_or_else(|| no_variant(name, index))?;
                self.skip(at.enter(&variant.shape)?)
            }
            Shape::Opaque { .. } | Shape::Recursive { .. } => Err(opaque(at.shape)),
        }
    }
}

/// Bytes that a value takes at least.
pub(super) fn min_size(shape: &Shape) -> usize {
    match shape {
        Shape::Unit | Shape::Recursive { .. } | Shape::Opaque { .. } => 0,
        Shape::Bool | Shape::Char | Shape::Option(_) => 1,
        Shape::Int { bits, .. } | Shape::Float { bits } => usize::from(*bits) / 8,
        Shape::Text | Shape::Bytes | Shape::List(_) | Shape::Map(..) => 8,
        Shape::Enum { .. } => 4,
        Shape::Tuple(_) | Shape::Struct { .. } => shape.inner().map(min_size).sum(),
    }
}

/// Whether there are collections of values without bytes in it, whose lengths no byte vouches for: the codec believes those.
pub(super) fn counts_empty(shape: &Shape) -> bool {
    fn is_empty(shape: &Shape) -> bool {
        match shape {
            Shape::Unit => true,
            Shape::Tuple(_) | Shape::Struct { .. } => shape.inner().all(is_empty),
            _ => false,
        }
    }
    let here = match shape {
        Shape::List(item) => is_empty(item),
        Shape::Map(key, value) => is_empty(key) && is_empty(value),
        _ => false,
    };
    here || shape.inner().any(counts_empty)
}

pub(super) fn no_variant(name: &str, index: usize) -> Fault {
    Fault::Other(format!("enum `{name}` was written without a variant {index}"))
}

pub(super) fn opaque(shape: &Shape) -> Fault {
    Fault::Other(format!("{shape} can be read only by the type that wrote it"))
}
